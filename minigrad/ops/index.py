"""Indexing: basic and integer-array, one-hot, and the scatter that is its gradient."""

from __future__ import annotations

import math
import operator
from functools import partial

import numpy as np

from ..axes import canonical_axis
from ..border import joined, plain
from ..errors import DTypeError, ShapeError, describe
from ..kernels import index as kernels
from ..kinds import view
from ..op import sample
from ..switches import state
from .compare import equal
from .view import astype, expand_dims


def as_array(x):
    """x as what has a shape and dtype: a list that holds Tensors is stacked."""
    if hasattr(x, "dtype"):
        return x
    x = joined(x)
    return x if hasattr(x, "dtype") else np.asarray(x)


def plain_index(index):
    """An index as NumPy takes it: Tensors in it become their arrays."""
    if isinstance(index, tuple):
        return tuple([i if type(i) is slice or type(i) is int else plain_index(i) for i in index])
    if isinstance(index, list):
        index = np.asarray(index, dtype=None if index else np.intp)
    data = getattr(index, "_array", index)
    if isinstance(data, np.ndarray) and data.dtype.kind not in "iub":
        raise DTypeError(f"index: expected integers or a mask, got {describe(data)}.")
    return data


@view(
    symbol="[ ]",
    method=False,
    samples=[
        sample((4, 3), index=1),
        sample((4, 3), index=(slice(None, None, -2), None, 0)),
        sample((4, 3), index=np.array([[0, 3], [3, 3]])),
        sample((4, 3), index=(np.array([0, 1]), np.array([2, 2]))),
        sample((4, 3), index=(Ellipsis, np.array([True, False, True]))),
        sample((5,), index=[1, -1, 1]),
    ],
    errors=[
        (sample((4, 3), index=4), "out of bounds"),
        (sample((4, 3), index=np.array([0.5])), "expected integers"),
    ],
)
def getitem(x, index):
    """y = x[index]: integers, slices, None, Ellipsis, integer arrays and masks, as in NumPy."""
    if _looks_up_many_rows(x, index):
        return kernels.take_rows(x, index)
    try:
        y = x[index]
    except IndexError as e:
        raise ShapeError(f"getitem: x is {list(x.shape)}: {e}.") from None
    return y if isinstance(y, np.ndarray) else np.asarray(y)


_MANY = 1 << 12  # numbers that are copied sooner by a kernel of our own than by NumPy


def _looks_up_many_rows(x, index):
    """Whether x[index] is an embedding of some size: rows of a table, by integers."""
    return (
        type(index) is np.ndarray
        and index.dtype.kind in "iu"
        and x.dtype.kind == "f"
        and x.ndim > 1
        and x.flags.c_contiguous
        and index.size * math.prod(x.shape[1:]) >= _MANY
    )


@getitem.check_params
def _(shapes, index):
    return {"index": index if type(index) is int else plain_index(index)}


@view(
    symbol="scatter",
    method=False,
    assembles=True,
    shaped="shape",
    samples=[
        sample((3,), index=1, shape=(4, 3)),
        sample((3, 2), index=np.array([1, 1, 0]), shape=(4, 2)),
    ],
)
def scatter(x, index, shape):
    """Zeros of `shape` with x added at `index`; places named twice add up."""
    y = np.zeros(shape, x.dtype)
    add_at(y, index, x)
    return y


def add_at(y, index, x):
    """y[index] += x, in place, where places named twice add up."""
    if isinstance(index, np.ndarray) and index.dtype.kind in "iu" and y.dtype.kind == "f":
        kernels.scatter_add(y, index, x)
    elif _basic(index):
        y[index] += x
    else:
        np.add.at(y, index, x)


def _basic(index):
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is Ellipsis or isinstance(p, (int, np.integer, slice)) for p in parts)


def take(x, indices, axis=0):
    """y = x at the integers `indices` along `axis`: rows of an embedding, steps of a sequence."""
    x = as_array(x)
    if not len(x.shape) and axis in (0, -1):  # as NumPy
        x = x.reshape((1,))
    axis = canonical_axis(axis, len(x.shape), "take: axis")
    index = plain_index(indices)
    if isinstance(index, np.ndarray) and index.dtype.kind == "b":
        raise DTypeError("take: indices are a mask; use x[mask].")
    return getitem(x, (slice(None),) * axis + (index,) if axis else index)


def take_along_axis(x, indices, axis=-1):
    """y[i, j, ...] = x[i, indices[i, j, ...], ...]: one choice for each row (`gather` in torch).

    As in NumPy, the other axes of x and indices broadcast. Raises ShapeError where they do not.
    """
    x = as_array(x)
    axis = canonical_axis(axis, len(x.shape), "take_along_axis: axis")
    chosen = plain(plain_index(indices))
    if chosen.ndim != len(x.shape):
        raise ShapeError(
            f"take_along_axis: x is {list(x.shape)} and indices {list(chosen.shape)}; expected "
            "as many axes."
        )
    if chosen.dtype.kind not in "iu":
        raise DTypeError(f"take_along_axis: expected integers, got {describe(chosen)}.")
    if any(m != n and 1 not in (m, n) for m, n in _others(x.shape, chosen.shape, axis)):
        raise ShapeError(
            f"take_along_axis: x is {list(x.shape)} and indices {list(chosen.shape)}; all axes "
            f"but axis {axis} must be equal, or 1."
        )
    grid = list(np.ogrid[tuple(slice(n) for n in x.shape)])
    grid[axis] = chosen
    return getitem(x, tuple(grid))


def _others(shape, other, axis):
    """The pairs of sizes of all axes but one."""
    return [pair for i, pair in enumerate(zip(shape, other, strict=True)) if i != axis]


def one_hot(indices, n, dtype=np.float32):
    """y[..., k] = 1 where indices[...] == k, else 0: (...,) -> (..., n). A constant array.

    Raises ShapeError if an index is outside 0 .. n-1.

    >>> one_hot([0, 2], 3)
    array([[1., 0., 0.],
           [0., 0., 1.]], dtype=float32)
    """
    if getattr(indices, "_trace", None) is not None:  # of a step that is being compiled
        return indices.of_all_steps("one_hot", lambda index: one_hot(index, n, dtype))
    index = plain(plain_index(indices))
    if index.dtype.kind not in "iu":
        raise DTypeError(f"one_hot: expected integers, got {describe(index)}.")
    n = operator.index(n)
    if state.jit is not None:  # they may be others at the next call
        state.jit.checks("one_hot", index, partial(_check_below, n), below=n)
        return astype(equal(expand_dims(index, -1), np.arange(n)), dtype)
    _check_below(n, index)
    y = np.zeros((*index.shape, n), dtype)
    np.put_along_axis(y, index[..., None], 1, axis=-1)
    return y


def _check_below(n, index):
    if index.size and (index.min() < 0 or index.max() >= n):
        raise ShapeError(f"one_hot: indices reach from {index.min()} to {index.max()}, n is {n}.")
