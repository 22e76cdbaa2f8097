"""The figure of two recordings side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import style
from .recordings import decay
from .style import PlotError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..pairs import Change, Comparison

MOST = 8  # lines


def compare(comparison: Comparison) -> Figure:
    """How far the gradient reaches before and after, and what differs at which step.

    comparison: of mg.flow.compare. On the right the root mean square of after - before, of every
    state; of the tapped values where no state differs, and of |dL/d(state)| where no value does.
    Shaded are the steps at which an intervention acted. What does not differ by more than rounding
    is not drawn.
    """
    if not hasattr(comparison, "changes"):
        raise PlotError(
            f"compare: expected what mg.flow.compare returns, got {type(comparison).__name__}."
        )
    figure = style.figure("compare", (11.0, 3.8))
    left, right = figure.subplots(1, 2)
    first, second = comparison.names
    decay({first: comparison.before, second: comparison.after}, ax=left)
    _differences(right, comparison)
    return figure


def _differences(ax: Axes, comparison: Comparison) -> None:
    style.tidy(ax)
    every = [c for c in comparison.changes if c.differs.any()]
    gradients = [c for c in every if c.of == "gradient"]
    values = [c for c in every if c.of == "value"]
    states = {(c.path, c.name) for c in comparison.changes if c.of == "gradient"}
    shown = ([c for c in values if (c.path, c.name) in states] or values or gradients)[:MOST]
    several = len({c.path for c in shown}) > 1
    style.log_axis(ax, [c.difference for c in shown])
    for i, c in enumerate(shown):
        y = np.where(c.differs & np.isfinite(c.difference), c.difference, np.nan)
        name = c.name if c.of == "value" else f"|dL/d{c.name}|"
        label = f"{c.path} {name}" if several else name
        ax.plot(c.steps, y, label=label, **style.line_style(i), **style.markers(c.steps.size))
        if (bad := ~np.isfinite(c.difference)).any():
            style.cross_out(ax, c.steps[bad])
    for k, t in enumerate(_acted(comparison.changes)):
        label = "" if k else "an intervention acts"
        ax.axvspan(t - 0.5, t + 0.5, color=style.INK, alpha=0.07, lw=0, label=label)
    steps = comparison.changes[0].steps
    ax.set_xlim(steps.min() - 0.5, steps.max() + 0.5)
    ax.set_xlabel("time step t")
    ax.set_ylabel("root mean square of the difference")
    style.whole_numbers(ax.xaxis)
    style.title(ax, "What differs, and when" if shown else "Nothing differs")
    style.legend(ax, len(shown))


def _acted(changes: list[Change]) -> list[int]:
    """The steps at which an intervention acted on anything."""
    return sorted({int(t) for c in changes for t in c.steps[c.touched]})
