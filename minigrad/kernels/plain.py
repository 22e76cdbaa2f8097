"""The plain twins: what elementwise kernels mean, in NumPy. They run under NUMBA_DISABLE_JIT=1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np


def sigmoid(x: Any) -> Any:
    """1 / (1 + e**-x), without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, np.ones_like(e)) / (1 + e)


def erf(x: Any) -> Any:
    """The error function, element by element."""
    return np.array([math.erf(v) for v in np.ravel(x)], np.result_type(x)).reshape(np.shape(x))


_NAMES: dict[str, Any] = {
    "abs": np.abs,
    "cos": np.cos,
    "erf": erf,
    "exp": np.exp,
    "expm1": np.expm1,
    "floor": np.floor,
    "isnan": np.isnan,
    "log": np.log,
    "log1p": np.log1p,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "pow": np.power,
    "select": np.where,
    "sigmoid": sigmoid,
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
