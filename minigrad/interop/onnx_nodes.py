"""Nodes of ONNX without weights, each as a function of its inputs: shapes, sums, activations.

Floats are Tensors, so gradients flow through them; integers and booleans (sizes, indices, lengths)
are arrays. NODES: operator -> factory(what, attributes, number of outputs) -> function. A factory
raises ConversionError, naming the node, for an attribute that it does not have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from .. import ops
from ..tensors import Tensor, as_tensor
from .base import ConversionError, need

MOST_FILLED = 1 << 28  # elements of a constant whose shape is all that a file says of it
Function = Callable[..., Any]
Factory = Callable[[str, dict[str, Any], int], Function]


def _simple(function: Function, *known: str) -> Factory:
    """A node that is one function of its inputs, with no attributes but the known ones."""

    def factory(what: str, attributes: dict[str, Any], outputs: int) -> Function:
        if unknown := sorted(set(attributes) - set(known)):
            raise ConversionError(
                f"import_onnx: {what} has the attribute {unknown[0]!r}; not known."
            )
        return function if not attributes else lambda *xs: function(*xs, **attributes)

    return factory


def _of_floats(function: Function) -> Function:
    return lambda x: function(as_tensor(x))


def _both(tensors: Function, arrays: Function) -> Function:
    """Of two values: Tensors if either is one."""

    def function(a: Any, b: Any) -> Any:
        if isinstance(a, Tensor) or isinstance(b, Tensor):
            return tensors(as_tensor(a), as_tensor(b))
        return arrays(a, b)

    return function


def _integers(values: Any) -> list[int]:
    return [int(v) for v in np.asarray(getattr(values, "data", values)).ravel()]


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
    return x[(slice(None),) * (axis % x.ndim) + (np.asarray(indices),)]


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


def quotient(a: Any, b: Any) -> Any:
    """a / b of arrays; integers towards zero, as in C."""
    exact = np.true_divide(a, b)
    if np.result_type(a, b).kind == "f":
        return exact
    return np.trunc(exact).astype(np.result_type(a, b))


def _dropout(what: str, attributes: dict[str, Any], outputs: int) -> Function:
    def dropout(x: Any, ratio: Any = None, training: Any = None) -> Any:
        if training is not None and np.any(training):
            raise ConversionError(f"import_onnx: {what} is in training mode; export it in eval.")
        return x

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
    if dtype.kind not in "fiub" or dtype == np.float16:
        raise ConversionError(f"import_onnx: {what} casts to {dtype}; not a dtype of minigrad.")

    def cast(x: Any) -> Any:
        if dtype.kind != "f":
            return np.asarray(x.numpy() if isinstance(x, Tensor) else x).astype(dtype)
        return ops.astype(x, dtype) if isinstance(x, Tensor) else as_tensor(x.astype(dtype))

    return cast


def _softmax(function: Function) -> Factory:
    def factory(what: str, attributes: dict[str, Any], outputs: int) -> Function:
        axis = attributes.get("axis", -1)
        return lambda x: function(as_tensor(x), axis=axis)

    return factory


def _reduce(function: Function) -> Factory:
    def factory(what: str, attributes: dict[str, Any], outputs: int) -> Function:
        keep = bool(attributes.get("keepdims", 1))

        def reduce(x: Any, axes: Any = None) -> Any:
            given = attributes.get("axes") if axes is None else _integers(axes)
            if not given and attributes.get("noop_with_empty_axes"):
                return x
            axis = tuple(given) if given else None
            return function(as_tensor(x), axis=axis, keepdims=keep)

        return reduce

    return factory


def layer_norm(
    x: Any, scale: Any, bias: Any = None, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Any:
    """(x - mean) / sqrt(var + epsilon) * scale + bias, over the axes from `axis` on."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    deviation = x - ops.mean(x, axis=axes, keepdims=True)
    variance = ops.mean(ops.square(deviation), axis=axes, keepdims=True)
    y = deviation / ops.sqrt(variance + epsilon) * as_tensor(scale)
    return y if bias is None else y + as_tensor(bias)


NODES: dict[str, Factory] = {
    "Add": _simple(_both(ops.add, np.add)),
    "Cast": _cast,
    "Concat": _simple(concat, "axis"),
    "ConstantOfShape": _simple(filled, "value"),
    "Div": _simple(_both(ops.divide, quotient)),
    "Dropout": _dropout,
    "Expand": _simple(expand),
    "Gather": _simple(take, "axis"),
    "Identity": _simple(lambda x: x),
    "LayerNormalization": _simple(layer_norm, "axis", "epsilon", "stash_type"),
    "LogSoftmax": _softmax(ops.log_softmax),
    "MatMul": _simple(_both(ops.matmul, np.matmul)),
    "Mul": _simple(_both(ops.multiply, np.multiply)),
    "ReduceMean": _reduce(ops.mean),
    "ReduceSum": _reduce(ops.sum),
    "Relu": _simple(_of_floats(ops.relu)),
    "Reshape": _simple(reshape, "allowzero"),
    "Shape": _simple(shape_of, "start", "end"),
    "Sigmoid": _simple(_of_floats(ops.sigmoid)),
    "Slice": _simple(part),
    "Softmax": _softmax(ops.softmax),
    "Split": _split,
    "Squeeze": _simple(squeeze),
    "Sub": _simple(_both(ops.subtract, np.subtract)),
    "Tanh": _simple(_of_floats(ops.tanh)),
    "Transpose": _simple(transpose, "perm"),
    "Unsqueeze": _simple(unsqueeze),
}
