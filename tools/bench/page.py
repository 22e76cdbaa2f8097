"""The rows as a page of the documentation: every figure of one run, on one machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from harness import Row
from table import cells

HEAD = """# Benchmarks

<!-- README: Speed -->

## All that is measured

Every figure on this page is of one run of one command, `python tools/bench --page FILE`, on a
machine with {cores} cores, {cpu}; {system}, Python {python}, NumPy {numpy},
Numba {numba}, torch {torch}, JAX {jax}; {date}.

Results are validated before they are timed. Peers run in processes of their own and take turns,
each turn once the threads of the others sleep; medians are compared, and the spread is the middle
half of the samples. Sizes are (B, T, I, H), of a whole training step (B, T, H); float32, two
threads. A machine that others use, too, has other clocks from minute to minute: read ratios. A
target that was missed says so.
"""
TABLE = ("", "minigrad", "middle half", "peers", "target", "")
WORDS = {"pass": "met", "MISS": "missed", "ERROR": "failed", "": ""}


def write(rows: Sequence[Row], about: Mapping[str, object], titles: Mapping[str, str]) -> str:
    """The page. about: machine.describe. titles: what each group measures."""
    day = str(about["date"])[:10]
    known = {name: value or "-" for name, value in about.items()} | {"date": day}
    parts = [HEAD.format(**known)]
    for group, of_group in groupby(rows, lambda row: row.group):
        lines = [TABLE, ("---",) * len(TABLE)]
        for row in of_group:
            *found, verdict = (cell.strip() for cell in cells(row))
            if row.error or row.note:
                found[0] += f" ({row.error or row.note})"
            lines.append((*found, WORDS[verdict]))
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts.append(f"### {titles[group][0].upper()}{titles[group][1:]}\n\n{table}\n")
    return "\n".join(parts)
