"""The norm that neither underflows nor overflows, by numbers whose norms are known."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from minigrad import ops
from minigrad.norms import joint_norm, norm, row_norms

UNITS = {np.float32: (1e-35, 1e35), np.float64: (1e-300, 1e300)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [0, 1], ids=["tiny", "huge"])
@pytest.mark.parametrize("xp", [np, ops], ids=["numpy", "ops"])
def test_squares_out_of_range_lose_nothing(dtype: Any, scale: int, xp: Any) -> None:
    unit = dtype(UNITS[dtype][scale])
    x = np.array([[3, 4, 0], [-5, 0, 12], [0, 0, 7]], dtype) * unit
    found = norm(x, xp=xp)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, np.array([[5], [13], [7]], dtype) * unit, rtol=1e-6)


@pytest.mark.parametrize(("n", "rows"), [(1, 1), (1, 3), (5, 2), (8, 7)])
def test_ordinary_rows_have_the_norm_of_exact_arithmetic(n: int, rows: int, rng: Any) -> None:
    x = rng.normal(size=(rows, n))
    exact = [float(sum(Fraction(v) ** 2 for v in row)) ** 0.5 for row in x.tolist()]
    np.testing.assert_allclose(row_norms(x), exact, rtol=1e-15)
    np.testing.assert_allclose(norm(x.T, axis=0)[0], exact, rtol=1e-15)


def test_what_is_not_finite_stays_and_zero_is_zero() -> None:
    found = row_norms([[0.0, 0.0], [np.inf, 1.0], [np.nan, 1.0], [-np.inf, np.inf]])
    np.testing.assert_array_equal(found, [0.0, np.inf, np.nan, np.inf])


def test_rows_are_all_that_comes_before_the_last_axis() -> None:
    assert row_norms(np.ones((2, 3, 4))).tolist() == [2.0] * 6
    assert row_norms(2.0).tolist() == [2.0]
    assert row_norms(np.zeros((3, 0))).tolist() == [0.0] * 3
    assert row_norms(np.zeros((0, 3))).shape == (0,)


def test_several_arrays_have_one_norm() -> None:
    peak, ratio = joint_norm([np.float32([3e30]), np.float32([[4e30]])])
    assert peak * ratio == pytest.approx(5e30, rel=1e-6)
    assert joint_norm([np.array([-3.0, 1.0])], np.inf) == (3.0, 1.0)
    assert joint_norm([]) == (0.0, 1.0)
