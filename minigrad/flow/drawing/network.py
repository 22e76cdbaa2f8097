"""The unrolled network: one column a time step, one row a state, coloured by |dL/d(state)|.

Long sequences are folded (folding.py): the steps in the middle become one strip that keeps
their colours. Several panels, a cell before and after training or several cells, share one
colour scale, so they can be compared. Every node has its place computed here, so all engines draw
the same picture.

All lengths are inches; y grows upwards, as in Graphviz.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..layerflow import LayerFlow
from ..places import both_directions
from ..verdict import Verdict
from .canvas import NAMES_W, PLAIN, Canvas
from .colors import INK, MUTED, PAPER, UNREACHED, Scale, power_of_ten, subscript
from .dot import Drawing, DrawingError, check_budget, text_values, visible
from .folding import Column, columns, thinned
from .rows import Row, names_at

PITCH, ROW = 0.84, 0.66  # from column to column, from row to row
NODE_W, NODE_H = 0.62, 0.44
MAX_NODES = 600
WIDTHS = 0.5, 4.0  # of the arrow for the smallest and the largest gradient, in points
ADVICE = (
    "fold more (steps= chooses which are drawn one by one), draw less of each layer (depth=1), "
    "fewer layers or panels, or raise max_nodes."
)


@dataclass
class Panel:
    """One unrolled network: its layers, and what is written above it.

    inputs: t -> what stands for x_t (a character); a missing one is drawn as x_t. None: no inputs.
    """

    title: str
    layers: Sequence[LayerFlow]
    note: str = ""
    inputs: Mapping[int, str] | None = None


def draw_network(
    panels: Sequence[Panel],
    title: str = "",
    scale: Scale | None = None,
    max_nodes: int = MAX_NODES,
    steps: Collection[int] | None = None,
    depth: int = 2,
) -> Drawing:
    """The unrolled networks of the panels, one above the other, on one colour scale.

    steps: which t, from 0, are drawn one by one; the others fold into strips. Left out: the ends,
    and where the loss is. depth: 1 draws one row for each layer and direction, 2 each of its
    states, 3 the means of its gates too.
    Raises DrawingError if there is nothing to draw, or if that would take more than max_nodes
    nodes.
    """
    if not panels or not all(panel.layers for panel in panels):
        raise DrawingError("draw: expected at least one recorded layer in each panel.")
    norms = np.concatenate([n for p in panels for layer in p.layers for n in layer.norms.values()])
    canvas = Canvas(scale or Scale.around(norms))
    if title:
        canvas.text("title", title, size=17, height=0.45)
    for i, panel in enumerate(panels):
        unrolled = _Unrolled(canvas, f"p{i}", panel, steps, depth)
        check_budget("draw network", canvas.count + unrolled.count, max_nodes, ADVICE)
        unrolled.draw()
    canvas.legend(broken=not np.isfinite(norms).all(), gates=depth == 3)
    return Drawing(canvas.graph.source)


def describe(verdict: Verdict) -> str:
    """A verdict as the note above a panel.

    >>> from minigrad.flow.verdict import judge
    >>> describe(judge([1.0, 0.5, 0.25, 0.125, 0.0625]))
    'vanishing  ·  ×0.5 per step back  ·  half-life 1 steps'
    """
    parts = [verdict.kind]
    if verdict.fit:
        parts.append(f"×{verdict.rate:.3g} per step back")
        if np.isfinite(verdict.fit.half_life):
            parts.append(f"half-life {verdict.fit.half_life:.3g} steps")
        elif np.isfinite(verdict.fit.doubling):
            parts.append(f"doubles in {verdict.fit.doubling:.3g} steps")
    return "  ·  ".join(parts)


class _Unrolled:
    """One panel on the canvas."""

    def __init__(
        self, canvas: Canvas, key: str, panel: Panel, steps: Collection[int] | None, depth: int
    ):
        self.canvas, self.key, self.panel, self.depth = canvas, key, panel, depth
        if panel.title:
            canvas.text(f"{key}_title", panel.title, size=13, height=0.26)
        if panel.note:
            for i, line in enumerate(panel.note.split("\n")):
                canvas.text(f"{key}_note{i or ''}", line, size=10, height=0.22, color=MUTED)
        self.inputs_y: float | None = None
        self.rows = self._rows()
        self.sources = self._sources()
        every = sorted({t for row in self.rows for t in row.values})
        if steps is not None and not set(steps) <= set(every):
            raise DrawingError(
                f"draw: steps={sorted(steps)!r}, and {panel.layers[0].path or 'the network'} has "
                f"steps {every[0]} to {every[-1]}."
            )
        self.columns = columns(every, self.sources.values(), NAMES_W, PITCH, NODE_W, steps)

    @property
    def count(self) -> int:
        """Nodes it will take, about: two for a fold."""
        folds = sum(column.folded for column in self.columns)
        return (len(self.rows) + (self.inputs_y is not None)) * (len(self.columns) + folds + 1)

    def draw(self) -> None:
        for row in self.rows:
            self._row(row)
        self._between_rows()
        blank = self._loss()
        if self.inputs_y is not None:
            self._inputs(self.inputs_y, blank)
        self.canvas.y -= 0.2

    def at(self, row: Row, t: int) -> str:
        return f"{self.key}_{row.id}_t{t}"

    def _rows(self) -> list[Row]:
        """From top to bottom: upper layers first, h on top of its layer.

        The inputs are at the bottom, or between the two directions of a single layer, which both
        read them. There h is next to them, so that the way to a loss in a gap is free.
        """
        layers, rows = self.panel.layers, []
        between = len(layers) == 2 and layers[1].reverse and not layers[0].reverse
        for layer in reversed(layers):
            h_first = not (between and layer.reverse)
            named = names_at(layer, self.depth)
            named.sort(key=lambda entry: (entry[0] == "h") != h_first)
            if between and not layer.reverse:
                self._place_inputs()
            rows += [Row(layer, name, self.canvas.down(ROW), gate) for name, gate in named]
        if not between:
            self._place_inputs()
        for k, row in enumerate(rows):  # a.b and a/b are two rows
            if any(row.id == other.id for other in rows[:k]):
                row.id += f"_{k}"
        return rows

    def _sources(self) -> dict[Row, int]:
        """Where the loss is nearest: the hidden states of the last layer, and their last step."""
        layers = [x for x in self.panel.layers if not x.forward_only] or self.panel.layers
        stem = both_directions(layers[-1].path)
        top = [row for row in self.rows if both_directions(row.layer.path) == stem]
        top = [row for row in top if row.name == "h"] or top
        return {row: row.source for row in top if row.source is not None}

    def _place_inputs(self) -> None:
        if self.panel.inputs is not None:
            self.inputs_y = self.canvas.down(ROW)

    def _row(self, row: Row) -> None:
        reverse = row.layer.reverse
        look = dict(PLAIN, fontsize=9, fontcolor=MUTED)
        self.canvas.node(
            f"{self.key}_{row.id}_name",
            NAMES_W / 2 - 0.1,
            row.y,
            NAMES_W,
            NODE_H,
            row.title,
            **look,
        )
        own = [column for column in self.columns if row.has(column)]
        for column in own:
            (self._fold if column.folded else self._step)(row, column)
        if row.gate:
            return
        for a, b in pairwise(own):
            earlier, later = (b, a) if reverse else (a, b)  # in order of computation
            t = earlier.first if reverse else earlier.last  # where the gradient arrives
            tip = f"|dL/d{row.name}| = {row.value(t):.6g} goes back to t = {t + 1}"
            look = dict(penwidth=self._width(row.value(t)), edgetooltip=tip)
            ends = self.at(row, earlier.first), self.at(row, later.first)
            self.canvas.graph.edge(*ends, **text_values(look))

    def _width(self, norm: float) -> float:
        """Of an arrow, by the gradient that comes back along it; log scale, as the colours."""
        low, high = WIDTHS
        if not np.isfinite(norm) or norm == 0:
            return low
        scale = self.canvas.scale
        share = (float(np.log10(norm)) - scale.low) / (scale.high - scale.low)
        return round(low + (high - low) * min(max(share, 0.0), 1.0), 2)

    def _fold(self, row: Row, column: Column) -> None:
        steps = range(column.first, column.last + 1)
        own = [t for t in steps if t in row.values]
        values = [row.value(t) for t in own]
        key, tip = self.at(row, column.first), f"{min(values):.3g} to {max(values):.3g}"
        place = (column.x, row.y, column.width, NODE_H)
        if any(values):
            colors = [row.color(t, self.canvas.scale) for t in thinned(steps)]
            self.canvas.strip(f"{key}_strip", *place, colors)
            look: dict[str, Any] = dict(style="", penwidth=0)
        else:
            look = dict(style="rounded,dashed", fontcolor=UNREACHED, color=UNREACHED)
        whole = column.title if len(own) == len(steps) else f"× {len(own)} steps"
        title = "\n".join(filter(None, (whole, row.factor(own[0], own[-1]))))
        tip = f"t = {column.first + 1} to {column.last + 1}: {tip}"
        self.canvas.node(key, *place, title, tooltip=tip, **look)

    def _step(self, row: Row, column: Column) -> None:
        t = column.first
        value = row.value(t)
        look = dict(fillcolor=row.color(t, self.canvas.scale), tooltip=row.tooltip(t))
        if value == 0 and not row.gate:
            look |= dict(style="rounded,filled,dashed", fontcolor=UNREACHED, color=UNREACHED)
        if t == self.sources.get(row):
            look |= dict(color=INK, penwidth="2")
        text = f"{subscript(row.name, t + 1)}\n{power_of_ten(value)}"
        self.canvas.node(self.at(row, t), column.x, row.y, NODE_W, NODE_H, text, **look)

    def _between_rows(self) -> None:
        """c_t to h_t of one layer, and h_t to the layer above where their rows are neighbours."""
        for upper, lower in pairwise([row for row in self.rows if not row.gate]):
            if upper.layer is lower.layer:
                pair = (upper, lower) if lower.name == "h" else (lower, upper)
            elif not upper.layer.reverse and not lower.layer.reverse and self.depth < 3:
                pair = (lower, upper)
            else:
                continue
            for column in self.columns:
                if not column.folded and all(row.has(column) for row in pair):
                    self.canvas.graph.edge(*(self.at(row, column.first) for row in pair))

    def _inputs(self, y: float, blank: int | None) -> None:
        """x_t, with an arrow to the rows beside it. The blank is what the network has to guess."""
        readers = [row for row in self.rows if abs(row.y - y) < 1.1 * ROW and not row.gate]
        for column in self.columns:
            t = column.first
            if column.folded or t == blank:
                continue
            key = f"{self.key}_x_t{t}"
            text = (self.panel.inputs or {}).get(t)
            shown = subscript("x", t + 1) if text is None else visible(text)
            look = dict(shape="circle", style="filled", fillcolor="#eef1f6", fontsize=11)
            self.canvas.node(
                key, column.x, y, 0.34, 0.34, shown, tooltip=f"x at t = {t + 1}", **look
            )
            for row in readers:
                if row.has(column):
                    self.canvas.graph.edge(key, self.at(row, t))

    def _loss(self) -> int | None:
        """The loss, after the last step or in a gap between two directions; returns the gap."""
        sources = self.sources
        first, last = min(sources.values(), default=0), max(sources.values(), default=0)
        gap = first + 1 if last - first == 2 else None
        at_gap = [column.x for column in self.columns if column.first == gap]
        if sources and first == last == self.columns[-1].last:
            x, y = self.columns[-1].x + PITCH, float(np.mean([row.y for row in sources]))
            if self.columns[-1].folded:
                x += (self.columns[-1].width - NODE_W) / 2
        elif at_gap and self.inputs_y is not None:
            x, y = at_gap[0], self.inputs_y
        else:
            return None  # the bold outlines alone say it
        key = f"{self.key}_loss"
        look = dict(shape="circle", style="filled", fillcolor=INK, fontcolor=PAPER, fontsize=12)
        self.canvas.node(key, x, y, 0.36, 0.36, "L", tooltip="the loss", **look)
        starts = {c.last: c.first for c in self.columns}
        for row, t in sources.items():
            self.canvas.graph.edge(self.at(row, starts.get(t, t)), key, color=INK)
        return gap
