"""Which values are views of others, and where in these they lie."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

import numpy as np

from .layout import Buffer, Place, view, whole
from .program import Program, Value


def place_of(v: Value, inside: Collection[Value]) -> tuple[Value, Place]:
    """The value that v is a view of, as far down as strides describe it, and where it lies there.

    inside: the values whose views are followed.
    """
    chain = [v]
    while v in inside and v.is_view:
        v = v.inputs[0]
        chain.append(v)
    root, place = v, _alone(v)
    for v in reversed(chain[:-1]):
        pieces = view(v, place)
        root, place = (root, pieces[0][1]) if len(pieces) == 1 else (v, _alone(v))
    return root, place


def _alone(v: Value) -> Place:
    return whole(Buffer("", v.size, v.dtype), v.row)


def given_a_place(program: Program) -> set[Value]:
    """What an op that assembles reads: it is computed where that wants it."""
    return {i for v in program.body if v.assembles for i in v.inputs}


def rows_follow(place: Place, k: int) -> bool:
    """Whether the rows of k elements that a product multiplies follow one another at a place."""
    rows = place.shape[:-1]
    inner = int(np.prod(rows, dtype=np.int64))
    if not place.buffer.rows or (place.strides[-1] != 1 and k != 1):
        return False
    if inner == 1:
        return True
    steps = [(n, s) for n, s in zip(rows, place.strides[:-1], strict=True) if n != 1]
    even = all(s == t * m for (_, s), (m, t) in pairwise(steps))
    return even and place.buffer.size == inner * steps[-1][1]
