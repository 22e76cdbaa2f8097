"""Gradient flow as text: aligned tables and sparklines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..escapes import printable
from .verdict import Verdict

if TYPE_CHECKING:
    from .cuts import Cut
    from .recording import Recording

Array = np.ndarray
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-:=+*#"  # where the terminal cannot show the others
SPARK_WIDTH = 24


def sparkline(
    norms: Array, low: float, high: float, width: int = SPARK_WIDTH, blocks: str = BLOCKS
) -> str:
    """log10 of the norms as bars, from 10^low to 10^high; several lines on one scale can be
    compared.

    A zero is a blank, NaN and Inf are `!`. A longer profile is cut into `width` equal parts, each
    shown by its geometric mean.

    >>> sparkline(10.0 ** np.arange(-8, 0), -8, -1)
    '▁▂▃▄▅▆▇█'
    """
    return "".join(_bar(share, blocks) for share in shares(norms, low, high, width))


def shares(norms: Array, low: float, high: float, width: int) -> list[float]:
    """Where each of at most `width` parts of a profile stands between 10^low and 10^high, 0 to 1.

    -1 for zero; nan for NaN and Inf.
    """
    parts = np.array_split(np.asarray(norms, dtype=np.float64), min(width, len(norms)) or 1)
    return [_share(part, low, high) for part in parts]


def _share(part: Array, low: float, high: float) -> float:
    if not np.isfinite(part).all():
        return math.nan
    part = part[part > 0]
    if not part.size:
        return -1.0
    share = (float(np.log10(part).mean()) - low) / max(high - low, 1e-9)
    return min(max(share, 0.0), 1.0)


def _bar(share: float, blocks: str) -> str:
    if math.isnan(share):
        return "!"
    return " " if share < 0 else blocks[min(int(share * len(blocks)), len(blocks) - 1)]


def log_range(profiles: Sequence[Array]) -> tuple[float, float]:
    """(low, high): log10 of the smallest and largest finite norm above zero; (-1, 0) if there is
    none.
    """
    values = np.concatenate([np.ravel(p) for p in profiles] or [np.zeros(0)])
    values = np.log10(values[np.isfinite(values) & (values > 0)])
    return (float(values.min()), float(values.max())) if values.size else (-1.0, 0.0)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns as wide as their widest cell, two blanks apart; those in `right` are right-aligned.

    Control characters in a cell, newlines among them, are shown escaped.

    >>> print(table(("cell", "n"), [("rnn", "7"), ("lstm", "12")], right=[1]))
    cell   n
    rnn    7
    lstm  12
    """
    every = [tuple(map(printable, row)) for row in (head, *rows)]
    widths = [max(len(row[i]) for row in every) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in every
    )


def number(x: float) -> str:
    """A norm or a ratio: `3.2e-12`, `0`, `nan`."""
    return "0" if x == 0 else f"{x:.1e}" if math.isfinite(x) else str(x)


def steps(x: float) -> str:
    """A half-life: `7.4`, `never` if the gradient does not decay, `-` if there is no fit."""
    return "-" if math.isnan(x) else "never" if math.isinf(x) else f"{x:.3g}"


def reach(verdict: Verdict) -> str:
    """Of how many steps: `7`, `~40` where fewer were seen, `>100` where it ends beyond; `-`.

    >>> from minigrad.flow import judge
    >>> reach(judge(0.5 ** np.arange(40))), reach(judge(0.9 ** np.arange(40)))
    ('10', '~66')
    """
    if math.isnan(verdict.reach_low):
        return "-"
    if not verdict.extrapolated:
        return f"{verdict.reach:.0f}"
    if math.isnan(verdict.reach) or math.isinf(verdict.reach_high):
        return f">{verdict.steps}"
    return f"~{verdict.reach:.0f}"


def entry_of_loss(norms: Array) -> int:
    """Where the loss enters: the last entry, in order of computation, that is not zero; or -1."""
    reached = np.flatnonzero(norms != 0)
    return int(reached[-1]) if reached.size else -1


def by_lag(norms: Array) -> Array:
    """In order of computation -> by lag, from where the loss enters."""
    return norms[: entry_of_loss(norms) + 1][::-1]


def times(cut: Cut, recording: Recording) -> Array:
    """The t of each lag of a cut, (lags,).

    Counted from 0 where calls of a layer go on with one another's state: those have no t in common.
    Rows that end earlier stand at the lag from their own last step.
    """
    layer, lags = recording[cut.labels[-1][0]], np.arange(cut.profile.size)
    if lags.size > len(layer.steps):
        return lags[::-1]
    last = layer.steps[max(map(entry_of_loss, layer.norms.values()), default=-1)]
    return last + lags if layer.reverse else last - lags
