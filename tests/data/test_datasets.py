"""Data sets and loaders of other libraries, known by what they yield."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad.data import Batches, DataError
from minigrad.data.datasets import arrays


class Foreign:
    """A tensor of another library: all that is known of it is `__array__`."""

    def __init__(self, values: Any):
        self.values = np.asarray(values)
        self.shape = self.values.shape

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.values if dtype is None else self.values.astype(dtype)


class Rows:
    """A data set as torch.utils.data has them: rows by number, and no IndexError at the end."""

    def __init__(self, *rows: Any):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Any:
        return self.rows[i % len(self.rows)]


class Walked(Rows):
    """One as HuggingFace has them, which also iterates, and is counted."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


class Loader:
    """What makes batches itself, in another order each time, and has no rows."""

    def __init__(self, dataset: Any, batch: int):
        self.dataset, self.batch = dataset, batch

    def __len__(self) -> int:
        return len(list(self))

    def __iter__(self) -> Iterator[list[Foreign]]:
        for i in range(0, len(self.dataset), self.batch):
            rows = self.dataset.rows[i : i + self.batch]
            yield [Foreign(np.stack([np.asarray(part) for part in parts])) for parts in zip(*rows)]


NAMED = ({"ids": [1, 2, 3], "label": 1, "tags": [7, 8, 9]}, {"ids": [4], "label": 0, "tags": [6]})


@pytest.mark.parametrize("kind", [Rows, Walked, lambda *rows: list(rows)])
def test_rows_that_are_dictionaries_are_taken_by_name(kind: Callable[..., Any]) -> None:
    (batch,) = Batches(kind(*NAMED), columns=("ids", "label"), seed=None)
    assert batch.x.tolist() == [[1, 4], [2, 0], [3, 0]]
    assert batch.y.tolist() == [1, 0]
    (batch,) = Batches(kind(*NAMED), columns=("ids", "tags"), seed=None)
    assert batch.y.values.tolist() == [[7, 6], [8, 0], [9, 0]]
    (batch,) = Batches(kind(*NAMED), columns="ids", seed=None)
    assert batch.y.tolist() == [0, 1]


@pytest.mark.parametrize("kind", [Rows, Walked])
@pytest.mark.parametrize("wrap", [Foreign, np.asarray])
def test_rows_that_are_pairs_are_x_and_y(kind: type[Rows], wrap: Callable[..., Any]) -> None:
    (batch,) = Batches(kind((wrap([1, 2]), wrap(5)), (wrap([3]), wrap(6))), seed=None)
    assert batch.x.tolist() == [[1, 3], [2, 0]]
    assert batch.y.tolist() == [5, 6]
    # Targets of one shape are stacked, as a loader would; of several, padded.
    (batch,) = Batches(kind((wrap([1]), wrap([5, 6])), (wrap([3]), wrap([7, 8]))), seed=None)
    assert batch.y.tolist() == [[5, 6], [7, 8]]
    (batch,) = Batches(kind((wrap([1]), wrap([5, 6])), (wrap([3]), wrap([7]))), seed=None)
    assert batch.y.values.tolist() == [[5, 7], [6, 0]]
    (batch,) = Batches(kind((wrap([1]),), (wrap([3, 4]),)), seed=None)
    assert batch.x.tolist() == [[1, 3], [0, 4]]


def test_a_list_of_pairs_holds_sequences_of_two() -> None:
    (batch,) = Batches([(1, 2), (3, 4)], seed=None)
    assert batch.x.tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Batches(Walked(*NAMED)), "dictionaries with 'ids', 'label', 'tags'; say which"),
        (lambda: Batches(Walked(*NAMED), columns="idss"), "row 0 has no column 'idss'"),
        (lambda: Batches(Rows(*NAMED), columns=("a", "b", "c")), "say which are x and y"),
        (lambda: Batches(Rows(([1], 2)), columns=("x", "y")), "these are tuples"),
        (lambda: Batches(Rows(([1], 2, 3))), "a row of Rows has 3 parts"),
        (lambda: Batches(Rows()), "at least one sequence"),
        (lambda: Batches(Loader(Rows(([1], 2)), 1)), r"Loader has no rows.*\(or its .dataset\)"),
        (lambda: Batches(iter([[1], [2]])), "has no rows to choose from by number"),
    ],
)
def test_a_data_set_that_does_not_say_what_is_x_is_refused(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        make()


def test_only_what_says_that_it_is_an_array_becomes_one() -> None:
    weight, held = mg.tensor([1.0], requires_grad=True), np.ma.masked_array([1.0, 2.0], [0, 1])
    found = arrays({"a": [Foreign([1, 2])], "text": "to be", "w": weight, "held": held, "n": 3})
    assert type(found["a"][0]) is np.ndarray
    assert found["text"] == "to be"
    assert found["w"] is weight
    assert found["held"] is held


@pytest.mark.parametrize("jit", [False, True])
def test_a_loader_trains_as_the_same_arrays_do(jit: bool) -> None:
    rng = np.random.default_rng(0)
    xs, ys = rng.normal(size=(6, 3)), rng.normal(size=(6, 1))
    loader = Loader(Rows(*zip(map(Foreign, xs), map(Foreign, ys))), batch=3)
    given = [(xs[:3], ys[:3]), (xs[3:], ys[3:])]

    def losses(batches: Any) -> tuple[list[float], int]:
        net = mg.nn.Linear(3, 1, dtype=np.float64, generator=np.random.default_rng(1))
        fitted = mg.train.fit(
            net,
            lambda model, batch: mg.nn.mse_loss(model(batch[0]), batch[1]),
            batches,
            mg.optim.SGD(net.parameters(), 0.1),
            epochs=3,
            progress=False,
            jit=jit,
        )
        return fitted.losses, fitted.replayed

    assert losses(loader) == losses(given)
