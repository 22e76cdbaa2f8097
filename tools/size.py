"""How large is minigrad? Lines by room, beside what each may have.

python3 tools/size.py

A room is a folder of minigrad/, the core (what stands under every gradient), or one of tests/,
tools/ and tutorials/. Lines of text in strings that are docstrings, and lines that are only a
comment, count as docs. Needs nothing installed. It judges nothing: a room above its budget is
marked, and CI goes on.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CORE = (
    "op", "kinds", "plan", "expr", "scalar", "tensors", "tensor", "tape", "backward", "versions",
    "autodiff", "ops",
)  # fmt: skip
BUDGETS = {"minigrad": 36_000, "core": 3_600, "kernels": 2_200, "compile": 4_800}


class Size(NamedTuple):
    """Lines of one kind each; they add up."""

    code: int = 0
    docs: int = 0
    blank: int = 0

    @property
    def lines(self) -> int:
        return sum(self)

    def plus(self, other: Size) -> Size:
        return Size(*(a + b for a, b in zip(self, other)))


def measure(text: str) -> Size:
    """The lines of a module.

    >>> measure('"A docstring."' + chr(10) * 2 + "x = 1  # code" + chr(10) + "# a comment")
    Size(code=1, docs=2, blank=1)
    """
    lines = text.splitlines()
    documented = {n for node in ast.walk(ast.parse(text)) for n in docstring(node)}
    blank = docs = 0
    for number, line in enumerate(lines, 1):
        if number in documented or line.lstrip().startswith("#"):
            docs += 1
        elif not line.strip():
            blank += 1
    return Size(len(lines) - docs - blank, docs, blank)


def docstring(node: ast.AST) -> range:
    """The numbers of the lines that a module's, class's or function's docstring takes."""
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, holders) and ast.get_docstring(node, clean=False) is not None:
        text = node.body[0]
        return range(text.lineno, (text.end_lineno or text.lineno) + 1)
    return range(0)


def room(path: Path) -> str:
    """The room that a file is in, by its path below the repository."""
    top, *below = path.with_suffix("").parts
    if top != "minigrad":
        return top
    if below[0] in CORE:
        return "core"
    return below[0] if len(below) > 1 else "others"


def rooms(root: Path = ROOT) -> dict[str, Size]:
    """Room -> its lines: those of minigrad/ by size, their sum as "minigrad", then the others."""
    found: dict[str, Size] = {}
    for top in ("minigrad", "tests", "tools", "tutorials"):
        inside: dict[str, Size] = {}
        for file in sorted((root / top).rglob("*.py")):
            name = room(file.relative_to(root))
            size = measure(file.read_text(encoding="utf-8"))
            inside[name] = inside.get(name, Size()).plus(size)
        found |= dict(sorted(inside.items(), key=lambda item: -item[1].lines))
        if top == "minigrad":
            found[top] = Size(*map(sum, zip(*inside.values())))
    return found


def table(found: dict[str, Size]) -> str:
    rows = [f"{'':12} {'code':>7} {'docs':>7} {'blank':>7} {'lines':>7} {'budget':>7}"]
    for name, size in found.items():
        counts = " ".join(f"{n:7,}" for n in (*size, size.lines))
        budget = BUDGETS.get(name)
        over = size.lines - (budget or size.lines)
        told = "" if budget is None else f" {budget:7,}" + (f"  {over:,} too many" * (over > 0))
        rows.append(f"{name:12} {counts}{told}")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table(rooms(Path(sys.argv[1]) if sys.argv[1:] else ROOT)))
