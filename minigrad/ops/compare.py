"""Comparisons, logic on masks, and the choice by a mask. Masks carry no gradient."""

from __future__ import annotations

import numpy as np

from .. import scalar
from ..kinds import elementwise


@elementwise(symbol="=", differentiable=False, method=False, integers=np.equal, cheap=True)
def equal(a, b):
    """y = (a == b), a mask."""
    return a == b


@elementwise(symbol="≠", differentiable=False, method=False, integers=np.not_equal, cheap=True)
def not_equal(a, b):
    """y = (a != b), a mask."""
    return a != b


@elementwise(symbol="<", differentiable=False, method=False, integers=np.less, cheap=True)
def less(a, b):
    """y = (a < b), a mask."""
    return a < b


@elementwise(symbol="≤", differentiable=False, method=False, integers=np.less_equal, cheap=True)
def less_equal(a, b):
    """y = (a <= b), a mask."""
    return a <= b


@elementwise(symbol=">", differentiable=False, method=False, integers=np.greater, cheap=True)
def greater(a, b):
    """y = (a > b), a mask."""
    return a > b


@elementwise(symbol="≥", differentiable=False, method=False, integers=np.greater_equal, cheap=True)
def greater_equal(a, b):
    """y = (a >= b), a mask."""
    return a >= b


@elementwise(symbol="and", differentiable=False, method=False, cheap=True)
def logical_and(a: bool, b: bool):
    """y = a and b, on masks."""
    return a & b


@elementwise(symbol="or", differentiable=False, method=False, cheap=True)
def logical_or(a: bool, b: bool):
    """y = a or b, on masks."""
    return a | b


@elementwise(symbol="not", differentiable=False, method=False, cheap=True)
def logical_not(a: bool):
    """y = not a, on masks."""
    return ~a


@elementwise(symbol="?:", method=False, cheap=True)
def where(condition: bool, a, b):
    """y = a where the mask `condition` holds, else b.  The gradient follows the choice."""
    return scalar.where(condition, a, b)


@elementwise(method=False)
def zero_or_nan(x):
    """y = 0, or NaN where x is NaN: the slope of a constant piece, which must not hide a NaN."""
    return scalar.where(x == x, 0.0, x)
