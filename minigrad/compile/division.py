"""How a compiled loop is divided among threads: by rows of the batch, by units, or not at all.

What a step costs a thread, in multiply-adds at the full speed of its core:

    a product of m rows with k x n weights    k n max(m, r), r to bring a weight in: NEAR where
                                              all that the thread reads in every step fits into its
                                              core's cache, BEYOND where what all threads read does
                                              not fit into the one that they share, else FAR
    an op of a loop                           LOOP for each element
    a meeting of all threads                  MEETING

By rows a thread has some of the rows, and all weights. By units it has all rows, some columns of
each product, so some of the weights, and some elements of each loop, and has to meet the others.
Whichever way, each number is computed as by one thread alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

from ..kernels import host, threads
from ..kernels.multiplying import panel_vectors
from .lowered import Loop, Lowered, Product
from .stages import ROWS, Stage, divided

# Fitted to one and two cores of a Xeon with 2 MiB of L2 each, 40 multiply-adds a ns (Zen 5: 1 MiB).
NEAR, FAR, CACHE = 2, 8, 3 << 19
BEYOND = 12  # two loops over 4 MiB each at once, 8 MiB shared (Zen 1): 1.4 times as long as in turn
LOOP = 8
MEETING = 1 << 14  # 0.1 us, and what threads differ by
CHUNK_ROWS = 48  # of a product over several steps: enough rows for all registers
WORTH_A_THREAD = 1 << 17  # of a whole call: below that a second thread costs more than it brings
WORTH_MEETING = 0.9  # of the time by rows: to meet is worth less where other programs run, too
BESIDE = 1.1  # of the time in turn: loops side by side wait for nothing but their end


class Division(NamedTuple):
    """How a call is divided.

    kind: "none", "rows" or "units". parts: among how many threads, at most. share: rows of each.
    chunk: how many steps are done at once where no state runs through. vectors, wide: the width of
    panels within a step and over a chunk. cost: of a step to a thread, and what it is undivided.
    many: how many such calls run at once.
    """

    kind: str
    parts: int
    share: int
    chunk: int
    vectors: int
    wide: int
    cost: float = 0.0
    alone: float = 0.0
    many: int = 1

    def __str__(self) -> str:
        if self.many > 1:
            return f"beside {self.many - 1} other, each {_threads(self.parts)}"
        if self.kind == "none":
            return "one thread"
        by = "rows" if self.kind == "rows" else "units"
        return f"over {by}, {self.parts} threads; {self.alone / self.cost:.2g} x one expected"


def side_by_side(works: Sequence[Work], steps: int, rows: int) -> bool:
    """Whether loops that do not need one another take less time at once, each with a share of the
    threads, than one after the other with all.
    """
    count = threads.get_num_threads() // len(works)
    if count == 0 or any(steps * rows * work.cost < WORTH_A_THREAD for work in works):
        return False
    at_once = max(work.divide(steps, rows, len(works)).cost for work in works)
    in_turn = sum(work.divide(steps, rows).cost for work in works)
    return at_once < BESIDE * in_turn


def takes_others(work: Work, steps: int, rows: int, parts: int) -> bool:
    """Whether a loop leaves threads to others, and runs long enough for that to be worth it."""
    return parts == 1 and steps * rows * work.cost >= WORTH_A_THREAD


class Work:
    """What there is to do in a step, and how that is divided best."""

    def __init__(self, lowered: Lowered, itemsize: int):
        self.lowered, self.lanes = lowered, host.lanes(itemsize)
        self.products = [s for s in lowered.steps if isinstance(s, Product)]
        self.apart = [*lowered.early, *lowered.late]
        self.inner = max((p.inner for p in self.products), default=1)
        self.inner_apart = max((p.inner for p in self.apart), default=1)
        self.loops = {id(s): _elements(s) for s in lowered.steps if isinstance(s, Loop)}
        several = [*self.products, *self.apart]
        self.itemsize = itemsize
        self.cost = sum(self.loops.values()) + sum(p.inner * p.k * p.n for p in several)

    @cached_property
    def stages(self) -> list[Stage]:
        """Of a step whose units threads share."""
        return divided(self.lowered)

    @cached_property
    def meetings(self) -> int:
        return sum(stage.meets for stage in self.stages)

    def packed(self, steps: int, rows: int) -> Division:
        """How packed steps are divided: as if half of the rows took part in each."""
        found = self.divide(steps, -(-rows // 2))
        # States as they leave a step do not lie like other packed rows.
        apart = any(p.a.buffer.at == "after" for p in self.apart)
        chunk, share = 1 if apart else found.chunk, -(-rows // found.parts)
        return found._replace(chunk=chunk, share=share)

    def divide(self, steps: int, rows: int, many: int = 1) -> Division:
        """How a call of so many steps and rows is divided; many: how many such run at once."""
        if many > 1:
            return self._beside(steps, rows, many)
        count = threads.get_num_threads()
        none = self._by_rows(steps, rows, 1)
        if count == 1 or steps * rows * self.cost < WORTH_A_THREAD:
            return none
        found = self._by_rows(steps, rows, min(count, rows))
        units = self._by_units(steps, rows, count)
        best = units if units.cost < WORTH_MEETING * found.cost else found
        return best._replace(alone=none.cost)

    def _beside(self, steps: int, rows: int, many: int) -> Division:
        parts = max(1, min(threads.get_num_threads() // many, rows))
        alone = self._by_rows(steps, rows, 1).cost
        return self._by_rows(steps, rows, parts, many)._replace(alone=alone, many=many)

    def _by_rows(self, steps: int, rows: int, parts: int, many: int = 1) -> Division:
        share = -(-rows // parts)
        parts = -(-rows // share)
        vectors = panel_vectors(share * self.inner)
        # Of one shard the rows of several steps follow one another: products of many rows.
        chunk = min(steps, -(-CHUNK_ROWS // rows)) if parts == 1 else 1
        wide = panel_vectors(share * chunk * self.inner_apart)
        cost = self._products(share, 1, chunk, vectors, wide, many)
        cost += share * sum(self.loops.values())
        return Division("rows" if parts > 1 else "none", parts, share, chunk, vectors, wide, cost)

    def _by_units(self, steps: int, rows: int, parts: int) -> Division:
        chunk = min(steps, -(-CHUNK_ROWS // rows))
        vectors = self._narrowed(panel_vectors(rows * self.inner), self.products, parts)
        wide = panel_vectors(rows * chunk * self.inner_apart)
        wide = self._narrowed(wide, self.apart, parts)
        cost = self._products(rows, parts, chunk, vectors, wide) + MEETING * (
            self.meetings + (2 * bool(self.lowered.early) + 2 * bool(self.lowered.late)) / chunk
        )
        for stage in self.stages:
            if isinstance(stage.step, Loop):
                share = -(-rows // parts) if stage.owner == ROWS else rows / parts
                cost += share * self.loops[id(stage.step)]
        return Division("units", parts, rows, chunk, vectors, wide, cost)

    def _products(
        self, rows: int, parts: int, chunk: int, vectors: int, wide: int, many: int = 1
    ) -> float:
        """The cost of a step's products to the thread that has most of them."""
        every_step = [*self.products, *(self.apart if chunk == 1 else ())]
        weights = sum({p.weight: p.k * p.n * self.itemsize for p in every_step}.values())
        near = FAR if many * weights < host.shared_cache() else BEYOND
        near = NEAR if weights <= parts * CACHE else near
        apart, total = near if chunk == 1 else FAR / chunk, 0.0
        for p in self.products:
            total += p.k * self._columns(p, vectors, parts) * max(p.inner * rows, near)
        for p in self.apart:
            total += p.k * self._columns(p, wide, parts) * max(p.inner * rows, apart)
        return total

    def _columns(self, p: Product, vectors: int, parts: int) -> int:
        """The most columns of a product that one of several threads has."""
        width = vectors * self.lanes
        return min(p.n, math.ceil(p.n / width / parts) * width)

    def _narrowed(self, vectors: int, products: Sequence[Product], parts: int) -> int:
        """The width of panels, narrower where that makes the largest part smaller."""
        widths = [v for v in (8, 4, 2) if v <= vectors]
        return min(widths, key=lambda v: sum(p.k * self._columns(p, v, parts) for p in products))


def _threads(n: int) -> str:
    return f"{n} thread{'' if n == 1 else 's'}"


def _elements(loop: Loop) -> int:
    return LOOP * len(loop.items) * math.prod(loop.space)
