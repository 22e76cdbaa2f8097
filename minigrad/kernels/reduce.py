"""Reductions over any axes of arrays with any strides: sum, max, min, and the running sum.

    >>> sum(np.ones((2, 3), np.float32), (0,), keepdims=True)
    array([[2., 2., 2.]], dtype=float32)

Axes are given as a sorted tuple of non-negative ints. Floats go through the compiled loops of
folds.py: sums are accurate for any length, NaN and Inf pass as in NumPy, and the bits do not
depend on the number of threads. Integers and masks go to NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from minigrad.kernels import host, jit
from minigrad.kernels.ufunc import ufunc

Array = np.ndarray

_CORE = {"along": "(n)->()", "across": "(n,i)->(i)", "running": "(n)->(n)"}
_PLAIN: dict[str, Callable[..., Any]] = {"sum": np.add, "max": np.maximum, "min": np.minimum}


def sum(x: Array, axis: tuple[int, ...], keepdims: bool = False) -> Array:
    """The sum over `axis`; 0 of nothing."""
    return _fold("sum", x, axis, keepdims)


def max(x: Array, axis: tuple[int, ...], keepdims: bool = False) -> Array:
    """The largest over `axis`; NaN if any is. Raises ValueError over an empty axis."""
    return _fold("max", x, axis, keepdims)


def min(x: Array, axis: tuple[int, ...], keepdims: bool = False) -> Array:
    """The smallest over `axis`; NaN if any is. Raises ValueError over an empty axis."""
    return _fold("min", x, axis, keepdims)


def cumsum(x: Array, axis: int) -> Array:
    """y[k] = x[0] + ... + x[k] along `axis`."""
    if x.dtype.kind != "f" or jit.mode() == "plain":
        with np.errstate(all="ignore"):
            return np.cumsum(x, axis)
    y = np.empty(x.shape, x.dtype)
    loop = _loop("sum", "running", x.dtype)
    loop(np.moveaxis(x, axis, -1), out=np.moveaxis(y, axis, -1))
    return y


def _fold(fold: str, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    shape, runs = _plan(x.shape, axis, keepdims)
    if fold != "sum" and any(x.shape[i] == 0 for i in axis):
        raise ValueError(f"{fold}: {list(x.shape)} has an empty axis in {axis}; no {fold} there")
    if x.dtype.kind != "f" or jit.mode() == "plain":
        with np.errstate(all="ignore"):
            return np.asarray(_PLAIN[fold].reduce(x, axis)).reshape(shape)  # type: ignore[attr-defined]
    if not x.size:
        return np.zeros(shape, x.dtype)
    y = x
    for start, stop in runs:
        y = _fold_run(fold, y, start, stop)
    y = y if y is not x else x.copy()
    return y if y.shape == shape else y.reshape(shape)


@lru_cache(maxsize=4096)
def _plan(
    shape: tuple[int, ...], axis: tuple[int, ...], keepdims: bool
) -> tuple[tuple[int, ...], list[tuple[int, int]]]:
    """The result's shape; runs of neighbouring axes, last first: (0, 2, 3) -> (2, 4), (0, 1)."""
    kept = [1 if i in axis else n for i, n in enumerate(shape) if keepdims or i not in axis]
    runs: list[tuple[int, int]] = []
    for i in axis:
        if runs and runs[-1][1] == i:
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    return tuple(kept), runs[::-1]


def _fold_run(fold: str, x: Array, start: int, stop: int) -> Array:
    """Axes start .. stop-1 folded, by the loop that reads memory in order."""
    outer, inner = x.shape[:start], x.shape[stop:]
    n = math.prod(x.shape[start:stop])
    if inner:
        rows = x if stop - start == len(inner) == 1 else x.reshape(*outer, n, math.prod(inner))
    elif outer and x.strides[-1] != x.itemsize and x.strides[start - 1] == x.itemsize:
        outer, inner = outer[:-1], outer[-1:]
        rows = x.reshape(*outer, *inner, n).swapaxes(-1, -2)
    else:
        rows = x if stop - start == 1 else x.reshape(*outer, n)
        rows = rows if rows.strides[-1] else rows.copy()  # broadcast: `along` reads what is there
        return np.asarray(_loop(fold, "along", x.dtype)(rows))
    if rows.strides[-1] != x.itemsize and rows.strides[-2] == x.itemsize:
        y = _loop(fold, "along", x.dtype)(rows.swapaxes(-1, -2))
    else:
        y = _loop(fold, "across", x.dtype)(rows)
    return y if len(inner) == 1 else y.reshape(*outer, *inner)


@cache
def _loop(fold: str, way: str, dtype: np.dtype) -> Callable[..., Any]:
    lanes = 4 * host.lanes(dtype.itemsize)  # four registers: enough sums under way at once
    text = jit.source(
        Path(__file__).with_name("folds.py"), FOLD=fold, ITEMSIZE=dtype.itemsize, LANES=lanes
    )
    kernel = jit.build(f"{fold}_{way}", text, {way: jit.LOOP})
    return ufunc(f"{fold}_{way}", kernel[way], f"{dtype.char}->{dtype.char}", _CORE[way])
