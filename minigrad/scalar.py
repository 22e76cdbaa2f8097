"""The scalar functions a kernel knows, for use in the body of an elementwise op.

    @elementwise
    def tanh(x):
        return scalar.tanh(x)

Their machine code is in `kernels.vectormath`; here they only record themselves (see `expr`).
"""

from __future__ import annotations

from typing import Any

from .expr import Expr, call


def exp(x: Any) -> Expr:
    return call("exp", x)


def log(x: Any) -> Expr:
    return call("log", x)


def expm1(x: Any) -> Expr:
    return call("expm1", x)


def log1p(x: Any) -> Expr:
    return call("log1p", x)


def sqrt(x: Any) -> Expr:
    return call("sqrt", x)


def sin(x: Any) -> Expr:
    return call("sin", x)


def cos(x: Any) -> Expr:
    return call("cos", x)


def tanh(x: Any) -> Expr:
    return call("tanh", x)


def sigmoid(x: Any) -> Expr:
    return call("sigmoid", x)


def sech2(x: Any) -> Expr:
    """1 - tanh(x)^2, right where tanh(x) rounds to 1."""
    return call("sech2", x)


def sigmoid_slope(x: Any) -> Expr:
    """sigmoid(x) sigmoid(-x), right where sigmoid(x) rounds to 1."""
    return call("sigmoid_slope", x)


def erf(x: Any) -> Expr:
    return call("erf", x)


def gauss(x: Any) -> Expr:
    """e^(-x^2)."""
    return call("gauss", x)


def bell(x: Any) -> Expr:
    """e^(-x^2 / 2)."""
    return call("bell", x)


def ndtr(x: Any) -> Expr:
    """The share of the normal distribution below x."""
    return call("ndtr", x)


def pow(x: Any, p: Any) -> Expr:
    return call("pow", x, p)


def abs(x: Any) -> Expr:
    return call("abs", x)


def sign(x: Any) -> Expr:
    return call("sign", x)


def maximum(x: Any, y: Any) -> Expr:
    return call("maximum", x, y)


def minimum(x: Any, y: Any) -> Expr:
    return call("minimum", x, y)


def where(condition: Any, x: Any, y: Any) -> Expr:
    return call("select", condition, x, y)
