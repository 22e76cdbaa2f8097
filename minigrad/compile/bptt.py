"""The loop of BPTT, and the sums over time behind it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.matmul import matmul as product
from .forward import Forward, by_row, by_time
from .kernel import StepKernel, evaluate, time_slice
from .layout import Buffer, Place, whole
from .lower import Lowering
from .passes.sinking import sunk
from .pipeline import Done
from .program import AFTER, STEP, Program, Value
from .storage import Storage
from .views import place_of

Array = np.ndarray


class Backward:
    """The loop of BPTT, and the sums over time behind it. done: what passes made of the step."""

    def __init__(self, program: Program, forward: Forward, name: str, done: list[Done]):
        self.program, self.forward, self.done = program, forward, done
        self.xs = program.gradients_of
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
        for v in program.kept.values():
            self._store(v, f"g{len(self.stored)}")
        self.products = sunk(program)
        self._add_up()
        self.after = [v for v in program.body if v.stage == AFTER]
        self.lowering.outputs += carries  # last: a value lives in the first of its places
        lowered = self.lowering.run()
        self.inside = {*self.lowering.body} - {*self.of}  # whose views are followed
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

    def _add_up(self) -> None:
        """Other sums over time than products add up in the loop."""
        self.sums: dict[Value, Buffer] = {}
        for v in self.program.body:
            x = v.inputs[0] if v.stage == AFTER and v not in self.products else None
            if type(x) is Value and x.stage == STEP:
                buffer = Buffer(f"sum{len(self.sums)}", x.size, x.dtype)
                self.sums[v] = buffer
                self.arrays.append(buffer)
                self.lowering.added.append((x, whole(buffer, x.row)))

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

    def _factor(self, v: Value) -> tuple[Buffer, int, tuple[int, ...], tuple[int, ...]]:
        """Of a factor (K, B) or (B, N): (buffer, offset, sizes and strides within a row)."""
        root, place = place_of(v, self.inside)
        buffer = self.of[root] if root in self.of else self.lowering.places[root].buffer
        assert v.batch is not None
        inner = [v.batch, *(a for a in range(len(place.shape)) if a != v.batch)]
        sizes = tuple(place.shape[a] for a in inner)
        return buffer, place.offset, sizes, tuple(place.strides[a] for a in inner)

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
