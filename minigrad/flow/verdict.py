"""Is my gradient healthy? A verdict on a profile |dL/dS_t|, from numbers alone.

The profile is read from the step nearest the loss backwards: n_0, n_1, ..., n_K, where `lag` k
counts the steps the gradient has travelled. Its *reach* is the number of steps back after which
less than `Thresholds.vanishing` of n_0 is left. It is read off where the sequence is long enough,
and else extrapolated from its end by the factor per step (see decay.py), with an interval. It is a
property of the net, not of the length of the sequence; so is the verdict, as far as that can be:

    vanishing   the reach is shorter than the sequence, or certainly shorter than `SHORT` steps,
                which is short for any; or n_k falls by as much on the way
    exploding   the same with a rise by more than `Thresholds.exploding`
    mixed       does both                                healthy     does neither
    cut         exactly zero from some lag on, though nowhere near underflow
    none        no gradient arrived                      undecided   too few steps to tell
    broken      NaN (or Inf without growth before it)

It is a verdict on the gradient, not on whether the net will learn.

(Hochreiter 1991; Bengio, Simard, Frasconi 1994; Pascanu, Mikolov, Bengio 2013 explain both
failures.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from .decay import Cliff, Fit, cliff, fit_decay, trusted
from .reach import SHORT, Reach, Travelled, falls_and_rises

Array = np.ndarray
UNKNOWN = Reach()
FAR = 10  # times the steps that were seen: no number of steps beyond that is put into words
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
class Verdict:
    """kind (see the head of this module), the reason in words, and the numbers behind it.

    ratio: norm at the farthest lag over the norm at lag 0 (nan if undefined). steps: lags
    travelled. fit: the factor per step; None where there is none, or a cliff. lost: the first lag
    at which less than `Thresholds.vanishing` of the norm at lag 0 arrives, or more than `exploding`
    of it, or NaN, or Inf; None if there is none. advice: what to try, where the layer that was
    judged is known.
    reach: the number of steps back, counted from the loss, after which less than
    `Thresholds.vanishing` (1e-3) of |dL/dS| is left; inf if that never happens, nan if it cannot be
    told. reach_low, reach_high: its 95 % interval. extrapolated: the sequence is shorter than the
    reach. path: the share of |dL/dS|^2 that each state holds at the far end, {"h": 0.0, "c": 1.0}.
    where: "time" or "depth".
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

    @property
    def reach_words(self) -> str:
        """`reach 7 steps`, `reach about 40 steps (extrapolated from 20)`, `reach beyond 100 steps`.

        Beyond is said of what may be more than `FAR` times as long as what was seen. A reach of
        under `SHORT` steps is said in the same words from any sequence.

        >>> judge(0.9 ** np.arange(50)).reach_words
        'reach about 66 steps (extrapolated from 49)'
        """
        if math.isnan(self.reach_low):
            return "reach cannot be told"
        if not self.extrapolated:
            return f"reach {plural(self.reach)}"
        if not self.reach_high <= FAR * self.steps:
            return f"reach beyond {plural(self.steps)}"
        about = "about " if self.reach >= SHORT else ""
        return f"reach {about}{plural(self.reach)} (extrapolated from {self.steps})"

    @property
    def path_words(self) -> str:
        """`at the far end c carries 97 %, h 3 %`; "" where there is one state only."""
        path = {state: share for state, share in self.path.items() if math.isfinite(share)}
        if len(path) < 2:
            return ""
        (first, most), *others = sorted(path.items(), key=lambda item: -item[1])
        parts = [f"{first} carries {_percent(most)}", *(f"{s} {_percent(x)}" for s, x in others)]
        return f"at the far end {', '.join(parts)}"

    def because(self, why: str, advice: str = "") -> Verdict:
        """The same verdict with one more sentence in its reason, and what to try."""
        reason = f"{self.reason}; {why}" if why else self.reason
        return replace(self, reason=reason, advice=advice or self.advice)

    _repr_html_: ClassVar[Callable[[Any], str]]  # notebook.py, which reads it, says how

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"half_life": self.half_life}

    def __str__(self) -> str:
        return "; ".join(filter(None, [f"{self.kind}: {self.reason}", self.path_words]))


def judge(
    profile: Array,
    thresholds: Thresholds | None = None,
    tiny: float = 0.0,
    rows: Array | None = None,
) -> Verdict:
    """The verdict on norms ordered by lag: profile[0] nearest the loss, profile[-1] farthest away.

    tiny: smallest normal number of the dtype the gradient was computed in. rows: (lags, B), the
        norms of each row of a batch, nan where it has none; they narrow the interval of the factor
        per step.

    >>> judge(0.5 ** np.arange(40)).kind, judge(np.ones(40)).kind, judge(1.5 ** np.arange(40)).kind
    ('vanishing', 'healthy', 'exploding')
    >>> judge(0.4 ** np.arange(5)).reach_words, judge(0.4 ** np.arange(50)).reach_words
    ('reach 8 steps (extrapolated from 4)', 'reach 8 steps')
    """
    limits = thresholds or Thresholds()
    profile = np.asarray(profile, dtype=np.float64)
    if profile.ndim != 1:
        raise ValueError(f"judge: expected norms of shape (lags,), got {list(profile.shape)}.")
    steps = max(profile.size - 1, 0)
    ratio = _ratio(profile)
    if not profile.size or not np.any(profile != 0):
        return Verdict("none", "no gradient arrived", ratio, steps)
    fit, at = fit_decay(profile, tiny, rows), _lost_at(profile, limits)

    def verdict(kind: str, reason: str, reach: Reach = UNKNOWN) -> Verdict:
        return Verdict(
            kind, reason, ratio, steps, fit, at,
            reach=reach.steps, reach_low=reach.low, reach_high=reach.high,
            extrapolated=reach.extrapolated,
        )  # fmt: skip

    if not np.isfinite(profile).all():
        return verdict(*_non_finite(profile, limits, tiny))
    if lag := _cut_at(profile, fit, tiny):
        return verdict(
            "cut",
            f"exactly zero {lag} steps from the loss and before, where {profile[lag - 1]:.1e} "
            f"was left a step later. That is no decay: a detach, a truncation, or units that are "
            f"all off or saturated to the last digit",
            Reach.seen(_last_above(profile[:lag], limits) + 1),
        )
    good = trusted(profile, tiny)
    if fit is None or good.sum() < limits.points:
        return verdict("undecided", f"{good.sum()} usable steps; {limits.points} are needed")
    drop = cliff(profile, tiny)
    if drop and (drop.lag > fit.start or drop.left < limits.vanishing):
        fit = None  # no rate is steady over a cliff
    own = fit if rows is None or fit is None else fit_decay(profile, tiny)  # of what goes on
    way = Travelled.of(profile, good, own, limits.vanishing, limits.exploding)
    found = verdict(way.kind(steps), "", way.reach)
    return replace(found, reason="; ".join(_words(found, way, drop, limits)))


def worst(verdicts: list[Verdict]) -> Verdict:
    """The most severe of several verdicts; among equals the first."""
    return max(verdicts, key=lambda v: SEVERITY.index(v.kind))


def _cut_at(profile: Array, fit: Fit | None, tiny: float) -> int:
    """The lag where zeros begin although one more step of decay would not underflow; else 0."""
    if profile[-1] != 0:
        return 0
    lag = profile.size - int(np.argmax(profile[::-1] != 0))
    expected = float(profile[lag - 1]) * (fit.rate if fit else 1.0)
    return lag if expected > 1e3 * max(tiny, np.finfo(np.float64).tiny) else 0


def _last_above(profile: Array, limits: Thresholds) -> int:
    return int(np.flatnonzero(profile >= limits.vanishing * profile[0])[-1])


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


def _non_finite(profile: Array, limits: Thresholds, tiny: float) -> tuple[str, str, Reach]:
    """Inf or NaN after growth is an explosion; out of nowhere it is a broken computation."""
    at = int(np.argmax(~np.isfinite(profile)))
    what = "Inf" if np.isinf(profile[at]) else "NaN"
    before = profile[:at]
    rise = falls_and_rises(np.log10(before[trusted(before, tiny)]))[1]
    if rise > math.log10(limits.exploding):
        return "exploding", f"overflows to {what} {plural(at)} from the loss", Reach.never()
    return (
        "broken",
        f"{what} {plural(at)} from the loss" if at else f"{what} at the loss itself",
        UNKNOWN,
    )


def _percent(share: float) -> str:
    """Only all of it is 100 %, and only nothing 0 %."""
    if 0 < share < 0.01:
        return "<1 %"
    if 0.99 < share < 1:
        return ">99 %"
    return f"{share:.0%}".replace("%", " %")


# -- in words -----------------------------------------------------------------------------------


def plural(steps: float) -> str:
    """`1 step`, `40 steps`."""
    return f"{steps:.0f} step{'' if steps == 1 else 's'}"


def _words(v: Verdict, way: Travelled, drop: Cliff | None, limits: Thresholds) -> list[str]:
    """The reason: what was seen, the factor per step with its interval, and how steady it is."""
    words = [] if v.kind == "exploding" else [v.reach_words + _interval(v)]
    if v.kind == "undecided":
        words.append(f"too few steps to tell whether it gets {SHORT} steps far")
    elif v.kind == "healthy":
        words.append(
            f"stays within a factor {10 ** max(way.fall, way.rise):.3g} over {v.steps} steps"
        )
    elif v.kind == "mixed":
        words.append(f"falls by 10^{way.fall:.1f} and rises by 10^{way.rise:.1f} on the way")
    elif v.kind == "vanishing" and v.extrapolated and way.falls:
        words.append(f"falls by 10^{way.fall:.1f} from its largest on the way")
    if drop:
        lags = f"from {drop.lag - 1} to {drop.lag} steps from the loss"
        words.append(f"a cliff: x{drop.left:.1e} in one step, {lags}")
    if v.fit:
        words.append(_rate(v.fit) + (" beyond it" if drop else ""))
    if v.kind == "vanishing":
        left = f"{v.ratio:.1e} of it is left" if v.ratio > 0 else "nothing of it is left"
        words.append(f"{left} after {plural(v.steps)}")
    if v.kind == "exploding":
        words.append(f"x{v.ratio:.1e} after {plural(v.steps)}{_past(v, way.growth, limits)}")
    if way.underflows:
        words.append(f"{plural(way.underflows)} underflow")
    return words


def _past(v: Verdict, growth: Reach, limits: Thresholds) -> str:
    if not math.isfinite(growth.steps):
        return ""
    said = f" (extrapolated from {v.steps})" if growth.extrapolated else ""
    return f", past x{limits.exploding:g} from {plural(growth.steps)} on{said}"


def _interval(v: Verdict) -> str:
    if not v.extrapolated or v.reach_low == v.reach_high or v.reach_high > FAR * v.steps:
        return ""
    return f", 95 %: {v.reach_low:.0f} to {v.reach_high:.0f}"


def _rate(fit: Fit) -> str:
    """The factor per step, its interval, how straight the line is, and its half-life."""
    words = (
        f"x{fit.rate:.3g} per step back (95 %: {fit.low:.3g} to {fit.high:.3g}, r2 {fit.r2:.2g})"
    )
    if all(f"{x:.3g}" == "1" for x in (fit.low, fit.rate, fit.high)):
        return f"constant: {words}"
    if fit.shape != "steady":
        words += f", {fit.shape}"
    if 0 < fit.half_life < math.inf:
        return f"{words}, halves every {fit.half_life:.3g} steps"
    return words + (f", doubles every {fit.doubling:.3g} steps" if fit.doubling < math.inf else "")
