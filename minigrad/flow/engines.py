"""From DOT text to a picture: which Graphviz engine is here, and what to do if there is none.

Looked for in this order:
    1. $MINIGRAD_DOT, a program's name or path; if it is set and not there, that is an error
    2. `dot` on PATH (a system Graphviz)
    3. `graphviz-pure`, installed beside this Python or on PATH
With none of them the DOT text itself is written, and a warning says what to install.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
import warnings
from pathlib import Path
from typing import NamedTuple

from ..errors import MinigradError
from ..files import write_whole

TEXT_FORMATS = ("gv", "dot")
INSTALL = "install Graphviz (https://graphviz.org/download) or run `pip install graphviz-pure`"
TIMEOUT_S = 120
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


def render(dot: str, format: str = "svg", engine: Engine | None = None) -> bytes:
    """The picture as bytes. Raises RenderError with the engine's own words if it fails."""
    engine = engine or find_engine()
    if engine is None:
        raise RenderError(f"no Graphviz engine found: {INSTALL}, or point $MINIGRAD_DOT to one.")
    command = [engine.path, f"-T{format}"]
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
    # The layout needs a font with metrics, a reader's machine one that it has.
    stack = f'font-family="{FONT},Arial,sans-serif"'
    return re.sub(rf'font-family="{FONT}[^"]*"'.encode(), stack.encode(), done.stdout)


def save(dot: str, path: str | Path) -> Path:
    """Writes a picture in the format of `path`'s suffix (svg, png, gv, ...), and returns what was
    written.

    The file appears whole or not at all. Without an engine the DOT text is written beside it with
    the suffix .gv, with a NoEngineWarning, and that path is returned.
    """
    path = Path(path)
    format = path.suffix[1:].lower()
    if not format:
        raise RenderError(f"save: {path} has no suffix; name it .svg, .png or .gv.")
    if format in TEXT_FORMATS:
        return write_whole(path, dot.encode())
    engine = find_engine()
    if engine is None:
        path = write_whole(path.with_suffix(".gv"), dot.encode())
        warnings.warn(
            f"no Graphviz engine found, so {path} holds the drawing as text: {INSTALL}, then "
            f"`dot -T{format} -O {path}`.",
            NoEngineWarning,
            stacklevel=2,
        )
        return path
    return write_whole(path, render(dot, format, engine))
