"""Rows at integer positions: an embedding's, with its gradient, which adds; and packed steps.

Looking up is divided among the threads by rows of the index, adding by columns, so that what is
added to a row is added in the order of the index for any number of threads.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from minigrad.errors import ShapeError
from minigrad.kernels import arena, jit
from minigrad.kernels.compiler import Kernel, build_from
from minigrad.kernels.work import ENTRY, Work, run, words

Array = np.ndarray

PART = 1 << 17  # bytes that a thread copies at once
COLUMNS = 32  # that a thread adds: a cache line or more of each row
MANY = 1 << 15  # numbers to add, worth more than one thread
COUNT = 4  # the word of a job that says how much of an index there is (scatter.py)


def take_rows(table: Array, index: Array) -> Array:
    """table[index], in new memory: (N, ...) and integers of any shape -> (*index.shape, ...).

    table: contiguous. Negative indices count from the end. Raises ShapeError for one outside
    -N .. N-1.

    >>> take_rows(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1, -1, 0]))[:, 0]
    array([3., 3., 1.])
    """
    if jit.mode() == "plain" or not table.size:
        _check_plain(index, len(table))
        return np.asarray(table[index])
    values = arena.empty((*index.shape, *table.shape[1:]), table.dtype)
    _run(take_rows_work(table, np.ascontiguousarray(index, np.int64), values), index)
    return values


def scatter_add(out: Array, index: Array, values: Array) -> None:
    """out[index] += values, in place; a row that is named twice is added to twice, in order.

    out: (N, ...). index: integers of any shape, negative ones counting from the end. values:
    (*index.shape, ...), of out's dtype, or what broadcasts to that.
    Raises ShapeError for an index outside -N .. N-1.

    >>> out = np.zeros((3, 2))
    >>> scatter_add(out, np.array([0, 2, 0]), np.ones((3, 2)))
    >>> out[:, 0]
    array([2., 0., 1.])
    """
    if jit.mode() == "plain" or not out.flags.c_contiguous:
        _check_plain(index, len(out))
        np.add.at(out, index, values)
        return
    places = np.ascontiguousarray(index, np.int64)
    shape = (*index.shape, *out.shape[1:])
    rows = values if values.shape == shape else np.broadcast_to(values, shape)
    _run(scatter_add_work(out, places, np.ascontiguousarray(rows, out.dtype)), index)


def take_rows_work(table: Array, index: Array, values: Array) -> list[Work]:
    """values = table[index], prepared: first the index is looked at, which leaves in the last word
    of the job how many are outside. All arrays are contiguous, the index of int64.
    """
    width = math.prod(table.shape[1:]) * table.itemsize
    places, n = arena.addresses((table, index, values)), len(table)
    work = rows_work(places[0], places[1], places[2], n, index.size, width, n)
    return [_check(work.job), work]


def rows_work(
    table: int, index: int, values: int, height: int, count: int, width: int, end: int
) -> Work:
    """The same without that look, of arrays by their addresses, rows of so many bytes.

    Where the index names no row there are zeros. end: what negative ones are counted from: from 0,
    they name none. The word COUNT of the job may be made less than `count`.
    """
    at_once = max(PART // max(width, 1), 1)
    job = words(table, index, values, height, count, width, at_once, end, 0)
    return Work(_reading(), "gather", job, -(-count // at_once))


def scatter_add_work(out: Array, index: Array, values: Array) -> list[Work]:
    """out[index] += values, prepared in the same way."""
    width = math.prod(out.shape[1:])
    several = values.size > MANY and width >= 2 * COLUMNS
    at_once = COLUMNS if several else max(width, 1)
    job = _job(out, index, values, width, at_once, len(out))
    return [_check(job), Work(_adding(out.dtype), "scatter_add", job, -(-width // at_once))]


def _job(table: Array, index: Array, values: Array, width: int, at_once: int, end: int) -> Array:
    """The words of scatter.py."""
    addresses = map(arena.address, (table, index, values))
    return words(*addresses, len(table), index.size, width, at_once, end, 0)


def below_work(index: Array, n: int) -> Work:
    """A look at an index, contiguous and of int64: the last word of the job says how many of it are
    outside of 0 .. n - 1.
    """
    return _check(words(0, arena.address(index), 0, n, index.size, 0, 0, 0, 0))


def _check(job: Array) -> Work:
    return Work(_reading(), "check", job, 1)


def _run(works: list[Work], index: Array) -> None:
    check, part = works
    run(*check)
    if check.job[-1]:
        raise _outside(index, int(check.job[3]))
    run(*part)


def _check_plain(index: Array, n: int) -> None:
    if index.size and (index.min() < -n or index.max() >= n):
        raise _outside(index, n)


def _outside(index: Array, n: int) -> ShapeError:
    return ShapeError(
        f"index: integers reach from {index.min()} to {index.max()}; there are {n} rows, "
        f"expected {-n} to {n - 1}."
    )


@cache
def _reading() -> Kernel:
    return build_from("gather", "scatter", {"check": ENTRY, "gather": ENTRY})


@cache
def _adding(dtype: np.dtype) -> Kernel:
    return build_from("scatter_add", "scatter", {"scatter_add": ENTRY}, dtype)
