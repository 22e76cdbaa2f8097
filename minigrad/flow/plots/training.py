"""Figures of a training run: what a Monitor measured, from the first step to the last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..drawing.colors import INK, MUTED
from ..histogram import LOW
from ..history import History
from . import style
from .runs import SAID
from .style import PlotError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray
Rows = tuple[list[int], bool, bool]  # of histograms(): bins, and whether there are rows beside them
_LABELS = {what: SAID[what] for what in ("gradient", "weight", "update", "largest")}


def norms(
    monitor: Any,
    what: str = "gradient",
    parameters: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """One number of every parameter over training, on a logarithmic axis.

    monitor: a Monitor, or the History of one. what: "gradient", "weight", "update" or "largest".
    parameters: which; all of them by default. Steps with NaN or Inf are crosses at the top.
    """
    if what not in _LABELS:
        raise PlotError(f"norms: what must be one of {', '.join(_LABELS)}, got {what!r}.")
    history, names = _asked("norms", monitor, parameters)
    series = {name: history.series(name, what) for name in names}
    figure, ax = style.axes("norms", ax)
    style.log_axis(ax, [values for _, values in series.values()])
    for i, (name, (steps, values)) in enumerate(series.items()):
        shown = np.where(np.isfinite(values) & (values > 0), values, np.nan)
        ax.plot(steps, shown, label=name, **style.line_style(i), **style.markers(steps.size))
    bad = _bad_steps(history, names)
    if bad:
        style.cross_out(ax, bad)
    ax.set_xlabel("step of training")
    ax.set_ylabel(_LABELS[what])
    style.title(ax, f"{_LABELS[what]} of every parameter")
    style.legend(ax, len(series) + bool(bad), beside=3)
    return figure


def histograms(
    monitor: Any, parameters: str | Sequence[str] | None = None, ax: Axes | None = None
) -> Figure:
    """Magnitudes of the elements of dL/dw over training: share of elements by power of two.

    A panel for each parameter. Below the bins is a row for what is zero (or below 2^-48), above
    them one for what is from 2^16 on, NaN or Inf (these hatched), where there is any. ax: for a
    single parameter.
    """
    wanted = [parameters] if isinstance(parameters, str) else parameters
    history, names = _asked("histograms", monitor, wanted)
    with_gradient = [
        n for n in names if any(_histogram(m, n) is not None for m in history.measurements)
    ]
    if not with_gradient:
        raise PlotError(
            "histograms: no parameter had a gradient; call backward() inside a measured step."
        )
    if ax is not None and len(with_gradient) != 1:
        raise PlotError(
            f"histograms: one parameter fits into ax, got {len(with_gradient)}; name it, or leave "
            f"ax out."
        )
    if ax is not None:
        figure, ax = style.axes("histograms", ax)
        panels = [ax]
    else:
        columns = min(2, len(with_gradient))
        lines = math.ceil(len(with_gradient) / columns)
        size = (4.4 + 3.2 * (columns - 1), 1.0 + 2.1 * lines)
        figure = style.figure("histograms", size)
        grid = np.ravel(figure.subplots(lines, columns, squeeze=False))
        panels = list(grid[: len(with_gradient)])
        for empty in grid[len(with_gradient) :]:
            empty.set_visible(False)
    rows = _occupied(history, with_gradient)
    for panel, name in zip(panels, with_gradient, strict=True):
        style.tidy(panel, grid=False)
        image = _draw(panel, *_shares(history, name, rows), rows)
        style.title(panel, name)
    bar = figure.colorbar(image, ax=panels, pad=0.02, fraction=0.05, aspect=30)
    bar.set_label("share of elements", color=INK, fontsize=9)
    bar.ax.tick_params(colors=MUTED, labelsize=9)
    bar.outline.set_visible(False)
    return figure


def _asked(
    what: str, monitor: Any, parameters: Sequence[str] | None
) -> tuple[History, Sequence[str]]:
    history = getattr(monitor, "history", monitor)
    if not isinstance(history, History):
        raise PlotError(
            f"{what}: expected a Monitor or its History, got {type(monitor).__name__}; "
            f"mg.flow.read_monitor(path) reads a file."
        )
    if not history.measurements:
        raise PlotError(f"{what}: nothing has been measured yet; train with monitor.step() first.")
    names = history.parameters if parameters is None else list(parameters)
    if unknown := [name for name in names if name not in history.parameters]:
        known = ", ".join(map(repr, history.parameters))
        raise PlotError(f"{what}: there is no parameter {unknown[0]!r}; there are {known}.")
    return history, names


def _bad_steps(history: History, names: Sequence[str]) -> list[int]:
    return [
        m.step
        for m in history.measurements
        if any(
            m.parameters[n].bad_weights or ((h := _histogram(m, n)) is not None and h.nonfinite)
            for n in names
        )
    ]


def _histogram(measured: Any, name: str) -> Any:
    return measured.parameters[name].histogram


def _occupied(history: History, names: Sequence[str]) -> tuple[list[int], bool, bool]:
    """(bins from the first to the last that is ever filled; anything below them, or above)."""
    found = [h for m in history.measurements for n in names if (h := _histogram(m, n)) is not None]
    total = sum(found[1:], found[0])
    filled = np.flatnonzero(total.counts)
    bins = list(range(int(filled[0]), int(filled[-1]) + 1)) if filled.size else [-LOW]
    return bins, bool(total.zero + total.under), bool(total.over + total.nonfinite)


def _shares(history: History, name: str, rows: Rows) -> tuple[Array, Array, Array]:
    """(steps, shares of elements (rows, steps), which steps have NaN or Inf)."""
    bins, below, above = rows
    there = [(m.step, h) for m in history.measurements if (h := _histogram(m, name)) is not None]
    columns = []
    for _, h in there:
        column = [h.zero + h.under] * below + list(h.counts[bins])
        column += [h.over + h.nonfinite] * above
        columns.append(np.array(column, np.float64) / max(h.total, 1))
    bad = np.array([h.nonfinite > 0 for _, h in there])
    return np.array([step for step, _ in there]), np.array(columns).T, bad


def _draw(ax: Axes, steps: Array, shares: Array, bad: Array, rows: Rows) -> Any:
    bins, below, above = rows
    x = style.edges(steps)
    low, high = bins[0] + LOW, bins[-1] + LOW + 1  # powers of two at which the bins begin and end
    y = np.arange(low - below, high + above + 1)
    from matplotlib.colors import PowerNorm

    colors = style.colormap("histograms", style.SEQUENTIAL)
    shown = np.where(shares > 0, shares, -1.0)  # nothing at all is paper
    image = ax.pcolormesh(x, y, shown, cmap=colors, norm=PowerNorm(0.5, 0.0, 1.0))
    hatched = np.zeros(shares.shape, bool)
    hatched[-1] = bad
    style.mark_bad(ax, x, y, hatched)
    stride = max(1, round((high - low) / 5))
    powers = list(range(high - 1 if above else high, low, -stride))
    lowest = low + 0.6 * stride if below else low  # no label in the way of "0"
    ticks: dict[float, str] = {p: f"$2^{{{p}}}$" for p in powers if p >= lowest}
    if below:
        ticks[low - 0.5] = "0"
    if above:
        ticks[high + 0.5] = "over"
    ax.set_yticks(list(ticks), labels=list(ticks.values()))
    ax.set_xlabel("step of training")
    ax.set_ylabel("|element of dL/dw|")
    style.whole_numbers(ax.xaxis)
    return image
