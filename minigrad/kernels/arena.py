"""Memory for large results, used again: the system clears every page that it hands out.

    y = empty((100, 64, 1024), np.float32)      like np.empty; its memory comes back when y is gone

A training step makes the same large arrays every time. Fresh from the system they cost 4 to 6 us
for each page that is touched first (measured on a virtual machine: a quarter of the time of an
LSTM's step with 64 x 100 x 256), so memory that is no longer used is kept, up to `MOST`.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

Array = np.ndarray

SMALL = 1 << 16  # bytes: below that the C library does it as well
LINE = 64  # bytes: a vector that crosses the border of two cache lines costs two accesses
MOST = 1 << 29  # bytes kept while nobody uses them


@cache
def _lease(size: int) -> Any:
    """What an array and every view of it keep alive: NumPy would skip over another array to its
    base, but not over a ctypes object.
    """
    return type("_Lease", (ctypes.c_char * size,), {})


_lock = threading.RLock()  # a finalizer may run while this thread holds it
_free: OrderedDict[int, list[Array]] = (
    OrderedDict()
)  # size -> blocks, the size used last at the end
_leases: dict[int, weakref.ref[Any]] = {}  # of the blocks in use: what their ends call
_kept = 0


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()  # a thread that the child does not have may have held the old one


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of whatever the memory held, contiguous, beginning on a cache line.

    >>> empty((2, 3), np.float32).shape
    (2, 3)
    """
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < SMALL:
        memory = np.empty(nbytes + LINE, np.uint8)
        begins = ctypes.addressof(ctypes.c_char.from_buffer(memory))  # type: ignore[arg-type]
        return np.ndarray(shape, dtype, memory, -begins % LINE)
    size = _rounded(nbytes) + LINE
    block = _take(size)
    if block is None:
        block = np.empty(size, np.uint8)
    lease = _lease(size).from_buffer(block)
    key = id(lease)

    def ended(_: Any) -> None:
        del _leases[key]
        _give_back(block)

    _leases[key] = weakref.ref(lease, ended)  # weakref.finalize takes 1.3 us more
    return np.ndarray(shape, dtype, lease, -ctypes.addressof(lease) % LINE)


def address(array: Array) -> int:
    """Of the first element."""
    return addresses((array,))[0]


def addresses(arrays: Iterable[Array]) -> list[int]:
    """Of the first element of each."""
    found = []
    for array in arrays:
        if array.flags.fnc:  # by columns: W.T
            array = array.T
        if array.size and array.flags.carray:  # a third of the time of asking the array
            found.append(ctypes.addressof(ctypes.c_char.from_buffer(array)))  # type: ignore[arg-type]
        else:
            found.append(int(array.__array_interface__["data"][0]))
    return found


def clear() -> int:
    """Gives all unused memory back to the system; returns how many bytes that was."""
    global _kept
    with _lock:
        given, _kept = _kept, 0
        _free.clear()
    return given


def _rounded(nbytes: int) -> int:
    """Up to the next eighth of a power of two, so that arrays of nearly one size share blocks."""
    step = 1 << max(nbytes.bit_length() - 4, 12)
    return -(-nbytes // step) * step


def _take(size: int) -> Array | None:
    global _kept
    with _lock:
        blocks = _free.get(size)
        if not blocks:
            return None
        _free.move_to_end(size)
        _kept -= size
        return blocks.pop()


def _give_back(block: Array) -> None:
    global _kept
    with _lock:
        _free.setdefault(block.size, []).append(block)
        _free.move_to_end(block.size)
        _kept += block.size
        while _kept > MOST:
            size, blocks = next(iter(_free.items()))
            if blocks:
                blocks.pop()
                _kept -= size
            else:
                del _free[size]
