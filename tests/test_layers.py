"""Imports go down the layers only. The table is the architecture; the docs draw it (where.md)."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "minigrad"

# Top first. A module may import from its own layer and from those below.
LAYERS = (
    {"cli", "__main__", "__init__"},  # __init__ re-exports: what it is made of cannot import it
    {"tasks"},
    {"lab", "train"},
    {"flow"},
    {"interop"},
    {"nn", "optim", "data"},
    {"compile", "jitting"},
    {"tensors", "tape", "autodiff", "differences", "memory", "versions", "backward"}
    | {"curvature", "vectors", "archive"},
    {"border", "numpy_rules", "op", "ops", "kinds", "plan", "expr", "scalar"},
    {"kernels"},
    # helpers that know no op and no kernel
    {"errors", "axes", "checks", "dtypes", "files", "escapes", "random", "switches", "tree"}
    | {"listener", "norms", "othernames", "untrusted"},
)
LEVEL = {name: len(LAYERS) - i for i, layer in enumerate(LAYERS) for name in layer}


def violations(package: Path) -> list[str]:
    """Every import inside `package` that goes up, as "file:line: layer imports layer"."""
    found = []
    for path in sorted(package.rglob("*.py")):
        source = path.relative_to(package).with_suffix("").parts
        for line, target in imports(path.read_text(encoding="utf-8"), source):
            here, there = source[0], target[0] if target else "__init__"
            where = f"{path.relative_to(package.parent)}:{line}"
            unknown = [name for name in (here, there) if name not in LEVEL]
            if unknown:
                found.append(f"{where}: {unknown[0]} has no layer; add it to LAYERS in {__file__}")
            elif here != there and LEVEL[there] > LEVEL[here]:
                found.append(f"{where}: {here} imports {there}, a layer above it")
    return found


@cache  # the package is looked at again with each planted violation
def imports(text: str, source: tuple[str, ...]) -> list[tuple[int, tuple[str, ...]]]:
    """(line, target inside the package) of each import, those for type checkers only left out.

    The target of `from . import tape` and of `from .tape import Node` is ("tape", ...).
    """
    found = []
    for node in runtime_nodes(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                head, *target = alias.name.split(".")
                if head == "minigrad":
                    found.append((node.lineno, tuple(target)))
        elif isinstance(node, ast.ImportFrom):
            module = node.module.split(".") if node.module else []
            if node.level:
                base = list(source[: len(source) - node.level])
            elif module[0] == "minigrad":
                base, module = [], module[1:]
            else:
                continue
            for alias in node.names:
                # `from minigrad import x`: the module x, or an object of the package root
                of_root = (alias.name,) if alias.name in LEVEL else ()
                found.append((node.lineno, tuple(base + module) or of_root))
    return found


def runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, except those in the body of `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from runtime_nodes(other)
            continue
        yield child
        yield from runtime_nodes(child)


def test_imports_go_down_only() -> None:
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    ("module", "statement", "message"),
    [
        ("kernels/planted.py", "from ..tape import Node", "kernels imports tape"),
        ("kernels/planted.py", "def f():\n    from .. import tensors", "kernels imports tensors"),
        ("kernels/planted.py", "import minigrad.op", "kernels imports op"),
        ("kernels/planted.py", "import minigrad", "kernels imports __init__"),
        ("ops/planted.py", "from minigrad.nn.module import Module", "ops imports nn"),
        ("ops/planted.py", "from minigrad import Tape", "ops imports __init__"),
        ("tape.py", "from . import flow", "tape imports flow"),
        ("novel.py", "import minigrad.tape", "novel has no layer"),
    ],
)
def test_a_planted_violation_is_caught(
    tmp_path: Path, module: str, statement: str, message: str
) -> None:
    copy = tmp_path / "minigrad"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "data"))
    with open(copy / module, "a", encoding="utf-8") as file:
        file.write(f"\n{statement}\n")
    (found,) = (line for line in violations(copy) if f"minigrad/{module}:" in line)
    assert message in found


def test_imports_for_type_checkers_may_go_up(tmp_path: Path) -> None:
    (tmp_path / "tape.py").write_text("if TYPE_CHECKING:\n    from .flow import Record\n")
    assert violations(tmp_path) == []


# -- inside a room ---------------------------------------------------------------------------------


def graph(package: Path, room: Path) -> dict[str, set[str]]:
    """module of a room -> the modules of that room that it imports."""
    paths = {_module(package, path): path for path in sorted(room.rglob("*.py"))}
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        source = path.relative_to(package).with_suffix("").parts
        targets: set[str] = set()
        for node in runtime_nodes(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = [*source[: len(source) - node.level], *(node.module or "").split(".")]
                stem = ".".join(filter(None, base))
                inside = {f"{stem}.{alias.name}" for alias in node.names}
                targets |= (inside & paths.keys()) or ({stem} & paths.keys())
        found[name] = targets - {name}
    return found


def _module(package: Path, path: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one import circle, in order; none: []."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(graph[name]):
            if found := walk(target, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := walk(name, []))), [])


ROOMS = [p.name for p in sorted(PACKAGE.iterdir()) if (p / "__init__.py").exists()]


@pytest.mark.parametrize("room", ROOMS)
def test_no_modules_of_a_room_import_each_other_in_a_circle(room: str) -> None:
    assert " -> ".join(circle(graph(PACKAGE, PACKAGE / room))) == ""


def test_a_planted_circle_is_caught(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    (room / "__init__.py").write_text("from .a import f\n")
    (room / "a.py").write_text("def f():\n    from . import b\n")
    (room / "b.py").write_text("if TYPE_CHECKING:\n    from . import a\n")
    assert circle(graph(tmp_path, room)) == []
    (room / "b.py").write_text("from . import c\n")
    (room / "c.py").write_text("from .a import f\n")
    assert circle(graph(tmp_path, room)) == ["room.a", "room.b", "room.c", "room.a"]
