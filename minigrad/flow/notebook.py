"""How results show themselves in a notebook: small HTML, from the numbers that are printed.

It has no script and no style sheet, and its pictures are images: a notebook that is not trusted
drops the former and shows the latter.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Collection, Iterable, Sequence
from html import escape

import numpy as np

from ..errors import FlowError
from ..escapes import printable
from .cuts import Cut
from .drawing.colors import BROKEN, STOPS
from .layerflow import LayerFlow
from .pairs import NUMBERS, Comparison
from .prescribing.prescription import Prescription
from .recording import Recording
from .reporting import FROM_FAR, HEAD, Report, cut_row, inside, report, state_row
from .tables import log_range, shares, sparkline
from .verdict import Verdict

Array = np.ndarray
MOST = 40  # rows of a table, and lines; `print` shows all of them
BARS, HIGH = 40, 20  # of a profile's picture: bars at most, and pixels
_GOOD, _FADE, _BAD = ("#1f6b46", "#e0f2e7"), ("#6b4a10", "#f9edd2"), ("#a3341f", "#fbe6e0")
CHIPS = {  # kind of verdict -> colours of text and paper, as in the explorer
    "healthy": _GOOD, "vanishing": _FADE, "mixed": _FADE, "cut": _FADE,
    "exploding": _BAD, "broken": _BAD,
}  # fmt: skip
LEFT = "left;white-space:pre"  # a layer stands further in than its cut
_OTHER = ("#1f2430", "#eceef2")


class Markup(str):
    """Text that is HTML already. All other text is escaped."""

    __slots__ = ()


def of_recording(recording: Recording) -> Markup:
    """Its report, or why there is none yet."""
    try:
        return of_report(report(recording))
    except FlowError as error:
        return text(repr(recording), str(error))


def of_report(found: Report) -> Markup:
    """The table, what is said of it, and gates and units to unfold."""
    named = found.recordings.items()
    rows = [row for one in named for row in found.rows(*one)]
    said, missing, within = (
        [line for one in named for line in lines(*one)]
        for lines in (found.said, found.missing, found.inside)
    )
    left = sum(len(lines[MOST:]) for lines in (rows, said, missing, within))
    more = f"and {left} more rows and lines, which print() shows" if left else ""
    return joined(
        profiles(HEAD, rows[:MOST]),
        text(*said[:MOST], *missing[:MOST]),
        folded("gates, units", within[:MOST]),
        text(more),
    )


def of_layer(layer: LayerFlow) -> Markup:
    """A row for each state, its verdict, and what its gates and units did."""
    rows = [state_row("", layer, state) for state in layer.verdicts]
    return joined(profiles(HEAD, rows), of_verdict(layer.verdict), text(*inside("", layer)[1:]))


def of_cut(cut: Cut) -> Markup:
    """Its row, and its verdict in words."""
    return joined(profiles(HEAD, [cut_row("", cut)]), of_verdict(cut.verdict))


def of_verdict(verdict: Verdict) -> Markup:
    """The kind as a chip, the reason, and what to try."""
    words = str(verdict).removeprefix(f"{verdict.kind}: ")
    advice = f"try: {verdict.advice}" if verdict.advice else ""
    return joined(Markup(f"<div>{chip(verdict.kind)} {_shown(words)}</div>"), text(advice))


def of_prescription(found: Prescription) -> Markup:
    """The table of remedies, between what is said before and after it."""
    head, *rows = found.rows()
    return joined(text(found.head()), table(head, rows, range(1, len(head))), text(*found.said()))


def of_comparison(found: Comparison) -> Markup:
    """Its table."""
    head, *rows = found.rows()
    more = f"and {len(rows) - MOST} more rows, which print() shows" if len(rows) > MOST else ""
    return joined(table(head, rows[:MOST], NUMBERS), text(more))


# -- parts ---------------------------------------------------------------------------------------


def profiles(head: Sequence[str], rows: Sequence[tuple[list[str], Array]]) -> Markup:
    """A table of (cells, profile by lag); the last cell is the verdict's kind."""
    low, high = log_range([profile for _, profile in rows])
    lines = [
        [*cells[:-1], chip(cells[-1]), bars(profile[::-1], low, high)] for cells, profile in rows
    ]
    return table((*head, FROM_FAR), lines, range(2, 7))


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[int] = ()
) -> Markup:
    """Columns in `right` are numbers, at the right.

    >>> table(("cell", "n"), [("<rnn>", "7")], right=[1]).count("&lt;rnn&gt;")
    1
    """

    def line(tag: str, cells: Sequence[str]) -> str:
        made = (
            f'<{tag} style="text-align:{"right" if i in right else LEFT}">{_shown(cell)}</{tag}>'
            for i, cell in enumerate(cells)
        )
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(line("td", row) for row in rows)
    return Markup(f"<table><thead>{line('th', head)}</thead><tbody>{body}</tbody></table>")


def chip(kind: str) -> Markup:
    """The kind of a verdict, in its colours."""
    ink, paper = CHIPS.get(kind, _OTHER)
    style = f"color:{ink};background:{paper};padding:1px 8px;border-radius:9px;white-space:nowrap"
    return Markup(f'<span style="{style}">{_shown(kind)}</span>')


def bars(norms: Array, low: float, high: float) -> Markup:
    """log10 of the norms as an image of bars, from 10^low to 10^high, as `tables.sparkline` does.

    A zero is a gap, NaN and Inf are as high as it gets, in the colour that they have in drawings.
    """
    paths = {STOPS[-1]: "", BROKEN: ""}
    found = shares(norms, low, high, BARS)
    for i, share in enumerate(found):
        tall = HIGH if math.isnan(share) else 2 + round((HIGH - 2) * share) if share >= 0 else 0
        color = BROKEN if math.isnan(share) else STOPS[-1]
        paths[color] += f"M{4 * i} {HIGH}v-{tall}h3v{tall}z" if tall else ""
    size = f'width="{4 * max(len(found), 1)}" height="{HIGH}"'
    drawn = "".join(f'<path fill="{color}" d="{d}"/>' for color, d in paths.items() if d)
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{drawn}</svg>'
    words = escape(sparkline(norms, low, high))
    data = base64.b64encode(svg.encode()).decode()
    return Markup(f'<img {size} alt="{words}" src="data:image/svg+xml;base64,{data}"/>')


def text(*lines: str) -> Markup:
    """Lines as they are printed; those that are empty are left out."""
    shown = "\n".join(_shown(line) for line in lines if line)
    return Markup(f'<div style="white-space:pre-wrap">{shown}</div>' if shown else "")


def folded(summary: str, lines: Sequence[str]) -> Markup:
    """Lines behind a word that unfolds them."""
    shown = text(*lines)
    return Markup(f"<details><summary>{summary}</summary>{shown}</details>" if shown else "")


def joined(*parts: Markup) -> Markup:
    """One after the other."""
    return Markup("".join(parts))


def _shown(words: str) -> str:
    return words if isinstance(words, Markup) else escape(printable(words, lines=True))


Recording._repr_html_ = of_recording
Report._repr_html_ = of_report
LayerFlow._repr_html_ = of_layer
Cut._repr_html_ = of_cut
Verdict._repr_html_ = of_verdict
Prescription._repr_html_ = of_prescription
Comparison._repr_html_ = of_comparison
