"""lengths=: steps past the end of a row, in which its state passes through and its y is 0."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from .. import ops
from ..tensors import Tensor, as_tensor
from ..tree import map_leaves
from .unroll import Cell, check_carry, choose

Array = np.ndarray


class Padded:
    """The cell on (x, whether the row takes part): in the padding the state passes through."""

    def __init__(self, cell: Cell):
        self.cell = cell
        self.__name__ = f"padded_{cell_name(cell)}"

    def __call__(self, state: Any, x: Any) -> tuple[Any, Any]:
        x, real = x
        new, y = self.cell(state, x)
        check_carry("scan", state, new)
        kept = map_leaves(lambda a, b: choose(real, a, b), new, state)
        return kept, map_leaves(lambda a: choose(real, a), y)


def padded(cell: Cell, xs: Any, lengths: Array, time: int) -> tuple[Cell, Any, Any]:
    """(the cell that passes over the padding, its xs, xs without what is in the padding)."""
    real = np.arange(time)[:, None] < lengths
    xs = map_leaves(lambda x: _where(real, x), xs)
    return Padded(cell), (xs, as_tensor(real)), xs


def unpadded(cell: Cell) -> Cell | None:
    """The cell of one that runs on (x, whether the row takes part), as `scan` makes for lengths."""
    return cell.cell if type(cell) is Padded else None


def cell_name(cell: Any) -> str:
    """What a cell is called in names of kernels."""
    name = getattr(cell, "__name__", type(cell).__name__)
    return re.sub(r"\W+", "", name).lower() or "cell"


def _where(real: Array, x: Tensor) -> Tensor:
    """x with what is in the padding replaced: by zeros, integers by those of the first step."""
    real = real.reshape(*real.shape, *(1,) * (x.ndim - 2))
    if x.dtype.kind == "f":
        return ops.where(real, x, 0.0)
    return as_tensor(np.where(real, x._data, x._data[:1]))  # an index that is in bounds
