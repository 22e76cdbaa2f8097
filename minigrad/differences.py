"""Is a gradient right? Compare it with central differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .autodiff import grad
from .border import values
from .errors import DTypeError, GradientError, NumericalError, describe
from .tensors import Tensor, tensor

Array = np.ndarray


def gradcheck(
    f: Callable[..., Tensor],
    *inputs: Any,
    full: bool = False,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 0.0,
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
    eps: the step of the differences, for an x above 1 relative to it; where they disagree, a step
    ten times as large and one relative to any x are tried, too. rtol: relative to the gradient,
    however small it is; what rounding f makes of the differences is allowed for. atol: more than
    that. So a gradient of 1e-9 that is wrong by a factor of 2 is found, unless it is the slope of
    something 1e8 times as large as what it adds.

    >>> gradcheck(lambda x: (x * x).sum(), np.array([1.0, 2.0]))
    True
    >>> gradcheck(lambda x: x * x, np.array([1e6]))
    True
    """
    leaves = [_leaf(i, x) for i, x in enumerate(inputs)]
    rng = np.random.default_rng(seed)
    y = f(*leaves)
    if not isinstance(y, Tensor):
        raise GradientError(f"gradcheck: f returned {describe(y)}; expected one Tensor.")
    _finite("f(x)", y._array)
    if not y.requires_grad:
        raise GradientError("gradcheck: f's output depends on none of its inputs.")
    w = rng.standard_normal(y.shape)
    found = grad(y, leaves, grad_output=w, allow_unused=True)
    grads = [
        np.zeros(x.shape) if g is None else g.numpy() for g, x in zip(found, leaves, strict=True)
    ]
    for i, g in enumerate(grads):
        _finite(f"the gradient of input {i}", g)
    arrays = [x._array for x in leaves]
    check = _Check(f, arrays, grads, w, eps, rtol, atol)
    if not full:
        v = [rng.standard_normal(x.shape) for x in arrays]
        differs = check(v)
        if differs:
            raise _wrong("a random projection (full=True finds the entry)", *differs, 1, 1)
        return True
    for i, x in enumerate(arrays):
        wrong = {}
        for k in np.ndindex(x.shape):
            v = [np.zeros(a.shape) for a in arrays]
            v[i][k] = 1.0
            off = check(v)
            if off:
                wrong[k] = off
        if wrong:
            worst = max(wrong, key=lambda k: abs(wrong[k][0] - wrong[k][1]))
            at = f" at index {list(worst)}" if worst else ""
            raise _wrong(f"input {i}", *wrong[worst], len(wrong), x.size, at)
    return True


def _leaf(i: int, x: Any) -> Tensor:
    leaf = tensor(values(x))
    if leaf.dtype != np.float64:
        raise DTypeError(f"gradcheck: input {i} is {describe(leaf)}; differences need float64.")
    _finite(f"input {i}", leaf._array)
    return leaf.requires_grad_()


# The steps, in units of eps: relative to x from 1 on, ten times that, and relative to any x.
_STEPS: tuple[Callable[[Array], Array], ...] = (
    lambda x: np.maximum(np.abs(x), 1.0),
    lambda x: 10.0 * np.maximum(np.abs(x), 1.0),
    lambda x: np.where(x == 0.0, 1.0, np.abs(x)),
)
_HIDDEN = 1e-7  # most that differences of large numbers inside of f may make of a slope
# What f may be off by, in units of _EPS: several ops of 4 ulp each.
_ROUNDING = 32.0
_EPS = float(np.finfo(np.float64).eps)


class _Check(NamedTuple):
    """Do differences of <w, f> agree with the gradients?"""

    f: Callable[..., Tensor]
    x: Sequence[Array]
    grads: Sequence[Array]
    w: Array
    eps: float
    rtol: float
    atol: float

    def __call__(self, v: Sequence[Array]) -> tuple[float, float] | None:
        """None, or (gradient, differences) along v as they disagree."""
        if not any(a.size for a in v):
            return None
        first: tuple[float, float] | None = None
        before = math.nan
        for k, step in enumerate(_STEPS):
            d = [a * step(x) for a, x in zip(v, self.x, strict=True)]
            length = float(np.sqrt(sum(np.sum(a * a) for a in d) / sum(np.sum(a * a) for a in v)))
            parts = [g * a for g, a in zip(self.grads, d, strict=True)]
            got, size = (float(sum(map(of, parts))) for of in (np.sum, lambda p: np.sum(np.abs(p))))
            slope, noise = self.slope(d)
            allowed = self.rtol * (abs(slope) + size) + noise + self.atol * length
            if k == 1:  # rounding inside of f shows as what is not the same with another step
                allowed += min(abs(slope / length - before), _HIDDEN) * length
            told = k < 2 or noise <= self.rtol * abs(slope)  # a small step may tell nothing
            if told and abs(got - slope) <= allowed:
                return None
            before = slope / length
            first = first or (got / length, before)
        return first

    def slope(self, d: Sequence[Array]) -> tuple[float, float]:
        """(<w, (f(x + eps d) - f(x - eps d)) / 2 eps>, what rounding may have added to that)."""

        def at(step: float) -> Array:  # leaves, as f may itself take derivatives
            moved = [tensor(a + step * b, requires_grad=True) for a, b in zip(self.x, d)]
            return self.f(*moved)._array

        high, low = at(self.eps), at(-self.eps)
        change = high - low
        size = np.abs(self.w) * (np.abs(high) + np.abs(low))
        # Where nothing changed, it does not depend on x, or the change was rounded off.
        off = np.where(change == 0.0, _EPS, _ROUNDING * _EPS)
        noise = float(np.sum(size * off)) / (2 * self.eps)
        return float(np.sum(self.w * change) / (2 * self.eps)), noise


def _wrong(
    what: str, got: float, expected: float, off: int, size: int, at: str = ""
) -> GradientError:
    return GradientError(
        f"gradcheck: {what}: the gradient is {got:.9g}{at}, differences give "
        f"{expected:.9g} ({off} of {size} entries differ)."
    )


def _finite(what: str, array: Array) -> None:
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        at = tuple(int(i) for i in bad[0])
        raise NumericalError(
            f"gradcheck: {what}, {describe(array)}, holds {array[at]} at index {list(at)}; a "
            "gradient can be "
            f"checked only where everything is finite. mg.detect_anomaly() finds where it appears."
        )
