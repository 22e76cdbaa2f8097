"""What is known of a net that is to be helped: its cells, what they read, how it is trained."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...nn.cells import RNNCell
from ...nn.module import Module
from ...nn.recurrent import Recurrent
from ...tree import leaves

if TYPE_CHECKING:
    from ..layerflow import LayerFlow
    from .fork import Run

Array = np.ndarray
_ABOVE = re.compile(r"(^|/)l[1-9]\d*/")  # in the path of a layer above the first


@dataclass
class Case:
    """A net, and its run where there is one (in a report there is only what was recorded).

    cells: in the order of the model's members. steps: of the sequence. read: place of a cell ->
    what it read from outside, (T, B, I). upper: places of cells that read another cell's output.
    run: None in a report. last_only: whether the loss reads one step alone.
    """

    cells: Sequence[Any]
    steps: int
    read: dict[int, Array] = field(default_factory=dict)
    upper: frozenset[int] = frozenset()
    last_only: bool = True
    run: Run | None = None

    @classmethod
    def of(cls, flows: Iterable[LayerFlow], model: Module | None = None, run: Any = None) -> Case:
        """The case of layers that were recorded, of `model` if that is known."""
        flows = list(flows)
        again = [(flow, flow.replay) for flow in flows if flow.replay is not None]
        cells = unique(r.own_cell for _, r in again) if model is None else list(cells_of(model))
        place = {id(cell): i for i, cell in enumerate(cells)}
        above = (
            _stacked(model) if model else [r.own_cell for f, r in again if _ABOVE.search(f.path)]
        )
        upper = frozenset(place[id(cell)] for cell in above)
        read: dict[int, Array] = {}
        for _, replay in again:
            i, xs = place.get(id(replay.own_cell)), leaves(replay.own_input(replay.xs))
            floats = xs and xs[0].dtype.kind == "f" and xs[0].ndim == 3
            if floats and i is not None and i not in read:
                read[i] = xs[0].numpy()
        steps = max((len(flow.steps) for flow in flows), default=0)
        last = not any(flow.arrived and flow.read_at_many_steps for flow in flows)
        return cls(cells, steps, read, upper, last, run)

    @property
    def lowest(self) -> list[int]:
        """Places of the cells that read what comes from outside."""
        return [i for i in self.read if i not in self.upper]


def kind_of(cell: Any) -> str:
    """What a table calls a cell: its class, of an RNN also the nonlinearity.

    >>> from minigrad import nn
    >>> kind_of(nn.RNNCell(2, 3, nonlinearity="relu")), kind_of(nn.GRUCell(2, 3))
    ('RNNCell, relu', 'GRUCell')
    """
    if type(cell) is RNNCell and cell.nonlinearity != "tanh":
        return f"RNNCell, {cell.nonlinearity}"
    return type(cell).__name__ if isinstance(cell, Module) else "a cell of your own"


def cells_of(model: Module) -> Iterator[Any]:
    """The recurrent cells in a model, each once, in the order of its members."""
    return (m for m in model.modules() if hasattr(m, "init_state") and not isinstance(m, Recurrent))


def unique(things: Iterable[Any]) -> list[Any]:
    """Each thing once, in order; things are the same if they are identical."""
    return list({id(thing): thing for thing in things}.values())


def _stacked(model: Module) -> list[Any]:
    """Cells that are not in the first layer of the first recurrent layer."""
    layers = [m for m in model.modules() if isinstance(m, Recurrent)]
    return [
        cell
        for k, layer in enumerate(layers)
        for cell in (layer.cells if k else layer.cells[layer.num_directions :])
    ]


def exchange(model: Module, made: dict[int, Any]) -> None:
    """Puts made[id(old)] where `old` is held: in attributes, lists, tuples and dicts of modules."""
    for module in list(model.modules()):
        for name, value in list(vars(module).items()):
            if (new := _exchanged(value, made)) is not value:
                vars(module)[name] = new


def _exchanged(value: Any, made: dict[int, Any]) -> Any:
    if isinstance(value, Module):
        return made.get(id(value), value)
    if isinstance(value, dict):
        new = {k: _exchanged(v, made) for k, v in value.items()}
        return new if any(new[k] is not v for k, v in value.items()) else value
    if type(value) in (list, tuple):
        items = [_exchanged(v, made) for v in value]
        return type(value)(items) if any(a is not b for a, b in zip(items, value)) else value
    return value
