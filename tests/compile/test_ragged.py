"""Rows of different lengths, masks and episodes: each equals its real steps, run alone.

The oracle knows no mask: `alone` cuts the real steps of each episode out of a row and runs them, as
a batch of one, on the tape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cells
import numpy as np
import pytest
from compile.agree import PLAIN, close, outcome, small_parts, wide

import minigrad as mg
from minigrad import nn
from minigrad.compile.packing import SIZE, Of, Places, Rows, room_for
from minigrad.compile.unrolling import unroll
from minigrad.kernels import arena
from minigrad.kernels.arena import address
from minigrad.tree import leaves, map_leaves

T, B, I, H = 6, 5, 3, 4
RNG = np.random.default_rng(5)


def upto(*lengths: int) -> np.ndarray:
    return np.arange(T)[:, None] < np.array(lengths)


# Of one shape: one program and its kernels see them one after the other.
MASKS = {
    "unsorted": upto(3, 6, 1, 5, 2),
    "empty rows": upto(0, 6, 0, 1, 6),
    "all full": upto(6, 6, 6, 6, 6),
    "all equal": upto(4, 4, 4, 4, 4),
    "no row": upto(0, 0, 0, 0, 0),
    "padded in front": upto(3, 6, 1, 0, 2)[::-1],
    "gaps": RNG.random((T, B)) < 0.5,
}
RESETS = RNG.random((T, B)) < 0.4


def lstm(rng: np.random.Generator) -> Any:
    return nn.LSTMCell(I, H, dtype=np.float64, generator=rng)


def gru(rng: np.random.Generator) -> Any:
    return nn.GRUCell(I, H, dtype=np.float64, generator=rng)


class Own(nn.Module):
    """An output that is a product with the state, a product of what is computed from x, and a
    state that nobody reads: what LSTM and GRU do not have.
    """

    output_size = 2

    def __init__(self, rng: np.random.Generator):
        shapes = {"w": (I, H), "u": (H, H), "v": (H, 2)}
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(rng.normal(size=shape) / 2))

    def init_state(self, batch: int) -> Any:
        return {"h": mg.tensor(np.zeros((batch, H))), "n": mg.tensor(np.zeros((batch, 1)))}

    def forward(self, state: Any, x: Any) -> Any:
        h = mg.tanh((x * x) @ self.w + state["h"] @ self.u)
        return {"h": h, "n": state["n"] + mg.sum(x, axis=1, keepdims=True)}, h @ self.v


KINDS: dict[str, Any] = {"lstm": lstm, "gru": gru, "own": Own}


class Net:
    """A cell, a first state and inputs, all of which need gradients; and a loss."""

    def __init__(self, kind: str, seed: int = 0):
        rng = self.rng = np.random.default_rng(seed)
        self.cell = KINDS[kind](rng)
        zero = self.cell.init_state(B)
        self.init = map_leaves(lambda s: mg.tensor(rng.normal(size=s.shape)), zero)
        self.xs = mg.tensor(rng.normal(size=(T, B, I)))
        self.inputs = [*leaves(self.init), self.xs, *self.cell.parameters()]
        for t in self.inputs:
            t.requires_grad_()

    def together(self, mode: str, reverse: bool, mask: Any, resets: Any = None, **how: Any) -> Any:
        """Results, gradients of all inputs."""

        def run(mode: str) -> Any:
            return mg.scan(
                self.cell, self.init, self.xs, None, reverse, mode, mask=mask, resets=resets, **how
            )

        return outcome(run, self.inputs, mode)

    def alone(self, reverse: bool, mask: Any, resets: Any = None) -> Any:
        """The same of each row, each episode by itself."""

        def run(_: str) -> Any:
            finals, columns = [], []
            for b in range(B):
                first = map_leaves(lambda s, b=b: s[b : b + 1], self.init)
                final, ys = first, [None] * T
                for steps in episodes(mask[:, b], resets[:, b], reverse):
                    x = mg.stack([self.xs[t, b : b + 1] for t in steps])
                    final, found = unroll(self.cell, first, x, None, reverse)
                    for k, t in enumerate(steps):
                        ys[t] = found[k]
                finals.append(final)
                nothing = np.zeros((1, self.cell.output_size))
                columns.append(mg.stack([mg.tensor(nothing) if y is None else y for y in ys]))
            final = map_leaves(lambda *parts: mg.concatenate(parts), *finals)
            return final, mg.concatenate(columns, axis=1)

        return outcome(run, self.inputs, "tape")


def episodes(mask: np.ndarray, resets: np.ndarray, reverse: bool) -> list[list[int]]:
    """The real steps of a row, a list for each episode, in the order in which they run."""
    found: list[list[int]] = []
    for t in np.flatnonzero(mask).tolist():
        if not found or resets[t]:
            found.append([])
        found[-1].append(t)
    return found[::-1] if reverse else found


def agree(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    assert found.keys() == expected.keys()
    for name, want in expected.items():
        close(name, found[name], want, tolerance)


NONE = np.zeros((T, B), bool)


@pytest.mark.parametrize("mode", ["fused", "tape"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_row_equals_its_real_steps_alone(kind: str, reverse: bool, mode: str) -> None:
    for seed, mask in enumerate(MASKS.values()):  # with other data, too
        net = Net(kind, seed)
        agree(net.together(mode, reverse, mask), net.alone(reverse, mask, NONE))


@pytest.mark.parametrize("mode", ["fused", "tape"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("kind", KINDS)
def test_episodes_equal_themselves_alone(kind: str, reverse: bool, mode: str) -> None:
    full = np.ones((T, B), bool)
    net = Net(kind)
    for seed in range(3):  # the third call finds the trace that the second has left
        resets = np.random.default_rng(seed).random((T, B)) < 0.4
        for t in net.inputs:
            t.data = t.data + 0.01
        agree(net.together(mode, reverse, None, resets), net.alone(reverse, full, resets))
    for mask in MASKS.values():
        resets = RESETS & mask
        agree(net.together(mode, reverse, mask, resets), net.alone(reverse, mask, resets))


@pytest.mark.parametrize(
    "way", [{"truncate": 2}, {"checkpoint": 2}], ids=["truncate", "checkpoint"]
)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_windows_and_checkpoints_of_ragged_rows_equal_those_on_the_tape(
    reverse: bool, way: dict[str, int]
) -> None:
    for mask in MASKS.values():
        net, resets = Net("gru"), RESETS & mask
        found = net.together("fused", reverse, mask, resets, **way)
        agree(found, net.together("tape", reverse, mask, resets, **way))
        if "checkpoint" in way:
            agree(found, net.alone(reverse, mask, resets))


@pytest.mark.parametrize("name", wide(list(cells.CELLS), ["zoneout", "lstm-projected"]))
def test_every_cell_runs_over_packed_steps(name: str, rng: np.random.Generator) -> None:
    cell = cells.CELLS[name](I, H, np.float64, rng)
    xs = cells.inputs(cell, T, B, rng)
    init = cells.random_state(cell, B, rng)
    inputs = [*leaves(init), *cells.learned(cell).values(), leaves(xs)[0]]
    for mask in (MASKS["unsorted"], MASKS["gaps"]):

        def run(mode: str, mask: Any = mask) -> Any:
            return mg.scan(cell, init, xs, None, False, mode, mask=mask)

        agree(outcome(run, inputs, "fused"), outcome(run, inputs, "tape"))


@pytest.mark.needs_jit
def test_bits_depend_neither_on_other_rows_nor_on_shards_and_chunks() -> None:
    found = []
    for chunk, threads, units in (
        (1, 1, False), (48, 1, False), (9, 1, False), (1, 2, False), (1, 3, False), (1, 2, True),
        (9, 3, True),
    ):  # fmt: skip
        with small_parts(chunk, threads, units):
            found.append([
                Net(kind, 1).together("fused", reverse, MASKS[name])
                for kind, name, reverse in (("own", "gaps", False), ("lstm", "empty rows", True))
            ])  # fmt: skip
    for other in found[1:]:
        for got, want in zip(other, found[0], strict=True):
            for name, array in want.items():
                np.testing.assert_array_equal(got[name], array, err_msg=name)

    net, mask = Net("lstm"), MASKS["unsorted"]
    _, ys = mg.scan(net.cell, net.init, net.xs, mask=mask)
    for b in range(B):
        n = int(mask[:, b].sum())
        init = map_leaves(lambda s, b=b: s.detach()[b : b + 1], net.init)
        _, alone = mg.scan(net.cell, init, net.xs.detach()[:n, b : b + 1])
        np.testing.assert_array_equal(ys.numpy()[:n, b], alone.numpy()[:, 0])


def test_a_recorded_scan_computes_the_padding_and_gets_the_same_bits() -> None:
    def cell(h: Any, x: Any) -> Any:
        h = mg.tap("h", mg.tanh(h @ w + x))
        return h, h

    w = mg.tensor(RNG.normal(size=(I, I)), requires_grad=True)
    x, mask = RNG.normal(size=(T, B, I)), MASKS["gaps"]
    found = []
    for how in ({}, {"record": ["h"]}, {"record": ["h"], "mode": "tape"}):
        xs = mg.tensor(x, requires_grad=True)
        result = mg.scan(cell, np.zeros((B, I)), xs, mask=mask, **how)
        (mg.sin(result.ys).sum() + result.final.sum()).backward()
        found.append((result, xs.grad.numpy()))
    packed, recorded, tape = (result for result, _ in found)
    for one in (recorded, tape):
        np.testing.assert_array_equal(packed.final.numpy(), one.final.numpy())
        np.testing.assert_array_equal(packed.ys.numpy(), one.ys.numpy())
    if PLAIN:  # products are NumPy's, whose rounding may depend on how many rows there are
        np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-14)
    else:
        np.testing.assert_array_equal(found[0][1], found[1][1])
    for of in ("values", "gradients"):
        got, want = getattr(recorded.record, of)["h"], getattr(tape.record, of)["h"]
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)
    assert not recorded.record.gradients["h"][~mask].any()
    assert f"packed     {mask.sum()} of {T * B} steps of rows" in str(packed.explain())
    assert "packed" not in str(recorded.explain())
    assert "padded     steps in which rows take no part are computed too" in str(recorded.explain())
    assert "padded" not in str(packed.explain()).replace("padded_cell", "")


def test_nothing_is_read_where_no_row_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither xs (NaN will do), nor gradients of ys, nor memory that nobody has written."""
    fresh = arena.empty

    def poisoned(shape: Any, dtype: Any) -> Any:
        array = fresh(shape, dtype)
        array.view(np.uint8).fill(0xFF)  # of floats, NaN
        return array

    for kind in KINDS:
        for mask in MASKS.values():
            net = Net(kind)
            expected = net.together("fused", False, mask)
            net.xs.data = np.where(mask[..., None], net.xs.data, np.nan)
            with monkeypatch.context() as patch:
                for module in ("kernels.arena", "compile.prepared", "compile.packed"):
                    patch.setattr(f"minigrad.{module}.empty", poisoned)
                found = net.together("fused", False, mask)
            for name, array in expected.items():
                np.testing.assert_array_equal(found[name], array, err_msg=f"{kind} {name}")


def _nothing(*_: Any) -> None: ...


def _no(what: str) -> Callable[..., Any]:
    """Places.at_points, which does not do one thing."""
    at_points = Places.at_points

    def faulty(self: Places, asked: str, *rest: Any) -> Any:
        return (_nothing, ()) if asked == what else at_points(self, asked, *rest)

    return faulty


def _other(index: int, instead: int) -> Callable[..., Any]:
    """Places.taken, which takes rows by another index."""
    taken = Places.taken
    return lambda self, rows, asked, to: taken(self, rows, instead if asked == index else asked, to)


FAULTS: dict[str, tuple[str, Callable[..., Any]]] = {
    "points are not cleared": ("at_points", _no("clear")),
    "last states are not put back": ("at_points", _no("lower")),
    "the first state's gradient is another step's": ("taken", _other(Of.FIRSTS, Of.PAIRED)),
    "BPTT begins with one half": ("taken", _other(Of.TWICE, Of.ORDER)),
    "what leaves a step is what enters it": ("taken", _other(Of.PUT_LEFT, Of.PUT)),
}


@pytest.mark.needs_jit
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_of_packing_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = arena.empty

    def poisoned(shape: Any, dtype: Any) -> Any:
        array = fresh(shape, dtype)
        array.view(np.uint8).fill(0xFF)
        return array

    def gradients() -> list[np.ndarray]:
        rng = np.random.default_rng(1)
        w, xs = (mg.tensor(rng.normal(size=s), requires_grad=True) for s in ((H, H), (T, B, H)))
        init = mg.tensor(np.full((B, H), 0.5), requires_grad=True)

        def cell(h: Any, x: Any) -> Any:
            h = mg.exp(0.2 * (h @ w + x))  # whose derivative is itself: BPTT reads what leaves
            return h, h

        final, ys = mg.scan(cell, init, xs, mask=MASKS["unsorted"])
        loss = mg.sin(ys).sum() + mg.sin(final).sum()
        for _ in range(2):  # BPTT of one run, twice
            loss.backward(retain_graph=True)
        return [ys.numpy(), *(t.grad.numpy() for t in (xs, init, w))]

    for module in ("kernels.arena", "compile.prepared", "compile.packed"):
        monkeypatch.setattr(f"minigrad.{module}.empty", poisoned)
    expected = gradients()
    assert all(np.isfinite(g).all() for g in expected)
    monkeypatch.setattr(Places, *FAULTS[fault])
    pairs = zip(gradients(), expected, strict=True)
    assert not all(np.allclose(got, want, rtol=1e-9, atol=1e-12) for got, want in pairs)


def test_a_last_state_of_infinity_is_seen_if_it_stays_in_sums(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    test_a_row_that_ends_in_infinity_reaches_no_weight_if_nothing_reads_it()
    monkeypatch.setattr(Places, "at_points", _no("lift"))
    with pytest.raises(AssertionError):
        test_a_row_that_ends_in_infinity_reaches_no_weight_if_nothing_reads_it()


def test_a_row_that_ends_in_infinity_reaches_no_weight_if_nothing_reads_it() -> None:
    def gradient(x: np.ndarray, lengths: Any) -> np.ndarray:
        w = mg.tensor(np.eye(2), requires_grad=True)
        init = mg.tensor(np.ones((x.shape[1], 2)))
        _, ys = mg.scan(lambda h, x: ((h @ w) * x,) * 2, init, mg.tensor(x), lengths)
        ys[:, 1:].sum().backward()
        return w.grad.numpy()

    x = np.ones((3, 3, 2))
    x[:2, 0] = 1e200  # 1e400 after two steps
    found = gradient(x, [2, 3, 1])
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, gradient(np.where(x > 1, 1.0, x), [2, 3, 1]))


def test_integers_in_the_padding_are_not_looked_up(rng: np.random.Generator) -> None:
    table = mg.tensor(rng.normal(size=(4, I)), requires_grad=True)
    mask = MASKS["padded in front"]
    words = rng.integers(0, 4, (T, B))

    def run(mode: str) -> Any:
        def cell(h: Any, word: Any) -> Any:
            h = mg.tanh(h + table[word])
            return h, h

        return mg.scan(
            cell, np.zeros((B, I)), np.where(mask, words, 99), None, False, mode, mask=mask
        )

    words[0, mask[0]] = 1
    agree(outcome(run, [table], "fused"), outcome(run, [table], "tape"))


def test_second_derivatives_pass_ragged_rows_and_episodes() -> None:
    mask = MASKS["unsorted"]
    found = []
    for mode in ("fused", "tape"):
        net = Net("gru")
        final, ys = mg.scan(
            net.cell, net.init, net.xs, None, True, mode, mask=mask, resets=RESETS & mask
        )
        loss = mg.sin(ys).sum() + mg.cos(final).sum()
        first = mg.grad(loss, net.inputs, create_graph=True)
        total = sum((g * g).sum() for g in first)
        found.append([g.numpy() for g in mg.grad(total, net.inputs)])
    for got, want in zip(*found, strict=True):
        close("second derivative", got, want, 1e-11)


def test_a_jitted_step_takes_lengths_and_masks_of_the_closure() -> None:
    layer = nn.GRU(I, H, dtype=np.float64, generator=np.random.default_rng(0))
    lengths, mask = [3, 6, 0, 5, 1], MASKS["gaps"]

    def step(x: Any) -> Any:
        layer.zero_grad()
        loss = mg.sin(layer(x, lengths=lengths)[0]).sum() + layer(x, mask=mask)[1].sum()
        loss.backward()
        return loss

    jitted = mg.jit(step)
    for seed in range(4):
        x = np.random.default_rng(seed).normal(size=(T, B, I))
        results = []
        for run in (step, jitted):
            loss = run(x)
            results.append([loss.numpy(), *(p.grad.numpy().copy() for p in layer.parameters())])
        for got, want in zip(*results, strict=True):
            close("jitted", got, want, 1e-12)


def test_lengths_are_a_mask() -> None:
    lengths = [3, 6, 0, 5, 1]
    for mode in ("fused", "tape"):
        net = Net("lstm")
        one = mg.scan(net.cell, net.init, net.xs, lengths, mode=mode)
        other = mg.scan(net.cell, net.init, net.xs, mode=mode, mask=upto(*lengths))
        for a, b in zip(leaves(tuple(one)), leaves(tuple(other)), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_the_mask_may_change_behind_the_scan() -> None:
    found = []
    for change in (False, True):
        net, mask = Net("lstm"), MASKS["gaps"].copy()
        result = mg.scan(net.cell, net.init, net.xs, mask=mask)
        mask[...] ^= change
        result.ys.sum().backward()
        found.append(net.xs.grad.numpy())
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", MASKS)
def test_packed_places_are_those_of_the_rows_real_steps(name: str, reverse: bool) -> None:
    mask = MASKS[name]
    places = Places(np.empty(room_for(T, B), np.int64), T, B)
    x = np.arange(1.0, T * B + 1)

    def moved(table: np.ndarray, index: int) -> np.ndarray:
        values = np.full(T * B, np.nan)
        move, count = places.taken(Rows(address(table), table.size, 8), index, address(values))
        if index == Of.TAKE:
            run(places.told(address(values), 1, [count, SIZE, 1]))
        run(move)
        return values

    def run(call: Any) -> None:
        call[0](*call[1])

    run(places.found(np.ascontiguousarray(mask), reverse))
    taken = places.summary()
    packed = moved(x, Of.TAKE)[: taken.size]
    assert (taken.steps, taken.taken) == (mask.sum(axis=0).max(), mask.sum())
    expected: list[float] = []
    rows = sorted(range(B), key=lambda b: -mask[:, b].sum())  # stable
    by_time = x.reshape(T, B)
    steps = [by_time[mask[:, b], b][:: -1 if reverse else 1] for b in rows]
    before = B
    for k in range(max(map(len, steps))):
        here = [s[k] for s in steps if len(s) > k]
        expected += here + [0.0] * (before - len(here))  # the rows that have just ended
        before = len(here)
    assert packed.tolist() == expected
    np.testing.assert_array_equal(moved(packed.copy(), Of.PUT).reshape(T, B), by_time * mask)
    for shards in (1, 2, 3):
        bounds = np.empty(shards + 1, np.int64)
        run(places.told(address(bounds), shards, []))
        assert bounds[0] == 0
        assert bounds[-1] == B
        assert (np.diff(bounds) >= 0).all()


X = np.zeros((4, 3, 2))
GOOD = np.ones((4, 3), bool)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            {"mask": GOOD[:, :2]},
            mg.ShapeError,
            r"mask should be \(T, B\) = \[4, 3\].* bool\[4, 2\]",
        ),
        ({"mask": GOOD.T}, mg.ShapeError, "mask should be"),
        ({"mask": GOOD * 1.0}, mg.DTypeError, r"mask should be of bool, got float64\[4, 3\]"),
        ({"resets": GOOD[0]}, mg.ShapeError, "resets should be"),
        ({"resets": GOOD * 1}, mg.DTypeError, "resets should be of bool.*resets != 0"),
        ({"mask": GOOD, "lengths": [1, 2, 3]}, ValueError, "lengths and mask both say"),
        (
            {"lengths": [1, 4, 4], "resets": GOOD},
            ValueError,
            r"resets\[1, 0\] begins an episode at a step in which the row takes no part",
        ),
        ({"lengths": [1, 5, 4]}, mg.ShapeError, r"lengths\[1\] is 5"),
    ],
)
def test_what_does_not_fit_is_refused(given: Any, error: Any, message: str) -> None:
    def cell(h: Any, x: Any) -> Any:
        return h + x, h

    layer = nn.GRU(2, 3, dtype=np.float64)
    for run in (
        lambda: mg.scan(cell, np.zeros((3, 2)), X, **given),
        lambda: mg.scan(cell, np.zeros((3, 2)), X, mode="tape", **given),
        lambda: unroll(cell, mg.tensor(np.zeros((3, 2))), mg.tensor(X), **given),
        lambda: layer(X, **given),
    ):
        with pytest.raises(error, match=message):
            run()
