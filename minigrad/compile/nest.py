"""Code generation of one loop: its nest, its vectors, what happens at each of them.

The axis along which most operands are contiguous is the vector axis: whole vectors of the CPU's
width in a loop, what is left over once more by itself. Axes that a reduction folds lie inside of
those that are kept; where the vector axis itself is folded, its lanes are folded last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..expr import Expr, Printer, call, constant
from .layout import Buffer, Item, Place
from .lower import Loop
from .program import Value


class Text:
    """Lines with their depth."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def add(self, line: str = "") -> None:
        self.lines.append("    " * self.depth + line if line else "")

    def __str__(self) -> str:
        return "\n".join(self.lines) + "\n"


class Nest:
    """One loop nest: kept axes outside, then the vector axis if it is kept, reduced ones inside."""

    def __init__(self, loop: Loop, text: Text, fresh: Callable[[], str], lanes: int):
        self.t, self.fresh, self.lanes = text, fresh, lanes
        self.space, reduced, self.items = _collapsed(loop)
        axes = list(range(len(self.space)))
        if not axes:  # one number a row
            self.space, axes = (1,), [0]
            self.items = [_with_axis(item) for item in self.items]
        self.vector = _vector_axis(self.space, reduced, self.items)
        self.kept = [a for a in axes if a not in reduced and a != self.vector]
        self.inner = [a for a in axes if a in reduced and a != self.vector]
        self.folds, self.vector_reduced = bool(reduced), self.vector in reduced
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
        n, lanes, t = self.space[self.vector], self.lanes, self.t
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
                self.totals[k] = self.fresh()
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
        printer = Printer(lines, self.fresh)
        for item in self.items:
            v = item.value
            if item.loads is not None:
                name = self.fresh()
                t.add(f"{name} = {self._load(item.loads, count)}")
                known[v] = Expr("input", value=name, is_bool=item.loads.buffer.dtype.kind == "b")
        for k, item in enumerate(self.items):
            v = item.value
            if item.fill is not None:
                text = f"c({item.fill!r})"
            else:
                if v not in known:
                    inputs = [
                        known[i] if type(i) is Value else number(i, name in v.op.bools)
                        for name, i in zip(v.op.inputs, v.inputs, strict=True)
                    ]
                    made = v.op.body(*inputs)
                    known[v] = made if isinstance(made, Expr) else constant(made)
                if not (item.stores or item.adds or item.fold):
                    continue
                text = printer.name(known[v])
            if lines and v is not None and v.name:
                lines[-1] += f"  # {v.name}"
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
        row, offset = pointer(buffer), self._offset(place)
        if stride == 0:
            if kind == "B":
                return f"spread_mask(load({row}, {offset}, int8), B)"
            return f"spread(load({row}, {times(offset, item)}, REAL), V)"
        if stride == 1 and not count:
            return f"load({row}, {times(offset, item)}, {kind})"
        lanes = count or self.lanes
        start = f"shift({row}, {times(offset, item)})"
        return f"load_lanes({start}, 0, {stride * item}, {lanes}, {kind})"

    def _store(self, place: Place, text: str, count: str, still: bool = False) -> None:
        buffer, item = place.buffer, place.buffer.dtype.itemsize
        row, offset = pointer(buffer), self._offset(place, still)
        stride = place.strides[self.vector] or 1
        if stride == 1 and not count:
            self.t.add(f"store({row}, {times(offset, item)}, {text})")
            return
        start = f"shift({row}, {times(offset, item)})"
        lanes = count or self.lanes
        self.t.add(f"store_lanes({start}, 0, {stride * item}, {lanes}, {text})")


def number(value: float, is_bool: bool) -> Expr:
    """A Python number in a loop; where a mask is expected, all true or all false."""
    return call("ne", constant(value), constant(0.0)) if is_bool else constant(value)


def times(index: str, n: int) -> str:
    """index * n, as one would write it.

    >>> times("0", 4), times("j", 4), times("j + 16", 4), times("j + 16", 1)
    ('0', 'j * 4', '(j + 16) * 4', 'j + 16')
    """
    if n == 1 or index == "0":
        return index
    return f"{index} * {n}" if index.isidentifier() else f"({index}) * {n}"


def pointer(buffer: Buffer) -> str:
    """What a row of a buffer is called in the text."""
    if not buffer.rows:
        return buffer.name
    return f"{buffer.name}_{buffer.at or 'row'}"


def places(loop: Loop) -> Iterable[Place]:
    """All that a loop reads and writes."""
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
