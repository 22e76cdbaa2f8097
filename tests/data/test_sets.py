"""What the loaders return, against facts published with the data."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad import data
from minigrad.data import DataError, Series


def test_every_set_says_where_it_comes_from() -> None:
    for load in (data.names, data.sunspots, data.co2, data.temperatures, data.weather,
                 data.japanese_vowels, data.digits):  # fmt: skip
        found = load()  # type: ignore[operator]
        assert found.source
        assert found.licence in ("public domain", "CC BY 4.0")


def test_sunspots_have_their_highest_year_in_1957() -> None:
    series = data.sunspots()
    assert series.values.shape == (309,)
    assert series.times[series.values.argmax()] == np.datetime64("1957")
    assert series.values.max() == 190.2
    assert not series.missing.any()


def test_the_yearly_sunspots_are_the_means_of_the_monthly_ones() -> None:
    years, months = data.sunspots(), data.sunspots("month")
    assert months.values.shape == (3126,)
    assert (np.diff(months.times) == np.timedelta64(1, "M")).all()
    full = months.values[: 12 * (2008 - 1749 + 1)].reshape(-1, 12).mean(axis=1)
    # Published apart from each other, and rounded to a tenth; a few years differ by more.
    difference = np.abs(full - years.values[1749 - 1700 :])
    assert np.median(difference) < 0.06
    assert difference.max() < 1.5


def test_another_step_of_the_sunspots_is_refused() -> None:
    with pytest.raises(DataError, match="every is 'year' or 'month', got 'day'"):
        data.sunspots("day")


def test_carbon_dioxide_rises_in_weekly_steps_with_59_gaps() -> None:
    series = data.co2()
    assert series.values[0] == 316.1
    assert series.values[-1] == 371.5
    assert series.missing.sum() == 59
    assert (np.diff(series.times) == np.timedelta64(7, "D")).all()


def test_temperatures_leave_out_the_hour_that_begins_summer_time() -> None:
    series = data.temperatures()
    steps = np.diff(series.times) / np.timedelta64(1, "h")
    assert (steps == 1).sum() == len(series) - 2
    assert series.times[steps.argmax() + 1] == np.datetime64("2010-03-14T04")


def test_weather_has_four_measurements_of_every_day() -> None:
    series = data.weather()
    assert series.values.shape == (1461, 4)
    assert (np.diff(series.times) == np.timedelta64(1, "D")).all()
    lowest = series.values[:, series.columns.index("temp_min")]
    highest = series.values[:, series.columns.index("temp_max")]
    assert (lowest <= highest).all()


def series_of(values: object) -> Series:
    array = np.array(values, np.float64)
    return Series("toy", array, np.arange(len(array)).astype("datetime64[D]"), "m", 2, "", "")


def test_gaps_are_closed_with_the_last_value_before_them() -> None:
    nan = np.nan
    closed = series_of([1, nan, nan, 4, nan]).filled()
    assert closed.values.tolist() == [1, 1, 1, 4, 4]
    assert not closed.missing.any()
    columns = series_of([[1, 2], [nan, 3], [5, nan]])
    assert columns.missing.tolist() == [False, True, True]
    assert columns.filled().values.tolist() == [[1, 2], [1, 3], [5, 3]]


def test_a_gap_at_the_beginning_cannot_be_closed() -> None:
    with pytest.raises(DataError, match="the first value is missing"):
        series_of([np.nan, 1]).filled()


def test_mary_and_james_are_the_most_frequent_names() -> None:
    found = data.names()
    first = found.shares.argmax(axis=0)
    assert [found.names[i] for i in first] == ["mary", "james"]
    assert found.shares.max(axis=0).tolist() == [2.629, 3.318]
    assert (found.shares > 0).sum(axis=0).tolist() == [4275, 1219]
    assert (found.shares > 0).any(axis=1).all()
    assert len(set(found.names)) == len(found) == 5163
    assert all(name.isalpha() and name.islower() and name.isascii() for name in found.names)
    assert found.classes[found.labels[found.names.index("james")]] == "male"


def test_vowels_have_the_published_parts() -> None:
    found = data.japanese_vowels()
    lengths = np.array([len(x) for x in found.xs])
    assert (lengths.min(), lengths.max()) == (7, 29)
    assert all(x.shape[1] == 12 for x in found.xs)
    assert sorted([*found.train, *found.test]) == list(range(640))
    assert np.bincount(found.labels[found.train]).tolist() == [30] * 9
    # size_ae.test, published with the data
    assert np.bincount(found.labels[found.test]).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]


def test_vowels_are_the_doubles_that_their_decimals_give() -> None:
    first = data.japanese_vowels().xs[0]
    # The first line of the published training file
    assert first[0].tolist() == [
        1.860936, -0.207383, 0.261557, -0.214562, -0.171253, -0.118167, -0.277557, 0.025668,
        0.126701, -0.306756, -0.213076, 0.088728,
    ]  # fmt: skip
    assert (np.round(first, 6) == first).all()


def test_labels_belong_to_their_vowels_and_digits() -> None:
    vowels, images = data.japanese_vowels(), data.digits()
    means = np.array([x.mean(axis=0) for x in vowels.xs])
    pixels = images.images.reshape(-1, 64).astype(float)
    for x, labels, train, test in (
        (means, vowels.labels, vowels.train, vowels.test),
        (pixels, images.labels, np.arange(900), np.arange(900, 1797)),
    ):
        distances = ((x[test, None] - x[train]) ** 2).sum(axis=-1)
        nearest = labels[train][distances.argmin(axis=1)]
        assert (nearest == labels[test]).mean() > 0.9  # chance is about a tenth


def test_digits_have_the_published_counts() -> None:
    found = data.digits()
    counts = np.bincount(found.labels).tolist()
    assert counts == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # optdigits.names
    assert (found.images.min(), found.images.max()) == (0, 16)


def test_an_image_is_read_row_by_row() -> None:
    found = data.digits()
    rows = found.sequences()
    assert rows.shape == (8, 1797, 8)
    assert rows[3, 5].tolist() == (found.images[5, 3] / 16).tolist()
    assert (rows.min(), rows.max()) == (0, 1)
