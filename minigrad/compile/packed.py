"""One call of the loops over packed steps (packing.py): what takes no part costs nothing.

The inputs of all steps are packed, and results spread over (T, B) again. What takes part is another
in every call; all that depends on it is found out by calls themselves, so that these run again as
they are. A row's BPTT begins at its own last step: until then both halves of its gradient's memory
hold that of its last state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ..kernels.arena import address, empty
from .arrangement import OWN, Arrangement, BackArrangement, Factor
from .forward import by_row
from .frame import Span
from .packing import LAST, SIZE, STEPS, Of, Packing, Places, Rows
from .prepared import Back, Call, Prepared, given_out
from .program import Value

Array = np.ndarray


class PackedRun(Prepared):
    """The loop forward on packed steps.

    outputs: the last state of each row, and the ys, zeros where a row takes no part.
    """

    def __init__(self, at: Arrangement, inputs: Sequence[Array], packing: Packing):
        self.packing = packing
        super().__init__(at, inputs)

    @cached_property
    def places(self) -> Places:
        return Places(self.pieces[OWN], self.at.steps, self.at.rows)

    @property
    def reads(self) -> list[Array]:
        return [*self.inputs, self.packing.mask]

    def _around(self, run: Call) -> None:
        at, calls, places, where = self.at, self.step_calls, self.places, self.beginnings
        told = [address(self.words) + 8 * at.frame.told, STEPS, 1]
        found = places.found(_flat(self.packing.mask, calls), self.packing.reverse)
        moved: list[Call] = []
        for i, v, timed, span in at.brought:
            x = by_row(self.inputs[i] if timed else self.inputs[i][None], v, at.rows)
            rows = _rows(x, at.steps * at.rows if timed else at.rows, calls)
            call, count = places.taken(rows, Of.TAKE if timed else Of.ORDER, span.begins(where))
            moved.append(call)
            told += [count, SIZE, 1] if timed else []
        for span, first in zip(at.states, self.inputs, strict=False):
            rows = _rows(first, at.rows, calls)
            moved.append(places.taken(rows, Of.ORDER, span.begins(where))[0])
        bounds = at.frame.bounds.begins(where)  # type: ignore[union-attr]
        calls += [found, places.told(bounds, at.frame.parts, told), *moved, run]
        for span, buffer, first in zip(at.states, at.loop.carry, self.inputs, strict=False):
            index = Of.PAIRED if buffer.at == "even" else Of.FINALS
            final = np.empty(first.shape, span.dtype)
            calls.append(places.taken(_lines(span, where), index, address(final))[0])
            self.outputs.append(final)
        for v, span in at.ys:
            index = Of.PUT_LEFT if at.loop.of[v].at == "after" else Of.PUT
            y = _spread(places, span, where, index, calls)
            self.outputs.append(given_out(v, y, at.rows, calls))


class PackedBack(Back):
    """BPTT behind one run forward, whose memory it leaves as it is."""

    def __init__(
        self, forward: Prepared, arriving: Mapping[int, Array | None], sums: bool = True
    ):  # fmt: skip
        self.places = Places(forward.pieces[OWN], forward.at.steps, forward.at.rows)
        self.told: list[int] = []
        self.lowered: list[Call] = []
        super().__init__(forward, arriving, sums)
        frame = self.runs[0]
        first = address(self.words) + 8 * frame.told
        self.told += [first, STEPS, 1, first + 8 * 2, LAST, 1]
        bounds = frame.bounds.begins(self.beginnings)  # type: ignore[union-attr]
        self.calls.insert(0, self.places.told(bounds, frame.parts, self.told))

    def _rows(self, v: Value, g: Array) -> Array:
        steps = self.at.steps * self.at.rows
        packed = empty((steps, v.size), v.dtype)
        rows = _rows(by_row(g, v, self.at.rows), steps, self.brought)
        call, count = self.places.taken(rows, Of.TAKE, address(packed))
        self.brought.append(call)
        self.told += [count, SIZE, 1]
        return packed

    def _begin(self, back: BackArrangement, arriving: Mapping[int, Array | None]) -> None:
        for k, halves in enumerate(back.states):
            g = arriving.get(k)
            if g is None:
                self.calls.append((halves.of(self.pieces).fill, (0,)))
                continue
            self.output_gradients[k] = g
            rows = _rows(g, self.at.rows, self.calls)
            self.calls.append(self.places.taken(rows, Of.TWICE, halves.begins(self.beginnings))[0])

    def _products(self, back: BackArrangement, call: Any = None) -> dict[Value, Array]:
        ready: set[tuple[int, int]] = set()
        for _, *factors in back.products:
            for factor in factors:
                place = factor.rows[:2]
                if place not in ready:
                    self._ready(factor)
                ready.add(place)
        found = super()._products(back, self._product)
        self.calls += self.lowered
        return found

    def _ready(self, factor: Factor) -> None:
        """Where no row takes part a factor adds nothing to a product over all steps."""
        places, calls = self.places, self.calls
        rows = _lines(factor.rows, self.beginnings)
        if factor.taken is not None:
            call, count = places.taken(rows, Of.LEFT, factor.taken.begins(self.beginnings))
            self.told += [count, SIZE, 1]
            calls.append(call)
        elif factor.at == "before":  # the last states of rows, which BPTT reads
            spare = empty((self.at.rows, rows.width), np.uint8)
            places.jobs.append(spare)
            calls.append(places.at_points("lift", rows, address(spare)))
            self.lowered.append(places.at_points("lower", rows, address(spare)))
        else:
            calls.append(places.at_points("clear", rows))

    def _product(self, a: Array, b: Array, y: Array) -> Call:
        times = len(a) // (self.at.steps * self.at.rows)
        call, told = self.places.product(a, b, y, times)
        self.told += told
        return call

    def _summed(self, v: Value, span: Span, total: Array | None = None) -> Array:
        total = np.empty(span.shape, span.dtype)
        rows = _lines(span, self.beginnings)
        self.calls.append(self.places.taken(rows, Of.RANK, address(total))[0])
        return super()._summed(v, span, total)

    def _whole(self, span: Span) -> Array:
        return _spread(self.places, span, self.beginnings, Of.PUT, self.calls)

    def _first(self, back: BackArrangement, k: int) -> Array:
        span = back.states[k]
        first = np.empty(self.inputs[k].shape, span.dtype)
        rows = _lines(span, self.beginnings)
        self.calls.append(self.places.taken(rows, Of.FIRSTS, address(first))[0])
        return first


def _flat(x: Array, calls: list[Call]) -> Array:
    """x without gaps: itself, or a copy."""
    if x.flags.c_contiguous:
        return x
    y = empty(x.shape, x.dtype)
    calls.append((y.__setitem__, (..., x)))
    return y


def _rows(x: Array, count: int, calls: list[Call]) -> Rows:
    """An array that comes in as so many rows."""
    flat = _flat(x, calls)
    return Rows(address(flat), count, flat.nbytes // count)


def _lines(span: Span, beginnings: Sequence[int]) -> Rows:
    """The rows of an array of ours."""
    *lead, size = span.shape
    return Rows(span.begins(beginnings), math.prod(lead), size * span.dtype.itemsize)


def _spread(
    places: Places, packed: Span, beginnings: Sequence[int], index: int, calls: list[Call]
) -> Array:
    """Packed rows as (T, B, size), zeros where a row takes no part."""
    whole = empty((places.time, places.rows, packed.shape[-1]), packed.dtype)
    calls.append(places.taken(_lines(packed, beginnings), index, address(whole))[0])
    return whole
