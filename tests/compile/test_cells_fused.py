"""Every cell that ships computes the same compiled as it does step by step on the tape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cells import CELLS, inputs, learned, random_state
from compile.agree import assert_agree

import minigrad as mg
from minigrad.tree import leaves

SIZES = [(3, 2, 4, 5), (1, 1, 1, 2), (6, 3, 2, 9), (2, 4, 3, 17)]  # T, B, I, H


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", CELLS)
def test_fused_equals_tape(name: str, sizes: tuple[int, ...], rng: np.random.Generator) -> None:
    _compare(name, sizes, np.float64, rng)


def _compare(name: str, sizes: Any, dtype: Any, rng: Any, **options: Any) -> None:
    time, batch, size, hidden = sizes
    cell = CELLS[name](size, hidden, dtype, rng)
    xs = inputs(cell, time, batch, rng)
    state = random_state(cell, batch, rng)
    wanted = [
        t
        for t in (*leaves(xs), *leaves(state), *learned(cell).values())
        if isinstance(t, mg.Tensor)
    ]
    assert_agree(lambda mode: mg.compile.scan(cell, state, xs, mode=mode, **options), wanted, dtype)
