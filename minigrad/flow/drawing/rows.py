"""The rows of an unrolled network: a state of a layer, or one of its gates, over all steps."""

from __future__ import annotations

import math

from ..layerflow import LayerFlow
from .canvas import gate_color
from .colors import Scale, power_of_ten
from .dot import DrawingError
from .folding import Column

DEPTHS = {1: "a row a layer", 2: "its states", 3: "its gates too"}


class Row:
    """One state or gate of one layer and direction, at a height; values: t -> what is drawn.

    gate: whether values are means of a gate, from 0 to 1, and not norms of gradients.
    """

    def __init__(self, layer: LayerFlow, name: str, y: float, gate: bool):
        self.layer, self.name, self.y, self.gate = layer, name, y, gate
        series = layer.activations[name].mean if gate else layer.norms[name]
        self.values = {int(t): float(v) for t, v in zip(layer.steps, series, strict=False)}
        reached = [t for t, norm in self.values.items() if norm != 0]
        self.source = reached[-1] if reached and not gate else None  # nearest to the loss
        self.id = identifier(f"{layer.path}_{name}")

    @property
    def title(self) -> str:
        arrow = "←" if self.layer.reverse else "→"
        return f"{self.layer.path or 'network'}\n{self.name} {arrow}"

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
        return f"{what} = {self.value(t):.6g} at t = {t + 1}"

    def factor(self, first: int, last: int) -> str:
        """`×10⁻⁹`: what becomes of a gradient on its way back across these steps; "" if nothing."""
        near, far = self.value(last), self.value(first)
        if self.layer.reverse:
            near, far = far, near
        if self.gate or near == 0 or not (math.isfinite(near) and math.isfinite(far)):
            return ""
        return f"×{power_of_ten(far / near)}"


def identifier(path: str) -> str:
    """Letters, digits and underscores; lstm#2 and lstm-2 are two layers."""
    path = path.replace("#", "__").replace("-", "_n")
    return "".join(c if c.isalnum() else "_" for c in path)


def names_at(layer: LayerFlow, depth: int) -> list[tuple[str, bool]]:
    """(name, whether it is a gate) of what is drawn of a layer."""
    if depth not in DEPTHS:
        known = ", ".join(f"{d} ({words})" for d, words in DEPTHS.items())
        raise DrawingError(f"draw: depth is one of {known}; got {depth!r}.")
    states = list(layer.norms)
    if depth == 1:
        return [("h" if "h" in states else states[0], False)]
    gates = [n for n in layer.activations if n not in layer.norms] if depth == 3 else []
    return [*((name, False) for name in states), *((name, True) for name in gates)]
