"""lengths, mask, resets, return_states, weight_dropout: what they make of a cell, and of its xs.

A loop on the tape, and one that is recorded, computes every step and chooses: `Padded` passes the
state through where a row takes no part. Else a compiled loop has only the steps that count, packed
one after the other (packing.py), and runs the cell as it is.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..tensors import Tensor, as_tensor, wrap
from ..tree import map_leaves
from .intervened import Intervened
from .unrolling import Cell, check_carry, choose, computed

Array = np.ndarray


class Padded:
    """The cell on (x, whether the row takes part): in the padding the state passes through.

    packed: a compiled loop may leave the padding out. given: xs with what was in the padding, for
    who looks into it; None where the padding is left out.
    """

    def __init__(self, cell: Cell, packed: bool, given: Any = None):
        self.cell, self.packed, self.given = cell, packed, given
        self.__name__ = f"padded_{cell_name(cell)}"

    def __call__(self, state: Any, x: Any) -> tuple[Any, Any]:
        x, real = x
        new, y = self.cell(state, x)
        check_carry("scan", state, new)
        kept = map_leaves(lambda a, b: choose(real, a, b), new, state)
        return kept, map_leaves(lambda a: choose(real, a), y)


class Stated:
    """The cell whose y is (y, the state that the step leaves)."""

    def __init__(self, cell: Cell):
        self.cell = cell
        self.__name__ = f"stated_{cell_name(cell)}"

    def __call__(self, state: Any, x: Any) -> tuple[Any, Any]:
        new, y = self.cell(state, x)
        return new, (y, new)


class Reweighted:
    """The cell with its weight_hh times a mask of the same shape, the same at all steps."""

    def __init__(self, cell: Cell, mask: Tensor):
        self.cell, self.mask = cell, mask
        self.__name__ = f"reweighted_{cell_name(cell)}"

    def __call__(self, state: Any, x: Any) -> tuple[Any, Any]:
        masked: Any = copy.copy(self.cell)  # the cell itself stays as it is, for other threads
        vars(masked)["weight_hh"] = masked.weight_hh * self.mask
        result: tuple[Any, Any] = masked.forward(state, x)  # a call would tell of another module
        return result


class Episodic:
    """The cell on (x, whether an episode begins): there the state is the first one again."""

    def __init__(self, cell: Cell, init: Any):
        self.cell, self.init = cell, init
        self.__name__ = f"episodic_{cell_name(cell)}"

    def __call__(self, state: Any, x: Any) -> tuple[Any, Any]:
        x, begins = x
        check_carry("scan", self.init, state)
        return self.cell(map_leaves(lambda a, b: choose(begins, a, b), self.init, state), x)


def padded(cell: Cell, xs: Any, real: Array, packed: bool) -> tuple[Cell, Any, Any]:
    """(the cell that passes over the padding, its xs, xs without what is in the padding).

    real: (T, B), what takes part. Of packed xs the loop reads nothing else, and what is done with
    them ahead of it is done with `cleaned` ones.
    """
    given = None if packed else map_leaves(lambda x: wrap(x._array, None, False), xs)
    xs = _without_padding(
        cell, xs, lambda x: x if packed and x.dtype.kind == "f" else cleaned(real, x)
    )
    return Padded(cell, packed, given), (xs, as_tensor(real)), xs


def _without_padding(cell: Cell, xs: Any, clean: Callable[[Tensor], Tensor]) -> Any:
    """The xs of a cell, cleaned; operands of interventions are neutral where nothing is done."""
    if not isinstance(cell, (Episodic, Intervened)):
        return map_leaves(clean, xs)
    x, more = xs
    more = more if type(cell) is Intervened else clean(more)
    return _without_padding(cell.cell, x, clean), more


def cleaned(real: Array, x: Tensor) -> Tensor:
    """x with what is in the padding replaced: by zeros, integers by one of real steps."""
    if x.dtype.kind == "f":
        return ops.where(real.reshape(*real.shape, *(1,) * (x.ndim - 2)), x, 0.0)

    def filled(numbers: Array, mask: Array) -> Array:
        known = numbers[mask]  # as an index it is in bounds
        wide = mask.reshape(*mask.shape, *(1,) * (numbers.ndim - 2))
        return np.where(wide, numbers, known[:1] if len(known) else np.zeros_like(numbers))

    return as_tensor(computed("integers without padding", [x, real], filled))


def unpadded(cell: Cell) -> Cell | None:
    """The cell of one that runs on (x, whether the row takes part), as `scan` makes for a mask."""
    return cell.cell if type(cell) is Padded else None


class Layers(NamedTuple):
    """A cell by itself, what scan has put around it, and the Tensors that this holds, by kind."""

    own: Cell
    kinds: tuple[Any, ...]
    held: dict[str, Any]

    @property
    def flagged(self) -> tuple[Any, ...]:
        """Those that take (x, something of their own) for x, the outermost first."""
        return tuple(k for k in self.kinds if k not in ("Stated", "Reweighted"))


def unwrapped(cell: Cell) -> Layers:
    """The cell without what was made of it."""
    kinds: tuple[Any, ...] = ()
    held = {}
    while isinstance(cell, (Padded, Episodic, Intervened, Stated, Reweighted)):
        kinds += (cell.edits if isinstance(cell, Intervened) else type(cell).__name__,)
        if isinstance(cell, Episodic):
            held["Episodic"] = cell.init
        if isinstance(cell, Reweighted):
            held["Reweighted"] = cell.mask
        cell = cell.cell
    return Layers(cell, kinds, held)


def with_held(cell: Cell, held: dict[str, Any]) -> Cell:
    """The same with other Tensors in what is around it."""
    if type(cell) is Padded:
        return Padded(with_held(cell.cell, held), cell.packed, cell.given)
    if type(cell) is Episodic:
        return Episodic(with_held(cell.cell, held), held["Episodic"])
    if type(cell) is Intervened:
        inside = with_held(cell.cell, held)
        return Intervened(inside, cell.edits, cell.touched, cell.gradients)
    if type(cell) is Reweighted:
        return Reweighted(cell.cell, held["Reweighted"])
    return Stated(with_held(cell.cell, held)) if type(cell) is Stated else cell


def of_values(cell: Cell) -> Cell:
    """The same without interventions in gradients."""
    if type(cell) is Padded:
        return Padded(of_values(cell.cell), cell.packed, cell.given)
    if type(cell) is Episodic:
        return Episodic(of_values(cell.cell), cell.init)
    return cell.of_values() if type(cell) is Intervened else cell


def cell_name(cell: Any) -> str:
    """What a cell is called in names of kernels."""
    name = getattr(cell, "__name__", type(cell).__name__)
    return re.sub(r"\W+", "", name).lower() or "cell"
