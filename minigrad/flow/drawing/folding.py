"""Which time steps of a long sequence are drawn one by one, and which fold into a strip."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

HEAD, TAIL, AROUND = 3, 4, 1  # steps shown at the start, at the end, on each side of a loss
MAX_STRIPES = 64  # in one strip


@dataclass(frozen=True)
class Column:
    """The steps first ... last, counted from 0; a fold if there is more than one. Inches."""

    first: int
    last: int
    x: float
    width: float

    @property
    def folded(self) -> bool:
        return self.last > self.first

    @property
    def title(self) -> str:
        """`× 93 steps`: how many it stands for."""
        return f"× {self.last - self.first + 1} steps"


def columns(
    steps: Sequence[int],
    sources: Collection[int],
    left: float,
    pitch: float,
    width: float,
    chosen: Collection[int] | None = None,
    bounds: Collection[int] = (),
) -> list[Column]:
    """Columns from `left` on: `width` wide for a step, and wider for a fold.

    sources: the steps at which the loss enters. chosen: the steps that are shown one by one; left
    out, those at the ends, the sources and their neighbours, and bounds: where layers begin or end.
    """
    if chosen is not None:
        shown = set(chosen)
    else:
        shown = set(steps[:HEAD]) | set(steps[-TAIL:]) | set(bounds)
        for source in sources:
            shown |= set(range(source - AROUND, source + AROUND + 1))
    gap = pitch - width
    found = []
    for run in runs(steps, shown):
        w = width if len(run) == 1 else min(2.6, max(1.2, 0.05 * len(run)))
        found.append(Column(run[0], run[-1], left + gap / 2 + w / 2, w))
        left += w + gap
    return found


def runs(steps: Sequence[int], shown: Collection[int]) -> list[list[int]]:
    """Each shown step alone, the others in runs; a run of one or two is shown after all.

    >>> runs(range(9), {0, 5, 8})
    [[0], [1, 2, 3, 4], [5], [6], [7], [8]]
    """
    found: list[list[int]] = []
    fold: list[int] = []
    for t in [*steps, None]:
        if t is not None and t not in shown:
            fold.append(t)
            continue
        found += [[s] for s in fold] if len(fold) < 3 else [fold]
        fold = []
        if t is not None:
            found.append([t])
    return [run for run in found if run]


def thinned(steps: Sequence[int]) -> list[int]:
    """At most MAX_STRIPES of them, evenly spaced."""
    if len(steps) <= MAX_STRIPES:
        return list(steps)
    return [steps[i] for i in np.linspace(0, len(steps) - 1, MAX_STRIPES).astype(int)]
