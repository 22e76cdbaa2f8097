"""Each op of minigrad as nodes of ONNX, opset 17.

An elementwise op, a user's own too, is its declaration: the expression of its body, written node by
node. Of the others each has a function here: (trace, names of its inputs, params, arrays, y) -> the
name of y. Sizes and indices are constants beside the nodes, never attributes, so that a file can
compute those that change (`onnx_sizes.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import expr
from ..op import Op
from .base import Array
from .onnx_trace import Trace
from .onnx_views import VIEWS, Names, Writer

SAME = {"relu": "Relu", "softplus": "Softplus", "round": "Round"}  # one node for a longer body
PASSES = ("scale_gradient", "shift_gradient", "clip_gradient", "clamp_gradient")
SCALARS = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "neg": "Neg", "lt": "Less",
    "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual", "eq": "Equal", "and": "And",
    "or": "Or", "not": "Not", "isnan": "IsNaN", "select": "Where", "exp": "Exp", "log": "Log",
    "sqrt": "Sqrt", "sin": "Sin", "cos": "Cos", "tanh": "Tanh", "sigmoid": "Sigmoid", "erf": "Erf",
    "floor": "Floor", "abs": "Abs", "sign": "Sign", "maximum": "Max", "minimum": "Min",
    "pow": "Pow",
}  # fmt: skip
# What ONNX has no operator for, as expressions of what it has.
_FORMULAS: dict[str, Callable[..., Any]] = {}
_call: Any = expr.call


def _formula(function: Callable[..., Any]) -> None:
    _FORMULAS[function.__name__.strip("_")] = function


@_formula
def _ne(a: Any, b: Any) -> Any:
    return ~(a == b)


@_formula
def _expm1(x: Any) -> Any:
    """(u - 1) x / ln u with u = e^x: the errors of u and ln u cancel (Kahan)."""
    u = _call("exp", x)
    near = (u - 1.0) * x / _call("log", u)
    far = _call("select", _call("abs", x) < 1.0, near, u - 1.0)
    return _call("select", u == 1.0, x, far)


@_formula
def _log1p(x: Any) -> Any:
    """ln(u) x / (u - 1) with u = 1 + x, likewise."""
    u = x + 1.0
    far = _call("select", u < math.inf, _call("log", u) * x / (u - 1.0), u)
    return _call("select", u == 1.0, x, far)


@_formula
def _sech2(x: Any) -> Any:
    return _call("sigmoid", x * 2.0) * _call("sigmoid", x * -2.0) * 4.0


@_formula
def _sigmoid_slope(x: Any) -> Any:
    return _call("sigmoid", x) * _call("sigmoid", -x)


@_formula
def _gauss(x: Any) -> Any:
    return _call("exp", -(x * x))


@_formula
def _bell(x: Any) -> Any:
    return _call("exp", x * x * -0.5)


@_formula
def _ndtr(x: Any) -> Any:
    return (_call("erf", x * math.sqrt(0.5)) + 1.0) * 0.5


def write(
    t: Trace, op: Op, inputs: Names, params: dict[str, Any], arrays: Sequence[Array], y: Array
) -> str:
    """Writes an op; returns the name of its result. Raises ConversionError for one without."""
    if op.name in PASSES:
        return t.node("Identity", inputs[:1])
    if op.kind == "elementwise":
        return _elementwise(t, op, inputs, arrays)
    if op.name not in WRITERS:
        losses = op.name.startswith("cross_entropy")
        t.refuse(
            f"{op.name} has no writer in ONNX"
            + ("; it is a loss: export what gives its logits" if losses else "")
        )
    return WRITERS[op.name](t, inputs, params, arrays, y)


# -- element by element ----------------------------------------------------------------------------


def _elementwise(t: Trace, op: Op, inputs: Names, arrays: Sequence[Array]) -> str:
    inputs, arrays = _alike(t, op, inputs, arrays)
    if arrays[-1].dtype.kind != "f" and getattr(op, "integers", None) is not None:
        if op.name in ("floor", "round"):
            return t.node("Identity", inputs)
        if op.name in ("mod", "remainder"):
            return t.node("Mod", inputs)
        if op.name == "floor_divide":
            return t.node("Div", [t.node("Sub", [inputs[0], t.node("Mod", inputs)]), inputs[1]])
    if op.name in SAME:
        return t.node(SAME[op.name], inputs)
    named = dict(zip(op.inputs, inputs, strict=True))
    body = op.body(*[expr.Expr("input", value=n, is_bool=n in op.bools) for n in op.inputs])
    found: dict[Any, str] = {}
    dtype = arrays[-1].dtype

    def name(e: expr.Expr) -> str:
        if e.fn == "input":
            return named[e.value]
        if e.fn == "const":
            key: Any = e.value
        elif e.fn in _FORMULAS:
            return name(_FORMULAS[e.fn](*e.args))
        else:
            key = (e.fn, *map(name, e.args))
        if key not in found:
            if e.fn == "const":
                found[key] = t.constant(np.array(e.value, dtype))
            elif e.fn == "remainder":
                found[key] = _remainder(t, key[1:], dtype)
            elif e.fn in SCALARS:
                found[key] = t.node(SCALARS[e.fn], key[1:])
            else:
                t.refuse(f"{e.fn} in the op {op.name} has no operator in ONNX")
        return found[key]

    result = body if isinstance(body, expr.Expr) else expr.constant(body)
    made = name(result)
    return t.node("Identity", [made]) if result.fn in ("input", "const") else made


def _alike(
    t: Trace, op: Op, inputs: Names, arrays: Sequence[Array]
) -> tuple[list[str], list[Array]]:
    """The inputs in one dtype, as NumPy has it where masks, integers and floats meet."""
    numbers = [a for n, a in zip(op.inputs, arrays, strict=True) if n not in op.bools]
    dtype = np.result_type(*numbers) if numbers else np.dtype(bool)
    made, seen = [], []
    for n, name, a in zip(op.inputs, inputs, arrays, strict=True):
        a_type = np.dtype(bool) if n in op.bools else dtype
        made.append(name if a.dtype == a_type else t.node("Cast", [name], to=a_type))
        seen.append(a.astype(a_type, copy=False))
    return made, seen


def _remainder(t: Trace, inputs: Names, dtype: Any) -> str:
    """a % b of b's sign; of floats ONNX has C's fmod, of a's sign."""
    if dtype.kind != "f":
        return t.node("Mod", inputs)
    rest = t.node("Mod", inputs, fmod=1)
    zero = t.constant(np.array(0, dtype))
    apart = t.node("Less", [t.node("Mul", [t.node("Sign", [rest]), inputs[1]]), zero])
    return t.node("Where", [apart, t.node("Add", [rest, inputs[1]]), rest])


# -- products --------------------------------------------------------------------------------------


def _matmul(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
    return t.node("MatMul", inputs)


def _linear(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
    x, weight, bias = inputs
    turned = t.node("Transpose", [weight], perm=[1, 0])
    return t.node("Add", [t.node("MatMul", [x, turned]), bias])


# -- reductions ------------------------------------------------------------------------------------


def _numbers(t: Trace, x: str, array: Array, dtype: Any) -> str:
    """x, or where it is a mask (or of less bits) its elements as numbers of the dtype."""
    return x if array.dtype == dtype else t.node("Cast", [x], to=dtype)


def _sum(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
    x = _numbers(t, inputs[0], arrays[0], y.dtype)
    if not params["axis"]:
        return t.node("Identity", [x])
    axes = t.integers(*params["axis"])
    return t.node("ReduceSum", [x, axes], keepdims=int(params["keepdims"]))


def _extremum(op: str) -> Writer:
    def write(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
        if not params["axis"]:
            return t.node("Identity", inputs)
        x = inputs[0] if y.dtype.kind != "b" else t.node("Cast", inputs, to=np.dtype(np.int32))
        keep = int(params["keepdims"])
        made = t.node(op, [x], axes=list(params["axis"]), keepdims=keep)
        return made if y.dtype.kind != "b" else t.node("Cast", [made], to=y.dtype)

    return write


def _place(op: str) -> Writer:
    def write(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
        x, axis = inputs[0], params["axis"]
        if arrays[0].dtype.kind != "f":  # onnxruntime has it for int32 and floats
            x = t.node("Cast", [x], to=np.dtype(np.int32))
        if axis is None:
            x, axis = t.node("Reshape", [x, t.integers(-1)]), 0
            made = t.node(op, [x], axis=0, keepdims=int(params["keepdims"]))
            return t.node("Reshape", [made, t.integers(*y.shape)]) if y.ndim else _scalar(t, made)
        return t.node(op, [x], axis=axis, keepdims=int(params["keepdims"]))

    return write


def _scalar(t: Trace, x: str) -> str:
    return t.node("Reshape", [x, t.constant(np.zeros(0, np.int64))])


def _cumsum(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
    x = _numbers(t, inputs[0], arrays[0], y.dtype)
    return t.node("CumSum", [x, t.constant(np.array(params["axis"], np.int64))])


def _probabilities(op: str) -> Writer:
    """Softmax and LogSoftmax: over one axis a node, over several by their parts."""

    def write(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
        axes = list(params["axis"])
        if len(axes) == 1:
            return t.node(op, inputs, axis=axes[0])
        total = t.node("ReduceLogSumExp", inputs, axes=axes, keepdims=1)
        made = t.node("Sub", [inputs[0], total])
        return made if op == "LogSoftmax" else t.node("Exp", [made])

    return write


def _logsumexp(t: Trace, inputs: Names, params: Any, arrays: Any, y: Array) -> str:
    axes, keep = list(params["axis"]), int(params["keepdims"])
    return t.node("ReduceLogSumExp", inputs, axes=axes, keepdims=keep)


WRITERS: dict[str, Writer] = VIEWS | {
    "argmax": _place("ArgMax"),
    "argmin": _place("ArgMin"),
    "cumsum": _cumsum,
    "linear": _linear,
    "log_softmax": _probabilities("LogSoftmax"),
    "logsumexp": _logsumexp,
    "matmul": _matmul,
    "max": _extremum("ReduceMax"),
    "min": _extremum("ReduceMin"),
    "softmax": _probabilities("Softmax"),
    "sum": _sum,
}
