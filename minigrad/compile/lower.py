"""Lowering: the Program of a step becomes a short list of loops and products over buffers.

Elementwise ops of one shape share a loop, in which values pass from op to op in registers; only
what another loop, a product or the caller reads is stored. Views become offsets and strides; what
is joined by `concatenate` is written to its place by whoever computes it. A reduction rides on the
loop that computes its input.

The schedule is greedy, in order of the program: each op goes into the first loop that has its shape
and stands behind all that it needs from memory. What is decided about whole programs is decided by
passes (`pipeline.py`): this file follows them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..axes import canonical_axes
from ..errors import TraceError
from .layout import Buffer, Item, Place, assembly, fit, view, whole
from .passes.folding import ACCUMULATORS
from .program import BEFORE, STEP, Program, Value, used
from .views import assembles, is_view, rows_follow

Shape = tuple[int, ...]


@dataclass
class Loop:
    """for every index in `space`: the items, in order. `reduced` axes belong to folds in it."""

    space: Shape
    items: list[Item] = field(default_factory=list)
    reduced: tuple[int, ...] | None = None

    def computes(self, v: Value) -> bool:
        return any(item.value is v and not item.fold for item in self.items)


@dataclass
class Product:
    """out (+)= a @ weight for `inner` rows of k elements in each row of the batch."""

    a: Place
    weight: Value
    out: Place
    inner: int
    k: int
    n: int
    adds: bool = False


@dataclass
class Lowered:
    """What one step does, in order, and on which buffers.

    early, late: products that no state runs through, done for a chunk of steps at once, before the
    chunk (of inputs) and behind it (of stored values, for outputs).
    """

    steps: list[Loop | Product]
    early: list[Product]
    late: list[Product]
    scratch: list[Buffer]
    weights: dict[Value, Buffer]  # read element by element
    packed: list[tuple[Value, bool]]  # factors of products; whether of early or late ones
    before: list[Value]  # computed ahead of the loop


def squeeze(shape: Shape) -> Shape:
    """Without its axes of one element."""
    return tuple(n for n in shape if n != 1)


class Lowering:
    """places: where inputs lie. outputs, added: where values are to be stored, or added to."""

    def __init__(
        self,
        program: Program,
        places: dict[Value, Place],
        outputs: Sequence[tuple[Value, Place]],
        added: Sequence[tuple[Value, Place]] = (),
    ):
        self.program = program
        self.places = dict(places)  # of values in memory, once they are there
        self.steps: list[Loop | Product] = []
        self.early: list[Product] = []
        self.late: list[Product] = []
        self.scratch: list[Buffer] = []
        self.weights: dict[Value, Buffer] = {}
        self.packed: list[tuple[Value, bool]] = []
        self.where: dict[Value, int] = {}  # the step that computes a value
        self.home: dict[Value, Place] = {}  # where a computed value is stored, if it is
        self.copied: dict[Value, int] = {}  # the step that brings a product to its home
        self.items: dict[Value, Item] = {}
        self.since: dict[Value, int] = {}  # the first step that may read a view or a copy
        self.outputs, self.added = list(outputs), list(added)
        self.body = [v for v in program.body if v.stage == STEP]
        self.numbers = itertools.count()

    def run(self) -> Lowered:
        self._choose_homes()
        for v in self.body:
            self._lower(v)
        for v, place in self.outputs:
            if self.home.get(v) != place:
                self._copy(v, place)
        for v, place in self.added:
            self._add(v, place)
        before = used([*self.weights, *(w for w, _ in self.packed)])
        return Lowered(
            self.steps, self.early, self.late, self.scratch, self.weights, self.packed, before
        )

    # -- where values go ---------------------------------------------------------------------------

    def _choose_homes(self) -> None:
        computed = {v for v in self.body if not is_view(v)}
        for v, place in self.outputs:
            if v in computed and v not in self.home:
                self.home[v] = place
        for v in reversed(self.body):
            if assembles(v) and v in computed:
                assert v.op is not None
                target = self._home(v)
                shapes = [i.row for i in v.inputs]
                pieces, _, _ = assembly(v.op, v.params, shapes, target)
                for i, found in zip(v.inputs, pieces, strict=True):
                    if i in computed and i not in self.home and len(found) == 1:
                        self.home[i] = found[0][1]

    def _home(self, v: Value) -> Place:
        if v not in self.home:
            buffer = Buffer(f"s{next(self.numbers)}", v.size, v.dtype)
            self.scratch.append(buffer)
            self.home[v] = whole(buffer, v.row)
        return self.home[v]

    def _load_weight(self, v: Value) -> None:
        if v.stage != BEFORE:
            raise TraceError(f"scan: {v!r} {v.type()} is not in memory; a bug of the compiler.")
        if v.role == "op" and is_view(v):
            assert v.op is not None
            pieces = view(v.op, v.params, self._memory(v.inputs[0]))
            if len(pieces) == 1:
                self.places[v] = pieces[0][1]
                return
        buffer = Buffer(f"w{len(self.weights)}", v.size, v.dtype, rows=False, comment=v.name)
        self.weights[v] = buffer
        self.places[v] = whole(buffer, v.row)

    # -- scheduling --------------------------------------------------------------------------------

    def _loop(self, space: Shape, first: int, reduced: tuple[int, ...] | None = None) -> int:
        """The first loop of this space from step `first` on; a new one where there is none."""
        for k in range(first, len(self.steps)):
            step = self.steps[k]
            if not isinstance(step, Loop) or step.space != space:
                continue
            if reduced is None or step.reduced in (None, reduced):
                step.reduced = reduced or step.reduced
                return k
        self.steps.append(Loop(space, reduced=reduced))
        return len(self.steps) - 1

    def _lower(self, v: Value) -> None:
        assert v.op is not None
        if v.op.kind == "elementwise":
            self._elementwise(v)
        elif v.op.kind == "matmul":
            self._product(v)
        elif v.op.kind == "reduce":
            self._reduce(v)
        elif assembles(v):
            self._assemble(v)
        else:
            self._view(v)

    def _direct(self, v: Any, space: Shape, row: Shape) -> bool:
        """Whether v is computed in a loop of this space, element for element."""
        return (
            v in self.items
            and v in self.where
            and v.row == row
            and squeeze(v.row) == space
            and not self.items[v].fold
        )

    def _elementwise(self, v: Value) -> None:
        if v in self.program.onto:
            self._accumulate(v)
            return
        space = squeeze(v.row)
        first = 0
        for i in v.inputs:
            if type(i) is not Value:
                continue
            if self._direct(i, space, v.row):
                first = max(first, self.where[i])
            elif i in self.where or i in self.places:
                first = max(first, self._ready(i))
        k = self._loop(space, first)
        loop = self.steps[k]
        assert isinstance(loop, Loop)
        for i in v.inputs:
            if type(i) is Value:
                self._bring(i, loop, k, v.row)
        item = Item(v)
        if v in self.home:
            item.stores.append(self._flat(self.home[v]))
        loop.items.append(item)
        self.items[v], self.where[v] = item, k

    def _accumulate(self, v: Value) -> None:
        """v = e + product: e is stored at its place, and the product adds to that."""
        p = self.program.onto[v]
        (e,) = (i for i in v.inputs if i is not p)
        k = self.where[p]
        product = self.steps[k]
        assert isinstance(product, Product)
        home = self._home(v)
        self.items[e].stores.append(self._flat(home))
        self.scratch.remove(product.out.buffer)
        product.out, product.adds, self.where[v] = home, True, k

    def _ready(self, v: Value) -> int:
        if v in self.where:
            return self.where[v] + 1
        return self.since.get(v, 0)

    def _bring(self, i: Value, loop: Loop, k: int, row: Shape) -> None:
        """Makes input i known in the loop: computed there, or loaded."""
        if i in self.where and self.where[i] == k and loop.computes(i):
            return
        place = self._memory(i)
        loads = self._spread(place, row)
        known = any(item.value is i and item.loads == loads for item in loop.items)
        if not known:
            loop.items.append(Item(i, loads=loads))

    def _memory(self, v: Value) -> Place:
        """Where v lies in memory; from now on it is stored there, if it was not."""
        if v in self.where:
            place = self._home(v)
            item = self.items.get(v)
            if item is not None:
                flat = self._flat(place)
                if flat not in item.stores:
                    item.stores.append(flat)
            return place
        if v not in self.places:
            self._load_weight(v)
        return self.places[v]

    @staticmethod
    def _flat(place: Place) -> Place:
        """The place without its axes of one element."""
        kept = [a for a, n in enumerate(place.shape) if n != 1]
        return place._replace(
            shape=tuple(place.shape[a] for a in kept), strides=tuple(place.strides[a] for a in kept)
        )

    @staticmethod
    def _spread(place: Place, row: Shape) -> Place:
        """The place, broadcast to `row`, without the axes in which that has one element."""
        lead = len(row) - len(place.shape)
        strides = [0] * lead + [
            0 if n == 1 else s for n, s in zip(place.shape, place.strides, strict=True)
        ]
        kept = [a for a, n in enumerate(row) if n != 1]
        return Place(
            place.buffer, place.offset, tuple(row[a] for a in kept), tuple(strides[a] for a in kept)
        )

    def _reduce(self, v: Value) -> None:
        assert v.op is not None
        x = v.inputs[0]
        axes = canonical_axes(v.params["axis"], len(x.row))
        space = squeeze(x.row)
        numbers = np.cumsum([n != 1 for n in x.row]) - 1
        reduced = tuple(int(numbers[a]) for a in axes if x.row[a] != 1)
        if not reduced:  # of one element: that element
            source = self._memory(x)
            place = fit(source.buffer, source.offsets().reshape(v.row))
            assert place is not None
            if v in self.home:
                self.where[v] = self._copy_place(place, self.home[v], self._ready(x))
            else:
                self.places[v], self.since[v] = place, self._ready(x)
            return
        first = self.where[x] if self._direct(x, space, x.row) else self._ready(x)
        k = self._loop(space, first, reduced)
        loop = self.steps[k]
        assert isinstance(loop, Loop)
        self._bring(x, loop, k, x.row)
        home = self._home(v)
        # The result's place over the space of x: it stands still along the reduced axes.
        kept = [a for a in range(len(x.row)) if a not in axes]
        strides = list(home.strides)
        if len(home.shape) == len(x.row):
            strides = [home.strides[a] for a in kept]
        full = dict(zip(kept, strides, strict=True))
        over = [full.get(a, 0) for a, n in enumerate(x.row) if n != 1]
        place = Place(home.buffer, home.offset, space, tuple(over))
        loop.items.append(Item(x, stores=[place], fold=ACCUMULATORS[v.op.fold]))
        self.where[v] = k

    def _product(self, v: Value) -> None:
        a, weight = v.inputs
        k, n = weight.shape
        place = self._memory(a)
        ready = self._ready(a)
        inner = int(np.prod(place.shape[:-1], dtype=np.int64))
        if not rows_follow(place, k):
            buffer = Buffer(f"s{next(self.numbers)}", a.size, a.dtype)
            self.scratch.append(buffer)
            place = whole(buffer, a.row)
            ready = self._copy(a, place) + 1
        if v in self.program.early or v in self.program.late:
            self._apart(v, Product(place, weight, place, inner, k, n))
            return
        self._pack(weight, False)
        home = self._home(v)
        if not home.dense or (home.buffer.size != v.size and inner > 1):
            buffer = Buffer(f"s{next(self.numbers)}", v.size, v.dtype)
            self.scratch.append(buffer)
            out = whole(buffer, v.row)
            self.steps.append(Product(place, weight, out, inner, k, n))
            self.places[v] = out
            self.since[v] = len(self.steps)
            self.copied[v] = self._copy_place(out, home, len(self.steps))
            return
        assert ready <= len(self.steps)
        self.steps.append(Product(place, weight, home, inner, k, n))
        self.where[v] = len(self.steps) - 1

    def _apart(self, v: Value, product: Product) -> None:
        """A product for a chunk of steps at once: ahead of them, or behind."""
        self._pack(product.weight, True)
        if v in self.program.early:
            buffer = Buffer(f"s{next(self.numbers)}", v.size, v.dtype, "chunk")
            self.scratch.append(buffer)
            product.out = self.places[v] = whole(buffer, v.row)
            self.early.append(product)
        else:
            product.out = self._home(v)
            self.late.append(product)

    def _pack(self, weight: Value, apart: bool) -> None:
        if (weight, apart) not in self.packed:
            self.packed.append((weight, apart))

    def _view(self, v: Value) -> None:
        assert v.op is not None
        x = v.inputs[0]
        source = self._memory(x)
        pieces = view(v.op, v.params, source)
        if len(pieces) == 1:
            self.places[v] = pieces[0][1]
            self.since[v] = self._ready(x)
            return
        home = self._home(v)
        offsets = home.offsets().ravel()
        last = 0
        for numbers, place in pieces:
            target = fit(home.buffer, offsets[numbers])
            assert target is not None
            last = max(last, self._copy_place(place, target, self._ready(x)))
        self.where[v] = last

    def _assemble(self, v: Value) -> None:
        assert v.op is not None
        home = self._home(v)
        pieces, filled, number = assembly(v.op, v.params, [i.row for i in v.inputs], home)
        last = 0
        for place in filled:
            flat = self._flat(place)
            k = self._loop(flat.shape, 0)
            loop = self.steps[k]
            assert isinstance(loop, Loop)
            loop.items.append(Item(None, stores=[flat], fill=number))
            last = max(last, k)
        for i, found in zip(v.inputs, pieces, strict=True):
            if len(found) == 1 and self.home.get(i) == found[0][1]:
                last = max(last, self.copied[i] if i in self.copied else self.where[i])
                continue
            source = self._memory(i) if not self._in_registers(i, found) else None
            for numbers, target in found:
                if source is None:
                    self.items[i].stores.append(self._flat(target))
                    last = max(last, self.where[i])
                else:
                    part = fit(source.buffer, source.offsets().ravel()[numbers])
                    assert part is not None
                    last = max(last, self._copy_place(part, target, self._ready(i)))
        self.where[v] = last

    def _in_registers(self, v: Value, found: Any) -> bool:
        return v in self.items and v in self.where and len(found) == 1

    def _copy(self, v: Value, target: Place) -> int:
        """Stores v at `target`, too; returns the step that does."""
        if v in self.items and v in self.where and not self.items[v].fold:
            self.items[v].stores.append(self._flat(target))
            return self.where[v]
        return self._copy_place(self._memory(v), target, self._ready(v))

    def _copy_place(self, source: Place, target: Place, first: int) -> int:
        flat = self._flat(target)
        k = self._loop(flat.shape, first)
        loop = self.steps[k]
        assert isinstance(loop, Loop)
        name = Value(-1 - len(loop.items), "copy", flat.shape, source.buffer.dtype)
        loads = self._spread(source, target.shape)
        loop.items.append(Item(name, loads=loads, stores=[flat]))
        return k

    def _add(self, v: Value, target: Place) -> None:
        """Adds v to what lies at `target`."""
        if v in self.items and v in self.where and not self.items[v].fold:
            self.items[v].adds.append(self._flat(target))
            return
        if v in self.where and assembles(v):
            assert v.op is not None
            pieces, filled, _ = assembly(v.op, v.params, [i.row for i in v.inputs], target)
            if not filled and all(len(found) == 1 for found in pieces):  # where it is computed
                for i, ((_, place),) in zip(v.inputs, pieces, strict=True):
                    self._add(i, place)
                return
        flat = self._flat(target)
        k = self._loop(flat.shape, self._ready(v))
        loop = self.steps[k]
        assert isinstance(loop, Loop)
        name = Value(-1 - len(loop.items), "copy", flat.shape, v.dtype)
        loop.items.append(Item(name, loads=self._spread(self._memory(v), v.row), adds=[flat]))
