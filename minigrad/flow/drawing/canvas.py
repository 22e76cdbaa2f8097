"""A page on which every node has its place, filled from the top down; lengths are inches, y grows
upwards, as in Graphviz. All engines draw it alike.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .colors import BROKEN, INK, MUTED, OPEN, PAPER, UNREACHED, Scale, mix, power_of_ten
from .dot import LEFT, label, new_graph, text_values

NAMES_W = 1.25  # the column of row names
PLAIN = dict(shape="plaintext", style="")
WIDTHS = 0.5, 5.0  # of the arrow for the smallest and the largest gradient, in points


class Canvas:
    """The graph, and how far down it is filled. forward: arrows point against the gradient."""

    def __init__(self, scale: Scale, forward: bool = False):
        self.graph = new_graph("network", layout="neato", splines="line")
        self.graph.attr("node", fixedsize="true", margin="0", fontsize="10")
        self.scale, self.forward = scale, forward
        self.count = 0
        self.y = 0.0
        self.unknown = False  # whether the width of any arrow is

    def node(
        self, key: str, x: float, y: float, w: float, h: float, text: str, **more: Any
    ) -> None:
        place = dict(pos=f"{x:.3f},{y:.3f}!", width=w, height=h, label=label(text))
        self.graph.node(key, **text_values(place | more))
        self.count += 1

    def arrow(self, start: str, end: str, norm: float | None, tip: str, **more: Any) -> None:
        """Of a gradient from `start` to `end`, as wide as it is large; None: that is not known.

        Widths are on the log scale of the colours, heads grow with them.
        """
        width = WIDTHS[0] if norm is None else self._width(norm)
        look = dict(penwidth=width, arrowsize=round(0.45 + 0.09 * width, 2), edgetooltip=tip) | more
        if norm == 0:
            look |= dict(style="dashed", color=UNREACHED)
        elif norm is None:
            look["color"] = UNREACHED
            self.unknown = True
        elif not np.isfinite(norm):
            look["color"] = BROKEN
        ends = (end, start) if self.forward else (start, end)
        self.graph.edge(*ends, **text_values(look))

    def _width(self, norm: float) -> float:
        low, high = WIDTHS
        if not np.isfinite(norm):
            return high
        if norm == 0:
            return low
        share = (float(np.log10(norm)) - self.scale.low) / (self.scale.high - self.scale.low)
        return round(low + (high - low) * min(max(share, 0.0), 1.0), 2)

    def text(self, key: str, text: str, size: float, height: float, color: str = INK) -> None:
        """A line of text from the left edge of the columns on."""
        self.left(key, text, NAMES_W, self.down(height), height, size, color)

    def heading(self, key: str, title: str, note: str) -> None:
        """What is written above a panel."""
        if title:
            self.text(f"{key}_title", title, size=13, height=0.26)
        for i, line in enumerate(note.split("\n") if note else ()):
            self.text(f"{key}_note{i or ''}", line, size=10, height=0.22, color=MUTED)

    def left(
        self, key: str, text: str, x: float, y: float, height: float, size: float, color: str
    ) -> None:
        """Text whose left edge is at x."""
        longest = max(map(len, text.split("\n")))
        width = 0.2 + 0.52 * size / 72 * longest  # of a line of Helvetica, 0.5 em a letter
        look = dict(PLAIN, fontsize=size, fontcolor=color, label=label(text, LEFT))
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

    def legend(self, broken: bool, gates: bool = False, whole: bool = False) -> None:
        """What colours, outlines and widths mean."""
        self.y -= 0.15
        width, y = 3.2, self.down(0.2)
        self.strip("legend", NAMES_W + width / 2, y, width, 0.18,
                   [self.scale.at(i / 63) for i in range(64)])  # fmt: skip
        low, high = self.scale.low, self.scale.high
        for tick in sorted({low, (low + high) // 2, high}):
            text = ("≤ " if tick == low else "") + power_of_ten(10.0**tick)
            x = NAMES_W + width * (tick - low) / (high - low)
            self.node(f"legend_{tick - low}", x, y - 0.2, 0.7, 0.2, text, fontsize=9, **PLAIN)
        way = "against the way" if self.forward else "the way"
        words = (
            f"gradient norm |∂L/∂state|, also the width of an arrow; arrows point {way} it goes\n"
            "bold outline: the loss enters here  ·  dashed: no gradient"
        )
        if self.unknown:
            words += "  ·  pale arrow: not measured"
        if whole:
            words += "\nS: all that a direction carries from step to step, which is what is judged"
        self.left("legend_text", words, NAMES_W + width + 0.35, y - 0.08, 0.4, 9, MUTED)
        if gates:
            below = self.down(0.75)
            self.strip("legend_gates", NAMES_W + 0.5, below, 1.0, 0.18,
                       [gate_color(i / 31) for i in range(32)])  # fmt: skip
            for mean, text in ((0.0, "0"), (1.0, "1")):
                key = f"legend_gate_{text}"
                self.node(key, NAMES_W + mean, below - 0.2, 0.3, 0.2, text, fontsize=9, **PLAIN)
            self.left("legend_gates_text", "mean of a gate", NAMES_W + 1.1, below, 0.2, 9, MUTED)
        if broken:
            place = NAMES_W + 0.4, self.down(0.75), 0.8, 0.22
            self.node("legend_broken", *place, "NaN, Inf", fillcolor=BROKEN)


def gate_color(mean: float) -> str:
    """Paper for a closed gate, blue for an open one."""
    if not math.isfinite(mean):
        return BROKEN
    return mix(PAPER, OPEN, min(max(abs(mean), 0.0), 1.0))
