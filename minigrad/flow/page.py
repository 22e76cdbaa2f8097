"""A page of one file: a template with the style, the scripts and the data put in.

Nothing in it comes from a network, and nothing may: the Content-Security-Policy allows the one
style and the one script that are in the file, by their hash. Data are JSON in an element that no
browser executes; `<`, `>` and `&` are escaped in it, so no text can end that element, and all of it
is ASCII, so U+2028 and lone surrogates are escapes too. The scripts put text on the page as text
(textContent) and never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..files import write_whole
from ..untrusted import open_regular, reading
from .drawing.colors import LINE
from .results import OutputError

MARK = "<!-- minigrad {} -->"  # in the head of every page, so that a newer may replace it


class Page:
    """A page as text. In a notebook it shows itself; `save` writes it.

    The frame it is shown in is closed: its script sees nothing of the notebook, and asks nothing of
    a network. A notebook that is not trusted shows the words in the frame's place.
    """

    what = "page"
    height = 480  # pixels, in a notebook

    def __init__(self, html: str):
        self.html = html

    def save(self, path: str | Path, *, replace: bool = False) -> Path:
        """Writes it as one HTML file, and returns its path.

        replace: whether a file that is no such page may be overwritten (one that is always may be).
        The file appears whole or not at all. Raises OutputError where it cannot be written.
        """
        path = Path(path)
        check_destination(path, replace, self.what)
        try:
            return write_whole(path, self.html.encode("utf-8"))
        except OSError as error:
            raise OutputError(f"{path}: cannot write here ({error.strerror or error}).") from error

    def __repr__(self) -> str:
        size = f"{len(self.html) / 1000:.0f} kB"
        name = type(self).__name__
        return f"<{name}, {size}; a notebook shows it, .save('flow.html') writes it>"

    def _repr_html_(self) -> str:  # for notebooks
        held = self.html.replace("&", "&amp;").replace('"', "&quot;")
        return (
            f'<iframe sandbox="allow-scripts" title="minigrad {self.what}" style="width:100%;'
            f'height:{self.height}px;border:1px solid {LINE};border-radius:8px" srcdoc="{held}">'
            f"The {self.what} is shown here once this notebook is trusted, or run again.</iframe>"
        )


def assemble(what: str, template: Path, styles: Any, scripts: Iterable[Path], contents: Any) -> str:
    """The template with everything put in.

    what: the kind of page, for its mark. styles, scripts: files, each kind joined in this order.
    contents: what the scripts read, with a "title".
    """
    style = "\n".join(path.read_text("utf-8") for path in styles)
    script = "\n".join(path.read_text("utf-8") for path in scripts)
    script = f'"use strict";\n(() => {{\n{script}\n}})();\n'
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        f"img-src data:; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "MARK": MARK.format(what),
        "POLICY": policy,
        "TITLE": html.escape(_sound(str(contents["title"]))),
        "STYLE": style,
        "DATA": embedded(contents),
        "SCRIPT": script,
    }
    # In one pass: a title that reads "@@DATA@@" stays a title.
    pieces = template.read_text("utf-8").split("@@")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def embedded(contents: Any) -> str:
    r"""JSON that is safe inside <script type="application/json">: ASCII, without <, > and &.

    >>> embedded({"title": "</script><b>"})
    '{"title":"\\u003c/script\\u003e\\u003cb\\u003e"}'
    """
    text = json.dumps(contents, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def check_destination(path: Path, replace: bool = False, what: str = "explorer") -> None:
    """Raises OutputError unless a page can be written there: a new file, a page of this kind, or,
    with replace=True, any file.
    """
    if path.is_dir():
        raise OutputError(f"{path}: this is a folder; name a file in it, such as flow.html.")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}; make it first.")
    if path.exists() and not replace:
        with reading(path, OutputError), open_regular(path) as file:
            head = file.read(400)
        if MARK.format(what).encode() not in head:
            raise OutputError(
                f"{path}: this file is no {what} page; choose another name, or pass replace=True."
            )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _sound(text: str) -> str:
    """Text that UTF-8 can hold: a lone surrogate becomes U+FFFD."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
