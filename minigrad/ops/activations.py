"""The nonlinearities of neural networks."""

from __future__ import annotations

import math

from .. import scalar
from ..kinds import elementwise
from .compare import greater, where
from .exponential import exp


@elementwise
def tanh(x):
    """y = tanh(x).  Slope 1 - y^2 <= 1: one source of vanishing gradients."""
    return scalar.tanh(x)


@tanh.vjp("x")
def _(g, y):
    return g * (1.0 - y * y)


@elementwise(symbol="σ")
def sigmoid(x):
    """y = 1 / (1 + e^-x).  Slope y (1 - y) <= 1/4."""
    return scalar.sigmoid(x)


@sigmoid.vjp("x")
def _(g, y):
    return g * (y * (1.0 - y))


@elementwise
def relu(x):
    """y = max(x, 0).  Slope 1 above 0, and 0 at 0 and below."""
    return scalar.maximum(x, 0.0)


@relu.vjp("x")
def _(g, y):
    return where(greater(y, 0.0), g, 0.0)


@elementwise
def leaky_relu(x, slope=0.01):
    """y = x if x > 0 else slope * x."""
    return scalar.where(x > 0.0, x, slope * x)


@leaky_relu.vjp("x")
def _(g, x, slope):
    return where(greater(x, 0.0), g, g * slope)


@leaky_relu.vjp("slope")
def _(g, x):
    return where(greater(x, 0.0), 0.0, g * x)


@elementwise
def elu(x, alpha=1.0):
    """y = x if x > 0 else alpha (e^x - 1).  Clevert, Unterthiner, Hochreiter 2015."""
    return scalar.where(x > 0.0, x, alpha * scalar.expm1(scalar.minimum(x, 0.0)))


@elu.vjp("x")
def _(g, x, alpha):
    return where(greater(x, 0.0), g, g * alpha * exp(x))


@elu.vjp("alpha")
def _(g, x):
    return where(greater(x, 0.0), 0.0, g * (exp(x) - 1.0))


@elementwise
def softplus(x):
    """y = ln(1 + e^x), the smooth relu; never overflows."""
    return scalar.maximum(x, 0.0) + scalar.log1p(scalar.exp(-scalar.abs(x)))


@softplus.vjp("x")
def _(g, x):
    return g * sigmoid(x)


@elementwise
def erf(x):
    """y = 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x."""
    return scalar.erf(x)


@erf.vjp("x")
def _(g, x):
    return g * (2.0 / math.sqrt(math.pi)) * exp(-x * x)


@elementwise
def gelu(x):
    """y = x Phi(x), Phi the normal distribution function.  Hendrycks, Gimpel 2016."""
    return 0.5 * x * (1.0 + scalar.erf(x * math.sqrt(0.5)))


@gelu.vjp("x")
def _(g, x):
    normal = 0.5 * (1.0 + erf(x * math.sqrt(0.5)))
    return g * (normal + x * math.sqrt(0.5 / math.pi) * exp(-0.5 * x * x))
