"""Arithmetic with broadcasting, and the choices between two numbers."""

from __future__ import annotations

import math

from .. import scalar
from ..kinds import elementwise
from .compare import (
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    logical_and,
    where,
    zero_or_nan,
)
from .exponential import log


@elementwise(symbol="+", method=False, notation="{0} + {1}", cheap=True)
def add(a, b):
    """y = a + b.  The gradient passes to both sides unchanged: the short cut of the LSTM's cell."""
    return a + b


@add.vjp("a")
def _(g):
    return g


@add.vjp("b")
def _(g):
    return g


@elementwise(symbol="−", method=False, notation="{0} − {1}", cheap=True)
def subtract(a, b):
    """y = a - b."""
    return a - b


@subtract.vjp("a")
def _(g):
    return g


@subtract.vjp("b")
def _(g):
    return -g


@elementwise(symbol="×", method=False, notation="{0} × {1}", cheap=True)
def multiply(a, b):
    """y = a * b.  Each side scales the other's gradient: what a gate does."""
    return a * b


@multiply.vjp("a")
def _(g, b):
    return g * b


@multiply.vjp("b")
def _(g, a):
    return g * a


@elementwise(symbol="÷", method=False, notation="{0} ÷ {1}", domain=(0.5, 3.0))
def divide(a, b):
    """y = a / b.  Division by zero gives Inf or NaN, as in NumPy."""
    return a / b


@divide.vjp("a")
def _(g, b):
    return g / b


@divide.vjp("b")
def _(g, y, b):
    return -g * y / b


@elementwise(symbol="−", cheap=True)
def negative(x):
    """y = -x."""
    return -x


@negative.vjp("x")
def _(g):
    return -g


@elementwise(symbol="x²", cheap=True)
def square(x):
    """y = x * x."""
    return x * x


@square.vjp("x")
def _(g, x):
    return g * (x + x)


@elementwise(name="pow", method=False, domain=(0.3, 3.0))
def float_power(a, b):
    """y = a ** b; NaN where a < 0 and b is no integer. `power` is the public name."""
    return scalar.pow(a, b)


@float_power.vjp("a")
def _(g, a, b):
    # b = 0 leaves 0 * Inf at a = 0: another exponent there, so that no derivative meets it.
    lost = logical_and(equal(b, 0.0), less(abs(a), 1e-36))
    return g * b * float_power(a, where(lost, 1.0, b - 1.0))


@float_power.vjp("b")
def _(g, y, a, b):
    # 0 ** b has slope 0 in b for b >= 0, where y * log(a) would be 0 * -Inf
    flat = logical_and(equal(a, 0.0), greater_equal(b, 0.0))
    return where(flat, 0.0, g * y * log(where(flat, 1.0, a)))


@elementwise(symbol="|x|", cheap=True)
def abs(x):
    """y = |x|.  Slope 0 at 0."""
    return scalar.abs(x)


@abs.vjp("x")
def _(g, x):
    return g * sign(x)


@elementwise(cheap=True)
def sign(x):
    """y = -1, 0 or 1.  Its gradient is 0 everywhere."""
    return scalar.sign(x)


@sign.vjp("x")
def _(g, x):
    return zero_or_nan(x)


def _shared(g, a, b):
    """What a side receives that was not chosen alone: half where a = b; NaN where one is NaN."""
    return where(equal(a, b), g * 0.5, zero_or_nan(maximum(a, b)))


@elementwise(symbol="max", method=False, cheap=True)
def maximum(a, b):
    """y = max(a, b); NaN if either is.  Where a = b each side receives half of the gradient."""
    return scalar.maximum(a, b)


@maximum.vjp("a")
def _(g, a, b):
    return where(greater(a, b), g, _shared(g, a, b))


@maximum.vjp("b")
def _(g, a, b):
    return where(less(a, b), g, _shared(g, a, b))


@elementwise(symbol="min", method=False, cheap=True)
def minimum(a, b):
    """y = min(a, b); NaN if either is.  Where a = b each side receives half of the gradient."""
    return scalar.minimum(a, b)


@minimum.vjp("a")
def _(g, a, b):
    return where(less(a, b), g, _shared(g, a, b))


@minimum.vjp("b")
def _(g, a, b):
    return where(greater(a, b), g, _shared(g, a, b))


@elementwise(cheap=True)
def clip(x, low=-math.inf, high=math.inf):
    """y = min(max(x, low), high).  The gradient goes to x inside, else to the bound."""
    return scalar.minimum(scalar.maximum(x, low), high)


@clip.vjp("x")
def _(g, x, low, high):
    return where(
        logical_and(greater_equal(x, low), less_equal(x, high)), g, zero_or_nan(clip(x, low, high))
    )


@clip.vjp("low")
def _(g, x, low, high):
    return where(logical_and(less(x, low), less(low, high)), g, zero_or_nan(clip(x, low, high)))


@clip.vjp("high")
def _(g, x, low, high):
    return where(greater(maximum(x, low), high), g, zero_or_nan(clip(x, low, high)))
