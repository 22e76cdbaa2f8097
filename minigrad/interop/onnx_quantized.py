"""Quantised recurrent nodes of onnxruntime: their weights as the floats that the integers mean."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .base import Array, ConversionError
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


QUANTIZED: dict[str, Callable[..., list[str]]] = {"DynamicQuantizeLSTM": dynamic_quantize_lstm}
