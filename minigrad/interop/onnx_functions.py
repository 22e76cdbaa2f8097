"""Nodes of an ONNX graph that compute numbers: sums, comparisons, activations, reductions.

FUNCTIONS: operator -> factory(what, attributes, number of outputs) -> function. A factory raises
ConversionError, naming the node, for an attribute that it does not have.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..tensors import Tensor, as_tensor
from .base import ConversionError

Function = Callable[..., Any]
Factory = Callable[[str, dict[str, Any], int], Function]


def simple(function: Function, *known: str) -> Factory:
    """A node that is one function of its inputs, with no attributes but the known ones."""

    def factory(what: str, attributes: dict[str, Any], outputs: int) -> Function:
        if unknown := sorted(set(attributes) - set(known)):
            raise ConversionError(
                f"import_onnx: {what} has the attribute {unknown[0]!r}; not known."
            )
        return function if not attributes else lambda *xs: function(*xs, **attributes)

    return factory


def data(x: Any) -> Any:
    """The numbers alone, for what has no gradient."""
    return x.numpy() if isinstance(x, Tensor) else x


def of_floats(function: Function, *known: str) -> Factory:
    """A node of one Tensor."""
    return simple(lambda x, **options: function(as_tensor(x), **options), *known)


def of_numbers(function: Function, *known: str) -> Factory:
    """Without a gradient, as comparisons and indices are."""
    return simple(lambda *xs, **options: function(*map(data, xs), **options), *known)


def many(tensors: Function, arrays: Function) -> Factory:
    """Of any number of values, from the left: Tensors if one is a Tensor."""

    def function(*values: Any) -> Any:
        if any(isinstance(v, Tensor) for v in values):
            return functools.reduce(tensors, map(as_tensor, values))
        return functools.reduce(arrays, values)

    return simple(function)


def either(tensors: Function, arrays: Function) -> Factory:
    """Of one value, a Tensor or an array."""
    return simple(lambda x: (tensors if isinstance(x, Tensor) else arrays)(x))


def quotient(a: Any, b: Any) -> Any:
    """a / b of arrays; integers towards zero, as in C."""
    exact = np.true_divide(a, b)
    if np.result_type(a, b).kind == "f":
        return exact
    return np.trunc(exact).astype(np.result_type(a, b))


def remainder(a: Any, b: Any, fmod: int = 0) -> Any:
    """Mod: with the sign of b, or of a with fmod."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        a, b = as_tensor(a), as_tensor(b)
        return ops.sign(a) * ops.remainder(ops.abs(a), ops.abs(b)) if fmod else ops.remainder(a, b)
    return (np.fmod if fmod else np.mod)(a, b)


def power(x: Any, p: Any) -> Any:
    """x ** p in the dtype of x; one constant number goes the cheap way, 2 as a square."""
    if not isinstance(x, Tensor) and (x.dtype.kind != "f" or not isinstance(p, Tensor)):
        return np.power(x, data(p)).astype(x.dtype)
    x = as_tensor(x)
    if not isinstance(p, Tensor) and p.size == 1 and p.ndim <= x.ndim:
        return ops.power(x, float(p.item()))
    return ops.power(x, p if isinstance(p, Tensor) else as_tensor(p.astype(x.dtype)))


def clip(x: Any, low: Any = None, high: Any = None) -> Any:
    """min(max(x, low), high)."""
    for bound, tensors, arrays in (
        (low, ops.maximum, np.maximum), (high, ops.minimum, np.minimum)
    ):  # fmt: skip
        if bound is not None:
            held = isinstance(x, Tensor) or isinstance(bound, Tensor)
            x = tensors(as_tensor(x), as_tensor(bound)) if held else arrays(x, bound)
    return x


def where(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b."""
    if any(isinstance(v, Tensor) for v in (condition, a, b)):
        return ops.where(as_tensor(condition), as_tensor(a), as_tensor(b))
    return np.where(condition, a, b)


def gelu(x: Any, approximate: str = "none") -> Any:
    """x Phi(x), or its approximation by a tanh."""
    if approximate == "none":
        return ops.gelu(x)
    return x * 0.5 * (ops.tanh((x + 0.044715 * x * ops.square(x)) * math.sqrt(2 / math.pi)) + 1.0)


def hard_sigmoid(x: Any, alpha: float = 0.2, beta: float = 0.5) -> Any:
    """clip(alpha x + beta, 0, 1)."""
    return ops.clip(x * alpha + beta, 0.0, 1.0)


SELU = 1.67326319217681884765625, 1.05070102214813232421875  # the operator's alpha and gamma


def selu(x: Any, alpha: float = SELU[0], gamma: float = SELU[1]) -> Any:
    """gamma elu(x, alpha)."""
    return ops.elu(x, alpha) * gamma


def prelu(x: Any, slope: Any) -> Any:
    """x, or slope x below 0."""
    x = as_tensor(x)
    return ops.where(ops.greater(x, 0.0), x, x * as_tensor(slope))


def softmax(function: Function) -> Factory:
    """Over one axis, the last one unless the node says otherwise."""
    return of_floats(lambda x, axis=-1: function(x, axis=axis), "axis")


def reduce(tensors: Function, arrays: Function | None = None) -> Factory:
    """Over the axes of an attribute or an input; all of them where there are none."""

    def factory(what: str, attributes: dict[str, Any], outputs: int) -> Function:
        keep = bool(attributes.get("keepdims", 1))

        def function(x: Any, axes: Any = None) -> Any:
            given = attributes.get("axes") if axes is None else [int(a) for a in axes]
            if not given and attributes.get("noop_with_empty_axes"):
                return x
            axis = tuple(given) if given else None
            if arrays is not None and not isinstance(x, Tensor) and x.dtype.kind != "f":
                return arrays(x, axis=axis, keepdims=keep).astype(x.dtype)
            return tensors(as_tensor(x), axis=axis, keepdims=keep)

        return function

    return factory


def norm(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """ReduceL2."""
    return ops.sqrt(ops.sum(ops.square(x), axis=axis, keepdims=keepdims))


def extreme(function: Function) -> Factory:
    """ArgMax, ArgMin: the first place of several, or the last."""

    def place(x: Any, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Any:
        found = function(np.flip(x, axis) if select_last_index else x, axis=axis, keepdims=True)
        found = x.shape[axis] - 1 - found if select_last_index else found
        return found if keepdims else np.squeeze(found, axis)

    return of_numbers(place, "axis", "keepdims", "select_last_index")


def cumsum(x: Any, axis: Any) -> Any:
    """Sums up to each place."""
    axis = int(np.asarray(axis).item())
    return ops.cumsum(x, axis=axis) if isinstance(x, Tensor) else np.cumsum(x, axis, x.dtype)


def gemm(
    a: Any,
    b: Any,
    c: Any = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Any:
    """alpha a b + beta c, either matrix turned."""
    a, b = (
        ops.transpose(as_tensor(m)) if t else as_tensor(m) for m, t in ((a, transA), (b, transB))
    )
    y = ops.matmul(a, b) if alpha == 1.0 else ops.matmul(a, b) * alpha
    return y if c is None else y + (as_tensor(c) if beta == 1.0 else as_tensor(c) * beta)


def layer_norm(
    x: Any, scale: Any, bias: Any = None, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Any:
    """(x - mean) / sqrt(var + epsilon) * scale + bias, over the axes from `axis` on."""
    axes = tuple(range(axis % x.ndim, x.ndim))
    deviation = x - ops.mean(x, axis=axes, keepdims=True)
    variance = ops.mean(ops.square(deviation), axis=axes, keepdims=True)
    y = deviation / ops.sqrt(variance + epsilon) * as_tensor(scale)
    return y if bias is None else y + as_tensor(bias)


FUNCTIONS: dict[str, Factory] = {
    "Abs": simple(lambda x: ops.abs(x) if isinstance(x, Tensor) else np.abs(x)),
    "Add": many(ops.add, np.add),
    "And": many(ops.logical_and, np.logical_and),
    "ArgMax": extreme(np.argmax),
    "ArgMin": extreme(np.argmin),
    "Ceil": either(lambda x: -ops.floor(-x), np.ceil),
    "Clip": simple(clip),
    "Cos": of_floats(ops.cos),
    "CumSum": simple(cumsum),
    "Div": many(ops.divide, quotient),
    "Elu": of_floats(lambda x, alpha=1.0: ops.elu(x, alpha), "alpha"),
    "Equal": many(ops.equal, np.equal),
    "Erf": of_floats(ops.erf),
    "Exp": of_floats(ops.exp),
    "Floor": either(ops.floor, np.floor),
    "Gelu": of_floats(gelu, "approximate"),
    "Gemm": simple(gemm, "alpha", "beta", "transA", "transB"),
    "Greater": many(ops.greater, np.greater),
    "GreaterOrEqual": many(ops.greater_equal, np.greater_equal),
    "HardSigmoid": of_floats(hard_sigmoid, "alpha", "beta"),
    "HardSwish": of_floats(lambda x: x * hard_sigmoid(x, 1 / 6)),
    "IsInf": of_numbers(np.isinf),
    "IsNaN": of_numbers(np.isnan),
    "LayerNormalization": simple(layer_norm, "axis", "epsilon", "stash_type"),
    "LeakyRelu": of_floats(lambda x, alpha=0.01: ops.leaky_relu(x, alpha), "alpha"),
    "Less": many(ops.less, np.less),
    "LessOrEqual": many(ops.less_equal, np.less_equal),
    "Log": of_floats(ops.log),
    "LogSoftmax": softmax(ops.log_softmax),
    "MatMul": many(ops.matmul, np.matmul),
    "Max": many(ops.maximum, np.maximum),
    "Mean": simple(lambda *xs: functools.reduce(ops.add, map(as_tensor, xs)) / len(xs)),
    "Min": many(ops.minimum, np.minimum),
    "Mish": of_floats(lambda x: x * ops.tanh(ops.softplus(x))),
    "Mod": simple(remainder, "fmod"),
    "Mul": many(ops.multiply, np.multiply),
    "Neg": simple(lambda x: -x),
    "Not": either(ops.logical_not, np.logical_not),
    "Or": many(ops.logical_or, np.logical_or),
    "PRelu": simple(prelu),
    "Pow": simple(power),
    "Reciprocal": of_floats(lambda x: 1.0 / x),
    "ReduceL1": reduce(lambda x, **options: ops.sum(ops.abs(x), **options)),
    "ReduceL2": reduce(norm),
    "ReduceLogSumExp": reduce(ops.logsumexp),
    "ReduceMax": reduce(ops.max, np.max),
    "ReduceMean": reduce(ops.mean),
    "ReduceMin": reduce(ops.min, np.min),
    "ReduceSum": reduce(ops.sum, np.sum),
    "ReduceSumSquare": reduce(lambda x, **options: ops.sum(ops.square(x), **options)),
    "Relu": of_floats(ops.relu),
    "Round": either(ops.nearest, np.round),
    "Selu": of_floats(selu, "alpha", "gamma"),
    "Sigmoid": of_floats(ops.sigmoid),
    "Sign": either(ops.sign, np.sign),
    "Sin": of_floats(ops.sin),
    "Softmax": softmax(ops.softmax),
    "Softplus": of_floats(ops.softplus),
    "Softsign": of_floats(lambda x: x / (ops.abs(x) + 1.0)),
    "Sqrt": of_floats(ops.sqrt),
    "Sub": many(ops.subtract, np.subtract),
    "Sum": many(ops.add, np.add),
    "Swish": of_floats(lambda x, alpha=1.0: x * ops.sigmoid(x * alpha), "alpha"),
    "Tanh": of_floats(ops.tanh),
    "Where": simple(where),
    "Xor": many(ops.not_equal, np.logical_xor),
}
