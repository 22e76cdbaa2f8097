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
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ..kernels.index import take_rows_or_zeros
from .layout import Buffer

Array = np.ndarray


class Packing:
    """Where packed steps lie. mask: (T, B) of bool, what takes part; reverse: last step first.

    steps: the most steps of a row. rows: B. size: rows of memory of all steps. taken: how many
    (t, b) take part. order: the rows, longest first; counts: how many steps each has.
    """

    def __init__(self, mask: Array, reverse: bool):
        self.mask, self.reverse = mask, reverse
        self.time, self.rows = mask.shape
        counts = mask.sum(axis=0)
        self.order = (-counts).argsort(kind="stable")
        self.counts = counts[self.order]
        self.steps, self.taken = int(self.counts[0]), int(self.counts.sum())
        active = self.rows - np.searchsorted(self.counts[::-1], np.arange(self.steps), "right")
        self.starts = np.zeros(self.steps + 2, np.int64)
        self.starts[1] = self.rows
        self.starts[2:] = self.rows + np.cumsum(active)
        self.size = int(self.starts[self.steps])
        self._rank = np.empty(self.rows, np.int64)
        self._rank[self.order] = np.arange(self.rows)
        steps = mask[::-1] if reverse else mask
        k = np.where(mask, np.cumsum(steps, axis=0)[:: -1 if reverse else 1] - 1, 0)
        self.put, self.put_left = (  # (t, b) -> its place, and that of the state it leaves
            np.where(mask, starts[k] + self._rank, -1).reshape(-1)
            for starts in (self.starts, self.starts[1:])
        )
        self.take = np.full(self.size, -1, np.int64)  # a place -> its (t, b)
        self.take[self.put[self.put >= 0]] = np.flatnonzero(mask)

    def pack(self, x: Array) -> Array:
        """(T, B, ...) -> (size, n): the real steps, and zeros."""
        return take_rows_or_zeros(x.reshape(self.time * self.rows, -1), self.take)

    def unpack(self, x: Array, left: bool = False) -> Array:
        """(size, n) -> (T, B, n), zeros where a row takes no part; left: of what leaves steps."""
        taken = take_rows_or_zeros(x, self.put_left if left else self.put)
        return taken.reshape(self.time, self.rows, -1)

    def sort(self, x: Array) -> Array:
        """(B, ...): the rows in the order of packed steps."""
        return x[self.order]

    def unsort(self, x: Array) -> Array:
        """The other way round."""
        return x[self._rank]

    @cached_property
    def ends(self) -> Array:
        """Where each row's last state lies in the array of states, rows in their sorted order."""
        return np.asarray(self.starts[self.counts] + np.arange(self.rows))

    @cached_property
    def points(self) -> Array:
        """The places within all steps at which no row takes part."""
        return np.flatnonzero(self.take < 0)

    @cached_property
    def left(self) -> Array:
        """Of each place of a step, where the state lies that leaves it; -1 for a point."""
        return np.where(self.take < 0, -1, self.put_left[self.take])

    def lines(self, buffer: Buffer) -> tuple[int, ...]:
        """The shape of the memory of a buffer, in rows."""
        if buffer.at in ("even", "odd"):
            return 2, self.rows
        if buffer.at in ("before", "after"):
            return (int(self.starts[-1]),)
        return (self.size if buffer.at else self.rows,)

    def bounds(self, shards: int) -> Array:
        """The rows of each shard begin and end there: all have about as many steps to do."""
        done = np.concatenate([[0], np.cumsum(self.counts)])
        wanted = np.arange(1, shards) * (self.taken / shards)
        inside = np.searchsorted(done, wanted)
        return np.array([0, *inside, self.rows], np.int64)
