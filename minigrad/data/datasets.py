"""Data sets and loaders of other libraries, taken by what they yield; none of them is imported.

    batches = mg.data.Batches(dataset, columns=("input_ids", "label"))     # rows are dictionaries
    batches = mg.data.Batches(dataset)                                     # rows are pairs (x, y)
    mg.train.fit(model, loss, loader, ...)                                 # a loader, as it is

The first is what a data set of HuggingFace yields, the second one of torch.utils.data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..tensors import Tensor
from ..tree import map_leaves
from .sources import DataError


def arrays(batch: Any) -> Any:
    """A batch with NumPy arrays in place of other libraries' (torch's, JAX', ...).

    What says by `__array__` that it is one is replaced, in tuples, lists and dictionaries.
    """
    return map_leaves(_array, batch)


def _array(leaf: Any) -> Any:
    if isinstance(leaf, (np.ndarray, np.generic, Tensor)) or not hasattr(leaf, "__array__"):
        return leaf
    return np.asarray(leaf)


def rows_of(dataset: Any, columns: Any) -> tuple[list[Any], Any]:
    """(xs, ys) of a data set whose rows are dictionaries or pairs; ys is None where it has none.

    A list, a tuple or an array holds sequences, whatever they look like: there, only rows that are
    dictionaries are taken apart. Raises DataError for rows that name no x, and for what has none.
    """
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        hint = " (or its .dataset)" if hasattr(dataset, "dataset") else ""
        raise DataError(
            f"Batches: {type(dataset).__name__} has no rows to choose from by number; give fit a "
            f"loader as it is, or Batches a list of its rows{hint}."
        )
    # Counted where it does not iterate by itself: Python would go on to an IndexError that some
    # data sets never raise.
    walks = hasattr(dataset, "__iter__")
    rows = list(dataset) if walks else [dataset[i] for i in range(len(dataset))]
    first = rows[0] if rows else None
    if isinstance(first, Mapping):
        return _by_name(rows, columns)
    if columns is not None:
        raise DataError(
            f"Batches: columns={columns!r} names columns of rows that are dictionaries; these are "
            f"{type(first).__name__}s."
        )
    if not _is_dataset(dataset) or not isinstance(first, tuple):
        return rows, None
    if any(len(row) not in (1, 2) for row in rows):
        raise DataError(
            f"Batches: a row of {type(dataset).__name__} has {len(first)} parts; expected x, or x "
            f"and y. Pass them apart: Batches([row[0] for row in data], [row[1] for row in data])."
        )
    if len(first) == 1:
        return [x for (x,) in rows], None
    ys = [y for _, y in rows]
    if all(hasattr(y, "__array__") for y in ys) and len({np.shape(y) for y in ys}) == 1:
        return [x for x, _ in rows], np.stack([np.asarray(y) for y in ys])  # as a loader would
    return [x for x, _ in rows], ys


def _is_dataset(rows: Any) -> bool:
    """Whether a tuple in it is a row, and not a sequence of numbers."""
    return not hasattr(rows, "__array__") and not isinstance(rows, (list, tuple))


def _by_name(rows: list[Any], columns: Any) -> tuple[list[Any], Any]:
    there = ", ".join(map(repr, rows[0]))
    names = [columns] if isinstance(columns, str) else list(columns or ())
    if len(names) not in (1, 2):
        raise DataError(
            f"Batches: the rows are dictionaries with {there}; say which are x and y, as "
            f"columns=('input_ids', 'label')."
        )
    for i, row in enumerate(rows):
        for name in names:
            if name not in row:
                raise DataError(f"Batches: row {i} has no column {name!r}; there are {there}.")
    xs, *ys = ([row[name] for row in rows] for name in names)
    return xs, ys[0] if ys else None
