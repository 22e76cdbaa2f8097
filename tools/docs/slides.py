"""Slides of every tutorial, made from the page: one HTML file each, and its solutions in another.

A file asks nothing of a network. Arrow keys, a click or a swipe turn the slides; printed, each is
a page. A section has minutes: those that the page states for reading it, shared out by how much
there is to say. Exercises are on the slides; checks are not, and solutions are in the other file.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mathml
import pagemap
import stage

HERE = Path(__file__).resolve().parent
LINES = 21  # that fit on a slide, at the size of its text
LONG = 30  # lines of an output that are shown
CHECK = re.compile(r"check_\d+\(\.\.\.\)|.*^def check_\d+", re.MULTILINE | re.DOTALL)
SOLUTION = re.compile(r"Solutions|Solution \d+")
WORDS = re.compile(r"[\w'-]+")


@dataclass
class Block:
    """What cannot be cut: a paragraph, a code cell, an output.

    lines: how high it is. words: how much there is to say. ran: whether it is code, or its output.
    """

    html: str
    lines: float
    words: int = 0
    ran: bool = False


@dataclass
class Section:
    """What is below one heading of a page. minutes: to present it."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    minutes: int = 0


def write(notebooks: dict[Path, Any], mapped: Sequence[pagemap.Page], folder: Path) -> None:
    """Slides and solutions of all pages; the map knows the minutes of each."""
    minutes = {page.stem: page.minutes[0] for page in mapped}
    for page, notebook in notebooks.items():
        talk, solutions = sections(notebook)
        share(talk, minutes[page.stem])
        stage.write(folder / f"{page.stem}.html", deck(talk))
        stage.write(folder / f"{page.stem}-solutions.html", deck(solutions))


def sections(notebook: Any) -> tuple[list[Section], list[Section]]:
    """(the talk, the solutions): of each the first has the page's title."""
    found: list[Section] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = stage.outside_code(cell.source)
            for part in filter(str.strip, re.split(r"^(?=#{1,2} )", text, flags=re.M)):
                if part.startswith("#"):
                    heading, _, part = part.partition("\n")
                    found.append(Section(heading.lstrip("# ")))
                found[-1].blocks += blocks(part.replace("\0", "#"))
        elif not CHECK.match(cell.source):
            if SOLUTION.fullmatch(title := cell.metadata.get("title", "")):
                found.append(Section(title))
            found[-1].blocks += code(cell)
    talk = [section for section in found if not SOLUTION.fullmatch(section.title)]
    solved = [s for s in found if s.title == "Exercises" or SOLUTION.fullmatch(s.title)]
    return talk, [Section(f"{found[0].title}: solutions"), *solved]


def share(talk: Sequence[Section], minutes: int) -> None:
    """Shares out the minutes of a page, whole ones, by the words of its sections.

    >>> talk = [Section("a", [Block("", 1, 50)]), Section("b", [Block("", 1, 100)])]
    >>> share(talk, 10); [section.minutes for section in talk]
    [3, 7]
    """
    told = [s for s in talk if s.title not in ("Exercises", "Sources")]
    weights = [sum(block.words for block in section.blocks) for section in told]
    done = 0.0
    for section, weight in zip(told, weights, strict=True):
        before, done = done, done + minutes * weight / max(sum(weights), 1)
        section.minutes = round(done) - round(before)


# -- from a notebook to HTML ---------------------------------------------------------------------


def blocks(text: str) -> Iterator[Block]:
    """Markdown, cut where the source has empty lines outside of code and lists."""
    for part in re.split(r"\n\n(?=\S)", text.strip("\n")):
        if part.strip():
            words = len(WORDS.findall(part))
            rows = part.count("\n") + 1 if part.startswith("|") else 0
            height = rows * 1.4 if rows else 1 + len(part) / 70 + 2 * part.count("$$") / 2
            yield Block(markdown(part), height, words)


def markdown(text: str, inline: bool = False) -> str:
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    reader = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin)
    reader.add_render_rule("math_inline", lambda _, t, i, *__: mathml.to_mathml(t[i].content))
    reader.add_render_rule("math_block", lambda _, t, i, *__: mathml.to_mathml(t[i].content, True))
    return str(reader.renderInline(text) if inline else reader.render(text))


def code(cell: Any) -> Iterator[Block]:
    """A code cell and what it printed or drew."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    source = cell.source
    lines = source.count("\n") + 1
    shown = highlight(source, PythonLexer(), HtmlFormatter())
    yield Block(shown, 0.72 * lines + 1, 3 * lines, True)
    for output in cell.get("outputs", ()):
        data = output.get("data", {})
        if output.output_type == "stream":
            text = output.text.rstrip("\n").splitlines()
            if len(text) > LONG:
                text = [*text[:LONG], f"... {len(text) - LONG} more lines"]
            printed = html.escape("\n".join(text))
            yield Block(f"<pre>{printed}</pre>", 0.72 * len(text) + 1, 10, True)
        elif drawn := picture(data):
            yield Block(drawn, LINES, 30, True)


def picture(data: Mapping[str, str]) -> str:
    """What a cell showed, as an element that fetches nothing; empty if it showed nothing."""
    if "image/svg+xml" in data:
        drawn = base64.b64encode(data["image/svg+xml"].encode()).decode()
        return f'<img alt="" src="data:image/svg+xml;base64,{drawn}">'
    if "image/png" in data:
        return f'<img alt="" src="data:image/png;base64,{data["image/png"]}">'
    return data.get("text/html", "")


def deck(talk: Sequence[Section]) -> str:
    """The file: a slide with the sections and their minutes, then theirs."""
    from pygments.formatters import HtmlFormatter

    title, *rest = talk
    about = [block for block in title.blocks if not block.ran]
    shown = [slide(title.title, contents(about, rest), 0, title.minutes)]
    later = [block for block in title.blocks if block.ran]
    shown += [slide(f"{title.title} ...", page, 0) for page in pages(later)]
    clock = title.minutes
    for section in rest:
        for number, page in enumerate(pages(section.blocks)):
            name = section.title if number == 0 else f"{section.title} ..."
            shown.append(slide(name, page, clock, section.minutes if number == 0 else 0))
        clock += section.minutes
    parts = {
        "TITLE": html.escape(title.title),
        "STYLE": (HERE / "slides.css").read_text("utf-8")
        + HtmlFormatter(style="a11y-high-contrast-light").get_style_defs(".highlight"),
        "SLIDES": "\n".join(shown),
        "SCRIPT": (HERE / "slides.js").read_text("utf-8"),
    }
    pieces = (HERE / "slides.html").read_text("utf-8").split("@@")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(pieces))


def pages(parts: Sequence[Block]) -> Iterator[str]:
    """Blocks put together as long as they fit."""
    held: list[Block] = []
    for block in parts:
        if held and sum(b.lines for b in held) + block.lines > LINES:
            yield "\n".join(b.html for b in held)
            held = []
        held.append(block)
    if held:
        yield "\n".join(b.html for b in held)


def slide(title: str, body: str, clock: int, minutes: int = 0) -> str:
    head = f"<h2>{heading(title, minutes)}</h2>"
    return f'<section data-clock="{clock}">{head}\n<div>{body}</div></section>'


def heading(title: str, minutes: int) -> str:
    """A title of a page is Markdown, too."""
    stated = f"{minutes} min" if minutes else ""
    return f"{markdown(title, inline=True)}<span>{stated}</span>"


def contents(about: Sequence[Block], rest: Sequence[Section]) -> str:
    """What the page is about, and its sections."""
    text = "\n".join(block.html for block in about)
    listed = "\n".join(f"<li>{heading(s.title, s.minutes)}</li>" for s in rest)
    return f"{text}\n<ul class='contents'>{listed}</ul>"
