"""The norm of many arrays as one vector, and their scaling to a limit, in one call and in place.

    >>> arrays = [np.array([3.0, 0.0]), np.array([[4.0]], np.float32)]
    >>> limited = Limit(arrays, 1.0)
    >>> limited.run()
    >>> norm, times, finite = limited.found
    >>> round(norm, 12), round(times, 5), finite, arrays[0].round(5)
    (5.0, 0.2, True, array([0.6, 0. ]))

In float64, and scaled by the largest element where squares would leave its range. Sums have a part
for each block of an array: their bits do not depend on the number of threads.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from minigrad.kernels import jit
from minigrad.kernels.compiler import build
from minigrad.kernels.foreach import head
from minigrad.norms import joint_norm

Array = np.ndarray

_address = ctypes.addressof
_bytes: Any = ctypes.c_char.from_buffer  # together the fastest way to an address


class Limit:
    """x *= min(1, limit / |x|) for all arrays, contiguous ones, as one vector.

    p: of the p-norm. Arrays with NaN or Inf are left as they are. `run()` is
    `function(*arguments)`, and may be called again for what is in the arrays then.
    """

    def __init__(self, arrays: Sequence[Array], limit: float, p: float = 2.0):
        self.arrays, self.p = arrays, p
        self.numbers = np.array([limit, 0.0, 1.0, 0.0])  # as clipping.py has them
        self.function: Callable[..., None] = self._by_hand
        self.arguments: tuple[int, ...] = ()
        if jit.mode() == "plain" or p not in (2.0, np.inf):
            return
        block, width = _sizes()
        blocks = [-(-x.size // block) for x in arrays]
        self.partials = np.empty(sum(blocks) + 1)
        numbers, partial = _address(_bytes(self.numbers)), _address(_bytes(self.partials))
        table = head(len(arrays), width, numbers, partial, sum(blocks))
        for x, n in zip(arrays, blocks, strict=True):
            place = _address(_bytes(x if x.flags.c_contiguous else x.T)) if n else 0
            table += n, x.size, 0, numbers, *_loops(x.dtype), place, partial
            partial += 8 * n
        self.words = np.array(table, np.int64)
        self.function = _clip()
        self.arguments = _address(_bytes(self.words)), int(p == 2.0)

    def run(self) -> None:
        self.function(*self.arguments)

    @property
    def limit(self) -> float:
        return float(self.numbers[0])

    @limit.setter
    def limit(self, value: float) -> None:
        self.numbers[0] = value

    @property
    def found(self) -> tuple[float, float, bool]:
        """Of the last run: |x| before, what all were multiplied by, and whether all are finite."""
        _, norm, times, peak = self.numbers.tolist()
        return norm, times, math.isfinite(peak)

    def _by_hand(self) -> None:
        """By NumPy: any p."""
        limit = self.limit
        peak, ratio = joint_norm(self.arrays, self.p)
        norm, times = peak * ratio, 1.0
        if np.isfinite(peak):
            # 1e-6 is torch's guard against 0 / 0. In float64: for float32 it might be denormal.
            times = limit / (norm + 1e-6) if np.isfinite(norm) else limit / peak / ratio
            times = np.float64(min(times, 1.0))
        self.numbers[1:] = norm, times, peak
        for x in self.arrays if times < 1.0 else ():
            np.multiply(x, times, out=x, casting="same_kind")


@cache
def _sizes() -> tuple[int, int]:
    """Elements of a block, and words of a row: what needs Numba, unlike `import minigrad`."""
    from minigrad.kernels import clipping, tables

    return tables.BLOCK, tables.LOOP + clipping.PHASES + 2


@cache
def _clip() -> Callable[..., None]:
    text = """\
from minigrad.kernels import clipping


def clip(table, euclidean):
    clipping.clip(table, euclidean)
"""
    return build("clip", text, {"clip": "void(int64, int64)"}).function("clip")


@cache
def _loops(dtype: np.dtype) -> tuple[int, ...]:
    """The addresses of the loops over arrays of one dtype, in the order of the phases."""
    names = ("squares", "peaks", "scaled", "scale")
    text = f"from numba import {dtype.name}\n\nfrom minigrad.kernels import clipping\n"
    text += "from minigrad.kernels.intrinsics import wide\n"
    for name in names:
        text += f"\n\ndef {name}(row, first, last):\n    wide()\n"
        text += f"    clipping.{name}(row, first, last, {dtype.itemsize}, {dtype.name})\n"
    kernel = build("clipping", text, dict.fromkeys(names, "void(int64, int64, int64)"))
    return tuple(kernel[name] for name in names)
