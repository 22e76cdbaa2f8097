"""Everything about a call of a compiled scan that its sizes decide: worked out once for each.

An Arrangement says for one number of steps and rows where each array of the loop forward lies, with
which words its kernel is called, and what is copied before and after; a BackArrangement says the
same of BPTT and of the sums behind it. Neither holds an array: `prepared.py` puts them on those of
a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..kernels import multiplying
from .ahead import Ahead
from .bptt import Backward
from .codegen import TEAM
from .compiled import Compiled
from .forward import is_by_row
from .frame import Room, Span, Words
from .kernel import StepKernel, rows_of
from .layout import Buffer
from .packing import NUMBERS, room_for
from .program import Value, params_for

Array = np.ndarray
KEPT, PASSING, OWN = 1, 2, 3  # pieces: what BPTT reads, what a loop alone needs; results from 3 on


class Frame:
    """The call of one kernel: its words, and which products' factors are packed before.

    places: buffer -> where it lies. room: for scratch and panels. index: the piece that says where
    packed steps lie, which a kernel over such is told, and of its shards. told: the word for the
    number of steps.
    """

    def __init__(
        self, kernel: StepKernel, places: dict[str, Span], ahead: Ahead, room: Room, steps: int,
        rows: int, backwards: bool, reverse: bool, many: int, index: int,
    ):  # fmt: skip
        head, division = kernel.head(steps, rows, backwards, reverse, many)
        self.kernel, self.parts = kernel.variant(division.kind == "units"), division.parts
        self.told = len(TEAM) if division.kind == "units" else 0
        int64 = np.dtype(np.int64)
        self.bounds = room.add((division.parts + 1,), int64) if kernel.packed else None
        self.words = words = Words()
        for b in kernel.lowered.scratch:
            shape = (division.chunk * rows if b.at == "chunk" else rows, b.size)
            places[b.name] = room.add(shape, b.dtype)
        for number in head:
            words.add(number)
        for name, value in kernel.order:
            words.place(places[name] if value is None else ahead.contiguous(value, room))
        packed: list[tuple[Span, multiplying.Panels, Span]] = []
        for value, apart in kernel.lowered.packed:
            span = ahead.sources[value].span
            vectors = division.wide if apart else division.vectors
            panels = multiplying.panels_of(span.shape, span.dtype, vectors)
            to = room.add((panels.nbytes,), np.dtype(np.uint8))
            packed.append((span, panels, to))
            words.place(to)
        for number in self.kernel.sizes:
            words.add(number)
        if self.bounds is not None:
            words.place(Span(index, NUMBERS * int64.itemsize, (steps + 2,), int64))
            words.place(self.bounds)
        self.called = len(words)  # the words of the kernel; then the arguments of each packing
        self.pack: Any = None
        for span, panels, to in packed:
            self.pack, table = multiplying.packing(span.dtype)
            words.add(table)
            words.place(to)
            words.add(panels.step)
            words.add(panels.width)
            words.place(span)
            row, column = span.strides or (span.shape[1] * span.dtype.itemsize, span.dtype.itemsize)
            for number in (row, column, *span.shape):
                words.add(number)
        self.read = words.pieces()  # whose addresses are asked for


PACKING = 9  # arguments of it


class Arrangement:
    """Of the loop forward, for the inputs of a call: their strides, and which need a gradient.

    packed: whether it runs over packed steps, in room for as many as there are; `own` begins with
    where they lie then, and all else that comes in and goes out is moved (packed.py).
    """

    def __init__(
        self, compiled: Compiled, arrays: Sequence[Array], steps: int, rows: int, reverse: bool,
        needs: tuple[int, ...], shown: tuple[str, ...], many: int, packed: bool,
    ):  # fmt: skip
        program = compiled.program
        self.many, self.packed = many, packed  # calls that run side by side
        self.compiled, self.steps, self.rows, self.reverse = compiled, steps, rows, reverse
        self.needs, self.shown, self.carries = needs, shown, len(program.carry)
        self.wanted = tuple(i for i in needs if i >= self.carries)
        training = compiled.training(self.wanted, shown, packed) if needs else None
        self.loop = loop = training or compiled.inference(packed)
        kept, passing = Room(KEPT), Room(PASSING)
        given_out = set() if packed else {loop.of[v].name for v in loop.shown}
        self.own: list[tuple[tuple[int, ...], Any]] = []  # arrays that are given out
        if packed:
            self.own.append(((room_for(steps, rows),), np.dtype(np.int64)))
        self.places: dict[str, Span] = {}
        for buffer in (*loop.carry, *(loop.of[v] for v in loop.stored)):
            shape = rows_of(buffer, steps), rows, buffer.size
            if buffer.name in given_out:
                self.places[buffer.name] = Span(OWN + len(self.own), 0, shape, buffer.dtype)
                self.own.append((shape, buffer.dtype))
            else:
                self.places[buffer.name] = (kept if needs else passing).add(shape, buffer.dtype)
        self.first_input = OWN + len(self.own)
        self.brought: list[tuple[int, Value, bool, Span]] = []  # inputs that are copied into rows
        for v, buffer in loop.given.items():
            i, timed = compiled.order[v], v.role == "x"
            size = (steps, rows, v.size) if timed else (rows, v.size)
            if is_by_row(v) and arrays[i].flags.c_contiguous and not packed:
                self.places[buffer.name] = Span(self.first_input + i, 0, size, v.dtype)
            else:
                span = self.places[buffer.name] = kept.add(size, v.dtype)
                self.brought.append((i, v, timed, span))
        self.ahead = self.ahead_of(loop.kernel, arrays, passing)
        self.frame = Frame(
            loop.kernel, self.places, self.ahead, passing, steps, rows, False, reverse, many, OWN
        )
        self.kept, self.passing = kept.size, passing.size
        self.starts: list[Span] = []  # where the loop reads the first state, and leaves the last
        self.ends: list[Span] = []
        self.states: list[Span] = []  # all of them
        for i, buffer in enumerate(loop.carry):
            whole, shape = self.places[buffer.name], arrays[i].shape
            self.states.append(whole)
            paired = buffer.at == "even"
            first = steps if reverse and not paired else 0
            last = steps % 2 if paired else 0 if reverse else steps
            self.starts.append(whole.row(first, shape))
            self.ends.append(whole.row(last, shape))
        self.ys = [(v, self.timed(loop.of[v], self.places)) for v in loop.program.ys]
        self.taps = {
            n: (v, self.timed(loop.of[v], self.places)) for n, v in loop.program.taps.items()
        }
        entering = {v: k for k, v in enumerate(program.carry)}
        self.entering = {n: entering[v] for n, v in program.taps.items() if v in entering}
        empty = {0} | {p for p, room in ((KEPT, kept), (PASSING, passing)) if not room.size}
        self.addressed = sorted(self.frame.read - empty)
        self._back: dict[bool, BackArrangement] = {}

    def ahead_of(self, kernel: StepKernel, arrays: Sequence[Array], room: Room) -> Ahead:
        inputs = {
            v: (self.first_input + i, arrays[i])
            for i, v in enumerate(self.compiled.program.inputs)
            if v.role == "weight"
        }
        return Ahead(kernel.lowered.before, inputs, self.rows, room)

    def timed(self, buffer: Buffer, places: dict[str, Span]) -> Span:
        """The steps (T, B, size) that a buffer means, out of its array; all of it if packed."""
        span = places[buffer.name]
        if buffer.at == "t" or self.packed:
            return span
        first = (buffer.at == "before") == self.reverse
        return span.rows(1 if first else 0, self.steps)

    def back(self, with_ys: bool, arrays: Sequence[Array]) -> BackArrangement:
        """Of BPTT. arrays: the inputs."""
        if with_ys not in self._back:
            loop = self.compiled.backward(self.wanted, with_ys, self.shown, self.packed)
            self._back[with_ys] = BackArrangement(self, loop, arrays)
        return self._back[with_ys]


class Factor(NamedTuple):
    """A factor (T * B, K), and what is copied there first, if it does not lie so.

    at, rows: of packed steps, which of its rows are read, and the array; taken: where these are
    gathered to, if they lie apart.
    """

    span: Span
    copied: Span | None
    at: str
    rows: Span
    taken: Span | None


class BackArrangement:
    """Of BPTT, behind the loop of an Arrangement.

    Its pieces follow those of the loop forward: the memory that it alone needs, the arrays that it
    gives out, and the gradients of the ys that came.
    """

    def __init__(self, front: Arrangement, loop: Backward, arrays: Sequence[Array]):
        self.front, self.loop = front, loop
        steps, rows, reverse = front.steps, front.rows, front.reverse
        self.block = front.first_input + len(arrays)
        room = Room(self.block)
        places = dict(front.places)
        for buffer in loop.carry:
            places[buffer.name] = room.add((2, rows, buffer.size), buffer.dtype)
        self.states = [places[b.name] for b in loop.carry]
        self.starts = [places[b.name].row(0, arrays[i].shape) for i, b in enumerate(loop.carry)]
        self.ends = [
            places[b.name].row(steps % 2, arrays[i].shape) for i, b in enumerate(loop.carry)
        ]
        given_out = {*loop.program.ys, *loop.program.taps.values()}
        self.own: list[tuple[tuple[int, ...], Any]] = []
        for v in loop.stored:
            shape = steps, rows, v.size
            if v in given_out:
                places[loop.of[v].name] = Span(self.block + 1 + len(self.own), 0, shape, v.dtype)
                self.own.append((shape, v.dtype))
            else:
                places[loop.of[v].name] = room.add(shape, v.dtype)
        first_dy = self.block + 1 + len(self.own)
        floats = [
            k for k, v in enumerate(front.loop.program.ys, front.carries) if v.dtype.kind == "f"
        ]
        self.dys: list[tuple[int, Value, Span]] = []
        for k, v in enumerate(loop.dys):
            name = loop.lowering.places[v].buffer.name
            places[name] = Span(first_dy + k, 0, (steps, rows, v.size), v.dtype)
            self.dys.append((floats[k], v, places[name]))
        begin = room.size
        for buffer in loop.sums.values():
            places[buffer.name] = room.add((rows, buffer.size), buffer.dtype)
        self.zeroed = Span(self.block, begin, (room.size - begin,), np.dtype(np.uint8))
        self.ahead = front.ahead_of(loop.kernel, arrays, room)
        self.frame = Frame(
            loop.kernel, places, self.ahead, room, steps, rows, True, reverse, front.many, OWN
        )
        self.products = [
            (v, self._rows_of(a, places, room), self._rows_of(b, places, room))
            for v, (a, b) in zip(loop.products, loop.factors, strict=True)
        ]
        self.sums = [(v, places[b.name]) for v, b in loop.sums.items()]
        there = {*loop.products, *loop.sums}
        self.after = [(v, _in_order(v, rows)) for v in loop.after if v not in there]
        self.outputs = [
            (x, v, places[loop.of[v].name]) for x, v in zip(loop.xs, loop.program.ys, strict=True)
        ]
        self.inputs = [(i, front.compiled.program.inputs[i]) for i in front.needs]
        self.taps = {name: places[loop.of[v].name] for name, v in loop.program.taps.items()}
        self.size = room.size
        known = {0, *front.addressed}
        self.addressed = sorted(p for p in self.frame.read - known if p < self.block)

    def _rows_of(self, factor: Any, places: dict[str, Span], room: Room) -> Factor:
        """A factor of a product over all steps, as (T * B, K)."""
        buffer, offset, sizes, strides = factor
        steps, rows = self.front.steps, self.front.rows
        span = whole = self.front.timed(buffer, places)
        taken = None
        if self.front.packed and buffer.at == "after":
            span = taken = room.add((steps, rows, buffer.size), span.dtype)
        item = span.dtype.itemsize
        row = buffer.size * item
        seen = span._replace(
            offset=span.offset + offset * item, shape=(steps, rows, *sizes),
            strides=(rows * row, row, *(s * item for s in strides)),
        )  # fmt: skip
        memory = np.empty(steps * rows * row, np.uint8)  # never touched: for the strides alone
        sample = seen._replace(piece=0, offset=offset * item).of([memory])
        flat = sample.reshape(steps * rows * sizes[0], -1)
        if np.may_share_memory(flat, memory):
            flat_span = seen._replace(shape=flat.shape, strides=flat.strides)
            return Factor(flat_span, None, buffer.at, whole, taken)
        return Factor(room.add(flat.shape, span.dtype), seen, buffer.at, whole, taken)


def _in_order(v: Value, rows: int) -> bool:
    """Whether v is its input in another shape, element for element."""
    if v.op is None or not v.is_view:
        return False
    places = np.arange(v.inputs[0].size_here).reshape(v.inputs[0].shape)
    return np.array_equal(v.op.forward([places], params_for(v, rows)).ravel(), places.ravel())
