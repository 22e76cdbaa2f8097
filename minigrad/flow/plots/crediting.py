"""A figure of credit: which step of which sequence taught a weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..credit import Credit
from ..drawing.colors import PAPER
from . import style
from .style import PlotError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def credit(credit: Credit, name: str, what: str = "share", ax: Axes | None = None) -> Figure:
    """The terms of one weight's gradient, sample x step or sample x lag.

    credit: of `LayerFlow.credit`. name: of the weight. what: "share" of dL/dW, which add up to 1 (a
    term that pulls the other way is below 0, in the other hue), or "norm", on the logarithmic scale
    of the drawings, white where exactly zero. NaN and Inf are hatched.
    """
    if what not in ("share", "norm"):
        raise PlotError(f"credit: what must be 'share' or 'norm', got {what!r}.")
    if not isinstance(credit, Credit):
        raise PlotError(
            f"credit: expected what layer.credit() gives, got {type(credit).__name__}; "
            f"rec[path].credit() makes one of a recording's layer."
        )
    if name not in credit.shares:
        known = ", ".join(map(repr, credit.shares)) or "none"
        raise PlotError(f"credit: there is no weight {name!r}; there are {known}.")
    order = np.argsort(credit.steps, kind="stable")
    cells = (credit.shares if what == "share" else credit.norms)[name][order].T  # (B, T)
    steps = credit.steps[order]
    figure, ax = style.axes("credit", ax)
    ax.grid(False)
    x, y = np.append(steps, steps[-1] + 1) - 0.5, np.arange(len(cells) + 1) - 0.5
    bad = ~np.isfinite(cells)
    look: dict[str, Any]
    if what == "norm":
        shown, colors, scale = style.gradient_map("credit", cells)
        image = ax.pcolormesh(x, y, shown, cmap=colors, vmin=scale.low, vmax=scale.high)
        style.power_ticks(style.color_bar(figure, image, ax, "|term of dL/dW|"), scale)
    else:
        largest = float(np.max(np.abs(cells[~bad]), initial=0.0)) or 1.0
        colors = style.colormap("credit", style.DIVERGING)
        look = {"cmap": colors, "vmin": -largest, "vmax": largest}
        image = ax.pcolormesh(x, y, np.where(bad, np.nan, cells), **look)
        bar = style.color_bar(figure, image, ax, "share of dL/dW")
        bar.formatter = _percent
        bar.update_ticks()
    style.mark_bad(ax, x, y, bad)
    ax.set_xlabel("time step t" if credit.by == "step" else "lag (steps from use to output)")
    ax.set_ylabel("sample")
    style.whole_numbers(ax.xaxis, ax.yaxis)
    style.title(ax, " ".join(filter(None, (credit.path, f"{name}: what taught it"))))
    ax.set_facecolor(PAPER)
    return figure


def _percent(share: float, _: Any) -> str:
    return f"{100 * share:+.3g} %" if share else "0"
