"""Losses. Each returns a scalar Tensor, or one value per item with reduction="none".

The class axis is the last one, so logits (T, B, C) go with targets (T, B); for (N, C) that is
what torch.nn.functional computes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import checks, ops
from ..border import plain
from ..errors import DTypeError, ShapeError, describe
from ..tensors import Tensor, as_tensor
from .layers import check_indices


def cross_entropy(
    logits: Any, targets: Any, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-ln softmax(logits)[target], averaged over the targets that are not ignore_index.

    logits: (..., C), any finite values. targets: integers (...) from 0 to C-1, or ignore_index.
    reduction: "mean", "sum" or "none" (shape of targets; 0 where ignored).
    Raises ShapeError for shapes that do not fit or a target out of range, DTypeError for targets
    that are no integers, ValueError for a mean of which every target is ignored.

    >>> round(cross_entropy([[0.0, 0.0]], [1]).item(), 4)  # two classes, no idea: ln 2
    0.6931
    """
    logits = as_tensor(logits, "cross_entropy")
    return ops.cross_entropy(logits, plain(targets), ignore_index, reduction)


def nll_loss(
    log_probabilities: Any, targets: Any, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-log_probabilities[target]: cross_entropy(x, t) = nll_loss(log_softmax(x), t).

    Arguments and errors as in cross_entropy.
    """
    log_probabilities = as_tensor(log_probabilities, "nll_loss")
    index, kept = _targets(log_probabilities, targets, ignore_index)
    loss = -ops.take_along_axis(log_probabilities, index[..., None], axis=-1).reshape(index.shape)
    if kept is None:
        return _reduce(loss, "nll_loss", reduction)
    loss = ops.where(kept, loss, 0.0)
    if reduction != "mean":
        return _reduce(loss, "nll_loss", reduction)
    if not kept.any():
        raise ValueError(
            "nll_loss: every target is ignore_index, so there is no mean; use reduction='sum', or "
            "skip this batch."
        )
    return ops.sum(loss) / int(kept.sum())


def mse_loss(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """(prediction - target)^2.

    Raises ShapeError unless the shapes are equal: a silent broadcast would be another loss.

    >>> mse_loss([1.0, 2.0], [1.0, 4.0]).item()
    2.0
    """
    return _reduce(ops.square(_difference("mse_loss", prediction, target)), "mse_loss", reduction)


def mae_loss(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """|prediction - target|, also called L1; its gradient at 0 is 0. Errors as in mse_loss."""
    return _reduce(ops.abs(_difference("mae_loss", prediction, target)), "mae_loss", reduction)


def huber_loss(prediction: Any, target: Any, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), of d = prediction - target.

    Errors as in mse_loss; ValueError unless delta > 0.
    """
    checks.number("huber_loss: delta", delta, 0.0, bounds="()")
    d = _difference("huber_loss", prediction, target)
    inside = ops.clip(d, -delta, delta)
    return _reduce(inside * (d - 0.5 * inside), "huber_loss", reduction)


def bce_with_logits(logits: Any, target: Any, reduction: str = "mean") -> Tensor:
    """-(y ln p + (1 - y) ln(1 - p)) with p = sigmoid(logits) and y the target, from 0 to 1.

    Computed as y softplus(-x) + (1 - y) softplus(x), which neither overflows nor loses small
    losses: softplus(x) - x y would be the difference of two large numbers for y = 1.
    Errors as in mse_loss.

    >>> bce_with_logits([-1000.0, 1000.0], [0.0, 1.0]).item()
    0.0
    """
    x, y = _pair("bce_with_logits", logits, target)
    return _reduce(y * ops.softplus(-x) + (1.0 - y) * ops.softplus(x), "bce_with_logits", reduction)


def _pair(who: str, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
    x, y = as_tensor(prediction, who), as_tensor(target, who)
    if x.shape != y.shape:
        raise ShapeError(
            f"{who}: expected two arrays of one shape, got {describe(x)} and {describe(y)}; "
            f"reshape one (there is no broadcasting here)."
        )
    return x, y


def _difference(who: str, prediction: Any, target: Any) -> Tensor:
    x, y = _pair(who, prediction, target)
    return x - y


def _targets(x: Tensor, targets: Any, ignore_index: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Class numbers that are safe to index with, and a mask of those that count (None: all)."""
    index = plain(targets)
    if not x.ndim or index.shape != x.shape[:-1]:
        raise ShapeError(
            f"nll_loss: {describe(x)} has its classes on the last axis, so targets should be "
            f"{list(x.shape[:-1])}, got {describe(index)}."
        )
    if index.dtype.kind not in "iu":
        raise DTypeError(f"nll_loss: targets are class numbers, integers; got {describe(index)}.")
    kept = index != ignore_index
    if kept.all():
        return check_indices("nll_loss: targets", index, x.shape[-1]), None
    return check_indices("nll_loss: targets", np.where(kept, index, 0), x.shape[-1]), kept


def _reduce(loss: Tensor, who: str, reduction: str) -> Tensor:
    if reduction == "mean":
        return ops.mean(loss)
    if reduction == "sum":
        return ops.sum(loss)
    if reduction == "none":
        return loss
    raise ValueError(f"{who}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}.")
