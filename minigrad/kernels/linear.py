"""The bias of a linear layer: one row added to every row of a product, in place."""

from __future__ import annotations

from functools import cache

import numpy as np

from minigrad.kernels import arena, jit
from minigrad.kernels.compiler import Kernel, build
from minigrad.kernels.work import ENTRY, Work, run, words

Array = np.ndarray

PART = 1 << 16  # numbers that a thread takes at once


def add_to_rows(y: Array, bias: Array) -> None:
    """y += bias, in place: (rows, n) and (n,), y contiguous.

    >>> y = np.zeros((2, 3))
    >>> add_to_rows(y, np.arange(3.0))
    >>> y
    array([[0., 1., 2.],
           [0., 1., 2.]])
    """
    if jit.mode() == "plain" or not y.size:
        with np.errstate(all="ignore"):
            np.add(y, bias, out=y)
        return
    run(*add_to_rows_work(y, np.ascontiguousarray(bias)))


def add_to_rows_work(y: Array, bias: Array) -> Work:
    """The same, prepared."""
    rows, n = y.shape
    at_once = max(PART // n, 1)
    job = words(arena.address(y), arena.address(bias), rows, n, at_once)
    return Work(_kernel(y.dtype), "part", job, -(-rows // at_once))


_TEXT = """\
from numba import REAL

from minigrad.kernels.intrinsics import array, wide, words


def part(job, index):
    wide()
    y_, bias_, rows, n, at_once = words(job, 5)
    y, bias = array(y_, (rows, n), REAL), array(bias_, n, REAL)
    for row in range(index * at_once, min(rows, (index + 1) * at_once)):
        for i in range(n):
            y[row, i] += bias[i]
"""


@cache
def _kernel(dtype: np.dtype) -> Kernel:
    return build("add_to_rows", _TEXT.replace("REAL", dtype.name), {"part": ENTRY})
