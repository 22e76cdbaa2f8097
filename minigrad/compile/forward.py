"""The loop forward of a compiled step, and the arrays it fills."""

from __future__ import annotations

from typing import Any

import numpy as np

from .kernel import StepKernel, evaluate, rows_of, time_slice
from .layout import Buffer, Place, whole
from .lower import Lowering
from .pipeline import Done
from .program import Program, Value
from .storage import Storage

Array = np.ndarray


class Forward:
    """The loop forward, which stores what BPTT reads. done: what passes made of the step."""

    def __init__(self, program: Program, name: str, done: list[Done]):
        self.program, self.done = program, done
        self.kept = list(program.kept.values())
        places: dict[Value, Place] = {}
        self.arrays: list[Buffer] = []
        self.of: dict[Value, Buffer] = {}  # value -> the array over time that holds it
        self.given: dict[Value, Buffer] = {}  # input -> the array that the caller gives
        outputs: list[tuple[Value, Place]] = []
        self.carry: list[Buffer] = []
        pairs = zip(program.carry, program.carry_out, program.whole_carries(), strict=True)
        for k, (before, after, full) in enumerate(pairs):
            ats = ("before", "after") if full else ("even", "odd")
            first, last = (
                Buffer(
                    f"carry{k}", before.size, before.dtype, at, comment=before.name or after.name
                )
                for at in ats
            )
            self.carry.append(first)
            places[before] = whole(first, before.row)
            outputs.append((after, whole(last, after.row)))
            self.arrays.append(first)
            if full:
                self.of.setdefault(before, first)
                self.of.setdefault(after, last)
        for k, v in enumerate(program.xs):
            self._input(v, Buffer(f"x{k}", v.size, v.dtype, "t", comment=v.name), places)
        rows = [v for v in program.weights if v.role == "rows"]
        for k, v in enumerate(rows):
            self._input(v, Buffer(f"rows{k}", v.size, v.dtype, comment=v.name), places)
        self.stored: list[Value] = []  # values with an array of their own
        for v in dict.fromkeys([*program.ys, *self.kept, *program.taps.values()]):
            if v not in self.of or (v in program.ys and v.role in ("x", "rows")):
                buffer = Buffer(f"r{len(self.stored)}", v.size, v.dtype, "t")
                self.arrays.append(buffer)
                outputs.append((v, whole(buffer, v.row)))
                self.of[v] = buffer
                self.stored.append(v)
        self.shown = {*program.ys, *program.taps.values()}  # what the caller sees
        lowered = Lowering(program, places, outputs).run()
        self.kernel = StepKernel(f"{name}_forward", program, lowered, self.arrays)
        self.of |= {old: self.of[now] for old, now in program.kept.items()}  # by BPTT's names

    def _input(self, v: Value, buffer: Buffer, places: dict[Value, Place]) -> None:
        places[v] = whole(buffer, v.row)
        self.arrays.append(buffer)
        self.of[v] = self.given[v] = buffer

    def run(
        self,
        carry: list[Array],
        xs: list[Array],
        weights: dict[Value, Array],
        steps: int,
        rows: int,
        reverse: bool,
    ) -> Storage:
        """The memory of all arrays, filled."""
        memory = Storage()
        for before, start in zip(self.carry, carry, strict=True):
            shape = (rows_of(before, steps), rows, before.size)
            array = memory.make(before.name, shape, before.dtype)
            first = steps if reverse and before.at == "before" else 0
            array[first] = start.reshape(rows, before.size)
        for v, x in zip(self.program.xs, xs, strict=True):
            memory.put(self.given[v].name, by_row(x, v, rows))
        for v in self.program.weights:
            if v.role == "rows":
                memory.put(self.given[v].name, by_row(weights[v][None], v, rows)[0])
        inside = []
        for v in self.stored:
            place = self.of[v].name, (steps, rows, v.size), v.dtype
            if v in self.shown:
                memory.make(*place)
            else:
                inside.append(place)
        memory.block(inside)
        known: dict[Value, Any] = dict(weights)
        evaluate(self.kernel.lowered.before, known, rows)
        self.kernel.run(memory, known, steps, rows, False, reverse)
        return memory

    def final(self, memory: Storage, steps: int, reverse: bool) -> list[Array]:
        """The carry after the last step."""
        found = []
        for before in self.carry:
            last = steps % 2 if before.at == "even" else 0 if reverse else steps
            found.append(memory[before.name][last])
        return found

    def over_time(self, v: Value, memory: Storage, rows: int, reverse: bool) -> Array:
        """(T, B, ...) of a value that was stored."""
        buffer = self.of[v]
        return by_time(time_slice(buffer, memory[buffer.name], reverse), v, rows)


def by_time(array: Array, v: Value, rows: int) -> Array:
    """An array of rows (T, B, size) as the cell would have stacked v, (T, ...)."""
    assert v.batch is not None
    if v.batch == 0 and v.many == 1:
        return array.reshape(len(array), rows, *v.row[1:])
    apart = array.reshape(len(array), rows, *v.row)
    return np.moveaxis(apart, 1, v.batch + 1).reshape(len(array), *full_shape(v, rows))


def by_row(array: Array, v: Value, rows: int) -> Array:
    """The other way round: stacked values (T, ...) as contiguous rows (T, B, size)."""
    assert v.batch is not None
    if v.batch or v.many > 1:
        at = v.batch + 1
        apart = array.reshape(*array.shape[:at], rows, v.many, *array.shape[at + 1 :])
        array = np.moveaxis(apart, at, 1)
    return np.ascontiguousarray(array)


def full_shape(v: Value, rows: int) -> tuple[int, ...]:
    """The shape of v with `rows` rows."""
    assert v.batch is not None
    return (*v.row[: v.batch], rows * v.many, *v.row[v.batch + 1 :])
