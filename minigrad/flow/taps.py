"""What is kept of a tapped value at one step: the value, and the gradient that arrives at it.

Norms are accumulated in float64 and scaled by the largest element of each row, so that neither
1e-30 (float32) nor 1e-300 (float64) squared is lost. Gradients below the smallest normal number of
their dtype (1.2e-38 in float32) are denormal: they have lost digits, and the verdict's fit leaves
them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..norms import row_norms

Array = np.ndarray

# Share of the range of a sigmoid or tanh beyond which its slope is below a tenth of its maximum.
SATURATED = 0.95


class Step:
    """One tapped value at one step. `gradient` or `per_sample` is there once it has arrived."""

    __slots__ = ("gradient", "made_by", "per_sample", "values", "wants")

    def __init__(self, values: Array, made_by: str, wants: bool):
        self.values, self.made_by, self.wants = values, made_by, wants
        self.gradient: Array | None = None
        self.per_sample: Array | None = None

    def add_gradient(self, g: Array) -> None:
        """What one backward pass brought; several add up, as they do in .grad."""
        self.gradient = g if self.gradient is None else self.gradient + g
        self.per_sample = None

    @property
    def arrived(self) -> bool:
        return self.gradient is not None or self.per_sample is not None

    @property
    def tiny(self) -> float:
        """The smallest normal number of the dtype."""
        return float(np.finfo(self.values.dtype).tiny) if self.values.dtype.kind == "f" else 0.0

    def norms(self) -> Array | None:
        """|dL/d(value)| for each row, (rows,); None if no gradient arrived."""
        if self.per_sample is None and self.gradient is not None:
            self.per_sample = row_norms(self.gradient)
        return self.per_sample


Series = dict[int, Step]  # t -> what was tapped then, in order of computation


class SequenceTaps(NamedTuple):
    """A compiled layer's taps, as the scan recorded them: nothing is computed until it is read."""

    order: range
    record: Any
    made_by: dict[str, str]
    wants: bool

    def steps(self) -> dict[str, Series]:
        found: dict[str, Series] = {}
        for name, values in self.record.values.items():
            gradients = self.record.gradients.get(name)
            series = found[name] = {}
            for t in self.order:
                step = series[t] = Step(values[t], self.made_by[name], self.wants)
                if gradients is not None:
                    step.per_sample = gradients[t]
        return found


def stacked_norms(series: Series, steps: Sequence[int]) -> Array:
    """(T, B): zero where no gradient arrived, and for rows that a step does not have."""
    rows = max(_rows(step.values).shape[0] for step in series.values())
    found = np.zeros((len(steps), rows))
    for i, t in enumerate(steps):
        if t in series and (norms := series[t].norms()) is not None:
            found[i, : norms.size] = norms
    return found


def stacked(series: Series, steps: Sequence[int], what: str = "values") -> Array:
    """(T, B, n) of the values or gradients; nan (for gradients zero) where a step has none."""
    rows = [
        None if t not in series or (x := getattr(series[t], what)) is None else _rows(x)
        for t in steps
    ]
    there = [x for x in rows if x is not None]
    if len(there) == len(rows) and len({x.shape for x in there}) == 1:
        return np.stack(there)
    shape = np.max([_rows(step.values).shape for step in series.values()], axis=0)
    fill = np.nan if what == "values" else 0.0
    found = np.full((len(steps), *shape), fill)
    for i, x in enumerate(rows):
        if x is not None:
            found[i, : x.shape[0], : x.shape[1]] = x
    return found


def bad_numbers(series: Series) -> tuple[int, int]:
    """How many NaN and Inf: among the values, and among the norms of their gradients."""
    values = sum(int((~np.isfinite(step.values)).sum()) for step in series.values())
    arrived = [n for step in series.values() if (n := step.norms()) is not None]
    return values, sum(int((~np.isfinite(n)).sum()) for n in arrived)


def _rows(x: Array) -> Array:
    """(B, n): what comes before the last axis are rows."""
    return x.reshape(-1, x.shape[-1]) if x.ndim else x.reshape(1, 1)


def activations(series: Series, real: Array | None = None) -> tuple[Array, Array, Array]:
    """(mean, share saturated, mean slope) by step, (T,) each; the last two nan unless a sigmoid or
    tanh made them.

    real: (T, B) of bool, the rows that count at each step; nan where none does.
    """
    steps = list(series.values())
    rows = [_rows(step.values) for step in steps] if real is not None and not real.all() else []
    if rows and real is not None and (len(rows), *{len(x) for x in rows}) == real.shape:
        own = [
            Step(x[taken], step.made_by, step.wants)
            for x, taken, step in zip(rows, real, steps, strict=True)
        ]
        each = [activations({t: step}) for t, step in zip(series, own, strict=True)]
        return tuple(map(np.concatenate, zip(*each, strict=True)))  # type: ignore[return-value]
    if len({(step.made_by, step.values.shape) for step in steps}) > 1:
        each = [activations({t: step}) for t, step in series.items()]
        return tuple(map(np.concatenate, zip(*each, strict=True)))  # type: ignore[return-value]
    y = np.stack([step.values for step in steps]).reshape(len(steps), -1)
    nothing, made_by = np.full(len(steps), np.nan), steps[0].made_by
    if not y.size:
        return nothing, nothing, nothing
    with np.errstate(invalid="ignore", over="ignore"):
        mean = y.mean(axis=1, dtype=np.float64)
        if made_by not in ("tanh", "sigmoid"):
            return mean, nothing, nothing
        squares = np.einsum("ti,ti->t", y, y, dtype=np.float64, casting="safe") / y.shape[1]
        out = y if made_by == "tanh" else 2 * y - 1
        share = (np.abs(out) > SATURATED).mean(axis=1)
        share[np.isnan(mean)] = np.nan  # of a NaN nobody can say where its function is flat
        return mean, share, (1 if made_by == "tanh" else mean) - squares
