"""A name means one thing: `minigrad.x` is a module or a function, and none hides the other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "minigrad"


def hidden(package: Path) -> list[str]:
    """Each module that a function hides: one of its own, or one that its package has or imports."""
    found = []
    for path in sorted(package.rglob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        where = path.relative_to(package.parent)
        functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
        if path.name != "__init__.py":
            found += [f"{where} defines {path.stem}()"] * (path.stem in functions)
            continue
        modules = {p.stem for p in path.parent.glob("*.py")} - {"__init__"}
        modules |= {p.parent.name for p in path.parent.glob("*/__init__.py")}
        for node in body:
            if isinstance(node, ast.ImportFrom) and node.module:
                functions |= {alias.asname or alias.name for alias in node.names}
        found += [f"{where} hides its module {name}" for name in sorted(functions & modules)]
    return found


def test_no_function_hides_a_module() -> None:
    assert hidden(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("scan.py", "def scan(): ...", ["minigrad/scan.py defines scan()"]),
        ("__init__.py", "from .ops import tanh", ["minigrad/__init__.py hides its module tanh"]),
        ("__init__.py", "from .ops import cosh as tanh", ["minigrad/__init__.py hides its module"]),
        ("__init__.py", "def ops(): ...", ["minigrad/__init__.py hides its module ops"]),
        ("__init__.py", "from . import tanh, ops", []),
        ("scan.py", "class Scan: ...", []),
    ],
)
def test_a_planted_name_is_found(tmp_path: Path, file: str, text: str, told: list[str]) -> None:
    package = tmp_path / "minigrad"
    (package / "ops").mkdir(parents=True)
    for name in ("tanh.py", "ops/__init__.py", "ops/view.py", "__init__.py"):
        (package / name).touch()
    (package / file).write_text(text)
    found = hidden(package)
    assert len(found) == len(told)
    assert all(one.startswith(start) for one, start in zip(found, told))
