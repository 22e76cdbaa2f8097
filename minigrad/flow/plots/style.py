"""What all figures share: axes, colours, maps, and the way to matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import MinigradError
from ..drawing.colors import BROKEN, INK, LINE, MUTED, PAPER, STOPS, Scale, power_of_ten
from ..tables import log_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Array = np.ndarray
# Lines. They differ in lightness too, so that they stay apart for every kind of colour blindness,
# and in their dashes from the seventh on.
HUES = ("#2b5c8a", "#dd6a63", "#2f9183", "#e0a030", "#7a5aa6", "#4b5563")
DASHES = ("-", "--", ":", "-.")
DIVERGING = ("#234f7a", "#8db3cf", "#f7f5ee", "#eba27c", "#a83f3b")  # states: -, 0, +
SEQUENTIAL = ("#f7f5ee", "#c7dbe4", "#86b0c8", "#44799f", "#1d4468")  # gates and shares: 0 to 1
WARNING = "#7a5aa6"  # marks of NaN and Inf on lines, where BROKEN would be too pale
SIZE = (6.4, 3.8)  # inches, one figure in a notebook


class PlotError(MinigradError, ValueError):
    """Something that cannot be drawn, or no matplotlib to draw it with."""


def matplotlib(what: str) -> Any:
    """The package; `what` wants it. Raises PlotError that says how to install it."""
    try:
        import matplotlib.figure
    except ImportError as error:
        raise PlotError(
            f'{what}: needs matplotlib, which is not installed: pip install "minigrad-bptt[plot]"'
        ) from error
    return matplotlib


def figure(what: str, size: tuple[float, float]) -> Figure:
    """An empty one, that shows itself in a notebook."""
    matplotlib(what)
    from .shown import Shown

    return Shown(figsize=size, layout="constrained", facecolor=PAPER)


def axes(what: str, ax: Axes | None, size: tuple[float, float] = SIZE) -> tuple[Figure, Axes]:
    """(figure, axes) to draw in: those given, or new ones."""
    if ax is None:
        ax = figure(what, size).add_subplot()
    tidy(ax)
    return ax.figure, ax  # type: ignore[return-value]


def tidy(ax: Axes, grid: bool = True) -> None:
    """The house look: no box, faint horizontal lines, ink for text."""
    ax.set_facecolor(PAPER)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(LINE)
    ax.tick_params(which="both", colors=MUTED, labelsize=9)
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)
    ax.grid(False)
    if grid:
        ax.grid(True, axis="y", color="#eceef2", linewidth=0.8)
    ax.set_axisbelow(True)


def title(ax: Axes, text: str) -> None:
    """Small, on the left: a figure stands in a text that says more."""
    ax.set_title(text, loc="left", fontsize=10, color=INK)


def whole_numbers(*axis: Any) -> None:
    """No ticks between whole numbers."""
    from matplotlib.ticker import MaxNLocator

    for one in axis:
        one.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def log_axis(ax: Axes, shown: Sequence[Array]) -> None:
    """A logarithmic y axis that holds what is shown, whatever else is drawn: a fit may lie far off.

    Near the ends of float64 matplotlib's own limits and ticks overflow; there they are chosen here.
    """
    low, high = log_range(shown)
    margin = 0.05 * (high - low) + 0.1
    ax.set_yscale("log")
    ax.set_ylim(10 ** max(low - margin, -320.0), 10 ** min(high + margin, 308.2))
    if max(-low, high) > 150:
        from matplotlib.ticker import FixedLocator, NullLocator

        powers = np.unique(np.linspace(np.ceil(low), np.floor(high), 7).round())
        ax.yaxis.set_major_locator(FixedLocator([10.0**p for p in powers if -320 < p < 308]))
        ax.yaxis.set_minor_locator(NullLocator())


def markers(points: int) -> dict[str, Any]:
    """A marker for each point, where there are few."""
    return {"marker": "o", "markersize": 3} if points <= 40 else {}


def edges(steps: Array) -> Array:
    """Of cells around steps, one more than there are."""
    middle = (steps[1:] + steps[:-1]) / 2
    first, last = (steps[1] - steps[0], steps[-1] - steps[-2]) if steps.size > 1 else (1, 1)
    return np.concatenate([[steps[0] - first / 2], middle, [steps[-1] + last / 2]])


def cross_out(
    ax: Axes, x: Any, marker: str = "x", label: str = "NaN or Inf", color: str = WARNING
) -> None:
    """Marks at the top of the axes: there something was not finite."""
    look: dict[str, Any] = {"linestyle": "", "color": color, "markersize": 6, "clip_on": False}
    top = np.full(len(x), 0.98)
    across = ax.get_xaxis_transform()
    ax.plot(x, top, marker=marker, transform=across, label=label, **look)


def line_style(i: int) -> dict[str, Any]:
    """Colour and dashes of the i-th line."""
    return {
        "color": HUES[i % len(HUES)],
        "linestyle": DASHES[i // len(HUES) % len(DASHES)],
        "linewidth": 1.6,
    }


def legend(ax: Axes, count: int, beside: int = 6) -> None:
    """Inside the axes, or below them where it would cover the lines."""
    if not count:
        return
    look: dict[str, Any] = {"fontsize": 9, "frameon": False, "labelcolor": INK}
    if count > beside:
        look |= {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    ax.legend(**look)


def colormap(what: str, stops: Sequence[str]) -> Colormap:
    """A map through the stops; zero gradients are paper, NaN and Inf get the hue of their own."""
    matplotlib(what)
    from matplotlib.colors import LinearSegmentedColormap

    found = LinearSegmentedColormap.from_list("minigrad", list(stops))
    return found.with_extremes(bad=BROKEN, under=PAPER)


def gradient_map(what: str, norms: Array) -> tuple[Array, Colormap, Scale]:
    """(log10 of the norms, the drawings' colours, their scale); a zero is -inf, below the scale."""
    size = np.abs(np.asarray(norms, np.float64))
    scale = Scale.around(size.ravel())
    with np.errstate(divide="ignore", invalid="ignore"):
        decades = np.where(np.isfinite(size), np.log10(size), np.nan)
    small = (size > 0) & (decades < scale.low)
    return np.where(small, scale.low, decades), colormap(what, STOPS), scale


def power_ticks(bar: Any, scale: Scale) -> None:
    """Ticks of a colour bar at powers of ten."""
    stride = max(1, (scale.high - scale.low) // 6)
    ticks = list(range(scale.low, scale.high + 1, stride))
    bar.set_ticks(ticks, labels=[power_of_ten(10.0**t) for t in ticks])


def color_bar(figure: Figure, image: Any, ax: Axes | list[Axes], label: str) -> Any:
    """A colour bar beside the axes, or all of them."""
    bar = figure.colorbar(image, ax=ax, pad=0.02, fraction=0.05)
    bar.set_label(label, color=INK, fontsize=9)
    bar.ax.tick_params(colors=MUTED, labelsize=9)
    bar.outline.set_visible(False)
    return bar


def mark_bad(ax: Axes, x: Array, y: Array, bad: Array) -> None:
    """Hatches the cells (y, x) that are NaN or Inf, and says so once. x, y: edges."""
    if not bad.any():
        return
    from matplotlib.patches import Patch, Rectangle

    look: dict[str, Any] = {"facecolor": BROKEN, "edgecolor": WARNING, "hatch": "////", "lw": 0}
    for row, line in enumerate(bad):
        ends = np.flatnonzero(np.diff(line.astype(np.int8), prepend=0, append=0))
        for start, end in ends.reshape(-1, 2):  # cells side by side are one rectangle
            corner = (float(x[start]), float(y[row]))
            width, height = float(x[end] - x[start]), float(y[row + 1] - y[row])
            ax.add_patch(Rectangle(corner, width, height, **look))
    patch = Patch(**look)
    ax.legend(
        [patch],
        ["NaN or Inf"],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        borderaxespad=0.2,
        fontsize=9,
        frameon=False,
        labelcolor=INK,
    )
