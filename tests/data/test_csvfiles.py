"""Series from CSV files: what is a number, a time, a gap; and windows of them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minigrad.data import Batches, DataError, Series, forecasting, read_csv


def read(folder: Path, text: str, **options: Any) -> Series:
    path = folder / "series.csv"
    path.write_text(text, encoding="utf-8")
    return read_csv(path, **options)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 9).flatmap(
        lambda columns: st.lists(
            st.lists(st.floats(allow_infinity=False), min_size=columns, max_size=columns),
            min_size=1,
            max_size=9,
        )
    ),
    st.sampled_from([",", ";", "\t"]),
)
def test_numbers_come_back_as_they_were_written(
    tmp_path: Path, rows: list[list[float]], delimiter: str
) -> None:
    path = tmp_path / "numbers.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow([f"column {i}" for i in range(len(rows[0]))])
        writer.writerows(rows)
    series = read_csv(path)
    expected = np.array(rows)
    np.testing.assert_array_equal(series.values, expected if len(rows[0]) > 1 else expected[:, 0])
    np.testing.assert_array_equal(series.times, np.arange(len(rows)))


@pytest.mark.parametrize(
    ("text", "options", "values", "times"),
    [
        ("1,2\n3,4\n", {}, [[1, 2], [3, 4]], "01"),
        ("1\n2\n\n3\n", {}, [1, 2, 3], "012"),
        ("when;x\n2024-01-01;1,5\n2024-01-02;2\n", {"decimal": ","}, [1.5, 2], None),
        ('x,"a, b"\n1,"2"\n', {}, [[1, 2]], "0"),
        ("day, x\n2024-01-01, NA\n2024-01-02, ?\n", {}, [np.nan, np.nan], None),
        ("sky,x\nrain,1\nsun,2\n", {"columns": ["x"]}, [1, 2], "01"),
        ("a,b,c\n1,2,3\n", {"columns": ["c", "a"]}, [[3, 1]], "0"),
        ("a,b\n1,2\n", {"columns": "b"}, [2], "0"),
        ("2024-02-01,5\n2024-01-01,6\n", {"columns": "1", "time": False}, [5, 6], "01"),
        (",x\n0,5\n1,6\n", {"columns": ["x"]}, [5, 6], "01"),
    ],
)
def test_what_is_a_number_a_gap_and_a_time(
    text: str, options: dict[str, Any], values: Any, times: str | None, tmp_path: Path
) -> None:
    series = read(tmp_path, text, **options)
    np.testing.assert_array_equal(series.values, values)
    expected = (
        np.array(["2024-01-01", "2024-01-02"], "M8") if times is None else list(map(int, times))
    )
    np.testing.assert_array_equal(series.times, expected)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2024-02-29 18:00", "2024-02-29T18:00"),
        ("2024-02-29T18:00:00Z", "2024-02-29T18:00"),
        ("2024-02-29T18:00+02:00", "2024-02-29T16:00"),
        ("2024-02", "2024-02-01"),
    ],
)
def test_times_are_iso_8601_and_those_of_a_zone_become_utc(
    written: str, meant: str, tmp_path: Path
) -> None:
    series = read(tmp_path, f"at,x\n{written},1\n2025-01-01,2\n")
    assert series.times[0] == np.datetime64(meant)


def test_a_year_is_a_number_unless_it_is_named_as_the_time(tmp_path: Path) -> None:
    text = "year,x\n1999,1\n2000,2\n"
    assert read(tmp_path, text).values.shape == (2, 2)
    series = read(tmp_path, text, time="year")
    assert series.times.tolist() == np.array(["1999", "2000"], "M8[Y]").tolist()
    assert repr(series) == "Series(series: [2], 1999 to 2000, season 1)"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1\n", {}, "line 2: 1 fields, and the first line has 2"),
        ("a\n", {}, "no row below the names"),
        ("a;b\n1,5;2\n", {}, r"line 2, column 'a': '1,5' is no number; pass decimal=','"),
        ("a,b\n1,2\nx,3\n", {}, "line 3, column 'a': 'x' is no number; name the columns to read"),
        ("a,b\n1_0,2\n", {}, "'1_0' is no number"),
        ("a,a\n1,2\n", {}, "there are 2 columns 'a'"),
        ("a,b\n1,2\n", {"columns": ["c"]}, "there are 0 columns 'c'; it has 'a', 'b'"),
        ("a,b\n1,2\n", {"time": "when"}, "there are 0 columns 'when'"),
        ("t,x\n2024-01-02,1\n2024-01-01,2\n", {}, "line 3: 2024-01-01 does not come after 2024-01"),
        ("t,x\n2024-01-01,1\n\n2024-01-01,2\n", {}, "line 4: 2024-01-01 does not come after"),
        ("t,x\n31.12.2024,1\n", {}, "'31.12.2024' is no number"),
        ("t,x\n31.12.2024,1\n", {"time": "t"}, "times are in ISO 8601"),
        ("t,x\nnow,1\n", {"time": "t"}, "'now' is no time"),
        ("t\n2024-01-01\n", {}, "no column beside the times"),
        (",x\n0,5\n1,6\n", {}, "column 1 has no name, and may be a count of the rows"),
        ('a,b\n"1,2\n', {}, "line 2: unexpected end of data"),
        ("\n\n", {}, "it is empty"),
    ],
)
def test_a_file_that_is_no_series_is_refused_with_its_place(
    text: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, text, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_windows_of_a_file_are_batches_in_the_dtype_asked_for(dtype: type, tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=(61, 2))
    text = "a,b\n" + "".join(f"{a!r},{b!r}\n" for a, b in table.tolist())
    data = forecasting(read(tmp_path, text), past=5, ahead=2, dtype=dtype)
    scaled = (table - table[:43].mean(axis=0)) / table[:43].std(axis=0)
    found = 0
    for x, lengths, y in Batches(data.train, batch=4, seed=None):
        assert x.dtype == y.dtype == dtype
        assert (lengths == 5).all()
        for b in range(len(lengths)):
            np.testing.assert_allclose(x[:, b], scaled[found : found + 5], rtol=1e-6)
            np.testing.assert_allclose(y[b], scaled[found + 5 : found + 7], rtol=1e-6)
            found += 1
    assert found == len(data.train) == 43 - 7 + 1


def test_a_masked_value_is_a_gap() -> None:
    series = np.ma.masked_array(np.arange(30.0), mask=np.arange(30) == 7)
    with pytest.raises(DataError, match="the value at step 7 is missing"):
        forecasting(series, past=3)
