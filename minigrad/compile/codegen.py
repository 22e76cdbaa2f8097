"""Code generation: the text of a kernel, one shard of the batch over all steps.

    shard(d, index)     rows of shard `index`, t = first, first + step, ...: the loops and products
    run(d, shards)      all shards, on the thread pool

What a person reads there: each `for j` loop is a run of elementwise ops over vectors of the CPU's
width, each `product(...)` a matrix product with packed weights. `d` holds sizes and addresses
(`HEAD` names the first words, then one for each buffer, then one for each packed weight).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..expr import Expr, Printer, constant
from .layout import Buffer, Item, Place
from .lower import Loop, Lowered, Product
from .program import Value

# The first words of a description.
HEAD = (
    "steps", "rows", "first", "step", "before", "after", "low_rows", "vectors", "shards",
)  # fmt: skip

_PROLOGUE = '''\
"""{title}

{program}
"""

from numba import float32, float64, int8

from minigrad.kernels.integers import least
from minigrad.kernels.lanes import load_lanes, store_lanes
from minigrad.kernels.memory import address_of, extent, external, load, matrix, ptr, shift, store
from minigrad.kernels.simd import Mask, Vec, constant
from minigrad.kernels.simd import {simd}
from minigrad.kernels.steps import fold_max, fold_min, fold_sum, first_lanes, spread, spread_mask
from minigrad.kernels.vectormath import {maths}

REAL = {real}
V = Vec(REAL, {lanes})
B = Mask({lanes})
c = constant(V)
product = external(
    "minigrad_product", "void(ptr, i64, ptr, ptr, i64, i64, i64, i64, i64, i64)"
)
parallel_for = external("minigrad_parallel_for", "void(ptr, ptr, i64)")
run_shard = external("minigrad_shard", "void(ptr, i64)")


def run(d):
    shards = d[{shards}]
    if shards > 1:
        parallel_for(address_of("shard"), ptr(d), shards)
    else:
        run_shard(ptr(d), 0)


'''
_SIMD = "abs, floor, isnan, maximum, minimum, select, sign, sqrt"
_MATHS = "cos, erf, exp, expm1, log, log1p, pow, sigmoid, sin, tanh"

EXPORTS = {"run": "void(i64*)", "shard": "void(i64*, i64)"}
# How many rows of time a buffer has, beside "t": see Buffer.at.
_TIMES = {
    "t": "t",
    "before": "t + before",
    "after": "t + after",
    "even": "i % 2",
    "odd": "1 - i % 2",
}
EXTRA = {"t": 0, "before": 1, "after": 1}


class Text:
    """Lines with their depth."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def add(self, line: str = "") -> None:
        self.lines.append("    " * self.depth + line if line else "")

    def __str__(self) -> str:
        return "\n".join(self.lines) + "\n"


class Generator:
    """lowered -> text. `arrays` are the buffers in the order in which `d` holds their addresses."""

    def __init__(self, lowered: Lowered, arrays: list[Buffer], dtype: np.dtype, lanes: int):
        self.lowered, self.arrays, self.dtype, self.lanes = lowered, arrays, dtype, lanes
        self.text = Text()
        self.counter = 0

    def generate(self, title: str, program: str) -> str:
        head = _PROLOGUE.format(
            title=title, program=program, real=self.dtype.name, lanes=self.lanes,
            shards=HEAD.index("shards"), simd=_SIMD, maths=_MATHS,
        )  # fmt: skip
        t = self.text
        t.add("def shard(d, index):")
        t.depth += 1
        names = ", ".join(HEAD)
        t.add(f"{names} = ({', '.join(f'd[{i}]' for i in range(len(HEAD)))})")
        t.add("low = index * low_rows")
        t.add("high = least(low + low_rows, rows)")
        for i, buffer in enumerate(self.arrays):
            times = {"": "", "t": "steps * ", "even": "2 * ", "odd": "2 * "}.get(
                buffer.at, "(steps + 1) * "
            )
            rows = f"{times}rows * " if buffer.rows else ""
            comment = f"  # {buffer.comment}" if buffer.comment else ""
            size = buffer.size * buffer.dtype.itemsize
            t.add(f"{buffer.name} = extent(ptr(d[{len(HEAD) + i}]), 0, {rows}{size}){comment}")
        for i, weight in enumerate(self.lowered.packed):
            t.add(
                f"{_pack(i)} = ptr(d[{len(HEAD) + len(self.arrays) + i}])"
                f"  # panels of {weight.name or repr(weight)}"
            )
        t.add("for i in range(steps):")
        t.depth += 1
        t.add("t = first + i * step")
        run: list[Loop] = []
        for step in [*self.lowered.steps, None]:
            if isinstance(step, Loop):
                run.append(step)
                continue
            if run:
                self._rows(run)
                run = []
            if isinstance(step, Product):
                self._product(step)
        return head + str(t)

    # -- products

    def _product(self, p: Product) -> None:
        item = self.dtype.itemsize
        places = []
        for place, count in ((p.a, p.k), (p.out, p.n)):
            buffer = place.buffer
            per_row = buffer.size if p.inner == 1 else buffer.size // p.inner
            offset = f"({self._row(buffer, 'low')} * {buffer.size} + {place.offset}) * {item}"
            start = f"shift({buffer.name}, {offset})"
            inner = "" if p.inner == 1 else f" * {p.inner}"
            places.append(
                f"ptr(matrix({start}, (high - low){inner}, {per_row * item}, {count}, {item}, "
                f"{item})), {per_row * item}"
            )
        inner = "" if p.inner == 1 else f" * {p.inner}"
        k = self.lowered.packed.index(p.weight)
        self.text.add(f"product(  # {p.weight.name or repr(p.weight)}")
        self.text.add(f"    {places[0]}, {_pack(k)},")
        self.text.add(f"    {places[1]}, (high - low){inner}, {p.k}, {p.n}, vectors, 0)")

    @staticmethod
    def _row(buffer: Buffer, row: str) -> str:
        if not buffer.rows:
            return "0"
        return f"(({_TIMES[buffer.at]}) * rows + {row})" if buffer.at else row

    # -- loops

    def _rows(self, loops: list[Loop]) -> None:
        """Loops in which every row is on its own: row by row, all of them."""
        t = self.text
        t.add("for b in range(low, high):")
        t.depth += 1
        buffers: dict[tuple[str, str], Buffer] = {}
        for loop in loops:
            for place in _places(loop):
                buffers[place.buffer.name, place.buffer.at] = place.buffer
        for buffer in buffers.values():
            if buffer.rows:
                size = buffer.size * buffer.dtype.itemsize
                t.add(
                    f"{_pointer(buffer)} = shift({buffer.name}, {self._row(buffer, 'b')} * {size})"
                )
        for loop in loops:
            self._loop(loop)
        t.depth -= 1

    def _loop(self, loop: Loop) -> None:
        space, reduced, items = _collapsed(loop)
        axes = list(range(len(space)))
        if not axes:
            space, axes = (1,), [0]
            items = [_with_axis(item) for item in items]
        vector = _vector_axis(space, reduced, items)
        kept = [a for a in axes if a not in reduced and a != vector]
        inner = [a for a in axes if a in reduced and a != vector]
        _Nest(self, space, items, vector, kept, inner, bool(reduced), vector in reduced).emit()

    def fresh(self) -> str:
        self.counter += 1
        return f"v{self.counter}"


class _Nest:
    """One loop nest: kept axes outside, then the vector axis if it is kept, reduced ones inside."""

    def __init__(
        self,
        generator: Generator,
        space: tuple[int, ...],
        items: list[Item],
        vector: int,
        kept: list[int],
        inner: list[int],
        folds: bool,
        vector_reduced: bool,
    ):
        self.g, self.t = generator, generator.text
        self.space, self.items, self.vector = space, items, vector
        self.kept, self.inner = kept, inner
        self.folds, self.vector_reduced = folds, vector_reduced
        self.totals: dict[int, str] = {}

    def emit(self) -> None:
        t, depth = self.t, self.t.depth
        for a in self.kept:
            t.add(f"for i{a} in range({self.space[a]}):")
            t.depth += 1
        if self.vector_reduced:
            self._start_folds()
            inside = t.depth
            for a in self.inner:
                t.add(f"for i{a} in range({self.space[a]}):")
                t.depth += 1
            self._vectors(self._body)
            t.depth = inside
            self._end_folds("1")
        else:
            self._vectors(self._kept_vector)
        t.depth = depth

    def _kept_vector(self, count: str) -> None:
        t, depth = self.t, self.t.depth
        if self.folds:
            self._start_folds()
        for a in self.inner:
            t.add(f"for i{a} in range({self.space[a]}):")
            t.depth += 1
        self._body(count)
        t.depth = depth
        if self.folds:
            self._end_folds(count)

    def _vectors(self, body: Any) -> None:
        """The vector axis: whole vectors in a loop, what is left once more by itself."""
        n, lanes, t = self.space[self.vector], self.g.lanes, self.t
        whole = n // lanes * lanes
        if whole:
            if whole == lanes:
                t.add("j = 0")
                body("")
            else:
                t.add(f"for j in range(0, {whole}, {lanes}):")
                t.depth += 1
                body("")
                t.depth -= 1
        if n > whole:
            t.add(f"j = {whole}")
            body(str(n - whole))

    # -- folds

    def _start_folds(self) -> None:
        start = {"sum": "c(0.0)", "max": 'c("-inf")', "min": 'c("inf")'}
        for k, item in enumerate(self.items):
            if item.fold:
                self.totals[k] = self.g.fresh()
                self.t.add(f"{self.totals[k]} = {start[item.fold]}")

    def _end_folds(self, count: str) -> None:
        for k, item in enumerate(self.items):
            if not item.fold:
                continue
            total = self.totals[k]
            if self.vector_reduced:
                total = f"fold_{item.fold}({total})"
            for place in item.stores:
                self._store(
                    place, total, "1" if self.vector_reduced else count, self.vector_reduced
                )

    # -- the body

    def _body(self, count: str) -> None:
        """What happens at one vector of points; `count` lanes of it, or all ("")."""
        t = self.t
        known: dict[Value, Expr] = {}
        lines: list[str] = []
        printer = Printer(lines, self.g.fresh)
        for item in self.items:
            v = item.value
            if item.loads is not None:
                name = self.g.fresh()
                t.add(f"{name} = {self._load(item.loads, count)}")
                known[v] = Expr("input", value=name, is_bool=item.loads.buffer.dtype.kind == "b")
        for k, item in enumerate(self.items):
            v = item.value
            if item.fill is not None:
                text = f"c({item.fill!r})"
            else:
                if v not in known:
                    inputs = [known[i] if type(i) is Value else constant(i) for i in v.inputs]
                    made = v.op.body(*inputs)
                    known[v] = made if isinstance(made, Expr) else constant(made)
                if not (item.stores or item.adds or item.fold):
                    continue
                text = printer.name(known[v])
            for line in lines:
                t.add(line)
            lines.clear()
            if item.fold:
                self._fold(k, item, text, count)
                continue
            for place in item.stores:
                self._store(place, text, count)
            for place in item.adds:
                old = self._load(place, count)
                self._store(place, f"{old} + {text}", count)

    def _fold(self, k: int, item: Item, text: str, count: str) -> None:
        total = self.totals[k]
        if self.vector_reduced and count:
            neutral = {"sum": "c(0.0)", "max": 'c("-inf")', "min": 'c("inf")'}[item.fold]
            text = f"select(first_lanes({count}, B), {text}, {neutral})"
        join = {"sum": f"{total} + {text}", "max": f"maximum({total}, {text})"}
        self.t.add(f"{total} = {join.get(item.fold, f'minimum({total}, {text})')}")

    # -- memory

    def _offset(self, place: Place, still: bool = False) -> str:
        """Of the first lane, in elements from the row's start."""
        terms = [str(place.offset)] if place.offset else []
        for a, stride in enumerate(place.strides):
            if not stride or (still and a == self.vector):
                continue
            name = "j" if a == self.vector else f"i{a}"
            terms.append(name if stride == 1 else f"{name} * {stride}")
        return " + ".join(terms) or "0"

    def _load(self, place: Place, count: str) -> str:
        buffer, item = place.buffer, place.buffer.dtype.itemsize
        stride = place.strides[self.vector]
        kind = "B" if buffer.dtype.kind == "b" else "V"
        pointer, offset = _pointer(buffer), self._offset(place)
        if stride == 0:
            if kind == "B":
                return f"spread_mask(load({pointer}, {offset}, int8), B)"
            return f"spread(load({pointer}, ({offset}) * {item}, REAL), V)"
        if stride == 1 and not count:
            return f"load({pointer}, ({offset}) * {item}, {kind})"
        lanes = count or self.g.lanes
        start = f"shift({pointer}, ({offset}) * {item})"
        return f"load_lanes({start}, 0, {stride * item}, {lanes}, {kind})"

    def _store(self, place: Place, text: str, count: str, still: bool = False) -> None:
        buffer, item = place.buffer, place.buffer.dtype.itemsize
        pointer, offset = _pointer(buffer), self._offset(place, still)
        stride = place.strides[self.vector] or 1
        if stride == 1 and not count:
            self.t.add(f"store({pointer}, ({offset}) * {item}, {text})")
            return
        start = f"shift({pointer}, ({offset}) * {item})"
        lanes = count or self.g.lanes
        self.t.add(f"store_lanes({start}, 0, {stride * item}, {lanes}, {text})")


def _pointer(buffer: Buffer) -> str:
    if not buffer.rows:
        return buffer.name
    return f"{buffer.name}_{buffer.at or 'row'}"


def _pack(i: int) -> str:
    return f"panels{i}"


def _places(loop: Loop) -> Iterable[Place]:
    for item in loop.items:
        if item.loads is not None:
            yield item.loads
        yield from item.stores
        yield from item.adds


def _collapsed(loop: Loop) -> tuple[tuple[int, ...], tuple[int, ...], list[Item]]:
    """(space, reduced axes, items) with axes made one where all places run through them as one."""
    space, reduced = loop.space, loop.reduced or ()
    items = list(loop.items)
    a = len(space) - 2
    while a >= 0:
        same = (a in reduced) == (a + 1 in reduced)
        places = [p for item in items for p in _of(item)]
        if same and all(p.strides[a] == p.strides[a + 1] * space[a + 1] for p in places):
            items = [_merged(item, a) for item in items]
            space = (*space[:a], space[a] * space[a + 1], *space[a + 2 :])
            reduced = tuple(dict.fromkeys(r - (r > a) for r in reduced))
        a -= 1
    return space, reduced, items


def _of(item: Item) -> list[Place]:
    return [*([item.loads] if item.loads else []), *item.stores, *item.adds]


def _mapped(item: Item, change: Any) -> Item:
    loads = None if item.loads is None else change(item.loads)
    stores, adds = [change(p) for p in item.stores], [change(p) for p in item.adds]
    return Item(item.value, loads, stores, adds, item.fold, item.fill)


def _merged(item: Item, a: int) -> Item:
    def change(p: Place) -> Place:
        shape = (*p.shape[:a], p.shape[a] * p.shape[a + 1], *p.shape[a + 2 :])
        return p._replace(shape=shape, strides=(*p.strides[:a], *p.strides[a + 1 :]))

    return _mapped(item, change)


def _with_axis(item: Item) -> Item:
    return _mapped(item, lambda p: p._replace(shape=(1,), strides=(0,)))


def _vector_axis(space: tuple[int, ...], reduced: tuple[int, ...], items: list[Item]) -> int:
    """The axis along which most places are contiguous; of equal ones the last."""

    def cost(a: int) -> tuple[int, int]:
        strides = [p.strides[a] for item in items for p in _of(item)]
        scattered = sum(s not in (0, 1) for s in strides) - sum(s == 1 for s in strides)
        return scattered, -a

    candidates = [a for a in range(len(space)) if a not in reduced] or list(range(len(space)))
    if reduced:
        candidates = list(range(len(space)))
    return min(candidates, key=cost)
