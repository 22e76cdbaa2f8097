"""The loop forward of a compiled step, and the arrays it fills."""

from __future__ import annotations

import numpy as np

from .kernel import StepKernel
from .layout import Buffer, Place, whole
from .lower import Lowering
from .pipeline import Done
from .program import Program, Value

Array = np.ndarray


class Forward:
    """The loop forward, which stores what BPTT reads.

    done: what passes made of the step. packed: whether it runs over packed steps.
    """

    def __init__(self, program: Program, name: str, done: list[Done], packed: bool = False):
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
        lowering = Lowering(program, places)
        lowering.outputs = outputs
        self.kernel = StepKernel(f"{name}_forward", program, lowering.run(), self.arrays, packed)
        self.of |= {old: self.of[now] for old, now in program.kept.items()}  # by BPTT's names

    def _input(self, v: Value, buffer: Buffer, places: dict[Value, Place]) -> None:
        places[v] = whole(buffer, v.row)
        self.arrays.append(buffer)
        self.of[v] = self.given[v] = buffer


def by_time(array: Array, v: Value, rows: int) -> Array:
    """An array of rows (T, B, size) as the cell would have stacked v, (T, ...)."""
    assert v.batch is not None
    if is_by_row(v):
        return array.reshape(len(array), rows, *v.row[1:])
    apart = array.reshape(len(array), rows, *v.row)
    return np.moveaxis(apart, 1, v.batch + 1).reshape(len(array), *full_shape(v, rows))


def is_by_row(v: Value) -> bool:
    """Whether stacked values (T, ...) are rows (T, B, size) as they are."""
    return v.batch == 0 and v.many == 1


def by_row(array: Array, v: Value, rows: int) -> Array:
    """The other way round: a view of stacked values (T, ...) as rows (T, B, ...)."""
    assert v.batch is not None
    if is_by_row(v):
        return array
    at = v.batch + 1
    apart = array.reshape(*array.shape[:at], rows, v.many, *array.shape[at + 1 :])
    return np.moveaxis(apart, at, 1)


def full_shape(v: Value, rows: int) -> tuple[int, ...]:
    """The shape of v with `rows` rows."""
    assert v.batch is not None
    return (*v.row[: v.batch], rows * v.many, *v.row[v.batch + 1 :])
