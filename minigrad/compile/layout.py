"""Where values lie: buffers of a kernel, and places in them as offsets and strides.

A view (slice, reshape, transpose, ...) computes nothing: its place is found by running the op once
on the offsets of its input's elements. So no view needs a rule of its own here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .program import Value

Array = np.ndarray
Shape = tuple[int, ...]


@dataclass(eq=False)
class Buffer:
    """An array that a kernel reads or writes.

    size: elements of one row. at: the row's time index in generated code ("t", "before", "after",
    "even", "odd", "chunk"), or "" for an array without a time axis. rows: False for a weight, which
    all rows share.
    """

    name: str
    size: int
    dtype: np.dtype
    at: str = ""
    rows: bool = True
    comment: str = ""


class Place(NamedTuple):
    """Elements of a row: buffer[offset + sum(strides * index)], for indices below `shape`."""

    buffer: Buffer
    offset: int
    shape: Shape
    strides: Shape

    def offsets(self) -> Array:
        """The offset of every element, as an array of `shape`."""
        total = np.full(self.shape, self.offset, np.int64)
        for axis, (n, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            steps = np.arange(n) * stride
            total += steps.reshape(-1, *(1,) * (len(self.shape) - axis - 1))
        return total

    def elements(self, numbers: Array) -> Place:
        """Those at these positions, in row-major order; strides have to give them."""
        found = fit(self.buffer, self.offsets().ravel()[numbers])
        assert found is not None
        return found

    @property
    def dense(self) -> bool:
        """Whether the elements lie one after the other."""
        expected = 1
        for n, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if n != 1 and stride != expected:
                return False
            expected *= n
        return True


def whole(buffer: Buffer, shape: Shape) -> Place:
    """All of a buffer, in row-major order."""
    return fit(buffer, np.arange(buffer.size).reshape(shape)) or Place(buffer, 0, shape, ())


def fit(buffer: Buffer, offsets: Array) -> Place | None:
    """The Place with these offsets; None where no strides give them."""
    if not offsets.size:
        return Place(buffer, 0, offsets.shape, (0,) * offsets.ndim)
    strides = []
    for axis, n in enumerate(offsets.shape):
        first = offsets[(0,) * axis + (slice(0, 2),) + (0,) * (offsets.ndim - axis - 1)]
        strides.append(int(first[1] - first[0]) if n > 1 else 0)
    place = Place(buffer, int(offsets.flat[0]), offsets.shape, tuple(strides))
    return place if np.array_equal(place.offsets(), offsets) else None


def view(v: Value, place: Place) -> list[tuple[Array, Place]]:
    """A view of what lies at `place`: pairs (positions in the flat result, where they lie).

    One pair, unless the result is no regular piece of the buffer (a roll, the reshape of a
    transpose): then it has to be copied together from these pieces.
    """
    assert v.op is not None
    offsets = np.asarray(v.op.forward([place.offsets()], v.params))
    numbers = np.arange(offsets.size).reshape(offsets.shape)
    return list(_pieces(place.buffer, offsets, numbers))


def _pieces(buffer: Buffer, offsets: Array, numbers: Array) -> Iterator[tuple[Array, Place]]:
    place = fit(buffer, offsets)
    if place is not None:
        yield numbers, place
        return
    for axis, n in enumerate(offsets.shape):
        if n < 2:
            continue
        steps = np.diff(offsets, axis=axis)
        first = np.take(steps, [0], axis=axis)
        others = np.flatnonzero(
            (steps != first).any(axis=tuple(a for a in range(offsets.ndim) if a != axis))
        )
        if others.size:
            cut = int(others[0]) + 1
            for part in (slice(0, cut), slice(cut, None)):
                where = (slice(None),) * axis + (part,)
                yield from _pieces(buffer, offsets[where], numbers[where])
            return
    # Strides differ between axes only in their combination: row by row.
    axis = next(a for a, n in enumerate(offsets.shape) if n > 1)
    for k in range(offsets.shape[axis]):
        where = (slice(None),) * axis + (slice(k, k + 1),)
        yield from _pieces(buffer, offsets[where], numbers[where])


def assembly(v: Value, target: Place) -> tuple[list[list[tuple[Array, Place]]], list[Place], float]:
    """How a value whose inputs are put side by side, or among zeros, fills `target`.

    (for each input the pairs (positions in the flat input, where they go), what is filled, with
    which number).
    """
    assert v.op is not None
    fill = float(v.params.get("value", 0.0))
    params = {**v.params, "value": 0} if "value" in v.params else v.params
    ends = list(itertools.accumulate((i.size for i in v.inputs), initial=1))
    labels = [  # 0 is what no input fills
        np.arange(end - i.size, end).reshape(i.row) for end, i in zip(ends[1:], v.inputs)
    ]
    result = np.asarray(v.op.forward(labels, params)).reshape(target.shape)
    goes = np.zeros(ends[-1], np.int64)
    goes[result] = target.offsets()
    targets = [
        list(_pieces(target.buffer, goes[own], np.arange(own.size).reshape(own.shape)))
        for own in labels
    ]
    filled: list[Place] = []
    empty = result == 0
    if empty.any():
        filled = list(_boxes(target, empty))
    return targets, filled, fill


def _boxes(target: Place, wanted: Array) -> Iterator[Place]:
    """Boxes that cover the wanted elements, and no others."""
    if wanted.all():
        yield target
        return
    if not wanted.any():
        return
    for axis, n in enumerate(wanted.shape):
        flags = wanted.reshape(*wanted.shape[:axis], n, -1)
        same = (flags == np.take(flags, [0], axis=axis)).all(
            axis=tuple(a for a in range(flags.ndim) if a != axis)
        )
        if not same.all():
            cut = int(np.flatnonzero(~same)[0])
            for part in (slice(0, cut), slice(cut, None)):
                where = (slice(None),) * axis + (part,)
                inside = fit(target.buffer, target.offsets()[where])
                assert inside is not None
                yield from _boxes(inside, wanted[where])
            return


@dataclass
class Item:
    """One thing done at every point of a loop.

    value: what is computed there (its inputs are items before it, or places), or loaded. stores:
    where it goes; adds: where it is added. fold: "" or the reduction of `value` into `stores`.
    """

    value: Any
    loads: Place | None = None
    stores: list[Place] = field(default_factory=list)
    adds: list[Place] = field(default_factory=list)
    fold: str = ""
    fill: float | None = None

    @property
    def places(self) -> list[Place]:
        """All that it reads and writes."""
        return [*([self.loads] if self.loads else []), *self.stores, *self.adds]
