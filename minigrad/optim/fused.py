"""A step of an optimiser as one call of a compiled loop over all its parameters.

Where arrays lie is remembered from step to step, and compared with what is there each time: a
parameter has another array after `p.data = ...` and Module.to, another state after
load_state_dict, and mostly another gradient in every step.
"""

from __future__ import annotations

import ctypes
import weakref
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import versions
from ..errors import GradientError, StateDictError, describe
from ..kernels.flat import Update
from ..kernels.foreach import Formula, Table
from ..tensors import Tensor

if TYPE_CHECKING:
    from .base import Optimizer

Array = np.ndarray

_address = ctypes.addressof
_bytes: Any = ctypes.c_char.from_buffer  # together the fastest way to an address


class _Row:
    """What is remembered of one parameter."""

    __slots__ = ("held", "matrix", "odd", "turned", "upright", "x")

    def __init__(self) -> None:
        self.x: Any = _nothing  # its array, weakly: `.data` copies one that somebody else holds
        self.held: list[Array] = []  # those of its state
        self.odd = False  # is it neither C- nor Fortran-contiguous?
        self.upright = True  # is it C-contiguous?
        self.matrix = False  # may its gradient lie transposed?
        self.turned: bool | None = None  # does it, in the table? None: it has none


def _nothing() -> None:
    """In place of a weak reference to an array."""


class FusedStep:
    """Moves every parameter that has a gradient: fill(), the table's function, end()."""

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer
        self._moving: list[tuple[int, Array, dict[str, Any]]] = []  # as `_gather` lists them
        self._stays = False
        self._begin(optimizer.formula())

    def prepared(self) -> Update | None:
        """A step to be done again and again, on parameters and gradients that stay."""
        self._stays = True
        arguments = self.fill()
        if self._odd or self._copies:
            return None
        again = partial(self.fill, again=True)
        function = self.table.function if arguments else self._by_hand
        return Update(function, arguments, again, self.end, self.optimizer)

    def _by_hand(self) -> None:
        """The arithmetic, where it is no function of C that all tables share."""
        self.table.run()

    def _is_known(self) -> bool:
        """Whether the state of what moved last is where it was."""
        optimizer, rows = self.optimizer, self._rows
        for i, _, state in self._moving:
            if optimizer.state[i] is not state:
                return False
            for name, array in zip(self._slots, rows[i].held):
                if state.get(name) is not array:
                    return False
        return True

    def fill(self, again: bool = False) -> tuple[int, ...]:
        """Everything that comes before the arithmetic; the arguments of the table's function.

        again: on the parameters and gradients of the last time.
        """
        lines = self.optimizer.formula()
        if lines != self._lines or len(self.optimizer.params) != len(self._rows):
            self._begin(lines)
            again = False
        if not again or not self._is_known():
            self._moving = self._gather()
        moving = self._moving
        values: dict[int, list[float]] = {}
        for _, _, state in moving:
            t = state["step"] + 1
            if t not in values:
                values[t] = [*self.optimizer.numbers(t).values()]
        if len(values) == 1:
            self.table.numbers[:] = values[t]
        else:
            for i, _, state in moving:
                self.table.numbers[i] = values[state["step"] + 1]
        return self.table.arguments

    def end(self) -> None:
        """What is known only once all have moved."""
        arrays = []
        for _, x, state in self._moving:
            state["step"] += 1
            arrays.append(x)
        versions.edited(*arrays)
        for x, g, state in self._odd:
            self.optimizer.update(x, g, state)
        self._copies.clear()
        if not self._stays:
            self._moving = []  # `.data` copies an array that somebody else holds

    def _begin(self, lines: str) -> None:
        """A new table, where nothing is placed so far."""
        optimizer = self.optimizer
        self._lines, self._slots = lines, tuple(optimizer.slots(np.zeros(0)))
        formula = Formula(lines, ("x", "g", *self._slots), tuple(optimizer.numbers(1)))
        self.table = Table(formula, len(optimizer.params))
        self._rows = [_Row() for _ in optimizer.params]
        self._owners: set[int] = set()  # of the memory that is written

    def _gather(self) -> list[tuple[int, Array, dict[str, Any]]]:
        """Brings the table up to date; (index, array, state) of the parameters that will move."""
        optimizer, table, slots = self.optimizer, self.table, self._slots
        words, at = table.words, table.second - table.width
        self._copies: list[Array] = []  # of gradients, to which the table points
        self._odd: list[tuple[Array, Array, dict[str, Any]]] = []  # what has gaps
        moving = []
        for i, (p, state) in enumerate(zip(optimizer.params, optimizer.state, strict=True)):
            at += table.width
            row = self._rows[i]
            if p._grad is None:
                if row.turned is not None:
                    table.clear(i)
                    row.turned = None
                continue
            g, x = p._grad._array, p._array
            known = row.x() is x
            for name, array in zip(slots, row.held):
                known = known and state.get(name) is array
            if not known:
                row = self._place(i, p, state)
                x = p._array
            moving.append((i, x, state))
            if not x.size:
                continue
            if g.dtype != x.dtype or g.shape != x.shape:
                raise GradientError(
                    f"optimizer: the gradient of parameter {i} is {describe(g)}; expected "
                    f"{describe(x)}."
                )
            flags, owner = g.flags, g
            while isinstance(owner.base, np.ndarray):
                owner = owner.base
            behaved, upright = flags.behaved, flags.c_contiguous
            turned = upright is not row.upright
            fits = behaved and flags.forc and (not turned or row.matrix)
            if row.odd or not fits or id(owner) in self._owners:
                if row.odd:
                    self._odd.append((x, g, state))
                    continue
                g, upright, turned = _laid_out_as(x, g), row.upright, False
                self._copies.append(g)
            if row.turned is not turned:
                table.place(i, [x, g, *row.held], turned)
                row.turned = turned
            else:
                words[at] = _address(_bytes(g if upright else g.T))
        return moving

    def _place(self, i: int, p: Tensor, state: dict[str, Any]) -> _Row:
        """Gets to know a parameter, or what has become of it."""
        row = self._rows[i] = _Row()
        self.table.clear(i)
        if not p._array.flags.writeable:  # a broadcast array: many elements in one place
            p._array = p._array.copy()
        x = p._array
        row.x, row.upright, row.matrix = weakref.ref(x), x.flags.c_contiguous, x.ndim == 2
        row.odd = not x.flags.forc
        fresh = self.optimizer.slots(x)
        for name in self._slots:
            value = state.get(name, fresh[name])
            if not isinstance(value, np.ndarray) or value.shape != x.shape:
                raise StateDictError(
                    f"optimizer: state {name!r} of parameter {i} is {describe(value)}; expected "
                    f"an array like {describe(x)}."
                )
            if value.dtype != x.dtype or value.strides != x.strides or not value.flags.writeable:
                value = _laid_out_as(x, value)
            state[name] = value
            row.held.append(value)
        self._keep_apart()
        return row

    def _keep_apart(self) -> None:
        """Raises GradientError if anything would be moved twice."""
        found: dict[int, list[tuple[int, Array]]] = {}
        for i, (p, row) in enumerate(zip(self.optimizer.params, self._rows)):
            for array in (p._array, *row.held) if row.x() is p._array else ():
                found.setdefault(id(versions.owner(array)), []).append((i, array))
        for sharing in found.values():
            for (i, a), (j, b) in combinations(sharing, 2):
                if np.shares_memory(a, b):
                    raise GradientError(
                        f"optimizer: parameters {i} and {j}, or their states, share memory, which "
                        f"would move twice in a step; give each an array of its own."
                    )
        self._owners = set(found)


def _laid_out_as(x: Array, array: Array) -> Array:
    """The same values in an array of x's dtype and order."""
    copy = np.empty_like(x)
    copy[...] = array
    return copy


def move(optimizer: Optimizer, x: Array, g: Array, state: dict[str, Any]) -> None:
    """One parameter alone, whatever its arrays are like."""
    slots, numbers = optimizer.slots(x), optimizer.numbers(state["step"])
    for name, value in slots.items():
        state.setdefault(name, value)
    formula = Formula(optimizer.formula(), ("x", "g", *slots), tuple(numbers))
    arrays = [x, g, *(state[name] for name in slots)]
    dense = [np.array(array, x.dtype, order="C") for array in arrays]
    table = Table(formula, 1)
    if x.size:
        table.place(0, dense)
        table.numbers[0] = [*numbers.values()]
        table.run()
    for name, array, moved in zip(formula.arrays, arrays, dense, strict=True):
        if name in formula.written():
            array[...] = moved
