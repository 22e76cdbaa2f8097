"""Axis arguments, checked and made canonical."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import ShapeError


def canonical_axis(axis: Any, ndim: int, what: str = "axis") -> int:
    """A possibly negative axis as 0 <= axis < ndim.

    >>> canonical_axis(-1, 3)
    2
    """
    try:
        if isinstance(axis, (bool, np.bool_)):
            raise TypeError
        i = operator.index(axis)
    except TypeError:
        raise ShapeError(f"{what}: expected an integer, got {axis!r}.") from None
    if not ndim:
        raise ShapeError(f"{what} {i} is out of range: there are no axes.")
    if not -ndim <= i < ndim:
        raise ShapeError(f"{what} {i} is out of range for {ndim} axes; use {-ndim} to {ndim - 1}.")
    return i % ndim


def canonical_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """`axis` (None, an int or several) as a sorted tuple without repeats.

    >>> canonical_axes(None, 2), canonical_axes(-1, 2)
    ((0, 1), (1,))
    """
    if axis is None:
        return tuple(range(ndim))
    if isinstance(axis, (Sequence, np.ndarray)):
        return tuple(sorted(distinct_axes(axis, ndim)))
    if not ndim and not isinstance(axis, bool) and axis in (0, -1):
        return ()  # as NumPy: a number has one element along the axis it has not
    return (canonical_axis(axis, ndim),)


def distinct_axes(
    axes: Sequence[Any] | np.ndarray, ndim: int, what: str = "axis"
) -> tuple[int, ...]:
    """Several axes in the order given. Raises ShapeError if one is named twice.

    >>> distinct_axes((2, -3), 3)
    (2, 0)
    """
    found = tuple(canonical_axis(a, ndim, what) for a in axes)
    if len(set(found)) != len(found):
        raise ShapeError(f"{what} {tuple(axes)} names an axis twice.")
    return found


def next_axis(axis: Any) -> dict[str, Any]:
    """The parameter `axis`, canonical, where there is one axis more in front.

    >>> next_axis(1), next_axis((0, 2))
    ({'axis': 2}, {'axis': (1, 3)})
    """
    return {"axis": tuple([a + 1 for a in axis]) if isinstance(axis, tuple) else axis + 1}


def indexed(index: Any, ndim: int) -> list[tuple[int | None, Any, int | None]]:
    """(axis of x or None, index item, axis of x[index] or None) for each part of a plain index.

    >>> indexed((0, Ellipsis, None), 2)
    [(0, 0, None), (1, slice(None, None, None), 0), (None, None, 1)]
    """
    items = list(index) if isinstance(index, tuple) else [index]
    taken = sum(i is not None and i is not Ellipsis for i in items)
    at = next((k for k, i in enumerate(items) if i is Ellipsis), len(items))
    items[at : at + 1] = [slice(None)] * (ndim - taken)
    found: list[tuple[int | None, Any, int | None]] = []
    axis = place = 0
    for item in items:
        if item is None:
            found.append((None, None, place))
            place += 1
        elif isinstance(item, slice):
            found.append((axis, item, place))
            axis, place = axis + 1, place + 1
        else:
            found.append((axis, item, None))
            axis += 1
    return found
