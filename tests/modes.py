"""The ways to run a recurrent layer: what it computes is tested in every one of them."""

from __future__ import annotations

from typing import Any

import pytest

import minigrad as mg

MODES = ("fused", "tape")

each_mode = pytest.mark.parametrize("mode", MODES)


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
