"""Where attention looked: a heat-map in the terminal, and as a picture.

Rows are the symbols that were written, columns those that were read, from left to right.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MinigradError
from ..files import replacing
from ..flow.plots.style import PlotError
from ..flow.plots.style import figure as empty

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray
SHADES, ASCII_SHADES = " ░▒▓█", " .:+#"
INSTALL = 'pip install "minigrad-bptt[plot]"'


class MissingPlotError(MinigradError, ImportError):
    """matplotlib is not installed; the message has the command that installs it."""


def shaded(weights: Array, read: str, written: str, ascii_only: bool | None = None) -> list[str]:
    r"""Lines of text for weights (T, S) from 0 to 1.

    >>> print("\n".join(shaded(np.eye(2), "ab", "AB", ascii_only=True)))
      ab
    A #
    B  #
    """
    if ascii_only is None:
        ascii_only = "utf" not in (sys.stdout.encoding or "").lower()
    shades = ASCII_SHADES if ascii_only else SHADES
    level = np.ceil(np.clip(weights, 0, 1) * (len(shades) - 1) - 0.1).astype(int).clip(0)
    rows = ["".join(shades[k] for k in row) for row in level.tolist()]
    pairs = zip(written, rows, strict=True)
    return [f"  {read}", *(f"{symbol} {row}".rstrip() for symbol, row in pairs)]


def picture(path: Path, panels: Sequence[tuple[Array, str, str]]) -> Path:
    """Writes the heat-maps as a PNG; raises MissingPlotError without matplotlib."""
    drawn = heat_maps(panels, path.name)
    with replacing(path) as file:
        drawn.savefig(file, dpi=110, format="png")
    return path


def heat_maps(panels: Sequence[tuple[Array, str, str]], what: str = "a heat-map") -> Figure:
    """A heat-map of (weights, read, written) in each panel, one below the other, as a figure that
    shows itself in a notebook.

    what: wants matplotlib; raises MissingPlotError, which says so, where there is none.
    """
    widest = max(len(read) for _, read, _ in panels)
    try:
        figure = empty(what, (1.2 + 0.24 * widest, 2.9 * len(panels)))
    except PlotError:
        raise MissingPlotError(f"{what} needs matplotlib; run `{INSTALL}`.") from None
    axes: Any = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for ax, (weights, read, written) in zip(axes, panels, strict=True):
        image = ax.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        ax.set_xlim(-0.5, widest - 0.5)  # one scale for all panels
        ax.set_xticks(range(len(read)), list(read), fontsize=9)
        ax.set_yticks(range(len(written)), list(written), fontsize=9, family="monospace")
        ax.tick_params(length=0)
        ax.set_ylabel("written")
        for side in ax.spines.values():
            side.set_visible(False)
    axes[-1].set_xlabel("read")
    figure.colorbar(image, ax=list(axes), label="attention", shrink=0.6, pad=0.02)
    return figure
