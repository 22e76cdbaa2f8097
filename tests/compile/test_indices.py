"""Integers among the xs choose rows of a table: those of this call, and of this window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

TABLE = np.arange(6.0)[:, None] ** 2  # row i holds i^2: a wrong index shows at once


def by_index(table: Any) -> Any:
    return lambda h, i: (h + table[i], table[i])


def by_take(table: Any) -> Any:
    return lambda h, i: (h + mg.take(table, i, axis=0), mg.take(table, i, axis=0))


def by_embedding(table: Any) -> Any:
    layer = nn.Embedding(6, 1, dtype=np.float64)
    layer.weight = table if isinstance(table, nn.Parameter) else nn.Parameter(table.numpy())

    class Embeds(nn.Module):
        def __init__(self) -> None:
            self.layer = layer

        def forward(self, h: Any, i: Any) -> tuple[Any, Any]:
            e = self.layer(i)
            return h + e, e

    return Embeds()


def by_one_hot(table: Any) -> Any:
    def cell(h: Any, i: Any) -> tuple[Any, Any]:
        e = mg.one_hot(i, 6, np.float64) @ table
        return h + e, e

    return cell


def promised(table: Any) -> Any:
    return mg.pure(by_index(table))


CELLS = [by_index, by_take, by_embedding, by_one_hot, promised]


@pytest.mark.parametrize("make", CELLS)
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_each_call_reads_its_own_indices(make: Any, dtype: Any) -> None:
    table = nn.Parameter(TABLE)
    cell = make(table)
    rng = np.random.default_rng(0)
    for _ in range(5):
        ids = rng.integers(0, 6, (3, 2)).astype(dtype)
        table.grad = None
        final, ys = mg.scan(cell, mg.tensor(np.zeros((2, 1))), ids)
        np.testing.assert_array_equal(ys.numpy(), TABLE[ids])
        np.testing.assert_array_equal(final.numpy(), TABLE[ids].sum(0))
        final.sum().backward()
        counts = np.bincount(ids.ravel(), minlength=6)
        np.testing.assert_array_equal(table.grad.numpy().ravel(), counts)  # type: ignore[union-attr]


WINDOWS = [{"checkpoint": n} for n in (1, 2, 3)] + [{"truncate": n} for n in (1, 2)]


@pytest.mark.parametrize("options", [*WINDOWS, {"reverse": True}])
@pytest.mark.parametrize("make", [by_index, promised, by_one_hot])
def test_each_window_reads_its_own_indices(make: Any, options: Any) -> None:
    table = nn.Parameter(TABLE)
    cell = make(table)
    for shift in range(3):
        ids = (np.arange(5)[:, None] + shift) % 6
        table.grad = None
        final, ys = mg.scan(cell, mg.tensor([[0.0]]), ids, **options)
        np.testing.assert_array_equal(ys.numpy(), TABLE[ids])
        np.testing.assert_array_equal(final.numpy(), TABLE[ids].sum(0))
        ys.sum().backward()
        counts = np.bincount(ids.ravel(), minlength=6)
        np.testing.assert_array_equal(table.grad.numpy().ravel(), counts)  # type: ignore[union-attr]


def test_indices_that_are_edited_in_place_between_calls_are_read_anew() -> None:
    cell, ids = by_index(mg.tensor(TABLE)), mg.tensor(np.array([[0], [1]]))
    for k in range(4):
        ids.data = np.array([[k], [k + 1]])
        assert mg.scan(cell, mg.tensor([[0.0]]), ids).ys.tolist() == [[[k**2]], [[(k + 1) ** 2]]]


def test_lengths_go_with_the_indices_of_their_call() -> None:
    cell = by_index(mg.tensor(TABLE))
    for k in range(4):
        ids = np.array([[k, 1], [k + 1, 2]])
        ys = mg.scan(cell, mg.tensor(np.zeros((2, 1))), ids, lengths=[2, 1]).ys.numpy()
        np.testing.assert_array_equal(ys[..., 0], [[k**2, 1], [(k + 1) ** 2, 0]])


def test_integers_beside_floats() -> None:
    table = mg.tensor(TABLE)

    def cell(h: Any, x: Any) -> tuple[Any, Any]:
        i, factor = x
        return h + table[i] * factor, ()

    for k in range(4):
        xs = (np.array([[k]]), np.full((1, 1, 1), k + 0.5))
        assert mg.scan(cell, mg.tensor([[0.0]]), xs).final.item() == k**2 * (k + 0.5)


@pytest.mark.parametrize("make", [by_index, by_one_hot])
def test_an_index_out_of_bounds_is_refused_at_the_call_that_has_it(make: Any) -> None:
    cell = make(mg.tensor(TABLE))
    for _ in range(3):
        mg.scan(cell, mg.tensor([[0.0]]), np.array([[1]]))
    with pytest.raises(mg.ShapeError, match=r"bounds|reach"):
        mg.scan(cell, mg.tensor([[0.0]]), np.array([[6]]))


def test_a_mask_of_xs_is_no_index() -> None:
    table = mg.tensor(np.ones((2, 1)))
    with pytest.raises(mg.TraceError, match=r"used as an index.*mg\.where"):
        mg.scan(lambda h, m: (h + table[m], ()), mg.tensor(np.zeros((2, 1))), np.ones((3, 2), bool))
