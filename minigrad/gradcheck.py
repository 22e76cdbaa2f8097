"""Is a gradient right? Compare it with central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .autodiff import grad
from .border import values
from .errors import DTypeError, GradientError, NumericalError, describe
from .tensor import Tensor, tensor

Array = np.ndarray


def gradcheck(
    f: Callable[..., Tensor],
    *inputs: Any,
    full: bool = False,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    seed: int = 0,
) -> bool:
    """Compares the gradients of f with central differences; True, or raises GradientError.

    By default two evaluations of f check everything at once, at any size: with a random cotangent
    w and random directions v, <w, (f(x + eps v) - f(x - eps v)) / 2 eps> must be <w^T J, v>. A
    wrong entry anywhere moves the sum with probability 1. full=True compares every entry of every
    gradient, and says which one differs.

    f: takes one Tensor for each input and returns one Tensor. inputs: float64 arrays or Tensors
    (float32 has too few digits for differences; it is refused). Functions with a kink near x fail,
    rightly.

    >>> gradcheck(lambda x: (x * x).sum(), np.array([1.0, 2.0]))
    True
    """
    leaves = [_leaf(i, x) for i, x in enumerate(inputs)]
    rng = np.random.default_rng(seed)
    y = f(*leaves)
    if not isinstance(y, Tensor):
        raise GradientError(f"gradcheck: f returned {describe(y)}; expected one Tensor.")
    _finite("f(x)", y._data)
    if not y.requires_grad:
        raise GradientError("gradcheck: f's output depends on none of its inputs.")
    w = rng.standard_normal(y.shape)
    found = grad(y, leaves, grad_output=w, allow_unused=True)
    grads = [
        np.zeros(x.shape) if g is None else g.numpy() for g, x in zip(found, leaves, strict=True)
    ]
    for i, g in enumerate(grads):
        _finite(f"the gradient of input {i}", g)
    arrays = [x._data for x in leaves]
    if full:
        for i, (x, g) in enumerate(zip(arrays, grads, strict=True)):
            expected = np.empty(x.shape)
            for k in np.ndindex(x.shape):
                v = [np.zeros(a.shape) for a in arrays]
                v[i][k] = 1.0
                expected[k] = _slope(f, arrays, v, w, eps)
            _compare(f"input {i}", g, expected, rtol, atol)
        return True
    v = [rng.standard_normal(x.shape) for x in arrays]
    slopes = [np.sum(g * d) for g, d in zip(grads, v, strict=True)]
    size = max([float(np.sum(np.abs(g * d))) for g, d in zip(grads, v, strict=True)], default=0.0)
    expected = np.asarray(_slope(f, arrays, v, w, eps))
    what = "a random projection (full=True finds the entry)"
    _compare(what, np.asarray(np.sum(slopes)), expected, rtol, atol + rtol * size)
    return True


def _leaf(i: int, x: Any) -> Tensor:
    leaf = tensor(values(x))
    if leaf.dtype != np.float64:
        raise DTypeError(f"gradcheck: input {i} is {describe(leaf)}; differences need float64.")
    _finite(f"input {i}", leaf._data)
    return leaf.requires_grad_()


def _slope(
    f: Callable[..., Tensor], x: Sequence[Array], v: Sequence[Array], w: Array, eps: float
) -> float:
    def at(step: float) -> Array:  # leaves, as f may itself take derivatives
        moved = [tensor(a + step * d, requires_grad=True) for a, d in zip(x, v, strict=True)]
        return f(*moved)._data

    return float(np.sum(w * (at(eps) - at(-eps))) / (2 * eps))


def _finite(what: str, array: Array) -> None:
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        at = tuple(int(i) for i in bad[0])
        raise NumericalError(
            f"gradcheck: {what}, {describe(array)}, holds {array[at]} at index {list(at)}; a "
            "gradient can be "
            f"checked only where everything is finite. mg.detect_anomaly() finds where it appears."
        )


def _compare(what: str, got: Array, expected: Array, rtol: float, atol: float) -> None:
    off = np.abs(got - expected) > atol + rtol * np.abs(expected)
    if off.any():
        worst = np.unravel_index(np.argmax(np.abs(got - expected)), got.shape)
        at = f" at index {[int(i) for i in worst]}" if got.ndim else ""
        raise GradientError(
            f"gradcheck: {what}: the gradient is {got[worst]:.9g}{at}, differences give "
            f"{expected[worst]:.9g} ({int(off.sum())} of {off.size} entries differ)."
        )
