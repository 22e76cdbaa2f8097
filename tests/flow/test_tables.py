"""Tables and sparklines."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad.flow.tables import ASCII_BLOCKS, BLOCKS, log_range, number, sparkline, steps, table


def test_a_sparkline_goes_from_the_lowest_to_the_highest_bar() -> None:
    assert sparkline(10.0 ** np.arange(-8, 0), -8, -1) == BLOCKS
    assert sparkline(10.0 ** np.arange(-8, 0), -8, -1, blocks=ASCII_BLOCKS) == ASCII_BLOCKS


def test_norms_beyond_the_scale_get_its_end_bars() -> None:
    assert sparkline(np.array([1e-30, 1e30]), -8, -1) == BLOCKS[0] + BLOCKS[-1]


def test_zeros_are_blank_and_what_is_not_finite_is_marked() -> None:
    assert sparkline(np.array([0.0, np.nan, np.inf, 1.0]), -1, 0) == f" !!{BLOCKS[-1]}"


@pytest.mark.parametrize("n", [1, 2, 23, 24, 25, 1000])
def test_a_sparkline_is_never_wider_than_asked(n: int) -> None:
    assert len(sparkline(np.ones(n), -1, 0, width=24)) == min(n, 24)


def test_nothing_has_an_empty_sparkline() -> None:
    assert sparkline(np.zeros(0), -1, 0).strip() == ""


def test_a_constant_profile_has_a_scale_all_the_same() -> None:
    assert len(sparkline(np.ones(5), *log_range([np.ones(5)]))) == 5


def test_the_range_skips_what_has_no_logarithm() -> None:
    assert log_range([np.array([0.0, np.nan, 0.01]), np.array([np.inf, 100.0])]) == (-2.0, 2.0)
    assert log_range([]) == (-1.0, 0.0)
    assert log_range([np.zeros(3)]) == (-1.0, 0.0)


def test_a_table_aligns_its_columns_and_has_no_trailing_blanks() -> None:
    lines = table(("a", "number"), [("long", "1"), ("b", "22")], right=[1]).splitlines()
    assert lines == ["a     number", "long       1", "b         22"]
    assert table(("a", "b"), [("1", "")]).splitlines() == ["a  b", "1"]


@pytest.mark.parametrize(
    ("x", "shown"), [(0.0, "0"), (3.21e-12, "3.2e-12"), (float("nan"), "nan"), (1.0, "1.0e+00")]
)
def test_numbers_are_short(x: float, shown: str) -> None:
    assert number(x) == shown


def test_half_lives_are_words_where_there_is_no_number() -> None:
    assert [steps(x) for x in (7.444, float("inf"), float("nan"))] == ["7.44", "never", "-"]
