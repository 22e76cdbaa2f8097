"""Tasks: what a sequence holds, what is to be said, and the least loss without a memory."""

from __future__ import annotations

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.lab.tasks import TASKS, Adding, Copy, Latch, Order, TaskError, task

LENGTHS = {"adding": (2, 3, 11, 50), "copy": (1, 3, 20), "latch": (1, 2, 31), "order": (10, 17, 50)}
EVERY = [(name, length) for name, lengths in LENGTHS.items() for length in lengths]


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize(("name", "length"), EVERY)
def test_a_batch_has_the_shapes_the_task_promises(
    name: str, length: int, rows: int, rng: np.random.Generator
) -> None:
    work = task(name, length)
    xs, targets = work.batch(rng, rows)
    assert xs.shape == (work.steps, rows, work.inputs)
    assert xs.dtype == np.float32
    said = (rows,) if work.last else (work.steps, rows)
    assert targets.shape == ((rows, 1) if name == "adding" else said)
    if name != "adding":
        assert 0 <= targets.min() <= targets.max() < work.outputs


@pytest.mark.parametrize("name", TASKS)
def test_the_same_generator_gives_the_same_batch(name: str) -> None:
    first, again = (task(name, 20).batch(np.random.default_rng(3), 5) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_adding_marks_one_number_in_each_half_and_asks_for_their_sum(
    rng: np.random.Generator,
) -> None:
    xs, targets = Adding(11).batch(rng, 300)
    numbers, marks = xs[..., 0], xs[..., 1]
    assert set(np.unique(marks)) == {0.0, 1.0}
    assert (marks[:5].sum(axis=0) == 1).all()
    assert (marks[5:].sum(axis=0) == 1).all()
    np.testing.assert_allclose(targets[:, 0], (numbers * marks).sum(axis=0), rtol=1e-6)
    assert set(marks.argmax(axis=0)) == set(range(5))  # everywhere in the first half


def test_the_baseline_of_adding_is_the_error_of_always_saying_one(
    rng: np.random.Generator,
) -> None:
    _, targets = Adding(6).batch(rng, 200_000)
    assert Adding(6).baseline == 1 / 6
    assert ((targets - 1.0) ** 2).mean() == pytest.approx(1 / 6, rel=0.02)


@pytest.mark.parametrize(("length", "figure"), [(100, 0.1733), (500, 0.0400), (1000, 0.0204)])
def test_the_baseline_of_copy_is_10_ln_8_over_t_plus_20(length: int, figure: float) -> None:
    assert Copy(length).baseline == pytest.approx(figure, abs=5e-5)


def test_copy_asks_for_the_symbols_after_the_signal(rng: np.random.Generator) -> None:
    length, rows = 7, 5
    xs, y = Copy(length).batch(rng, rows)
    assert (xs.sum(axis=-1) == 1).all()
    x = xs.argmax(axis=-1)
    assert x[:10].max() < 8
    np.testing.assert_array_equal(y[-10:], x[:10])
    assert (y[:-10] == 8).all()
    assert (x[10 + length - 1] == 9).all()  # the signal, right before the ten steps of the answer
    assert (np.delete(x[10:], length - 1, axis=0) == 8).all()


def test_copy_with_the_blanks_certain_and_a_guess_of_eight_has_the_baseline(
    rng: np.random.Generator,
) -> None:
    work = Copy(5)
    _, y = work.batch(rng, 4)
    logits = np.full((work.steps, 4, 9), -60.0)
    logits[:-10, :, 8] = 60.0
    logits[-10:, :, :8] = 0.0
    loss = work.loss(mg.tensor(logits), y).item()
    assert loss == pytest.approx(work.baseline, rel=1e-9)


def test_latch_hides_a_sign_before_noise(rng: np.random.Generator) -> None:
    xs, y = Latch(40).batch(rng, 2000)
    assert xs[1:].std() == pytest.approx(0.2, rel=0.02)
    assert abs(xs[1:].mean()) < 0.01
    signs = 2 * y - 1
    assert (xs[0, :, 0] - signs).std() == pytest.approx(0.2, rel=0.1)
    assert 0.4 < y.mean() < 0.6
    assert Latch(40).baseline == pytest.approx(math.log(2))


@pytest.mark.parametrize("length", [10, 17, 50])
def test_order_hides_two_symbols_in_the_second_and_the_fifth_tenth(
    length: int, rng: np.random.Generator
) -> None:
    xs, y = Order(length).batch(rng, 400)
    x = xs.argmax(axis=-1)
    special = x >= 4
    assert (special.sum(axis=0) == 2).all()
    first = special.argmax(axis=0)
    second = length - 1 - special[::-1].argmax(axis=0)
    assert length // 10 <= first.min()
    assert first.max() <= max(2 * length / 10 - 1, length // 10)
    assert 4 * length // 10 <= second.min()
    assert second.max() < max(5 * length / 10, 4 * length // 10 + 1)
    row = np.arange(400)
    np.testing.assert_array_equal(y, 2 * (x[first, row] - 4) + x[second, row] - 4)
    assert set(y) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", TASKS)
def test_a_tenth_of_the_baseline_is_solved(name: str) -> None:
    work = task(name, 20)
    assert work.solved(0.1 * work.baseline)
    assert not work.solved(0.11 * work.baseline)
    assert not work.solved(math.nan)


@pytest.mark.parametrize(
    ("name", "length", "least"),
    [("adding", 1, 2), ("copy", 0, 1), ("latch", 0, 1), ("order", 9, 10)],
)
def test_too_short_a_length_is_refused_with_the_shortest(
    name: str, length: int, least: int
) -> None:
    with pytest.raises(TaskError, match=f"{name}: length {length} is too short; at least {least}"):
        task(name, length)


def test_an_unknown_task_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(TaskError, match="'sorting' is not known; there are adding, copy"):
        task("sorting", 10)
