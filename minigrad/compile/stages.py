"""A step in stages, when several threads share its units: who does what, and where they meet.

A product is divided by the columns of its panels, a loop along its longest axis, and a loop that
has to stay whole (a sum over the units) by the rows of the batch. Each number is computed as ever;
only who computes it changes. A thread goes on to the next stage at once if that touches nothing of
what others may still write or read: else all threads meet first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from .layout import Buffer
from .lowered import Loop, Lowered, Product
from .nest import accesses, divisible

Owner = tuple[str, int, int]  # equal ones give a coordinate to the same thread
ROWS: Owner = ("rows", 1, 1)
_NOBODY, _SEVERAL = -1, -2  # beside coordinates


@dataclass
class Stage:
    """A loop or a product, and how it is divided; meets: all threads meet before it.

    touched: (buffer, whether it is written) -> for each element of its row the coordinate at which
    the stage touches it, which says whose it is.
    """

    step: Loop | Product
    owner: Owner = ROWS
    touched: dict[tuple[str, bool], np.ndarray] = field(default_factory=dict)
    meets: bool = False

    def touch(self, buffer: Buffer, writes: bool, elements: np.ndarray, at: np.ndarray) -> None:
        """elements are read or written by whoever has the coordinates `at`."""
        if buffer.rows:
            none = np.full(buffer.size, _NOBODY)
            known = self.touched.setdefault((buffer.name, writes), none)
            before = known[elements]
            known[elements] = at
            other = known[elements] != at  # by another coordinate of these
            other |= (before != _NOBODY) & (before != at)
            known[elements[other]] = _SEVERAL

    def follows(self, other: Stage) -> bool:
        """Whether a thread may only come to it when all are through with the other one."""
        for (name, writes), mine in self.touched.items():
            for (named, wrote), theirs in other.touched.items():
                if name == named and (writes or wrote):
                    both = (mine != _NOBODY) & (theirs != _NOBODY)
                    same = (mine == theirs) & (mine != _SEVERAL) & (self.owner == other.owner)
                    if not same[both].all():
                        return True
        return False


def undivided(lowered: Lowered) -> list[Stage]:
    """The stages of a step of which a thread has all, for some rows."""
    return [Stage(step) for step in lowered.steps]


def divided(lowered: Lowered) -> list[Stage]:
    """The stages of a step that threads share."""
    stages = [_stage(step) for step in lowered.steps]
    since: list[Stage] = []  # since the last meeting
    for stage in [*stages, *stages]:  # twice: what comes first follows what came last
        stage.meets = stage.meets or any(map(stage.follows, since))
        since = [stage] if stage.meets else [*since, stage]
    return stages


def runs(stages: Sequence[Stage]) -> Iterator[list[Stage]]:
    """Each product alone, and together the loops that a thread does row by row, all of them."""
    run: list[Stage] = []
    for stage in stages:
        apart = any(isinstance(s.step, Product) for s in (stage, *run[-1:]))
        if run and (apart or stage.meets or stage.owner != run[0].owner):
            yield run
            run = []
        run.append(stage)
    if run:
        yield run


def _stage(step: Loop | Product) -> Stage:
    if isinstance(step, Product):
        stage = Stage(step, ("columns", step.n, 1))
        whole = step.a.offsets().ravel()
        stage.touch(step.a.buffer, False, whole, np.full(len(whole), _SEVERAL))
        at = np.broadcast_to(np.arange(step.n), step.out.shape).ravel()
        stage.touch(step.out.buffer, True, step.out.offsets().ravel(), at)
        return stage
    units = divisible(step)
    stage = Stage(step, ROWS if units is None else ("units", *units))
    for place, elements, at, writes in accesses(step):
        stage.touch(place.buffer, writes, elements, 0 * at if units is None else at)
    return stage
