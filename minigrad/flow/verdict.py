"""Is my gradient healthy? A verdict on a profile |dL/dh_t|, from numbers alone.

The profile is read from the step nearest the loss backwards: n_0, n_1, ..., n_K, where `lag` k
counts the steps the gradient has travelled. If each step multiplies it by the same factor, log n_k
is a straight line,

    log n_k = a + k log r,        r = the factor per step,   half-life = log 2 / -log r,

so r comes from least squares on the lags whose norm can be trusted: finite, not zero, and not
denormal (a denormal has lost digits; `tiny` is the smallest normal number of the dtype the gradient
was computed in). The interval of r is Student's at 95 %, widened because neighbouring residuals of
a real profile resemble each other.

The verdict itself does not need a straight line. It looks at the largest fall and the largest rise
of log n_k between any lag and a later one, and compares them with `Thresholds`:

    vanishing   falls by more than 1/threshold           exploding   rises by more than threshold
    mixed       does both                                healthy     does neither
    cut         exactly zero from some lag on, though nowhere near underflow
    none        no gradient arrived                      undecided   too few steps to tell
    broken      NaN (or Inf without growth before it)

(Hochreiter 1991; Bengio, Simard, Frasconi 1994; Pascanu, Mikolov, Bengio 2013 explain both
failures.)
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

Array = np.ndarray
SEVERITY = ("healthy", "undecided", "none", "cut", "mixed", "vanishing", "exploding", "broken")


@dataclass(frozen=True)
class Thresholds:
    """What counts as vanishing and exploding: ratios of norms between two steps of one sequence.

    vanishing: a step that gets less than this share of the gradient of a later step no longer
        learns from it
        (float32 keeps 7 digits; noise between batches hides less than about a thousandth).
    exploding: the same in the other direction.
    points: fewer trusted lags than this give no verdict.
    """

    vanishing: float = 1e-3
    exploding: float = 1e3
    points: int = 3

    def __post_init__(self) -> None:
        if not (0 < self.vanishing < 1 < self.exploding < math.inf):
            raise ValueError(
                f"Thresholds: expected 0 < vanishing < 1 < exploding, got "
                f"vanishing={self.vanishing!r}, exploding={self.exploding!r}."
            )
        if self.points < 2:
            raise ValueError(
                f"Thresholds: a line needs at least 2 points, got points={self.points!r}."
            )


@dataclass(frozen=True)
class Fit:
    """The line log n_k = intercept + k log(rate), natural logarithms.

    rate: factor per step; low, high: its 95 % interval (0 and inf if two points leave no freedom);
    r2: share of the variance explained (1 for a constant profile); points: lags used.
    """

    rate: float
    low: float
    high: float
    intercept: float
    r2: float
    points: int

    @property
    def half_life(self) -> float:
        """Steps in which the gradient halves; inf if it does not decay."""
        return math.log(2) / -math.log(self.rate) if 0 < self.rate < 1 else math.inf

    @property
    def doubling(self) -> float:
        """Steps in which the gradient doubles; inf if it does not grow."""
        return math.log(2) / math.log(self.rate) if 1 < self.rate < math.inf else math.inf


@dataclass(frozen=True)
class Verdict:
    """kind (see the head of this module), the reason in words, and the numbers behind it.

    ratio: norm at the farthest lag over the norm at lag 0 (nan if undefined). steps: lags
    travelled. lost: the first lag at which less than `Thresholds.vanishing` of the norm at lag 0
    arrives, or more than `exploding` of it, or NaN, or Inf; None if there is none. advice: what to
    try, where the layer that was judged is known.
    reach: the number of steps back, counted from the loss, after which less than 1e-3 of |dL/dS| is
    left; inf if that never happens, nan if it cannot be told. reach_low, reach_high: its 95 %
    interval. extrapolated: the sequence is shorter than the reach. path: the share of |dL/dS|^2
    that each state holds at the far end, {"h": 0.0, "c": 1.0}. where: "time" or "depth".
    """

    kind: str
    reason: str
    ratio: float
    steps: int
    fit: Fit | None = None
    lost: int | None = None
    advice: str = ""
    reach: float = math.nan
    reach_low: float = math.nan
    reach_high: float = math.nan
    extrapolated: bool = False
    path: dict[str, float] = field(default_factory=dict, hash=False)
    where: str = "time"

    @property
    def rate(self) -> float:
        """Fitted factor per step back, nan if there is no fit."""
        return self.fit.rate if self.fit else math.nan

    @property
    def half_life(self) -> float:
        """Steps in which the gradient halves; inf if it does not decay, nan without a fit."""
        return self.fit.half_life if self.fit else math.nan

    def because(self, why: str, advice: str = "") -> Verdict:
        """The same verdict with one more sentence in its reason, and what to try."""
        reason = f"{self.reason}; {why}" if why else self.reason
        return replace(self, reason=reason, advice=advice or self.advice)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"half_life": self.half_life}

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


def fit_decay(profile: Array, tiny: float = 0.0) -> Fit | None:
    """The factor per step of a profile ordered by lag; None if fewer than 2 lags can be trusted.

    >>> fit = fit_decay(3.0 * 0.5 ** np.arange(20))
    >>> round(fit.rate, 12), round(fit.half_life, 12), fit.points
    (0.5, 1.0, 20)
    """
    profile = np.asarray(profile, dtype=np.float64)
    trusted = _trusted(profile, tiny)
    lags = np.flatnonzero(trusted).astype(np.float64)
    if lags.size < 2:
        return None
    y = np.log(profile[trusted])
    x = lags - lags.mean()
    sxx = float(x @ x)
    slope = float(x @ y) / sxx
    residual = y - y.mean() - slope * x
    sse, total = float(residual @ residual), float(np.sum((y - y.mean()) ** 2))
    noise = (4 * np.finfo(np.float64).eps * float(np.abs(y).max(initial=1.0))) ** 2 * y.size
    r2 = 1.0 if total <= noise else max(0.0, 1.0 - sse / total)
    margin = _margin(residual, sxx)
    return Fit(
        rate=_exp(slope),
        low=_exp(slope - margin),
        high=_exp(slope + margin),
        intercept=float(y.mean() - slope * lags.mean()),
        r2=r2,
        points=int(lags.size),
    )


def judge(profile: Array, thresholds: Thresholds | None = None, tiny: float = 0.0) -> Verdict:
    """The verdict on norms ordered by lag: profile[0] nearest the loss, profile[-1] farthest away.

    >>> judge(0.5 ** np.arange(40)).kind, judge(np.ones(40)).kind, judge(1.5 ** np.arange(40)).kind
    ('vanishing', 'healthy', 'exploding')
    """
    limits = thresholds or Thresholds()
    profile = np.asarray(profile, dtype=np.float64)
    if profile.ndim != 1:
        raise ValueError(f"judge: expected norms of shape (lags,), got {list(profile.shape)}.")
    steps = max(profile.size - 1, 0)
    ratio = _ratio(profile)
    if not profile.size or not np.any(profile != 0):
        return Verdict("none", "no gradient arrived", ratio, steps)
    fit = fit_decay(profile, tiny)

    at = _lost_at(profile, limits)

    def verdict(kind: str, reason: str) -> Verdict:
        return Verdict(kind, reason, ratio, steps, fit, at)

    if not np.isfinite(profile).all():
        return verdict(*_non_finite(profile, limits, tiny))
    if lag := _cut_at(profile, fit, tiny):
        return verdict(
            "cut",
            f"exactly zero {lag} steps from the loss and before, where {profile[lag - 1]:.1e} "
            f"was left a step later. That is no decay: a detach, a truncation, or units that are "
            f"all off or saturated to the last digit",
        )
    trusted = _trusted(profile, tiny)
    if fit is None or fit.points < limits.points:
        few = f"{int(trusted.sum())} usable steps; {limits.points} are needed"
        return verdict("undecided", few)
    fall, rise = _largest_fall_and_rise(np.log10(profile[trusted]))
    falls, rises = fall > -math.log10(limits.vanishing), rise > math.log10(limits.exploding)
    underflows = int((~trusted).sum())
    if underflows and not rises and not falls:
        falls = True  # underflow is the end of a fall
    kind = ("healthy", "vanishing", "exploding", "mixed")[falls + 2 * rises]
    reason = _reason(kind, fit, ratio, steps, fall, rise)
    if at is not None and kind in ("vanishing", "exploding"):
        limit = limits.vanishing if kind == "vanishing" else limits.exploding
        reason += f", past x{limit:g} from {at} steps on"
    if underflows:
        reason += f"; {underflows} steps underflow"
    return verdict(kind, reason)


def worst(verdicts: list[Verdict]) -> Verdict:
    """The most severe of several verdicts; among equals the first."""
    return max(verdicts, key=lambda v: SEVERITY.index(v.kind))


def _exp(x: float) -> float:
    return math.exp(x) if x < 709 else math.inf


def _trusted(profile: Array, tiny: float) -> Array:
    return np.isfinite(profile) & (profile > 0) & (profile >= tiny)


def _cut_at(profile: Array, fit: Fit | None, tiny: float) -> int:
    """The lag where zeros begin although one more step of decay would not underflow; else 0."""
    if profile[-1] != 0:
        return 0
    lag = profile.size - int(np.argmax(profile[::-1] != 0))
    expected = float(profile[lag - 1]) * (fit.rate if fit else 1.0)
    return lag if expected > 1e3 * max(tiny, np.finfo(np.float64).tiny) else 0


def _ratio(profile: Array) -> float:
    if profile.size == 0 or not np.isfinite(profile[[0, -1]]).all() or profile[0] == 0:
        return math.nan
    with np.errstate(over="ignore"):
        return float(profile[-1] / profile[0])


def _lost_at(profile: Array, limits: Thresholds) -> int | None:
    """The first lag that is beyond a threshold, seen from lag 0."""
    if not np.isfinite(profile[0]) or profile[0] == 0:
        return 0
    with np.errstate(over="ignore", invalid="ignore"):
        share = profile / profile[0]
    beyond = ~(share >= limits.vanishing) | ~(share <= limits.exploding)
    return int(np.argmax(beyond)) if beyond.any() else None


def _largest_fall_and_rise(decades: Array) -> tuple[float, float]:
    if decades.size == 0:
        return 0.0, 0.0
    fall = np.max(np.maximum.accumulate(decades) - decades)
    rise = np.max(decades - np.minimum.accumulate(decades))
    return float(fall), float(rise)


def _non_finite(profile: Array, limits: Thresholds, tiny: float) -> tuple[str, str]:
    """Inf or NaN after growth is an explosion; out of nowhere it is a broken computation."""
    at = int(np.argmax(~np.isfinite(profile)))
    what = "Inf" if np.isinf(profile[at]) else "NaN"
    before = profile[:at]
    rise = _largest_fall_and_rise(np.log10(before[_trusted(before, tiny)]))[1]
    if rise > math.log10(limits.exploding):
        return "exploding", f"overflows to {what} {at} steps from the loss"
    return "broken", f"{what} {at} steps from the loss" if at else f"{what} at the loss itself"


def _margin(residual: Array, sxx: float) -> float:
    """Half the 95 % interval of the slope. Residuals with correlation p count as n (1-p)/(1+p)."""
    n = residual.size
    if n < 3:
        return math.inf
    sse = float(residual @ residual)
    p = float(residual[1:] @ residual[:-1]) / sse if sse > 0 else 0.0
    p = min(max(p, 0.0), 0.99)
    effective = max(n * (1 - p) / (1 + p), 3.0)
    return _student(effective - 2) * math.sqrt(sse / (effective - 2) / sxx)


def _student(freedom: float) -> float:
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


def _reason(kind: str, fit: Fit, ratio: float, steps: int, fall: float, rise: float) -> str:
    per_step = f"x{fit.rate:.3g} per step back (95 %: {fit.low:.3g} to {fit.high:.3g})"
    if kind == "vanishing":
        left = f"{ratio:.1e} of it is left" if ratio > 0 else "nothing of it is left"
        halves = f", halves every {fit.half_life:.3g} steps" if fit.half_life < math.inf else ""
        return f"{per_step}{halves}: {left} after {steps} steps"
    if kind == "exploding":
        doubles = f", doubles every {fit.doubling:.3g} steps" if fit.doubling < math.inf else ""
        return f"{per_step}{doubles}: x{ratio:.1e} after {steps} steps"
    if kind == "mixed":
        return f"falls by 10^{fall:.1f} and rises by 10^{rise:.1f} on the way; {per_step}"
    return f"stays within a factor {10 ** max(fall, rise):.3g} over {steps} steps; {per_step}"
