"""Windows of a series: what is forecast was never seen, nor its mean."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import data
from minigrad.data import DataError, Scaler, baselines, forecasting

SIZES = st.tuples(
    st.integers(60, 120), st.integers(1, 5), st.integers(1, 3), st.integers(1, 4), st.booleans()
)


@given(SIZES, st.integers(1, 3))
def test_a_window_is_a_stretch_of_the_series_and_what_follows_it(
    sizes: tuple[int, int, int, int, bool], columns: int
) -> None:
    length, past, ahead, step, reach_back = sizes
    values = np.random.default_rng(0).normal(size=(length, columns))
    found = forecasting(values, past, ahead, (0.6, 0.2, 0.2), step, reach_back)
    for part in (found.train, found.valid, found.test):
        assert part.xs.shape == (past, len(part), columns)
        assert part.ys.shape == (ahead, len(part), columns)
        for n, start in enumerate(part.starts):
            both = np.concatenate([part.xs[:, n], part.ys[:, n]])
            stretch = values[start : start + past + ahead]
            np.testing.assert_allclose(found.scaler.inverse(both), stretch, atol=1e-12)


@given(SIZES)
def test_no_step_is_in_the_windows_of_two_parts(sizes: tuple[int, int, int, int, bool]) -> None:
    length, past, ahead, step, reach_back = sizes
    found = forecasting(np.arange(float(length)), past, ahead, (0.6, 0.2, 0.2), step, reach_back)
    used, targets = [], []
    for part in (found.train, found.valid, found.test):
        used.append({s + i for s in part.starts for i in range(past + ahead)})
        targets.append({s + past + i for s in part.starts for i in range(ahead)})
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not targets[a] & targets[b]
        assert not used[a] & targets[b], "a part saw what a later one forecasts"
        if not reach_back:
            assert not used[a] & used[b]


@given(SIZES)
def test_reaching_back_forecasts_every_step_of_the_later_parts(
    sizes: tuple[int, int, int, int, bool],
) -> None:
    length, past, ahead, *_ = sizes
    found = forecasting(np.arange(float(length)), past, ahead, (0.6, 0.2, 0.2), reach_back=True)
    for part, steps in ((found.valid, found.parts.valid), (found.test, found.parts.test)):
        assert {s + past + i for s in part.starts for i in range(ahead)} == set(steps.tolist())


def test_the_scaler_knows_the_training_part_alone() -> None:
    values = np.random.default_rng(1).normal(5, 3, 100)
    before = forecasting(values, past=3)
    values[before.parts.valid[0] :] = 1e6
    after = forecasting(values, past=3)
    assert after.scaler.mean == before.scaler.mean
    assert after.scaler.std == before.scaler.std
    assert (after.train.xs == before.train.xs).all()
    train = values[before.parts.train]
    np.testing.assert_allclose(before.scaler.mean, train.mean())
    np.testing.assert_allclose(before.scaler.std, train.std())


def test_a_column_that_never_changes_is_only_shifted() -> None:
    values = np.stack([np.full(40, 7.0), np.arange(40.0)], axis=1)
    found = forecasting(values, past=2)
    assert (found.test.xs[..., 0] == 0).all()
    assert np.isfinite(found.test.xs).all()


def test_scaling_and_back_is_the_identity() -> None:
    values = np.random.default_rng(2).normal(size=(9, 3)) * [1, 1e3, 1e-3]
    scaler = Scaler.fit(values)
    np.testing.assert_allclose(scaler.inverse(scaler(values)), values, rtol=1e-12)
    np.testing.assert_allclose(scaler(values).std(axis=0), 1)


def test_a_scaler_of_some_columns_takes_those_and_no_others() -> None:
    values = np.random.default_rng(0).normal(2, 3, size=(9, 3))
    scaler = Scaler.fit(values)
    for columns in (1, [2, 0]):
        some = np.atleast_2d(values.T[columns]).T
        np.testing.assert_allclose(scaler[columns](some), Scaler.fit(some)(some))
        np.testing.assert_allclose(scaler[columns].inverse(scaler[columns](some)), some)
        with pytest.raises(
            DataError, match=r"expected values of 3 columns.* use scaler\[columns\]"
        ):
            scaler.inverse(some)


def test_a_gap_is_refused_and_a_filled_series_is_not() -> None:
    series = data.co2()
    with pytest.raises(DataError, match=r"the value at step 6 is missing.*series.filled\(\)"):
        forecasting(series, past=10)
    assert len(forecasting(series.filled(), past=10).test) == 343 - 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(past=0), "past, ahead and step are 1 or more, got 0, 1, 1"),
        (dict(past=20), r"the 6 steps of the valid part hold no window of 20 \+ 1"),
        (dict(past=2, shares=(0.0, 0.5, 0.5)), "needs a training part"),
    ],
)
def test_windows_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        forecasting(np.arange(40.0), **options)  # type: ignore[arg-type]


def test_values_of_three_axes_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(T,\) or \(T, D\), got \(4, 2, 2\)"):
        forecasting(np.zeros((4, 2, 2)), past=1)


def test_a_periodic_series_is_forecast_exactly_by_its_season() -> None:
    values = np.tile([1.0, 5.0, 2.0, 8.0, 3.0], 20)
    found = forecasting(values, past=6, ahead=7)
    guess = baselines(values, found.test, season=5)
    np.testing.assert_allclose(guess["seasonal"], found.scaler.inverse(found.test.ys))
    last = found.scaler.inverse(found.test.xs)[-1]
    np.testing.assert_allclose(guess["persistence"], np.broadcast_to(last, (7, *last.shape)))


def test_a_baseline_never_looks_at_what_it_forecasts() -> None:
    values = np.arange(100.0)
    found = forecasting(values, past=20, ahead=9, reach_back=True)
    for guess in baselines(values, found.test, season=4).values():
        assert (guess[:, :, 0] < found.test.starts + 20).all()


def test_a_season_before_the_series_begins_is_refused() -> None:
    windows = forecasting(np.arange(40.0), past=2).train
    with pytest.raises(DataError, match="a season of 12 reaches 10 steps before the series"):
        baselines(np.arange(40.0), windows, season=12)


def test_a_share_of_nothing_gives_no_windows() -> None:
    found = forecasting(np.arange(40.0), past=2, shares=(0.5, 0.0, 0.5))
    assert found.valid.xs.shape == (2, 0, 1)
    assert len(found.valid) == 0
