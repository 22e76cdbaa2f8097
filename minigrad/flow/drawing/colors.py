"""The colour of a gradient: log10 of its norm on one scale, from paper (vanished) to coral (large).

Lightness falls monotonically from one end to the other, so the order survives every kind of colour
blindness and a grey printer, and dark text has a contrast of at least 4.5 : 1 on every colour of
the scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

INK = "#1f2430"  # text
LINE = "#8a8f9c"  # outlines
ARROW = "#7c8494"
MUTED = "#6b7280"  # secondary text
PAPER = "#ffffff"
UNREACHED = "#b9bec9"  # outline and text of what no gradient reached, on paper
BROKEN = "#c9b6f2"  # NaN or Inf: a hue that the scale does not have
OPEN = "#6fa8dc"  # a gate that is open
STOPS = ("#f7f5ee", "#fbe3b1", "#f8be73", "#ee8f5b", "#dd6a63")
MAX_DECADES = 12  # a wider scale would give every healthy step the same colour

_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_SUBSCRIPT = str.maketrans("0123456789-", "₀₁₂₃₄₅₆₇₈₉₋")


@dataclass(frozen=True)
class Scale:
    """Maps a norm to a colour: `low` and `high` are powers of ten. Norms beyond the ends take their
    colour.
    """

    low: int
    high: int

    @classmethod
    def around(cls, norms: Iterable[float]) -> Scale:
        """The scale that holds all these norms, or the upper MAX_DECADES of them."""
        values = np.abs(np.array(list(norms), dtype=np.float64))
        values = values[np.isfinite(values) & (values > 0)]
        if not values.size:
            return cls(-1, 0)
        high = math.ceil(float(np.log10(values.max())) - 1e-9)
        low = math.floor(float(np.log10(values.min())) + 1e-9)
        return cls(max(min(low, high - 1), high - MAX_DECADES), high)

    def color(self, norm: float) -> str:
        """`#rrggbb`; BROKEN for NaN and Inf, paper for 0."""
        if not math.isfinite(norm):
            return BROKEN
        if norm == 0:
            return PAPER
        return self.at((math.log10(norm) - self.low) / (self.high - self.low))

    def at(self, share: float) -> str:
        """The colour at a share of the scale, 0 to 1."""
        place = min(max(share, 0.0), 1.0) * (len(STOPS) - 1)
        i = min(int(place), len(STOPS) - 2)
        return mix(STOPS[i], STOPS[i + 1], place - i)


def mix(a: str, b: str, share: float) -> str:
    """The colour at a share of the way from a to b.

    >>> mix("#000000", "#ff8000", 0.5)
    '#804000'
    """
    mixed = _rgb(a) + share * (_rgb(b) - _rgb(a))
    return "#" + "".join(f"{round(x):02x}" for x in mixed)


def _rgb(color: str) -> np.ndarray:
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float64)


def power_of_ten(norm: float) -> str:
    """A norm as people read it on a small node.

    >>> power_of_ten(3e-12), power_of_ten(0.25), power_of_ten(0.0), power_of_ten(float("inf"))
    ('10⁻¹²', '0.25', '0', 'Inf')
    """
    if math.isnan(norm):
        return "NaN"
    if math.isinf(norm):
        return "Inf"
    if norm == 0:
        return "0"
    if 0.01 <= abs(norm) < 1000:
        return f"{norm:.2g}" if abs(norm) < 100 else f"{norm:.0f}"
    return "10" + str(math.floor(math.log10(abs(norm)) + 0.5)).translate(_SUPERSCRIPT)


def subscript(name: str, number: int) -> str:
    """`h₁₂`."""
    return name + str(number).translate(_SUBSCRIPT)
