"""A lowered step: loops and products over buffers, as the generator of code reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .layout import Buffer, Item, Place
from .program import Value

Shape = tuple[int, ...]


@dataclass
class Loop:
    """for every index in `space`: the items, in order. `reduced` axes belong to folds in it."""

    space: Shape
    items: list[Item] = field(default_factory=list)
    reduced: tuple[int, ...] | None = None


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


def flat(place: Place) -> Place:
    """The place without its axes of one element."""
    kept = [a for a, n in enumerate(place.shape) if n != 1]
    return place._replace(
        shape=tuple(place.shape[a] for a in kept), strides=tuple(place.strides[a] for a in kept)
    )


def spread(place: Place, row: Shape) -> Place:
    """The place, broadcast to `row`, without the axes in which that has one element."""
    lead = len(row) - len(place.shape)
    strides = [0] * lead + [
        0 if n == 1 else s for n, s in zip(place.shape, place.strides, strict=True)
    ]
    kept = [a for a, n in enumerate(row) if n != 1]
    return Place(
        place.buffer, place.offset, tuple(row[a] for a in kept), tuple(strides[a] for a in kept)
    )
