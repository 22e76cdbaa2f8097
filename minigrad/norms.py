"""The Euclidean norm where squares would leave the range of a float, in one place.

What is summed is scaled by its largest element, so that neither 1e-30 (float32) nor 1e-300
(float64) squared is lost, and neither overflows. NaN and Inf stay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray


def norm(x: Any, axis: int = -1, xp: Any = np) -> Any:
    """sqrt(sum of x^2) along an axis, which stays with one element.

    xp: whose functions compute it: NumPy's, or those of `minigrad.ops`, which also write it down
    in a step that is being compiled.
    """
    peak = xp.max(xp.abs(x), axis=axis, keepdims=True)
    usual = xp.logical_and(xp.greater(peak, 0.0), xp.less(peak, math.inf))
    scale = xp.where(usual, peak, 1.0)
    return scale * xp.sqrt(xp.sum(xp.square(x / scale), axis=axis, keepdims=True))


def row_norms(x: Any, dtype: Any = np.float64) -> Array:
    """The norm over the last axis, one for each row of what comes before it: (..., n) -> (rows,).

    >>> row_norms([[3e-200, 4e-200], [0.0, np.inf]])
    array([5.e-200,     inf])
    """
    x = np.asarray(x, dtype)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]) if x.ndim else x.reshape(1, 1)
    if not rows.size:
        return np.zeros(len(rows), dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(norm(rows)[:, 0])


def joint_norm(arrays: Sequence[Array], p: float = 2.0) -> tuple[float, float]:
    """(largest |x|, the p-norm of all the arrays together divided by that): their product is it."""
    peaks = [np.max(np.abs(x), initial=0.0) for x in arrays]
    peak = float(np.max(peaks, initial=0.0))  # NaN if any is: Python's max() may miss one
    if p == np.inf or peak == 0.0 or not np.isfinite(peak):
        return peak, 1.0
    powers = [np.sum((np.abs(x, dtype=np.float64) / peak) ** p) for x in arrays]
    return peak, float(np.sum(powers) ** (1 / p))
