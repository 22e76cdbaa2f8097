"""Arithmetic with broadcasting, and the choices between two numbers."""

from __future__ import annotations

import math

import numpy as np

from .. import scalar
from ..kinds import elementwise


@elementwise(symbol="+", method=False, notation="{0} + {1}", integers=np.add, cheap=True)
def add(a, b):
    """y = a + b.  The gradient passes to both sides unchanged: the short cut of the LSTM's cell."""
    return a + b


@elementwise(
    symbol="−", method=False, notation="{0} − {1}", integers=np.subtract, cheap=True
)  # fmt: skip
def subtract(a, b):
    """y = a - b."""
    return a - b


@elementwise(
    symbol="×", method=False, notation="{0} × {1}", integers=np.multiply, cheap=True
)  # fmt: skip
def multiply(a, b):
    """y = a * b.  Each side scales the other's gradient: what a gate does."""
    return a * b


@elementwise(symbol="÷", method=False, notation="{0} ÷ {1}", domain=(0.5, 3.0))
def divide(a, b):
    """y = a / b.  Division by zero gives Inf or NaN, as in NumPy."""
    return a / b


@elementwise(symbol="−", integers=np.negative, cheap=True)
def negative(x):
    """y = -x."""
    return -x


@elementwise(symbol="x²", integers=np.square, cheap=True)
def square(x):
    """y = x * x."""
    return x * x


@elementwise(name="pow", method=False, domain=(0.3, 3.0), integers=np.power)
def float_power(a, b):
    """y = a ** b; NaN where a < 0 and b is no integer. `power` is the public name."""
    return scalar.pow(a, b)


@elementwise(symbol="|x|", integers=np.absolute, cheap=True)
def abs(x):
    """y = |x|.  Slope 0 at 0."""
    return scalar.abs(x)


@elementwise(cheap=True)
def sign(x):
    """y = -1, 0 or 1.  Its gradient is 0 everywhere."""
    return scalar.sign(x)


@elementwise(symbol="max", method=False, integers=np.maximum, cheap=True)
def maximum(a, b):
    """y = max(a, b); NaN if either is.  Where a = b each side receives half of the gradient."""
    return scalar.maximum(a, b)


@elementwise(symbol="min", method=False, integers=np.minimum, cheap=True)
def minimum(a, b):
    """y = min(a, b); NaN if either is.  Where a = b each side receives half of the gradient."""
    return scalar.minimum(a, b)


@elementwise(integers=np.clip, cheap=True)
def clip(x, low=-math.inf, high=math.inf):
    """y = min(max(x, low), high).  The gradient goes to x inside, else to the bound."""
    return scalar.minimum(scalar.maximum(x, low), high)


@elementwise(symbol="⌊x⌋", integers=np.positive, cheap=True)
def floor(x):
    """y = the largest integer that is not above x.  Its gradient is 0 everywhere."""
    return scalar.floor(x)


@elementwise(name="round", integers=np.positive, cheap=True, method=False)
def nearest(x):
    """y = the integer next to x, the even one of two.  Its gradient is 0 everywhere."""
    size = scalar.abs(x)
    below = scalar.floor(size)
    part, odd = size - below, scalar.remainder(below, 2.0)
    up = (part > 0.5) | ((part == 0.5) & (odd == 1.0))
    whole = scalar.where(up, below + 1.0, below)
    return scalar.where(x < 0.0, -whole, whole)


@elementwise(symbol="%", method=False, domain=(0.5, 3.0), integers=np.remainder)
def remainder(a, b):
    """y = a % b = a - b floor(a / b), of b's sign; NaN for b = 0.  Slope 1 in a."""
    return scalar.remainder(a, b)


@elementwise(symbol="//", method=False, domain=(0.5, 3.0), integers=np.floor_divide)
def floor_divide(a, b):
    """y = a // b, the integer of which a = b y + a % b.  Its gradient is 0 everywhere."""
    part = scalar.remainder(a, b)
    near = (a - part) / b
    below = scalar.floor(near)
    whole = scalar.where(near - below > 0.5, below + 1.0, below)
    whole = scalar.where(scalar.abs(part) == math.inf, -1.0, whole)  # b = Inf, of another sign
    return scalar.where(b == 0.0, a / b, whole)
