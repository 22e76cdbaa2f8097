"""Random cells compute the same compiled as on the tape: results and all gradients."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from compile.agree import PLAIN, assert_agree, small_parts
from compile.programs import RandomProgram, programs
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.tree import leaves

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
EXAMPLES = 5000 if LONG else 300 if PLAIN else 14
# Hundreds of ops may lie on the way of a gradient: relative to its largest element, or to 1.
TOLERANCE = {np.float64: 1e-11, np.float32: 3e-4}


def examples(n: int) -> Any:
    return settings(
        max_examples=max(n, 1),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def compare(program: RandomProgram, **options: Any) -> None:
    weights, init, xs = program.tensors()
    cell = program.cell(weights)
    inputs = [t for t in (*init, *xs, *weights.values()) if t.requires_grad]
    note(str(program))
    with small_parts(*program.parts):
        assert_agree(
            lambda mode: mg.scan(cell, init, xs, mode=mode, **program.options, **options),
            inputs, program.dtype, TOLERANCE[program.dtype],
        )  # fmt: skip


@examples(EXAMPLES)
@given(programs())
def test_random_cells_agree(program: RandomProgram) -> None:
    compare(program)


@examples(EXAMPLES // 5)
@given(programs(lines=25, dtypes=(np.float64,)))
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


@examples(EXAMPLES // 10)
@given(programs(st.integers(1, 3), lines=4, dtypes=(np.float64,)))
def test_second_derivatives_of_random_cells_agree(program: RandomProgram) -> None:
    weights, init, xs = program.tensors()
    cell = program.cell(weights)
    inputs = [t for t in (*init, *xs, *weights.values()) if t.requires_grad]
    note(str(program))

    def run(mode: str) -> Any:
        results = leaves(tuple(mg.scan(cell, init, xs, mode=mode, **program.options)))
        loss = sum(((t * t).sum() for t in results if t.requires_grad), mg.tensor(0.0))
        if not loss.requires_grad:
            return ()
        found = mg.grad(loss, inputs, create_graph=True, allow_unused=True)
        return [t * 0.0 if g is None else g for g, t in zip(found, inputs, strict=True)]

    with small_parts(*program.parts):
        assert_agree(run, inputs, program.dtype, 1e-9)
