"""Figures of a recording: how the gradient decays, and what every unit did at every step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...norms import norm
from ..drawing.colors import PAPER
from ..tables import by_lag
from ..verdict import Fit, Verdict
from . import style
from .style import PlotError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..layerflow import LayerFlow
    from ..recording import Recording

Array = np.ndarray
# Gates and other values between 0 and 1, by name: they get a scale from 0 to 1.
GATES = ("i", "f", "o", "r", "z", "u")


def decay(
    rec: Recording | LayerFlow | Mapping[str, Any],
    state: str | None = None,
    ax: Axes | None = None,
    summed: bool = False,
) -> Figure:
    """|dL/dS| by lag, on a logarithmic axis, with the fitted line of the verdict.

    rec: a Recording, one of its layers, or a dict of such by name. state: of each layer that one by
    itself, "h" where a layer is given; else S is all that is carried from step to step, which is
    what was judged. summed: of a loss read at many steps show the sum of what comes back, and not
    the last output alone. The band around the dashed line is the 95 % interval of the factor per
    step, about the middle of the lags. Zeros cannot be shown on such an axis; the first NaN or Inf
    is marked.

    >>> import minigrad as mg
    >>> rnn = mg.nn.RNN(1, 3, generator=np.random.default_rng(0))
    >>> figure = decay(mg.flow.probe(rnn, np.ones((12, 1, 1), np.float32)))
    >>> figure.axes[0].get_xlabel()
    'lag (steps back from the loss)'
    """
    curves = _curves(rec, state, summed)
    figure, ax = style.axes("decay", ax)
    style.log_axis(ax, [profile for profile, _ in curves.values()])
    for i, (name, (profile, verdict)) in enumerate(curves.items()):
        look = style.line_style(i)
        shown = np.where(np.isfinite(profile) & (profile > 0), profile, np.nan)
        lags = np.arange(profile.size)
        label = f"{name}: {_said(verdict)}" if name else _said(verdict)
        ax.plot(lags, shown, label=label, **look, **style.markers(profile.size))
        bad = np.flatnonzero(~np.isfinite(profile))
        if bad.size:
            ax.axvline(float(bad[0]), color=style.WARNING, linewidth=1, linestyle=":")
            ax.annotate(
                "NaN or Inf from here",
                (float(bad[0]), 1.0),
                xycoords=ax.get_xaxis_transform(),
                xytext=(3, -3),
                textcoords="offset points",
                va="top",
                color=style.WARNING,
                fontsize=9,
            )
        if verdict.fit is not None and profile.size > 1 and not summed:
            _draw_fit(ax, verdict.fit, lags, look["color"])
    ax.set_xlabel("lag (steps back from the loss)")
    of = "sum over all outputs of " if summed else ""
    ax.set_ylabel(f"{of}|dL/d{state or 'S'}$_t$|")
    style.title(ax, "How far the gradient reaches")
    style.legend(ax, len(curves))
    return figure


def _draw_fit(ax: Axes, fit: Fit, lags: Array, color: str) -> None:
    middle = lags.mean()
    with np.errstate(over="ignore", under="ignore"):
        line = np.exp(fit.intercept + lags * math.log(fit.rate))
        ax.plot(lags, line, color=color, linewidth=1, linestyle=(0, (4, 3)), alpha=0.8)
        if not 0 < fit.low < fit.high < math.inf:
            return
        height = fit.intercept + middle * math.log(fit.rate)
        ends = [np.exp(height + (lags - middle) * math.log(r)) for r in (fit.low, fit.high)]
    ax.fill_between(lags, np.minimum(*ends), np.maximum(*ends), color=color, alpha=0.13, lw=0)


def _said(verdict: Verdict) -> str:
    parts = [verdict.kind, verdict.reach_words]
    if verdict.fit is not None:
        parts.append(f"×{verdict.rate:.3g} per step")
    return ", ".join(parts)


def _curves(rec: Any, state: str | None, summed: bool) -> dict[str, tuple[Array, Verdict]]:
    """name -> (profile, verdict) of what decay() takes; without a path where it says nothing."""
    if hasattr(rec, "profile"):
        return {rec.path: _own(rec, state or "h", summed)}
    if not isinstance(rec, Mapping):
        raise PlotError(
            f"decay: expected a Recording, one of its layers, or a dict of such, got "
            f"{type(rec).__name__}."
        )
    if state is None and hasattr(rec, "cuts"):
        return {cut.name: (cut.summed if summed else cut.profile, cut.verdict) for cut in rec.cuts}
    found: dict[str, tuple[Array, Verdict]] = {}
    for name, part in rec.items():
        below = _curves(part, state, summed)
        for path, curve in below.items():
            found[" ".join(filter(None, (name, path if len(below) > 1 else "")))] = curve
    if not found:
        raise PlotError("decay: there is no layer to draw; record a backward pass first.")
    return found


def _own(layer: LayerFlow, state: str, summed: bool) -> tuple[Array, Verdict]:
    if state not in layer.norms:
        raise PlotError(
            f"decay: {layer.path or 'the layer'} has no state {state!r}; it has "
            f"{', '.join(map(repr, layer.norms))}."
        )
    profile = by_lag(layer.norms[state]) if summed else layer.profile(state)
    return profile, layer.verdicts[state]


def heatmap(
    layer: LayerFlow,
    name: str = "h",
    what: str = "value",
    row: int | None = 0,
    ax: Axes | None = None,
) -> Figure:
    """A tapped value, or its gradient, as unit x time.

    what: "value" (states on a scale around zero, gates from 0 to 1) or "gradient" (|dL/d(value)| on
    the logarithmic scale of the drawings; white is exactly zero). row: which sample of the batch;
    None for the mean of values, or the norm of gradients, over all. NaN and Inf are hatched.
    """
    if what not in ("value", "gradient"):
        raise PlotError(f"heatmap: what must be 'value' or 'gradient', got {what!r}.")
    source = layer.values if what == "value" else layer.gradients
    if name not in source:
        raise PlotError(
            f"heatmap: {layer.path or 'the layer'} has no {what} of {name!r}; it has "
            f"{', '.join(map(repr, source)) or 'none'}."
        )
    cells = _one_row(np.asarray(source[name], np.float64), row, what)
    order = np.argsort(layer.steps, kind="stable")
    cells, t = cells[order].T, layer.steps[order]  # (n, T)
    figure, ax = style.axes("heatmap", ax)
    ax.grid(False)
    bad = ~np.isfinite(cells)
    x, y = np.append(t, t[-1] + 1) - 0.5, np.arange(cells.shape[0] + 1) - 0.5
    if what == "gradient":
        shown, colors, scale = style.gradient_map("heatmap", cells)
        image = ax.pcolormesh(x, y, shown, cmap=colors, vmin=scale.low, vmax=scale.high)
        style.power_ticks(style.color_bar(figure, image, ax, f"|dL/d{name}$_t$|"), scale)
    else:
        shown = np.where(bad, np.nan, cells)
        largest = float(np.max(np.abs(shown[~bad]), initial=0.0)) or 1.0
        gate = name in GATES and bool(((shown[~bad] >= 0) & (shown[~bad] <= 1)).all())
        colors = style.colormap("heatmap", style.SEQUENTIAL if gate else style.DIVERGING)
        low, high = (0.0, 1.0) if gate else (-largest, largest)
        image = ax.pcolormesh(x, y, shown, cmap=colors, vmin=low, vmax=high)
        style.color_bar(figure, image, ax, f"{name}$_t$")
    style.mark_bad(ax, x, y, bad)
    ax.set_xlabel("time step t")
    ax.set_ylabel("unit")
    style.whole_numbers(ax.xaxis, ax.yaxis)
    of = "all rows" if row is None else f"row {row}"
    style.title(ax, " ".join(filter(None, (layer.path, f"{name}, {what}, {of}"))))
    ax.set_facecolor(PAPER)
    return figure


def _one_row(values: Array, row: int | None, what: str) -> Array:
    """(T, n) of (T, B, n)."""
    if row is None:
        with np.errstate(over="ignore", invalid="ignore"):
            if what == "value":
                return values.mean(axis=1)
            return norm(values, axis=1)[:, 0]
    if not -values.shape[1] <= row < values.shape[1]:
        raise PlotError(f"heatmap: row {row} of a batch of {values.shape[1]}; rows count from 0.")
    return values[:, row]
