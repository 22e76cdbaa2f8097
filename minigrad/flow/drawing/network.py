"""The unrolled network: one column a time step, one row a state, coloured by |dL/d(state)|.

Long sequences are folded (folding.py): the steps in the middle become one strip that keeps
their colours. Several panels, a cell before and after training or several cells, share one
colour scale, so they can be compared. Every node has its place computed here, so all engines draw
the same picture.

All lengths are inches; y grows upwards, as in Graphviz.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..layerflow import LayerFlow
from ..verdict import Verdict
from .colors import (
    BROKEN,
    INK,
    MUTED,
    PAPER,
    UNREACHED,
    Scale,
    power_of_ten,
    subscript,
)
from .dot import LEFT, Drawing, DrawingError, check_budget, label, new_graph, text_values, visible
from .folding import Column, columns, thinned

PITCH, ROW = 0.84, 0.66  # from column to column, from row to row
NODE_W, NODE_H = 0.62, 0.44
NAMES_W = 1.05  # the column of row names
MAX_NODES = 600

_PLAIN = dict(shape="plaintext", style="")


@dataclass
class Panel:
    """One unrolled network: its layers, and what is written above it.

    inputs: t -> what stands for x_t (a character); a missing one is drawn as x_t. None: no inputs.
    """

    title: str
    layers: Sequence[LayerFlow]
    note: str = ""
    inputs: Mapping[int, str] | None = None


class _Row:
    """One state of one layer and direction, at a height."""

    def __init__(self, layer: LayerFlow, name: str, y: float):
        self.layer, self.name, self.y = layer, name, y
        self.norms = {int(t): float(n) for t, n in zip(layer.steps, layer.norms[name], strict=True)}
        reached = [t for t, norm in self.norms.items() if norm != 0]
        self.source = reached[-1] if reached else None  # nearest to the loss
        self.id = "".join(c if c.isalnum() else "_" for c in f"{layer.path}_{name}")


def draw_network(
    panels: Sequence[Panel],
    title: str = "",
    scale: Scale | None = None,
    max_nodes: int = MAX_NODES,
) -> Drawing:
    """The unrolled networks of the panels, one above the other, on one colour scale.

    Raises DrawingError if there is nothing to draw, or if that would take more than max_nodes
    nodes.
    """
    if not panels or not all(panel.layers for panel in panels):
        raise DrawingError("draw: expected at least one recorded layer in each panel.")
    norms = np.concatenate([n for p in panels for layer in p.layers for n in layer.norms.values()])
    canvas = _Canvas(scale or Scale.around(norms))
    if title:
        canvas.text("title", title, size=17, height=0.45)
    for i, panel in enumerate(panels):
        _Unrolled(canvas, f"p{i}", panel).draw()
    canvas.legend(broken=not np.isfinite(norms).all())
    advice = "draw fewer layers or panels, or raise max_nodes."
    check_budget("draw network", canvas.count, max_nodes, advice)
    return Drawing(canvas.graph.source)


def describe(verdict: Verdict) -> str:
    """A verdict as the note above a panel.

    >>> from minigrad.flow.verdict import judge
    >>> describe(judge([1.0, 0.5, 0.25, 0.125, 0.0625]))
    'healthy  ·  ×0.5 per step back  ·  half-life 1 steps'
    """
    parts = [verdict.kind]
    if verdict.fit:
        parts.append(f"×{verdict.rate:.3g} per step back")
        if np.isfinite(verdict.fit.half_life):
            parts.append(f"half-life {verdict.fit.half_life:.3g} steps")
        elif np.isfinite(verdict.fit.doubling):
            parts.append(f"doubles in {verdict.fit.doubling:.3g} steps")
    return "  ·  ".join(parts)


class _Canvas:
    """The graph, and how far down it is filled."""

    def __init__(self, scale: Scale):
        self.graph = new_graph("network", layout="neato", splines="line")
        self.graph.attr("node", fixedsize="true", margin="0", fontsize="10")
        self.scale = scale
        self.count = 0
        self.y = 0.0

    def node(
        self, key: str, x: float, y: float, w: float, h: float, text: str, **more: Any
    ) -> None:
        place = dict(pos=f"{x:.3f},{y:.3f}!", width=w, height=h, label=label(text))
        self.graph.node(key, **text_values(place | more))
        self.count += 1

    def text(self, key: str, text: str, size: float, height: float, color: str = INK) -> None:
        """A line of text from the left edge of the columns on."""
        self.left(key, text, NAMES_W, self.down(height), height, size, color)

    def left(
        self, key: str, text: str, x: float, y: float, height: float, size: float, color: str
    ) -> None:
        """Text whose left edge is at x."""
        longest = max(map(len, text.split("\n")))
        width = 0.2 + 0.6 * size / 72 * longest  # Helvetica's mean width is 0.5 to 0.55 em
        look = dict(_PLAIN, fontsize=size, fontcolor=color, label=label(text, LEFT))
        self.node(key, x + width / 2, y, width, height, "", **look)

    def down(self, height: float) -> float:
        """Takes `height` from what is free, and returns its middle."""
        self.y -= height
        return self.y + height / 2

    def strip(self, key: str, x: float, y: float, w: float, h: float, colors: list[str]) -> None:
        """Vertical stripes, twice: those underneath are shifted by half a stripe, so that the seams
        which anti-aliasing leaves between two stripes show their colour and not the paper.
        """
        n = len(colors)
        widths = [0.5 / n] + [1 / n] * (n - 1)
        shifted = [f"{c};{width:.6g}" for c, width in zip(colors, widths, strict=True)]
        look = dict(style="striped", penwidth=0)
        under = ":".join([*shifted, colors[-1]])
        self.node(f"{key}_under", x, y, w, h, "", fillcolor=under, **look)
        self.node(key, x, y, w, h, "", fillcolor=":".join(colors), **look)

    def legend(self, broken: bool) -> None:
        self.y -= 0.15
        width, y = 3.2, self.down(0.2)
        self.strip("legend", NAMES_W + width / 2, y, width, 0.18,
                   [self.scale.at(i / 63) for i in range(64)])  # fmt: skip
        low, high = self.scale.low, self.scale.high
        for tick in sorted({low, (low + high) // 2, high}):
            text = ("≤ " if tick == low else "") + power_of_ten(10.0**tick)
            x = NAMES_W + width * (tick - low) / (high - low)
            self.node(f"legend_{tick - low}", x, y - 0.2, 0.7, 0.2, text, fontsize=9, **_PLAIN)
        words = (
            "gradient norm |∂L/∂state|\nbold outline: nearest to the loss  ·  dashed: no gradient"
        )
        self.left("legend_text", words, NAMES_W + width + 0.35, y - 0.08, 0.4, 9, MUTED)
        if broken:
            self.node(
                "legend_broken", NAMES_W + 0.4, y - 0.5, 0.8, 0.22, "NaN, Inf", fillcolor=BROKEN
            )


class _Unrolled:
    """One panel on the canvas."""

    def __init__(self, canvas: _Canvas, key: str, panel: Panel):
        self.canvas, self.key, self.panel = canvas, key, panel
        if panel.title:
            canvas.text(f"{key}_title", panel.title, size=13, height=0.26)
        if panel.note:
            canvas.text(f"{key}_note", panel.note, size=10, height=0.22, color=MUTED)
        self.inputs_y: float | None = None
        self.rows = self._rows()
        self.sources = self._sources()
        steps = sorted({t for row in self.rows for t in row.norms})
        self.columns = columns(steps, self.sources.values(), NAMES_W, PITCH, NODE_W)

    def draw(self) -> None:
        for row in self.rows:
            self._row(row)
        self._between_rows()
        blank = self._loss()
        if self.inputs_y is not None:
            self._inputs(self.inputs_y, blank)
        self.canvas.y -= 0.2

    def at(self, row: _Row, t: int) -> str:
        return f"{self.key}_{row.id}_t{t}"

    def _rows(self) -> list[_Row]:
        """From top to bottom: upper layers first, h on top of its layer.

        The inputs are at the bottom, or between the two directions of a single layer, which both
        read them. There h is next to them, so that the way to a loss in a gap is free.
        """
        layers, rows = self.panel.layers, []
        between = len(layers) == 2 and layers[1].reverse and not layers[0].reverse
        for layer in reversed(layers):
            h_first = not (between and layer.reverse)
            names = sorted(layer.norms, key=lambda name: (name == "h") != h_first)
            if between and not layer.reverse:
                self._place_inputs()
            rows += [_Row(layer, name, self.canvas.down(ROW)) for name in names]
        if not between:
            self._place_inputs()
        return rows

    def _sources(self) -> dict[_Row, int]:
        """Where the loss is nearest: the hidden states of the last layer, and their last step."""
        stem = self.panel.layers[-1].path.rpartition("/")[0]
        top = [row for row in self.rows if row.layer.path.rpartition("/")[0] == stem]
        top = [row for row in top if row.name == "h"] or top
        return {row: row.source for row in top if row.source is not None}

    def _place_inputs(self) -> None:
        if self.panel.inputs is not None:
            self.inputs_y = self.canvas.down(ROW)

    def _row(self, row: _Row) -> None:
        reverse = row.layer.reverse
        name = f"{row.layer.path or 'network'}\n{row.name} {'←' if reverse else '→'}"
        look = dict(_PLAIN, fontsize=9, fontcolor=MUTED)
        self.canvas.node(
            f"{self.key}_{row.id}_name", NAMES_W / 2 - 0.1, row.y, NAMES_W, NODE_H, name, **look
        )
        for column in self.columns:
            (self._fold if column.folded else self._step)(row, column)
        keys = [self.at(row, column.first) for column in self.columns]
        for a, b in pairwise(keys):
            self.canvas.graph.edge(*((b, a) if reverse else (a, b)))

    def _fold(self, row: _Row, column: Column) -> None:
        norms = [row.norms.get(t, 0.0) for t in range(column.first, column.last + 1)]
        key, tip = self.at(row, column.first), f"{min(norms):.3g} to {max(norms):.3g}"
        place = (column.x, row.y, column.width, NODE_H)
        if any(norms):
            colors = [self.canvas.scale.color(norm) for norm in thinned(norms)]
            self.canvas.strip(f"{key}_strip", *place, colors)
            look: dict[str, Any] = dict(style="", penwidth=0)
        else:
            look = dict(style="rounded,dashed", fontcolor=UNREACHED, color=UNREACHED)
        self.canvas.node(key, *place, column.title, tooltip=tip, **look)

    def _step(self, row: _Row, column: Column) -> None:
        t = column.first
        norm = row.norms.get(t, 0.0)
        tip = f"|dL/d{row.name}| = {norm:.6g} at t = {t + 1}"
        look = dict(fillcolor=self.canvas.scale.color(norm), tooltip=tip)
        if norm == 0:
            look |= dict(style="rounded,filled,dashed", fontcolor=UNREACHED, color=UNREACHED)
        if t == self.sources.get(row):
            look |= dict(color=INK, penwidth="2")
        text = f"{subscript(row.name, t + 1)}\n{power_of_ten(norm)}"
        self.canvas.node(self.at(row, t), column.x, row.y, NODE_W, NODE_H, text, **look)

    def _between_rows(self) -> None:
        """c_t to h_t of one layer, and h_t to the layer above where their rows are neighbours."""
        for upper, lower in pairwise(self.rows):
            if upper.layer is lower.layer:
                pair = (upper, lower) if lower.name == "h" else (lower, upper)
            elif not upper.layer.reverse and not lower.layer.reverse:
                pair = (lower, upper)
            else:
                continue
            for column in self.columns:
                if not column.folded:
                    self.canvas.graph.edge(*(self.at(row, column.first) for row in pair))

    def _inputs(self, y: float, blank: int | None) -> None:
        """x_t, with an arrow to the rows beside it. The blank is what the network has to guess."""
        readers = [row for row in self.rows if abs(row.y - y) < 1.1 * ROW]
        for column in self.columns:
            t = column.first
            if column.folded or t == blank:
                continue
            key = f"{self.key}_x_t{t}"
            text = (self.panel.inputs or {}).get(t)
            shown = subscript("x", t + 1) if text is None else visible(text)
            look = dict(shape="circle", style="filled", fillcolor="#eef1f6", fontsize=11)
            self.canvas.node(key, column.x, y, 0.34, 0.34, shown, **look)
            for row in readers:
                self.canvas.graph.edge(key, self.at(row, t))

    def _loss(self) -> int | None:
        """The loss, after the last step or in a gap between two directions; returns the gap."""
        sources = self.sources
        first, last = min(sources.values(), default=0), max(sources.values(), default=0)
        gap = first + 1 if last - first == 2 else None
        at_gap = [column.x for column in self.columns if column.first == gap]
        if sources and first == last == self.columns[-1].last:
            x, y = self.columns[-1].x + PITCH, float(np.mean([row.y for row in sources]))
        elif at_gap and self.inputs_y is not None:
            x, y = at_gap[0], self.inputs_y
        else:
            return None  # the bold outlines alone say it
        key = f"{self.key}_loss"
        look = dict(shape="circle", style="filled", fillcolor=INK, fontcolor=PAPER, fontsize=12)
        self.canvas.node(key, x, y, 0.36, 0.36, "L", **look)
        for row, t in sources.items():
            self.canvas.graph.edge(self.at(row, t), key, color=INK)
        return gap
