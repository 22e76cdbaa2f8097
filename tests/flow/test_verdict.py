"""Verdicts on planted profiles: the fit recovers what was planted, and no profile breaks it."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minigrad.flow import Thresholds, fit_decay, judge
from minigrad.flow.verdict import SEVERITY, _student, worst

lags = np.arange


@given(st.floats(0.3, 1.8), st.floats(1e-6, 1e6), st.integers(3, 200))
def test_a_planted_rate_is_recovered(rate: float, size: float, n: int) -> None:
    fit = fit_decay(size * rate ** lags(n))
    assert fit is not None
    assert fit.rate == pytest.approx(rate, rel=1e-9)
    assert math.exp(fit.intercept) == pytest.approx(size, rel=1e-6)
    assert fit.low <= fit.rate <= fit.high
    assert fit.r2 == pytest.approx(1.0)


def test_half_life_and_doubling_are_those_of_the_rate() -> None:
    decaying, growing, constant = (fit_decay(r ** lags(20)) for r in (0.5, 2.0, 1.0))
    assert decaying is not None
    assert growing is not None
    assert constant is not None
    assert (decaying.half_life, decaying.doubling) == (pytest.approx(1.0), math.inf)
    assert (growing.half_life, growing.doubling) == (math.inf, pytest.approx(1.0))
    assert constant.rate == 1.0
    assert constant.r2 == 1.0


def test_the_interval_covers_the_planted_rate_as_often_as_it_says(rng: np.random.Generator) -> None:
    covered = 0
    for _ in range(300):
        fit = fit_decay(0.9 ** lags(40) * np.exp(0.5 * rng.normal(size=40)))
        assert fit is not None
        covered += fit.low <= 0.9 <= fit.high
    assert covered >= 0.92 * 300


def test_the_interval_is_wider_when_neighbouring_residuals_agree(rng: np.random.Generator) -> None:
    noise = np.exp(0.3 * rng.normal(size=60))
    walk = np.exp(0.3 * np.sin(lags(60) / 6))
    white, wavy = (fit_decay(0.9 ** lags(60) * e) for e in (noise, walk))
    assert white is not None
    assert wavy is not None
    assert math.log(wavy.high / wavy.low) > 1.5 * math.log(white.high / white.low)


@pytest.mark.parametrize("freedom", [1, 1.3, 2, 3, 4.5, 10, 100])
def test_students_quantile_is_within_a_percent(freedom: float) -> None:
    """P(|t| < q) = 1 - I_x(n/2, 1/2) with x = n / (n + q**2) must be 95 %."""
    q = _student(freedom)
    x = freedom / (freedom + q * q)
    outside = mpmath.betainc(freedom / 2, 0.5, 0, x, regularized=True)
    tolerance = 0.005 if freedom < 3 else 0.001
    assert float(outside) == pytest.approx(0.05, abs=tolerance)


@pytest.mark.parametrize(
    ("profile", "kind"),
    [
        (0.8 ** lags(100), "vanishing"),
        (1.2 ** lags(100), "exploding"),
        (np.ones(100), "healthy"),
        (0.99 ** lags(100), "healthy"),
        (np.r_[1.3 ** lags(50), 1.3**50 * 0.7 ** lags(50)], "mixed"),
        (np.r_[0.7 ** lags(50), 0.7**50 * 1.3 ** lags(50)], "mixed"),
        (np.zeros(10), "none"),
        (np.zeros(0), "none"),
        (np.ones(1), "undecided"),
        (np.ones(2), "undecided"),
        (np.r_[np.ones(10), np.zeros(10)], "cut"),
        (np.r_[0.1 ** lags(8), np.zeros(10)], "cut"),
        (np.r_[1e-40 ** lags(8), np.zeros(10)], "vanishing"),
        (np.r_[10.0 ** lags(30), np.inf, np.nan], "exploding"),
        (np.r_[10.0 ** lags(30), np.nan], "exploding"),
        (np.r_[np.ones(5), np.nan, np.ones(5)], "broken"),
        (np.r_[np.ones(5), np.inf], "broken"),
        (np.array([np.nan]), "broken"),
        (np.array([np.inf, 1.0, 1.0, 1.0]), "broken"),
    ],
)
def test_kinds(profile: np.ndarray, kind: str) -> None:
    verdict = judge(profile)
    assert verdict.kind == kind
    assert str(verdict) == f"{kind}: {verdict.reason}"


def test_the_numbers_of_a_verdict_are_those_of_the_profile() -> None:
    verdict = judge(5.0 * 0.5 ** lags(21))
    assert verdict.ratio == 0.5**20
    assert verdict.steps == 20
    assert verdict.rate == pytest.approx(0.5)
    assert verdict.half_life == pytest.approx(1.0)
    assert "halves every 1 steps" in verdict.reason
    assert "9.5e-07 of it is left after 20 steps" in verdict.reason


def test_denormals_are_left_out_of_the_fit() -> None:
    tiny = float(np.finfo(np.float32).tiny)
    profile = 0.1 ** lags(50)
    profile[profile < tiny] = 1e-45  # as float32 rounds them
    fit = fit_decay(profile, tiny)
    assert fit is not None
    assert fit.rate == pytest.approx(0.1, rel=1e-9)
    assert fit.points == 38
    verdict = judge(profile, tiny=tiny)
    assert verdict.kind == "vanishing"
    assert "12 steps underflow" in verdict.reason


def test_thresholds_move_the_verdict() -> None:
    profile = 0.95 ** lags(100)  # down to 6e-3
    assert judge(profile).kind == "healthy"
    assert judge(profile, Thresholds(vanishing=0.01)).kind == "vanishing"
    assert judge(profile[::-1], Thresholds(exploding=100)).kind == "exploding"
    assert judge(profile[:4], Thresholds(points=5)).kind == "undecided"


@pytest.mark.parametrize(
    "wrong", [dict(vanishing=2.0), dict(exploding=0.5), dict(vanishing=0.0), dict(points=1)]
)
def test_thresholds_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Thresholds"):
        Thresholds(**wrong)  # type: ignore[arg-type]


def test_a_profile_that_is_no_vector_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(lags,\), got \[2, 2\]"):
        judge(np.ones((2, 2)))


norms = st.one_of(
    st.floats(min_value=0), st.sampled_from([0.0, 5e-324, 1e-300, 1e300, np.inf, np.nan])
)


@given(hnp.arrays(np.float64, st.integers(0, 12), elements=norms))
def test_no_profile_of_norms_breaks_it(profile: np.ndarray) -> None:
    verdict = judge(profile)
    assert verdict.kind in SEVERITY
    assert verdict.reason
    keys = {"kind", "reason", "ratio", "steps", "fit", "lost", "advice", "half_life"}
    keys |= {"reach", "reach_low", "reach_high", "extrapolated", "path", "where"}
    assert set(verdict.to_dict()) == keys


def test_the_worst_of_several_is_the_most_severe() -> None:
    kinds = [judge(p) for p in (np.ones(9), 0.1 ** lags(9), np.ones(1))]
    assert worst(kinds).kind == "vanishing"
