"""The plain twins: what elementwise kernels mean, in NumPy. They run under NUMBA_DISABLE_JIT=1."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np


def sigmoid(x: Any) -> Any:
    """1 / (1 + e**-x), without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, np.ones_like(e)) / (1 + e)


def sech2(x: Any) -> Any:
    """1 - tanh(x)**2, without a difference."""
    e = np.exp(-np.abs(x, dtype=np.float64))  # the square doubles the error of float32
    return np.asarray((2 * e / (1 + e * e)) ** 2, x.dtype)


def sigmoid_slope(x: Any) -> Any:
    """sigmoid(x) sigmoid(-x)."""
    e = np.exp(-np.abs(x))
    return e / (1 + e) ** 2


def gauss(x: Any, factor: float = 1.0) -> Any:
    """e**(-factor x**2), with x in two parts, as the square of the first is exact."""
    x = np.minimum(np.abs(x), np.asarray(64, np.result_type(x)))
    high = np.asarray(x, np.float32).astype(np.float64)
    rest = (x - high) * (x + high)
    return np.asarray(np.exp(-factor * high * high) * np.exp(-factor * rest), x.dtype)


def bell(x: Any) -> Any:
    """e**(-x**2 / 2)."""
    return gauss(x, 0.5)


def ndtr(x: Any) -> Any:
    """The normal distribution function, element by element."""
    flat = [_ndtr(v) for v in np.ravel(x).tolist()]
    return np.array(flat, np.result_type(x)).reshape(np.shape(x))


def _ndtr(x: float) -> float:
    z = -x * math.sqrt(0.5)
    if not 0.0 < z < 40.0:
        return math.erfc(z) / 2
    lost = Fraction(z) ** 2 - Fraction(x) ** 2 / 2  # by rounding z, and large in the exponent
    return math.erfc(z) / 2 * math.exp(float(lost))


def erf(x: Any) -> Any:
    """The error function, element by element."""
    return np.array([math.erf(v) for v in np.ravel(x)], np.result_type(x)).reshape(np.shape(x))


_NAMES: dict[str, Any] = {
    "abs": np.abs,
    "bell": bell,
    "cos": np.cos,
    "erf": erf,
    "exp": np.exp,
    "expm1": np.expm1,
    "gauss": gauss,
    "floor": np.floor,
    "isnan": np.isnan,
    "log": np.log,
    "log1p": np.log1p,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "ndtr": ndtr,
    "pow": np.power,
    "select": np.where,
    "sech2": sech2,
    "sigmoid": sigmoid,
    "sigmoid_slope": sigmoid_slope,
    "sign": np.sign,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
}


def element(source: str, signature: str, dtype: np.dtype) -> Callable[..., Any]:
    """The function that `source` (see elementwise.loop) defines, over whole arrays."""
    names = dict(_NAMES, c=dtype.type)
    exec(source, names)
    body = names["element"]
    kinds = {"b": np.dtype(bool), "f": dtype}
    inputs, outputs = ([kinds[char] for char in part] for part in signature.split("->"))

    def run(*operands: Any, out: Any = None) -> Any:
        arrays, given = operands[: len(inputs)], operands[len(inputs) :]
        if [np.result_type(array) for array in arrays] != inputs:
            came = ", ".join(str(np.result_type(array)) for array in arrays)
            raise TypeError(f"element: expected {', '.join(map(str, inputs))}, came {came}.")
        with np.errstate(all="ignore"):  # as kernels do: Inf and NaN pass without a warning
            results = body(*map(np.asarray, arrays))
        results = results if isinstance(results, tuple) else (results,)
        shape = np.broadcast_shapes(*(np.shape(array) for array in arrays))
        places = given or (out if isinstance(out, tuple) else (out,) * len(results))
        made = []
        for result, place, kind in zip(results, places, outputs, strict=True):
            target = np.empty(shape, kind) if place is None else place
            np.copyto(target, result)
            made.append(target if place is not None or shape else target[()])
        return made[0] if len(made) == 1 else tuple(made)

    return run
