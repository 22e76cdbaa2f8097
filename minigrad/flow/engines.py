"""From DOT text to a picture: which Graphviz engine is here, and what to do if there is none.

Looked for in this order:
    1. $MINIGRAD_DOT, a program's name or path; if it is set and not there, that is an error
    2. `dot` on PATH (a system Graphviz)
    3. `graphviz-pure`, installed beside this Python or on PATH
With none of them the DOT text itself is written, and a warning says what to install.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sysconfig
import warnings
from numbers import Real
from pathlib import Path
from typing import NamedTuple

from ..errors import MinigradError
from ..files import write_whole

TEXT_FORMATS = ("gv", "dot")
INSTALL = "install Graphviz (https://graphviz.org/download) or run `pip install graphviz-pure`"
TIMEOUT_S = 120
TALL = 10_000  # inches: the width alone decides
NO_DOTS = ("svg", "svgz", "pdf", "ps", "eps", *TEXT_FORMATS)
SMALLEST = 9  # pixels, of text on a page
FONT = "Helvetica"  # the one sans-serif that every engine has metrics for


class RenderError(MinigradError, RuntimeError):
    """The engine is missing where it was said to be, failed, or cannot write this format."""


class NoEngineWarning(UserWarning):
    """No Graphviz engine was found; the DOT text was written instead of a picture."""


class Engine(NamedTuple):
    """A program that takes `-Tsvg` and DOT text on its standard input."""

    path: str
    found: str  # where: "$MINIGRAD_DOT", "PATH", "this environment"

    @property
    def name(self) -> str:
        return Path(self.path).stem

    def version(self) -> str:
        """What the engine says about itself, in one line."""
        done = subprocess.run([self.path, "-V"], capture_output=True, text=True, timeout=TIMEOUT_S)
        return (done.stderr or done.stdout).strip().splitlines()[0]


def find_engine() -> Engine | None:
    """The engine that `save` uses, or None. Raises RenderError if $MINIGRAD_DOT is no program."""
    if wanted := os.environ.get("MINIGRAD_DOT"):
        path = shutil.which(wanted)
        if path is None:
            raise RenderError(
                f"$MINIGRAD_DOT is {wanted!r}, which is not a program; correct it or unset it."
            )
        return Engine(path, "$MINIGRAD_DOT")
    if path := shutil.which("dot"):
        return Engine(path, "PATH")
    if path := shutil.which("graphviz-pure", path=sysconfig.get_path("scripts")):
        return Engine(path, "this environment")
    if path := shutil.which("graphviz-pure"):
        return Engine(path, "PATH")
    return None


def render(
    dot: str,
    format: str = "svg",
    engine: Engine | None = None,
    *,
    dpi: float | None = None,
    width: float | None = None,
) -> bytes:
    """The picture as bytes; see `save`. Raises RenderError, in the engine's words if it fails."""
    engine = engine or find_engine()
    if engine is None:
        raise RenderError(f"no Graphviz engine found: {INSTALL}, or point $MINIGRAD_DOT to one.")
    command = [engine.path, f"-T{format}", *_sizes(dpi, width)]
    try:
        done = subprocess.run(command, input=dot.encode(), capture_output=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise RenderError(
            f"{engine.path} took more than {TIMEOUT_S} s; draw fewer nodes."
        ) from None
    except OSError as error:
        raise RenderError(f"{engine.path} cannot be run ({error.strerror}).") from None
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise RenderError(f"{engine.path} -T{format} failed: {said[-1]}")
    if format != "svg":
        return done.stdout
    # The layout needs a font with metrics, a reader's machine one that it has. A page that is
    # narrower than the picture shows all of it.
    stack = f'font-family="{FONT},Arial,sans-serif"'
    svg = re.sub(rf'font-family="{FONT}[^"]*"'.encode(), stack.encode(), done.stdout)
    return svg.replace(b"<svg ", b'<svg style="max-width:100%;height:auto" ', 1)


def least_width(svg: str) -> int:
    """Pixels, the width below which the smallest text of an SVG is less than 9 pixels high.

    Not more than its own width; letters that are outlines count as 8 points high.
    """
    width = re.search(r'<svg[^>]*?\swidth="([\d.]+)(pt|px|)"', svg)
    if width is None:
        return 0
    natural = float(width[1]) * (4 / 3 if width[2] == "pt" else 1)
    box = re.search(r'<svg[^>]*?viewBox="[-\d.]+ [-\d.]+ ([\d.]+)', svg)
    scale = natural / float(box[1]) if box else 1.0  # pixels a unit of the drawing
    # A drawing that was scaled to a width has its text in a group that is.
    group = re.search(r'<g [^>]*?transform="scale\(([\d.]+)', svg)
    scale *= float(group[1]) if group else 1.0
    sizes = [float(size) for size in re.findall(r'font-size[=:]\s*"?([\d.]+)', svg)] or [8.0]
    return round(min(natural, natural * SMALLEST / (scale * min(sizes))))


def _sizes(dpi: float | None, width: float | None) -> list[str]:
    """Arguments of an engine for so many dots an inch, and so many inches from side to side."""
    found = [] if dpi is None else [f"-Gdpi={dpi:g}"]
    return found if width is None else [*found, f"-Gsize={width:g},{TALL}!"]


def save(
    dot: str, path: str | Path, *, dpi: float | None = None, width: float | None = None
) -> Path:
    """Writes a picture in the format of `path`'s suffix (svg, png, gv, ...), and returns what was
    written.

    dpi: dots an inch of a .png or another bitmap (left out, 96). width: of the picture in inches;
    left out, as wide as it needs to be. So width=6.5, dpi=300 is a figure of 1950 pixels.
    The file appears whole or not at all. Without an engine the DOT text is written beside it with
    the suffix .gv, with a NoEngineWarning, and that path is returned.
    Raises RenderError for a suffix that no engine knows, for dpi= of a picture without dots, and
    for sizes that are no positive numbers.
    """
    path = Path(path)
    format = path.suffix[1:].lower()
    _check_sizes(format, dpi, width)
    if not format:
        raise RenderError(f"save: {path} has no suffix; name it .svg, .png or .gv.")
    if format in TEXT_FORMATS:
        return write_whole(path, dot.encode())
    engine = find_engine()
    if engine is None:
        sizes = "".join(f"'{size}' " for size in _sizes(dpi, width))
        path = write_whole(path.with_suffix(".gv"), dot.encode())
        warnings.warn(
            f"no Graphviz engine found, so {path} holds the drawing as text: {INSTALL}, then "
            f"`dot -T{format} {sizes}-O {path}`.",
            NoEngineWarning,
            stacklevel=2,
        )
        return path
    return write_whole(path, render(dot, format, engine, dpi=dpi, width=width))


def _check_sizes(format: str, dpi: float | None, width: float | None) -> None:
    for name, value in (("dpi", dpi), ("width", width)):
        if value is not None and not (isinstance(value, Real) and 0 < value < math.inf):
            raise RenderError(f"save: {name} is a positive number, got {value!r}.")
    if dpi is not None and format in NO_DOTS:
        raise RenderError(f"save: dpi= is for bitmaps such as .png, and .{format} has no dots.")
    if width is not None and format in TEXT_FORMATS:
        raise RenderError(f"save: width= is for pictures, and .{format} is text.")
