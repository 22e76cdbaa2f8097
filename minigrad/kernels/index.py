"""Adding rows at integer positions: the gradient of looking rows up, as an embedding does."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from minigrad.errors import ShapeError
from minigrad.kernels import jit
from minigrad.kernels.compiler import build

Array = np.ndarray

_SIGNATURE = "int64(int64, int64, int64, int64, int64, int64)"


def scatter_add(out: Array, index: Array, values: Array) -> None:
    """out[index] += values, in place; a row that is named twice is added to twice, in order.

    out: (N, ...). index: integers of any shape, negative ones counting from the end. values:
    (*index.shape, ...), of out's dtype, or what broadcasts to that.
    Raises ShapeError for an index outside -N .. N-1.

    >>> out = np.zeros((3, 2))
    >>> scatter_add(out, np.array([0, 2, 0]), np.ones((3, 2)))
    >>> out[:, 0]
    array([2., 0., 1.])
    """
    n = len(out)
    if jit.mode() == "plain" or not out.flags.c_contiguous:
        if index.size and (index.min() < -n or index.max() >= n):
            raise _outside(index, n)
        np.add.at(out, index, values)
        return
    places = np.ascontiguousarray(index, np.int64)
    shape = (*index.shape, *out.shape[1:])
    rows = values if values.shape == shape else np.broadcast_to(values, shape)
    rows = np.ascontiguousarray(rows, out.dtype)
    width = math.prod(out.shape[1:])
    table, wanted, added = out.ctypes.data, places.ctypes.data, rows.ctypes.data
    if not _kernel(out.dtype)(table, n, wanted, added, places.size, width):
        raise _outside(index, n)


def _outside(index: Array, n: int) -> ShapeError:
    return ShapeError(
        f"scatter_add: indices reach from {index.min()} to {index.max()}; there are {n} rows, "
        f"expected {-n} to {n - 1}."
    )


_TEXT = """\
from numba import REAL

from minigrad.kernels import scatter


def scatter_add(table, height, index, values, count, width):
    return scatter.scatter_add(table, height, index, values, count, width, REAL)
"""


@cache
def _kernel(dtype: np.dtype) -> Callable[..., Any]:
    text = _TEXT.replace("REAL", dtype.name)
    return build("scatter_add", text, {"scatter_add": _SIGNATURE}).function("scatter_add")
