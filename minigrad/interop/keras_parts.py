"""Which layers of Keras a minigrad module is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .. import nn
from ..nn.module import Module, Parameter
from .base import ConversionError, check_alike, named, walk
from .keras_cells import kind_of

CLASSES = {"RNN": "SimpleRNN", "LSTM": "LSTM", "GRU": "GRU"}
SNAKE = {"SimpleRNN": "simple_rnn", "LSTM": "lstm", "GRU": "gru", "Bidirectional": "bidirectional"}
SNAKE |= {"Dense": "dense", "Embedding": "embedding"}


class Part(NamedTuple):
    """One layer of Keras in a minigrad model."""

    what: str  # for messages
    cls: str  # Keras's class
    path: str  # of the minigrad module
    cells: tuple[tuple[str, Any], ...]  # (the names' prefix and suffix as a template, cell) of each
    layer: Module
    level: int  # which of the layers of a recurrent one

    @property
    def arrays(self) -> int:
        """How many arrays it has."""
        if self.cells:
            return sum(2 + (cell.bias_ih is not None) for _, cell in self.cells)
        return sum(1 for _ in self.layer.parameters())


def parts_of(module: Module) -> list[Part]:
    """The layers of Keras that a module is. Raises ConversionError if some part is none."""
    found: list[Part] = []
    for path, member in walk(module):
        found += _parts(path, member)
    if not found:
        raise ConversionError(f"{type(module).__name__} has no layer that Keras has weights for.")
    return found


def _parts(path: str, member: Module) -> Iterator[Part]:
    what, dot = named(path, member), f"{path}." if path else ""
    if isinstance(member, nn.Recurrent):
        cells: list[tuple[str, Any]] = list(member.members())
        for suffix, cell in cells:
            _check_cell(f"{what} {suffix}", cell)
        check_alike(what, member)
        n = member.num_directions
        cls = None if n == 1 else "Bidirectional"
        for level in range(member.num_layers):
            own = tuple((f"{dot}{{}}_{s}", cell) for s, cell in cells[n * level : n * (level + 1)])
            where = f"{what} l{level}" if member.num_layers > 1 else what
            yield Part(where, cls or CLASSES[kind_of(own[0][1]) or ""], path, own, member, level)
    elif isinstance(member, nn.Cell):
        _check_cell(what, member)
        cls = CLASSES[kind_of(member) or ""]
        yield Part(what, cls, path, ((f"{dot}{{}}", member),), member, 0)
    elif type(member) in (nn.Linear, nn.Embedding):
        yield Part(
            what, "Dense" if isinstance(member, nn.Linear) else "Embedding", path, (), member, 0
        )
    elif any(isinstance(held, Parameter) for _, held in member.members()):
        raise ConversionError(
            f"{what}: what minigrad converts to Keras and back is RNN, LSTM, GRU, Linear and "
            f"Embedding."
        )


def _check_cell(what: str, cell: Any) -> None:
    if kind_of(cell) is None:
        raise ConversionError(
            f"{what}: Keras has no {type(cell).__name__}; it has SimpleRNN, LSTM and GRU."
        )
    if getattr(cell, "weight_hr", None) is not None:
        raise ConversionError(f"{what}: Keras's LSTM has no projection (proj_size).")
