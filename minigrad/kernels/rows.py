"""Rows of a matrix, taken by number: how steps are packed, and spread out again."""

from __future__ import annotations

from functools import cache

import numpy as np

from minigrad.kernels import arena, jit, threads
from minigrad.kernels.compiler import Kernel, build

Array = np.ndarray

_PART = 1 << 16  # bytes that are worth a thread


def take_rows(x: Array, index: Array) -> Array:
    """y[i] = x[index[i]], and zeros where index[i] is -1: (N, n), (M,) of int64 -> (M, n).

    >>> take_rows(np.array([[1.0], [2.0]]), np.array([1, -1, 0])).tolist()
    [[2.0], [0.0], [1.0]]
    """
    y = arena.empty((len(index), x.shape[1]), x.dtype)
    if not y.size:
        return y
    if jit.mode() == "plain" or not x.size:
        y.fill(0)
        there = index >= 0
        y[there] = x[index[there]]
        return y
    x, index = np.ascontiguousarray(x), np.ascontiguousarray(index, np.int64)
    parts = max(min(threads.get_num_threads(), y.nbytes // _PART), 1)
    words = np.array(
        [
            arena.address(x), arena.address(index), arena.address(y), len(index),
            x.shape[1] * x.itemsize, -(-len(index) // parts),
        ],
        np.int64,
    )  # fmt: skip
    kernel = _kernel()
    if parts == 1 or jit.mode() != "native":
        for part in range(parts):
            kernel.function("take_rows")(arena.address(words), part)
    else:
        threads.parallel_for(kernel["take_rows"], arena.address(words), parts)
    return y


_TEXT = """\
from minigrad.kernels import taking

def take_rows(d, part):
    taking.take_rows(d, part)
"""


@cache
def _kernel() -> Kernel:
    return build("take_rows", _TEXT, {"take_rows": "void(int64, int64)"})
