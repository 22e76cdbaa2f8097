"""Where NaN or Inf began: the first step, row and tap, in order of computation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..compile.records import Record
from .taps import Series, Step
from .verdict import Thresholds, Verdict

Array = np.ndarray


class First(NamedTuple):
    """The first NaN or Inf, that of `row` at step `t` of the layer at `path`.

    state: the state that holds it, or whose gradient does. tap: the first of that step to hold one;
    "" for a gradient. what: "NaN" or "Inf". growth: by which factor that row of the state had grown
    until the step before, from its smallest; 1 for a gradient.
    """

    path: str
    t: int
    row: int
    state: str
    tap: str
    what: str
    growth: float = 1.0

    def explains(self, verdict: Verdict, limits: Thresholds) -> Verdict:
        """The verdict, with where it began; a state that grew until it overflowed has exploded."""
        if verdict.kind == "broken" and self.what == "Inf" and self.growth > limits.exploding:
            words = f"the state grows by x{self.growth:.1e} until it overflows; {verdict.reason}"
            verdict = replace(verdict, kind="exploding", reason=words)
        return verdict.because(str(self))

    def __str__(self) -> str:
        place = f" of {self.path}" if self.path else ""
        if self.tap:
            return (
                f"{self.state} is {self.what} from t = {self.t}, row {self.row}, first seen in tap "
                f"{self.tap!r}{place}"
            )
        return (
            f"the gradient at {self.state}{place} is {self.what} from t = {self.t} back, "
            f"row {self.row}"
        )


class Heard(NamedTuple):
    """One run of a layer: its taps, which of them are states, and (T, B), the rows that take part
    in its steps, in order of computation; None if all do. whole: of a compiled one, all steps.
    """

    path: str
    taps: Mapping[str, Series]
    states: Sequence[str]
    real: Array | None = None
    whole: Record | None = None

    def steps(self) -> list[int]:
        return list(dict.fromkeys(t for name in self.states for t in self.taps[name]))


def first(runs: Iterable[Heard]) -> First | None:
    """Of all runs, in order of computation: among values; if they are finite, among gradients.

    A tap that is no state may hold Inf on purpose, as a mask: it counts where a state follows it.
    """
    runs = list(runs)
    for found in map(_in_values, runs):
        if found is not None:
            return found
    return next(filter(None, map(_in_gradients, reversed(runs))), None)


def _in_values(run: Heard) -> First | None:
    values = {} if run.whole is None else run.whole.values
    if all(name in values and _sums_up(values[name]) for name in run.states):
        return None
    for k, t in enumerate(run.steps()):
        for state in run.states:
            for row, value in _bad(run.taps[state].get(t), run.real, k):
                tap = next(n for n, series in run.taps.items() if _holds(series.get(t), row))
                growth = _growth([run.taps[state].get(s) for s in run.steps()[:k]], row)
                return First(run.path, t, row, state, tap, _word(value), growth)
    return None


def _growth(steps: Sequence[Step | None], row: int) -> float:
    sizes = [s for step in steps if step is not None if (s := _size(step, row)) > 0]
    return sizes[-1] / min(sizes) if sizes else 1.0


def _size(step: Step, row: int) -> float:
    return float(np.abs(_by_row(step.values)[row]).max(initial=0.0))


def _in_gradients(run: Heard) -> First | None:
    known = {} if run.whole is None else run.whole.gradients
    if all(name in known and np.isfinite(known[name]).all() for name in run.states):
        return None
    for t in reversed(run.steps()):
        for state in run.states:
            step = run.taps[state].get(t)
            norms = None if step is None else step.norms()
            if norms is not None and not np.isfinite(norms).all():
                row = int(np.argmin(np.isfinite(norms)))
                return First(run.path, t, row, state, "", _word(norms[row]))
    return None


def _bad(step: Step | None, real: Array | None, k: int) -> Iterator[tuple[int, float]]:
    """(row, value) of the first that is not finite, of the rows that take part."""
    if step is None or _sums_up(step.values):
        return
    bad = ~np.isfinite(_by_row(step.values))
    if real is not None:
        bad &= real[k][:, None]
    if bad.any():
        row = int(np.argmax(bad.any(axis=1)))
        yield row, _by_row(step.values)[row][bad[row]][0]


def _sums_up(values: Array) -> bool:
    """Whether the sum is finite, which NaN and Inf spoil: quicker than to look at each."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum()))


def _holds(step: Step | None, row: int) -> bool:
    return step is not None and not np.isfinite(_by_row(step.values)[row]).all()


def _by_row(x: Array) -> Array:
    """(B, n): a batch's rows are its first axis."""
    return x.reshape(len(x), -1) if x.ndim else x.reshape(1, 1)


def _word(value: float) -> str:
    return "NaN" if np.isnan(value) else "Inf"
