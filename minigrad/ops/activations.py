"""The nonlinearities of neural networks, and the slopes of those that saturate."""

from __future__ import annotations

from .. import scalar
from ..kinds import elementwise


@elementwise(cheap=True)
def tanh(x):
    """y = tanh(x), within 2.7 ulp.  Slope 1 / cosh(x)^2 <= 1: one source of vanishing gradients."""
    return scalar.tanh(x)


@elementwise(method=False)
def sech2(x):
    """y = 1 / cosh(x)^2 = 1 - tanh(x)^2, the slope of tanh, within 4.3 ulp; tail 4 e^(-2|x|)."""
    return scalar.sech2(x)


@elementwise(symbol="σ", cheap=True)
def sigmoid(x):
    """y = 1 / (1 + e^-x), within 2.5 ulp.  Slope sigmoid(x) sigmoid(-x) <= 1/4."""
    return scalar.sigmoid(x)


@elementwise(symbol="σ'", method=False)
def sigmoid_slope(x):
    """y = sigmoid(x) sigmoid(-x), the slope of sigmoid, within 4.3 ulp; tail e^-|x|."""
    return scalar.sigmoid_slope(x)


@elementwise(cheap=True)
def relu(x):
    """y = max(x, 0).  Slope 1 above 0, and 0 at 0 and below."""
    return scalar.maximum(x, 0.0)


@elementwise(cheap=True)
def leaky_relu(x, slope=0.01):
    """y = x if x > 0 else slope * x."""
    return scalar.where(x > 0.0, x, slope * x)


@elementwise
def elu(x, alpha=1.0):
    """y = x if x > 0 else alpha (e^x - 1).  Clevert, Unterthiner, Hochreiter 2015."""
    return scalar.where(x > 0.0, x, alpha * scalar.expm1(scalar.minimum(x, 0.0)))


@elementwise
def softplus(x):
    """y = ln(1 + e^x), the smooth relu; never overflows."""
    return scalar.maximum(x, 0.0) + scalar.log1p(scalar.exp(-scalar.abs(x)))


@elementwise
def erf(x):
    """y = 2/sqrt(pi) times the integral of e^(-t^2) from 0 to x."""
    return scalar.erf(x)


@elementwise(method=False)
def gauss(x):
    """y = e^(-x^2), within 1.6 ulp."""
    return scalar.gauss(x)


@elementwise(symbol="Φ", method=False)
def ndtr(x):
    """y = the share of the normal distribution below x; no difference in the left tail."""
    return scalar.ndtr(x)


@elementwise(method=False)
def bell(x):
    """y = e^(-x^2 / 2), within 1.6 ulp."""
    return scalar.bell(x)


@elementwise
def gelu(x):
    """y = x Phi(x), Phi the normal distribution function.  Hendrycks, Gimpel 2016."""
    return scalar.maximum(x, -64.0) * scalar.ndtr(x)  # no -Inf * 0
