"""The tutorials run from top to bottom, and the numbers they state are asserted in them."""

import runpy
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).resolve().parent.parent / "tutorials").glob("[0-9]*.py"))

SHORT = ("01", "02", "05", "06", "18")  # the others train, or compile many ops


def test_there_are_pages():
    assert PAGES


@pytest.mark.slow  # they train
@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=[pytest.mark.long] * (not p.name.startswith(SHORT))) for p in PAGES],
    ids=lambda p: p.stem,
)
def test_a_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "\nimport torch\n" in page.read_text(encoding="utf-8"):
        pytest.importorskip("torch", reason="the page needs torch, which CI has in one leg")
    runpy.run_path(str(page), run_name="__main__")
    assert capsys.readouterr().out.strip(), "a page shows something"
    text = page.read_text(encoding="utf-8")
    for part in ("## Exercises", "## Solutions", "## Sources"):
        assert part in text


@pytest.mark.parametrize("readme", ["README.md", "tutorials/README.md"])
def test_the_tables_of_contents_name_every_page(readme):
    listed = (PAGES[0].parent.parent / readme).read_text(encoding="utf-8")
    missing = [page.name for page in PAGES if f"{page.name})" not in listed]
    assert missing == []
