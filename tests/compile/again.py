"""A cell called again and again: how often it is traced, and whether its results are right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from compile.agree import close

import minigrad as mg
from minigrad.compile import fusing
from minigrad.tree import leaves

F64 = np.float64
H = mg.tensor(np.linspace(-0.5, 0.5, 6).reshape(2, 3))
XS = mg.tensor(np.linspace(-1.0, 1.0, 24).reshape(4, 2, 3))


@contextmanager
def traces() -> Iterator[list[int]]:
    """Counts how often a cell is traced inside."""
    counted: list[int] = []
    real = fusing.Traced

    class Counting(real):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any):
            counted.append(1)
            super().__init__(*args)

    fusing.Traced = Counting
    try:
        yield counted
    finally:
        fusing.Traced = real


def right(cell: Any, state: Any = H) -> list[np.ndarray]:
    """The results of a fused scan, once they are known to be those of the tape."""
    fused = [t.numpy() for t in leaves(tuple(mg.scan(cell, state, XS)))]
    tape = [t.numpy() for t in leaves(tuple(mg.scan(cell, state, XS, mode="tape")))]
    for k, (got, want) in enumerate(zip(fused, tape, strict=True)):
        close(f"result {k}", got, want, 1e-12)
    return fused


def changes(cell: Any, change: Callable[[], Any], state: Any = H) -> None:
    """After `change` the cell computes something else, and the right thing."""
    before = [right(cell, state) for _ in range(3)][-1]
    change()
    after = right(cell, state)
    assert any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    right(cell, state)
