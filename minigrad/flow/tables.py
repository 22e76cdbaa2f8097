"""Gradient flow as text: aligned tables, sparklines, and the report of a recording."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .layerflow import Activation
    from .probes import Recording

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
    parts = np.array_split(np.asarray(norms, dtype=np.float64), min(width, len(norms)) or 1)
    return "".join(_bar(part, low, high, blocks) for part in parts)


def _bar(part: Array, low: float, high: float, blocks: str) -> str:
    if not np.isfinite(part).all():
        return "!"
    part = part[part > 0]
    if not part.size:
        return " "
    share = (float(np.log10(part).mean()) - low) / max(high - low, 1e-9)
    return blocks[min(max(int(share * len(blocks)), 0), len(blocks) - 1)]


def log_range(profiles: Sequence[Array]) -> tuple[float, float]:
    """(low, high): log10 of the smallest and largest finite norm above zero; (-1, 0) if there is
    none.
    """
    values = np.concatenate([np.ravel(p) for p in profiles] or [np.zeros(0)])
    values = np.log10(values[np.isfinite(values) & (values > 0)])
    return (float(values.min()), float(values.max())) if values.size else (-1.0, 0.0)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns as wide as their widest cell, two blanks apart; those in `right` are right-aligned.

    >>> print(table(("cell", "n"), [("rnn", "7"), ("lstm", "12")], right=[1]))
    cell   n
    rnn    7
    lstm  12
    """
    every = [tuple(head), *map(tuple, rows)]
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


def report(recording: Recording, blocks: str = BLOCKS) -> str:
    """A recording as a table: a row for each state, then gates and reasons."""
    low, high = log_range([n for layer in recording.values() for n in layer.norms.values()])
    head = ("layer", "state", "nearest", "farthest", "ratio", "per step", "half-life", "verdict")
    rows, notes = [], []
    for path, layer in recording.items():
        verdicts = layer.verdicts
        for name, verdict in verdicts.items():
            profile = layer.profile(name)
            ends = (profile[0], profile[-1]) if profile.size else (0.0, 0.0)
            rate = f"x{verdict.rate:.3g}" if verdict.fit else "-"
            row = [path or "-", name, *map(number, ends), number(verdict.ratio), rate]
            row += [steps(verdict.half_life), verdict.kind]
            rows.append([*row, sparkline(layer.norms[name], low, high, blocks=blocks)])
        notes.append(f"{path or 'network'}: {layer.verdict}")
        notes += [_gate(name, a) for name, a in layer.activations.items() if name not in verdicts]
    body = table((*head, "|dL/dstate| in order of computation"), rows, right=range(2, 7))
    return "\n".join([body, "", *notes])


def _gate(name: str, activation: Activation) -> str:
    text = f"  {name}: {np.mean(activation.mean):.2f} on average"
    saturation = float(np.mean(activation.saturation))
    return text if math.isnan(saturation) else f"{text}, {saturation:.0%} saturated"
