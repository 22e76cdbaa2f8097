"""A verdict in a few words, for what is written above a drawing."""

from __future__ import annotations

import math

from ..verdict import Verdict


def describe(verdict: Verdict) -> str:
    """A verdict as the note above a panel.

    >>> from minigrad.flow.verdict import judge
    >>> describe(judge([0.5**k for k in range(20)]))
    'vanishing  ·  reach 10 steps  ·  ×0.5 per step back  ·  half-life 1 steps'
    """
    parts = [verdict.kind]
    if not math.isnan(verdict.reach_low):
        parts.append(verdict.reach_words)
    if verdict.fit:
        parts.append(f"×{verdict.rate:.3g} per step back")
        if math.isfinite(verdict.fit.half_life):
            parts.append(f"half-life {verdict.fit.half_life:.3g} steps")
        elif math.isfinite(verdict.fit.doubling):
            parts.append(f"doubles in {verdict.fit.doubling:.3g} steps")
    if verdict.where == "depth":
        parts.append(verdict.reason)
    return "  ·  ".join(parts)
