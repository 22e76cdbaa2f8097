"""The interface of scan: states and inputs of any structure, results, who gets a gradient."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compile.agree import assert_agree

import minigrad as mg
from minigrad.tree import leaves, structure

F64 = np.float64
State = namedtuple("State", "h c")


def leaf(rng: Any, *shape: int, grad: bool = True, dtype: Any = F64, name: str = "") -> Any:
    return mg.tensor(rng.normal(size=shape), dtype, requires_grad=grad, name=name)


def agree(cell: Any, init: Any, xs: Any, *more: Any, **options: Any) -> None:
    inputs = [t for t in (*leaves(init), *leaves(xs), *more) if t.requires_grad]
    assert_agree(lambda mode: mg.scan(cell, init, xs, mode=mode, **options), inputs, F64)


# -- structures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda a, b: (a, b),
        lambda a, b: [a, b],
        lambda a, b: {"h": a, "c": b},
        lambda a, b: State(a, b),
        lambda a, b: {"deep": (State(a, [b]), ())},
        lambda a, b: (a, None, b),
    ],
    ids=["tuple", "list", "dict", "namedtuple", "nested", "with None"],
)
def test_the_state_comes_back_in_the_structure_it_came_in(
    make: Callable[..., Any], rng: Any
) -> None:
    init = make(leaf(rng, 2, 3), leaf(rng, 2, 3))
    xs = leaf(rng, 4, 2, 3)

    def cell(state: Any, x: Any) -> tuple[Any, Any]:
        a, b = leaves(state)
        return make(mg.tanh(a * x + b), a - b), {"sum": a + b, "x": (x,)}

    final, ys = mg.scan(cell, init, xs)
    assert structure(final) == structure(init)
    assert type(final) is type(init)
    assert structure(ys) == "{sum: *, x: (*)}"
    agree(cell, init, xs)


@pytest.mark.parametrize("pack", [lambda a, b: (a, b), lambda a, b: {"a": a, "b": {"c": b}}])
def test_xs_may_be_a_tree(pack: Callable[..., Any], rng: Any) -> None:
    xs = pack(leaf(rng, 4, 2, 3), leaf(rng, 4, 2))

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        a, b = leaves(x)
        return mg.tanh(h + a * b[:, None]), h

    agree(cell, leaf(rng, 2, 3), xs)


@pytest.mark.parametrize("nothing", [None, (), {}])
def test_a_cell_may_give_no_y(nothing: Any, rng: Any) -> None:
    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(h + x), nothing

    init, xs = leaf(rng, 2, 3), leaf(rng, 4, 2, 3)
    assert mg.scan(cell, init, xs).ys == nothing
    agree(cell, init, xs)


@pytest.mark.parametrize("nothing", [None, (), {}])
def test_a_cell_may_carry_nothing(nothing: Any, rng: Any) -> None:
    w, xs = leaf(rng, 3, 5), leaf(rng, 4, 2, 3)
    agree(lambda _, x: (nothing, mg.tanh(x @ w)), nothing, xs, w)
    agree(lambda _, x: (nothing, mg.tanh(x @ w)), nothing, xs, w, reverse=True, lengths=(2, 4))


def test_y_may_be_anything_that_has_rows(rng: Any) -> None:
    init, xs = leaf(rng, 2, 3), leaf(rng, 4, 2, 3)
    c = leaf(rng, 2, 3)

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        new = mg.tanh(h + x)
        return new, (new, h, x, c, x, new, h > 0.1)

    agree(cell, init, xs, c)
    agree(cell, init, xs, c, lengths=(1, 3), reverse=True)


def test_a_state_may_pass_through_change_places_or_be_the_input(rng: Any) -> None:
    init = tuple(leaf(rng, 2, 3) for _ in range(3))
    xs, c = leaf(rng, 5, 2, 3), leaf(rng, 2, 3)
    agree(lambda s, x: ((s[1], s[0], s[2]), s[0] * x), init, xs)
    agree(lambda s, x: ((s[1], s[2], s[0]), s), init, xs, lengths=(5, 2))
    agree(lambda s, x: ((x, s[0], c), s[1] * s[2]), init, xs, c)
    agree(lambda s, x: ((s[0] * x, s[0] * x, s[0]), None), init, xs)


# -- integers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding_idx", [None, 2])
def test_integers_come_in_through_an_embedding(padding_idx: int | None, rng: Any) -> None:
    table = mg.nn.Embedding(5, 3, padding_idx=padding_idx, dtype=F64, generator=rng)
    w, tokens = leaf(rng, 3, 3), mg.tensor(rng.integers(0, 5, (4, 2)))

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        return mg.tanh(h + table(x) @ w), h

    agree(cell, leaf(rng, 2, 3), tokens, w, *table.parameters())
    agree(cell, leaf(rng, 2, 3), tokens, w, *table.parameters(), lengths=(4, 1))
    if padding_idx is not None:
        mg.scan(cell, leaf(rng, 2, 3), tokens).final.sum().backward()
        assert not table.weight.grad.numpy()[padding_idx].any()


@pytest.mark.parametrize("mode", ["fused", "tape"])
def test_what_is_in_the_padding_is_not_read(mode: str, rng: Any) -> None:
    table, w = leaf(rng, 5, 3), leaf(rng, 3, 3)
    tokens, floats = np.array([[1, 2], [3, -1], [4, 10**6]]), rng.normal(size=(3, 2, 3))
    found = []
    for k, x in ((2, 0.5), (-1, np.nan), (10**6, np.inf)):
        tokens[1:, 1], floats[1:, 1] = k % 5 if x == 0.5 else k, x
        x = mg.tensor(floats, requires_grad=True)
        cell = lambda h, x: (mg.tanh(h @ w + table[x[0]] * x[1]), h)  # noqa: E731
        _, ys = mg.scan(cell, np.zeros((2, 3)), (tokens, x), lengths=[3, 1], mode=mode)
        found.append([ys.numpy(), *(g.numpy() for g in mg.grad(ys.sum(), [x, w, table]))])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_integers_and_masks_among_the_inputs_need_no_gradient(rng: Any) -> None:
    table = leaf(rng, 5, 3)
    xs = (
        mg.tensor(rng.integers(0, 5, (4, 2))),
        mg.tensor(rng.random((4, 2)) < 0.5),
        leaf(rng, 4, 2, 3),
    )

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        token, keep, z = x
        return mg.where(keep[:, None], mg.tanh(h + table[token]), h), z * h

    agree(cell, leaf(rng, 2, 3), xs, table)


# -- memory layout, gradients ----------------------------------------------------------------------


def test_inputs_need_not_be_contiguous(rng: Any) -> None:
    w = leaf(rng, 3, 3)
    big, start = leaf(rng, 2, 8, 6), leaf(rng, 3, 2)
    flipped = mg.tensor(rng.normal(size=(3, 3)), requires_grad=True)

    def run(mode: str) -> Any:
        xs = mg.swapaxes(big, 0, 1)[::2, :, ::2]
        return mg.scan(
            lambda h, x: (mg.tanh(x * h @ w.T + h @ flipped[::-1]), x), start.T, xs, mode=mode
        )

    assert_agree(run, [big, start, w, flipped], F64)


@pytest.mark.parametrize("wanted", ["h", "x", "w", "b", "hw", "xb", ""])
def test_only_what_asks_for_a_gradient_gets_one(wanted: str, rng: Any) -> None:
    made = {n: leaf(rng, *s, grad=n in wanted) for n, s in
            {"h": (2, 3), "x": (4, 2, 3), "w": (3, 3), "b": (3,)}.items()}  # fmt: skip

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        new = mg.tanh(h @ made["w"] + x * made["b"])
        return new, new * x

    result = mg.scan(cell, made["h"], made["x"])
    assert result.final.requires_grad == bool(wanted)
    agree(cell, made["h"], made["x"], made["w"], made["b"])
    for name, t in made.items():
        assert (t.grad is not None) == (name in wanted)


@pytest.mark.parametrize("read", ["final", "ys", "one step", "one y"])
def test_the_loss_may_read_a_part_of_the_results(read: str, rng: Any) -> None:
    init, xs, w = leaf(rng, 2, 3), leaf(rng, 4, 2, 3), leaf(rng, 3, 3)

    def run(mode: str) -> Any:
        def cell(h: Any, x: Any) -> tuple[Any, Any]:
            new = mg.tanh(h @ w + x)
            return new, (new * new, h * x)

        final, (a, b) = mg.scan(cell, init, xs, mode=mode)
        return {"final": (final,), "ys": (a, b), "one step": (a[1],), "one y": (b,)}[read]

    assert_agree(run, [init, xs, w], F64)


def cumulative(rng: Any) -> tuple[Any, Any, Any]:
    h, xs = leaf(rng, 2, 3, name="h"), leaf(rng, 4, 2, 3)
    return h, xs, mg.scan(lambda h, x: (h * x, h), h, xs)


def test_closed_form_of_a_running_product(rng: Any) -> None:
    h, xs, (final, _) = cumulative(rng)
    final.sum().backward()
    product = xs.numpy().prod(axis=0)
    np.testing.assert_allclose(final.numpy(), h.numpy() * product, rtol=1e-14)
    np.testing.assert_allclose(h.grad.numpy(), product, rtol=1e-14)
    np.testing.assert_allclose(xs.grad.numpy(), h.numpy() * product / xs.numpy(), rtol=1e-12)


def test_gradcheck_of_a_scan(rng: Any) -> None:
    def f(h: Any, xs: Any, w: Any) -> Any:
        final, ys = mg.scan(lambda h, x: (mg.tanh(h @ w + x), h * x), h, xs, lengths=(3, 2))
        return mg.concatenate([final[None], ys])

    mg.gradcheck(f, rng.normal(size=(2, 2)), rng.normal(size=(3, 2, 2)), rng.normal(size=(2, 2)))


def test_a_retained_graph_runs_backward_twice(rng: Any) -> None:
    h, _, (final, ys) = cumulative(rng)
    loss = final.sum() + (ys * ys).sum()
    loss.backward(retain_graph=True)
    first = h.grad.numpy().copy()
    loss.backward()
    np.testing.assert_array_equal(h.grad.numpy(), 2 * first)


def test_a_second_backward_without_a_retained_graph_is_refused(rng: Any) -> None:
    _, _, (final, ys) = cumulative(rng)
    final.sum().backward()
    with pytest.raises(mg.errors.GradientError, match="retain_graph"):
        ys.sum().backward()


@pytest.mark.parametrize("what", ["init", "xs", "weight", "ys"])
def test_an_edit_in_place_of_what_backward_reads_is_refused(what: str, rng: Any) -> None:
    init, xs, w = leaf(rng, 2, 3), leaf(rng, 4, 2, 3), leaf(rng, 3, 3)
    final, ys = mg.scan(lambda h, x: (mg.tanh(h @ w * x),) * 2, init, xs)
    with mg.no_grad():
        {"init": init, "xs": xs, "weight": w, "ys": ys}[what][0] = 0.5
    with pytest.raises(mg.errors.GradientError, match=r"edited|changed|in place"):
        final.sum().backward()


def test_results_share_no_memory_with_each_other_or_with_what_came_in(rng: Any) -> None:
    init, xs, c = leaf(rng, 2, 3), leaf(rng, 4, 2, 3), leaf(rng, 2, 3)
    with mg.no_grad():
        final, ys = mg.scan(lambda h, x: (h + x, (h + x, h + x, h, x, c)), init, xs)
    arrays = [t.numpy() for t in (final, *ys, init, xs, c)]
    for i, a in enumerate(arrays):
        for b in arrays[i + 1 :]:
            assert not np.shares_memory(a, b)


def test_memory_that_is_used_again_spoils_no_earlier_result(rng: Any) -> None:
    init, xs = leaf(rng, 2, 3), leaf(rng, 4, 2, 3)
    kept = []
    for k in range(6):
        final, ys = mg.scan(lambda h, x: (mg.tanh(h * x), h * x), init, xs * float(k))
        (final.sum() + ys.sum()).backward()
        kept.append((final, ys, final.numpy().copy(), ys.numpy().copy()))
        del final, ys
    for final, ys, f, y in kept:
        np.testing.assert_array_equal(final.numpy(), f)
        np.testing.assert_array_equal(ys.numpy(), y)
