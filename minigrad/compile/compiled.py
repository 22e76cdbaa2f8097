"""Compiled: what the compiler makes of one traced step, each kernel when it is first needed.

It holds no arrays and no Tensors: the steps of all calls with the same trace share it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..kernels.matmul import matmul as product
from . import passes
from .kernel import StepKernel, evaluate, rows_of, time_slice
from .layout import Buffer, Place, view, whole
from .lower import Lowering
from .program import AFTER, STEP, Program, Value
from .reverse import reverse
from .storage import Storage
from .trace import Trace

Array = np.ndarray


class Forward:
    """The loop forward: stores `kept` values of every step for BPTT."""

    def __init__(self, program: Program, kept: Iterable[Value], name: str):
        self.program = program
        self.kept = list(kept)
        places: dict[Value, Place] = {}
        self.arrays: list[Buffer] = []
        self.of: dict[Value, Buffer] = {}  # value -> the array over time that holds it
        self.given: dict[Value, Buffer] = {}  # input -> the array that the caller gives
        outputs: list[tuple[Value, Place]] = []
        wanted = set(self.kept) | set(program.ys)
        self.carry: list[Buffer] = []
        for k, (before, after) in enumerate(zip(program.carry, program.carry_out, strict=True)):
            full = before in wanted or after in wanted
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


class Backward:
    """The loop of BPTT, and the sums over time behind it."""

    def __init__(self, program: Program, xs: list[Value], forward: Forward, name: str):
        self.program, self.xs, self.forward = program, xs, forward
        places: dict[Value, Place] = {}
        self.arrays: list[Buffer] = []
        carries: list[tuple[Value, Place]] = []
        self.of: dict[Value, Buffer] = {}
        self.carry: list[Buffer] = []
        for k, (before, after) in enumerate(zip(program.carry, program.carry_out, strict=True)):
            of = forward.carry[k].comment
            even, odd = (
                Buffer(f"dcarry{k}", before.size, before.dtype, at, comment=of and f"d{of}")
                for at in ("even", "odd")
            )
            places[before] = whole(even, before.row)
            carries.append((after, whole(odd, after.row)))
            self.carry.append(even)
            self.arrays.append(even)
        self.dys: list[Value] = []
        self.reads: list[Value] = []
        for v in program.xs:
            if v in forward.of:
                self.reads.append(v)
                buffer = forward.of[v]
            else:
                buffer = Buffer(f"dy{len(self.dys)}", v.size, v.dtype, "t", comment="dL/dy")
                self.dys.append(v)
            places[v] = whole(buffer, v.row)
            self.arrays.append(buffer)
        self.stored: list[Value] = []
        self.lowering = Lowering(program, places, [])
        for v in (*program.ys, *program.taps.values()):
            self._store(v, f"dx{len(self.stored)}")
        self._sinks()
        self.after = [v for v in program.body if v.stage == AFTER]
        self.lowering.outputs += carries  # last: a value lives in the first of its places
        lowered = self.lowering.run()
        self.factors = [[self._factor(i) for i in v.inputs] for v in self.products]
        self.kernel = StepKernel(f"{name}_backward", program, lowered, self.arrays)

    def _store(self, v: Value, name: str) -> None:
        if v in self.of:
            return
        buffer = Buffer(name, v.size, v.dtype, "t")
        self.of[v] = buffer
        self.arrays.append(buffer)
        self.stored.append(v)
        self.lowering.outputs.append((v, whole(buffer, v.row)))

    def _sinks(self) -> None:
        """What is summed over time: products become one behind the loop, the rest adds up in it."""
        self.sums: dict[Value, Buffer] = {}
        self.products: list[Value] = []
        for v in self.program.body:
            if v.stage != AFTER or not any(i.stage == STEP for i in v.inputs if type(i) is Value):
                continue
            assert v.op is not None
            if v.op.kind == "matmul":
                self.products.append(v)
                for i in v.inputs:
                    root = self._root(i)
                    if root not in self.lowering.places or not self._timed(root):
                        self._store(root, f"g{len(self.stored)}")
            else:
                x = v.inputs[0]
                buffer = Buffer(f"sum{len(self.sums)}", x.size, x.dtype)
                self.sums[v] = buffer
                self.arrays.append(buffer)
                self.lowering.added.append((x, whole(buffer, x.row)))

    def _timed(self, root: Value) -> bool:
        return bool(self.lowering.places[root].buffer.at not in ("", "even", "odd"))

    def _root(self, v: Value) -> Value:
        """The value that v is a view of, as far down as strides describe it."""
        chain = [v]
        while v in self.lowering.body and Lowering._is_view(v):
            v = v.inputs[0]
            chain.append(v)
        place, root = whole(Buffer("", v.size, v.dtype), v.row), v
        for v in reversed(chain[:-1]):
            assert v.op is not None
            pieces = view(v.op, v.params, place)
            if len(pieces) > 1:
                root = v
            place = pieces[0][1] if len(pieces) == 1 else whole(Buffer("", v.size, v.dtype), v.row)
        return root

    def run(
        self,
        memory: Storage,
        dcarry: list[Array],
        dys: list[Array],
        weights: dict[Value, Array],
        steps: int,
        rows: int,
        reverse: bool,
    ) -> tuple[list[Array], dict[Value, Array], dict[str, Array]]:
        """(gradients of the first carry, of xs and weights, norms (T, B, 1) of states shown)."""
        memory = Storage(memory)
        memory.block((b.name, (2, rows, b.size), b.dtype) for b in self.carry)
        for buffer, g in zip(self.carry, dcarry, strict=True):
            memory[buffer.name][0] = g.reshape(rows, buffer.size)
        for v, g in zip(self.dys, dys, strict=True):
            memory.put(self.lowering.places[v].buffer.name, by_row(g, v, rows))
        for v in self.stored:
            memory.make(self.of[v].name, (steps, rows, v.size), v.dtype)
        memory.block((b.name, (rows, b.size), b.dtype) for b in self.sums.values())
        for buffer in self.sums.values():
            memory[buffer.name].fill(0)
        known: dict[Value, Any] = dict(weights)
        evaluate(self.kernel.lowered.before, known, rows)
        self.kernel.run(memory, known, steps, rows, True, reverse)
        self._sum_up(known, memory, steps, rows, reverse)
        first = [memory[b.name][steps % 2] for b in self.carry]
        found = {w: known[v] for w, v in self.program.sums.items()}
        for x, v in zip(self.xs, self.program.ys, strict=True):
            found[x] = by_time(memory[self.of[v].name], v, rows)
        taps = {name: memory[self.of[v].name] for name, v in self.program.taps.items()}
        return first, found, taps

    def _sum_up(
        self, known: dict[Value, Any], memory: Storage, steps: int, rows: int, reverse: bool
    ) -> None:
        """Adds the "after" values to `known`."""
        for v, factors in zip(self.products, self.factors, strict=True):
            a, b = (self._rows_of(f, memory, steps, rows, reverse) for f in factors)
            known[v] = product(a.T, b)
        for v, buffer in self.sums.items():
            x = v.inputs[0]
            total = memory[buffer.name]
            if v.params["axis"] == ():
                known[v] = by_time(total[None], x, rows)[0]
            elif x.batch == 0 and x.many == 1:
                known[v] = np.add.reduce(total, axis=0, keepdims=True).reshape(v.shape)
            else:
                wide = by_time(total[None], x, rows)[0]
                known[v] = np.add.reduce(wide, axis=x.batch, keepdims=True)
        evaluate(self.after, known, rows)

    def _place(self, v: Value) -> Place:
        """Where v lies for every step: in the array of what it is a view of."""
        if v in self.of:
            return whole(self.of[v], v.row)
        if v in self.lowering.body and Lowering._is_view(v):
            assert v.op is not None
            ((_, place),) = view(v.op, v.params, self._place(v.inputs[0]))
            return place
        return self.lowering.places[v]

    def _factor(self, v: Value) -> tuple[Buffer, int, tuple[int, ...], tuple[int, ...]]:
        """Of a factor (K, B) or (B, N): (buffer, offset, sizes and strides within a row)."""
        place = self._place(v)
        assert v.batch is not None
        inner = [v.batch, *(a for a in range(len(place.shape)) if a != v.batch)]
        sizes = tuple(place.shape[a] for a in inner)
        return place.buffer, place.offset, sizes, tuple(place.strides[a] for a in inner)

    def _rows_of(self, factor: Any, memory: Storage, steps: int, rows: int, reverse: bool) -> Array:
        """A factor of a product over all steps, as (T * B, K)."""
        buffer, offset, sizes, strides = factor
        array = time_slice(buffer, memory[buffer.name], reverse)
        item = array.itemsize
        row = buffer.size * item
        seen = np.ndarray(
            (steps, rows, *sizes), array.dtype, array, offset * item,
            (rows * row, row, *(s * item for s in strides)),
        )  # fmt: skip
        return seen.reshape(steps * rows * sizes[0], -1)


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


class Compiled:
    """A traced step and all that was compiled of it."""

    def __init__(self, trace: Trace, program: Program, name: str):
        self.trace, self.program, self.name = trace, program, name
        self.order = {v: k for k, v in enumerate(program.inputs)}
        self.checked: set[Any] = set()  # the code of cells that were traced twice and repeat it
        self._forward: dict[Any, Forward] = {}
        self._backward: dict[Any, Backward] = {}
        self._reverse: dict[Any, tuple[Program, list[Value]]] = {}
        for v in trace.values:
            v.tensor = None  # no array outlives its call in here

    def reverse(
        self, wanted: tuple[int, ...], with_ys: bool, states: tuple[str, ...]
    ) -> tuple[Program, list[Value]]:
        """The BPTT step for the wanted inputs (by position), and the xs among them."""
        key = wanted, with_ys, states
        if key not in self._reverse:
            inputs = [self.program.inputs[i] for i in wanted]
            program, xs = reverse(self.trace, self.program, inputs, with_ys, states)
            self._reverse[key] = passes.recompute(program, self.program).check(), xs
        return self._reverse[key]

    def inference(self) -> Forward:
        """The loop forward that keeps nothing."""
        if "infer" not in self._forward:
            program, _ = passes.forward(self.trace, self.program, [])
            self._forward["infer"] = Forward(program, [], self.name)
        return self._forward["infer"]

    def training(self, wanted: tuple[int, ...], states: tuple[str, ...]) -> Forward:
        """The loop forward that keeps what BPTT reads."""
        key = wanted, states
        if key not in self._forward:
            back, _ = self.reverse(wanted, True, states)
            own = set(self.program.inputs) | set(self.program.body)
            kept = [v for v in back.xs if v in own]
            program, new = passes.forward(self.trace, self.program, kept)
            self._forward[key] = Forward(program, [new.get(v, v) for v in kept], self.name)
            for v in kept:  # BPTT knows them by their old names
                self._forward[key].of[v] = self._forward[key].of[new.get(v, v)]
        return self._forward[key]

    def backward(self, wanted: tuple[int, ...], with_ys: bool, states: tuple[str, ...]) -> Backward:
        """The loop of BPTT."""
        key = wanted, with_ys, states
        if key not in self._backward:
            forward = self.training(wanted, states)
            program, xs = self.reverse(wanted, with_ys, states)
            program = passes.backward(self.trace, program)
            self._backward[key] = Backward(program, xs, forward, self.name)
        return self._backward[key]
