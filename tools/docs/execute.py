"""Tutorials run as notebooks, and their outputs kept for next time.

A page runs in a folder of its own and in a kernel of its own. Its outputs are kept under a hash of
its code, of everything in minigrad/ and of the Python that ran it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SHOWN = re.compile(r"""\bshow\(.*?["']([\w.-]+\.(?:svg|png))["']""", re.DOTALL)
COLOUR = re.compile(r"\x1b\[[\d;]*m")  # IPython colours its tracebacks
OPTIONAL = ("torch",)  # what a page may need and an environment of the docs may lack
TIMEOUT = 300  # s a page; a tutorial takes under a minute
FOLDED = re.compile(r"(Check|Solution) \d+")  # titles of cells that a reader opens when he wants to


def read(page: Path) -> Any:
    """A py:percent script as a notebook without outputs."""
    import jupytext

    notebook = jupytext.reads(page.read_text(encoding="utf-8"), fmt="py:percent")
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):  # random ids would change every page every time
        cell["id"] = f"cell-{number}"
        if cell.cell_type == "code" and (names := SHOWN.findall(cell.source)):
            alt = f"Drawn by the code above: {', '.join(names)}"
            cell.metadata["mystnb"] = {"image": {"alt": alt}}
        if FOLDED.fullmatch(title := cell.metadata.get("title", "")):
            fold(cell, title)
    return notebook


def fold(cell: Any, title: str) -> None:
    """Closed on the page, behind its title, and in JupyterLab."""
    cell.metadata["tags"] = ["hide-cell"]
    cell.metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
    prompts = {"code_prompt_show": title, "code_prompt_hide": f"Close {title.lower()}"}
    cell.metadata["mystnb"] = cell.metadata.get("mystnb", {}) | prompts


def to_text(notebook: Any) -> str:
    import nbformat

    return nbformat.writes(notebook) + "\n"


def package_hash(root: Path) -> str:
    """Of all that a page's outputs may depend on besides its own code."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted((root / "minigrad").rglob("*")):
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts:
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def code_hash(notebook: Any) -> str:
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def run_all(
    pages: Iterable[Path], kept: Path, root: Path, jobs: int, keep: bool
) -> tuple[dict[Path, Any], list[str]]:
    """Notebooks with outputs, and a line for every page that failed.

    keep: outputs of the same code under another state of minigrad will do.
    """
    pages, kept_for = list(pages), package_hash(root)
    kept.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max(1, jobs)) as pool:  # each thread waits for a process of its own
        done = list(pool.map(lambda page: _run_or_reuse(page, kept, kept_for, keep), pages))
    notebooks = {page: found for page, found in zip(pages, done) if not isinstance(found, str)}
    return notebooks, [found for found in done if isinstance(found, str)]


def _run_or_reuse(page: Path, kept: Path, state: str, keep: bool) -> Any:
    import nbformat

    notebook = read(page)
    lacking = next((name for name in OPTIONAL if f"import {name}\n" in page.read_text("utf-8")), "")
    if lacking and importlib.util.find_spec(lacking) is None:
        print(
            f"docs: {page.name} is shown without outputs, as there is no {lacking}", file=sys.stderr
        )
        return notebook
    stem = f"{page.stem}-{code_hash(notebook)[:16]}"
    here = kept / f"{stem}-{state[:16]}.ipynb"
    older = sorted(kept.glob(f"{stem}-*.ipynb"), key=lambda path: path.stat().st_mtime)
    found = here if here.exists() else older[-1] if keep and older else None
    if found is not None:
        with_outputs = nbformat.read(found, as_version=4)
        codes = [cell for cell in with_outputs.cells if cell.cell_type == "code"]
        for cell, ran in zip((c for c in notebook.cells if c.cell_type == "code"), codes):
            cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
        return notebook
    failure = run(notebook, page.name)
    if failure:
        return failure
    for path in kept.glob(f"{page.stem}-*.ipynb"):
        path.unlink(missing_ok=True)
    here.write_text(to_text(notebook), encoding="utf-8")
    return notebook


def run(notebook: Any, name: str) -> str:
    """Runs it in place; returns what failed in a line, or nothing."""
    from jupyter_client import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    print(f"docs: running {name}", file=sys.stderr, flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="minigrad-page-") as folder,
        tempfile.TemporaryDirectory(prefix="minigrad-kernel-") as sockets,
    ):
        manager = AsyncKernelManager(kernel_name="python3")
        if os.name == "posix":  # sockets in a folder of this user, no port that others could reach
            manager.transport, manager.connection_file = "ipc", f"{sockets}/kernel.json"
            manager.ip = f"{sockets}/socket"
        client = NotebookClient(
            notebook, km=manager, timeout=TIMEOUT, resources={"metadata": {"path": folder}}
        )
        try:
            client.execute(cleanup_kc=True)  # a manager that it was given it leaves alone otherwise
        except CellExecutionError as error:
            return f"{name}: {COLOUR.sub('', str(error)).strip()}"
        except CellTimeoutError:
            return f"{name}: a cell took longer than {TIMEOUT} s"
        except (DeadKernelError, RuntimeError) as error:  # also one that did not start
            return f"{name}: {error}"
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of this run: pages are to be the same
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    return ""


def joined(outputs: list[Any]) -> list[Any]:
    """Pieces of one stream put together: where a kernel cuts its output is chance."""
    result: list[Any] = []
    for output in outputs:
        last = result[-1] if result else None
        if output.output_type == "stream" and last is not None and last.get("name") == output.name:
            last.text += output.text
        else:
            result.append(output)
    return result
