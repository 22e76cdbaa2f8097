"""Figures of a cell's dynamics: singular values of its Jacobians, Lyapunov exponents."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..drawing.colors import INK, LINE, MUTED
from . import style
from .style import PlotError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray


def singular_values(jacobians: Any, ax: Axes | None = None) -> Figure:
    """The singular values of dS_t/dS_{t-1} at every step: least, quartiles and largest.

    jacobians: of mg.flow.jacobians, or the values themselves, (T, B, n) or (T, n). A gradient grows
    in a direction where they are above 1 and shrinks where they are below; both lines and bands are
    over rows and directions. NaN is left out, and its steps are crossed at the top.
    """
    found = jacobians.singular_values() if hasattr(jacobians, "singular_values") else jacobians
    values = np.asarray(found, np.float64)
    if values.ndim not in (2, 3) or not values.size:
        raise PlotError(
            f"singular_values: expected Jacobians or their singular values, (T, B, n) or (T, n), "
            f"got {list(values.shape)}."
        )
    flat = values.reshape(len(values), -1)
    flat = np.where(np.isfinite(flat), flat, np.nan)
    good = np.flatnonzero(~np.isnan(flat).all(axis=1))
    bands = np.full((5, len(flat)), np.nan)
    if good.size:
        bands[:, good] = np.nanpercentile(flat[good], (0, 25, 50, 75, 100), axis=1)
    least, _, median, _, largest = bands
    figure, ax = style.axes("singular_values", ax)
    style.log_axis(ax, [flat, np.ones(1)])
    steps = np.arange(1, len(flat) + 1)
    color = style.HUES[0]
    floor = np.nanmin(np.where(bands > 0, bands, np.nan)) / 10 if (bands > 0).any() else 1e-3
    held = np.where(np.isnan(bands), np.nan, np.maximum(bands, floor))  # a zero has no logarithm
    ax.fill_between(steps, held[0], held[4], color=color, alpha=0.13, lw=0, label="all of them")
    ax.fill_between(steps, held[1], held[3], color=color, alpha=0.3, lw=0, label="middle half")
    ax.plot(steps, _positive(largest), color=color, linewidth=1, label="largest")
    ax.plot(steps, _positive(median), color=color, linewidth=2, label="median")
    ax.plot(steps, _positive(least), color=color, linewidth=1, linestyle=":", label="least")
    ax.axhline(1.0, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if bad.size:
        style.cross_out(ax, steps[bad])
    ax.set_xlabel("step k, in order of computation")
    ax.set_ylabel("singular values of $dS_k/dS_{k-1}$")
    style.title(ax, "What one step does to a gradient: above 1 it may grow")
    style.legend(ax, 6, beside=0)
    return figure


def _positive(x: Array) -> Array:
    return np.where(x > 0, x, np.nan)


def lyapunov(spectrum: Any, ax: Axes | None = None) -> Figure:
    """Lyapunov exponents by index, the zero line, and Kaplan and Yorke's dimension.

    spectrum: of mg.flow.lyapunov, or the exponents themselves, (k,), largest first. Bars are two
    standard errors where they are known; -inf cannot be shown, and is counted in the title.
    """
    exponents = np.asarray(getattr(spectrum, "exponents", spectrum), np.float64)
    if exponents.ndim != 1 or not exponents.size:
        raise PlotError(
            f"lyapunov: expected a spectrum or its exponents, (k,), got {list(exponents.shape)}."
        )
    figure, ax = style.axes("lyapunov", ax)
    index = np.arange(1, exponents.size + 1)
    shown = np.where(np.isfinite(exponents), exponents, np.nan)
    color = style.HUES[0]
    size = 4 if exponents.size <= 40 else 2.5
    ax.axhline(0.0, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    error = getattr(spectrum, "standard_error", None)
    if error is not None and np.isfinite(error).any():
        bars = 2 * np.where(np.isfinite(error), error, 0.0)
        ax.errorbar(index, shown, yerr=bars, fmt="none", ecolor=LINE, elinewidth=1)
    ax.plot(index, shown, color=color, linewidth=1, marker="o", markersize=size)
    dimension = float(getattr(spectrum, "dimension", math.nan))
    if math.isfinite(dimension):
        ax.axvline(dimension, color=style.HUES[1], linewidth=1.2)
        left = dimension < exponents.size / 2
        ax.annotate(
            f"Kaplan-Yorke dimension {dimension:.3g}",
            (dimension, 0.97),
            xycoords=ax.get_xaxis_transform(),
            xytext=(5 if left else -5, 0),
            textcoords="offset points",
            ha="left" if left else "right",
            va="top",
            fontsize=9,
            color="#a83f3b",
        )
    lost = int((~np.isfinite(exponents)).sum())
    note = f" ({lost} not finite)" if lost else ""
    style.title(ax, f"Lyapunov exponents{note}: above 0, perturbations grow")
    ax.set_xlabel("index i")
    ax.set_ylabel(r"$\lambda_i$ (1/step)")
    style.whole_numbers(ax.xaxis)
    ax.tick_params(colors=MUTED)
    return figure
