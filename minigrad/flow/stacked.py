"""The layers of a net in one direction as one cell, whose state is all of their states."""

from __future__ import annotations

from typing import Any

from ..errors import FlowError, describe
from ..nn.recurrent import Recurrent
from ..tensors import as_tensor
from ..tree import map_leaves


class Stack:
    """The cells of a layer's layers as one cell; the state is the tuple of theirs."""

    def __init__(self, cells: list[Any]):
        self.cells = cells

    def __call__(self, state: Any, x: Any) -> tuple[Any, Any]:
        x, drawn = x
        new = []
        for cell, s, d in zip(self.cells, state, drawn, strict=True):
            s, x = cell(s, x if d is None else (x, d))
            new.append(s)
        return tuple(new), x

    def init_state(self, batch: int) -> Any:
        return tuple(cell.init_state(batch) for cell in self.cells)


def as_cell(who: str, cell: Any, xs: Any, steps: int, rows: int) -> tuple[Any, Any]:
    """(cell, xs) to run: a layer becomes the stack of its cells, with masks if they draw some."""
    if not isinstance(cell, Recurrent):
        if not callable(cell):
            raise FlowError(
                f"{who}: expected a cell, (state, x) -> (state, y), or a layer of mg.nn; got "
                f"{describe(cell)}."
            )
        return cell, xs
    name = type(cell).__name__
    if cell.bidirectional:
        raise FlowError(
            f"{who}: a bidirectional {name} is two recurrences; pass one of its cells, "
            f"layer.cells[0], or layer.cells[1] with reverse=True."
        )
    if cell.training and (cell.weight_dropout or (cell.dropout and cell.num_layers > 1)):
        where = "weights" if cell.weight_dropout else "between layers"
        raise FlowError(f"{who}: {name} drops out {where} at random; call .eval() first.")
    drawn = [c.draw(steps, rows) if hasattr(c, "draw") else None for c in cell.cells]
    if len(cell.cells) == 1:
        return cell.cells[0], xs if drawn[0] is None else (xs, map_leaves(as_tensor, drawn[0]))
    return Stack(cell.cells), (xs, tuple(map_leaves(as_tensor, d) for d in drawn))
