"""What every drawing shares: DOT text that is the same on every run, escaped labels, one look.

A Drawing is DOT text. In a notebook it shows itself; `save` renders it (see flow/engines.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import MinigradError
from .. import engines
from ..engines import FONT
from .colors import ARROW, INK, LINE, MUTED, PAPER, Scale, power_of_ten

if TYPE_CHECKING:
    import graphviz

LEFT = "\\l"  # a line end that puts the line at the left edge of its node


class DrawingError(MinigradError, ValueError):
    """Something that cannot be drawn, or not within the node budget."""


class Drawing:
    """A picture as DOT text."""

    def __init__(self, dot: str):
        self.dot = dot

    def save(
        self, path: str | Path, *, dpi: float | None = None, width: float | None = None
    ) -> Path:
        """Writes .svg, .png, .gv, ... by suffix; returns the path that was written.

        dpi: dots an inch of a .png or another bitmap (left out, 96). width: of the picture in
        inches; left out, as wide as it needs to be.
        Without a Graphviz engine the text is written as .gv, with a NoEngineWarning. Raises
        RenderError for a format that is not known, and for sizes that mean nothing for it.
        """
        return engines.save(self.dot, path, dpi=dpi, width=width)

    def svg(self) -> str:
        return engines.render(self.dot, "svg").decode()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """For notebooks: the picture; where nothing can draw it, the text."""
        if engines.find_engine() is None:
            return {"text/plain": self.dot}
        return {"text/plain": repr(self), "image/svg+xml": self.svg()}

    def __str__(self) -> str:
        return self.dot

    def __repr__(self) -> str:
        size = f"{len(self.dot) / 1000:.0f} kB of DOT"
        return f"<Drawing, {size}; a notebook shows it, .save('flow.svg') writes it>"


def new_graph(name: str, **attributes: Any) -> graphviz.Digraph:
    """A left-to-right Digraph with the common look."""
    import graphviz

    graph = graphviz.Digraph(name)
    graph.attr(
        **text_values(
            dict(
                rankdir="LR", bgcolor=PAPER, fontname=FONT, fontcolor=INK, fontsize=12, pad=0.25,
                charset="UTF-8", outputorder="edgesfirst",
            )
            | attributes
        )
    )  # fmt: skip
    graph.attr(
        "node", shape="box", style="rounded,filled", fillcolor=PAPER, color=LINE, penwidth="1",
        fontname=FONT, fontsize="11", fontcolor=INK,
    )  # fmt: skip
    graph.attr(
        "edge", color=ARROW, penwidth="1.1", arrowsize="0.6", fontname=FONT, fontsize="9",
        fontcolor=INK,
    )  # fmt: skip
    return graph


def text_values(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Attributes as DOT wants them: numbers as short text."""
    return {k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in attributes.items()}


def label(text: str, end: str = "\\n") -> str:
    """Text that is shown as it is: quotes, backslashes, entities, angle brackets and all.

    end: how lines end; left-aligned in their node with `LEFT`.
    """
    import graphviz

    lines = [line.replace("\\", "\\\\").replace("&", "&amp;") for line in text.split("\n")]
    return graphviz.nohtml(end.join(lines) + (end if end != "\\n" else ""))


def html_caption(title: str, legend: Sequence[tuple[str, str]], extra: str = "") -> str:
    """A caption as a graph's label: the title, and below it a swatch and a word for each colour.

    extra: more cells for the row, already HTML.
    """
    text = '<TD ALIGN="LEFT"><FONT POINT-SIZE="{}" COLOR="{}">{}</FONT></TD>'
    cells = "".join(
        f'<TD BGCOLOR="{color}" WIDTH="16"></TD>' + text.format(10, MUTED, escape(words) + "  ")
        for color, words in legend
    )
    row = '<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="3"><TR>' + cells + extra + "</TR></TABLE>"
    head = f'<TR><TD><FONT POINT-SIZE="16">{escape(title)}</FONT></TD></TR>' if title else ""
    return f'<<TABLE BORDER="0" CELLBORDER="0">{head}<TR><TD>{row}</TD></TR></TABLE>>'


def scale_strip(scale: Scale) -> str:
    """The colours of a scale of norms, as cells for a caption's `extra`."""
    words = f'<TD><FONT POINT-SIZE="10" COLOR="{MUTED}">{{}}</FONT></TD>'
    swatches = "".join(f'<TD WIDTH="9" BGCOLOR="{scale.at(i / 15)}"></TD>' for i in range(16))
    low, high = (power_of_ten(10.0**end) for end in (scale.low, scale.high))
    strip = '<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="4">'
    text = words.format(f"norm of the gradient:  {low}")
    return f"{text}<TD>{strip}<TR>{swatches}</TR></TABLE></TD>{words.format(high)}"


def visible(character: str) -> str:
    """A character of a text as a label: blanks and line ends get a sign."""
    return {" ": "·", "\n": "¶", "\t": "→"}.get(character, character)


def check_budget(what: str, nodes: int, budget: int, advice: str) -> None:
    """Raises DrawingError if a drawing would have more nodes than its budget."""
    if nodes > budget:
        raise DrawingError(f"{what}: {nodes} nodes, and max_nodes is {budget}; {advice}")
