"""The pages that follow a call through the files: what they name is there, examples hold."""

from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "tools" / "docs" / "source"
PAGES = ("tanh.md", "lstm.md")
EXAMPLES, LONG = (*PAGES, "jit.md"), ("curvature.md", "interventions.md")
HOP = re.compile(r"^\d+\. `(minigrad/[\w/]*(?:\.py)?)`(?: `([\w.]+)`)?:", re.MULTILINE)


def defined(path: Path) -> set[str]:
    """The functions, classes and methods of a file, or of all files of a folder."""
    names: set[str] = set()
    for file in path.glob("*.py") if path.is_dir() else [path]:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            if isinstance(node, ast.ClassDef):
                inside = [part for part in node.body if isinstance(part, ast.FunctionDef)]
                names |= {f"{node.name}.{part.name}" for part in inside}
    return names


@pytest.mark.parametrize("page", PAGES)
def test_every_hop_is_there_and_is_named_once(page: str) -> None:
    text = (SOURCE / page).read_text(encoding="utf-8")
    hops = HOP.findall(text)
    assert len(hops) == len(re.findall(r"^\d+\. ", text, re.MULTILINE)) >= 10
    assert len(set(hops)) == len(hops)
    for file, name in hops:
        assert (ROOT / file).exists(), f"{page}: {file} is not there"
        assert not name or name in defined(ROOT / file), f"{page}: {file} has no {name}"
    for file in re.findall(r"`(minigrad/[\w/]+\.py)`", text):
        assert (ROOT / file).exists(), f"{page}: {file} is not there"


@pytest.mark.parametrize(
    "page", [*EXAMPLES, *(pytest.param(p, marks=pytest.mark.slow) for p in LONG)]
)
def test_the_examples_of_the_page_hold(page: str) -> None:
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    found = "\n".join(re.findall(r"```pycon\n(.*?)```", (SOURCE / page).read_text(), re.DOTALL))
    example = doctest.DocTestParser().get_doctest(found, {}, page, page, 0)
    assert doctest.DocTestRunner(optionflags=options).run(example).failed == 0


def test_the_pages_are_in_the_table_of_contents() -> None:
    index = (SOURCE / "index.md").read_text(encoding="utf-8")
    for page in (*EXAMPLES, *LONG):
        assert f"\n{page.removesuffix('.md')}\n" in index
        assert f"({page})" in index
