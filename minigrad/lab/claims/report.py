"""A claim on paper: the paper says, minigrad expects, measured here; and as files."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from ...files import write_whole
from ...flow.results import to_csv, to_json
from ...untrusted import read_json, reading
from . import figures
from .base import RESULTS, Claim, ClaimError, Data, Row, verdict

WIDTH = 96


def text(claim: Claim, result: Data, blocks: str) -> str:
    """The whole report for a terminal."""
    rows = [Row(**row) for row in result["comparison"]]
    parts = [claim.title, *(_wrapped("", f"{source}.") for source in claim.sources)]
    parts += ["", *(_row(i, row) for i, row in enumerate(rows, start=1))]
    parts += [claim.chart(result["data"], blocks), ""]
    parts += [_wrapped("", f"Beside the paper: {claim.scale}"), _wrapped("", about(result))]
    met = f"{sum(row.holds for row in rows)} of {len(rows)} criteria, "
    met += f"{claim.revised} revised after earlier runs" if claim.revised else "fixed in advance"
    if own := sum(not row.paper for row in rows):
        met += f"; {own} of them of what minigrad expects, not of a paper"
    return "\n".join([*parts, "", _wrapped("", f"Verdict: {result['verdict']} ({met}).")])


def _row(number: int, row: Row) -> str:
    lines = [_wrapped(f"{number}. ", row.what)]
    values = {
        "the paper says": row.paper,
        "minigrad expects": row.expected,
        "measured here": row.here,
        "holds if": f"{row.asked}: {'yes' if row.holds else 'NO'}",
    }
    lines += [_wrapped(f"   {label:<16} ", value) for label, value in values.items() if value]
    return "\n".join([*lines, ""])


def _wrapped(head: str, value: str) -> str:
    return textwrap.fill(
        value, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False
    )


def about(result: Data) -> str:
    """Seeds, time, machine and versions in a sentence."""
    seeds = result["seeds"]
    which = f"Seed {seeds[0]}" if len(seeds) == 1 else f"Seeds {seeds[0]} to {seeds[-1]}"
    libraries = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return (
        f"{which} (settings were chosen in pilot runs with seeds 0 to 7), {result['seconds']} s of "
        f"wall clock on {result['machine']}, {libraries}; {result['form']} form: "
        f"{result['command']}."
    )


def save(folder: Path, claim: Claim, result: Data) -> tuple[list[str], str]:
    """Writes NAME.json and NAME.csv, then the figure; returns their names, and why there is none.

    Without matplotlib, or if drawing fails, the numbers are written all the same: they may have
    taken minutes.
    """
    write_whole(folder / f"{claim.name}.json", to_json(result).encode())
    rows = result["data"]["rows"]
    head = list(dict.fromkeys(name for row in rows for name in row))
    table = to_csv(head, [[row.get(name, "") for name in head] for row in rows])
    write_whole(folder / f"{claim.name}.csv", table.encode())
    names = [f"{claim.name}.json", f"{claim.name}.csv"]
    try:
        names += figures.save(
            folder, claim.name, claim.title, lambda figure: claim.draw(result["data"], figure)
        )
    except figures.PlotError as error:
        return names, str(error)
    except Exception as error:
        return names, f"no figure, drawing it failed: {type(error).__name__}: {error}"
    return names, ""


def stored(claim: Claim) -> Data:
    """The result of the full form that comes with minigrad; the verdict is formed anew from it."""
    path = RESULTS / f"{claim.name}.json"
    if not path.is_file():
        raise ClaimError(
            f"{claim.name}: no stored result; run `minigrad experiment {claim.name}` for one."
        )
    with reading(path, ClaimError, what="result of `minigrad experiment`"):
        result: dict[str, Any] = read_json(path)
        rows = claim.judge(result["data"])
    return result | {"comparison": [vars(row) for row in rows], "verdict": verdict(rows)}
