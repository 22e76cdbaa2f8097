"""A heat strip in the terminal: units by time, in the colours of the drawings.

    print(mg.flow.terminal.strip(rec["lstm/l0/fwd"]))             # |dL/dh_t| of every unit
    print(mg.flow.terminal.strip(rec))                            # a line for each cut and layer
    print(mg.flow.terminal.strip(rec["lstm/l0/fwd"], "f", "value"))

Colours are 24-bit or of the 256-colour palette as the terminal says, or else shades of text:
NO_COLOR, TERM=dumb and pipes give text without escape codes, and an encoding without block
characters ASCII.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..errors import FlowError
from ..escapes import printable
from .drawing.colors import BROKEN, MAX_DECADES, PAPER, STOPS
from .tables import ASCII_BLOCKS, BLOCKS, times

if TYPE_CHECKING:
    from .layerflow import LayerFlow
    from .recording import Recording

Array = np.ndarray
SHADES, ASCII_SHADES = "·░▒▓█", ".:-=+*#%@"
DIVERGING = ("#234f7a", "#8db3cf", "#f7f5ee", "#eba27c", "#a83f3b")  # values: -, 0, +
HEIGHT = 16  # lines; more units are put together
MODES = ("truecolor", "256", "blocks", "ascii")


def strip(
    what: Recording | LayerFlow | Array,
    name: str = "h",
    of: str = "gradient",
    *,
    width: int | None = None,
    height: int = HEIGHT,
    mode: str | None = None,
    stream: IO[str] | None = None,
    summed: bool = False,
) -> str:
    """Text whose lines are units (or layers) and whose columns are time steps, t from the left.

    what: a layer of a recording, of which the gradient or the value of `name` is shown for the
        whole batch; a Recording, a line of norms for each of its cuts, which were judged, and
        then for each of its layers; or an array (rows, T).
    of: "gradient", sizes on a logarithmic scale, or "value", a linear scale around zero.
    width: columns of text, the terminal's by default. Where there are more units than `height` or
        more steps than columns, neighbours are put together: the largest gradient of them, the mean
        value. NaN and Inf are `!`, exact zeros blank.
    mode: "truecolor", "256", "blocks" or "ascii"; by default what `stream` (stdout) can show.
    summed: of a loss read at many steps, the sums of cuts and not what was judged.

    >>> print(strip(np.array([[1e-6, 1e-4, 1e-2, 1.0], [0.0, 1.0, np.nan, 1e-6]]), mode="ascii"))
    0 |.=#@|
    1 | @!.|
      . 1e-06 to 1e+00 @  (log scale)
    """
    if of not in ("gradient", "value"):
        raise FlowError(f"strip: of must be 'gradient' or 'value', got {of!r}.")
    mode = mode or detect(stream)
    if mode not in MODES:
        raise FlowError(f"strip: mode must be one of {', '.join(MODES)}, got {mode!r}.")
    labels, cells = _cells(what, name, of, summed)
    if cells.ndim != 2 or not cells.size:
        raise FlowError(f"strip: expected rows by time steps, (n, T), got {list(cells.shape)}.")
    height = max(1, height)
    rows = np.array_split(np.arange(len(cells)), min(height, len(cells)))
    heads = [labels[r[0]] if len(r) == 1 else f"{labels[r[0]]}-{labels[r[-1]]}" for r in rows]
    margin = max(map(len, heads)) + 1
    columns = width or shutil.get_terminal_size().columns
    room = max(1, columns - margin - (2 if mode in ("blocks", "ascii") else 1))
    parts = np.array_split(np.arange(cells.shape[1]), min(room, cells.shape[1]))
    joined = np.array([[_join(cells[np.ix_(r, p)], of) for p in parts] for r in rows])
    low, high = _scale(joined, of)
    lines = [
        f"{head:<{margin}}{_line(_shares(line, low, high, of), line, of, mode)}"
        for head, line in zip(heads, joined, strict=True)
    ]
    return "\n".join([*lines, " " * margin + _legend(low, high, of, mode)])


def detect(stream: IO[str] | None = None) -> str:
    """What a stream can show: one of MODES."""
    stream = stream or sys.stdout
    can = os.environ
    colors = bool(getattr(stream, "isatty", bool)()) and not can.get("NO_COLOR")
    if colors and can.get("TERM", "") not in ("", "dumb"):
        if can.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
            return "truecolor"
        if "256color" in can["TERM"]:
            return "256"
    return "blocks" if encodes(stream, SHADES) else "ascii"


def encodes(stream: IO[str] | None, text: str) -> bool:
    """Whether the stream's encoding has all characters of the text."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "ascii"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def spark_blocks(stream: IO[str] | None = None) -> str:
    """The bars for `tables.sparkline` that the stream can show."""
    return BLOCKS if encodes(stream, BLOCKS) else ASCII_BLOCKS


def _cells(what: Any, name: str, of: str, summed: bool) -> tuple[list[str], Array]:
    """(labels, (rows, T)), t from the left."""
    if isinstance(what, Mapping):  # a Recording
        if of != "gradient":
            raise FlowError("strip: of a whole recording only gradients are shown; name a layer.")
        if not what:
            raise FlowError("strip: there is no layer to show; record a backward pass first.")
        lines = _lines(what, name, summed)
        longest = max(map(len, lines.values()))
        filled = [np.append(line, np.zeros(longest - len(line))) for line in lines.values()]
        return [printable(path) or "network" for path in lines], np.array(filled)
    if hasattr(what, "norms"):
        kind = "gradients" if of == "gradient" else "values"
        values = _in_time(np.asarray(_named(what, name, kind), np.float64), what)  # (T, B, n)
        cells = np.max(np.abs(values), axis=1) if of == "gradient" else values.mean(axis=1)
        return [str(i) for i in range(cells.shape[1])], cells.T
    try:
        cells = np.atleast_2d(np.asarray(what, np.float64))
    except (TypeError, ValueError):
        raise FlowError(
            f"strip: expected a Recording, a layer of it or an array, got {type(what).__name__}."
        ) from None
    return [str(i) for i in range(len(cells))], np.abs(cells) if of == "gradient" else cells


def _lines(recording: Any, name: str, summed: bool) -> dict[str, Array]:
    """What was judged, by t, and what each layer received, where a cut does not say that."""
    found, said = {}, set()
    for cut in recording.cuts:
        t = times(cut, recording)
        found[cut.name] = np.zeros(t.max(initial=-1) + 1)
        found[cut.name][t] = cut.summed if summed else cut.profile
        if len(cut.labels) == 1:
            said.add(cut.labels[0])
    for path, layer in recording.items():
        if (path, name) not in said:
            found[f"  {path}"] = _in_time(_named(layer, name, "norms"), layer)
    return found


def _named(layer: Any, name: str, kind: str) -> Any:
    source = getattr(layer, kind)
    if name not in source:
        known = ", ".join(map(repr, source)) or "none"
        raise FlowError(f"strip: {layer.path or 'the layer'} has no {kind} of {name!r}; {known}.")
    return source[name]


def _in_time(values: Array, layer: Any) -> Array:
    return values[np.argsort(layer.steps, kind="stable")]


def _join(cells: Array, of: str) -> float:
    if not np.isfinite(cells).all():
        return math.nan
    return float(cells.max() if of == "gradient" else cells.mean())


def _scale(cells: Array, of: str) -> tuple[float, float]:
    good = cells[np.isfinite(cells)]
    if of == "value":
        largest = float(np.max(np.abs(good), initial=0.0)) or 1.0
        return -largest, largest
    good = good[good > 0]
    if not good.size:
        return -1.0, 0.0
    high = float(np.log10(good.max()))
    return max(min(float(np.log10(good.min())), high - 1e-9), high - MAX_DECADES), high


def _shares(line: Array, low: float, high: float, of: str) -> Array:
    """Where each cell stands on the scale, 0 to 1; nan for NaN and, of gradients, -1 for zero."""
    if of == "value":
        return (line - low) / (high - low)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.clip((np.log10(line) - low) / (high - low), 0.0, 1.0)
    return np.where(line == 0, -1.0, share)


def _line(shares: Array, line: Array, of: str, mode: str) -> str:
    if mode in ("blocks", "ascii"):
        signs = SHADES if mode == "blocks" else ASCII_SHADES
        return f"|{''.join(_sign(x, signs) for x in shares)}|"
    text, before = "", ""
    for share in shares:
        color = BROKEN if math.isnan(share) else PAPER if share < 0 else _mixed(share, of)
        code = _background(color, mode)
        sign = "\x1b[30m!" if math.isnan(share) else " "
        text += (code if code != before else "") + sign
        before = code
    return text + "\x1b[0m"


def _sign(share: float, signs: str) -> str:
    if math.isnan(share):
        return "!"
    return " " if share < 0 else signs[min(int(share * len(signs)), len(signs) - 1)]


def _mixed(share: float, of: str) -> str:
    """A colour `#rrggbb` between the stops of the scale."""
    stops = STOPS if of == "gradient" else DIVERGING
    place = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    i = min(int(place), len(stops) - 2)
    pairs = zip(_rgb(stops[i]), _rgb(stops[i + 1]), strict=True)
    return "#" + "".join(f"{round(a + (place - i) * (b - a)):02x}" for a, b in pairs)


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


def _background(color: str, mode: str) -> str:
    red, green, blue = _rgb(color)
    if mode == "truecolor":
        return f"\x1b[48;2;{red};{green};{blue}m"
    levels = np.array([0, 95, 135, 175, 215, 255])  # xterm's 6 x 6 x 6 colours
    r, g, b = (int(np.argmin(np.abs(levels - x))) for x in (red, green, blue))
    return f"\x1b[48;5;{16 + 36 * r + 6 * g + b}m"


def _legend(low: float, high: float, of: str, mode: str) -> str:
    log = of == "gradient"
    ends = [f"{10**x:.0e}" if log else f"{x:.2g}" for x in (low, high)]
    note = "  (log scale)" if log else ""
    if mode in ("blocks", "ascii"):
        signs = SHADES if mode == "blocks" else ASCII_SHADES
        return f"{signs[0]} {ends[0]} to {ends[1]} {signs[-1]}{note}"
    bar = "".join(_background(_mixed(x, of), mode) + " " for x in np.linspace(0, 1, 9))
    return f"{ends[0]} {bar}\x1b[0m {ends[1]}{note}"
