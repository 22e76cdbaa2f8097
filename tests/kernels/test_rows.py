"""Rows taken by number: as NumPy takes them, for any type, width and number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.kernels.arena import address
from minigrad.kernels.index import COUNT, rows_work
from minigrad.kernels.work import run


def take_rows_or_zeros(x: np.ndarray, index: np.ndarray, count: int | None = None) -> np.ndarray:
    """`count` of the rows, all if left out; the others stay as they are, 7."""
    values = np.full((len(index), x.shape[1]), 7, x.dtype)
    width = x.shape[1] * x.itemsize
    work = rows_work(*map(address, (x, index, values)), len(x), len(index), width, 0)
    work.job[COUNT] = len(index) if count is None else count
    run(*work)
    return values


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("width", [0, 1, 3, 640])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.bool_])
def test_rows_are_taken_as_numpy_takes_them(
    dtype: Any, width: int, threads: int, rng: np.random.Generator
) -> None:
    before = mg.get_num_threads()
    mg.set_num_threads(threads)
    try:
        for height, count in ((5, 7), (1, 1), (4, 0), (129, 301)):
            x = (rng.normal(size=(height, width)) * 3).astype(dtype)
            index = rng.integers(-1, height, count)
            expected = np.concatenate([x, np.zeros((1, width), dtype)])[index]
            found = take_rows_or_zeros(x, index)
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, expected)
    finally:
        mg.set_num_threads(before)


def test_rows_of_no_rows_are_zeros() -> None:
    found = take_rows_or_zeros(np.zeros((0, 3)), np.array([-1, -1]))
    np.testing.assert_array_equal(found, np.zeros((2, 3)))


@pytest.mark.parametrize("width", [1, 640])
def test_how_many_rows_are_taken_may_be_told_later(width: int, rng: np.random.Generator) -> None:
    x, index = rng.normal(size=(129, width)), rng.integers(-1, 129, 301)
    whole = take_rows_or_zeros(x, index)
    for count in (0, 1, 129, 301):
        found = take_rows_or_zeros(x, index, count)
        np.testing.assert_array_equal(found[:count], whole[:count])
        assert (found[count:] == 7).all()
