"""A model that has not run: its modules as they are written down, in the order they were set.

What a `forward` does with them is not known. So there are arrows only inside of what has a known
one: a recurrent layer, and a Sequential.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from ...nn.layers import Sequential
from ...nn.module import Module, Parameter
from ...nn.recurrent import Recurrent
from .rows import identifier

if TYPE_CHECKING:
    from .rolled import Rolled

NOT_RUN = (
    "drawn as declared: what reads what is known once it has run, draw(model, x) or draw(model) "
    "after record()"
)


def arrows_known(model: Module) -> bool:
    """Whether the class says in which order its parts run."""
    return type(model).forward in (Recurrent.forward, Sequential.forward) or not _below(model)


def boxes_of(model: Module) -> int:
    """How many boxes it takes, those of merges included."""
    if isinstance(model, Recurrent):  # two cells and a merge where there are two directions
        return model.num_layers * (1 if model.num_directions == 1 else 3)
    return sum(boxes_of(part) for _, part in _below(model)) or 1


class Declared:
    """Draws modules; each drawing returns the keys of the boxes where its output is."""

    def __init__(self, rolled: Rolled):
        self.rolled = rolled
        self.boxes: list[str] = []  # of parts, in order

    def draw(self, model: Module) -> None:
        if not arrows_known(model):
            self._module("", model, [])
            for a, b in pairwise(self.boxes):  # side by side, as they are written down
                self.rolled.graph.edge(a, b, style="invis")
            return
        name = model.scope_name if isinstance(model, Recurrent) else ""
        ends = self._module(name, model, self.rolled.end("end_x", "x"))
        self.rolled.connect(ends, self.rolled.end("end_y", "y"))

    def _module(self, name: str, module: Module, before: list[str]) -> list[str]:
        if isinstance(module, Recurrent):
            return self._recurrent(name, module, before)
        below = _below(module)
        if not below:
            return self._box(name or type(module).__name__.lower(), module, before)
        known = arrows_known(module)
        for part, member in below:
            path = f"{name}.{part}" if name else part
            before = self._module(path, member, before if known else [])
        return before if known else []

    def _box(self, name: str, module: Module, before: list[str]) -> list[str]:
        key = f"m_{identifier(name)}"
        self.rolled.box(key, f"{name}\n{_describe(module)}", "#e6e8ec",
                        tooltip=f"{name}: {_sizes(module)}")  # fmt: skip
        self.rolled.connect(before, [key])
        self.boxes.append(key)
        return [key]

    def _recurrent(self, name: str, layer: Recurrent, before: list[str]) -> list[str]:
        for i in range(layer.num_layers):
            keys = []
            for direction in range(layer.num_directions):
                cell = layer.cells[i * layer.num_directions + direction]
                way = "rev" if direction else "fwd"
                text = f"{name} l{i} {'←' if direction else '→'}\n{_describe(cell)}"
                tip = f"{name}, layer {i}, {way}: {_sizes(cell)}"
                key = f"r_{identifier(name) or 'network'}_l{i}_{way}"
                self.rolled.box(key, text, "#d5e3f3", tooltip=tip)
                self.rolled.loop(key, "one step")
                keys.append(key)
            self.rolled.connect(before, keys)
            self.boxes.append(keys[0])
            merge = layer.merge if i + 1 == layer.num_layers else "concat"
            before = self.rolled.merge(f"{name}_l{i}", merge, keys) if len(keys) > 1 else keys
        return before


def _sizes(module: Module) -> str:
    return f"{sum(p.size for p in module.parameters()):,} parameters"


def _below(module: Module) -> list[tuple[str, Module]]:
    return [(name, m) for name, m in module.members() if not isinstance(m, Parameter)]


def _describe(module: Module) -> str:
    return f"{type(module).__name__}({module.describe()})"
