"""Arithmetic with broadcasting, and the choices between two numbers."""

from __future__ import annotations

import math

from .. import scalar
from ..kinds import elementwise


@elementwise(symbol="+", method=False, notation="{0} + {1}", cheap=True)
def add(a, b):
    """y = a + b.  The gradient passes to both sides unchanged: the short cut of the LSTM's cell."""
    return a + b


@elementwise(symbol="−", method=False, notation="{0} − {1}", cheap=True)
def subtract(a, b):
    """y = a - b."""
    return a - b


@elementwise(symbol="×", method=False, notation="{0} × {1}", cheap=True)
def multiply(a, b):
    """y = a * b.  Each side scales the other's gradient: what a gate does."""
    return a * b


@elementwise(symbol="÷", method=False, notation="{0} ÷ {1}", domain=(0.5, 3.0))
def divide(a, b):
    """y = a / b.  Division by zero gives Inf or NaN, as in NumPy."""
    return a / b


@elementwise(symbol="−", cheap=True)
def negative(x):
    """y = -x."""
    return -x


@elementwise(symbol="x²", cheap=True)
def square(x):
    """y = x * x."""
    return x * x


@elementwise(name="pow", method=False, domain=(0.3, 3.0))
def float_power(a, b):
    """y = a ** b; NaN where a < 0 and b is no integer. `power` is the public name."""
    return scalar.pow(a, b)


@elementwise(symbol="|x|", cheap=True)
def abs(x):
    """y = |x|.  Slope 0 at 0."""
    return scalar.abs(x)


@elementwise(cheap=True)
def sign(x):
    """y = -1, 0 or 1.  Its gradient is 0 everywhere."""
    return scalar.sign(x)


@elementwise(symbol="max", method=False, cheap=True)
def maximum(a, b):
    """y = max(a, b); NaN if either is.  Where a = b each side receives half of the gradient."""
    return scalar.maximum(a, b)


@elementwise(symbol="min", method=False, cheap=True)
def minimum(a, b):
    """y = min(a, b); NaN if either is.  Where a = b each side receives half of the gradient."""
    return scalar.minimum(a, b)


@elementwise(cheap=True)
def clip(x, low=-math.inf, high=math.inf):
    """y = min(max(x, low), high).  The gradient goes to x inside, else to the bound."""
    return scalar.minimum(scalar.maximum(x, low), high)
