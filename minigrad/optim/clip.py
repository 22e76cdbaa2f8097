"""Gradient clipping, the classic remedy for exploding gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import combinations

import numpy as np

from .. import versions
from ..errors import GradientError, NumericalError, describe
from ..kernels.flat import Update
from ..kernels.foreach import Formula, Table
from ..kernels.jointnorm import Limit
from ..tape import state
from ..tensors import Tensor

Array = np.ndarray


def clip_grad_norm_(
    params: Iterable[Tensor] | Tensor,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> float:
    """g *= min(1, max_norm / |g|) in place, g all gradients as one vector; returns |g| before.

    Pascanu, Mikolov and Bengio 2013.
    norm_type: p of the p-norm, or infinity. The norm is computed in float64 and scaled by the
    largest |g|, so that neither 1e200 nor 1e-200 is lost to its power.
    Parameters without a gradient are skipped; with none at all the norm is 0.
    If the norm is NaN or Inf, no scale would mend the gradients: they are left as they are (torch
    turns them into zeros and NaN) and the returned norm tells, or with error_if_nonfinite
    NumericalError is raised.

    >>> x = Tensor([3.0, 4.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> clip_grad_norm_([x], max_norm=1.0)
    10.0
    >>> [round(g, 3) for g in x.grad.tolist()]
    [0.6, 0.8]
    """
    if not norm_type > 0:
        raise ValueError(f"clip_grad_norm_: norm_type must be > 0, got {norm_type}.")
    if state.jit is not None:
        params = [params] if isinstance(params, Tensor) else list(params)
        return state.jit.calls(
            "clip_grad_norm_",
            partial(
                clip_grad_norm_, params, norm_type=norm_type, error_if_nonfinite=error_if_nonfinite
            ),
            params,
            None if error_if_nonfinite else partial(_prepared, params, norm_type),
            [max_norm],
        )
    _expect_limit("clip_grad_norm_: max_norm", max_norm)
    arrays, dense = _gradients("clip_grad_norm_", params)
    limited = Limit(dense, max_norm, norm_type)
    limited.function(*limited.arguments)
    norm, times, finite = limited.found
    if error_if_nonfinite and not finite:
        raise NumericalError(
            f"clip_grad_norm_: the norm of the gradients is {norm}, so they cannot be scaled. "
            f"mg.detect_anomaly() finds the operation where it began."
        )
    if times < 1.0:
        _written(arrays, dense)
    return norm


def _prepared(
    params: Sequence[Tensor], norm_type: float, max_norm: Callable[[], float]
) -> list[Update]:
    """The clipping of the gradients that there are, to be done again and again; none if one of
    them has to be copied for it.
    """
    arrays, dense = _gradients("clip_grad_norm_", params)
    if any(a is not b for a, b in zip(arrays, dense, strict=True)):
        return []
    limited = Limit(dense, max_norm(), norm_type)
    if not limited.arguments:
        return []

    def before() -> tuple[int, ...]:
        limited.limit = limit = max_norm()
        _expect_limit("clip_grad_norm_: max_norm", limit)
        return limited.arguments

    def after() -> float:
        norm, times, _ = limited.found
        if times < 1.0:
            versions.edited(*arrays)
        return norm

    return [Update(limited.function, limited.arguments, before, after)]


def clip_grad_value_(params: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """g = min(max(g, -clip_value), clip_value), element by element, in place. NaN stays NaN."""
    if state.jit is not None:
        params = [params] if isinstance(params, Tensor) else list(params)
        clip = partial(clip_grad_value_, params)
        state.jit.calls("clip_grad_value_", clip, params, None, [clip_value])
        return
    _expect_limit("clip_grad_value_: clip_value", clip_value)
    arrays, dense = _gradients("clip_grad_value_", params)
    table = Table(_LIMITS, len(dense))
    table.numbers[:] = -clip_value, clip_value
    for i, array in enumerate(dense):
        table.place(i, [array])
    table.run()
    _written(arrays, dense)


_LIMITS = Formula(
    "g = select(g < low, low, g)\ng = select(g > high, high, g)", ("g",), ("low", "high")
)


def _expect_limit(who: str, limit: float) -> None:
    if not limit >= 0:
        raise ValueError(f"{who} must be >= 0, got {limit}.")


def _gradients(who: str, params: Iterable[Tensor] | Tensor) -> tuple[list[Array], list[Array]]:
    """The arrays of the gradients that there are, each once; and these, or copies without gaps."""
    arrays: dict[int, Array] = {}
    owners: set[int] = set()
    for p in [params] if isinstance(params, Tensor) else params:
        if not isinstance(p, Tensor):
            raise TypeError(f"{who}: expected Tensors, got {describe(p)}.")
        g = p._grad
        if g is None:
            continue
        if not g._array.flags.writeable:  # a broadcast array: many elements in one place
            g._array = g._array.copy()
        arrays[id(g._array)] = owner = g._array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        owners.add(id(owner))
    found = list(arrays.values())
    if len(owners) < len(found):
        _expect_apart(who, found)
    return found, [a if a.flags.forc else np.ascontiguousarray(a) for a in found]


def _expect_apart(who: str, arrays: Sequence[Array]) -> None:
    for (i, a), (j, b) in combinations(enumerate(arrays), 2):
        if np.shares_memory(a, b):
            raise GradientError(
                f"{who}: gradients {i} and {j}, {describe(a)} and {describe(b)}, share memory, "
                f"which would be clipped twice; give each its own: p.grad = q.grad.copy()."
            )


def _written(arrays: Sequence[Array], dense: Sequence[Array]) -> None:
    """Brings the copies back, and notes the edit."""
    for array, copy in zip(arrays, dense, strict=True):
        if copy is not array:
            array[...] = copy
    versions.edited(*arrays)
