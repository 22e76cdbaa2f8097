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

import numpy as np

from ..axes import canonical_axes
from ..errors import TraceError
from .layout import Buffer, Item, Place, assembly, view, whole
from .lowered import Loop, Lowered, Product, flat, spread, squeeze
from .passes.folding import ACCUMULATORS
from .program import BEFORE, STEP, Program, Value, used
from .views import rows_follow

Shape = tuple[int, ...]


class Lowering:
    """places: where inputs lie. outputs, added: where values are to be stored, or added to."""

    def __init__(self, program: Program, places: dict[Value, Place]):
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
        self.outputs: list[tuple[Value, Place]] = []
        self.added: list[tuple[Value, Place]] = []
        self.body = [v for v in program.body if v.stage == STEP]
        self.numbers = itertools.count()

    def run(self) -> Lowered:
        self._choose_homes()
        for v in self.body:
            self._lower(v)
        for v, place in self.outputs:
            if self.home.get(v) != place:
                self._store(v, place)
        for v, place in self.added:
            self._store(v, place, adds=True)
        before = used([*self.weights, *(w for w, _ in self.packed)])
        return Lowered(
            self.steps, self.early, self.late, self.scratch, self.weights, self.packed, before
        )

    # -- where values go ---------------------------------------------------------------------------

    def _choose_homes(self) -> None:
        computed = {v for v in self.body if not v.is_view}
        for v, place in self.outputs:
            if v in computed and v not in self.home:
                self.home[v] = place
        for v in reversed(self.body):
            if v.assembles and v in computed:
                pieces, _, _ = assembly(v, self._home(v))
                for i, found in zip(v.inputs, pieces, strict=True):
                    if i in computed and i not in self.home and len(found) == 1:
                        self.home[i] = found[0][1]

    def _home(self, v: Value) -> Place:
        if v not in self.home:
            self.home[v] = self._new(v)
        return self.home[v]

    def _new(self, v: Value, at: str = "") -> Place:
        """Memory of its own."""
        buffer = Buffer(f"s{next(self.numbers)}", v.size, v.dtype, at)
        self.scratch.append(buffer)
        return whole(buffer, v.row)

    def _load_weight(self, v: Value) -> None:
        if v.stage != BEFORE:
            raise TraceError(f"scan: {v!r} {v.type()} is not in memory; a bug of the compiler.")
        if v.role == "op" and v.is_view:
            pieces = view(v, self._memory(v.inputs[0]))
            if len(pieces) == 1:
                self.places[v] = pieces[0][1]
                return
        buffer = Buffer(f"w{len(self.weights)}", v.size, v.dtype, rows=False, comment=v.name)
        self.weights[v] = buffer
        self.places[v] = whole(buffer, v.row)

    # -- scheduling --------------------------------------------------------------------------------

    def _loop(
        self, space: Shape, first: int, reduced: tuple[int, ...] | None = None
    ) -> tuple[int, Loop]:
        """The first loop of this space from step `first` on; a new one where there is none."""
        for k in range(first, len(self.steps)):
            step = self.steps[k]
            if not isinstance(step, Loop) or step.space != space:
                continue
            if reduced is None or step.reduced in (None, reduced):
                step.reduced = reduced or step.reduced
                return k, step
        loop = Loop(space, reduced=reduced)
        self.steps.append(loop)
        return len(self.steps) - 1, loop

    def _lower(self, v: Value) -> None:
        if v.kind == "elementwise":
            self._elementwise(v)
        elif v.kind == "matmul":
            self._product(v)
        elif v.kind == "reduce":
            self._reduce(v)
        elif v.assembles:
            self._assemble(v)
        else:
            self._view(v)

    def _elementwise(self, v: Value) -> None:
        if v in self.program.onto:
            self._accumulate(v)
            return
        first = 0
        for i in v.inputs:
            if type(i) is not Value:
                continue
            if i in self.items and i.row == v.row:  # in the loop that v will be in
                first = max(first, self.where[i])
            elif i in self.where or i in self.places:
                first = max(first, self._ready(i))
        k, loop = self._loop(squeeze(v.row), first)
        for i in v.inputs:
            if type(i) is Value:
                self._bring(i, loop, k, v.row)
        item = Item(v)
        if v in self.home:
            item.stores.append(flat(self.home[v]))
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
        self.items[e].stores.append(flat(home))
        self.scratch.remove(product.out.buffer)
        product.out, product.adds, self.where[v] = home, True, k

    def _ready(self, v: Value) -> int:
        if v in self.where:
            return self.where[v] + 1
        return self.since.get(v, 0)

    def _bring(self, i: Value, loop: Loop, k: int, row: Shape) -> None:
        """Makes input i known in the loop: computed there, or loaded."""
        if i in self.items and self.where[i] == k:
            return
        loads = spread(self._memory(i), row)
        if not any(item.value is i and item.loads == loads for item in loop.items):
            loop.items.append(Item(i, loads=loads))

    def _memory(self, v: Value) -> Place:
        """Where v lies in memory; from now on it is stored there, if it was not."""
        if v in self.where:
            place = self._home(v)
            if v in self.items and flat(place) not in self.items[v].stores:
                self.items[v].stores.append(flat(place))
            return place
        if v not in self.places:
            self._load_weight(v)
        return self.places[v]

    def _reduce(self, v: Value) -> None:
        assert v.op is not None
        x = v.inputs[0]
        axes = canonical_axes(v.params["axis"], len(x.row))
        space = squeeze(x.row)
        numbers = np.cumsum([n != 1 for n in x.row]) - 1
        reduced = tuple(int(numbers[a]) for a in axes if x.row[a] != 1)
        if not reduced:  # of one element: that element
            place = self._memory(x).elements(np.arange(v.size).reshape(v.row))
            if v in self.home:
                self.where[v] = self._copy_place(place, self.home[v], self._ready(x))
            else:
                self.places[v], self.since[v] = place, self._ready(x)
            return
        first = self.where[x] if x in self.items else self._ready(x)
        k, loop = self._loop(space, first, reduced)
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
            place = self._new(a)
            ready = self._store(a, place) + 1
        if v in self.program.early or v in self.program.late:
            self._apart(v, Product(place, weight, place, inner, k, n))
            return
        self._pack(weight, False)
        home = self._home(v)
        if not home.dense or (home.buffer.size != v.size and inner > 1):
            out = self._new(v)
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
            product.out = self.places[v] = self._new(v, "chunk")
            self.early.append(product)
        else:
            product.out = self._home(v)
            self.late.append(product)

    def _pack(self, weight: Value, apart: bool) -> None:
        if (weight, apart) not in self.packed:
            self.packed.append((weight, apart))

    def _view(self, v: Value) -> None:
        x = v.inputs[0]
        pieces = view(v, self._memory(x))
        if len(pieces) == 1:
            self.places[v] = pieces[0][1]
            self.since[v] = self._ready(x)
            return
        home = self._home(v)
        self.where[v] = max(
            self._copy_place(place, home.elements(numbers), self._ready(x))
            for numbers, place in pieces
        )

    def _assemble(self, v: Value) -> None:
        home = self._home(v)
        pieces, filled, number = assembly(v, home)
        last = 0
        for place in filled:
            there = flat(place)
            k, loop = self._loop(there.shape, 0)
            loop.items.append(Item(None, stores=[there], fill=number))
            last = max(last, k)
        for i, found in zip(v.inputs, pieces, strict=True):
            if len(found) == 1 and self.home.get(i) == found[0][1]:
                last = max(last, self.copied[i] if i in self.copied else self.where[i])
                continue
            if i in self.items and len(found) == 1:
                last = max(last, self._store(i, found[0][1]))
                continue
            source = self._memory(i)
            for numbers, target in found:
                part = source.elements(numbers)
                last = max(last, self._copy_place(part, target, self._ready(i)))
        self.where[v] = last

    def _store(self, v: Value, target: Place, adds: bool = False) -> int:
        """Stores v at `target`, too, or adds it to what lies there; returns the step that does."""
        if v in self.items:
            item = self.items[v]
            (item.adds if adds else item.stores).append(flat(target))
            return self.where[v]
        if adds and v in self.where and v.assembles:
            pieces, filled, _ = assembly(v, target)
            if not filled and all(len(found) == 1 for found in pieces):  # where it is computed
                for i, ((_, place),) in zip(v.inputs, pieces, strict=True):
                    self._store(i, place, adds)
                return self.where[v]
        return self._copy_place(self._memory(v), target, self._ready(v), adds)

    def _copy_place(self, source: Place, target: Place, first: int, adds: bool = False) -> int:
        there = flat(target)
        k, loop = self._loop(there.shape, first)
        name = Value(-1 - len(loop.items), "copy", there.shape, source.buffer.dtype)
        item = Item(name, loads=spread(source, target.shape))
        (item.adds if adds else item.stores).append(there)
        loop.items.append(item)
        return k
