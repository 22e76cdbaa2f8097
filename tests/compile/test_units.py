"""Threads that share the units of a step: the same bits, and no number read before it is there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cells import CELLS, inputs, learned, random_state
from compile.agree import PLAIN, assert_agree, outcome, small_parts
from compile.programs import RandomProgram, programs
from compile.turns import in_turns
from hypothesis import given, note, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.compile import division, fusing, stages
from minigrad.tree import leaves

F32, F64 = np.float32, np.float64
COMPILED = fusing._COMPILED


def problem(cell: Any, state: Any, xs: Any, **options: Any) -> tuple[Any, list[Any]]:
    found = leaves((xs, state, learned(cell) if isinstance(cell, nn.Module) else cell.weights))
    wanted = [t for t in found if isinstance(t, mg.Tensor) and t.requires_grad]
    return (lambda mode: mg.scan(cell, state, xs, mode=mode, **options)), wanted


def shipped(name: str, hidden: int, dtype: Any, rng: Any, rows: int = 1, **options: Any) -> Any:
    cell = CELLS[name](3, hidden, dtype, rng)
    xs, state = inputs(cell, 5, rows, rng), random_state(cell, rows, rng)
    return problem(cell, state, xs, **options)


class Chain:
    """Sums along the units, shifted units, and a product of what another one gave."""

    def __init__(self, n: int, rng: Any, dtype: Any = F32):
        made = lambda *shape: mg.tensor(  # noqa: E731
            rng.uniform(-0.2, 0.2, shape), dtype, requires_grad=True
        )
        self.weights = [made(n, 2 * n), made(2 * n, n), made(n)]
        self.state, self.xs = made(1, n), made(4, 1, n)

    def __call__(self, h: Any, x: Any) -> Any:
        up, down, gain = self.weights
        h = mg.tanh(mg.maximum(h @ up, 0.1) @ down + x)
        h = mg.roll(h, 1, axis=1) + (h - mg.mean(h, 1, keepdims=True)) * gain
        return h, h * mg.sum(h * x, 1, keepdims=True)


def chain(n: int, dtype: Any, rng: Any) -> Any:
    cell = Chain(n, rng, dtype)
    return problem(cell, cell.state, cell.xs)


def same_bits(a: dict[str, Any], b: dict[str, Any]) -> None:
    for name in a:
        assert a[name].tobytes() == b[name].tobytes(), f"{name} has other bits"


CASES = [
    ("lstm", 33, F32), ("lstm", 1, F32), ("lstm", 257, F64), ("lstm-projected", 130, F32),
    ("gru-after-keep", 257, F32), ("rnn-tanh", 130, F32), ("gru-before-keep", 130, F32),
    ("peephole", 67, F32), ("layernorm", 65, F32), ("attention", 37, F32), ("mingru", 129, F32),
    ("unitary", 50, F64), ("chain", 141, F32), ("chain", 1, F64),
]  # fmt: skip


@pytest.mark.needs_jit
@pytest.mark.parametrize(("name", "hidden", "dtype"), CASES)
def test_any_number_of_threads_gives_the_same_bits(
    name: str, hidden: int, dtype: Any, rng: Any
) -> None:
    make = chain if name == "chain" else lambda *args: shipped(name, *args)
    run, wanted = make(hidden, dtype, rng)
    with small_parts(48):
        alone = outcome(run, wanted, "fused")
        with mg.no_grad():
            forward = [t.numpy().copy() for t in leaves(tuple(run("fused")))]
    for threads in (1, 2, 3, 5, 2):
        with small_parts(3, threads, units=True):
            same_bits(alone, outcome(run, wanted, "fused"))
            with mg.no_grad():
                again = [t.numpy().copy() for t in leaves(tuple(run("fused")))]
        assert [a.tobytes() for a in again] == [a.tobytes() for a in forward]


@pytest.mark.needs_jit
@pytest.mark.parametrize("options", [{"reverse": True}, {"lengths": (5, 2, 4)}])
def test_rows_direction_and_lengths_change_no_bit_either(options: Any, rng: Any) -> None:
    run, wanted = shipped("lstm", 33, F32, rng, rows=3, **options)
    with small_parts(48):
        alone = outcome(run, wanted, "fused")
    for threads in (2, 3):
        with small_parts(48, threads, units=True):
            same_bits(alone, outcome(run, wanted, "fused"))


@pytest.mark.needs_jit
def test_one_row_of_a_large_layer_is_divided_over_its_units(rng: Any) -> None:
    """Nothing patched: the division is chosen by what a step costs, and explain() says it."""
    layer = nn.RNN(24, 600, bidirectional=True, generator=rng)
    x = mg.tensor(rng.normal(size=(9, 1, 24)), F32, requires_grad=True)
    before, found = mg.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            mg.set_num_threads(threads)
            layer.zero_grad()
            x.grad = None
            output, h_n = layer(x)
            (output * output).sum().backward()
            results = [output, h_n, x.grad, *(p.grad for p in layer.parameters())]
            found.append([t.numpy().tobytes() for t in results])
            said = layer.explain().splitlines()
            divided = [line for line in said if f"over units, {threads} threads;" in line]
            assert len(divided) == (4 if threads > 1 else 0), layer.explain()
    finally:
        mg.set_num_threads(before)
    assert found[1:] == found[:1] * 2


def test_small_steps_are_not_divided(rng: Any) -> None:
    layer = nn.LSTM(8, 16, generator=rng)
    before = mg.get_num_threads()
    try:
        mg.set_num_threads(2)
        layer(np.ones((100, 1, 8), F32))
        assert "over units" not in layer.explain()
    finally:
        mg.set_num_threads(before)


plain = pytest.mark.skipif(not PLAIN, reason="part for part, by Python")
ORDERS = (0, 1, 2), (2, 1, 0), (1, 4, 0, 3, 2)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """No kernel with a fault is left for another test."""
    COMPILED.clear()
    yield
    COMPILED.clear()


def check_in_turns(run: Any, wanted: list[Any], dtype: Any = F64) -> None:
    """The comparison with the tape, for parts in every order."""
    for order in ORDERS:
        with small_parts(3, len(order), units=True), in_turns(order) as met:
            assert_agree(run, wanted, dtype)
        assert met


@plain
@pytest.mark.parametrize(
    ("name", "rows"), [*((name, 1) for name in CELLS), ("lstm", 3), ("layernorm", 3)]
)
def test_the_order_of_the_parts_does_not_matter(name: str, rows: int, rng: Any) -> None:
    check_in_turns(*shipped(name, 7, F64, rng, rows, reverse=rows == 3))


@plain
def test_nor_does_it_where_sums_and_products_follow_one_another(rng: Any) -> None:
    check_in_turns(*chain(9, F64, rng))


@plain
@pytest.mark.parametrize("name", ["lstm", "layernorm", "gru-before-keep"])
@pytest.mark.parametrize("options", [{"lengths": (5, 2, 4)}, {"lengths": (1, 5, 3)}])
def test_nor_does_it_where_rows_end(name: str, options: Any, rng: Any) -> None:
    check_in_turns(*shipped(name, 7, F64, rng, 3, reverse=options["lengths"][0] == 1, **options))


@plain
@settings(max_examples=10, deadline=None)
@given(programs(st.sampled_from([1, 2, 5, 9]), dtypes=(F64,)))
def test_nor_does_it_in_random_cells(program: RandomProgram) -> None:
    note(str(program))
    weights, init, xs = program.tensors()
    cell = program.cell(weights)
    wanted = [t for t in (*init, *xs, *weights.values()) if t.requires_grad]
    for order in ORDERS[:2]:
        with small_parts(3, len(order), units=True), in_turns(order):
            run = lambda mode: mg.scan(cell, init, xs, mode=mode, **program.options)  # noqa: E731
            assert_agree(run, wanted, F64, 1e-11)


@plain
@pytest.mark.parametrize("name", ["lstm", "layernorm", "gru-before-keep"])
def test_a_meeting_left_out_is_noticed(
    name: str, rng: Any, monkeypatch: Any, forgotten: Any
) -> None:
    for k in itertools.count():
        run, wanted = shipped(name, 7, F64, rng)  # a cell that has not been compiled yet
        missing = []

        def planted(lowered: Any, k: int = k, missing: list[Any] = missing) -> Any:
            found = stages.divided(lowered)
            missing += [stage for stage in found if stage.meets][k : k + 1]
            for stage in missing:
                stage.meets = False
            return found

        monkeypatch.setattr(division, "divided", planted)
        COMPILED.clear()
        try:
            check_in_turns(run, wanted)
            noticed = False
        except AssertionError:
            noticed = True
        assert noticed == bool(missing), f"without meeting {k}"
        if not missing:
            break
    assert k >= 2


@plain
def test_loops_over_the_same_units_need_no_meeting() -> None:
    """An element-wise recurrence: every thread goes through all steps alone."""
    h, xs = np.ones((1, 40)), np.ones((6, 1, 40))
    with small_parts(48, 2, units=True), in_turns((0, 1)) as met:
        mg.scan(lambda h, x: ((mg.tanh(h * 0.5 + x)), h), h, xs)
    assert met == [0]
