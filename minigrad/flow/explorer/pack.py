"""Arrays as text for a page: 16 bits a number, in base64, decoded by the page's decode.js.

Values of states and gates lie in a narrow range and are quantised evenly; gradients span many
decades and are quantised by their logarithm, sign apart. Zero, NaN and the infinities have codes
of their own, because what matters most in a gradient is whether it is one of them.

    linear  x = lo + code / 65532 * (hi - lo)                        error <= (hi - lo) / 131064
    log     |x| = 10^(lo + (code - 1) / 32763 * (hi - lo)), 0 is 0   error <= 0.2 % over 50 decades
"""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

Array = np.ndarray

LINEAR_TOP = 65532  # 65533, 65534, 65535 are -Inf, +Inf, NaN
LOG_TOP = 32764  # 1 ... 32764 are magnitudes, 0 is zero, 32765 Inf, 32766 NaN; bit 15 is the sign
SIGN = 0x8000
DIGITS = 5  # of a plain number in the JSON: more than any reader compares


def linear(values: Array) -> dict[str, Any]:
    """An array on an even scale from its least to its largest finite value.

    >>> packed = linear(np.array([0.0, 0.25, 1.0]))
    >>> packed["code"], packed["lo"], packed["hi"], unpack(packed).round(4).tolist()
    ('linear', 0.0, 1.0, [0.0, 0.25, 1.0])
    """
    x = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(x)
    lo, hi = (float(x[finite].min()), float(x[finite].max())) if finite.any() else (0.0, 0.0)
    # Halves: hi - lo of two numbers near the largest float would overflow.
    span = hi / 2 - lo / 2
    share = (np.where(finite, x, lo) / 2 - lo / 2) / (span if span > 0 else 1.0)
    codes = np.rint(share * LINEAR_TOP).astype(np.uint16)
    codes[np.isneginf(x)], codes[np.isposinf(x)], codes[np.isnan(x)] = 65533, 65534, 65535
    return {"code": "linear", "lo": lo, "hi": hi, "data": _base64(codes)}


def log(values: Array) -> dict[str, Any]:
    """An array on a logarithmic scale, with signs; lo and hi are powers of ten.

    >>> unpack(log(np.array([-0.001, 0.0, 1.0, np.inf, np.nan]))).tolist()
    [-0.001, 0.0, 1.0, inf, nan]
    """
    x = np.asarray(values, dtype=np.float64)
    size = np.abs(x)
    some = np.isfinite(x) & (size > 0)
    power = np.log10(size, where=some, out=np.zeros_like(size))
    lo, hi = (float(power[some].min()), float(power[some].max())) if some.any() else (0.0, 0.0)
    share = (power - lo) / (hi - lo if hi > lo else 1.0)
    codes = np.where(some, 1 + np.rint(share * (LOG_TOP - 1)), 0).astype(np.uint16)
    codes[np.isinf(x)], codes[np.isnan(x)] = 32765, 32766
    codes[np.signbit(x) & ~np.isnan(x) & (size > 0)] |= SIGN
    return {"code": "log", "lo": lo, "hi": hi, "data": _base64(codes)}


def unpack(packed: dict[str, Any]) -> Array:
    """float64, flat: what the page reads from `linear` or `log`; for tests and for other readers.

    Raises ValueError for a code that is neither.
    """
    codes = np.frombuffer(base64.b64decode(packed["data"]), dtype="<u2").astype(np.int64)
    lo, hi = packed["lo"], packed["hi"]
    if packed["code"] == "linear":
        share = codes / LINEAR_TOP
        with np.errstate(over="ignore"):  # of the three codes that are no share
            x = lo * (1 - share) + hi * share
        x[codes == 65533], x[codes == 65534], x[codes == 65535] = -np.inf, np.inf, np.nan
        return x
    if packed["code"] != "log":
        raise ValueError(f"unpack: expected the code 'linear' or 'log', got {packed['code']!r}.")
    size = codes & (SIGN - 1)
    regular = np.minimum(size, LOG_TOP)  # the special codes are no powers
    with np.errstate(over="ignore"):  # the logarithm of the largest number is rounded up
        x = 10.0 ** (lo + (regular - 1) / (LOG_TOP - 1) * (hi - lo))
    x = np.minimum(x, np.finfo(float).max)
    x[size == 0], x[size == 32765], x[size == 32766] = 0.0, np.inf, np.nan
    return np.where(codes & SIGN, -x, x)


def number(x: float) -> float | str:
    """A number for JSON, which has no NaN and no infinities: those become words that JavaScript's
    Number() reads.

    >>> number(1 / 3), number(float("inf")), number(float("nan"))
    (0.33333, 'Infinity', 'NaN')
    """
    x = float(x)
    if math.isnan(x):
        return "NaN"
    if math.isinf(x):
        return "Infinity" if x > 0 else "-Infinity"
    return float(f"{x:.{DIGITS}g}")


def numbers(values: Any) -> list[float | str]:
    """`number` of each."""
    return [number(x) for x in np.asarray(values, dtype=np.float64).ravel()]


def _base64(codes: Array) -> str:
    return base64.b64encode(codes.astype("<u2").tobytes()).decode("ascii")
