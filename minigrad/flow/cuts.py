"""Cuts: the gradient at all that is carried over from step to step, and from layer to layer.

    S_t     what step t leaves to step t + 1, in one direction: h, c, ... of every layer together
    dL/dS_t the gradient that comes to it from later steps, and from the loss where it reads S_t

A gradient travels in the net, not in a layer: with f = 1 an LSTM's c carries it however small dL/dh
is. The parts of S_t are independent coordinates here, so dL/dS_t is not the gradient of a tapped
h_t, which also has what goes on at the same step: to the layer above, or from h_t to c_t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ..norms import norm, row_norms
from .verdict import Thresholds, Verdict, judge

if TYPE_CHECKING:
    from .ways import Ways

Array = np.ndarray
FAR = 0.1  # the share of a profile that is its far end


def _as_it_is(verdict: Verdict) -> Verdict:
    return verdict


@dataclass(repr=False)
class Cut:
    """|dL/dS_t| along one time axis, by lag: how many steps the gradient has travelled.

    name: what the axis is called. paths: its layers, lowest first. labels: (path, state) of each
    part of S. profile: (lags,), over all parts and rows, of the last output that the loss reads:
    what was judged. summed: (lags,), the same of everything that the loss reads; equal to `profile`
    where that is one step of a row. per_sample: (lags, B), each row from its own last step on; nan
    where it has no step. shares: (lags, parts), of |dL/dS|^2. judged: the verdict on the profile,
    and `verdict` the same with reasons and advice, which cost more.
    groups: of the runs that move along together, one group after the other: path of a run -> that
    of the layer's first one on this axis, which stands for all.
    """

    name: str
    paths: list[str]
    labels: list[tuple[str, str]]
    profile: Array
    summed: Array
    per_sample: Array
    shares: Array
    judged: Verdict
    explained: Callable[[Verdict], Verdict] = _as_it_is
    groups: list[dict[str, str]] = field(default_factory=list)
    walked: Callable[[], Ways | None] | None = None

    def __post_init__(self) -> None:
        self.groups = self.groups or [{path: path} for path in self.paths]

    @cached_property
    def ways(self) -> Ways | None:
        """How the gradient went from run to run, by one more pass; None of a loop by hand."""
        return self.walked() if self.walked is not None else None

    @cached_property
    def verdict(self) -> Verdict:
        """Whether the gradient arrives, how far it reaches, by which path, and why."""
        return self.explained(self.judged)

    def __repr__(self) -> str:
        return f"<Cut {self.name}: {self.judged}>"

    _repr_html_: ClassVar[Callable[[Any], str]]  # notebook.py, which reads it, says how

    def to_dict(self) -> dict[str, object]:
        """All but per_sample, for JSON."""
        return {
            "name": self.name,
            "paths": list(self.paths),
            "labels": [list(label) for label in self.labels],
            "profile": self.profile.tolist(),
            "summed": self.summed.tolist(),
            "shares": self.shares.tolist(),
            "verdict": self.verdict.to_dict(),
        }


@dataclass(frozen=True)
class Depth:
    """What arrives at the outputs of a layer, and of the one below: norms over all steps."""

    upper: str
    lower: str
    arrived_upper: float
    arrived_lower: float
    thresholds: Thresholds = field(default_factory=Thresholds, repr=False)

    @property
    def ratio(self) -> float:
        """lower / upper; nan if nothing arrived above, or what did is not finite."""
        if not (0 < self.arrived_upper < math.inf and math.isfinite(self.arrived_lower)):
            return math.nan
        return self.arrived_lower / self.arrived_upper

    @property
    def verdict(self) -> Verdict:
        """healthy, vanishing (lost in depth), exploding, cut, or undecided."""
        between = f"between {_layer(self.upper)} and {_layer(self.lower)}"
        kind, reason = "healthy", f"x{self.ratio:.2g} {between}"
        if math.isnan(self.ratio):
            kind, reason = "undecided", f"cannot be told {between}: what arrives is 0, NaN or Inf"
        elif self.ratio == 0:
            kind, reason = "cut", f"no gradient passes {between}"
        elif self.ratio < self.thresholds.vanishing:
            kind = "vanishing"
            reason = f"lost in depth, {between}: x{self.ratio:.1e} of it arrives"
        elif self.ratio > self.thresholds.exploding:
            kind = "exploding"
            reason = f"grows in depth, {between}: x{self.ratio:.1e} of it arrives"
        return Verdict(kind, reason, self.ratio, 1, where="depth")

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "upper": self.upper, "lower": self.lower, "arrived_upper": self.arrived_upper,
            "arrived_lower": self.arrived_lower, "ratio": self.ratio,
            "verdict": self.verdict.to_dict(),
        }  # fmt: skip


def _layer(path: str) -> str:
    """`layer 2` for a path that ends in l2; else the path."""
    last = path.rpartition("/")[2]
    return f"layer {last[1:]}" if last[:1] == "l" and last[1:].isdecimal() else path or "network"


# -- numbers ------------------------------------------------------------------------------------


class Aligned(NamedTuple):
    """parts: (parts, lags, B), 0 where a row has no step so far back; there: (lags, B), has it."""

    parts: Array
    there: Array

    @property
    def per_sample(self) -> Array:
        """The norm over parts, (lags, B); nan where a row has no such lag."""
        if not self.parts.size:
            return np.zeros(self.there.shape)
        with np.errstate(invalid="ignore", over="ignore"):
            return np.where(self.there, norm(self.parts, axis=0)[0], np.nan)

    @property
    def profile(self) -> Array:
        """The norm over parts and rows, (lags,), going on with the rows that have the lag.

        Where rows end, what they held is not lost: the others are scaled so that the profile goes
        on as theirs do.
        """
        rows = np.where(self.there, self.per_sample, 0.0)
        sizes = row_norms(rows) if rows.size else np.zeros(0)
        scale, found = 1.0, sizes.copy()
        for k in range(1, len(rows)):
            if (self.there[k] != self.there[k - 1]).any():
                before = float(row_norms(np.where(self.there[k], rows[k - 1], 0.0)[None])[0])
                if 0 < before < math.inf and math.isfinite(sizes[k - 1]):
                    scale *= sizes[k - 1] / before
            found[k] = scale * sizes[k]
        return found


def aligned(parts: Array, real: Array, begins: Array | None = None) -> Aligned:
    """(parts, T, B) in order of computation, from each row's last step back.

    real: (T, B), the steps that a row takes part in; others are no lags. begins: where its episodes
    begin, behind which nothing is carried. A row's last step is the last that a gradient reached.
    """
    steps, rows = real.shape
    found, there = np.zeros((len(parts), steps, rows)), np.zeros((steps, rows), dtype=bool)
    reached = (parts != 0).any(axis=0) & real
    for b in np.flatnonzero(reached.any(axis=0)):
        back = np.flatnonzero(real[: steps - int(np.argmax(reached[::-1, b])), b])[::-1]
        if begins is not None and begins[back, b].any():
            back = back[: int(np.argmax(begins[back, b])) + 1]
        found[:, : len(back), b] = parts[:, back, b]
        there[: len(back), b] = True
    lags = int(there.any(axis=1).sum())
    return Aligned(found[:, :lags], there[:lags])


def shares(parts: Array) -> Array:
    """(parts, lags, B) -> (lags, parts): of the sum of squares over rows.

    Zeros where that is 0, or not finite.
    """
    count, lags, _ = parts.shape
    if not parts.size:
        return np.zeros((lags, count))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        sizes = norm(parts)[..., 0].T
        squares = (sizes / sizes.max(axis=1, keepdims=True)) ** 2
        return np.nan_to_num(squares / squares.sum(axis=1, keepdims=True))


@dataclass
class Measured:
    """What is known of one axis, in order of computation.

    alone, all: (parts, T, B), norms at each part of S_t, of the last output that the loss reads,
    and of all. real, begins: (T, B), see `aligned`. many: whether the loss reads more than one
    step of a row. untold: why `alone` is not known, if it is not. windowed: whether the loop was
    cut into windows.
    """

    name: str
    labels: list[tuple[str, str]]
    alone: Array
    all: Array
    real: Array
    begins: Array | None = None
    many: bool = False
    untold: str = ""
    windowed: bool = False
    tiny: float = 0.0

    @property
    def paths(self) -> list[str]:
        return list(dict.fromkeys(path for path, _ in self.labels))

    def cut(
        self, thresholds: Thresholds, explained: Callable[[Verdict], Verdict] = _as_it_is
    ) -> Cut:
        both = aligned(np.concatenate([self.alone, self.all]), self.real, self.begins)
        found, every = (Aligned(p, both.there) for p in np.split(both.parts, 2))
        profile = summed = found.profile
        if self.many:
            summed = every.profile
        by_part = shares(found.parts)
        verdict = self._judged(profile, found.per_sample, thresholds)
        verdict = replace(verdict, path=far_end(profile, by_part, self._named()))
        return Cut(
            self.name, self.paths, self.labels, profile, summed, found.per_sample, by_part, verdict,
            explained,
        )  # fmt: skip

    def _named(self) -> list[str]:
        """Names of the parts: those of the states, with the path where there are several layers."""
        several = len(self.paths) > 1
        return [f"{path}:{state}" if several else state for path, state in self.labels]

    def _judged(self, profile: Array, rows: Array, thresholds: Thresholds) -> Verdict:
        if self.untold:
            return cannot_tell(profile, self.untold)
        verdict = judge(profile, thresholds, self.tiny, rows)
        window = len(profile) - int(np.argmax(profile[::-1] != 0)) if profile.any() else 0
        if not self.windowed or not 0 < window < len(profile):
            return verdict
        inside = judge(profile[:window], thresholds, self.tiny, rows[:window])
        words = f"no gradient passes back further than {window} steps: truncated BPTT, in windows"
        beyond = inside.kind == "vanishing" and inside.extrapolated  # it would have ended later
        if inside.kind not in ("healthy", "undecided") and not beyond:
            return inside.because(words)
        reach = float(window)
        return replace(
            verdict, kind="cut", reason=f"{words}; within them: {inside.kind}, {inside.reason}",
            fit=inside.fit, lost=window, reach=reach, reach_low=reach, reach_high=reach,
            extrapolated=False,
        )  # fmt: skip


def far_end(profile: Array, by_part: Array, names: Sequence[str]) -> dict[str, float]:
    """The mean shares at the farthest lags that a finite gradient reaches."""
    there = np.flatnonzero(np.isfinite(profile) & (profile > 0))
    if not there.size:
        return {}
    far = there[-max(1, round(FAR * there.size)) :]
    mean = by_part[far].mean(axis=0)
    return {name: float(share) for name, share in zip(names, mean, strict=True)}


def cannot_tell(profile: Array, why: str) -> Verdict:
    """Of a loop where the gradient that is carried is not known."""
    ratio = float(profile[-1] / profile[0]) if profile.size and profile[0] else math.nan
    steps = max(profile.size - 1, 0)
    return Verdict("undecided", f"cannot be told from here: {why}", ratio, steps)
