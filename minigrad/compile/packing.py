"""Packing: the steps in which rows take part, one after the other in memory, and no others.

A masked step leaves a row's state as it is, so a row that takes part in L steps, wherever they are,
goes through them as if it were L steps long and had no gaps. Its k-th real step is its step k.
Sorted by length, the longest first, the rows that are left at a step are the first ones:

    step 0     a b c d          rows a, b, c, d take part in 4, 3, 3, 1 steps
    step 1     a b c .          d's last state lies at the point
    step 2     a b c
    step 3     a . .
               .

Step k lies in rows starts[k] : starts[k+1], and `active` of them take part, the first ones; the
others (points) ended in the step before. With them a state that leaves step k lies where the k+1-th
begins, so the states that enter all steps are one array without a gap, as are the inputs, and a sum
over all steps is one product. What is read at a point is 0.

There is room for all steps of all rows. Which of them take part is found out in each run, in C
(kernels/packing.py): a replay of mg.jit has another mask in every call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np

from ..kernels import jit, multiplying
from ..kernels.arena import address, addresses
from ..kernels.compiler import Kernel, build_from
from ..kernels.index import COUNT, rows_work
from ..kernels.ufuncs import LOOPS
from ..kernels.work import ENTRY, call, words
from .unrolling import varies

Array = np.ndarray
Call = tuple[Callable[..., Any], tuple[Any, ...]]
STEPS, LAST, SIZE, TAKEN, NUMBERS = range(5)  # the words of FOUND, as in kernels/packing.py


class Packing(NamedTuple):
    """What a call packs. mask: (T, B) of bool, what takes part; reverse: last step first."""

    mask: Array
    reverse: bool


def packs(real: Array, reverse: bool) -> bool:
    """Whether a compiled scan packs these steps: if any takes no part, or may take none in another
    replay of mg.jit. Last step first it always does: packed or not, sums over all steps are the
    same, but here not in the same order, and a replay has the bits of the plain step.
    """
    return reverse or varies(real) or not real.all()


class Packed(NamedTuple):
    """What came of it: the most steps of a row, how many (t, b) take part, and rows of memory."""

    steps: int
    taken: int
    size: int


class Rows(NamedTuple):
    """Rows that follow one another: where the first lies, how many there are, bytes of each."""

    place: int
    many: int
    width: int


class Of:
    """What is found out of a mask, in the order in which it lies in memory.

    FOUND      the numbers of Packed, and the last step
    STARTS     where steps begin
    COUNTS     how many steps each row has, the longest first
    TWICE      the rows in that order, two times; ORDER: one of them
    RANK       where each row of the batch comes in that order
    ENDS       where the last state of each lies, in that order, among those that leave all steps
    PUT        of each (t, b) its place, -1 where it takes no part; PUT_LEFT: of the state it leaves
    TAKE       of each place its (t, b), -1 for a point; LEFT: of the state that leaves it
    FINALS     where the last state of a row of the batch lies; PAIRED: if states lie in two halves
    FIRSTS     where BPTT leaves the gradient of its first state
    """

    (
        FOUND, STARTS, COUNTS, TWICE, RANK, ENDS, PUT, PUT_LEFT, TAKE, LEFT, FINALS, PAIRED, FIRSTS,
        ORDER,
    ) = range(14)  # fmt: skip


@cache
def _layout(time: int, rows: int) -> tuple[list[int], list[int], int]:
    """The sizes of all these, where each begins, and how many numbers they are."""
    steps = time * rows
    sizes = [NUMBERS, time + 2, rows, 2 * rows, rows, rows, *[steps] * 4, rows, rows, rows]
    begins = [0, *accumulate(sizes)]
    return [*sizes, rows], [*begins[:-1], begins[Of.TWICE]], begins[-1]


def room_for(time: int, rows: int) -> int:
    """How many numbers Places has."""
    return _layout(time, rows)[2]


class Places:
    """Where packed steps lie: what is found out of a mask, and calls that find and use it."""

    def __init__(self, memory: Array, time: int, rows: int):
        self.time, self.rows, self.memory = time, rows, memory
        self.sizes, begins, _ = _layout(time, rows)
        here = address(memory)
        self.at = [here + 8 * begin for begin in begins]
        self.jobs: list[Any] = []  # what calls know by its address

    def summary(self) -> Packed:
        return Packed(*(int(self.memory[k]) for k in (STEPS, TAKEN, SIZE)))

    def found(self, mask: Array, reverse: bool) -> Call:
        """What fills all of it, from a mask that is contiguous."""
        return self._call(
            "pack", address(mask), self.time, self.rows, int(reverse), *self.at[: Of.ORDER]
        )

    def told(self, bounds: int, parts: int, told: Sequence[int]) -> Call:
        """What fills the bounds of shards, and words that depend on what was found.

        told: for each word its address, which number goes there, and how many times that.
        """
        known = self.at[Of.FOUND], self.at[Of.COUNTS], self.rows
        return self._call("tell", *known, parts, bounds, len(told) // 3, *told)

    def taken(self, table: Rows, index: int, values: int) -> tuple[Call, int]:
        """values = table[index], and zeros for -1; and the word that says how many of them."""
        work = rows_work(
            table.place, self.at[index], values, table.many, self.sizes[index], table.width, 0
        )
        self.jobs.append(work.job)
        run = call(work)
        return run, run[1][0] + 8 * COUNT

    def at_points(self, what: str, table: Rows, spare: int = 0) -> Call:
        """Zeros there: "clear", or "lift", until "lower" puts back what was moved to `spare`."""
        known = self.at[Of.FOUND], self.at[Of.ENDS], self.rows
        return self._call(what, *known, table.place, table.width, spare)

    def product(self, a: Array, b: Array, y: Array, times: int) -> tuple[Call, list[int]]:
        """y = a[:n].T @ b[:n], n: `times` the number of places; and what is to be told of it."""
        loop = multiplying.product(a.dtype)
        if jit.mode() != "native":
            return (_product_of, (loop, self.memory, a, b, y, times)), []
        sizes = 1, a.shape[1], 0, b.shape[1]
        steps = 0, 0, 0, *a.T.strides, *b.strides, *y.strides
        run = self._call("multiply", LOOPS[loop][0], *addresses((a, b, y)), *sizes, *steps)
        self.jobs += [a, b, y]
        return run, [run[1][0] + 8 * 6, SIZE, times]

    def _call(self, entry: str, *numbers: int) -> Call:
        job = words(*numbers)
        self.jobs.append(job)
        return _kernel(entry in _FORWARD).function(entry), (address(job), 0)


def _product_of(loop: Any, numbers: Array, a: Array, b: Array, y: Array, times: int) -> None:
    n = int(numbers[SIZE]) * times
    loop(a[:n].T, b[:n], y)


_FORWARD, _BACK = ("pack", "tell"), ("clear", "lift", "lower", "multiply")


@cache
def _kernel(forward: bool) -> Kernel:
    entries = dict.fromkeys(_FORWARD if forward else _BACK, ENTRY)
    return build_from("packing" if forward else "packing_back", "packing", entries)
