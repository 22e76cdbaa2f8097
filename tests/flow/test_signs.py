"""The sign test, against counting all outcomes, and Holm's procedure, against its definition."""

from __future__ import annotations

from itertools import product

import pytest

from minigrad.flow.prescribing.signs import holm, pairs_needed, tail


@pytest.mark.parametrize("n", [0, 1, 2, 5, 9])
def test_the_tail_is_the_share_of_all_outcomes_with_so_many_wins(n: int) -> None:
    outcomes = [sum(signs) for signs in product((0, 1), repeat=n)]
    for wins in range(n + 1):
        assert tail(wins, n) == sum(k >= wins for k in outcomes) / len(outcomes)


@pytest.mark.parametrize(("wins", "pairs"), [(-1, 3), (4, 3), (1, 0)])
def test_more_wins_than_pairs_are_refused(wins: int, pairs: int) -> None:
    with pytest.raises(ValueError, match="0 <= wins <= pairs"):
        tail(wins, pairs)


@pytest.mark.parametrize(
    ("ps", "found"),
    [
        ([], []),
        ([0.05], [True]),
        ([0.051], [False]),
        ([0.01, 0.04, 0.03, 0.005], [True, False, False, True]),  # 0.03 > 0.05 / 2
        ([0.02, 0.02], [True, True]),  # 0.02 <= 0.05 / 2 and <= 0.05
        ([1.0, 0.001], [False, True]),
    ],
)
def test_the_smallest_p_are_held_against_smaller_levels(ps: list[float], found: list[bool]) -> None:
    assert holm(ps) == found


@pytest.mark.parametrize("questions", [1, 2, 7, 12, 13])
def test_fewer_pairs_than_needed_can_tell_nothing(questions: int) -> None:
    n = pairs_needed(questions)
    ps = [1.0] * (questions - 1)
    assert holm([*ps, tail(n, n)])[-1]
    assert not holm([*ps, tail(n - 1, n - 1)])[-1]
