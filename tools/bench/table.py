"""The rows as a text table."""

from __future__ import annotations

from collections.abc import Sequence

from harness import Row

HEAD = ("", "minigrad", "spread", "peers", "target", "verdict")


def render(rows: Sequence[Row]) -> str:
    """One block of lines for each group, columns aligned over all of them."""
    lines = [cells(row) for row in rows]
    widths = [max(len(line[i]) for line in [HEAD, *lines]) for i in range(len(HEAD))]
    out = [join(HEAD, widths), join(["-" * width for width in widths], widths)]
    group = None
    for row, line in zip(rows, lines, strict=True):
        if row.group != group:
            group = row.group
            out += ["", group]
        out.append(join(line, widths))
        if row.error or row.note:
            out.append(f"      {row.error or row.note}")
    return "\n".join(out)


def cells(row: Row) -> tuple[str, ...]:
    value = "" if row.value is None else f"{number(row.value)} {row.unit}".strip()
    spread = "" if row.spread is None else f"{number(row.spread[0])} .. {number(row.spread[1])}"
    peers = ", ".join(f"{name} {number(value)}" for name, value in row.peers.items())
    return f"  {row.name}", value, spread, peers, row.target, row.verdict


def number(value: float) -> str:
    """Three significant digits, without an exponent.

    >>> number(0.24321), number(12.3456), number(1234.5)
    ('0.243', '12.3', '1234')
    """
    digits = f"{value:.3g}"
    return f"{value:.0f}" if "e" in digits else digits


def join(line: Sequence[str], widths: Sequence[int]) -> str:
    left = line[0].ljust(widths[0])
    return "  ".join([left, *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:]))]).rstrip()


def summary(rows: Sequence[Row]) -> str:
    verdicts = [row.verdict for row in rows]
    met, missed, wrong = (verdicts.count(word) for word in ("pass", "MISS", "ERROR"))
    return f"{met} targets met, {missed} missed, {wrong} rows failed"
