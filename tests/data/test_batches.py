"""Batches: every item once an epoch, padding that changes nothing, and an order to be resumed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.data import Batches, DataError, LeftPadded, Padded, Stream, pad

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=40).filter(any)
OPTIONS = st.fixed_dictionaries(
    dict(batch=st.integers(1, 9), pool=st.integers(1, 4), seed=st.none() | st.integers(0, 99))
)


def sequences(lengths: list[int], columns: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(len(lengths))
    return [rng.normal(size=(length, columns)) for length in lengths]


@given(LENGTHS, OPTIONS, st.integers(0, 3))
def test_every_item_comes_once_an_epoch(
    lengths: list[int], options: dict[str, int], epoch: int
) -> None:
    batches = Batches(sequences(lengths), **options)
    for _ in range(epoch):
        list(batches)
    found = list(batches)
    assert len(found) == len(batches)
    assert sorted(np.concatenate([y for _, _, y in found])) == list(range(len(lengths)))
    assert max(len(y) for _, _, y in found) <= options["batch"]
    assert sum(len(y) < options["batch"] for _, _, y in found) <= 1


@given(LENGTHS, OPTIONS, st.sampled_from([0.0, -1.0, np.nan]))
def test_a_batch_holds_its_items_and_behind_them_padding(
    lengths: list[int], options: dict[str, int], value: float
) -> None:
    xs = sequences(lengths)
    for x, counts, items in Batches(xs, **options, pad=value):  # type: ignore[arg-type]
        assert x.shape == (counts.max(), len(items), 2)
        for b, (i, count) in enumerate(zip(items, counts, strict=True)):
            np.testing.assert_array_equal(x[:count, b], xs[i])
            np.testing.assert_array_equal(x[count:, b], np.full((len(x) - count, 2), value))


@given(LENGTHS, OPTIONS, st.integers(0, 100))
def test_a_resumed_epoch_gives_the_same_rest(
    lengths: list[int], options: dict[str, int], stop: int
) -> None:
    xs = sequences(lengths)
    whole = Batches(xs, **options)
    three = [batch for _ in range(3) for batch in whole]
    stop %= len(three)
    first = Batches(xs, **options)
    endless = itertools.chain.from_iterable(itertools.repeat(first))
    for _ in range(stop):
        next(endless)
    second = Batches(xs, **options)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    rest = list(itertools.islice(itertools.chain.from_iterable(itertools.repeat(second)),
                                 len(three) - stop))  # fmt: skip
    for one, other in zip(three[stop:], rest, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_padding_changes_neither_outputs_nor_gradients() -> None:
    xs = sequences([3, 1, 5, 2], columns=3)
    gru = mg.nn.GRU(3, 4, dtype="float64")
    gru.mode = "tape"

    def last_outputs_and_gradients(value: float, left: bool) -> list[np.ndarray]:
        (batch,) = Batches(xs, batch=4, seed=None, pad=value, left=left)
        if left:
            outs, _ = gru(mg.tensor(batch.x), mask=batch.mask)
            last = [outs[-1, b] for b in range(4)]
        else:
            outs, _ = gru(mg.tensor(batch.x), lengths=batch.lengths)
            last = [outs[int(n) - 1, b] for b, n in enumerate(batch.lengths)]
        loss = sum((h**2.0).sum() for h in last)
        grads = mg.grad(loss, list(gru.parameters()))
        return [h.numpy() for h in last] + [g.numpy() for g in grads]

    right = last_outputs_and_gradients(0, False)
    for found in (last_outputs_and_gradients(9, False), last_outputs_and_gradients(np.nan, True)):
        for a, b in zip(right, found, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)
    (batch,) = Batches(xs, seed=None, left=True)
    with pytest.raises((mg.ShapeError, ValueError, mg.DTypeError), match="lengths"):
        gru(mg.tensor(batch.x), lengths=batch.mask)


@given(LENGTHS, OPTIONS, st.booleans(), st.sampled_from([0.0, np.nan]))
def test_left_padding_stands_before_the_items_and_the_mask_says_where_they_begin(
    lengths: list[int], options: dict[str, int], ragged: bool, value: float
) -> None:
    xs = sequences(lengths)
    ys = list(map(np.arange, lengths)) if ragged else np.arange(len(xs))
    right_sides = Batches(xs, ys, **options)  # type: ignore[arg-type]
    left_sides = Batches(xs, ys, left=True, pad=value, **options)  # type: ignore[arg-type]
    sides = zip(right_sides, left_sides, strict=True)
    for (right, counts, y), (x, mask, left) in sides:
        assert isinstance(left, LeftPadded) == (ragged and not isinstance(y, np.ndarray))
        assert x.shape == right.shape
        np.testing.assert_array_equal(mask.sum(axis=0), counts)
        assert (np.diff(mask.astype(int), axis=0) >= 0).all()
        for b, count in enumerate(counts):
            np.testing.assert_array_equal(x[len(x) - count :, b], right[:count, b])
            np.testing.assert_array_equal(
                x[: len(x) - count, b], np.full((len(x) - count, 2), value)
            )
            if ragged:
                np.testing.assert_array_equal(left[0][len(x) - count :, b], y[0][:count, b])
        if ragged:
            np.testing.assert_array_equal(left.mask, mask)
        else:
            np.testing.assert_array_equal(left, y)


@pytest.mark.parametrize("left", [False, True])
def test_batch_first_swaps_the_first_two_axes_and_nothing_else(left: bool) -> None:
    xs, ys = sequences([3, 0, 1]), [[1, 2], [3], []]
    (one,) = Batches(xs, ys, left=left, seed=None)
    (two,) = Batches(xs, ys, left=left, seed=None, batch_first=True)
    swapped = [one[0], one.y[0], *([one[1], one.y[1]] if left else [])]
    found = [two[0], two.y[0], *([two[1], two.y[1]] if left else [])]
    for a, b in zip(swapped, found, strict=True):
        np.testing.assert_array_equal(a.swapaxes(0, 1), b)
    if not left:
        assert two[1].tolist() == [3, 0, 1]
        assert two.y.lengths.tolist() == [2, 1, 0]


def test_each_epoch_has_another_order_and_each_seed_too() -> None:
    def order(seed: int, epochs: int) -> list[list[int]]:
        batches = Batches([[0]] * 50, batch=50, seed=seed)
        return [next(iter([*batches])).y.tolist() for _ in range(epochs)]

    assert order(0, 2) == order(0, 2)
    assert order(0, 2)[0] != order(0, 2)[1]
    assert order(0, 1) != order(1, 1)


def test_a_loop_left_early_goes_on_where_it_was() -> None:
    batches = Batches([[i] for i in range(6)], batch=2)
    first = next(iter(batches)).y.tolist()
    rest = [i for _, _, y in batches for i in y.tolist()]
    assert sorted(first + rest) == list(range(6))
    assert batches.state_dict() == dict(items=6, batch=2, pool=1, seed=0, epoch=1, position=0)


def test_a_pool_of_like_lengths_saves_padding() -> None:
    rng = np.random.default_rng(0)
    xs = [np.zeros(int(n)) for n in rng.integers(1, 60, 400)]
    none, some = Batches(xs, batch=16).padding(), Batches(xs, batch=16, pool=8).padding()
    steps, used = 0, 0
    for x, lengths, _ in Batches(xs, batch=16):
        steps, used = steps + x.size, used + lengths.sum()
    assert none == pytest.approx(1 - used / steps)
    assert some < none / 3
    assert Batches([[1, 2]] * 5, batch=2).padding() == 0


def test_batches_of_like_length_do_not_come_by_length() -> None:
    xs = [np.zeros(n) for n in range(1, 101)]
    longest = [len(x) for x, _, _ in Batches(xs, batch=10, pool=10)]
    assert sorted(longest) == list(range(10, 101, 10))
    assert longest != sorted(longest)


def test_targets_may_be_numbers_arrays_or_sequences() -> None:
    xs = [[1, 2], [3]]
    (batch,) = Batches(xs, [5, 6], seed=None)
    assert batch.y.tolist() == [5, 6]  # type: ignore[union-attr]
    (batch,) = Batches(xs, np.arange(6.0).reshape(2, 3), seed=None)
    assert batch.y.tolist() == [[0, 1, 2], [3, 4, 5]]  # type: ignore[union-attr]
    (batch,) = Batches(xs, [[7], [8, 9, 10]], seed=None, pad=-2, pad_y=-1)
    assert isinstance(batch.y, Padded)
    assert batch.y.values.tolist() == [[7, 8], [-1, 9], [-1, 10]]
    assert batch.y.lengths.tolist() == [1, 3]
    assert batch.x.tolist() == [[1, 3], [2, -2]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Batches([]), "at least one sequence"),
        (lambda: Batches([[1]], batch=0), "1 or more, got 0 and 1"),
        (lambda: Batches([[1]], [1, 2]), "1 xs need as many ys, got 2"),
        (lambda: Batches(["to be"]), "sequence 0 is of <U5, not of numbers; encode texts first"),
        (lambda: Batches([[1], 2]), r"item 1 is 2; expected a sequence, \(T, ...\)"),
        (lambda: Batches([[1]], [2], columns="x"), "ys are given, so columns="),
        (lambda: pad(["to be"]), "sequence 0 is of <U5, not of numbers"),
        (lambda: pad([]), "at least one sequence"),
        (lambda: pad([[1], [2, 3]], np.nan), "nan does not fit sequences of int64"),
        (lambda: pad([[1], [2, 3]], 0.5), "0.5 does not fit sequences of int64"),
        (lambda: pad([np.ones(2, np.uint8)], -100), "-100 does not fit sequences of uint8"),
        (lambda: pad([[True]], 2), "2 does not fit sequences of bool"),
        (lambda: pad([[1], 2]), r"sequence 1 has shape \(\), sequence 0 \(1,\)"),
        (lambda: pad([np.zeros((2, 3)), np.zeros((2, 4))]), "differ in their first axis only"),
    ],
)
def test_what_makes_no_batch_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(seed=1), "saved with seed = 1, this has 0; the order would be another"),
        (dict(items=4), "saved with items = 4, this has 3"),
        (dict(position=9), "position 9 is not among the 2 batches"),
        (dict(epoch=None), "epoch and position are whole numbers, got None and 0"),
    ],
)
def test_a_state_of_other_batches_is_refused(change: dict[str, int], message: str) -> None:
    batches = Batches([[1], [2], [3]], batch=2)
    with pytest.raises(DataError, match=message):
        batches.load_state_dict(batches.state_dict() | change)


def test_an_empty_list_does_not_turn_numbers_into_floats() -> None:
    assert pad([[1, 2], []]).values.dtype == np.int64


@given(st.integers(2, 200), st.integers(1, 20), st.integers(1, 7))
def test_a_stream_goes_on_in_its_columns_and_asks_for_the_next_step(
    steps: int, length: int, batch: int
) -> None:
    if (steps - 1) // batch < 1:
        with pytest.raises(DataError, match=r"give .* columns no step each"):
            Stream(np.arange(steps), length, batch)
        return
    stream = Stream(np.arange(steps), length, batch)
    pieces = list(stream)
    assert len(pieces) == len(stream)
    xs = np.concatenate([x for x, _ in pieces])
    assert (np.concatenate([y for _, y in pieces]) == xs + 1).all()
    assert (np.diff(xs, axis=0) == 1).all()
    used = np.sort(xs.ravel())
    assert len(set(used)) == len(used)
    assert used.tolist() == list(range(len(used)))
    assert len(used) > steps - 1 - batch


@given(st.integers(0, 7))
def test_a_resumed_stream_gives_the_same_rest(stop: int) -> None:
    values = np.random.default_rng(0).normal(size=(31, 2))
    whole = list(Stream(values, 4, 3))
    first = Stream(values, 4, 3)
    pieces = iter(first)
    stop = min(stop, len(whole) - 1)
    for _ in range(stop):
        next(pieces)
    second = Stream(values, 4, 3)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    rest = list(second)
    for a, b in zip(whole[stop:], rest, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_state_of_another_stream_is_refused() -> None:
    stream = Stream(np.arange(20), 3, 2)
    with pytest.raises(DataError, match="saved with length = 4, this has 3"):
        stream.load_state_dict(stream.state_dict() | {"length": 4})
    with pytest.raises(DataError, match="position 99 is not among the 3 pieces"):
        stream.load_state_dict(stream.state_dict() | {"position": 99})
    with pytest.raises(DataError, match="length and batch are 1 or more"):
        Stream(np.arange(20), 0, 2)
