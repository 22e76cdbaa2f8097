"""Rows taken by number: as NumPy takes them, for any type, width and number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.kernels.index import take_rows_or_zeros


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


def test_rows_that_do_not_follow_one_another_are_taken_too(rng: np.random.Generator) -> None:
    x = rng.normal(size=(6, 8))[::2, 1:7:2]
    np.testing.assert_array_equal(
        take_rows_or_zeros(x, np.array([2, 0, -1])[::2]), [x[2], np.zeros(3)]
    )
