"""Exponentials, logarithms, roots and the circular functions."""

from __future__ import annotations

import math

from .. import scalar
from ..kinds import elementwise


@elementwise
def exp(x):
    """y = e^x, within 1.1 ulp."""
    return scalar.exp(x)


@elementwise(domain=(0.1, 5.0))
def log(x):
    """y = ln x; -Inf at 0, NaN below."""
    return scalar.log(x)


@elementwise
def expm1(x):
    """y = e^x - 1, accurate near 0."""
    return scalar.expm1(x)


@elementwise(domain=(-0.9, 5.0))
def log1p(x):
    """y = ln(1 + x), accurate near 0."""
    return scalar.log1p(x)


@elementwise(symbol="√", domain=(0.1, 5.0))
def sqrt(x):
    """y = x^(1/2); NaN below 0.  Its slope is Inf at 0."""
    return scalar.sqrt(x)


@elementwise
def sin(x):
    """y = sin x, x in radians."""
    return scalar.sin(x)


@elementwise
def cos(x):
    """y = cos x, x in radians."""
    return scalar.cos(x)


@elementwise(domain=(0.1, 5.0))
def log2(x):
    """y = log x / log 2, exact for powers of two."""
    y = scalar.log(x) * (1.0 / math.log(2.0))
    near = scalar.floor(y + 0.5)
    return scalar.where(scalar.pow(2.0, near) == x, near, y)
