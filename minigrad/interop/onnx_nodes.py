"""Nodes of ONNX without weights, each as a function of its inputs: shapes, sums, activations.

Floats are Tensors, so gradients flow through them; integers and booleans (sizes, indices, lengths)
are arrays. NODES: operator -> factory(what, attributes, number of outputs) -> function. A factory
raises ConversionError, naming the node, for an attribute that it does not have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .. import ops
from ..tensors import Tensor, as_tensor
from .base import ConversionError, need
from .onnx_functions import FUNCTIONS, Factory, Function, data, simple
from .onnx_quantized import INTEGERS
from .onnx_tensors import HALF

MOST_FILLED = 1 << 28  # elements of a constant whose shape is all that a file says of it


def _integers(values: Any) -> list[int]:
    return [int(v) for v in np.asarray(data(values)).ravel()]


def transpose(x: Any, perm: Sequence[int] | None = None) -> Any:
    """Axes in the order of perm, or reversed."""
    axes = tuple(perm) if perm is not None else tuple(reversed(range(x.ndim)))
    return ops.transpose(x, axes) if isinstance(x, Tensor) else np.transpose(x, axes)


def reshape(x: Any, shape: Any, allowzero: int = 0) -> Any:
    """A 0 stands for the size of x there, unless allowzero."""
    new = [x.shape[i] if n == 0 and not allowzero else n for i, n in enumerate(_integers(shape))]
    return ops.reshape(x, tuple(new)) if isinstance(x, Tensor) else np.reshape(x, new)


def squeeze(x: Any, axes: Any = None) -> Any:
    """Without the axes, or all those of size 1."""
    chosen = [i for i, n in enumerate(x.shape) if n == 1] if axes is None else _integers(axes)
    gone = {axis % x.ndim for axis in chosen}
    for axis in gone:
        if x.shape[axis] != 1:
            raise ConversionError(f"import_onnx: Squeeze of axis {axis} of {list(x.shape)}.")
    return reshape(x, [n for i, n in enumerate(x.shape) if i not in gone], allowzero=1)


def unsqueeze(x: Any, axes: Any) -> Any:
    """With axes of size 1 at the given places of the result."""
    rank = x.ndim + len(_integers(axes))
    new = {axis % rank for axis in _integers(axes)}
    sizes = iter(x.shape)
    return reshape(x, [1 if i in new else next(sizes) for i in range(rank)], allowzero=1)


def concat(*xs: Any, axis: int = 0) -> Any:
    """Joined along an axis."""
    if any(isinstance(x, Tensor) for x in xs):
        return ops.concatenate([as_tensor(x) for x in xs], axis=axis)
    return np.concatenate(xs, axis=axis)


def take(x: Any, indices: Any, axis: int = 0) -> Any:
    """Gather from what is computed; a constant matrix is an Embedding."""
    places = np.asarray(indices)
    return x[(slice(None),) * (axis % x.ndim) + (places if places.ndim else int(places),)]


def take_places(x: Any, indices: Any, batch_dims: int = 0) -> Any:
    """GatherND: the last axis of the indices says where, along the axes behind the first few."""
    places = np.moveaxis(np.asarray(indices), -1, 0)
    grid = np.ogrid[tuple(slice(n) for n in places.shape[1:])] if batch_dims else ()
    return x[(*grid[:batch_dims], *places)]


def chosen(x: Any, indices: Any, axis: int = 0) -> Any:
    """GatherElements: one choice for each place of the indices."""
    indices = np.asarray(indices)
    if x.ndim != indices.ndim:
        raise ConversionError("import_onnx: GatherElements of indices with other axes.")
    grid = list(np.ogrid[tuple(slice(n) for n in indices.shape)])
    grid[axis] = indices
    return x[tuple(grid)]


def part(x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None) -> Any:
    """Slice."""
    starts, ends = _integers(starts), _integers(ends)
    axes = range(len(starts)) if axes is None else _integers(axes)
    steps = [1] * len(starts) if steps is None else _integers(steps)
    index = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[axis] = _clamped(x.shape[axis], start, end, step)
    return x[tuple(index)]


def _clamped(n: int, start: int, end: int, step: int) -> slice:
    """A slice as ONNX means it: backwards, a start before the first element is the first."""
    if not step:
        raise ConversionError("import_onnx: Slice with a step of 0.")
    start, end = (i + n if i < 0 else i for i in (start, end))
    if step > 0:
        return slice(min(max(start, 0), n), min(max(end, 0), n), step)
    start, end = min(max(start, 0), n - 1), min(max(end, -1), n - 1)
    return slice(start, end if end >= 0 else None, step) if start >= 0 else slice(0, 0)


def shape_of(x: Any, start: int = 0, end: int | None = None) -> Any:
    """The sizes of x, or of its axes from start to end."""
    return np.array(x.shape[start:end], np.int64)


def expand(x: Any, shape: Any) -> Any:
    """Broadcast to a shape; a size of 1 there takes x's own."""
    new = np.broadcast_shapes(x.shape, tuple(_integers(shape)))
    if math.prod(new) > max(MOST_FILLED, x.size):
        raise ConversionError(
            f"import_onnx: Expand to {list(new)}; at most {MOST_FILLED:,} elements."
        )
    return ops.broadcast_to(x, new) if isinstance(x, Tensor) else np.broadcast_to(x, new)


def filled(shape: Any, value: Any = None) -> Any:
    """ConstantOfShape."""
    value = np.zeros(1, np.float32) if value is None else np.asarray(value)
    sizes = _integers(shape)
    if math.prod(sizes) > MOST_FILLED or value.size != 1:
        raise ConversionError(
            f"import_onnx: ConstantOfShape of {value.size} values and the shape {sizes}; expected "
            f"one value, and at most {MOST_FILLED:,} elements."
        )
    array = np.full(sizes, value.ravel()[0])
    return as_tensor(array) if array.dtype.kind == "f" else array


def flatten(x: Any, axis: int = 1) -> Any:
    """As a matrix, whose rows are the axes before `axis`."""
    axis += x.ndim * (axis < 0)
    return reshape(x, [math.prod(x.shape[:axis]), math.prod(x.shape[axis:])], allowzero=1)


def tile(x: Any, repeats: Any) -> Any:
    """Copies of x side by side along each axis."""
    times = _integers(repeats)
    sizes = [n for pair in zip(times, x.shape, strict=True) for n in pair]
    ones = [n for size in x.shape for n in (1, size)]
    y = expand(reshape(x, ones, allowzero=1), sizes)
    return reshape(y, [m * n for m, n in zip(times, x.shape, strict=True)], allowzero=1)


def one_hot(indices: Any, depth: Any, values: Any, axis: int = -1) -> Any:
    """values[1] at each index along a new axis, values[0] elsewhere; an index may be negative."""
    indices, (n,), values = np.asarray(indices), _integers(depth), np.asarray(data(values))
    if indices.size * n > MOST_FILLED:
        raise ConversionError(f"import_onnx: OneHot of {list(indices.shape)} and depth {n}.")
    places = np.where(indices < 0, indices + n, indices)
    hit = np.expand_dims(places, axis) == np.arange(n).reshape(
        [-1 if i == axis % (places.ndim + 1) else 1 for i in range(places.ndim + 1)]
    )
    return np.where(hit, values[1], values[0])


def padded(x: Any, pads: Any, value: Any = None, axes: Any = None, mode: str = "constant") -> Any:
    """Pad with a constant; negative pads cut off."""
    if mode != "constant":
        raise ConversionError(f"import_onnx: Pad with mode={mode!r}; expected 'constant'.")
    given, at = _integers(pads), range(x.ndim) if axes is None else _integers(axes)
    widths, index = [(0, 0)] * x.ndim, [slice(None)] * x.ndim
    for axis, before, after in zip(at, given[: len(at)], given[len(at) :], strict=True):
        widths[axis] = max(before, 0), max(after, 0)
        index[axis] = slice(max(-before, 0), x.shape[axis] - max(-after, 0))
    if math.prod(n + sum(w) for n, w in zip(x.shape, widths, strict=True)) > MOST_FILLED:
        raise ConversionError(f"import_onnx: Pad of {list(x.shape)} by {widths}.")
    cut = x[tuple(index)]
    fill = 0 if value is None or not np.size(data(value)) else data(value).item()
    if isinstance(x, Tensor):
        return ops.pad(cut, tuple(widths), float(fill))
    return np.pad(cut, widths, constant_values=fill)


def arange(first: Any, limit: Any, delta: Any) -> Any:
    """Range."""
    start, limit, delta = (np.asarray(data(v)).item() for v in (first, limit, delta))
    if abs(limit - start) > MOST_FILLED * abs(delta):
        raise ConversionError(f"import_onnx: Range of more than {MOST_FILLED:,} elements.")
    return np.arange(start, limit, delta, dtype=np.asarray(data(first)).dtype)


def _dropout(what: str, attributes: dict[str, Any], outputs: int) -> Function:
    def dropout(x: Any, ratio: Any = None, training: Any = None) -> Any:
        if training is not None and np.any(training):
            raise ConversionError(f"import_onnx: {what} is in training mode; export it in eval.")
        return (x, np.ones(x.shape, bool))[:outputs] if outputs > 1 else x

    return dropout


def _split(what: str, attributes: dict[str, Any], outputs: int) -> Function:
    axis = attributes.get("axis", 0)

    def split(x: Any, sizes: Any = None) -> Any:
        n = x.shape[axis]
        each = -(-n // outputs)  # the last one is smaller where it does not come out even
        given = [each] * (outputs - 1) if sizes is None else _integers(sizes)[:-1]
        at = np.cumsum([0, *given, n - sum(given)])
        before = (slice(None),) * (axis % x.ndim)
        return tuple(x[(*before, slice(int(a), int(b)))] for a, b in pairwise(at))

    return split


def _cast(what: str, attributes: dict[str, Any], outputs: int) -> Function:
    helper = need("onnx", "onnx", "ONNX files").helper
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(attributes["to"]))
    if attributes["to"] in HALF:  # as the weights of such a file: nothing is rounded
        dtype = np.dtype(np.float32)
    if dtype.kind not in "fiub":
        raise ConversionError(f"import_onnx: {what} casts to {dtype}; not a dtype of minigrad.")

    def cast(x: Any) -> Any:
        if dtype.kind != "f":
            return np.asarray(x.numpy() if isinstance(x, Tensor) else x).astype(dtype)
        return ops.astype(x, dtype) if isinstance(x, Tensor) else as_tensor(x.astype(dtype))

    return cast


NODES: dict[str, Factory] = {
    **FUNCTIONS,
    **INTEGERS,
    "Cast": _cast,
    "Concat": simple(concat, "axis"),
    "ConstantOfShape": simple(filled, "value"),
    "Dropout": _dropout,
    "Expand": simple(expand),
    "Flatten": simple(flatten, "axis"),
    "Gather": simple(take, "axis"),
    "GatherND": simple(take_places, "batch_dims"),
    "GatherElements": simple(chosen, "axis"),
    "Identity": simple(lambda x: x),
    "OneHot": simple(one_hot, "axis"),
    "Pad": simple(padded, "mode"),
    "Range": simple(arange),
    "Reshape": simple(reshape, "allowzero"),
    "Shape": simple(shape_of, "start", "end"),
    "Size": simple(lambda x: np.array(x.size, np.int64)),
    "Slice": simple(part),
    "Split": _split,
    "Squeeze": simple(squeeze),
    "Tile": simple(tile),
    "Transpose": simple(transpose, "perm"),
    "Unsqueeze": simple(unsqueeze),
}
