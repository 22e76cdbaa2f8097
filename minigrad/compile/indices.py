"""Indices in a step: what of NumPy's indexing compiles, and what a list of integers becomes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import TraceError
from .batch import indexed
from .program import Value

Array = np.ndarray

_MOST_LISTED = 64


def as_tuple(index: Any) -> tuple[Any, ...]:
    """The parts of an index."""
    return index if isinstance(index, tuple) else (index,)


def is_all(item: Any, size: int) -> bool:
    """Whether a part of an index takes all of an axis."""
    return item is Ellipsis or (isinstance(item, slice) and item.indices(size) == (0, size, 1))


def listed(index: Any, v: Value) -> tuple[int, Array, tuple[Any, ...]] | None:
    """(axis, integers, the rest of the index) where an index has one list of integers."""
    items = indexed(index, len(v.shape)) if not _plain(index) else []
    arrays = [(axis, item) for axis, item, _ in items if isinstance(item, (np.ndarray, list))]
    if not arrays:
        return None
    axis, item = arrays[0]
    places = np.asarray(item)
    if len(arrays) > 1 or places.ndim != 1 or places.dtype.kind not in "iu" or axis is None:
        raise TraceError(
            "scan: getitem in a step takes integers, slices, None, Ellipsis and one list of "
            "integers; a mask or several lists need mode='tape'."
        )
    if places.size > _MOST_LISTED:
        raise TraceError(
            f"scan: getitem with a list of {places.size} integers in a step; up to {_MOST_LISTED} "
            "compile. Multiply by a constant matrix that has a 1 in the wanted places instead."
        )
    plain = tuple(item for a, item, _ in items)
    return axis, places, plain


def _plain(index: Any) -> bool:
    return all(i is None or isinstance(i, (int, slice)) or i is Ellipsis for i in as_tuple(index))
