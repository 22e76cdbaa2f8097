"""The figure of a claim, in the house's colours; matplotlib is imported here only when it draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...files import replacing
from ...flow.drawing.colors import INK, MUTED, PAPER
from ...flow.plots.style import HUES, PlotError, legend, line_style, matplotlib, tidy, title

__all__ = ["HUES", "PlotError", "axes_of", "legend", "line_style", "note", "save", "title"]

SIZE = (7.6, 3.6)  # inches; two axes side by side
FORMATS = ("svg", "png")


def axes_of(figure: Any, columns: int) -> list[Any]:
    """Axes side by side, with the house's look."""
    found = figure.subplots(1, columns, squeeze=False)[0]
    for ax in found:
        tidy(ax)
    return list(found)


def note(ax: Any, x: float, y: float, text: str, **look: Any) -> None:
    """Small grey words at a place of the data."""
    ax.annotate(text, (x, y), fontsize=8, color=MUTED, **look)


def save(folder: Path, name: str, heading: str, draw: Callable[[Any], None]) -> list[str]:
    """Draws and writes NAME.svg and NAME.png; returns their names.

    The same numbers give the same bytes of SVG. Raises PlotError if there is no matplotlib.
    """
    found = matplotlib("minigrad experiment: a figure")
    figure = found.figure.Figure(figsize=SIZE, layout="constrained", facecolor=PAPER)
    figure.suptitle(heading, x=0.01, ha="left", fontsize=11, color=INK)
    draw(figure)
    with found.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        for kind in FORMATS:
            metadata = {"Date": None} if kind == "svg" else {}
            with replacing(folder / f"{name}.{kind}") as file:
                figure.savefig(file, format=kind, dpi=160, metadata=metadata)
    return [f"{name}.{kind}" for kind in FORMATS]
