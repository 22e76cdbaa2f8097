"""A map of the tutorials: in reading order, with a line from each page to those that need it.

Like the margin of `git log --graph`: a page has a line of its own for as long as a later page needs
it. What a page needs and how long it takes is what its first cell says; what follows from the rest
(who needs 06 needs 05) is not drawn.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import stage

MAP, SLIDES = "<!-- MAP -->", "<!-- SLIDES -->"
TITLE = re.compile(r"\[(\d\d) ([^\]]+)\]\(tutorials/(\w+)\.py\)")  # in the README, short ones
ROW, LANE, EDGE = 30, 13, 10  # pixels: from page to page, from line to line, the border
COLORS = ("#2f7fbf", "#c8642b", "#2f9a68", "#b0559e", "#8a7a14", "#7468cc", "#c14f5c", "#1c9299")


@dataclass(frozen=True)
class Page:
    """number: '05'. needs: the numbers that it names. minutes: to read, and for the exercises."""

    number: str
    title: str
    stem: str
    needs: tuple[str, ...]
    minutes: tuple[int, int]


def read(root: Path) -> list[Page]:
    """The pages that the README lists, in its order."""
    listed = TITLE.findall((root / "README.md").read_text(encoding="utf-8"))
    return [_page(root / "tutorials" / f"{stem}.py", title) for _, title, stem in listed]


def _page(path: Path, title: str) -> Page:
    needs, reading, exercises = stage.head(path)
    return Page(path.name[:2], title, path.stem, tuple(numbers(needs)), (reading, exercises))


def fill(folder: Path, pages: Sequence[Page]) -> None:
    """Puts the map and the table of slides where the staged pages of the folder ask for them."""
    for path in folder.glob("*.md"):
        text = path.read_text(encoding="utf-8")
        for mark, made in ((MAP, svg), (SLIDES, table)):
            text = text.replace(mark, f"```{{raw}} html\n{made(pages)}\n```")
        stage.write(path, text)


def numbers(text: str) -> list[str]:
    """The pages that a sentence names.

    >>> numbers("tutorials 05 to 07 and 10, and `pip install torch`")
    ['05', '06', '07', '10']
    """
    found: list[str] = []
    for first, last in re.findall(r"\b(\d\d)(?: to (\d\d))?\b", text):
        found += [f"{n:02d}" for n in range(int(first), int(last or first) + 1)]
    return found


def reduced(needs: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """What each page needs, without what its other needs need.

    >>> reduced({"01": [], "02": ["01"], "03": ["01", "02"]})
    {'01': [], '02': ['01'], '03': ['02']}
    """
    behind: dict[str, set[str]] = {}
    result: dict[str, list[str]] = {}
    for page in sorted(needs):
        later = [n for n in needs[page] if n not in behind]
        if later:
            raise stage.StageError(f"page {page} needs {later[0]}, which is no page before it.")
        behind[page] = {m for n in needs[page] for m in (n, *behind[n])}
        implied = {m for n in needs[page] for m in behind[n]}
        result[page] = [n for n in dict.fromkeys(needs[page]) if n not in implied]
    return result


def lanes(needs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """For every page that others need the place of its line, counted from the titles.

    >>> lanes({"01": [], "02": ["01"], "03": ["02"], "04": ["01"]})
    {'01': 0, '02': 1}
    """
    last = {n: page for page in sorted(needs) for n in needs[page]}
    taken: dict[int, str] = {}  # the last page that needs the line there
    result: dict[str, int] = {}
    for page in sorted(last):
        free = next(k for k in range(len(last)) if taken.get(k, "") <= page)
        taken[free], result[page] = last[page], free
    return result


def svg(pages: Sequence[Page]) -> str:
    """The map as an element of a page: it takes the page's colours, and its titles are links."""
    needs = reduced({page.number: page.needs for page in pages})
    at = lanes(needs)
    rows = {page.number: EDGE + ROW * k + ROW // 2 for k, page in enumerate(pages)}
    left = EDGE + LANE * (max(at.values(), default=0) + 1)  # where the pages' own dots are
    color = {n: COLORS[k % len(COLORS)] for k, n in enumerate(at)}

    def x(n: str) -> int:
        return left - LANE * (at[n] + 1) + LANE // 2

    parts: list[str] = []
    for n in at:
        users = [page for page in needs if n in needs[page]]
        top, bottom = rows[n], rows[users[-1]]
        turns = [f"M{left} {top}Q{x(n)} {top} {x(n)} {top + 10}V{bottom - 10}"]
        turns += [f"M{x(n)} {rows[user] - 10}Q{x(n)} {rows[user]} {left} {rows[user]}"
                  for user in users]  # fmt: skip
        parts.append(f'<path d="{"".join(turns)}" stroke="{color[n]}"/>')
    width = left + 520
    for page in pages:
        y = rows[page.number]
        needed = " and ".join(page.needs) or "no other page"
        minutes = f"{page.minutes[0]} + {page.minutes[1]} min"
        parts.append(
            f'<circle cx="{left}" cy="{y}" r="5" fill="{color.get(page.number, "currentColor")}"/>'
            f'<a href="{page.stem}.html"><title>needs {needed}</title>'
            f'<text x="{left + 14}" y="{y + 5}"><tspan class="number">{page.number}</tspan> '
            f"{html.escape(page.title)}</text></a>"
            f'<text x="{width - EDGE}" y="{y + 5}" class="minutes">{minutes}</text>'
        )
    height = 2 * EDGE + ROW * len(pages)
    return (
        f'<div class="page-map"><svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Which page needs which">{"".join(parts)}</svg></div>'
    )


def table(pages: Sequence[Page]) -> str:
    """The slides of every page, and its minutes."""
    rows = "\n".join(
        f"<tr><td>{page.number} {html.escape(page.title)}</td><td>{page.minutes[0]}</td>"
        f'<td><a href="../_static/slides/{page.stem}.html">slides</a></td>'
        f'<td><a href="../_static/slides/{page.stem}-solutions.html">solutions</a></td></tr>'
        for page in pages
    )
    head = "<thead><tr><th>page</th><th>minutes</th><th></th><th></th></tr></thead>"
    return f'<table class="table">{head}<tbody>\n{rows}\n</tbody></table>'
