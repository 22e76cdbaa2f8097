"""The rows of an unrolled network: a state of a layer, one of its gates, or what stands between two
layers, over all steps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from .canvas import gate_color
from .colors import Scale, power_of_ten
from .dot import DrawingError
from .folding import Column
from .travel import Strand

DEPTHS = {1: "a row a layer", 2: "its states", 3: "its gates too"}


class Row:
    """A series of one layer and direction at a height, its nodes `shift` beside their columns.

    values: column -> what is drawn. gate: whether they are means of a gate, from 0 to 1, and not
    norms of gradients. begins: the column of its step 1.
    """

    gate = False
    height = 0.44

    def __init__(
        self, path: str, name: str, values: Mapping[int, float], y: float, reverse: bool = False,
        shift: float = 0.0, begins: int = 0,
    ):  # fmt: skip
        self.path, self.name, self.values = path, name, values
        self.y, self.reverse, self.shift, self.begins = y, reverse, shift, begins
        self.id = identifier(f"{path}_{name}")

    @property
    def title(self) -> str:
        return f"{self.path or 'network'}\n{self.name} {'←' if self.reverse else '→'}"

    def has(self, column: Column) -> bool:
        """Whether any of the steps of a column are its own; another call may have more."""
        return any(t in self.values for t in range(column.first, column.last + 1))

    def value(self, t: int) -> float:
        return self.values.get(t, 0.0)

    def color(self, t: int, scale: Scale) -> str:
        return gate_color(self.value(t)) if self.gate else scale.color(self.value(t))

    def tooltip(self, t: int) -> str:
        """Steps are counted from 1 in pictures, as in papers."""
        what = f"mean of {self.name}" if self.gate else f"|dL/d{self.name}|"
        return f"{what} = {self.value(t):.6g} at t = {self.number(t)}"

    def number(self, t: int) -> int:
        """Of the step in a column, counted from 1."""
        return t - self.begins + 1

    def factor(self, first: int, last: int) -> str:
        """`×10⁻⁹`: what becomes of a gradient on its way back across these steps; "" if unknown."""
        near, far = self.value(last), self.value(first)
        if self.reverse:
            near, far = far, near
        if self.gate or near == 0 or not (math.isfinite(near) and math.isfinite(far)):
            return ""
        return f"×{power_of_ten(far / near)}"


class Gate(Row):
    """The mean of a gate over time."""

    gate = True


class Outputs(Row):
    """What both directions hand to the layer above. measured: whether their norms are known."""

    measured = True

    @property
    def title(self) -> str:
        return f"{self.path}\nout of both"

    def factor(self, first: int, last: int) -> str:
        return ""  # nothing goes from one step's outputs to another's


class Whole(Row):
    """All that is carried over along one time axis: the profile that was judged."""

    @property
    def title(self) -> str:
        arrow = "" if " + " in self.path else "←" if self.reverse else "→"
        return f"{self.path}\nS {arrow}".rstrip()

    def factor(self, first: int, last: int) -> str:
        return "" if " + " in self.path else super().factor(first, last)  # several ways at once


def wrapped(title: str, width: int = 23) -> str:
    """A title on more lines where one is too long, broken after / or before +.

    >>> wrapped("encoder/l0/fwd + decoder/l0/fwd").splitlines()
    ['encoder/l0/fwd', '+ decoder/l0/fwd']
    """
    lines: list[str] = []
    for line in title.split("\n"):
        for part in re.split(r" (?=\+)", line) if len(line) > width else [line]:
            *heads, last = re.split(r"(?<=/)", part) if len(part) > width else [part]
            lines += ["".join(heads), last] if heads else [last]
    return "\n".join(lines)


def identifier(path: str) -> str:
    """Letters, digits and underscores; lstm#2 and lstm-2 are two layers."""
    path = path.replace("#", "__").replace("-", "_n")
    return "".join(c if c.isalnum() else "_" for c in path)


def names_at(strand: Strand, depth: int) -> list[tuple[str, bool]]:
    """(name, whether it is a gate) of what is drawn of a layer, its states first."""
    if depth not in DEPTHS:
        known = ", ".join(f"{d} ({words})" for d, words in DEPTHS.items())
        raise DrawingError(f"draw: depth is one of {known}; got {depth!r}.")
    states = list(strand.carried)[: 1 if depth == 1 else None]
    gates = strand.gates if depth == 3 else ()
    return [*((name, False) for name in states), *((name, True) for name in gates)]
