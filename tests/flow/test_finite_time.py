"""Finite-time exponents against numpy's singular values of products, and closed forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.flow import FiniteTime, FlowError, finite_time_exponents

Array = np.ndarray


def scaled(h: Any, x: Any) -> Any:
    return h * x, h


@pytest.mark.parametrize("window", [1, 3, 7])
def test_exponents_are_the_singular_values_of_each_windows_product(
    window: int, rng: np.random.Generator
) -> None:
    cell = nn.GRUCell(2, 3, dtype=np.float64, generator=rng)
    xs = rng.normal(size=(7, 2, 2))
    found = finite_time_exponents(cell, None, xs, window)
    steps = mg.flow.jacobians(cell, None, xs).steps
    assert found.exponents.shape == (7 // window, 2, 3)
    assert found.left == 7 % window
    for i, by_row in enumerate(found.exponents):
        for b, exponents in enumerate(by_row):
            P = np.eye(3)
            for k in range(i * window, (i + 1) * window):
                P = steps[k, b] @ P
            expected = np.log(np.linalg.svd(P, compute_uv=False)) / window
            np.testing.assert_allclose(exponents, expected, atol=1e-9)


def test_mean_and_spread_are_over_windows_and_rows(rng: np.random.Generator) -> None:
    """h <- x_t h: the exponent of a window is the mean of log |x_t|, even of 1e-300 a step."""
    logs = np.concatenate([rng.normal(size=(40, 3)), np.full((4, 3), -690.0)])
    found = finite_time_exponents(scaled, mg.tensor(np.ones((3, 1))), np.exp(logs)[..., None], 4)
    expected = logs.reshape(11, 4, 3).mean(axis=1)
    np.testing.assert_allclose(found.largest, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.mean, [expected.mean()], rtol=1e-12)
    np.testing.assert_allclose(found.spread, [expected.std(ddof=1)], rtol=1e-12)
    assert found.growing == (expected > 0).mean()
    text = str(found)
    assert text.startswith(f"11 windows of 4 steps, 3 rows: largest exponent {expected.mean():.4g}")
    assert f"multiplied by {np.exp(4 * expected.max()):.3g} at most" in text
    assert f"in {100 * found.growing:.3g} % of the windows" in text


def test_windows_beyond_a_rows_length_are_nan_and_do_not_count(rng: np.random.Generator) -> None:
    cell = nn.RNNCell(2, 3, dtype=np.float64, generator=rng)
    xs, lengths = rng.normal(size=(6, 3, 2)), [6, 3, 1]
    for reverse in (False, True):
        found = finite_time_exponents(cell, None, xs, 2, lengths=lengths, reverse=reverse)
        measured = ~np.isnan(found.largest)
        whole = [[True, True, False], [True, False, False], [True, False, False]]
        assert measured.tolist() == (whole[::-1] if reverse else whole)
        alone = finite_time_exponents(cell, None, xs[:, :1], 2, reverse=reverse)
        np.testing.assert_allclose(found.exponents[:, 0], alone.exponents[:, 0], rtol=1e-12)
        assert len(found._measured()) == 4
        assert np.isfinite(found.mean).all()


def test_groups_of_windows_make_no_difference(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = nn.RNNCell(2, 3, dtype=np.float64, generator=rng)
    xs = rng.normal(size=(11, 2, 2))
    whole = finite_time_exponents(cell, None, xs, 2).exponents
    monkeypatch.setitem(finite_time_exponents.__globals__, "CHUNK_BYTES", 700)
    monkeypatch.setattr("minigrad.flow.steps.CHUNK_ROWS", 3)
    np.testing.assert_allclose(
        finite_time_exponents(cell, None, xs, 2).exponents, whole, atol=1e-13
    )


def test_what_a_window_loses_is_minus_infinity_and_what_is_not_finite_is_nan() -> None:
    xs = np.array([1.0, 0.0, 1.0, 1.0])[:, None, None]
    found = finite_time_exponents(scaled, mg.tensor([[1.0]]), xs, 2)
    assert found.largest.ravel().tolist() == [-math.inf, 0.0]
    assert found.mean.tolist() == [-math.inf]
    assert math.isnan(found.spread[0])
    xs[2] = math.nan
    found = finite_time_exponents(scaled, mg.tensor([[1.0]]), xs, 2)
    assert np.isnan(found.largest[1, 0])
    assert found.growing == 0.0
    nothing = finite_time_exponents(scaled, mg.tensor([[1.0]]), xs[2:], 2)
    assert str(nothing).endswith("nothing can be told")
    assert math.isnan(nothing.growing)
    assert np.isnan(nothing.mean).all()


def test_one_step_in_float32_has_an_exponent_and_no_spread() -> None:
    one = np.full((1, 1, 1), 0.5, np.float32)
    found = finite_time_exponents(scaled, mg.tensor(np.ones((1, 1), np.float32)), one, 1)
    np.testing.assert_allclose(found.mean, math.log(0.5), rtol=1e-6)
    assert np.isnan(found.spread).all()


def test_what_did_not_settle_is_warned_of_by_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    def loose(factors: Array, *_: Any) -> Any:
        return np.zeros((4, 1)), np.array([2, 3])

    monkeypatch.setitem(finite_time_exponents.__globals__, "log_singular_values", loose)
    with pytest.warns(mg.flow.PrecisionWarning, match="of window 1 did not settle"):
        finite_time_exponents(scaled, mg.tensor(np.ones((2, 1))), np.ones((4, 2, 1)), 2)


@pytest.mark.parametrize("window", [0, 5, -1, 2.0, True])
def test_a_window_that_makes_no_sense_is_refused(window: Any) -> None:
    with pytest.raises(FlowError, match=r"window, a number of steps, is from 1 to 4|is an integer"):
        finite_time_exponents(scaled, mg.tensor([[1.0]]), np.ones((4, 1, 1)), window)


def test_spread_is_nan_of_one_window() -> None:
    assert np.isnan(FiniteTime(np.zeros((1, 1, 2)), 3).spread).all()
