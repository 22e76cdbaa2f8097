"""Random cells compute the same compiled as on the tape: results and all gradients."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from compile.agree import PLAIN, assert_agree, close, small_parts
from compile.programs import RandomProgram, programs
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.tree import leaves

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
WIDE = os.environ.get("MINIGRAD_TESTS_WIDE") == "1"
EXAMPLES = 5000 if LONG else 100 if PLAIN else 20 if WIDE else 5
pytestmark = pytest.mark.wide  # runs anyway, with --wide on more examples
# Hundreds of ops may lie on the way of a gradient: relative to its largest element, or to 1.
TOLERANCE = {np.float64: 1e-11, np.float32: 3e-4}


def examples(n: int) -> Any:
    return settings(
        max_examples=max(n, 1),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


CALLS = 3  # with other data: values of inputs, indices and closed-over Tensors


def calls(program: RandomProgram, check: Any) -> None:
    """check(cell, init, xs, what needs a gradient), as often as the cell is called."""
    note(str(program))
    weights, init, xs = program.tensors()
    cell = program.cell(weights)
    with small_parts(*program.parts):
        for call in range(CALLS):
            if call:
                weights, init, xs = program.tensors(call)
                program.change(cell, weights)
            inputs = [t for t in (*init, *xs, *weights.values()) if t.requires_grad]
            check(cell, init, xs, inputs)


def compare(program: RandomProgram, **options: Any) -> None:
    def check(cell: Any, init: Any, xs: Any, inputs: Any) -> None:
        assert_agree(
            lambda mode: mg.scan(cell, init, xs, mode=mode, **program.options, **options),
            inputs, program.dtype, TOLERANCE[program.dtype],
        )  # fmt: skip

    calls(program, check)


@examples(EXAMPLES)
@given(programs())
def test_random_cells_agree(program: RandomProgram) -> None:
    compare(program)


@examples(EXAMPLES // 5)
@given(programs(lines=40, dtypes=(np.float64,)))
def test_long_random_cells_agree(program: RandomProgram) -> None:
    compare(program)


# More than one vector along an axis, and what is left over: kernels run in blocks of 64 lanes in
# plain mode, of 4 to 16 on a CPU.
WIDE = st.sampled_from([1, 2, 3, 65, 70, 130] if PLAIN else [1, 3, 8, 9, 17, 33])


@examples(EXAMPLES // 10)
@given(programs(WIDE, lines=5, dtypes=(np.float64,)))
def test_wide_random_cells_agree(program: RandomProgram) -> None:
    compare(program)


@examples(EXAMPLES // 10)
@given(programs(lines=5, dtypes=(np.float64,)), st.integers(1, 3))
def test_random_cells_agree_with_checkpoints_and_in_windows(
    program: RandomProgram, size: int
) -> None:
    compare(program, checkpoint=size)
    compare(program, truncate=size)


def squares(results: Any) -> Any:
    return sum(((t * t).sum() for t in leaves(tuple(results)) if t.requires_grad), mg.tensor(0.0))


@examples(EXAMPLES // 6)
@given(programs(st.integers(1, 3), lines=10, dtypes=(np.float64,)))
def test_second_derivatives_of_random_cells_agree(program: RandomProgram) -> None:
    def check(cell: Any, init: Any, xs: Any, inputs: Any) -> None:
        def run(mode: str) -> Any:
            loss = squares(mg.scan(cell, init, xs, mode=mode, **program.options))
            if not loss.requires_grad:
                return ()
            found = mg.grad(loss, inputs, create_graph=True, allow_unused=True)
            return [t * 0.0 if g is None else g for g, t in zip(found, inputs, strict=True)]

        assert_agree(run, inputs, program.dtype, 1e-9)

    calls(program, check)


@examples(EXAMPLES // 5)
@given(programs(lines=12, dtypes=(np.float64,)))
def test_what_random_cells_tap_has_the_values_and_gradients_of_the_tape(
    program: RandomProgram,
) -> None:
    program.fixed = set()

    def check(cell: Any, init: Any, xs: Any, inputs: Any) -> None:
        found = []
        for mode in ("fused", "tape"):
            try:
                result = mg.scan(cell, init, xs, mode=mode, record=True, **program.options)
            except ValueError as error:  # said, not silently wrong
                assert "is a state that enters the step" in str(error)  # noqa: PT017
                return
            loss = squares(result)
            if loss.requires_grad:
                loss.backward()
            found.append(result.record)
        fused, tape = found
        assert set(fused.values) == set(tape.values)
        for n in tape.values:
            close(f"values of {n}", fused.values[n], tape.values[n], 1e-11)
        for n in tape.gradients:
            got = fused.gradients.get(n, np.zeros_like(tape.gradients[n]))
            close(f"gradients of {n}", got, tape.gradients[n], 1e-10)

    calls(program, check)


@examples(EXAMPLES // 7)
@given(programs(lines=6, dtypes=(np.float64,)))
def test_gradients_of_random_cells_are_slopes(program: RandomProgram) -> None:
    """Against finite differences of the eager loop; where a step of another size gives another
    slope, the program has a kink there, and says nothing.
    """
    assume("detach" not in program.source and "no_grad" not in program.source)
    rng = np.random.default_rng(program.seed)

    def check(cell: Any, init: Any, xs: Any, inputs: Any) -> None:
        def loss(mode: str) -> Any:
            return squares(mg.scan(cell, init, xs, mode=mode, **program.options))

        total = loss("fused")
        if not (inputs and total.requires_grad):
            return
        grads = mg.grad(total, inputs, allow_unused=True)
        ways = [rng.normal(size=t.shape) for t in inputs]
        want = sum((g.numpy() * v).sum() for g, v in zip(grads, ways, strict=True) if g is not None)
        values = [t.numpy().copy() for t in inputs]

        def moved(step: float) -> float:
            for t, a, v in zip(inputs, values, ways, strict=True):
                t.data = a + step * v
            return float(loss("tape").item())

        slopes = [(moved(h) - moved(-h)) / (2 * h) for h in (1e-4, 0.5e-4)]
        moved(0.0)
        scale = max(abs(slopes[0]), abs(want), 1.0)
        if abs(slopes[0] - slopes[1]) < 1e-6 * scale:
            assert abs(slopes[1] - want) < 1e-4 * scale, (slopes, want)

    calls(program, check)
