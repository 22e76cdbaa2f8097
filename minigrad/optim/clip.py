"""Gradient clipping, the classic remedy for exploding gradients."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .. import versions
from ..errors import NumericalError
from ..norms import joint_norm
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
    if not max_norm >= 0 or not norm_type > 0:
        raise ValueError(
            f"clip_grad_norm_: max_norm must be >= 0 and norm_type > 0, got {max_norm} and "
            f"{norm_type}."
        )
    if state.jit is not None:
        params = [params] if isinstance(params, Tensor) else list(params)
        return state.jit.calls(  # type: ignore[no-any-return]
            "clip_grad_norm_",
            lambda: clip_grad_norm_(params, max_norm, norm_type, error_if_nonfinite),
            params,
        )
    grads = _gradients(params)
    peak, ratio = joint_norm([g._data for g in grads], norm_type)
    norm = peak * ratio
    if not np.isfinite(peak):
        if error_if_nonfinite:
            raise NumericalError(
                f"clip_grad_norm_: the norm of the gradients is {norm}, so they cannot be scaled. "
                f"mg.detect_anomaly() finds the operation where it began."
            )
        return norm
    # 1e-6 is torch's guard against 0 / 0. In float64: for float32 a scale might be denormal.
    scale = np.float64(max_norm / (norm + 1e-6) if np.isfinite(norm) else max_norm / peak / ratio)
    if scale < 1:
        for g in grads:
            array = versions.writable(g)
            np.multiply(array, scale, out=array, casting="same_kind")
    return norm


def clip_grad_value_(params: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """g = min(max(g, -clip_value), clip_value), element by element, in place. NaN stays NaN."""
    if not clip_value >= 0:
        raise ValueError(f"clip_grad_value_: clip_value must be >= 0, got {clip_value}.")
    if state.jit is not None:
        params = [params] if isinstance(params, Tensor) else list(params)
        state.jit.calls("clip_grad_value_", lambda: clip_grad_value_(params, clip_value), params)
        return
    for g in _gradients(params):
        array = versions.writable(g)
        np.clip(array, -clip_value, clip_value, out=array)


def _gradients(params: Iterable[Tensor] | Tensor) -> list[Tensor]:
    params = [params] if isinstance(params, Tensor) else params
    return [p.grad for p in params if p.grad is not None]
