"""Sliders: what a function measured, for every position of its knobs, on one page.

    def measure(sigma, T):
        return {"RNN": norms_of(sigma, T)}, f"sigma {sigma}: ..."      # curves, and words on them

    mg.flow.sliders(measure, {"sigma(U)": [0.5, 1.0, 1.5], "T": [20, 100]}, log=True)

Everything is computed beforehand, here: the page needs no server and no Python, and shows nothing
that was not measured.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FlowError
from ..drawing.dot import Drawing
from ..engines import least_width
from ..page import Page, assemble

Array = np.ndarray
HERE = Path(__file__).parent
MOST = 400  # positions of all knobs together
LOOKS = 6  # colours of lines, after which they come again
DECADES = 12  # of a logarithmic axis


class Sliders(Page):
    """A page with a slider for each knob. In a notebook it shows itself; `save` writes it.

    >>> import tempfile
    >>> page = sliders(lambda a: {"a^k": a ** np.arange(9.0)}, {"a": [0.5]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page.save(f"{folder}/a.html").name
    'a.html'
    """

    what = "sliders"
    height = 520


def sliders(
    measure: Callable[..., Any],
    knobs: Mapping[str, Sequence[Any]],
    *,
    title: str = "",
    note: str = "",
    x: str = "",
    y: str = "",
    log: bool = False,
    limits: tuple[float, float] | None = None,
    under: tuple[Array, tuple[float, float, float, float]] | None = None,
    start: Sequence[Any] = (),
) -> Sliders:
    """Calls `measure(*values)` for every combination of the knobs' values; a page to turn them on.

    measure: returns what to show, or (that, words). What to show is a Drawing, or curves: name ->
        values at 0, 1, 2, ..., or name -> (xs, ys), which is drawn with its points. NaN and Inf
        are gaps; on a logarithmic axis what is not positive is one, too.
    knobs: name -> its values, in order. start: the value of each that the page opens with.
    title, note: lines above and below. x, y: of the axes. log: whether y is logarithmic.
    limits: the ends of y, where curves may leave the picture; left out, it holds all curves, of
        which a logarithmic axis shows 12 powers of ten from the largest value down.
    under: (values, (x0, x1, y0, y1)), an array (rows from y0 up, columns from x0 on) that is drawn
        in grey beneath the curves and sets the axes, such as the loss by two weights.
    Raises FlowError for knobs without values, more than 400 positions, a start that is not among
    the values, limits that do not rise or, of a logarithmic axis, are not positive, and for what
    cannot be shown.

    >>> found = sliders(lambda a: {"a^k": a ** np.arange(9.0)}, {"a": [0.5, 2.0]}, log=True)
    >>> found
    <Sliders, ... kB; a notebook shows it, .save('flow.html') writes it>
    """
    values = {name: list(each) for name, each in knobs.items()}
    count = math.prod(map(len, values.values()))
    if not 0 < count <= MOST:
        raise FlowError(
            f"sliders: expected from 1 to {MOST} positions of all knobs together, got {count}."
        )
    if limits and not (limits[0] < limits[1] and (limits[0] > 0 or not log)):
        raise FlowError(
            f"sliders: limits are (low, high), {'0 < ' if log else ''}low < high; got {limits}."
        )
    places = _places(values, start)
    frames, pictures = [], _Pictures()
    for position in product(*values.values()):
        what, words = measure(*position), ""
        if isinstance(what, tuple) and len(what) == 2 and isinstance(what[1], str):
            what, words = what
        frames.append(pictures.shown(what, words))
    looks = {name: i % LOOKS for i, name in enumerate(_names(frames))}
    for line in _lines(frames):
        line["look"] = looks[line["name"]]
    contents = {
        "title": title,
        "note": note,
        "knobs": [
            {"name": name, "labels": list(map(_label, each)), "start": place}
            for (name, each), place in zip(values.items(), places, strict=True)
        ],
        "frames": frames,
        "pictures": pictures.uris,
        "x": x,
        "y": y,
        "log": log,
        "under": under and _grey(np.asarray(under[0], np.float64)),
        "limits": list(map(float, under[1])) if under else _limits(frames, log, limits),
    }
    scripts = [HERE / "common.js", HERE / "sliders.js"]
    return Sliders(
        assemble(Sliders.what, HERE / "page.html", [HERE / "style.css"], scripts, contents)
    )


def _places(values: Mapping[str, list[Any]], start: Sequence[Any]) -> list[int]:
    """Which of its values each knob opens with: the middle one if nothing is said."""
    if not start:
        return [(len(each) - 1) // 2 for each in values.values()]
    if len(start) != len(values):
        raise FlowError(f"sliders: start has {len(start)} values for {len(values)} knobs.")
    for (name, each), wanted in zip(values.items(), start, strict=True):
        if wanted not in each:
            raise FlowError(f"sliders: {name!r} starts at {wanted!r}, which is not among {each}.")
    return [each.index(wanted) for each, wanted in zip(values.values(), start, strict=True)]


class _Pictures:
    """What is shown at a position, as JSON; pictures that come again are kept once."""

    def __init__(self) -> None:
        self.uris: list[str] = []

    def shown(self, what: Any, words: str) -> dict[str, Any]:
        if isinstance(what, Drawing):
            svg = what.svg()
            uri = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
            if uri not in self.uris:
                self.uris.append(uri)
            picture = {"uri": self.uris.index(uri), "least": least_width(svg), "alt": words}
            return {"picture": picture, "words": words}
        if not isinstance(what, Mapping) or not what:
            raise FlowError(
                f"sliders: expected measure() to return curves by name or a Drawing, and words "
                f"with them if wanted, got {type(what).__name__}."
            )
        return {"lines": [_line(name, each) for name, each in what.items()], "words": words}


def _line(name: str, curve: Any) -> dict[str, Any]:
    pair = isinstance(curve, tuple) and len(curve) == 2
    xs, ys = (np.asarray(each, np.float64) for each in (curve if pair else ((), curve)))
    if ys.ndim != 1 or (pair and xs.shape != ys.shape):
        shapes = f"{xs.shape} and {ys.shape}" if pair else f"{ys.shape}"
        raise FlowError(
            f"sliders: a curve is one array (n,), or a tuple of two of one length; {name!r} has "
            f"{shapes}."
        )
    found: dict[str, Any] = {"name": str(name), "ys": list(map(_short, ys))}
    if pair:
        bad = ~np.isfinite(xs)
        found["xs"] = [_short(v) or 0.0 for v in xs]
        found["ys"] = [None if b else v for b, v in zip(bad, found["ys"], strict=True)]
    return found


def _short(value: float) -> float | None:
    """Four digits, as many as a screen can show; None where there is no number."""
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _label(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)


def _lines(frames: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (line for frame in frames for line in frame.get("lines", ()))


def _names(frames: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(line["name"] for line in _lines(frames)))


def _limits(
    frames: list[dict[str, Any]], log: bool, given: tuple[float, float] | None
) -> list[float]:
    """x0, x1, y0, y1 that hold all curves of all positions: what is turned is seen to move."""
    xs, ys = [0.0, 1.0], []
    for line in _lines(frames):
        at = line.get("xs") or range(len(line["ys"]))
        for x, y in zip(at, line["ys"], strict=True):
            if y is not None and (y > 0 or not log):
                xs.append(float(x))
                ys.append(math.log10(y) if log else y)
    xs = xs[2:] or xs
    if given:
        low, high = np.log10(given).tolist() if log else given
        return [min(xs), max(max(xs), min(xs) + 1e-9), float(low), float(high)]
    low, high = (min(ys), max(ys)) if ys else (0.0, 1.0)
    if log:
        low, high = max(math.floor(low), math.ceil(high) - DECADES), math.ceil(high)
    flat = high <= low
    margin = 0.5 if flat else 0.04 * (high - low)
    return [min(xs), max(max(xs), min(xs) + 1e-9), low - margin, high + margin]


def _grey(values: Array) -> str:
    """An array as a picture, its first row at the bottom: white where it is least, and where it is
    not finite.
    """
    if values.ndim != 2 or not values.size:
        raise FlowError(f"sliders: under= wants an array (rows, columns), got {values.shape}.")
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    share = np.where(finite, values - low, 0.0) / (high - low if high > low else 1.0)
    rows = (255 - 150 * share[::-1]).astype(np.uint8)
    lines = np.c_[np.zeros(len(rows), np.uint8), rows].tobytes()  # filter 0 before each line
    head = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
