"""How far: the number of steps back after which next to nothing of a gradient is left."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .decay import LEAST, Fit

Array = np.ndarray
SHORT = 20  # steps: a gradient that does not get so far is vanishing whatever the sequence


class Reach(NamedTuple):
    """Steps back after which less than the threshold is left, and its 95 % interval.

    inf: never; nan: cannot be told. extrapolated: no lag of the sequence is so far back.
    """

    steps: float = math.nan
    low: float = math.nan
    high: float = math.nan
    extrapolated: bool = False

    @classmethod
    def seen(cls, steps: float) -> Reach:
        return cls(float(steps), float(steps), float(steps))

    @classmethod
    def never(cls) -> Reach:
        """Not within the sequence, nor beyond it."""
        return cls(math.inf, math.inf, math.inf, True)


class Travelled(NamedTuple):
    """Decades that a gradient fell and rose on its way, and how far it goes or would go."""

    fall: float
    rise: float
    falls: bool
    rises: bool
    reach: Reach
    growth: Reach  # the same for a rise
    underflows: int

    @classmethod
    def of(cls, profile: Array, good: Array, fit: Fit | None, low: float, high: float) -> Travelled:
        """good: the lags that can be trusted. low, high: the thresholds."""
        first = int(np.argmax(good))
        walk = np.full(profile.size - first, -math.inf)  # of what underflows nothing is left
        walk[good[first:]] = np.log(profile[good]) - math.log(profile[first])
        fall, rise = falls_and_rises(walk / math.log(10))
        falls, rises = fall > -math.log10(low), rise > math.log10(high)
        steady = None if falls and rises else fit
        reach = reached(walk, math.log(low), steady)
        growth = reached(-walk, -math.log(high), steady, -1)
        return cls(fall, rise, falls, rises, reach, growth, int(np.isinf(walk).sum()))

    def kind(self, steps: int) -> str:
        """vanishing, exploding, mixed, healthy, or undecided, after so many steps."""
        if self.falls or self.rises:
            return ("", "vanishing", "exploding", "mixed")[self.falls + 2 * self.rises]
        if self.reach.high < SHORT:
            return "vanishing"
        if self.growth.high < SHORT:
            return "exploding"
        far_enough = steps >= SHORT - 1 or min(self.reach.low, self.growth.low) >= SHORT
        return "healthy" if far_enough else "undecided"


def reached(walk: Array, level: float, fit: Fit | None, sign: int = 1) -> Reach:
    """The lag from which on `walk` stays below `level`, seen or extrapolated from its end."""
    last = walk.size - 1
    above = np.flatnonzero(walk >= level)
    if above.size < walk.size and (not above.size or above[-1] < last):
        return Reach.seen(above[-1] + 1 if above.size else 0)
    if fit is None or fit.points <= LEAST:
        return Reach(math.nan, last + 1.0, math.inf, True)
    further = fit.steps_to(sign * float(level - walk[last]))
    # the first whole step that is past the level: one more where it is met exactly
    steps, least, most = (last + math.floor(m + 1e-9) + 1.0 if m < math.inf else m for m in further)
    return Reach(steps, least, most, True)


def falls_and_rises(decades: Array) -> tuple[float, float]:
    """The largest of each between any lag and a later one."""
    if decades.size == 0:
        return 0.0, 0.0
    with np.errstate(invalid="ignore"):  # nothing that stays nothing neither falls nor rises
        fall = np.nanmax(np.maximum.accumulate(decades) - decades)
        rise = np.nanmax(decades - np.minimum.accumulate(decades))
    return float(fall), float(rise)
