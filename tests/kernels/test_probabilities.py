"""Softmax and cross-entropy against mpmath, over widths, layouts, specials and threads."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

import minigrad as mg
from minigrad.kernels import probabilities as kernels
from minigrad.kernels.index import scatter_add, take_rows
from minigrad.kernels.linear import add_to_rows
from minigrad.kernels.work import run

F32, F64 = np.float32, np.float64
WIDTHS = [1, 2, 7, 8, 27, 64, 65, 128]  # short, with and without a rest of a vector
INF, NAN = math.inf, math.nan


def exact_row(x, target):
    """(softmax, log_softmax, logsumexp, loss, its slope) of a row, at 50 digits."""
    with mpmath.workdps(50):
        e = [mpmath.exp(mpmath.mpf(float(v))) for v in x]
        total = mpmath.fsum(e)
        log_p = [mpmath.log(v / total) for v in e]
        loss = mpmath.log1p((total - e[target]) / e[target])
        slope = [v / total for v in e]
        slope[target] = -(total - e[target]) / total
        rows = [v / total for v in e], log_p, [mpmath.log(total)], [loss], slope
        return [np.array([float(v) for v in row]) for row in rows]


def close(got, expected, dtype, absolute=0.0):
    eps = float(np.finfo(dtype).eps)
    # x - max(x), up to 40, is rounded before its exponential: 20 eps, and some for the rest
    np.testing.assert_allclose(got, expected, rtol=32 * eps, atol=32 * eps * absolute + 1e-40)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("n", WIDTHS)
def test_every_row_is_right_to_some_roundings(n, dtype, rng):
    x = (rng.normal(size=(5, n)) * 4).astype(dtype)
    x[1, 0] = 30.0  # its probability rounds to 1 in float32
    x[2] = x[2, 0]  # all equal
    targets = rng.integers(0, n, 5)
    targets[1] = 0
    loss = kernels.cross_entropy(x, targets, -100, "none")
    slope = kernels.cross_entropy_pull(np.ones(5, dtype), x, targets, -100, "none")
    for row, target in enumerate(targets):
        p, log_p, total, lost, dx = exact_row(x[row], target)
        close(kernels.softmax(x)[row], p, dtype)
        size = np.abs(x[row]).max()
        close(kernels.log_softmax(x)[row], log_p, dtype, absolute=size)
        close(kernels.logsumexp(x)[row], total[0], dtype, absolute=size)
        own = x[row, target] == x[row].max()  # else the loss is a difference of logits
        close(loss[row], lost[0], dtype, absolute=0.0 if own else size)
        close(slope[row], dx, dtype)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_a_long_row_is_as_accurate_as_a_short_one(dtype, rng):
    n = 10_001
    x = rng.normal(size=(2, n)).astype(dtype)
    wide = x.astype(F64)
    e = np.exp(wide)
    p = e / e.sum(-1, keepdims=True)
    close(kernels.softmax(x), p, dtype)
    close(kernels.logsumexp(x), np.log(e.sum(-1)), dtype)
    close(kernels.log_softmax(x), np.log(p), dtype)
    targets = np.array([0, n - 1])
    slope = kernels.cross_entropy_pull(np.array(1.0, dtype), x, targets, -100, "sum")
    p[[0, 1], targets] -= 1
    np.testing.assert_allclose(slope, p, rtol=1e-4 if dtype is F32 else 1e-11)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("n", [*WIDTHS, 5001])
def test_vector_jacobian_products_are_those_of_the_closed_form(n, dtype, rng):
    x, g = (rng.normal(size=(4, n)) for _ in range(2))
    p = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    tolerance = 2e-5 if dtype is F32 else 1e-13
    got = kernels.softmax_pull(g.astype(dtype), p.astype(dtype))
    expected = p * (g - (g * p).sum(-1, keepdims=True))
    np.testing.assert_allclose(got, expected, atol=tolerance)
    got = kernels.log_softmax_pull(g.astype(dtype), np.log(p).astype(dtype))
    np.testing.assert_allclose(got, g - p * g.sum(-1, keepdims=True), atol=tolerance * n)


SPECIAL = [
    [-INF, 0.0, 1.0],
    [-INF, -INF, 2.0],
    [INF, 0.0, -1.0],
    [NAN, 0.0, 1.0],
    [0.0, 1.0, NAN],
    [-INF, -INF, -INF],
    [1e30, -1e30, 0.0],
    [1e4, 1e4, -1e4],
]


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("width", [3, 11])
def test_infinite_and_huge_numbers_are_those_of_the_moved_formula(width, dtype):
    x = np.full((len(SPECIAL), width), -1e3, dtype)
    x[:, :3] = np.array(SPECIAL, dtype)
    with np.errstate(all="ignore"):
        top = x.max(-1, keepdims=True)
        moved = x - np.where(np.isfinite(top), top, 0).astype(dtype)
        total = np.exp(moved).sum(-1, keepdims=True)
        log_total, p = np.log(total), np.exp(moved) / total
    np.testing.assert_allclose(kernels.softmax(x), p, rtol=1e-6, atol=1e-30)
    loss = kernels.cross_entropy(x, np.full(len(x), 1), -100, "none")
    with np.errstate(all="ignore"):
        log_p, whole = moved - log_total, log_total + np.where(np.isfinite(top), top, 0)
    np.testing.assert_allclose(kernels.log_softmax(x), log_p, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(loss, -log_p[:, 1], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(kernels.logsumexp(x), whole[:, 0], rtol=1e-6)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_ignored_rows_neither_count_nor_pass_a_gradient(reduction, dtype, rng):
    x = rng.normal(size=(6, 2, 5)).astype(dtype)
    x[0, 0] = NAN  # of a row that is ignored: the loss does not see it
    targets = rng.integers(0, 5, (6, 2))
    targets[0, 0] = targets[3, 1] = 7
    kept = targets != 7
    each = np.zeros((6, 2))
    p = np.zeros(x.shape)
    for at in zip(*np.nonzero(kept), strict=True):
        p[at], _, _, (each[at],), _ = exact_row(x[at], targets[at])
        p[at][targets[at]] -= 1
    count = kept.sum()
    expected = {"none": each, "sum": each.sum(), "mean": each.sum() / count}[reduction]
    got = kernels.cross_entropy(x, targets, 7, reduction)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=1e-5 if dtype is F32 else 1e-13)
    g = np.asarray(rng.normal(size=got.shape), dtype)
    dx = kernels.cross_entropy_pull(g, x, targets, 7, reduction)
    scale = g[..., None] if reduction == "none" else g / (count if reduction == "mean" else 1)
    np.testing.assert_allclose(dx, p * scale, atol=1e-6 if dtype is F32 else 1e-14)
    assert not dx[0, 0].any()


def test_a_target_that_names_no_class_is_refused_at_its_place():
    x = np.zeros((3, 4))
    for bad in (4, -1):
        with pytest.raises(kernels.BadTarget) as caught:
            kernels.cross_entropy(x, np.array([0, bad, 9]), -100, "sum")
        assert caught.value.place == 1
    assert np.isnan(kernels.cross_entropy(x, np.full(3, -100), -100, "mean"))
    assert kernels.cross_entropy(x, np.full(3, -100), -100, "sum") == 0


@pytest.mark.needs_jit
def test_prepared_work_reads_what_its_arrays_hold_when_it_runs(rng):
    x, targets = np.empty((4, 9)), np.empty(4, np.int64)
    losses, y, g, dx = np.empty(4), np.empty(()), np.ones(()), np.empty((4, 9))
    forward = kernels.cross_entropy_work(x, targets, -100, "mean", losses, y)
    back = kernels.cross_entropy_pull_work(g, x, targets, -100, "mean", dx)
    for _ in range(3):
        x[...], targets[...] = rng.normal(size=(4, 9)), rng.integers(0, 9, 4)
        for work in (*forward, *back):
            run(*work)
        e = np.exp(x)
        p = e / e.sum(-1, keepdims=True)
        assert y == pytest.approx(-np.log(p[range(4), targets]).mean(), rel=1e-14)
        p[range(4), targets] -= 1
        np.testing.assert_allclose(dx, p / 4, atol=1e-15)
    targets[2] = 9
    run(*forward[0])
    assert kernels.bad_target(forward[0].job).place == 2


@pytest.fixture
def any_threads():
    before = mg.get_num_threads()
    yield
    mg.set_num_threads(before)


@pytest.mark.needs_jit
@pytest.mark.usefixtures("any_threads")
@pytest.mark.parametrize("n", [7, 64, 65])
def test_bits_depend_neither_on_threads_nor_on_the_other_rows(n, rng):
    rows = 3001
    x, g = (rng.normal(size=(rows, n)).astype(F32) for _ in range(2))
    targets, one = rng.integers(0, n, rows), np.array(1.0, F32)
    table = rng.normal(size=(n, 96)).astype(F32)
    values = rng.normal(size=(rows, 96)).astype(F32)

    def everything():
        sums, shifted = np.zeros_like(table), x.copy()
        scatter_add(sums, targets, values)
        add_to_rows(shifted, g[0])
        return [
            kernels.softmax(x), kernels.log_softmax(x), kernels.logsumexp(x),
            kernels.softmax_pull(g, kernels.softmax(x)),
            kernels.log_softmax_pull(g, kernels.log_softmax(x)),
            kernels.cross_entropy(x, targets, -100, "none"),
            kernels.cross_entropy(x, targets, -100, "mean"),
            kernels.cross_entropy_pull(one, x, targets, -100, "sum"),
            take_rows(table, targets), sums, shifted,
        ]  # fmt: skip

    mg.set_num_threads(1)
    expected = everything()
    for count in (2, 3):
        mg.set_num_threads(count)
        for a, b in zip(expected, everything(), strict=True):
            np.testing.assert_array_equal(a, b)
    for row in (0, 1234, rows - 1):
        alone = slice(row, row + 1)
        np.testing.assert_array_equal(kernels.softmax(x[alone])[0], expected[0][row])
        np.testing.assert_array_equal(kernels.logsumexp(x[alone])[0], expected[2][row])
        loss = kernels.cross_entropy(x[alone], targets[alone], -100, "none")
        assert loss[0] == expected[5][row]


@pytest.mark.parametrize("dtype", [F32, F64])
def test_rows_are_looked_up_as_numpy_does(dtype, rng):
    table = rng.normal(size=(5, 3, 2)).astype(dtype)
    for index in (rng.integers(-5, 5, (4, 3)), np.array(2), np.zeros((0, 2), np.int32)):
        got = take_rows(table, index)
        np.testing.assert_array_equal(got, table[index])
        assert not np.shares_memory(got, table)
    for bad in (5, -6):
        with pytest.raises(mg.ShapeError, match="there are 5 rows, expected -5 to 4"):
            take_rows(table, np.array([0, bad]))
