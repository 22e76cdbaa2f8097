"""The map of the tutorials and the slides that are made from them."""

from __future__ import annotations

import doctest
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools" / "docs"))

import pagemap  # noqa: E402
import slides  # noqa: E402
import stage  # noqa: E402

NEEDED = ("markdown_it", "mdit_py_plugins", "pygments", "latex2mathml")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
makes_slides = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING} (extra: docs)")


def page(number: str, *needs: str) -> pagemap.Page:
    return pagemap.Page(number, f"Title <{number}>", f"{number}_stem", needs, (20, 30))


@pytest.mark.parametrize("module", [pagemap, slides], ids=lambda m: m.__name__)
def test_the_examples_hold(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


def test_the_map_has_a_link_for_every_page_and_a_line_for_every_page_that_is_needed() -> None:
    drawn = pagemap.svg([page("01"), page("02", "01"), page("03", "01", "02"), page("04", "02")])
    assert re.findall(r'href="([^"]+)"', drawn) == [f"0{k}_stem.html" for k in (1, 2, 3, 4)]
    assert drawn.count("<path ") == 2  # from 01, and from 02 to both that need it
    assert "Title &lt;01&gt;" in drawn
    assert drawn.count("20 + 30 min") == 4
    assert pagemap.svg([page("01")]).count("<path ") == 0


def test_a_page_that_needs_a_later_one_or_itself_is_refused_by_name() -> None:
    for needs in ("02", "03"):
        with pytest.raises(stage.StageError, match=f"page 02 needs {needs}, which is no page"):
            pagemap.svg([page("01"), page("02", needs), page("03")])


def test_two_lines_are_in_one_place_only_if_one_ends_where_the_other_begins() -> None:
    draw = np.random.default_rng(0)
    for count in (0, 1, 2, 25):
        names = [f"{k:02d}" for k in range(count)]
        chosen = {p: sorted(draw.choice(names[:k], min(k, 3))) for k, p in enumerate(names)}
        needs = pagemap.reduced(chosen)
        at = pagemap.lanes(needs)
        last = {n: max(p for p in needs if n in needs[p]) for n in at}
        assert all(a >= b or at[a] != at[b] or last[a] <= b for a in at for b in at)


class Cell(dict):  # type: ignore[type-arg]
    """A part of a notebook, as nbformat has it."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]


def markdown(text: str) -> Cell:
    return Cell(cell_type="markdown", source=text, metadata={})


def code(source: str, title: str = "", printed: str = "") -> Cell:
    outputs = [Cell(output_type="stream", name="stdout", text=printed)] if printed else []
    return Cell(cell_type="code", source=source, metadata={"title": title}, outputs=outputs)


NOTEBOOK = Cell(
    cells=[
        markdown("# 08 A page\n\nIt is about $h_t$ & more.\n\nYou need tutorial 05."),
        code("import numpy as np"),
        markdown("## `First`\n\nOne.\n\n$$ a = b $$\n\n```python\n# no heading\n```"),
        code("print('<b>')", printed="<b>\n" * 40),
        markdown("## Second\n\nTwo words.\n\n## Exercises\n\n**1.** Do it."),
        code("@exercise('it')\ndef check_1(x):\n    hidden", "Check 1"),
        code("check_1(...)"),
        markdown("## Solutions"),
        code("answer = 41 + 1", "Solution 1", "right\n"),
        markdown("## Sources\n\nA book."),
    ]
)


def made(minutes: int = 20) -> tuple[str, str]:
    talk, solutions = slides.sections(NOTEBOOK)
    slides.share(talk, minutes)
    return slides.deck(talk), slides.deck(solutions)


@makes_slides
def test_solutions_are_in_a_file_of_their_own_and_checks_in_neither() -> None:
    talk, solutions = made()
    assert "Do it." in talk
    assert "Do it." in solutions
    assert "Solution 1" in solutions
    assert "right" in solutions
    assert "Solution 1" not in talk
    assert "answer" not in talk
    assert "check_1" not in talk + solutions
    assert "hidden" not in talk + solutions
    assert "A book." in talk


@makes_slides
def test_minutes_of_the_sections_make_those_of_the_page() -> None:
    for minutes in (0, 1, 7, 20):
        talk, _ = slides.sections(NOTEBOOK)
        slides.share(talk, minutes)
        assert sum(section.minutes for section in talk) == minutes
        assert [s.minutes for s in talk if s.title in ("Exercises", "Sources")] == [0, 0]
        clocks = [int(clock) for clock in re.findall(r'data-clock="(\d+)"', slides.deck(talk))]
        assert clocks == sorted(clocks)
        assert clocks[-1] == minutes


@makes_slides
def test_a_slide_has_formulas_as_mathml_text_as_text_and_asks_nothing_of_a_network() -> None:
    talk, solutions = made()
    assert talk.count("<math") == 2
    assert "&lt;b&gt;" in talk
    assert "... 10 more lines" in talk
    assert "<h2><code>First</code><" in talk
    assert [title for title in re.findall(r"<h2>([^<]*)<", talk) if title.startswith("no")] == []
    for text in (talk, solutions):
        assert "http" not in re.sub(r'xmlns="[^"]+"', "", text)
        assert "@@" not in text


def test_blocks_share_a_slide_as_long_as_they_fit() -> None:
    blocks = [slides.Block(str(k), lines) for k, lines in enumerate((1, slides.LINES, 3, 4, 99))]
    assert list(slides.pages(blocks)) == ["0", "1", "2\n3", "4"]
    assert list(slides.pages([])) == []
