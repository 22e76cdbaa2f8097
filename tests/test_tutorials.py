"""The tutorials run from top to bottom, and the numbers they state are asserted in them."""

import re
import runpy
from pathlib import Path

import pytest
from wrong_answers import WRONG

from minigrad.lab.exercises import Exercise, WrongAnswer

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
    names = runpy.run_path(str(page), run_name="__main__")
    assert capsys.readouterr().out.strip(), "a page shows something"
    exercises = {name: e for name, e in names.items() if isinstance(e, Exercise)}
    assert [name[-1] for name, found in exercises.items() if found.solved] == ["1", "2", "3"]
    for number, answer, said in WRONG[page.name[:2]]:
        with pytest.raises(WrongAnswer, match=said):
            exercises[f"check_{number}"](eval(answer, names))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_page_ends_with_three_exercises_their_solutions_and_sources_with_links(page):
    text = page.read_text(encoding="utf-8")
    exercises, solutions, sources = re.split(r"^# ## (?:Solutions|Sources)\n", text, flags=re.M)
    exercises = exercises.split("\n# ## Exercises\n")[1]
    assert re.findall(r"^# \*\*(\d)\.\*\*", exercises, re.M) == ["1", "2", "3"]
    assert re.findall(r"^# %% Check (\d)$", exercises, re.M) == ["1", "2", "3"]
    assert re.findall(r"^# %%\ncheck_(\d)\(\.\.\.\)", exercises, re.M) == ["1", "2", "3"]
    assert re.findall(r"^# %% Solution (\d)$", solutions, re.M) == ["1", "2", "3"]
    assert re.findall(r"^check_(\d)\((?!\.\.\.)", solutions, re.M) == ["1", "2", "3"]
    assert "](https://" in sources
    assert {number for number, *_ in WRONG[page.name[:2]]} == {1, 2, 3}


@pytest.mark.parametrize("readme", ["README.md", "tutorials/README.md"])
def test_the_tables_of_contents_name_every_page(readme):
    listed = (PAGES[0].parent.parent / readme).read_text(encoding="utf-8")
    missing = [page.name for page in PAGES if f"{page.name})" not in listed]
    assert missing == []
