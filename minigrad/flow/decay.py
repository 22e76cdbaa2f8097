"""How fast: the factor per step of a gradient on its way back, with an interval that means 95 %.

The norms n_0, n_1, ... of a gradient that has travelled 0, 1, ... steps are products: each step
multiplies by a factor of its own. So log n_k is close to a random walk, not to a line with noise,
and what can be averaged is its increments,

    d_k = log n_k - log n_{k-1},         log r = mean of d_k,       r = the factor per step.

Neighbouring increments resemble each other, so their variance is not what decides how far the mean
may be off; the power of their lowest frequencies is. With the cosine transform of the n increments,

    c_j = sqrt(2/n) sum_k d_k cos(pi j (k + 1/2) / n),     w^2 = (c_1^2 + ... + c_v^2) / v,

log r is known to +- t_v w / sqrt(n), with Student's t of v degrees of freedom: v frequencies say
how large w is, and no more. (E. Lazarus, D. J. Lewis, J. H. Stock, M. W. Watson, "HAR inference:
recommendations for practice", Journal of Business & Economic Statistics 36, 2018, equation 10, and
their v = 0.4 n^(2/3).) Where the lowest third of them holds more than `TWICE` the power of the
others, the increments remember for longer than that supposes, and only that third is used.

The gradient of a loss first turns into the direction that decays slowest, which takes some steps:
the first `TURNING` of the increments are left out. Where they go on to change, so that the slowest
cosine stands out from the others, the interval holds the factor at the farthest lag too, and those
that it would come to by changing `FURTHER` times as much again.

With a batch, d_k is the mean over its rows: the norm over all of them follows the row that decays
slowest. `tools/intervals.py` tells how often the interval holds e^lambda_1, the factor per step of
an endless sequence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Array = np.ndarray
TURNING = 1 / 4  # of the increments, nearest the loss
FEW = 8  # increments of which none can be spared
TWICE = 2.0
ALONE = 3.0  # a cliff is so many times as high as any other step
STEEP = math.log(10.0)  # and at least so high
LIKELY, SURE = 2.0, 4.0  # times its spread: a trend of the increments, allowed for and said
FURTHER = 2.0  # times what it changed by already, a trend may go on to change
LEAST = 4  # increments, to say anything about steps that were not taken


@dataclass(frozen=True)
class Fit:
    """log n_k grows by log(rate) a step, natural logarithms.

    rate: factor per step; low, high: its 95 % interval (0 and inf if a single increment tells
    nothing about it). intercept: of the line with that slope through the middle of the lags used;
    r2: the share of the variance of log n_k that it explains (1 for a constant profile). points:
    lags used; start: the first of them. spread: w, by which log n_k strays from the line in a step
    (in m steps: sqrt(m) w); freedom: how many numbers tell that. drift: by how much the increments
    change over these lags, 0 where that may well be chance. shape: steady, or, where that is sure,
    levelling off or steepening: the factor comes nearer to 1 on the way, or leaves it.
    """

    rate: float
    low: float
    high: float
    intercept: float
    r2: float
    points: int
    start: int = 0
    spread: float = math.nan
    freedom: int = 0
    drift: float = 0.0
    shape: str = "steady"

    @property
    def half_life(self) -> float:
        """Steps in which the gradient halves; inf if it does not decay."""
        return math.log(2) / -math.log(self.rate) if 0 < self.rate < 1 else math.inf

    @property
    def doubling(self) -> float:
        """Steps in which the gradient doubles; inf if it does not grow."""
        return math.log(2) / math.log(self.rate) if 1 < self.rate < math.inf else math.inf

    def steps_to(self, change: float) -> tuple[float, float, float]:
        """(expected, low, high): steps in which log n changes by `change`; inf for never.

        low, high: 95 %, of the slope and of the walk around it: where (m log r - change)^2 =
        t^2 w^2 (m + m^2 / n).

        >>> fit = fit_decay(0.5 ** np.arange(9))
        >>> [round(m, 9) for m in fit.steps_to(math.log(0.25))]
        [2.0, 2.0, 2.0]
        """
        now = math.log(self.rate) + self.drift / 2  # at the farthest lag
        sign = math.copysign(1.0, change)
        found = [self._steps(sign * slope, abs(change)) for slope in _slopes(now, self.drift)]
        low, high = min(x[1] for x in found), max(x[2] for x in found)
        return self._steps(sign * now, abs(change))[0], low, high

    def _steps(self, slope: float, change: float) -> tuple[float, float, float]:
        expected = change / slope if slope > 0 else math.inf
        q = (student(self.freedom) * self.spread) ** 2 if self.freedom else math.inf
        if not math.isfinite(q):
            return expected, 0.0, math.inf
        n = self.points - 1
        a, b = slope**2 - q / n, 2 * change * slope + q  # a m^2 - b m + change^2 = 0
        under = q * (4 * change * slope + q + 4 * change**2 / n)
        if b <= 0 or under < 0:
            return expected, math.inf, math.inf
        root = b + math.sqrt(under)
        return expected, 2 * change**2 / root, root / (2 * a) if a > 0 < slope else math.inf


class Cliff(NamedTuple):
    """One step, from `lag - 1` to `lag`, that takes most of a fall: by a factor of `left`."""

    lag: int
    left: float


def fit_decay(profile: Array, tiny: float = 0.0, rows: Array | None = None) -> Fit | None:
    """The factor per step of a profile ordered by lag; None if fewer than 2 lags can be trusted.

    profile: (lags,), norms. tiny: the smallest normal number of their dtype; what is smaller has
        lost digits and is not trusted, nor are zeros, NaN and Inf. rows: (lags, B), the norms of
        each row of the batch, nan where it has none, for an interval that all of them narrow.

    >>> fit = fit_decay(3.0 * 0.5 ** np.arange(20))
    >>> round(fit.rate, 12), round(fit.half_life, 12), fit.points, fit.start
    (0.5, 1.0, 16, 4)
    """
    profile = np.asarray(profile, dtype=np.float64)
    every = increments(profile if rows is None else rows, tiny)
    there = np.flatnonzero(np.isfinite(every))
    if not there.size:
        return None
    skipped = int(TURNING * there.size) if there.size >= FEW else 0
    there = there[skipped:]
    used = every[there]
    slope = float(used.mean())
    power = _power(used)
    freedom = power.size
    spread = math.sqrt(float(power.mean())) if freedom else math.nan
    margin = student(freedom) * spread / math.sqrt(used.size) if freedom else math.inf
    drift, shape = _drift(used)
    slopes = _slopes(slope + drift / 2, drift)
    start = int(there[0])
    intercept, r2 = _line(profile, tiny, start, int(there[-1]) + 1, slope)
    return Fit(
        rate=_exp(slope),
        low=_exp(min(slopes) - margin),
        high=_exp(max(slopes) + margin),
        intercept=intercept,
        r2=r2,
        points=used.size + 1,
        start=start,
        spread=spread,
        freedom=freedom,
        drift=drift,
        shape=shape,
    )


def cliff(profile: Array, tiny: float = 0.0) -> Cliff | None:
    """The step that takes most of the fall of a profile, if one stands alone.

    >>> cliff(np.array([1.0, 0.9, 0.8, 0.8e-4, 0.7e-4]))
    Cliff(lag=3, left=0.0001)
    """
    d = np.nan_to_num(increments(profile, tiny))
    if d.size < 2:
        return None
    at = int(np.argmin(d))
    others = float(np.abs(np.delete(d, at)).max())
    walk = np.cumsum(np.r_[0.0, d])
    fall = float(np.max(np.maximum.accumulate(walk) - walk))
    high = -float(d[at])
    if high < max(STEEP, ALONE * others, fall / 2):
        return None
    return Cliff(at + 1, float(f"{math.exp(-high):.12g}"))


def trusted(norms: Array, tiny: float) -> Array:
    """Which norms have all their digits: finite, not zero, not denormal."""
    return np.isfinite(norms) & (norms > 0) & (norms >= tiny)


def increments(norms: Array, tiny: float = 0.0) -> Array:
    """(lags,) or (lags, B) -> (lags - 1,), of the logarithm, mean over rows; nan where unknown."""
    norms = np.asarray(norms, dtype=np.float64)
    columns = norms.reshape(len(norms), -1) if norms.size else np.zeros((len(norms), 1))
    logs = np.full(columns.shape, np.nan)
    known = trusted(columns, tiny)
    logs[known] = np.log(columns[known])
    steps = np.diff(logs, axis=0)
    there = ~np.isnan(steps)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(there, steps, 0.0).sum(axis=1) / there.sum(axis=1))


def student(freedom: float) -> float:
    """The 97.5 % quantile of Student's t (expansion in 1/freedom; within 1 %)."""
    if freedom < 3:  # the expansion fails here; interpolate its exact logarithm
        exact = np.log([3.182, 4.303, 12.706])
        return float(np.exp(np.interp(1 / freedom, [1 / 3, 1 / 2, 1.0], exact)))
    z, n = 1.959964, freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )


def _cosines(d: Array, count: int) -> Array:
    """c_1 ... c_count."""
    n = d.size
    angles = np.outer(np.arange(1, count + 1), np.arange(n) + 0.5) * (math.pi / n)
    return np.asarray(math.sqrt(2 / n) * (np.cos(angles) @ (d - d.mean())))


def _power(d: Array) -> Array:
    """The squares of those of the lowest frequencies that tell the spread of a sum."""
    third = min(3, d.size - 1)
    count = min(max(third, round(0.4 * d.size ** (2 / 3))), d.size - 1)
    power = _cosines(d, count) ** 2
    third = max(third, count // 3)
    low, others = power[:third], power[third:]
    return low if others.size and low.mean() > TWICE * others.mean() else power


def _drift(d: Array) -> tuple[float, str]:
    """By how much increments change from first to last, 0 if that may be chance, and the shape."""
    if d.size < LEAST:
        return 0.0, "steady"
    slowest, *others = _cosines(d, min(max(4, round(0.4 * d.size ** (2 / 3))), d.size - 1))
    spread = math.sqrt(float(np.mean(np.square(others))))
    if abs(slowest) <= max(LIKELY * spread, 1e-9):
        return 0.0, "steady"
    x = np.arange(d.size) - (d.size - 1) / 2
    drift = float(x @ d / (x @ x)) * (d.size - 1)
    if abs(slowest) <= SURE * spread:
        return drift, "steady"
    return drift, "levelling off" if (drift > 0) == (d.mean() < 0) else "steepening"


def _slopes(now: float, drift: float) -> tuple[float, float, float]:
    """Of log n: in the middle of the lags, at the farthest, and where a drift may end."""
    return now - drift / 2, now, now + FURTHER * drift


def _line(profile: Array, tiny: float, start: int, stop: int, slope: float) -> tuple[float, float]:
    """Intercept and r2 of the line of that slope through the middle of lags start ... stop."""
    lags = start + np.flatnonzero(trusted(profile[start : stop + 1], tiny))
    if not lags.size:
        return math.nan, math.nan
    y = np.log(profile[lags])
    middle = float(y.mean())
    total = float(np.sum((y - middle) ** 2))
    sse = float(np.sum((y - middle - slope * (lags - lags.mean())) ** 2))
    noise = (4 * np.finfo(np.float64).eps * float(np.abs(y).max(initial=1.0))) ** 2 * y.size
    r2 = 1.0 if total <= noise else max(0.0, 1.0 - sse / total)
    return middle - slope * float(lags.mean()), r2


def _exp(x: float) -> float:
    return math.exp(x) if x < 709 else math.inf
