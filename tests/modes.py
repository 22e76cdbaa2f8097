"""The ways to run a recurrent layer: what it computes is tested in every one of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

import minigrad as mg

MODES = ("fused", "tape")

each_mode = pytest.mark.parametrize("mode", MODES)


def thin(cases: Iterable[str], every: int) -> list[Any]:
    """The cases for a parametrize; all but each `every`-th are marked wide.

    Each needs kernels of its own: a wide one is compiled with `pytest --wide` only. All of them run
    on the tape, and in the loops that the compiler writes, by Python (NUMBA_DISABLE_JIT=1).
    """
    wide = pytest.mark.wide
    return [pytest.param(c, marks=[wide] * bool(k % every)) for k, c in enumerate(cases)]


def run(
    cell: Any,
    state: Any,
    xs: Any,
    lengths: Any = None,
    reverse: bool = False,
    mode: str = "tape",
) -> tuple[Any, Any]:
    """(final, ys) of any cell over xs (T, B, I).

    Called as `modes.run`, so that tools/faults.py can put a faulty loop in its place.
    """
    assert mode in MODES
    final, ys = mg.scan(cell, state, xs, lengths, reverse, mode)
    return final, ys
