"""Figures of runs over training: one, or several overlaid or side by side, on one scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import FlowError
from ..drawing.colors import INK, PAPER
from ..history import History
from ..measurements import CURVES
from . import style
from .style import PlotError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray
SHARES = ("saturation", "dead", "zeros")  # from 0 to 1
LINEAR = (*SHARES, "opening")
SAID = {
    "gradient": "|dL/dw|", "gate gradient": "|dL/dw|", "weight": "|w|", "gate weight": "|w|",
    "update": "|update| / |w|", "gate update": "|update| / |w|",
    "largest": "largest |dL/dw| of an element", "zeros": "share of dL/dw that is exactly 0",
    "saturation": "share in the flat ends", "opening": "mean", "dead": "share of dead units",
    "reach": "reach (steps back)", "far/near": "|dL/dS| farthest over nearest",
}  # fmt: skip


def runs_of(what: str, monitor: Any) -> dict[str, History]:
    """name -> History of a Monitor, the History of one, or several by name."""
    given = monitor if isinstance(monitor, Mapping) else {"": monitor}
    found = {str(name): getattr(one, "history", one) for name, one in given.items()}
    for name, history in found.items():
        if not isinstance(history, History):
            where = f" at {name!r}" if name else ""
            raise PlotError(
                f"{what}: expected a Monitor or its History, or several by name, got "
                f"{type(history).__name__}{where}; mg.flow.read_monitor(path) reads a file."
            )
    if not found:
        raise PlotError(f"{what}: expected a Monitor, or several by name, got none.")
    return found


def curves(
    monitor: Any,
    what: str = "loss",
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Numbers over training, of one run or of several overlaid.

    monitor: a Monitor or its History, or a dict of such by name. what: as in `History.curves`:
    "loss" or what else was logged, "reach", "saturation", "dead", "gate weight", "gradient", ...
    names: which of its lines; all of them by default. Of several runs a line has one colour, and
    each run dashes of its own. Steps where it is NaN or Inf are crosses at the top; a reach that
    never ends is a triangle there.
    """
    shown: list[tuple[str, str, Array, Array]] = []  # run, line, steps, values
    missing: list[str] = []
    for run, history in runs_of("curves", monitor).items():
        try:
            lines = history.curves(what)
        except FlowError as error:
            raise PlotError(f"{run}: {error}".removeprefix(": ")) from None
        shown += [(run, n, *line) for n, line in lines.items() if names is None or n in names]
        missing += [n for n in names or () if n not in lines]
    if missing or not shown:
        known = "" if names is None else f" of {', '.join(map(repr, missing or names))}"
        raise PlotError(
            f"curves: there is no {what!r}{known} to draw; train with a Monitor first, and see "
            f"History.curves({what!r}) for what it has."
        )
    figure, ax = style.axes("curves", ax)
    several = list(dict.fromkeys(name for _, name, _, _ in shown))
    runs = list(dict.fromkeys(run for run, *_ in shown))
    if what in CURVES and what not in LINEAR:
        style.log_axis(ax, [values for *_, values in shown])
    bad: set[int] = set()
    endless = False
    for run, name, steps, values in shown:
        line, dashes = several.index(name), runs.index(run)
        look = style.line_style(line if len(several) > 1 else dashes)
        if len(runs) > 1 and len(several) > 1:
            look["linestyle"] = style.DASHES[dashes % len(style.DASHES)]
        label = " ".join(filter(None, (run, name if len(several) > 1 or not run else "")))
        drawn = np.where(np.isfinite(values), values, np.nan)
        ax.plot(steps, drawn, label=label, **look, **style.markers(steps.size))
        never = np.isposinf(values) & (what == "reach")
        if never.any():
            said = "_" if endless else "does not end"  # once in the legend
            style.cross_out(ax, steps[never], "^", said, look["color"])
            endless = True
        bad |= set(steps[~np.isfinite(values) & ~never].tolist())
    if bad and what != "reach":  # of a reach NaN is "cannot be told"
        style.cross_out(ax, sorted(bad))
    if what in SHARES:
        ax.set_ylim(-0.02, 1.02)
    ax.set_xlabel("step of training")
    ax.set_ylabel(SAID.get(what, what))
    style.whole_numbers(ax.xaxis)
    style.title(ax, f"{what} over training")
    style.legend(ax, len(shown) + bool(bad) + endless, beside=4)
    return figure


def lags(monitor: Any, cut: str | None = None, relative: bool = False) -> Figure:
    """|dL/dS| by lag, upwards, over training, to the right: does it learn to reach?

    monitor: a Monitor or its History, or a dict of such by name; a panel for each run and each cut
    through time, on one scale. cut: the name of one. relative: to the norm at lag 0 of the same
    step of training. White is exactly zero, grey where a sequence is shorter. The line is the
    reach, where it is within the sequence. NaN and Inf are hatched.
    """
    panels: list[tuple[str, History, str]] = []
    for run, history in runs_of("lags", monitor).items():
        known = history.cuts
        if cut is not None and cut not in known:
            raise PlotError(f"lags: there is no cut {cut!r}; there are {known}.")
        panels += [(run, history, name) for name in (known if cut is None else [cut])]
    if not panels:
        raise PlotError(
            "lags: no cut through time was measured; watch a recurrent net with "
            "Monitor(flow=True), which does not run inside mg.flow.record()."
        )
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    size = (2.2 + 3.6 * columns, 0.8 + 2.6 * lines)
    figure = style.figure("lags", size)
    grid = np.ravel(figure.subplots(lines, columns, squeeze=False))
    for empty in grid[len(panels) :]:
        empty.set_visible(False)
    norms = [_norms(history, name, relative) for _, history, name in panels]
    there = np.concatenate([np.ravel(x[~np.isnan(x)]) for _, x, _ in norms])
    _, colors, scale = style.gradient_map("lags", there)
    for ax, (run, history, name), (steps, cells, short) in zip(grid, panels, norms):
        style.tidy(ax, grid=False)
        ax.set_facecolor("#e4e6ea")
        shown, _, _ = style.gradient_map("lags", cells)
        zero = shown == -np.inf  # which matplotlib would leave out
        shown = np.ma.array(np.where(zero, scale.low - 1, np.maximum(shown, scale.low)), mask=short)
        x, y = style.edges(steps), np.arange(cells.shape[1] + 1) - 0.5
        image = ax.pcolormesh(
            x, y, shown.T, cmap=colors.with_extremes(bad="none", under=PAPER),
            vmin=scale.low, vmax=scale.high,
        )  # fmt: skip
        style.mark_bad(ax, x, y, (~np.isfinite(cells) & ~short).T)
        _, reach = history.reach(name)
        ax.plot(steps, np.where(reach <= y[-1], reach, np.nan), color=INK, linewidth=1.2)
        ax.set_xlabel("step of training")
        ax.set_ylabel("lag (steps back)")
        style.whole_numbers(ax.xaxis, ax.yaxis)
        if cells.shape[1] == 1:
            ax.set_yticks([0])
        style.title(ax, " ".join(filter(None, (run, name))) or "network")
    label = "|dL/dS$_{lag}$| / |dL/dS$_0$|" if relative else "|dL/dS| by lag"
    shown_in = list(grid[: len(panels)])
    style.power_ticks(style.color_bar(figure, image, shown_in, label), scale)
    return figure


def _norms(history: History, cut: str, relative: bool) -> tuple[Array, Array, Array]:
    """(steps, norms (measurements, lags), where a sequence is shorter than that)."""
    steps, norms = history.lags(cut)
    sizes = np.array([m.cuts[cut].profile.size for m in history.measurements if cut in m.cuts])
    short = np.arange(norms.shape[1]) >= sizes[:, None]
    if relative:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            norms = norms / norms[:, :1]
    return steps, norms, short
