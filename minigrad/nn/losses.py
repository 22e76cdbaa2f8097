"""Losses. Each returns a scalar Tensor, or one value per item with reduction="none".

The class axis is the last one, so logits (T, B, C) go with targets (T, B); for (N, C) that is
what torch.nn.functional computes.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import checks, ops
from ..border import plain
from ..compile.unrolling import computed
from ..errors import DTypeError, ShapeError, describe
from ..tensors import Tensor, as_tensor
from .layers import check_indices


def cross_entropy(
    logits: Any,
    targets: Any,
    ignore_index: int = -100,
    reduction: str = "mean",
    *,
    weight: Any = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """-ln softmax(logits)[target], averaged over the targets that are not ignore_index.

    logits: (..., C), any finite values. targets: integers (...) from 0 to C-1, or ignore_index; or
    soft ones, floats (..., C), a probability for each class, of which none is ignored.
    weight: (C,), what an item of each class counts; a mean is divided by the sum of what counted,
    of soft targets by their number. label_smoothing s: (1 - s) of the target, s / C of each class.
    reduction: "mean", "sum" or "none" (0 where ignored). A mean of which every target is ignored is
    NaN, and its gradient is 0; so it is in torch.
    Raises ShapeError for shapes that do not fit or a target out of range, DTypeError for targets
    that are neither integers nor soft.

    >>> round(cross_entropy([[0.0, 0.0]], [1]).item(), 4)  # two classes, no idea: ln 2
    0.6931
    """
    logits = as_tensor(logits, "cross_entropy")
    soft = getattr(targets, "dtype", None)
    if soft is None:
        targets = as_tensor(targets, "cross_entropy")
        soft = targets.dtype
    checks.number("cross_entropy: label_smoothing", label_smoothing, 0.0, 1.0, bounds="[]")
    if soft.kind == "f" and logits.ndim and targets.shape == logits.shape:
        return _soft(logits, targets, weight, label_smoothing, reduction)
    if weight is None and not label_smoothing:
        return ops.cross_entropy(logits, plain(targets), ignore_index, reduction)
    each = ops.cross_entropy(logits, plain(targets), ignore_index, "none")
    w = _weights("cross_entropy", weight, logits)
    index = as_tensor(targets)
    kept = index != ignore_index
    counted = ops.where(kept, ops.take(w, index * kept), 0.0)
    loss = each * (counted * (1.0 - label_smoothing))
    if label_smoothing:
        others = -ops.sum(ops.log_softmax(logits) * w, axis=-1)
        loss = loss + ops.where(kept, others, 0.0) * (label_smoothing / logits.shape[-1])
    return _of_counted(loss, counted, "cross_entropy", reduction)


def _soft(
    logits: Tensor, targets: Any, weight: Any, label_smoothing: float, reduction: str
) -> Tensor:
    """cross_entropy of probabilities: -sum_c weight_c t_c ln softmax(logits)_c of each item."""
    t = as_tensor(targets) * (1.0 - label_smoothing) + label_smoothing / logits.shape[-1]
    if weight is not None:
        t = t * _weights("cross_entropy", weight, logits)
    return _reduce(-ops.sum(ops.log_softmax(logits) * t, axis=-1), "cross_entropy", reduction)


def nll_loss(
    log_probabilities: Any,
    targets: Any,
    ignore_index: int = -100,
    reduction: str = "mean",
    *,
    weight: Any = None,
) -> Tensor:
    """-log_probabilities[target]: cross_entropy(x, t) = nll_loss(log_softmax(x), t).

    (..., C) and integers (...). Arguments and errors as in cross_entropy.
    """
    log_probabilities = as_tensor(log_probabilities, "nll_loss")
    shape = log_probabilities.shape
    index = computed("nll_loss: targets", [targets], partial(_classes, shape, ignore_index))
    counts = computed("nll_loss: what counts", [targets], lambda t: plain(t) != ignore_index)
    loss = -ops.take_along_axis(log_probabilities, index[..., None], axis=-1).reshape(index.shape)
    w = _weights("nll_loss", weight, log_probabilities)
    counted = ops.where(counts, ops.take(w, index), 0.0)
    return _of_counted(ops.where(counts, loss, 0.0) * counted, counted, "nll_loss", reduction)


def _of_counted(loss: Tensor, counted: Tensor, who: str, reduction: str) -> Tensor:
    """The losses reduced; a mean is divided by what counted."""
    if reduction == "mean":
        return ops.sum(loss) / ops.sum(counted)
    return _reduce(loss, who, reduction)


def _weights(who: str, weight: Any, x: Tensor) -> Tensor:
    """A number for each class, of x's dtype; ones of None."""
    w = as_tensor(np.ones(x.shape[-1]) if weight is None else weight, who)
    if w.shape != x.shape[-1:]:
        raise ShapeError(
            f"{who}: weight is {describe(w)}; expected one number for each of the "
            f"{x.shape[-1]} classes."
        )
    return ops.astype(w, x.dtype)


def mse_loss(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """(prediction - target)^2 of two arrays of one shape -> their mean.

    Raises ShapeError unless the shapes are equal: a silent broadcast would be another loss.

    >>> mse_loss([1.0, 2.0], [1.0, 4.0]).item()
    2.0
    """
    return _reduce(ops.square(_difference("mse_loss", prediction, target)), "mse_loss", reduction)


def mae_loss(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """|prediction - target| of two arrays of one shape -> their mean; also called L1.

    Its gradient at 0 is 0. Errors as in mse_loss.
    """
    return _reduce(ops.abs(_difference("mae_loss", prediction, target)), "mae_loss", reduction)


def huber_loss(prediction: Any, target: Any, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), of d = prediction - target.

    prediction, target: of one shape. Errors as in mse_loss; ValueError unless delta > 0.
    """
    checks.number("huber_loss: delta", delta, 0.0, bounds="()")
    d = _difference("huber_loss", prediction, target)
    inside = ops.clip(d, -delta, delta)
    return _reduce(inside * (d - 0.5 * inside), "huber_loss", reduction)


def bce_with_logits(
    logits: Any, target: Any, reduction: str = "mean", *, pos_weight: Any = None
) -> Tensor:
    """-(w y ln p + (1 - y) ln(1 - p)), p = sigmoid(logits) and y the target, from 0 to 1.

    logits, target: of one shape. pos_weight: w, what a positive counts: a number, or what
    broadcasts against the logits. 1: None.

    Computed as y softplus(-x) + (1 - y) softplus(x), which neither overflows nor loses small
    losses: softplus(x) - x y would be the difference of two large numbers for y = 1.
    Errors as in mse_loss.

    >>> bce_with_logits([-1000.0, 1000.0], [0.0, 1.0]).item()
    0.0
    """
    x, y = _pair("bce_with_logits", logits, target)
    positive = y * ops.softplus(-x)
    if pos_weight is not None:
        w = ops.astype(as_tensor(pos_weight), x.dtype)
        positive = positive * w
        if positive.shape != x.shape:
            raise ShapeError(
                f"bce_with_logits: pos_weight is {describe(w)} and makes {describe(positive)} of "
                f"logits {describe(x)}; expected what broadcasts against them."
            )
    return _reduce(positive + (1.0 - y) * ops.softplus(x), "bce_with_logits", reduction)


def _pair(who: str, prediction: Any, target: Any) -> tuple[Tensor, Tensor]:
    x, y = as_tensor(prediction, who), as_tensor(target, who)
    if x.shape != y.shape:
        raise ShapeError(
            f"{who}: expected two arrays of one shape, got {describe(x)} and {describe(y)}; "
            f"reshape one (there is no broadcasting here)."
        )
    if x.dtype.kind == "f" and y.dtype.kind != "f":  # class numbers and masks
        y = ops.astype(y, x.dtype)
    return x, y


def _difference(who: str, prediction: Any, target: Any) -> Tensor:
    x, y = _pair(who, prediction, target)
    return x - y


def _classes(shape: tuple[int, ...], ignore_index: int, targets: Any) -> np.ndarray:
    """Class numbers that are safe to index the last axis of this shape with."""
    index = plain(targets)
    if not shape or index.shape != shape[:-1]:
        raise ShapeError(
            f"nll_loss: log probabilities {list(shape)} have their classes on the last axis, so "
            f"targets should be {list(shape[:-1])}, got {describe(index)}."
        )
    if index.dtype.kind not in "iu":
        raise DTypeError(f"nll_loss: targets are class numbers, integers; got {describe(index)}.")
    counts = index != ignore_index
    found: np.ndarray = check_indices("nll_loss: targets", np.where(counts, index, 0), shape[-1])
    return found


def _reduce(loss: Tensor, who: str, reduction: str) -> Tensor:
    if reduction == "mean":
        return ops.mean(loss)
    if reduction == "sum":
        return ops.sum(loss)
    if reduction == "none":
        return loss
    raise ValueError(f"{who}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}.")
