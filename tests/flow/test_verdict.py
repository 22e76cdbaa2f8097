"""Verdicts on planted profiles: the right kind, how far it reaches, and no profile breaks it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minigrad.flow import Thresholds, Verdict, judge
from minigrad.flow.verdict import SEVERITY, worst

Array = np.ndarray
lags = np.arange


def step(at: int, n: int, left: float) -> Array:
    """Flat, but for one fall before lag `at`."""
    return np.where(lags(n) < at, 1.0, left)


@pytest.mark.parametrize(
    ("profile", "kind"),
    [
        (0.8 ** lags(100), "vanishing"),
        (1.2 ** lags(100), "exploding"),
        (np.ones(100), "healthy"),
        (0.99 ** lags(100), "healthy"),
        (np.r_[1.3 ** lags(50), 1.3**50 * 0.7 ** lags(50)], "mixed"),
        (np.r_[0.7 ** lags(50), 0.7**50 * 1.3 ** lags(50)], "mixed"),
        (np.r_[10.0 ** lags(6), np.zeros(3)], "cut"),
        (np.r_[1.0, 0.9, 0.0, 0.8, 0.7], "mixed"),
        (np.zeros(10), "none"),
        (np.zeros(0), "none"),
        (np.ones(1), "undecided"),
        (np.ones(2), "undecided"),
        (np.array([1.0, 1e-9]), "undecided"),
        (0.1 ** lags(3), "undecided"),
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
def test_kinds(profile: Array, kind: str) -> None:
    verdict = judge(profile)
    assert verdict.kind == kind
    assert str(verdict) == f"{kind}: {verdict.reason}"


# -- the reach


@pytest.mark.parametrize(
    ("rate", "reach"), [(0.5, 10), (0.1, 4), (0.9, 66), (1e-4, 1), (1 / 32, 2), (0.37, 7)]
)
def test_the_reach_is_the_first_whole_step_after_which_less_than_a_thousandth_is_left(
    rate: float, reach: int
) -> None:
    """0.5^10 = 1/1024; 0.1^3 is a thousandth, and so 0.1^4 the first that is less."""
    for n in (5, 8, 20, 50, 99):
        verdict = judge(7.0 * rate ** lags(n))
        assert (verdict.reach, verdict.reach_low, verdict.reach_high) == (reach,) * 3
        assert verdict.extrapolated == (n <= reach)


def test_a_reach_of_few_steps_is_vanishing_in_the_same_words_from_any_sequence() -> None:
    verdicts = [judge(0.37 ** lags(n)) for n in (5, 6, 8, 20, 100)]
    assert {v.kind for v in verdicts} == {"vanishing"}
    assert all(v.reason.startswith("reach 7 steps") for v in verdicts)
    assert verdicts[0].reach_words == "reach 7 steps (extrapolated from 4)"
    assert verdicts[2].reach_words == "reach 7 steps"


def test_what_reaches_the_beginning_of_its_sequence_is_healthy() -> None:
    """0.9 a step reaches 66 steps: enough for 10 and 50, too little for 100."""
    short, enough, long = (judge(0.9 ** lags(n)) for n in (10, 50, 100))
    assert (short.kind, enough.kind, long.kind) == ("healthy", "healthy", "vanishing")
    assert enough.reach_words == "reach about 66 steps (extrapolated from 49)"
    assert long.reach_words == "reach 66 steps"


def test_what_does_not_decay_reaches_beyond_the_sequence() -> None:
    for profile in (np.ones(101), 1.02 ** lags(101), 0.9999 ** lags(101)):
        verdict = judge(profile)
        assert verdict.kind == "healthy"
        assert verdict.reach == pytest.approx(69075 if profile[-1] < 1 else math.inf, abs=1)
        assert verdict.reach_words == "reach beyond 100 steps"


def test_growth_is_extrapolated_like_decay() -> None:
    short, seen, slow = judge(1.5 ** lags(5)), judge(1.5 ** lags(30)), judge(1.2 ** lags(5))
    assert (short.kind, seen.kind, slow.kind) == ("exploding", "exploding", "healthy")
    assert "past x1000 from 18 steps on (extrapolated from 4)" in short.reason
    assert seen.reason.endswith("past x1000 from 18 steps on")


def test_few_steps_that_do_not_agree_decide_nothing() -> None:
    verdict = judge(np.array([1.0, 0.5, 0.3, 0.1, 0.08]))
    assert verdict.kind == "undecided"
    assert verdict.reach_low < 20 < verdict.reach_high
    assert "too few steps to tell whether it gets 20 steps far" in verdict.reason


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_no_kind_but_what_was_seen_is_told_from_three_steps(n: int) -> None:
    for rate in (0.37, 1.0, 2.0):
        assert judge(rate ** lags(n)).kind == "undecided"
    assert judge(0.01 ** lags(4)).kind == "vanishing"  # a millionth arrives: seen, not guessed


def test_a_verdict_from_few_random_steps_is_seldom_wrong(rng: np.random.Generator) -> None:
    """Walks of 5 to 12 steps whose drift makes them reach 40 steps, or 10."""
    wrong = []
    for drift, forbidden in [(math.log(1e-3) / 40, "vanishing"), (math.log(1e-3) / 10, "healthy")]:
        for n in (5, 8, 12):
            d = drift * (1 + 0.7 * rng.normal(size=(200, n)))
            kinds = [judge(np.exp(np.r_[0.0, np.cumsum(x)])).kind for x in d]
            wrong.append(kinds.count(forbidden) / 200)
    assert max(wrong) <= 0.05


def test_a_gradient_that_comes_back_has_not_reached_its_end() -> None:
    dip = np.r_[np.ones(10), np.full(5, 1e-4), np.ones(10)]
    verdict = judge(dip)
    assert (verdict.kind, verdict.reach_low, verdict.reach_high) == ("mixed", 25.0, math.inf)
    assert math.isnan(verdict.reach)


def test_a_fall_from_a_hump_is_seen() -> None:
    verdict = judge(np.r_[10.0 ** (lags(5) / 2), 100 * 0.7 ** lags(24)])
    assert (verdict.kind, verdict.lost) == ("vanishing", None)
    assert verdict.reach_low > 28
    assert "falls by 10^3.6 from its largest on the way" in verdict.reason


# -- cliffs


def test_a_lone_cliff_is_called_one_and_no_rate_is_quoted() -> None:
    verdict = judge(step(50, 100, 1e-8))
    assert (verdict.kind, verdict.reach, verdict.fit) == ("vanishing", 50, None)
    assert "a cliff: x1.0e-08 in one step, from 49 to 50 steps from the loss" in verdict.reason
    assert "per step" not in verdict.reason


def test_behind_a_cliff_that_leaves_enough_the_gradient_is_healthy() -> None:
    verdict = judge(step(50, 100, 0.01))
    assert (verdict.kind, verdict.reach_words) == ("healthy", "reach beyond 99 steps")
    assert "a cliff" in verdict.reason


def test_a_first_step_that_takes_most_is_told_apart_from_the_others() -> None:
    little, all_of_it = judge(step(1, 100, 0.05)), judge(step(1, 100, 1e-6))
    assert (little.kind, all_of_it.kind) == ("healthy", "vanishing")
    assert "in one step, from 0 to 1 steps from the loss; constant" in little.reason
    assert little.reason.endswith("beyond it")
    assert (all_of_it.reach, all_of_it.fit) == (1, None)


# -- numbers and words


def test_the_numbers_of_a_verdict_are_those_of_the_profile() -> None:
    verdict = judge(5.0 * 0.5 ** lags(21))
    assert verdict.ratio == 0.5**20
    assert verdict.steps == 20
    assert verdict.rate == pytest.approx(0.5)
    assert verdict.half_life == pytest.approx(1.0)
    assert verdict.lost == verdict.reach == 10
    assert "x0.5 per step back (95 %: 0.5 to 0.5, r2 1), halves every 1 steps" in verdict.reason
    assert "9.5e-07 of it is left after 20 steps" in verdict.reason


def test_rows_narrow_the_rate_and_not_what_the_profile_reaches(rng: np.random.Generator) -> None:
    rows = np.exp(np.cumsum(-0.1 + 0.2 * rng.normal(size=(40, 9)), axis=0))
    profile = np.linalg.norm(rows, axis=1)
    one, many = judge(profile), judge(profile, rows=rows)
    assert one.fit is not None
    assert many.fit is not None
    assert many.fit.high / many.fit.low < one.fit.high / one.fit.low
    assert (many.reach, many.reach_low, many.reach_high) == (
        one.reach, one.reach_low, one.reach_high,
    )  # fmt: skip


def test_what_underflows_is_counted_and_is_the_end_of_a_fall() -> None:
    tiny = float(np.finfo(np.float32).tiny)
    profile = 0.1 ** lags(50)
    profile[profile < tiny] = 1e-45
    verdict = judge(profile, tiny=tiny)
    assert (verdict.kind, verdict.reach) == ("vanishing", 4)
    assert "12 steps underflow" in verdict.reason


def test_zeros_before_the_first_gradient_are_no_underflow() -> None:
    assert judge(np.r_[0.0, np.ones(30)]).kind == "healthy"


def test_thresholds_move_the_verdict_and_the_reach() -> None:
    profile = 0.95 ** lags(100)  # down to 6e-3
    assert judge(profile).kind == "healthy"
    strict = judge(profile, Thresholds(vanishing=0.01))
    assert (strict.kind, strict.reach) == ("vanishing", 90)
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
profiles = hnp.arrays(np.float64, st.integers(0, 12), elements=norms)


@given(profiles)
def test_no_profile_of_norms_breaks_it(profile: Array) -> None:
    verdict = judge(profile, rows=profile[:, None])
    assert verdict.kind in SEVERITY
    assert verdict.reason
    assert verdict.reach_words.startswith("reach ")
    low, high = verdict.reach_low, verdict.reach_high
    assert math.isnan(low) == math.isnan(high)
    assert math.isnan(low) or 0 <= low <= high
    assert not verdict.reach < low
    assert not verdict.reach > high
    assert {"kind", "reason", "ratio", "steps", "fit", "reach", "half_life"} <= set(
        verdict.to_dict()
    )


@given(hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(1e-6, 1e6)))
def test_the_scale_of_a_loss_changes_no_verdict(profile: Array) -> None:
    def told(v: Verdict) -> tuple[object, ...]:
        return v.kind, v.steps, v.extrapolated, v.reach_words

    assert told(judge(profile * 2.0**40)) == told(judge(profile)) == told(judge(profile / 2.0**40))


def test_the_worst_of_several_is_the_most_severe() -> None:
    kinds = [judge(p) for p in (np.ones(9), 0.1 ** lags(9), np.ones(1))]
    assert worst(kinds).kind == "vanishing"
