"""The scalar functions a kernel knows, for use in the body of an elementwise op.

    @elementwise
    def tanh(x):
        return scalar.tanh(x)

Their machine code is in `kernels.vectormath`; here they only record themselves (see `expr`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .expr import call


def _function(name: str, inputs: int = 1) -> Callable[..., Any]:
    def record(*args: Any) -> Any:
        if len(args) != inputs:
            raise TypeError(f"scalar.{name}: inputs expected: {inputs}, given: {len(args)}")
        return call(name, *args)

    return record


exp = _function("exp")
log = _function("log")
expm1 = _function("expm1")
log1p = _function("log1p")
sqrt = _function("sqrt")
sin = _function("sin")
cos = _function("cos")
tanh = _function("tanh")
sigmoid = _function("sigmoid")
sech2 = _function("sech2")  # 1 - tanh(x)^2, right where tanh(x) rounds to 1
sigmoid_slope = _function("sigmoid_slope")  # sigmoid(x) sigmoid(-x), likewise
erf = _function("erf")
gauss = _function("gauss")  # e^(-x^2)
bell = _function("bell")  # e^(-x^2 / 2)
ndtr = _function("ndtr")  # the share of the normal distribution below x
pow = _function("pow", 2)
remainder = _function("remainder", 2)  # as Python's %
floor = _function("floor")
abs = _function("abs")
sign = _function("sign")
maximum = _function("maximum", 2)
minimum = _function("minimum", 2)
where = _function("select", 3)  # where(condition, x, y)
