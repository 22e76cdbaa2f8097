"""Connectionist temporal classification: labels for a sequence without saying when (Graves 2006).

A path gives every frame a label or a blank; taking out repeats and then blanks leaves a labelling,

    a a - a b b  ->  a a b                   p(labelling) = sum over its paths of prod_t p_t(path_t)

and the loss is -log of that. The sum is one pass over time, along the labelling with a blank
before, between and behind its labels, l' = - l_1 - l_2 - ... -, of length S' = 2 S + 1:

    alpha_t(s) = p_t(l'_s) (alpha_{t-1}(s) + alpha_{t-1}(s-1) + [l'_s is no blank, l'_s != l'_{s-2}]
                                                                          alpha_{t-1}(s-2))

(eq. 6 there). In logarithms that is a cell with the state log alpha (B, S'), and `scan` compiles it
and its gradient like any other.

A. Graves, S. Fernandez, F. Gomez, J. Schmidhuber, "Connectionist temporal classification: labelling
unsegmented sequence data with recurrent neural networks", ICML 2006. A. Hannun et al., "First-pass
large vocabulary continuous speech recognition using bi-directional recurrent DNNs", 2014 (the beam
search over prefixes).
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..border import plain
from ..compile.scanning import scan
from ..compile.unrolling import check_lengths, computed, varies
from ..errors import DTypeError, ShapeError, describe
from ..tensors import Tensor, as_tensor
from .layers import check_indices

Array = np.ndarray
NEVER = -1e30  # log of a probability of nothing: finite, so that no inf - inf arises on the way


def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any = None,
    target_lengths: Any = None,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
    mode: str = "fused",
) -> Tensor:
    """-log p(labelling) of each row, as torch.nn.functional.ctc_loss.

    log_probs: (T, B, C) of log_softmax; the blank is class `blank`. targets: integers (B, S),
    padded with anything. input_lengths, target_lengths: (B,), frames and labels that count; all if
    left out. A labelling may be empty (target length 0).
    reduction: "none" (B,), "sum", or "mean": each row's loss is divided by its number of labels
    (at least 1), then averaged.
    A row with too few frames for its labels (every repeat needs a blank in between) has no path:
    its loss is inf, without a gradient, or 0 with zero_infinity. mode: that of the scan.
    Raises ShapeError or DTypeError for inputs that do not fit, ValueError for a wrong reduction.

    >>> p = np.log([[[0.5, 0.5]], [[0.25, 0.75]]])  # two frames: blank and one label
    >>> round(float(np.exp(-ctc_loss(p, [[1]]).item())), 6)  # 1-, -1 and 11
    0.875
    """
    log_probs = as_tensor(log_probs, "ctc_loss")
    if log_probs.ndim != 3 or 0 in log_probs.shape or log_probs.dtype.kind != "f":
        raise ShapeError(
            f"ctc_loss: expected log_probs of shape (T, B, C), floats, got {describe(log_probs)}."
        )
    time, batch, classes = log_probs.shape
    if not 0 <= blank < classes:
        raise ShapeError(f"ctc_loss: blank={blank} is not one of the {classes} classes.")
    dtype = log_probs.dtype
    given = [targets] if target_lengths is None else [targets, target_lengths]
    counts = computed("ctc_loss: target_lengths", given, partial(_counts, batch))
    path = computed("ctc_loss: targets", [targets, counts], partial(_path, classes, blank))
    skip = computed("ctc_loss: repeats", [path], partial(_skips, blank, dtype))
    frames = None
    if input_lengths is not None:
        frames = check_lengths("ctc_loss: input_lengths", input_lengths, time, batch)
        if not varies(frames) and (frames == time).all():
            frames = None

    width = path.shape[1]
    start = np.full((batch, width), NEVER, dtype)
    start[:, 0] = 0.0  # before the first frame; it leads to l'_0 and l'_1
    emitted = ops.take_along_axis(log_probs, np.broadcast_to(path, (time, batch, width)), axis=-1)
    skips = Tensor(np.broadcast_to(skip, (time, batch, width)))
    final, _ = scan(_forward, Tensor(start), (emitted, skips), lengths=frames, mode=mode)
    last = ops.take_along_axis(final, computed("ctc_loss: ends", [counts], _ends), axis=1)
    there = computed("ctc_loss: ends that are there", [counts], _there)
    log_p = ops.logsumexp(ops.where(there, last, NEVER), axis=1)
    possible = ops.greater(log_p.detach(), NEVER / 2)
    loss = ops.where(possible, -log_p, 0.0 if zero_infinity else math.inf)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return ops.sum(loss)
    if reduction == "mean":
        return ops.mean(loss / computed("ctc_loss: labels", [counts], partial(_at_least_1, dtype)))
    raise ValueError(f"ctc_loss: reduction must be 'mean', 'sum' or 'none', got {reduction!r}.")


def _forward(alpha: Any, x: Any) -> tuple[Any, Any]:
    """One frame: log alpha (B, S') of all paths that end at s. Its y is not read."""
    emitted, skip = x
    one = ops.pad(alpha[:, :-1], ((0, 0), (1, 0)), value=NEVER)
    two = ops.pad(one[:, :-1], ((0, 0), (1, 0)), value=NEVER) + skip
    low, high = ops.minimum(alpha, one), ops.maximum(alpha, one)
    top, rest = ops.maximum(high, two), ops.maximum(low, ops.minimum(high, two))
    low = ops.minimum(low, two)
    # The largest of the three is e^0 = 1, which log1p adds: what little the others add is kept.
    others = ops.exp(rest - top) + ops.exp(low - top)
    alpha = ops.maximum(top + ops.log1p(others) + emitted, NEVER)
    return alpha, alpha[:, :1]


def _counts(batch: int, targets: Any, lengths: Any = None) -> Array:
    """How many labels count in each row."""
    labels = plain(targets)
    if labels.ndim != 2 or labels.shape[0] != batch:
        raise ShapeError(
            f"ctc_loss: expected targets of shape (B, S) with B = {batch}, got {describe(labels)}."
        )
    if labels.dtype.kind not in "iu":
        raise DTypeError(f"ctc_loss: targets are class numbers, integers; got {describe(labels)}.")
    counts = np.full(batch, labels.shape[1]) if lengths is None else plain(lengths)
    if counts.shape != (batch,) or counts.dtype.kind not in "iu":
        raise ShapeError(
            f"ctc_loss: expected one target length for each of {batch} rows, got "
            f"{describe(counts)}."
        )
    if counts.min() < 0 or counts.max() > labels.shape[1]:
        raise ShapeError(
            f"ctc_loss: target_lengths run from 0 to {labels.shape[1]}, got {counts.min()} to "
            f"{counts.max()}."
        )
    return counts.astype(np.int64)


def _path(classes: int, blank: int, targets: Any, counts: Array) -> Array:
    """l' of each row, (B, 2 S + 1): blanks before, between and behind its labels."""
    labels = plain(targets)
    real = np.arange(labels.shape[1]) < counts[:, None]
    labels = check_indices("ctc_loss: targets", np.where(real, labels, blank), classes)
    if (labels[real] == blank).any():
        raise ShapeError(f"ctc_loss: a target is {blank}, the blank; labels are other classes.")
    path = np.full((len(labels), 2 * labels.shape[1] + 1), blank)
    path[:, 1::2] = labels
    return path


def _skips(blank: int, dtype: Any, path: Array) -> Array:
    """What is added to alpha(s - 2): 0 where a path may come from there."""
    skip = np.full(path.shape, NEVER, dtype)
    if path.shape[1] > 2:
        skip[:, 2:][(path[:, 2:] != blank) & (path[:, 2:] != path[:, :-2])] = 0.0
    return skip


def _ends(counts: Array) -> Array:
    """Where a labelling ends: the last blank, or the last label."""
    return np.stack([2 * counts, np.maximum(2 * counts - 1, 0)], axis=1)


def _there(counts: Array) -> Array:
    """Which of these there are: an empty labelling has no last label."""
    return np.stack([counts >= 0, counts > 0], axis=1)


def _at_least_1(dtype: Any, counts: Array) -> Array:
    return np.maximum(counts, 1).astype(dtype)


class Labelling(NamedTuple):
    """What a decoder found for one row: labels without blanks, and log p."""

    labels: list[int]
    log_p: float


def ctc_greedy(log_probs: Any, input_lengths: Any = None, blank: int = 0) -> list[Labelling]:
    """(T, B, C) -> the labelling of the most probable path of each row, argmax_c at every t.

    log_p is that path's. Not always the most probable labelling, which may have many paths:
    `ctc_beam` sums over them.

    >>> ctc_greedy(np.log([[[0.1, 0.9]], [[0.2, 0.8]], [[0.7, 0.3]]]))[0].labels
    [1]
    """
    found = []
    for frames in _rows("ctc_greedy", log_probs, input_lengths):
        path = frames.argmax(axis=1)
        kept = path[np.concatenate([[True], path[1:] != path[:-1]])]
        found.append(Labelling(kept[kept != blank].tolist(), float(frames.max(axis=1).sum())))
    return found


def ctc_beam(
    log_probs: Any, input_lengths: Any = None, blank: int = 0, width: int = 16, best: int = 1
) -> list[list[Labelling]]:
    """(T, B, C) -> the `best` most probable labellings of each row: a search over prefixes.

    Hannun 2014.

    width: prefixes that are kept after every frame. log_p is the sum over the paths that were kept:
    a lower bound, exact when width is at least the number of prefixes.

    >>> p = np.log([[[0.6, 0.4]], [[0.6, 0.4]]])
    >>> ctc_greedy(p)[0].labels, ctc_beam(p)[0][0].labels  # 0.36 for --, 0.64 for 1-, -1 and 11
    ([], [1])
    """
    if width < 1 or best < 1:
        raise ValueError(f"ctc_beam: width and best must be >= 1, got {width} and {best}.")
    rows = _rows("ctc_beam", log_probs, input_lengths)
    return [_search(frames, blank, width)[:best] for frames in rows]


def _search(frames: Array, blank: int, width: int) -> list[Labelling]:
    """Prefix -> (log p of its paths that end in a blank, of those that end in its last label)."""
    beam: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -math.inf)}
    for log_p in frames.tolist():
        grown: dict[tuple[int, ...], list[float]] = {}

        def add(prefix: tuple[int, ...], end: int, value: float, grown: Any = grown) -> None:
            if value > -math.inf:
                entry = grown.setdefault(prefix, [-math.inf, -math.inf])
                entry[end] = _log_add(entry[end], value)

        for prefix, (blanked, labelled) in beam.items():
            either = _log_add(blanked, labelled)
            for label, p in enumerate(log_p):
                if label == blank:
                    add(prefix, 0, either + p)
                elif prefix and label == prefix[-1]:
                    add(prefix, 1, labelled + p)  # the same label goes on
                    add((*prefix, label), 1, blanked + p)  # a blank has come in between
                else:
                    add((*prefix, label), 1, either + p)
        order = sorted(grown.items(), key=lambda item: (-_log_add(*item[1]), item[0]))
        beam = {prefix: (b, l) for prefix, (b, l) in order[:width]}
    return [Labelling(list(prefix), _log_add(b, l)) for prefix, (b, l) in beam.items()]


def _log_add(a: float, b: float) -> float:
    low, high = min(a, b), max(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def _rows(who: str, log_probs: Any, lengths: Any) -> list[Array]:
    """The frames of each row that count, (T_b, C)."""
    frames = np.asarray(as_tensor(log_probs, "ctc").numpy(), np.float64)
    if frames.ndim != 3 or 0 in frames.shape:
        raise ShapeError(f"{who}: expected log_probs (T, B, C), got {describe(frames)}.")
    time, batch, _ = frames.shape
    ends = np.full(batch, time) if lengths is None else check_lengths(who, lengths, time, batch)
    return [frames[:end, b] for b, end in enumerate(ends)]
