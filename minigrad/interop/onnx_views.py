"""Ops that move values, as nodes of ONNX: x[index], shapes, joining, cutting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .base import Array
from .onnx_noted import memory_of
from .onnx_trace import Trace

Names = Sequence[str]
Writer = Callable[[Trace, Names, dict[str, Any], Sequence[Array], Array], str]
_ALL = slice(None)
_FAR = np.iinfo(np.int64).max


def getitem(
    t: Trace, inputs: Sequence[str], params: dict[str, Any], arrays: Sequence[Array], y: Array
) -> str:
    """x[index], with NumPy's meaning."""
    x, rank = inputs[0], arrays[0].ndim
    parts, new = _parts(t, params["index"], rank)
    if any(isinstance(p, slice) and p != _ALL for p in parts):
        x = _sliced(t, x, parts)
    several = sum(isinstance(p, np.ndarray) for p in parts)
    if not several:
        gone = [i for i, p in enumerate(parts) if isinstance(p, int)]
        for axis in reversed(gone):
            x = t.node("Gather", [x, t.constant(np.array(parts[axis]))], axis=axis)
    elif several == 1 and not any(isinstance(p, int) for p in parts):
        axis = next(i for i, p in enumerate(parts) if isinstance(p, np.ndarray))
        x = t.node("Gather", [x, place(t, parts[axis])], axis=axis)
    else:
        x = _together(t, x, parts)
    if new:
        return t.node("Unsqueeze", [x, t.integers(*new)])
    plain = all(isinstance(p, slice) and p == _ALL for p in parts)
    return t.node("Identity", [x]) if plain else x


def _parts(t: Trace, index: Any, rank: int) -> tuple[list[Any], list[int]]:
    """What is asked of each axis of x, an int, a slice or an array of integers; and which axes of
    the result are new.
    """
    given = list(index) if isinstance(index, tuple) else [index]
    expanded: list[Any] = []
    for part in given:
        array = part if isinstance(part, (np.ndarray, list)) else None
        if array is not None and np.asarray(array).dtype.kind == "b":
            expanded += np.nonzero(np.asarray(array))  # of a constant: others were refused
        elif array is not None or isinstance(part, np.integer):
            expanded.append(np.asarray(array) if array is not None else int(part))
        else:
            expanded.append(part)
    taken = sum(p is not None and p is not ... for p in expanded)
    if not any(p is ... for p in expanded):
        expanded.append(...)
    at = next(i for i, p in enumerate(expanded) if p is ...)
    expanded[at : at + 1] = [_ALL] * (rank - taken)
    arrays = any(isinstance(p, np.ndarray) for p in expanded)
    if arrays and any(p is None for p in expanded):
        t.refuse("x[...] with an array of indices and a new axis: first the one, then the other")
    new, before = [], 0
    for part in expanded:
        if part is None:
            new.append(before)
        before += part is None or isinstance(part, slice)
    return [p for p in expanded if p is not None], new


def _sliced(t: Trace, x: str, parts: list[Any]) -> str:
    starts, ends, axes, steps = [], [], [], []
    for axis, part in enumerate(parts):
        if isinstance(part, slice) and part != _ALL:
            step = 1 if part.step is None else int(part.step)
            first, last = (0, _FAR) if step > 0 else (_FAR, -_FAR)
            starts.append(first if part.start is None else int(part.start))
            ends.append(last if part.stop is None else int(part.stop))
            axes.append(axis)
            steps.append(step)
    return t.node("Slice", [x, *(t.integers(*each) for each in (starts, ends, axes, steps))])


def place(t: Trace, indices: Any) -> str:
    """Integers as int64, which all operators take."""
    name = t.name(indices)
    if memory_of(indices).dtype == np.int64:
        return name
    return t.node("Cast", [name], to=np.dtype(np.int64))


def _together(t: Trace, x: str, parts: list[Any]) -> str:
    """Several arrays of indices, or one beside an int: they broadcast, and each place is one."""
    at = [i for i, p in enumerate(parts) if not isinstance(p, slice)]
    rest = [i for i in range(len(parts)) if i not in at]
    x = t.node("Transpose", [x], perm=at + rest)
    indices = [np.asarray(parts[i]) for i in at]
    shape = np.broadcast_shapes(*(p.shape for p in indices))
    wide = []
    for part in indices:
        name = place(t, part)
        if part.shape != shape:
            name = t.node("Expand", [name, t.integers(*shape)])
        wide.append(t.node("Unsqueeze", [name, t.integers(len(shape))]))
    x = t.node("GatherND", [x, t.node("Concat", wide, axis=-1)])
    first = at[0]
    if at != list(range(first, first + len(at))) or not first:
        return x  # apart, they come first in NumPy
    n = len(shape)  # moved behind the axes that lie before them
    order = [*range(n, n + first), *range(n), *range(n + first, n + len(rest))]
    return t.node("Transpose", [x], perm=order)


# -- shapes, joining, cutting ----------------------------------------------------------------------


def _shaped(op: str) -> Writer:
    def write(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
        empty: dict[str, Any] = {"allowzero": 1} if op == "Reshape" and 0 in params["shape"] else {}
        return t.node(op, [*inputs, t.integers(*params["shape"])], **empty)

    return write


def _transpose(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
    return t.node("Transpose", inputs, perm=list(params["axes"]))


def _swapaxes(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
    order, (i, j) = list(range(y.ndim)), (params["axis1"], params["axis2"])
    order[i], order[j] = j, i
    return t.node("Transpose", inputs, perm=order)


def _expand_dims(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
    return t.node("Unsqueeze", [*inputs, t.integers(params["axis"])])


def _squeeze(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
    if not params["axis"]:
        return t.node("Identity", inputs)
    return t.node("Squeeze", [*inputs, t.integers(*params["axis"])])


def _concatenate(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
    return t.node("Concat", inputs, axis=params["axis"])


def _stack(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
    axis = params["axis"]
    return t.node("Concat", [t.node("Unsqueeze", [x, t.integers(axis)]) for x in inputs], axis=axis)


def _flip(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
    index = [slice(None)] * y.ndim
    for axis in params["axis"]:
        index[axis] = slice(None, None, -1)
    return getitem(t, inputs, {"index": tuple(index)}, arrays, y)


def _roll(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
    axis, n = params["axis"], max(y.shape[params["axis"]], 1)
    lead, cut = (slice(None),) * axis, n - params["shift"] % n
    parts = [(*lead, slice(cut, None)), (*lead, slice(0, cut))]
    return t.node("Concat", [getitem(t, inputs, {"index": p}, arrays, y) for p in parts], axis=axis)


def _pad(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
    if not y.ndim:
        return t.node("Identity", inputs)
    widths = params["pad_width"]
    pads = t.integers(*(a for a, _ in widths), *(b for _, b in widths))
    return t.node("Pad", [*inputs, pads, t.constant(np.array(params["value"], y.dtype))])


def _astype(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
    if arrays[0].dtype == y.dtype:
        return t.node("Identity", inputs)
    return t.node("Cast", inputs, to=y.dtype)


VIEWS: dict[str, Writer] = {
    "astype": _astype,
    "broadcast_to": _shaped("Expand"),
    "concatenate": _concatenate,
    "expand_dims": _expand_dims,
    "flip": _flip,
    "getitem": getitem,
    "pad": _pad,
    "reshape": _shaped("Reshape"),
    "roll": _roll,
    "squeeze": _squeeze,
    "stack": _stack,
    "swapaxes": _swapaxes,
    "transpose": _transpose,
}
