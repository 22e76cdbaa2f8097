"""Small charts for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...flow.tables import log_range, sparkline

Array = np.ndarray
WIDTH = 40


def bars(lines: Sequence[tuple[str, float, str]], blocks: str, top: float | None = None) -> str:
    """`label  ████      text` for each (label, value, text); a full bar is `top`, or the largest.

    >>> print(bars([("T = 5", 1.0, "10/10"), ("T = 50", 0.25, "2/8")], "_#", top=1.0))
    T = 5   ########################################  10/10
    T = 50  ##########                                2/8
    """
    full = max((value for _, value, _ in lines), default=0.0) if top is None else top
    wide = max((len(label) for label, _, _ in lines), default=0)
    found = []
    for label, value, text in lines:
        share = min(max(value / full, 0.0), 1.0) if full > 0 and np.isfinite(value) else 0.0
        bar = blocks[-1] * round(WIDTH * share)
        found.append(f"{label:<{wide}}  {bar:<{WIDTH}}  {text}".rstrip())
    return "\n".join(found)


def lines(profiles: Sequence[tuple[str, Array]], blocks: str, note: str, log: bool = True) -> str:
    """One sparkline for each (label, values), all on one scale, and a line that says which.

    >>> print(lines([("a", np.array([0.0, 0.5, 1.0]))], "_-#", "g from 0 to 1", log=False))
    a  _-#
    (g from 0 to 1; lines from 0 to 1)
    """
    profiles = [(label, np.asarray(values, dtype=np.float64)) for label, values in profiles]
    wide = max((len(label) for label, _ in profiles), default=0)
    if log:
        low, high = log_range([values for _, values in profiles])
        words = f"lines from 1e{low:.0f} to 1e{high:.0f}, logarithmic"
    else:
        every = np.concatenate([v[np.isfinite(v)] for _, v in profiles] or [np.zeros(0)])
        low, high = (float(every.min()), float(every.max())) if every.size else (0.0, 1.0)
        words = f"lines from {low:.2g} to {high:.2g}"
        profiles = [(label, 10.0**values) for label, values in profiles]
    drawn = [
        f"{label:<{wide}}  {sparkline(values, low, high, WIDTH, blocks)}"
        for label, values in profiles
    ]
    return "\n".join([*drawn, f"({note}; {words})"])
