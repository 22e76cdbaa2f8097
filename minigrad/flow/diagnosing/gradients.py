"""Causes that lie in how the gradient travels: through time, and between layers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .cause import Cause
from .reading import counted, read_at

if TYPE_CHECKING:
    from ..cuts import Cut
    from ..recording import Recording

Array = np.ndarray
FAR = 0.5  # share of steps that no gradient reaches


def through_time(recording: Recording) -> Iterator[Cause]:
    """Vanishing and exploding, of each cut; their values are the reach, and the factor per step."""
    for cut in recording.cuts:
        verdict = cut.verdict
        if verdict.kind in ("exploding", "mixed"):
            yield Cause("exploding", cut.name, verdict.reason, verdict.rate)
        if _vanishes(cut):
            yield Cause("vanishing", cut.name, verdict.reason, verdict.reach)


def _vanishes(cut: Cut) -> bool:
    """Whether it is lost: also where it rises on the way, or is cut when it is lost already."""
    verdict = cut.verdict
    if verdict.kind == "cut":
        lag = verdict.reach
        return math.isfinite(lag) and lag < len(cut.profile) and bool(cut.profile[int(lag)] > 0)
    return verdict.kind == "vanishing" or (verdict.kind == "mixed" and math.isfinite(verdict.reach))


def lost_in_depth(recording: Recording) -> Iterator[Cause]:
    """Less than a thousandth of what arrives at a layer goes on to the one below."""
    for depth in recording.depth:
        if depth.ratio < recording.thresholds.vanishing:
            yield Cause(
                "lost-in-depth",
                f"between {depth.upper} and {depth.lower}",
                f"{depth.arrived_upper:.1e} arrives at {depth.upper}, {depth.arrived_lower:.1e} at "
                f"{depth.lower}, {depth.ratio:.1e} of it",
                depth.ratio,
            )


def read_too_rarely(recording: Recording) -> Iterator[Cause]:
    """Most steps are farther than the reach from the next output that the loss reads."""
    for cut in recording.cuts:
        reach = cut.verdict.reach
        if not math.isfinite(reach) or not (_vanishes(cut) or cut.verdict.kind == "healthy"):
            continue
        read = read_at(recording[cut.paths[-1]])
        if read is None or not read.any() or len(read) < len(cut.profile):  # several calls
            continue
        behind = distances(read)
        beyond = float(np.mean(behind[np.isfinite(behind)] > reach))
        if beyond > FAR:
            steps = int(read.any(axis=1).sum())
            yield Cause(
                "read-too-rarely",
                cut.name,
                f"the loss reads {counted(steps, len(read), 'steps')}, and {beyond:.0%} of "
                f"all are more than {reach:.3g} steps, the reach, before the next of them",
                beyond,
            )


def distances(read: Array) -> Array:
    """Steps from each step to the next one that is read, (T, B); inf where none follows.

    >>> distances(np.array([[0], [1], [0], [0], [1], [0]], bool)).ravel().tolist()
    [1.0, 0.0, 2.0, 1.0, 0.0, inf]
    """
    found = np.full(read.shape, np.inf)
    after = np.full(read.shape[1], np.inf)
    for k in reversed(range(len(read))):
        after = np.where(read[k], 0.0, after + 1.0)
        found[k] = after
    return found
