"""One panel of an unrolled network on a canvas: its nodes, and arrows as wide as the gradient."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..places import both_directions
from .canvas import NAMES_W, PLAIN, Canvas
from .colors import INK, MUTED, PAPER, UNREACHED, power_of_ten, subscript
from .dot import visible
from .folding import Column, thinned
from .layout import NODE_H, NODE_W, PITCH, Layout
from .rows import Gate, Outputs, Row, wrapped
from .travel import Travel, largest


class Unrolled:
    """One panel; where everything is on it, `where` says."""

    def __init__(
        self,
        canvas: Canvas,
        key: str,
        travel: Travel,
        inputs: Mapping[int, str] | None,
        steps: Collection[int] | None,
        depth: int,
    ):
        self.canvas, self.key, self.travel, self.inputs = canvas, key, travel, inputs
        self.where = Layout(canvas, travel, inputs, steps, depth)

    def draw(self) -> None:
        rows, stems = self.where.rows, self.where.stems
        for row in rows:
            self._row(row)
        for upper, lower in pairwise(rows):
            if upper.path == lower.path and type(upper) is type(lower) is Row:
                self._within(upper, lower)
        for above, beneath in self.travel.beneath:
            if above in stems and beneath in stems:
                self._between(above, beneath)
        for (later, earlier), norm in sorted(self.travel.behind.items(), key=lambda item: item[0]):
            self._behind(later, earlier, norm)
        if self.inputs is not None:
            self._inputs(self.inputs)
        self._loss()
        self.canvas.y -= 0.2

    def at(self, row: Row, t: int) -> str:
        """The node of a row at a step, or of the fold that the step is in."""
        return f"{self.key}_{row.id}_t{self.where.first(t)}"

    # -- nodes

    def _row(self, row: Row) -> None:
        own = [column for column in self.where.columns if row.has(column)]
        self._name(row, own)
        for column in own:
            (self._fold if column.folded else self._step)(row, column)
        if type(row) is not Row:
            return
        for a, b in pairwise(own):
            near, far = (a, b) if row.reverse else (b, a)  # to the loss
            t = far.first if row.reverse else far.last
            norm = row.value(t)
            if norm == self.travel.entering.get((row.path, row.name), {}).get(t):
                norm = 0.0  # all of it is the loss's own
            tip = f"|dL/d{row.name}| = {norm:.6g} goes back to t = {row.number(t)}"
            self.canvas.arrow(self.at(row, near.first), self.at(row, far.first), norm, tip)

    def _name(self, row: Row, own: Sequence[Column]) -> None:
        """At the left, or where the row begins."""
        begins = own and own[0] is not self.where.columns[0]
        left = own[0].x - own[0].width / 2 if begins else NAMES_W
        title = wrapped(row.title)
        wide = title.count("\n") > 1 or max(map(len, title.split("\n"))) > 19
        look: dict[str, Any] = dict(PLAIN, fontcolor=MUTED, fontsize=8 if wide else 9)
        place = (left - NAMES_W / 2 - 0.1, row.y, NAMES_W, NODE_H)
        self.canvas.node(f"{self.key}_{row.id}_name", *place, title, **look)

    def _fold(self, row: Row, column: Column) -> None:
        steps = range(column.first, column.last + 1)
        own = [t for t in steps if t in row.values]
        values = [row.value(t) for t in own]
        key, tip = self.at(row, column.first), f"{min(values):.3g} to {max(values):.3g}"
        place = (column.x + row.shift, row.y, column.width, row.height)
        if any(values):
            colors = [row.color(t, self.canvas.scale) for t in thinned(steps)]
            self.canvas.strip(f"{key}_strip", *place, colors)
            look: dict[str, Any] = dict(style="", penwidth=0.7)
        else:
            look = dict(style="rounded,dashed", fontcolor=UNREACHED, color=UNREACHED)
        whole = column.title if len(own) == len(steps) else f"× {len(own)} steps"
        title = "\n".join(filter(None, (whole, row.factor(own[0], own[-1]))))
        tip = f"t = {row.number(column.first)} to {row.number(column.last)}: {tip}"
        self.canvas.node(key, *place, title, tooltip=tip, **look)

    def _step(self, row: Row, column: Column) -> None:
        t = column.first
        value, color = row.value(t), row.color(t, self.canvas.scale)
        look: dict[str, Any] = dict(fillcolor=color, tooltip=row.tooltip(t))
        if value == 0 and not isinstance(row, Gate):
            look |= dict(style="rounded,filled,dashed", fontcolor=UNREACHED, color=UNREACHED)
        if (row.path, row.name) in self.where.entries.get(t, ()):
            look |= dict(color=INK, penwidth="2")
        text, width = subscript(row.name, row.number(t)), NODE_W
        if isinstance(row, Outputs):
            look |= dict(style="filled", fontsize=9)
            width = PITCH / 2
        if not (isinstance(row, Outputs) and not row.measured):
            text += f"\n{power_of_ten(value)}"
        place = (column.x + row.shift, row.y, width, row.height)
        self.canvas.node(self.at(row, t), *place, text, **look)

    # -- arrows between rows

    def _within(self, upper: Row, lower: Row) -> None:
        """From h to c, in one step."""
        if upper.name != "h":
            upper, lower = lower, upper
        known = self.travel.within.get((lower.path, lower.name))
        for t in self.where.both(upper, lower):
            norm = None if known is None else known.get(t, 0.0)
            if known is None and not (upper.value(t) or lower.value(t)):
                norm = 0.0
            ends = self.at(upper, t), self.at(lower, t)
            self.canvas.arrow(*ends, norm, _down(norm, lower.number(t)))

    def _between(self, above: str, beneath: str) -> None:
        """From one layer to what it read, step by step."""
        bar = self.where.outputs(beneath)
        received, sent = self.travel.received, self.travel.sent
        for strand in self.where.stems[above]:
            upper = self.where.states(strand.path)[-1]
            if bar is not None:
                for t in self.where.both(upper, bar):
                    norm = sent[strand.path].get(t, 0.0) if strand.path in sent else None
                    end = f"{self.at(bar, t)}:{'ne' if upper.shift else 'nw'}"
                    self.canvas.arrow(self.at(upper, t), end, norm, _down(norm, t + 1))
        for strand in self.where.stems[beneath]:
            lower = self.where.states(strand.path)[0]
            if bar is not None:
                starts = {t: f"{self.at(bar, t)}:{'se' if lower.shift else 'sw'}"
                          for t in self.where.both(bar, lower)}  # fmt: skip
            else:
                upper = self.where.states(self.where.stems[above][0].path)[-1]
                starts = {t: self.at(upper, t) for t in self.where.both(upper, lower)}
            for t, start in starts.items():
                at = received.get(strand.path)
                norm = at.get(t, 0.0) if at is not None else None
                self.canvas.arrow(start, self.at(lower, t), norm, _down(norm, t + 1))

    def _behind(self, later: str, earlier: str, norm: float | None) -> None:
        """From the first state of a layer to the last one of another, which may be far."""
        upper, lower = self.where.states(later)[-1], self.where.states(earlier)[0]
        first = self.at(upper, min(upper.values))
        much = "a gradient" if norm is None else f"{norm:.6g}"
        tip = f"{much} goes from the first state of {later} to the last of {earlier}"
        if not lower.reverse:
            self.canvas.arrow(first, self.at(lower, max(lower.values)), norm, tip)
            return
        key = f"{self.key}_{lower.id}_later"
        look: dict[str, Any] = dict(fontsize=8, fontcolor=MUTED, color=UNREACHED, tooltip=tip)
        name = subscript(both_directions(later).partition("/")[0] or "later", 1)
        self.canvas.node(key, self.where.before_all(), lower.y, NODE_W, 0.26, name, **look)
        self.canvas.arrow(key, self.at(lower, min(lower.values)), norm, tip)

    def _inputs(self, inputs: Mapping[int, str]) -> None:
        """x_t, with an arrow from the rows beside it. At the gap there is none."""
        where, y = self.where, self.where.inputs_y
        look: dict[str, Any] = dict(style="filled", fillcolor="#eef1f6", fontsize=11)
        look["shape"] = "box" if where.shift else "circle"
        size = (PITCH / 2, 0.3) if where.shift else (0.34, 0.34)
        readers = [where.states(strand.path) for strand in next(iter(where.stems.values()))]
        beside = [min(rows, key=lambda row: abs(row.y - y)) for rows in readers]
        for column in where.columns:
            t = column.first
            if column.folded or t == where.gap:
                continue
            key = f"{self.key}_x_t{t}"
            shown = visible(inputs[t]) if t in inputs else subscript("x", t + 1)
            tip = f"x at t = {t + 1}"
            self.canvas.node(key, column.x + where.shift / 2, y, *size, shown, tooltip=tip, **look)
            for row in beside:
                if row.has(column):
                    port = "" if not where.shift else ":ne" if row.shift else ":nw"
                    at = self.travel.sent.get(row.path)
                    norm = None if at is None else at.get(t, 0.0)
                    self.canvas.arrow(self.at(row, t), key + port, norm, _down(norm, t + 1))

    # -- the loss

    def _loss(self) -> None:
        """At the ends that it reads, in the gap, or above the steps that it reads."""
        where = self.where
        if where.gap is not None:
            x = next(column.x for column in where.columns if column.first == where.gap)
            rows = where.entered(*where.entries)
            self._loss_at(f"{self.key}_loss", x, where.inputs_y, rows, [*where.entries])
        elif where.at_ends:
            for t in where.entries:
                self._loss_at_end(t)
        else:
            for column in where.columns:
                steps = [t for t in range(column.first, column.last + 1) if t in where.entries]
                if steps:
                    rows = where.entered(*steps)
                    shifts = {row.shift for row in rows}
                    x = column.x + (shifts.pop() if len(shifts) == 1 else where.shift / 2)
                    key = f"{self.key}_loss_t{column.first}"
                    self._loss_at(key, x, where.loss_y, rows, steps)

    def _loss_at_end(self, t: int) -> None:
        """One node for all rows, or one for each where lines to them would cross others."""
        where, rows = self.where, self.where.entered(t)
        reverse = rows[0].reverse
        x = where.before_all() if reverse else where.after_all()
        key = f"{self.key}_loss" + ("_rev" if reverse else "")
        if not where.shift:
            self._loss_at(key, x, float(np.mean([row.y for row in rows])), rows, [t])
            return
        for k, row in enumerate(rows):
            self._loss_at(f"{key}{k or ''}", x, row.y, [row], [t])

    def _loss_at(
        self, key: str, x: float, y: float, rows: Sequence[Row], steps: Sequence[int]
    ) -> None:
        """One node of the loss, with arrows to the rows where it enters at these steps."""
        wide = self.where.shift and len({row.shift for row in rows}) > 1 and not self.where.at_ends
        look: dict[str, Any] = dict(style="filled", fillcolor=INK, fontcolor=PAPER, fontsize=12)
        look |= {} if wide else dict(shape="circle")
        many = len(steps) > 1 and self.where.gap is None
        tip = f"the loss, which reads {len(steps)} of these steps" if many else "the loss"
        self.canvas.node(key, x, y, PITCH / 2 if wide else 0.34, 0.34, "L", tooltip=tip, **look)
        for row in rows:
            own = [t for t in steps if row in self.where.entered(t)]
            norm = largest(self.travel.entering[row.path, row.name], own)
            port = "" if not wide else ":se" if row.shift else ":sw"
            tip = f"|dL/d{row.name}| = {norm:.6g} comes from the loss"
            self.canvas.arrow(key + port, self.at(row, own[-1]), norm, tip, color=INK)


def _down(norm: float | None, t: int) -> str:
    return f"in step {t}" if norm is None else f"{norm:.6g} in step {t}"
