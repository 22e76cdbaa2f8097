"""Exponentials, logarithms, roots and the circular functions."""

from __future__ import annotations

from .. import scalar
from ..kinds import elementwise
from .compare import equal, logical_and, where


@elementwise
def exp(x):
    """y = e^x."""
    return scalar.exp(x)


@exp.vjp("x")
def _(g, y):
    return g * y


@elementwise(domain=(0.1, 5.0))
def log(x):
    """y = ln x; -Inf at 0, NaN below."""
    return scalar.log(x)


@log.vjp("x")
def _(g, x):
    return g / x


@elementwise
def expm1(x):
    """y = e^x - 1, accurate near 0."""
    return scalar.expm1(x)


@expm1.vjp("x")
def _(g, x):
    return g * exp(x)


@elementwise(domain=(-0.9, 5.0))
def log1p(x):
    """y = ln(1 + x), accurate near 0."""
    return scalar.log1p(x)


@log1p.vjp("x")
def _(g, x):
    return g / (1.0 + x)


@elementwise(symbol="√", domain=(0.1, 5.0))
def sqrt(x):
    """y = x^(1/2); NaN below 0.  Its slope is Inf at 0."""
    return scalar.sqrt(x)


@sqrt.vjp("x")
def _(g, y):
    # No gradient that comes in is none that goes out: not 0 / 0, which a mask leaves behind.
    root = where(logical_and(equal(g, 0.0), equal(y, 0.0)), 1.0, y)
    return g / (root + root)


@elementwise
def sin(x):
    """y = sin x, x in radians."""
    return scalar.sin(x)


@sin.vjp("x")
def _(g, x):
    return g * cos(x)


@elementwise
def cos(x):
    """y = cos x, x in radians."""
    return scalar.cos(x)


@cos.vjp("x")
def _(g, x):
    return -g * sin(x)
