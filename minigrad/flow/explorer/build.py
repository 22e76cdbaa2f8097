"""The explorer's page, one file: page.html with the style, the scripts and the data put in.

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
from importlib import metadata
from pathlib import Path
from typing import Any

from ...files import write_whole
from ...untrusted import open_regular, reading
from ..drawing.colors import LINE
from ..results import OutputError
from . import data
from .network import networks

HERE = Path(__file__).parent
FRAME = 760  # pixels, the height in a notebook: the player, the graph and what is below it
MARK = "<!-- minigrad explorer -->"  # in the head of every page, so that a newer may replace it
SCRIPTS = (  # in this order, as one script
    "decode", "colors", "dom", "model", "cuts", "graph", "columns", "paint", "nodes", "inspector",
    "text", "units", "verdicts", "decay", "paths", "table", "player", "app",
)  # fmt: skip


def to_html(
    recordings: Any,
    path: str | Path,
    *,
    title: str = "",
    text: Any = None,
    notes: Any = None,
    sample: int = 0,
    summed: bool = False,
    replace: bool = False,
) -> Path:
    """Writes recordings as one HTML file to explore in a browser, without network; returns its
    path.

    recordings: a Recording; or name -> Recording, to compare; or name -> moment -> Recording, such
        as {"LSTM": {"before training": rec0, "after training": rec1}}.
    title: the page's heading. text: what x_t stands for, a str or t -> str; or name -> those.
    notes: a line for each network, name -> str, or name -> moment -> str.
    sample: which sequence of the batch is shown unit by unit.
    summed: of a loss read at many steps, whether the page opens with the sum of what comes back, or
        with what was judged, the last output alone; it has a switch.
    replace: whether a file that is no explorer page may be overwritten (an explorer page always
        is).

    The file appears whole or not at all. Raises ExplorerError for arguments that do not fit,
    OutputError where the file cannot be written, FlowError for a recording with nothing in it.

    >>> import tempfile
    >>> import numpy as np
    >>> import minigrad as mg
    >>> gru = mg.nn.GRU(3, 5, generator=np.random.default_rng(0))
    >>> rec = mg.flow.probe(gru, np.ones((20, 1, 3), np.float32))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     to_html(rec, f"{folder}/gru.html", text="to be, or not to be.").name
    'gru.html'
    """
    path = Path(path)
    check_destination(path, replace)  # before what takes long
    options: dict[str, Any] = {"text": text, "notes": notes, "sample": sample, "summed": summed}
    return Explorer(page(recordings, title=title, **options)).save(path, replace=replace)


class Explorer:
    """A page of the explorer, as text. In a notebook it shows itself; `save` writes it.

    The frame it is shown in is closed: its script sees nothing of the notebook, and asks nothing of
    a network. A notebook that is not trusted shows the words in the frame's place.
    """

    def __init__(self, html: str):
        self.html = html

    def save(self, path: str | Path, *, replace: bool = False) -> Path:
        """Writes it; path, replace and what is raised: as in `to_html`."""
        path = Path(path)
        check_destination(path, replace)
        try:
            return write_whole(path, self.html.encode("utf-8"))
        except OSError as error:
            raise OutputError(f"{path}: cannot write here ({error.strerror or error}).") from error

    def __repr__(self) -> str:
        size = f"{len(self.html) / 1000:.0f} kB"
        return f"<Explorer, {size}; a notebook shows it, .save('flow.html') writes it>"

    def _repr_html_(self) -> str:  # for notebooks
        held = self.html.replace("&", "&amp;").replace('"', "&quot;")
        return (
            f'<iframe sandbox="allow-scripts" title="minigrad explorer" style="width:100%;'
            f'height:{FRAME}px;border:1px solid {LINE};border-radius:8px" srcdoc="{held}">'
            f"The explorer is shown here once this notebook is trusted, or run again.</iframe>"
        )


def page(
    recordings: Any,
    *,
    title: str = "",
    text: Any = None,
    notes: Any = None,
    sample: int = 0,
    summed: bool = False,
) -> str:
    """The page as text; arguments as in `to_html`."""
    shown = networks(recordings, text, notes)
    title = title or "Gradient flow: " + ", ".join(network.name for network in shown)
    contents = data.to_dict(shown, title, sample, summed) | {"version": _version()}
    return assemble(contents)


def assemble(contents: dict[str, Any]) -> str:
    """page.html with everything put in. contents: what `data.to_dict` returns."""
    style = (HERE / "style.css").read_text("utf-8")
    script = "\n".join((HERE / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}\n}})();\n'
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        f"img-src data:; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "MARK": MARK,
        "POLICY": policy,
        "TITLE": html.escape(_sound(str(contents["title"]))),
        "STYLE": style,
        "DATA": embedded(contents),
        "SCRIPT": script,
    }
    template = (HERE / "page.html").read_text("utf-8")
    # In one pass: a title that reads "@@DATA@@" stays a title.
    pieces = template.split("@@")
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


def check_destination(path: Path, replace: bool = False) -> None:
    """Raises OutputError unless a page can be written there: a new file, an explorer page, or, with
    replace=True, any file.
    """
    if path.is_dir():
        raise OutputError(f"{path}: this is a folder; name a file in it, such as flow.html.")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}; make it first.")
    if path.exists() and not replace:
        with reading(path, OutputError), open_regular(path) as file:
            head = file.read(400)
        if MARK.encode() not in head:
            raise OutputError(
                f"{path}: this file is no explorer page; choose another name, or pass replace=True."
            )


def _version() -> str:
    """Of the installed package; empty for a checkout that was never installed."""
    try:
        return metadata.version("minigrad-bptt")
    except metadata.PackageNotFoundError:
        return ""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _sound(text: str) -> str:
    """Text that UTF-8 can hold: a lone surrogate becomes U+FFFD."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
