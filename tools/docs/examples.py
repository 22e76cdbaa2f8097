"""Runs the examples that stand on the pages of the reference, beside those in docstrings.

    python tools/docs/examples.py [NAME ...]      all, or those of minigrad.flow.Cut, ...

What comes before a page's first entry is the beginning of each of its examples. Each runs in an
empty folder; one that needs a package which is not installed is skipped, and named.
"""

from __future__ import annotations

import doctest
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import publicnames

import minigrad as mg

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.FAIL_FAST


class Runner(doctest.DocTestRunner):
    """Tells failures as doctest does, and what an example lacks."""

    lacking = ""

    def report_unexpected_exception(self, out: Any, test: Any, example: Any, info: Any) -> None:
        missing = mg.interop.MissingPackageError, mg.data.MissingDataError, ImportError
        if isinstance(info[1], missing):
            self.lacking = str(info[1])
        else:
            super().report_unexpected_exception(out, test, example, info)


def run(names: list[str]) -> int:
    """How many of them, or of all, fail."""
    failed = ran = 0
    before: dict[Path, dict[str, Any]] = {}
    for name, (page, text) in publicnames.examples().items():
        if names and name not in names:
            continue
        if page not in before:
            before[page] = {"np": np, "mg": mg}
            failed += _run(page.stem, publicnames.beginning(page), page, before[page])[0]
        wrong, lacking = _run(name, text, page, dict(before[page]))
        if lacking:
            print(f"skipped: {name}: {lacking}")
            continue
        ran, failed = ran + 1, failed + wrong
    print(f"{ran - failed} passed, {failed} failed")
    return failed


def _run(name: str, text: str, page: Path, names: dict[str, Any]) -> tuple[bool, str]:
    """(whether it failed, what it lacks). What it defines is left in `names`."""
    runner = Runner(optionflags=FLAGS)
    test = doctest.DocTestParser().get_doctest(text, names, name, str(page), 0)
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            failures = runner.run(test, clear_globs=False).failed
        finally:
            os.chdir(here)
    names.update(test.globs)
    return bool(failures) and not runner.lacking, runner.lacking


if __name__ == "__main__":
    sys.exit(bool(run(sys.argv[1:])))
