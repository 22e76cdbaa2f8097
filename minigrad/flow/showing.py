"""A picture in a page of a tutorial, which may run as a notebook or as a script."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def show(what: Any, path: str | Path) -> None:
    """In a notebook shows `what` below the cell; in a script writes it to `path` and says so.

    what: a Drawing, an Explorer, Sliders, or whatever else shows itself and has `save(path)` or,
        as figures of matplotlib, `savefig(path)`. Raises what those raise.

    >>> import tempfile
    >>> import minigrad as mg
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     mg.flow.show(mg.flow.draw(mg.nn.RNNCell(2, 3)), f"{folder}/cell.gv")
    drawn to ...cell.gv
    """
    if _in_notebook():
        from IPython.display import display

        display(what)
        return
    save = getattr(what, "save", None) or what.savefig
    print("drawn to", save(path) or path)


def _in_notebook() -> bool:
    """Whether a kernel runs this, which has somebody to show it to."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython and ipython.get_ipython(), "kernel", None) is not None
