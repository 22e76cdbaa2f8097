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
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from minigrad.kernels import jit, threads
from minigrad.kernels.compiler import build
from minigrad.kernels.ufuncs import LOOP, ufunc
from minigrad.kernels.work import ENTRY

Array = np.ndarray

_CORE = {"along": "(n)->()", "across": "(n,i)->(i)", "running": "(n)->(n)"}


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
    if x.dtype.kind != "f" or jit.mode() != "native":
        with np.errstate(all="ignore"):
            return np.cumsum(x, axis)
    y = np.empty(x.shape, x.dtype)
    loop = _loop("sum", "running", x.dtype)
    loop(np.moveaxis(x, axis, -1), out=np.moveaxis(y, axis, -1))
    return y


class _Step(NamedTuple):
    """One call of a loop, on x.reshape(shape), turned or copied by `view`; None: as it is."""

    loop: Callable[..., Any]
    shape: tuple[int, ...] | None
    view: Callable[[Array], Array] | None


# How arrays of one layout are reduced: the steps and the shape of the result. Finding it out costs
# more than a small reduction.
_Plan = tuple[list[_Step], tuple[int, ...]]
_plans: dict[Any, _Plan] = {}


def _fold(fold: str, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    key = fold, x.dtype, x.shape, x.strides, axis, keepdims
    plan = _plans.get(key) or _make_plan(key, x)
    if plan is _NUMPY:
        return _numpy(fold, x, axis, keepdims)
    steps, shape = plan
    y = x
    for loop, view_shape, view in steps:
        if view_shape is not None:
            y = y.reshape(view_shape)
        y = loop(y if view is None else view(y))
    if not steps:
        return x.copy()
    return np.asarray(y) if y.shape == shape else y.reshape(shape)


_NUMPY: _Plan = ([], ())
_Call = tuple[Callable[..., Any], tuple[Any, ...]]


def calls(fold: str, x: Array, axis: tuple[int, ...], y: Array) -> list[_Call]:
    """The calls that write a fold ("sum", "max", "min") of x into y, a contiguous array.

    Prepared once, for arrays that stay where they are. Empty where NumPy does it.
    """
    key = fold, x.dtype, x.shape, x.strides, axis, False
    plan = _plans.get(key) or _make_plan(key, x)
    if plan is _NUMPY:
        return []
    found: list[_Call] = []
    steps = plan[0]
    if not steps:
        return [(y.__setitem__, (..., x.reshape(y.shape)))]
    for k, (loop, shape, view) in enumerate(steps):
        rows = _seen(x, shape, view)
        if not np.may_share_memory(rows, x):
            found.append((_copy, (rows, x, shape, view)))
        folded = np.asarray(loop(rows))
        target = folded if k < len(steps) - 1 else y.reshape(folded.shape)
        found.append((loop, (rows, target)))
        x = target
    return found


def _seen(x: Array, shape: tuple[int, ...] | None, view: Callable[[Array], Array] | None) -> Array:
    rows = x if shape is None else x.reshape(shape)
    return rows if view is None else view(rows)


def _copy(rows: Array, x: Array, shape: Any, view: Any) -> None:
    rows[...] = _seen(x, shape, view)


def _numpy(fold: str, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
    if fold != "sum" and any(x.shape[i] == 0 for i in axis):
        raise ValueError(f"{fold}: {list(x.shape)} has an empty axis in {axis}; no {fold} there")
    functions: dict[str, Any] = {"sum": np.add, "max": np.maximum, "min": np.minimum}
    with np.errstate(all="ignore"):
        return np.asarray(functions[fold].reduce(x, axis, keepdims=keepdims))


def _make_plan(key: Any, x: Array) -> _Plan:
    fold, dtype, _, _, axis, keepdims = key
    if dtype.char not in "fd" or jit.mode() != "native" or not x.size:
        return _NUMPY
    runs: list[tuple[int, int]] = []  # of neighbouring axes: (0, 2, 3) -> (0, 1), (2, 4)
    for i in axis:
        if runs and runs[-1][1] == i:
            runs[-1] = runs[-1][0], i + 1
        else:
            runs.append((i, i + 1))
    steps, y = [], x
    for start, stop in reversed(runs):
        rest = y.shape[:start] + y.shape[stop:]
        step, y = _step(fold, y, start, stop)
        steps.append(step)
        y = np.asarray(y).reshape(rest)
    kept = (1 if i in axis else n for i, n in enumerate(x.shape) if keepdims or i not in axis)
    if len(_plans) >= 4096:
        _plans.clear()
    _plans[key] = steps, tuple(kept)
    return _plans[key]


def _step(fold: str, x: Array, start: int, stop: int) -> tuple[_Step, Array]:
    """Axes start .. stop-1 folded, by the loop that reads memory in order; and the result."""
    outer, inner = x.shape[:start], x.shape[stop:]
    n = math.prod(x.shape[start:stop])
    shape: tuple[int, ...] | None = None
    view: Callable[[Array], Array] | None = None
    way = "along"
    if inner:
        if (stop - start, len(inner)) != (1, 1):
            shape = *outer, n, math.prod(inner)
        rows = x if shape is None else x.reshape(shape)
        if rows.strides[-1] != x.itemsize and rows.strides[-2] == x.itemsize:
            view = _turned
        else:
            way = "across"
    elif outer and x.strides[-1] != x.itemsize and x.strides[start - 1] == x.itemsize:
        shape, way, view = (*outer, n), "across", _turned
    else:
        if stop - start > 1:
            shape = *outer, n
        rows = x if shape is None else x.reshape(shape)
        if rows.strides[-1] == 0:  # broadcast: `along` reads what is there
            view = _copied
    step = _Step(_loop(fold, way, x.dtype), shape, view)
    rows = x if shape is None else x.reshape(shape)
    return step, step.loop(rows if view is None else view(rows))


def _turned(x: Array) -> Array:
    return x.swapaxes(-1, -2)


def _copied(x: Array) -> Array:
    return x.copy()


_TEXT = """from numba import {dtype}, int32, int64

from minigrad.kernels.folds import OWN, {function}, divided, own_part
from minigrad.kernels.intrinsics import array, stack, static


def fold(context, args, dims, steps, auxiliary):
    table = array(static(), 1, int64)
    if dims == 0:  # to hand over the table
        table[0] = args
    elif not divided(table[0], args, dims, steps, {columns}, {size}):
        {function}(args, dims, steps, {arguments})
    return int32(0)


def share(job, index):
    own = array(stack(OWN, int64), OWN, int64)
    own_part(job, index, own, {columns})
    first = int64(own.ctypes.data)
    {function}(first, first + 16, first + 40, {arguments})
"""
_RUNNING = """from numba import {dtype}, int32

from minigrad.kernels.folds import running


def fold(context, args, dims, steps, auxiliary):
    running(args, dims, steps, {dtype})
    return int32(0)
"""


@cache
def _loop(fold: str, way: str, dtype: np.dtype) -> Callable[..., Any]:
    """The gufunc of one kind of fold."""
    name, types = f"{fold}_{way}", f"{dtype.char}->{dtype.char}"
    if way == "running":
        kernel = build(name, _RUNNING.format(dtype=dtype.name), {"fold": LOOP})
        return ufunc(name, kernel["fold"], types, _CORE[way])
    text = _TEXT.format(
        dtype=dtype.name,
        function=f"{way}_{'sum' if fold == 'sum' else 'extreme'}",
        arguments=dtype.name + {"sum": "", "max": ", 1", "min": ", -1"}[fold],
        columns=int(way == "across"),
        size=dtype.itemsize,
    )
    kernel = build(name, text, {"fold": LOOP, "share": ENTRY})
    pool = threads.links()["minigrad_parallel_for"]
    table = jit.for_good(np.array([kernel["share"], pool], np.int64))
    kernel.function("fold")(0, table.ctypes.data, 0, 0, 0)
    return ufunc(name, kernel["fold"], types, _CORE[way])
