"""Axis arguments, checked and made canonical."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from .errors import ShapeError


def canonical_axis(axis: Any, ndim: int, what: str = "axis") -> int:
    """A possibly negative axis as 0 <= axis < ndim.

    >>> canonical_axis(-1, 3)
    2
    """
    try:
        i = operator.index(axis)
    except TypeError:
        raise ShapeError(f"{what}: expected an integer, got {axis!r}.") from None
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
    if isinstance(axis, Sequence):
        axes = [canonical_axis(a, ndim) for a in axis]
        if len(set(axes)) != len(axes):
            raise ShapeError(f"axis {tuple(axis)} names an axis twice.")
        return tuple(sorted(axes))
    return (canonical_axis(axis, ndim),)
