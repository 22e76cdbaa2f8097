"""Every cell that ships computes the same compiled as it does step by step on the tape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cells import CELLS, inputs, learned, random_state
from compile.agree import PLAIN, assert_agree, small_parts, wide

import minigrad as mg
from minigrad.tree import leaves, rebuild

F32, F64 = np.float32, np.float64
# T, B, I, H
SIZES = wide(
    [(3, 2, 4, 5), (1, 1, 1, 2), (6, 3, 2, 9), (2, 4, 3, 17), (9, 1, 5, 3)], [(3, 2, 4, 5)]
)
TELLING = ["lstm", "gru-before-write"]  # products, and products of products


@pytest.mark.parametrize("dtype", wide([F64, F32], [F64]))
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(
    "name",
    CELLS
    if PLAIN
    else [pytest.param(c, marks=[pytest.mark.long] * (c not in TELLING)) for c in CELLS],
)
def test_fused_equals_tape(name: str, sizes: tuple[int, ...], dtype: Any, rng: Any) -> None:
    compare(name, sizes, dtype, rng)


@pytest.mark.parametrize("sizes", wide([(5, 3, 3, 8), (2, 2, 5, 33)], [(2, 2, 5, 33)]))
@pytest.mark.parametrize("name", wide(TELLING, TELLING[1:]))
def test_fused_equals_tape_in_float32(name: str, sizes: tuple[int, ...], rng: Any) -> None:
    compare(name, sizes, F32, rng)


LENGTHS = [(5, 5, 5), (1, 1, 1), (2, 4, 1)]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", wide([None, *LENGTHS], [None, (2, 4, 1)]))
@pytest.mark.parametrize("name", wide(list(CELLS), TELLING[:1]))
def test_lengths_and_direction(name: str, lengths: Any, reverse: bool, rng: Any) -> None:
    compare(name, (5, 3, 2, 4), F64, rng, lengths=lengths, reverse=reverse)


@pytest.mark.parametrize("parts", [(4, 1), (1, 2), (7, 1), (48, 3)])
@pytest.mark.parametrize("name", wide(list(CELLS), ["lstm", "gru-before-keep"]))
def test_parts_of_the_steps_and_of_the_batch(name: str, parts: tuple[int, int], rng: Any) -> None:
    """Chunks of steps end in the middle of a sequence, shards in the middle of a batch."""
    with small_parts(*parts):
        compare(name, (7, 3, 2, 3), F64, rng, reverse=parts[0] == 7)


def compare(name: str, sizes: Any, dtype: Any, rng: Any, **options: Any) -> None:
    time, batch, size, hidden = sizes
    cell = CELLS[name](size, hidden, dtype, rng)
    xs = inputs(cell, time, batch, rng)
    state = random_state(cell, batch, rng)
    wanted = needing(xs, state, learned(cell))
    # Dividing by the deviation of a few features, step after step, makes much of a rounding error.
    tolerance = 1e-4 if dtype == F32 and "layernorm" in name else None
    run = lambda mode: mg.scan(cell, state, xs, mode=mode, **options)  # noqa: E731
    assert_agree(run, wanted, dtype, tolerance)


def needing(*trees: Any) -> list[Any]:
    """The Tensors that need a gradient."""
    return [t for t in leaves(trees) if isinstance(t, mg.Tensor) and t.requires_grad]


# -- higher derivatives ----------------------------------------------------------------------------


SECOND = ["rnn-tanh", "lstm", "gru-before-keep", "layernorm", "attention", "peephole", "mingru"]


@pytest.mark.long
@pytest.mark.parametrize("options", wide([{}, {"reverse": True}, {"lengths": (3, 1)}], [{}]))
@pytest.mark.parametrize("name", wide(SECOND, ["gru-before-keep"]))
def test_second_derivatives(name: str, options: Any, rng: Any) -> None:
    """The gradient of a gradient, with respect to everything."""
    cell = CELLS[name](2, 3, F64, rng)
    xs, state = inputs(cell, 3, 2, rng), random_state(cell, 2, rng)
    wanted = needing(xs, state, learned(cell))

    def run(mode: str) -> Any:
        final, ys = mg.scan(cell, state, xs, mode=mode, **options)
        loss = (ys * ys * ys).sum() + sum((t * t).sum() for t in leaves(final))
        return mg.grad(loss, wanted, create_graph=True)

    assert_agree(run, wanted, F64, 1e-10)


@pytest.mark.long
def test_a_third_derivative(rng: Any) -> None:
    w = mg.tensor(rng.normal(size=(2, 2)), requires_grad=True)
    xs = mg.tensor(rng.normal(size=(3, 2, 2)), requires_grad=True)
    h = mg.tensor(rng.normal(size=(2, 2)), requires_grad=True)

    def run(mode: str) -> Any:
        final, _ = mg.scan(lambda h, x: (mg.tanh(h @ w) * x, h), h, xs, mode=mode)
        (first,) = mg.grad((final * final).sum(), [w], create_graph=True)
        return mg.grad((first * first).sum(), [w, xs, h], create_graph=True)

    assert_agree(run, [w, xs, h], F64, 1e-10)


@pytest.mark.parametrize("name", wide(SECOND[:3], SECOND[1:2]))
def test_second_derivatives_against_differences_of_gradients(name: str, rng: Any) -> None:
    cell = CELLS[name](2, 2, F64, rng)
    state, xs = random_state(cell, 2, rng), inputs(cell, 3, 2, rng)

    def f(x: Any) -> Any:
        final, ys = mg.scan(cell, state, x)
        return (ys * ys).sum() + sum((t * t).sum() for t in leaves(final))

    def slope(x: Any) -> Any:
        return mg.grad(f(x), [x], create_graph=True)[0]

    mg.gradcheck(slope, xs.numpy())


@pytest.mark.skipif(not PLAIN, reason="compiles one kernel for each")
@pytest.mark.parametrize("name", CELLS)
def test_gradients_against_central_differences(name: str, rng: Any) -> None:
    cell = CELLS[name](2, 2, F64, rng)
    state, xs = random_state(cell, 2, rng), inputs(cell, 3, 2, rng)
    x, *_ = leaves(xs)

    def f(x: Any) -> Any:
        final, ys = mg.scan(cell, state, rebuild(xs, [x, *leaves(xs)[1:]]))
        return mg.concatenate([ys.reshape(-1), *(t.reshape(-1) for t in leaves(final))])

    mg.gradcheck(f, x.numpy())
