"""Arithmetic with broadcasting, and the choices between two numbers."""

from __future__ import annotations

import math

from .. import scalar
from ..kinds import elementwise


@elementwise(symbol="+", method=False)
def add(a, b):
    """y = a + b.  The gradient passes to both sides unchanged: the short cut of the LSTM's cell."""
    return a + b


@elementwise(symbol="−", method=False)
def subtract(a, b):
    """y = a - b."""
    return a - b


@elementwise(symbol="×", method=False)
def multiply(a, b):
    """y = a * b.  Each side scales the other's gradient: what a gate does."""
    return a * b


@elementwise(symbol="÷", method=False, domain=(0.5, 3.0))
def divide(a, b):
    """y = a / b.  Division by zero gives Inf or NaN, as in NumPy."""
    return a / b


@elementwise(symbol="−")
def negative(x):
    """y = -x."""
    return -x


@elementwise(symbol="x²")
def square(x):
    """y = x * x."""
    return x * x


@elementwise(name="pow", method=False, domain=(0.3, 3.0))
def float_power(a, b):
    """y = a ** b; NaN where a < 0 and b is no integer. `power` is the public name."""
    return scalar.pow(a, b)


@elementwise(symbol="|x|")
def abs(x):
    """y = |x|.  Slope 0 at 0."""
    return scalar.abs(x)


@elementwise
def sign(x):
    """y = -1, 0 or 1.  Its gradient is 0 everywhere."""
    return scalar.sign(x)


@elementwise(symbol="max", method=False)
def maximum(a, b):
    """y = max(a, b); NaN if either is.  Where a = b each side receives half of the gradient."""
    return scalar.maximum(a, b)


@elementwise(symbol="min", method=False)
def minimum(a, b):
    """y = min(a, b); NaN if either is.  Where a = b each side receives half of the gradient."""
    return scalar.minimum(a, b)


@elementwise
def clip(x, low=-math.inf, high=math.inf):
    """y = min(max(x, low), high).  The gradient goes to x inside, else to the bound."""
    return scalar.minimum(scalar.maximum(x, low), high)
