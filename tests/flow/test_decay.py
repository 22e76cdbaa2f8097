"""The factor per step: planted ones are found, and intervals hold them as often as they say."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.flow import fit_decay
from minigrad.flow.decay import Fit, cliff, student

Array = np.ndarray
lags = np.arange


def fitted(profile: Array, **options: object) -> Fit:
    fit = fit_decay(profile, **options)  # type: ignore[arg-type]
    assert fit is not None
    return fit


def walks(d: Array) -> Array:
    """Increments (n, ...) of the logarithm -> norms (n + 1, ...)."""
    return np.exp(np.concatenate([np.zeros((1, *d.shape[1:])), np.cumsum(d, axis=0)]))


def ar(rng: np.random.Generator, n: int, draws: int, p: float) -> Array:
    """(n, draws), of unit variance, neighbours correlated by p."""
    e = rng.normal(size=(n + 100, draws)) * math.sqrt(1 - p * p)
    for k in range(1, len(e)):
        e[k] += p * e[k - 1]
    return e[100:]


@given(st.floats(0.3, 1.8), st.floats(1e-6, 1e6), st.integers(3, 200))
def test_a_planted_rate_is_recovered(rate: float, size: float, n: int) -> None:
    fit = fitted(size * rate ** lags(n))
    assert fit.rate == pytest.approx(rate, rel=1e-9)
    assert math.exp(fit.intercept) == pytest.approx(size, rel=1e-6)
    assert fit.low <= fit.rate <= fit.high
    assert fit.r2 == pytest.approx(1.0)
    assert fit.shape == "steady"


def test_half_life_and_doubling_are_those_of_the_rate() -> None:
    decaying, growing, constant = (fitted(r ** lags(20)) for r in (0.5, 2.0, 1.0))
    assert (decaying.half_life, decaying.doubling) == (pytest.approx(1.0), math.inf)
    assert (growing.half_life, growing.doubling) == (math.inf, pytest.approx(1.0))
    assert (constant.rate, constant.r2) == (1.0, 1.0)


def test_two_lags_have_a_rate_and_no_interval() -> None:
    fit = fitted(np.array([1.0, 0.5]))
    assert (fit.rate, fit.low, fit.high, fit.points) == (0.5, 0.0, math.inf, 2)
    assert fit_decay(np.array([1.0])) is None
    assert fit_decay(np.array([1.0, np.nan, 0.0, 2.0])) is None


@pytest.mark.parametrize("freedom", [1, 1.3, 2, 3, 4.5, 10, 100])
def test_students_quantile_is_within_a_percent(freedom: float) -> None:
    """P(|t| < q) = 1 - I_x(n/2, 1/2) with x = n / (n + q**2) must be 95 %."""
    q = student(freedom)
    x = freedom / (freedom + q * q)
    outside = mpmath.betainc(freedom / 2, 0.5, 0, x, regularized=True)
    tolerance = 0.005 if freedom < 3 else 0.001
    assert float(outside) == pytest.approx(0.05, abs=tolerance)


@pytest.mark.parametrize(("n", "p"), [(4, 0.0), (9, 0.0), (41, 0.0), (200, 0.0), (200, 0.5)])
def test_the_interval_of_a_random_walk_holds_its_drift_as_often_as_it_says(
    n: int, p: float, rng: np.random.Generator
) -> None:
    profiles = walks(-0.1 + 0.3 * ar(rng, n, 600, p))
    fits = [fitted(x) for x in profiles.T]
    covered = np.mean([f.low <= math.exp(-0.1) <= f.high for f in fits])
    assert 0.92 <= covered <= 0.98


def test_noise_on_a_straight_line_is_no_walk_and_is_covered_too(rng: np.random.Generator) -> None:
    noise = np.exp(0.5 * rng.normal(size=(300, 40)))
    fits = [fitted(0.9 ** lags(40) * x) for x in noise]
    assert np.mean([f.low <= 0.9 <= f.high for f in fits]) >= 0.92


def test_rows_that_are_independent_narrow_the_interval_and_copies_do_not(
    rng: np.random.Generator,
) -> None:
    rows = walks(-0.1 + 0.3 * rng.normal(size=(200, 16)))
    one, copies = rows[:, 0], np.repeat(rows[:, :1], 16, axis=1)

    def width(profile: Array, rows: Array | None = None) -> float:
        fit = fitted(profile, rows=rows)
        return math.log(fit.high / fit.low)

    assert width(np.linalg.norm(copies, axis=1), copies) == pytest.approx(width(one), rel=1e-9)
    assert width(np.linalg.norm(rows, axis=1), rows) < 0.5 * width(one)


def test_the_rate_of_a_batch_is_that_of_its_rows_where_its_norm_follows_the_slowest(
    rng: np.random.Generator,
) -> None:
    covered = biased = 0
    for _ in range(100):
        rows = walks(-0.1 + 0.3 * rng.normal(size=(300, 32)))
        joined = np.linalg.norm(rows, axis=1)
        fit, of_norm = fitted(joined, rows=rows), fitted(joined)
        covered += fit.low <= math.exp(-0.1) <= fit.high
        biased += of_norm.rate > math.exp(-0.1)
    assert covered >= 90
    assert biased >= 90


def test_rows_that_end_leave_the_rate_to_the_others() -> None:
    rows = 0.8 ** lags(30)[:, None] * np.array([[1.0, 50.0, 3.0]])
    rows[10:, 1] = np.nan
    rows[20:, 2] = np.nan
    fit = fitted(np.sqrt(np.nansum(rows**2, axis=1)), rows=rows)
    assert (fit.low, fit.high) == (pytest.approx(0.8), pytest.approx(0.8))


def test_what_the_loss_begins_with_is_left_out() -> None:
    fit = fitted(walks(np.r_[[-2.0, -1.5, -1.0], np.full(37, -0.1)]))
    assert (fit.rate, fit.start) == (pytest.approx(math.exp(-0.1)), 10)
    assert fit.high / fit.low < 1 + 1e-9


def test_a_factor_that_still_changes_is_said_and_its_end_is_within_the_interval(
    rng: np.random.Generator,
) -> None:
    d = -0.05 - 0.3 * np.exp(-lags(60) / 20) + 0.005 * rng.normal(size=60)
    fit = fitted(walks(d))
    assert fit.shape == "levelling off"
    assert fit.rate < math.exp(-0.1)
    assert fit.high > math.exp(-0.05)
    assert fitted(walks(d[::-1])).shape == "steepening"
    assert fitted(1 / walks(d)).shape == "levelling off"


def test_random_walks_are_seldom_said_to_change_their_pace(rng: np.random.Generator) -> None:
    profiles = walks(-0.1 + 0.3 * ar(rng, 150, 300, 0.3))
    assert np.mean([fitted(x).shape == "steady" for x in profiles.T]) >= 0.97


def test_denormals_are_left_out_of_the_fit() -> None:
    tiny = float(np.finfo(np.float32).tiny)
    profile = 0.1 ** lags(50)
    profile[profile < tiny] = 1e-45  # as float32 rounds them
    fit = fitted(profile, tiny=tiny)
    assert fit.rate == pytest.approx(0.1, rel=1e-9)
    assert fit.start + fit.points == 38


# -- steps that were not taken


@pytest.mark.parametrize(("rate", "change", "steps"), [(0.5, -3.0, 3.0), (2.0, 5.0, 5.0)])
def test_steps_to_a_change_are_those_of_the_rate(rate: float, change: float, steps: float) -> None:
    found = fitted(rate ** lags(20)).steps_to(change * math.log(2))
    np.testing.assert_allclose(found, steps, rtol=1e-6)


def test_what_does_not_decay_never_arrives() -> None:
    assert fitted(1.1 ** lags(20)).steps_to(-1.0) == (math.inf, math.inf, math.inf)
    assert fitted(np.ones(20)).steps_to(-1.0) == (math.inf, math.inf, math.inf)
    assert fitted(np.array([1.0, 0.5])).steps_to(-1.0)[1:] == (0.0, math.inf)


def test_the_interval_of_steps_holds_where_walks_arrive(rng: np.random.Generator) -> None:
    profiles = walks(-0.1 + 0.1 * rng.normal(size=(400, 400))).T
    held = 0
    for profile in profiles:
        fit = fitted(profile[:31])
        _, low, high = fit.steps_to(math.log(1e-3) - math.log(profile[30]))
        last = np.flatnonzero(profile >= 1e-3)[-1] + 1
        held += low <= last - 30 <= math.ceil(high) if high < math.inf else low <= last - 30
    assert 0.90 <= held / 400 <= 0.99


# -- cliffs


def test_a_lone_cliff_is_found_wherever_it_is() -> None:
    for at in (1, 2, 25, 49):
        found = cliff(np.where(lags(50) < at, 1.0, 1e-5) * 0.98 ** lags(50))
        assert found is not None
        assert found.lag == at
        assert found.left == pytest.approx(0.98e-5)


@pytest.mark.parametrize(
    "profile",
    [
        0.01 ** lags(30),
        np.r_[1.0, 0.5],
        np.where(lags(30) < 10, 1.0, np.where(lags(30) < 20, 1e-3, 1e-6)),
        0.5 ** lags(40) * np.where(lags(40) < 20, 1.0, 0.05),
        np.where(lags(30) < 10, 1.0, 0.5),
        np.ones(1),
        np.zeros(0),
    ],
    ids=["steep", "two lags", "stairs", "a slope with a step", "a small step", "one", "none"],
)
def test_what_is_no_lone_cliff_is_called_none(profile: Array) -> None:
    assert cliff(profile) is None


def test_random_walks_have_no_cliffs(rng: np.random.Generator) -> None:
    profiles = walks(-0.3 + 0.3 * rng.normal(size=(30, 300)))
    assert not any(cliff(x) for x in profiles.T)
