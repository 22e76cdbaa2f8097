"""Parts share nothing, whatever they are split by, and a seed always gives the same ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data import DataError, Parts, split_at_random, split_by_group, split_in_time
from minigrad.data.splits import shuffled

SHARES = st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.6, 0.0, 0.4), (1.0, 0.0, 0.0)])


def everyone(parts: Parts) -> list[int]:
    return sorted(np.concatenate(parts).tolist())


@given(st.integers(10, 300), SHARES)
def test_time_parts_hold_every_step_once_and_follow_each_other(
    length: int, shares: tuple[float, float, float]
) -> None:
    parts = split_in_time(length, shares)
    assert np.concatenate(parts).tolist() == list(range(length))
    for part, share in zip(parts, shares, strict=True):
        assert abs(len(part) - share * length) <= 1


@given(st.integers(10, 300), SHARES, st.integers(0, 2**40))
def test_random_parts_hold_every_item_once(
    length: int, shares: tuple[float, float, float], seed: int
) -> None:
    parts = split_at_random(length, shares, seed)
    assert everyone(parts) == list(range(length))
    for part, share in zip(parts, shares, strict=True):
        assert abs(len(part) - share * length) <= 1
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()


@given(st.lists(st.integers(0, 30), min_size=40, max_size=120), SHARES, st.integers(0, 99))
def test_no_group_is_in_two_parts(
    groups: list[int], shares: tuple[float, float, float], seed: int
) -> None:
    groups = groups + list(range(12))  # enough different ones for every part
    parts = split_by_group(groups, shares, seed)
    assert everyone(parts) == list(range(len(groups)))
    seen = [{groups[i] for i in part} for part in parts]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not seen[a] & seen[b]


@given(st.lists(st.integers(0, 3), min_size=30, max_size=200), st.integers(0, 99))
def test_stratified_parts_keep_the_shares_within_each_label(labels: list[int], seed: int) -> None:
    shares = (0.6, 0.2, 0.2)
    parts = split_at_random(len(labels), shares, seed, labels)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        for part, share in zip(parts, shares, strict=True):
            inside = (np.asarray(labels)[part] == label).sum()
            assert abs(inside - share * count) <= 1


def test_groups_can_be_stratified_too() -> None:
    speakers = np.repeat(np.arange(20), 3)
    sex = (speakers >= 15).astype(int)  # 15 and 5 speakers
    parts = split_by_group(speakers, (0.6, 0.2, 0.2), labels=sex)
    assert [np.bincount(sex[part]).tolist() for part in parts] == [[27, 9], [9, 3], [9, 3]]


def test_a_group_with_two_labels_cannot_be_stratified() -> None:
    with pytest.raises(DataError, match="item 2 has another label than item 0 of its group"):
        split_by_group(["a", "b", "a"], labels=[0, 0, 1])


def test_a_seed_gives_the_same_parts_and_another_gives_others() -> None:
    one, same, other = (split_at_random(100, seed=seed) for seed in (1, 1, 2))
    assert one.test.tolist() == same.test.tolist()
    assert one.test.tolist() != other.test.tolist()


@given(st.integers(0, 200), st.integers(0, 2**63), st.integers(0, 1000))
def test_shuffling_is_a_permutation(length: int, seed: int, epoch: int) -> None:
    assert sorted(shuffled(length, seed, epoch).tolist()) == list(range(length))


def test_shuffling_is_the_same_under_every_numpy() -> None:
    # Stored when this was written: a checkpoint's order must never change.
    assert shuffled(8, 7, 1).tolist() == [1, 3, 2, 7, 4, 5, 0, 6]


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(DataError, match="a seed is a whole number of 0 or more, got -1"):
        split_at_random(10, seed=-1)


def test_shuffling_favours_no_order() -> None:
    counts = np.zeros((3, 3))
    for seed in range(600):
        counts[np.arange(3), shuffled(3, seed)] += 1
    assert (np.abs(counts - 200) < 60).all()  # more than four standard deviations


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.6, -0.1), (0.5, 0.2, 0.2)])
def test_shares_that_are_none_are_refused(shares: tuple[float, ...]) -> None:
    for split in (split_in_time, split_at_random):
        with pytest.raises(DataError, match="train, valid and test and add up to 1"):
            split(10, shares)


def test_a_part_left_empty_is_refused() -> None:
    with pytest.raises(DataError, match=r"of 3 steps none is left for test \(share 0.1\)"):
        split_in_time(3)
    with pytest.raises(DataError, match="of 2 items or groups none is left for valid"):
        split_by_group(["a", "b", "b"] * 9)


def test_labels_and_groups_of_another_shape_are_refused() -> None:
    with pytest.raises(DataError, match=r"one for each of 10 items, got \(9,\)"):
        split_at_random(10, labels=[0] * 9)
    with pytest.raises(DataError, match=r"one number or string for each item, got \(2, 2\)"):
        split_by_group([[0, 1], [1, 0]])
