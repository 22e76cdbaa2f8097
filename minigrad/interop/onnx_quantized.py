"""Quantised nodes: weights as the floats that the integers mean, and nothing rounded on the way.

DynamicQuantizeLSTM                     an LSTM (onnxruntime's own node)
QuantizeLinear, DynamicQuantizeLinear   what they read, on the scale of the integers
MatMulInteger, DequantizeLinear         as they are, of integers and of such values
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..tensors import Tensor, as_tensor
from .base import Array, ConversionError
from .onnx_functions import Factory, data, simple
from .onnx_weights import Constants


def dynamic_quantize_lstm(
    what: str, inputs: list[str], constants: Constants, dequantize: bool
) -> list[str]:
    """The inputs of the LSTM that a DynamicQuantizeLSTM approximates; adds its W and R.

    w = (q - zero_point) * scale, q (D, I, 4H) of 8 bits, a scale for each direction, or for each
    direction and column. onnxruntime rounds x and h to 8 bits at each step too; the LSTM does not.
    Raises ConversionError unless `dequantize`.
    """
    if not dequantize:
        raise ConversionError(
            f"import_onnx: {what} has weights of 8 bits and rounds x and h to 8 bits at each step; "
            f"import_onnx(..., dequantize=True) makes it an LSTM with the weights that they mean, "
            f"which rounds nothing."
        )
    names = inputs + [""] * 12
    turned = []
    for name, scale, zero in ((names[1], *names[8:10]), (names[2], *names[10:12])):
        arrays = [constants.get(n) for n in (name, scale, zero)]
        turned.append(f"{name} dequantized")
        constants[turned[-1]] = _dequantized(what, name, *arrays)
        constants.sources[turned[-1]] = frozenset([name])
    return [names[0], *turned, *names[3:8]]


def _dequantized(
    what: str, name: str, q: Array | None, scale: Array | None, zero: Array | None
) -> Array:
    """(D, 4H, I) of float32."""
    if q is None or scale is None or zero is None or q.ndim != 3 or q.dtype.kind not in "iu":
        raise ConversionError(
            f"import_onnx: {what}: expected {name!r} as integers (D, I, 4H), its scale and its "
            f"zero point, all constants."
        )
    D, _, columns = q.shape
    for array in (scale, zero):
        if array.shape not in ((D,), (D, columns)):
            raise ConversionError(
                f"import_onnx: {what}: a scale or a zero point of {name!r} is "
                f"{list(array.shape)}; expected {[D]} or {[D, columns]}."
            )
    scale, zero = (a.reshape(D, 1, -1) for a in (scale, zero))
    w = (q.astype(np.int32) - zero.astype(np.int32)).astype(np.float32) * scale
    return np.ascontiguousarray(w.swapaxes(1, 2))


def _along(x: Any, parameter: Any, axis: int) -> Array:
    """A scale or a zero point as it goes with x: one number, or one for each place of an axis."""
    parameter = np.asarray(data(parameter))
    if parameter.size == 1 or not x.ndim:
        return parameter.reshape(())
    return parameter.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])


def _less(x: Any, zero: Any, axis: int) -> Any:
    """x less its zero point: integers of integers, so that nothing is rounded."""
    if zero is None:
        return x
    zero = _along(x, zero, axis)
    if isinstance(x, Tensor):
        return x - zero.astype(x.dtype)
    return x.astype(np.int32) - zero.astype(np.int32)


def dequantized(x: Any, scale: Any, zero: Any = None, axis: int = 1) -> Tensor:
    """DequantizeLinear: (x - zero) * scale."""
    scale = _along(x, scale, axis)
    x = _less(x, zero, axis)
    return (x if isinstance(x, Tensor) else as_tensor(x.astype(scale.dtype))) * scale


def unrounded(x: Any, scale: Any, zero: Any = None, axis: int = 1) -> Tensor:
    """QuantizeLinear without rounding and limits: x / scale + zero."""
    x, scale = as_tensor(x), _along(x, scale, axis)
    y = x / scale
    return y if zero is None else y + _along(x, zero, axis).astype(scale.dtype)


def integer_matmul(a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Any:
    """MatMulInteger: (a - a_zero) (b - b_zero), a zero point of each row of a, each column of b."""
    a, b = _less(a, a_zero, -2), _less(b, b_zero, -1)
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        dtype = a.dtype if isinstance(a, Tensor) else b.dtype
        a, b = (m if isinstance(m, Tensor) else as_tensor(m.astype(dtype)) for m in (a, b))
        return ops.matmul(a, b)
    return np.matmul(a.astype(np.int32), b.astype(np.int32))


def rounding(op: str, what: str, attributes: dict[str, Any], dequantize: bool) -> Any:
    """A node that rounds to integers, as a function. ConversionError unless `dequantize`."""
    if not dequantize:
        raise ConversionError(
            f"import_onnx: {what} rounds to integers; import_onnx(..., dequantize=True) leaves the "
            f"rounding out."
        )
    return ROUNDING[op](what, attributes, 1)


QUANTIZED: dict[str, Callable[..., list[str]]] = {"DynamicQuantizeLSTM": dynamic_quantize_lstm}
ROUNDING: dict[str, Factory] = {
    "DynamicQuantizeLinear": simple(lambda x: (as_tensor(x), np.float32(1), np.uint8(0))),
    "QuantizeLinear": simple(unrounded, "axis"),
}
INTEGERS: dict[str, Factory] = {
    "DequantizeLinear": simple(dequantized, "axis"),
    "MatMulInteger": simple(integer_matmul),
}
