"""Code generation of one loop of a step: its nest of `for`s, and what happens at each point.

The axis along which most operands are contiguous comes innermost, where LLVM makes vectors of it.
A fold along other axes adds up in memory, in order: `s_t[j] += ...`. One along the innermost axis
is `total = plus(total, ...)`, in any order: LLVM keeps a partial sum for each lane of its vectors,
as many as the CPU is wide, and adds these up behind the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..expr import Expr, constant
from .formula import Formulas, Names, Node, identifier, literal
from .layout import Buffer, Item, Place
from .lowered import Loop
from .program import Value

_IN_ORDER = {"sum": "{} + {}", "max": "maximum({}, {})", "min": "minimum({}, {})"}
_ANY_ORDER = {"sum": "plus({}, {})", "max": "largest({}, {})", "min": "least({}, {})"}
_START = {"sum": 0.0, "max": float("-inf"), "min": float("inf")}


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
    """One loop nest.

    row: what the row of a buffer is called in the text. base: what the values in it are called.
    size: what a size, an offset or a step is.
    part: where the loop is divided, the names of the bounds along `divisible` of it.
    """

    def __init__(
        self,
        loop: Loop,
        text: Text,
        names: Names,
        row: Callable[[Buffer], str],
        base: Callable[[Buffer], str],
        size: Callable[[int], str],
        real: str,
        part: tuple[str, str] | None = None,
    ):
        self.t, self.names, self.real = text, names, real
        self.row, self.base, self.size = row, base, size
        self.space, reduced, self.items, self.vector = arranged = _arranged(loop)
        self.part, self.divided = part, _longest_apart(arranged) if part else None
        axes = [a for a in range(len(self.space)) if a != self.vector]
        self.kept = [a for a in axes if a not in reduced]
        self.inner = [a for a in axes if a in reduced]
        self.sums_up = self.vector in reduced
        self.folds = [item for item in self.items if item.fold]
        self.totals: dict[int, str] = {}  # of folds along the innermost axis

    def emit(self) -> None:
        t, depth = self.t, self.t.depth
        self._open(self.kept)
        inside = t.depth
        if self.folds and not self.sums_up:
            self._open([self.vector])
        for item in self.folds:
            if self.sums_up:
                self.totals[id(item)] = self.names.unique("total")
            t.add(f"{self._total(item)} = {self._number(_START[item.fold])}")
        t.depth = inside
        self._open([*self.inner, self.vector])
        self._body()
        t.depth = inside
        if not self.sums_up and any(item.stores[1:] for item in self.folds):
            self._open([self.vector])
        for item in self.folds:
            for place in item.stores[0 if self.sums_up else 1 :]:
                t.add(f"{self._element(place)} = {self._total(item)}")
        t.depth = depth

    def _open(self, axes: Iterable[int]) -> None:
        for a in axes:
            own = self.part if a == self.divided else None
            bounds = ", ".join(own) if own else self.size(self.space[a])
            self.t.add(f"for {self._counter(a)} in range({bounds}):")
            self.t.depth += 1

    def _counter(self, a: int) -> str:
        return "j" if a == self.vector else f"j{a}"

    def _number(self, value: float) -> str:
        return literal(value, self.real)

    def _total(self, item: Item) -> str:
        """Where a fold adds up."""
        return self.totals[id(item)] if self.sums_up else self._element(item.stores[0])

    # -- the body

    def _body(self) -> None:
        """What happens at one point."""
        formulas = Formulas(self.t.add, self.names, self._number)
        known: dict[Value, Expr] = {}
        results: list[tuple[Item, Node]] = []
        for item in self.items:
            if item.fill is not None:
                is_bool = item.stores[0].buffer.dtype.kind == "b"
                node = formulas.node(number(item.fill, is_bool))
            else:
                node = formulas.node(self._value(item, known))
                if item.loads is None and node.args:
                    node.wish = node.wish or identifier(item.value.name)
                    node.comment = node.comment or repr(item.value)
            places = [] if item.fold else [*item.stores, *item.adds]
            for place in places:
                node.spare = node.spare or self.base(place.buffer)
            if places or item.fold:
                formulas.use(node, len(places) or 1)
                results.append((item, node))
        for item, node in results:
            if node.uses == 1 and item.stores and node.wish == self.base(item.stores[0].buffer):
                node.wish = ""  # the place is called like the value, which needs no second name
            self._result(item, formulas.write(node), node.comment)

    def _value(self, item: Item, known: dict[Value, Expr]) -> Expr:
        """What an item computes or loads; it is `known` from then on."""
        v = item.value
        if item.loads is not None:
            is_bool = item.loads.buffer.dtype.kind == "b"
            known[v] = Expr("input", value=self._element(item.loads), is_bool=is_bool)
        elif v not in known:
            inputs = [
                known[i] if type(i) is Value else number(i, name in v.op.bools)
                for name, i in zip(v.op.inputs, v.inputs, strict=True)
            ]
            made = v.op.body(*inputs)
            known[v] = made if isinstance(made, Expr) else constant(made)
        return known[v]

    def _result(self, item: Item, text: str, comment: str) -> None:
        """The lines that take a value where it belongs."""
        comment = f"  # {comment}" if comment and not text.isidentifier() else ""
        if item.fold:
            join = (_ANY_ORDER if self.sums_up else _IN_ORDER)[item.fold]
            total = self._total(item)
            self.t.add(f"{total} = {join.format(total, text)}{comment}")
            return
        for place in item.stores:
            self.t.add(f"{self._element(place)} = {text}{comment}")
        for place in item.adds:
            self.t.add(f"{self._element(place)} += {text}{comment}")

    def _element(self, place: Place) -> str:
        """The element of a place at the point where the loops are: `bias[j + H2]`."""
        terms = []
        for a, stride in enumerate(place.strides):
            if stride and self.space[a] != 1:
                name = self._counter(a)
                terms.append(name if stride == 1 else f"{name} * {self.size(stride)}")
        if place.offset or not terms:
            terms.append(self.size(place.offset))
        return f"{self.row(place.buffer)}[{' + '.join(terms)}]"


LINE = 16  # floats on a line of the cache, which two threads should not both write


def divisible(loop: Loop) -> tuple[int, int] | None:
    """How a loop is divided: along its longest axis, of n, in multiples of a grain: (n, grain).

    None where it has to stay whole: a sum along the innermost axis is taken in the order that LLVM
    likes for its whole length.
    """
    arranged = _arranged(loop)
    axis = _longest_apart(arranged)
    if axis is None:
        return None
    return arranged[0][axis], LINE if axis == arranged[3] else 1


def accesses(loop: Loop) -> Iterable[tuple[Place, np.ndarray, np.ndarray, bool]]:
    """(place, its elements, where along the divided axis each is touched, whether it is written)
    for all that a loop reads and writes.
    """
    space, _, items, _ = arranged = _arranged(loop)
    axis = _longest_apart(arranged) or 0
    along = np.arange(space[axis]).reshape(-1, *(1,) * (len(space) - axis - 1))
    at = np.broadcast_to(along, space).ravel()
    for item in items:
        for place in item.places:
            elements = place._replace(shape=space).offsets().ravel()
            yield place, elements, at, place is not item.loads


def _longest_apart(arranged: _Arranged) -> int | None:
    space, reduced, _, vector = arranged
    apart = [a for a in range(len(space)) if a not in reduced and space[a] > 1]
    return max(apart, key=lambda a: space[a]) if apart and vector not in reduced else None


def number(value: float, is_bool: bool) -> Expr:
    """A Python number in a loop; where a mask is expected, all true or all false."""
    return Expr("const", value=bool(value), is_bool=True) if is_bool else constant(value)


def places(loop: Loop) -> Iterable[Place]:
    """All that a loop reads and writes."""
    for item in loop.items:
        yield from item.places


_Arranged = tuple[tuple[int, ...], tuple[int, ...], list[Item], int]


def _arranged(loop: Loop) -> _Arranged:
    """(space, reduced axes, items, innermost axis)."""
    space, reduced, items = _collapsed(loop)
    if not space:  # one number a row
        space, items = (1,), [_with_axis(item) for item in items]
    return space, reduced, items, _vector_axis(space, items)


def _collapsed(loop: Loop) -> tuple[tuple[int, ...], tuple[int, ...], list[Item]]:
    """(space, reduced axes, items) with axes made one where all places run through them as one."""
    space, reduced = loop.space, loop.reduced or ()
    items = list(loop.items)
    a = len(space) - 2
    while a >= 0:
        same = (a in reduced) == (a + 1 in reduced)
        places = [p for item in items for p in item.places]
        if same and all(p.strides[a] == p.strides[a + 1] * space[a + 1] for p in places):
            items = [_merged(item, a) for item in items]
            space = (*space[:a], space[a] * space[a + 1], *space[a + 2 :])
            reduced = tuple(dict.fromkeys(r - (r > a) for r in reduced))
        a -= 1
    return space, reduced, items


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


def _vector_axis(space: tuple[int, ...], items: list[Item]) -> int:
    """The axis along which most places are contiguous; of equal ones the last."""

    def cost(a: int) -> tuple[int, int]:
        strides = [p.strides[a] for item in items for p in item.places]
        scattered = sum(s not in (0, 1) for s in strides) - sum(s == 1 for s in strides)
        return scattered, -a

    return min(range(len(space)), key=cost)
