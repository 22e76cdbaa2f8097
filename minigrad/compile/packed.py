"""One call of the loops over packed steps (packing.py): what takes no part costs nothing.

The inputs of all steps are packed, and results spread over (T, B) again. Lengths differ from call
to call, so nothing is arranged ahead as it is for whole batches (prepared.py). A row's BPTT begins
at its own last step: until then both halves of its gradient's memory hold that of its last state.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..kernels import multiplying
from ..kernels.arena import address, empty
from ..kernels.index import take_rows_or_zeros
from .compiled import Compiled
from .forward import by_row, by_time
from .frame import Room
from .kernel import StepKernel, evaluate
from .layout import Buffer
from .packing import Packing
from .program import Value

Array = np.ndarray
Memory = dict[str, Array]  # by the name of a buffer


class PackedRun:
    """The loop forward on packed steps, run once. needs: the inputs whose gradient is wanted.

    outputs: the last state of each row, and the ys, zeros where a row takes no part.
    """

    def __init__(
        self, compiled: Compiled, inputs: Sequence[Array], packing: Packing, needs: tuple[int, ...]
    ):
        program = compiled.program
        self.compiled, self.inputs, self.packing, self.needs = compiled, inputs, packing, needs
        self.carries = len(program.carry)
        self.wanted = tuple(i for i in needs if i >= self.carries)
        training = compiled.training(self.wanted, (), packed=True) if needs else None
        self.loop = training or compiled.inference(packed=True)
        self.weights = {v: inputs[compiled.order[v]] for v in program.weights}

    def forward(self) -> None:
        compiled, inputs, packing, loop = self.compiled, self.inputs, self.packing, self.loop
        rows = packing.rows
        self.memory = memory = _block(
            (b.name, (*packing.lines(b), b.size), b.dtype)
            for b in (*loop.carry, *(loop.of[v] for v in loop.stored))
        )
        for buffer, first in zip(loop.carry, inputs, strict=False):
            states = memory[buffer.name].reshape(-1, buffer.size)
            states[:rows] = packing.sort(first.reshape(rows, buffer.size))
        for v, buffer in loop.given.items():
            x = inputs[compiled.order[v]]
            if v.role == "x":
                memory[buffer.name] = packing.pack(by_row(x, v, rows))
            else:
                by_rows = by_row(x[None], v, rows).reshape(rows, v.size)
                memory[buffer.name] = packing.sort(by_rows)
        _run(loop.kernel, memory, self.weights, packing, backwards=False)
        self.outputs = [
            packing.unsort(self._last(b)).reshape(first.shape)
            for b, first in zip(loop.carry, inputs, strict=False)
        ]
        for v in loop.program.ys:
            buffer = loop.of[v]
            y = packing.unpack(memory[buffer.name], left=buffer.at == "after")
            self.outputs.append(by_time(y, v, rows))

    def forget(self) -> list[Array]:
        """Lets go of the outputs, and returns them."""
        outputs, self.outputs = self.outputs, []
        return outputs

    def _last(self, buffer: Buffer) -> Array:
        """The states that rows end with, in their sorted order."""
        states, packing = self.memory[buffer.name], self.packing
        if buffer.at == "even":
            return states[packing.counts % 2, np.arange(packing.rows)]
        return states[packing.ends]

    def owners(self) -> list[Array]:
        """The pieces of memory that BPTT reads."""
        return list({id(_root(a)): _root(a) for a in self.memory.values()}.values())


class PackedBack:
    """BPTT behind one run forward, whose memory it leaves as it is.

    arriving: output -> its gradient. input_gradients: input -> its gradient.
    """

    def __init__(self, forward: PackedRun, arriving: Mapping[int, Array]):
        self.forward, self.packing = forward, forward.packing
        compiled, packing, rows = forward.compiled, forward.packing, forward.packing.rows
        program, c = compiled.program, forward.carries
        with_ys = any(k >= c for k in arriving)
        self.loop = loop = compiled.backward(forward.wanted, with_ys, (), packed=True)
        stored = [(loop.of[v].name, (packing.size, v.size), v.dtype) for v in loop.stored]
        sums = [(b.name, (rows, b.size), b.dtype) for b in loop.sums.values()]
        states = [(b.name, (2, rows, b.size), b.dtype) for b in loop.carry]
        self.memory = memory = {**forward.memory, **_block([*stored, *sums, *states])}
        for k, buffer in enumerate(loop.carry):
            g = arriving.get(k)
            memory[buffer.name][:] = 0 if g is None else packing.sort(g.reshape(rows, buffer.size))
        floats = [k for k, v in enumerate(program.ys, c) if v.dtype.kind == "f"]
        for k, v in zip(floats, loop.dys, strict=False):
            name = loop.lowering.places[v].buffer.name
            if k in arriving:
                memory[name] = packing.pack(by_row(arriving[k], v, rows))
            else:
                memory[name] = np.zeros((packing.size, v.size), v.dtype)
        for buffer in loop.sums.values():
            memory[buffer.name].fill(0)
        known = _run(loop.kernel, memory, forward.weights, packing, backwards=True)
        self._sum_up(known)
        found = {w: known[v] for w, v in loop.program.sums.items()}
        for x, v in zip(loop.xs, loop.program.ys, strict=True):
            found[x] = by_time(packing.unpack(memory[loop.of[v].name]), v, rows)
        for v, buffer in zip(program.carry, loop.carry, strict=True):
            found[v] = packing.unsort(memory[buffer.name][packing.steps % 2])
        self.input_gradients = {
            i: np.asarray(found[program.inputs[i]]).reshape(forward.inputs[i].shape)
            for i in forward.needs
            if program.inputs[i] in found
        }

    def _sum_up(self, known: dict[Value, Any]) -> None:
        """Adds the "after" values to `known`."""
        rows = self.packing.rows
        for v, factors in zip(self.loop.products, self.loop.factors, strict=True):
            a, b = (self._all_steps(f) for f in factors)
            known[v] = multiplying.matmul(a.T, b)
        for v, buffer in self.loop.sums.items():
            x = v.inputs[0]
            # In the order of the batch, in which rows that all take part would be added.
            total = by_time(self.packing.unsort(self.memory[buffer.name])[None], x, rows)[0]
            if v.params["axis"] == ():
                known[v] = total
            else:
                known[v] = np.add.reduce(total, axis=x.batch, keepdims=True).reshape(v.shape)
        evaluate(self.loop.after, known, rows)

    def _all_steps(self, factor: Any) -> Array:
        """A factor of a product over all steps; where no row takes part it adds nothing."""
        buffer, offset, sizes, strides = factor
        array, packing = self.memory[buffer.name], self.packing
        if buffer.at == "before":
            array = array[: packing.size]
            lasts = array[packing.points]  # beside gradients of 0
            if not np.isfinite(lasts).all():
                array = array.copy()
                array[packing.points] = 0
        elif buffer.at == "after":
            array = take_rows_or_zeros(array, packing.left)
        else:
            array[packing.points] = 0  # nobody reads there, so it is no change to BPTT run again
        item = array.itemsize
        seen = np.ndarray(
            (packing.size, *sizes), array.dtype, array, offset * item,
            (buffer.size * item, *(s * item for s in strides)),
        )  # fmt: skip
        return seen.reshape(packing.size * sizes[0], math.prod(sizes[1:]))


def _block(wanted: Iterable[tuple[str, tuple[int, ...], Any]]) -> Memory:
    """New arrays in one piece of memory."""
    room = Room(0)
    spans = [(name, room.add(shape, dtype)) for name, shape, dtype in wanted]
    pieces = [empty((room.size,), np.uint8)]
    return {name: span.of(pieces) for name, span in spans}


def _root(array: Array) -> Array:
    return array.base if isinstance(array.base, np.ndarray) else array


def _run(
    kernel: StepKernel, memory: Memory, weights: Mapping[Value, Array], packing: Packing,
    backwards: bool,
) -> dict[Value, Any]:  # fmt: skip
    """Runs all steps; returns what was known ahead of the loop."""
    known: dict[Value, Any] = dict(weights)
    evaluate(kernel.lowered.before, known, packing.rows)
    head, division = kernel.head(packing.steps, packing.rows, backwards, False, taken=packing.taken)
    scratch = _block(
        (b.name, ((division.chunk if b.at == "chunk" else 1) * packing.rows, b.size), b.dtype)
        for b in kernel.lowered.scratch
    )
    arrays = [
        np.ascontiguousarray(known[v]) if v is not None
        else scratch[name] if name in scratch else memory[name]
        for name, v in kernel.order
    ]  # fmt: skip
    for v, apart in kernel.lowered.packed:
        arrays.append(_panels(known[v], division.wide if apart else division.vectors))
    variant = kernel.variant(division.kind == "units")
    where = packing.starts, packing.bounds(division.parts)
    words = [*head, *map(address, arrays), *variant.sizes, *map(address, where)]
    block = np.array(words, np.int64)
    call, arguments = variant.call(address(block), division.parts)
    call(*arguments)
    return known


def _panels(b: Array, vectors: int) -> Array:
    """The factor of a product, packed."""
    panels = multiplying.panels_of(b.shape, b.dtype, vectors)
    pack, table = multiplying.packing(b.dtype)
    to = empty((panels.nbytes,), np.uint8)
    pack(table, address(to), panels.step, panels.width, address(b), *b.strides, *b.shape)
    return to
