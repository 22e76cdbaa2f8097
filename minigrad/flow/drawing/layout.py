"""Where the rows and columns of an unrolled network are.

Layers are stacked, and in each the states, h on top. Where there are two directions, all rows of
the reverse one stand half a column to the right: so what goes up and down between layers passes
through the gaps of both. What they hand to the layer above is then a row of its own, y.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from ..places import both_directions
from .canvas import NAMES_W, Canvas
from .dot import DrawingError
from .folding import columns
from .rows import Gate, Outputs, Row, Whole, names_at
from .travel import State, Strand, Travel

PITCH, ROW = 0.98, 0.66  # from column to column, from row to row
NODE_W, NODE_H = 0.62, 0.44
FEW = 3  # so many steps at which the loss enters are shown one by one


class Layout:
    """Takes its room on a canvas.

    stems: both directions of a layer together, lowest first. entries: column -> the states where
    the loss enters. gap: the column that two directions are to guess, where that is the task.
    at_ends: whether the loss enters only where a direction has its end. shift: of what is of a
    reverse direction.
    """

    def __init__(
        self,
        canvas: Canvas,
        travel: Travel,
        inputs: Mapping[int, str] | None,
        steps: Collection[int] | None,
        depth: int,
    ):
        self.travel, self.depth, self.has_inputs = travel, depth, inputs is not None
        self.inputs_y = 0.0
        self.stems: dict[str, list[Strand]] = {}
        for strand in travel.strands:
            self.stems.setdefault(both_directions(strand.path), []).append(strand)
        every = sorted({t for strand in travel.strands for t in strand.steps})
        if steps is not None and not set(steps) <= set(every):
            raise DrawingError(
                f"draw: steps={sorted(steps)!r}, and {travel.strands[0].path or 'the network'} has "
                f"steps {every[0]} to {every[-1]}."
            )
        self.entries = self._entries()
        self.gap = self._gap()
        two = any(len({strand.reverse for strand in group}) > 1 for group in self.stems.values())
        self.shift = PITCH / 2 if two and self.gap is None else 0.0
        entered = [(t, self._reverse(path)) for t, at in self.entries.items() for path, _ in at]
        ends = {False: every[-1], True: every[0]}
        self.at_ends = self.gap is None and all(t == ends[reverse] for t, reverse in entered)
        self.loss_y = 0.0 if self.at_ends or self.gap is not None else canvas.down(0.5)
        self.rows = self._rows(canvas)
        before = self.at_ends and any(reverse for _, reverse in entered)
        before |= any(self._reverse(earlier) for _, earlier in travel.behind)
        left = NAMES_W + (PITCH - self.shift if before else 0.0)
        sources = self.entries if len(self.entries) <= FEW else [*self.entries][-1:]
        bounds = {end for s in travel.strands for end in (min(s.steps), max(s.steps))}
        self.columns = columns(every, sources, left, PITCH, NODE_W, steps, bounds)

    @property
    def count(self) -> int:
        """Nodes it will take, about: two for a fold."""
        folds = sum(column.folded for column in self.columns)
        return (len(self.rows) + self.has_inputs) * (len(self.columns) + folds + 1)

    # -- what is where

    def first(self, t: int) -> int:
        """The first step of the column that a step is in."""
        return next(c.first for c in self.columns if c.first <= t <= c.last)

    def both(self, *rows: Row) -> Iterator[int]:
        """The steps that are drawn one by one and that all these rows have."""
        for column in self.columns:
            if not column.folded and all(row.has(column) for row in rows):
                yield column.first

    def states(self, path: str) -> list[Row]:
        """The rows of the states of a layer and direction, h on top."""
        return [row for row in self.rows if row.path == path and type(row) is Row]

    def outputs(self, stem: str) -> Row | None:
        """The row of what both directions of a layer hand up."""
        return next((r for r in self.rows if isinstance(r, Outputs) and r.path == stem), None)

    def entered(self, *steps: int) -> list[Row]:
        """The rows where the loss enters at one of these steps."""
        states = {state for t in steps for state in self.entries[t]}
        return [r for r in self.rows if type(r) is Row and (r.path, r.name) in states]

    def before_all(self) -> float:
        """The x of what comes before the first column."""
        column = self.columns[0]
        return column.x - column.width / 2 - PITCH + NODE_W / 2 + self.shift

    def after_all(self) -> float:
        """The x of what comes after the last column."""
        column = self.columns[-1]
        return column.x + column.width / 2 + PITCH - NODE_W / 2

    # -- rows

    def _reverse(self, path: str) -> bool:
        return any(x.reverse for group in self.stems.values() for x in group if x.path == path)

    def _entries(self) -> dict[int, list[State]]:
        """Of the states that are drawn."""
        shown = {(s.path, n) for s in self.travel.strands for n, _ in names_at(s, self.depth)}
        found: dict[int, list[State]] = {}
        for state, at in self.travel.entering.items():
            for t, norm in at.items():
                if norm != 0 and state in shown:
                    found.setdefault(t, []).append(state)
        return dict(sorted(found.items()))

    def _gap(self) -> int | None:
        """The step that two directions are to guess: one reads up to it, the other back to it."""
        groups = list(self.stems.values())
        if not self.has_inputs or len(groups) > 1 or len(self.entries) != 2:
            return None
        first, last = self.entries
        reverse = [self._reverse(path) for at in self.entries.values() for path, _ in at]
        return first + 1 if last - first == 2 and reverse == [False, True] else None

    def _rows(self, canvas: Canvas) -> list[Row]:
        """From top to bottom; the inputs lie below, or between the directions beside a gap."""
        rows: list[Row] = []
        lower = {beneath for _, beneath in self.travel.beneath}
        for stem, group in reversed(self.stems.items()):
            if self.shift and stem in lower:
                rows.append(self._outputs(stem, group, canvas.down(ROW)))
            for strand in group if self.gap is None else reversed(group):
                named = names_at(strand, self.depth)
                if self.gap is not None and strand.reverse:  # h is next to the inputs
                    named.reverse()
                elif self.gap is not None:
                    self.inputs_y = canvas.down(ROW)
                rows += [self._made(strand, name, gate, canvas.down(ROW)) for name, gate in named]
        if self.gap is None and self.has_inputs:
            self.inputs_y = canvas.down(ROW)
        for whole in self.travel.whole:
            values = whole.carried["S"]
            shift = self.shift if whole.reverse else 0.0
            rows.append(Whole(whole.path, "S", values, canvas.down(ROW), whole.reverse, shift))
        for k, row in enumerate(rows):  # a.b and a/b are two rows
            if any(row.id == other.id for other in rows[:k]):
                row.id += f"_{k}"
        return rows

    def _made(self, strand: Strand, name: str, gate: bool, y: float) -> Row:
        shift = self.shift if strand.reverse else 0.0
        place = (y, strand.reverse, shift, strand.begins)
        if gate:
            return Gate(strand.path, name, strand.gates[name], *place)
        return Row(strand.path, name, strand.carried[name], *place)

    def _outputs(self, stem: str, group: Sequence[Strand], y: float) -> Row:
        parts = [self.travel.received.get(strand.path) for strand in group]
        steps = {t for strand in group for t in strand.steps}
        known = [part for part in parts if part is not None]
        values = {t: float(np.hypot.reduce([p.get(t, 0.0) for p in known])) for t in steps}
        place = (y, False, self.shift / 2, group[0].begins)
        row = Outputs(stem, "y", values, *place)
        row.measured = bool(known)
        return row
