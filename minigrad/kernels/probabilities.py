"""Softmax, its logarithm, logsumexp and cross-entropy: one kernel each way, row by row.

    >>> softmax(np.zeros((1, 4)))
    array([[0.25, 0.25, 0.25, 0.25]])

x is (..., n), and a row is its last axis, contiguous. Rows are divided among the threads; what is
computed of a row depends on the row alone, so results have the same bits for any number of threads,
and those of a row alone are those that it has among others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from minigrad.kernels import arena, jit
from minigrad.kernels.compiler import Kernel, build_from
from minigrad.kernels.work import ENTRY, Work, run, words

Array = np.ndarray

PART = 1 << 13  # numbers that a thread takes at once: some 3 us, twice what the pool's start takes


# -- softmax and its kin ---------------------------------------------------------------------------


def softmax(x: Array) -> Array:
    """y = e**x / sum e**x of each row."""
    return _rows("softmax", x, x, np.shape(x))


def log_softmax(x: Array) -> Array:
    """y = x - ln sum e**x of each row."""
    return _rows("log_softmax", x, x, np.shape(x))


def logsumexp(x: Array) -> Array:
    """y = ln sum e**x of each row: (..., n) -> (...)."""
    return _rows("logsumexp", x, x, np.shape(x)[:-1])


def softmax_pull(g: Array, y: Array) -> Array:
    """dx = y (g sum y - sum g y), of y = softmax(x), whose sum is 1, and its gradient g."""
    return _rows("softmax_pull", g, y, y.shape)


def log_softmax_pull(g: Array, y: Array) -> Array:
    """dx = g sum e**y - e**y sum g, of y = log_softmax(x) and its gradient g."""
    return _rows("log_softmax_pull", g, y, y.shape)


def _rows(name: str, x: Array, y: Array, shape: tuple[int, ...]) -> Array:
    if jit.mode() == "plain" or not x.size:
        with np.errstate(all="ignore"):
            return np.asarray(_PLAIN[name](x, y), x.dtype)
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)
    out = arena.empty(shape, x.dtype)
    run(*rows_work(name, x, y, out))
    return out


def rows_work(name: str, x: Array, y: Array, out: Array) -> Work:
    """One of the functions above, on contiguous arrays, into `out`."""
    n = x.shape[-1]
    rows = x.size // n
    at_once = max(PART // n, 1)
    arrays = x, y, out
    steps = (a.nbytes // rows for a in arrays)
    job = words(*map(arena.address, arrays), n, rows, at_once, *steps)
    return Work(_rows_kernel(name, x.dtype), f"{name}_rows", job, -(-rows // at_once))


@cache
def _rows_kernel(name: str, dtype: np.dtype) -> Kernel:
    return build_from(name, "logits", {f"{name}_rows": ENTRY}, dtype)


# -- cross-entropy ---------------------------------------------------------------------------------

_REDUCTIONS = {"none": 0, "sum": 1, "mean": 2}


class BadTarget(Exception):
    """A target that names no class."""

    def __init__(self, place: int):
        self.place = place


def cross_entropy(x: Array, targets: Array, ignored: int, reduction: str) -> Array:
    """-ln softmax(x)[target] of each row, their sum, or their mean over those not `ignored`.

    x: (..., C). targets: int64 (...), from 0 to C - 1 or `ignored`. reduction: "none" (0 where
    ignored), "sum" or "mean", NaN where all are ignored. Raises BadTarget.

    >>> cross_entropy(np.zeros((1, 2)), np.array([1]), -100, "sum").item()  # ln 2
    0.693147180559945...
    """
    x, targets = np.ascontiguousarray(x), np.ascontiguousarray(targets, np.int64)
    losses = np.empty(targets.shape, x.dtype)
    y = losses if reduction == "none" else np.empty((), x.dtype)
    if jit.mode() == "plain":
        _plain_cross_entropy(x, targets, ignored, reduction, losses, y)
        return y
    count, *rest = cross_entropy_work(x, targets, ignored, reduction, losses, y)
    _check(count)
    for work in rest:
        run(*work)
    return y


def cross_entropy_pull(g: Array, x: Array, targets: Array, ignored: int, reduction: str) -> Array:
    """dx = g (softmax(x) - onehot(target)) of each row, 0 where ignored; g is the loss's gradient.

    Arguments as of `cross_entropy`. Raises BadTarget.
    """
    x, targets = np.ascontiguousarray(x), np.ascontiguousarray(targets, np.int64)
    g, dx = np.ascontiguousarray(g, x.dtype), arena.empty(x.shape, x.dtype)
    if jit.mode() == "plain":
        _plain_cross_entropy_pull(g, x, targets, ignored, reduction, dx)
        return dx
    count, pull = cross_entropy_pull_work(g, x, targets, ignored, reduction, dx)
    _check(count)
    run(*pull)
    return dx


def cross_entropy_work(
    x: Array, targets: Array, ignored: int, reduction: str, losses: Array, y: Array
) -> list[Work]:
    """Into `losses`, one a row, and from there into y; first the targets are counted, which leaves
    in the last word of the job where a bad one is, or -1. All arrays are contiguous.
    """
    entries = ["loss_count", "loss_rows", "loss_total"]
    works = _loss_work(entries, x, targets, ignored, reduction, losses, y, x, x)
    return works[:2] if reduction == "none" else works


def cross_entropy_pull_work(
    g: Array, x: Array, targets: Array, ignored: int, reduction: str, dx: Array
) -> list[Work]:
    """Into dx; first the targets are counted."""
    return _loss_work(["loss_count", "loss_pull_rows"], x, targets, ignored, reduction, x, x, g, dx)


def _loss_work(
    entries: list[str], x: Array, targets: Array, ignored: int, reduction: str, *arrays: Array
) -> list[Work]:
    classes, rows = x.shape[-1], targets.size
    at_once = max(PART // max(classes, 1), 1)
    addresses = map(arena.address, (x, targets, *arrays))
    sizes = rows, classes, ignored, _REDUCTIONS[reduction], at_once
    job = words(*addresses, *sizes, 0, -1)  # in the order of logits.py
    kernel, parts = _loss_kernel(x.dtype), -(-rows // at_once)
    return [Work(kernel, e, job, parts if e.endswith("rows") else 1) for e in entries]


def _check(count: Work) -> None:
    run(*count)
    bad = int(count.job[-1])
    if bad >= 0:
        raise BadTarget(bad)


@cache
def _loss_kernel(dtype: np.dtype) -> Kernel:
    names = "loss_count", "loss_rows", "loss_total", "loss_pull_rows"
    return build_from("cross_entropy", "logits", dict.fromkeys(names, ENTRY), dtype)


# -- without JIT -----------------------------------------------------------------------------------


def _moved(x: Array) -> tuple[Array, Array]:
    """The largest of each row, 0 where it is not finite; and the row less that."""
    top = x.max(axis=-1, keepdims=True, initial=-math.inf)
    top = np.where(np.isfinite(top), top, 0)
    return top, x - top


def _rest(moved: Array) -> Array:
    """sum e**moved - 1, the largest being 0: what little the others add to its 1 is not lost."""
    rest = np.where(moved == 0, 0, np.exp(moved)).sum(axis=-1, keepdims=True)
    return rest + ((moved == 0).sum(axis=-1, keepdims=True) - 1.0)


def _plain_softmax(x: Array, _: Array) -> Array:
    e = np.exp(_moved(x)[1])
    return e / e.sum(axis=-1, keepdims=True)


def _plain_log_softmax(x: Array, _: Array) -> Array:
    moved = _moved(x)[1]
    return moved - np.log1p(_rest(moved))


def _plain_logsumexp(x: Array, _: Array) -> Array:
    top, moved = _moved(x)
    return (np.log1p(_rest(moved)) + top)[..., 0]


def _sums(largest: Array, *arrays: Array) -> list[Array]:
    """Of each array the sum of a row, and that without its largest."""
    return [np.sum(a, -1, keepdims=True, where=w) for w in (True, ~largest) for a in arrays]


def _at_largest(y: Array) -> Array:
    """Where the first of the largest numbers of each row is."""
    if not y.size:
        return np.zeros(y.shape, bool)
    return np.asarray(np.arange(y.shape[-1]) == y.argmax(axis=-1, keepdims=True))


def _plain_softmax_pull(g: Array, y: Array) -> Array:
    largest = _at_largest(y)
    total, mean, others, weighted = _sums(largest, y, y * g)
    return np.where(largest, y * (g * others - weighted), y * (g * total - mean))


def _plain_log_softmax_pull(g: Array, y: Array) -> Array:
    largest, p = _at_largest(y), np.exp(y)
    one, total, others, rest = _sums(largest, p, g)
    return np.where(largest, g * others - p * rest, g * one - p * total)


_PLAIN: dict[str, Callable[[Any, Any], Any]] = {
    "softmax": _plain_softmax,
    "log_softmax": _plain_log_softmax,
    "logsumexp": _plain_logsumexp,
    "softmax_pull": _plain_softmax_pull,
    "log_softmax_pull": _plain_log_softmax_pull,
}


def _plain_targets(x: Array, targets: Array, ignored: int, reduction: str) -> tuple[Array, int]:
    """Whether each target counts, and how many do."""
    kept = targets != ignored
    outside = kept & ((targets < 0) | (targets >= x.shape[-1]))
    if outside.any():
        raise BadTarget(int(outside.argmax()))
    return kept, int(kept.sum()) if reduction == "mean" else 1


def _plain_cross_entropy(
    x: Array, targets: Array, ignored: int, reduction: str, losses: Array, y: Array
) -> None:
    kept, count = _plain_targets(x, targets, ignored, reduction)
    with np.errstate(all="ignore"):
        top, moved = _moved(x)
        target = np.where(kept, targets, 0)[..., None]
        own = np.take_along_axis(x, target, -1) if x.size else moved
        losses[...] = np.where(kept, (np.log1p(_rest(moved)) + (top - own))[..., 0], 0)
        if reduction != "none":
            y[...] = losses.sum() / count


def _plain_cross_entropy_pull(
    g: Array, x: Array, targets: Array, ignored: int, reduction: str, dx: Array
) -> None:
    kept, count = _plain_targets(x, targets, ignored, reduction)
    with np.errstate(all="ignore"):
        e = np.exp(_moved(x)[1])
        chosen = np.arange(x.shape[-1]) == targets[..., None]
        others = np.sum(e, axis=-1, keepdims=True, where=~chosen)
        total = others + np.sum(e, axis=-1, keepdims=True, where=chosen)
        scale = np.broadcast_to(g / x.dtype.type(count), targets.shape)[..., None] / total
        dx[...] = np.where(kept[..., None], np.where(chosen, -others, e) * scale, 0)
