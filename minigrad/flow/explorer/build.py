"""The explorer's page: page.html with the style, the scripts and the data put in (flow/page.py)."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from .. import page as pages
from ..page import Page, check_destination
from . import data
from .network import networks

HERE = Path(__file__).parent
SCRIPTS = (  # in this order, as one script
    "decode", "colors", "dom", "model", "cuts", "graph", "columns", "paint", "nodes", "inspector",
    "text", "units", "verdicts", "decay", "paths", "table", "player", "app",
)  # fmt: skip


class Explorer(Page):
    """A page of the explorer, as text. In a notebook it shows itself; `save` writes it.

    The frame it is shown in is closed: its script sees nothing of the notebook, and asks nothing of
    a network. A notebook that is not trusted shows the words in the frame's place.
    """

    what = "explorer"
    height = 760  # the player, the graph and what is below it


MARK = pages.MARK.format(Explorer.what)


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
    scripts = (HERE / f"{name}.js" for name in SCRIPTS)
    return pages.assemble(
        Explorer.what, HERE / "page.html", [HERE / "style.css"], scripts, contents
    )


def _version() -> str:
    """Of the installed package; empty for a checkout that was never installed."""
    try:
        return metadata.version("minigrad-bptt")
    except metadata.PackageNotFoundError:
        return ""
