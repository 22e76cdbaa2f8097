"""Public names: where each is documented, and what `code` in a docstring may name."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

API = Path(__file__).resolve().parent / "source" / "api"
# Packages whose __all__ is the public API; the tests hold the reference against it.
PACKAGES = (
    "minigrad", "minigrad.nn", "minigrad.optim", "minigrad.flow", "minigrad.flow.plots",
    "minigrad.flow.explorer", "minigrad.data", "minigrad.train", "minigrad.interop",
    "minigrad.tasks", "minigrad.lab.claims", "minigrad.lab.sweep", "minigrad.lab.exercises",
)  # fmt: skip
OWN = {"scan", "unroll"}
DIRECTIVE = re.compile(r"^\.\. (auto\w+|py:\w+|currentmodule):: *(\S+)", re.MULTILINE)


def entries(page: Path) -> list[tuple[str, str]]:
    """(full name, what stands below its directive) of a page; first ("", what comes before)."""
    found, module, lines = [("", "")], "", page.read_text(encoding="utf-8").splitlines(True)
    for line in lines:
        if match := DIRECTIVE.match(line):
            kind, name = match.groups()
            if kind == "currentmodule":
                module = name
            else:
                found.append((name if kind == "automodule" else f"{module}.{name}", ""))
        else:
            name, text = found[-1]
            found[-1] = name, text + line
    return found


def documented(folder: Path = API) -> dict[str, Path]:
    """Full name -> the page that has its entry."""
    pages = sorted(folder.glob("*.rst"))
    return {name: page for page in pages for name, _ in entries(page) if name}


def examples(folder: Path = API) -> dict[str, tuple[Path, str]]:
    """Full name -> its page and what stands there below its directive, where that has examples."""
    return {
        name: (page, text)
        for page in sorted(folder.glob("*.rst"))
        for name, text in entries(page)
        if name and ">>>" in text
    }


def beginning(page: Path) -> str:
    """What stands before a page's first entry: the beginning of its examples."""
    return entries(page)[0][1]


def public() -> list[str]:
    """All full names that the packages' __all__ promise."""
    names = []
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            if name != "__version__" and not isinstance(getattr(module, name), ModuleType):
                names.append(f"{package}.{name}")
    return names


def links() -> dict[str, str]:
    """'mg.scan', 'minigrad.scan' -> 'minigrad.scan', and 'ScanResult', if there is only one.

    Of plain words in small letters only those in OWN: `draw` may be a method of a cell.
    """
    found: dict[str, str] = {}
    double: set[str] = set()
    for full in documented():
        short = full.rsplit(".", 1)[1]
        if short in found:
            double.add(short)
        else:
            found[short] = full
        found[full] = full
        found["mg." + full.removeprefix("minigrad.")] = full
        found[full.removeprefix("minigrad.")] = full
    plain = {short for short in found if "." not in short and short.islower()} - OWN
    for short in double | plain:
        found.pop(short, None)
    return found
