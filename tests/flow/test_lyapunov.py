"""Lyapunov exponents against closed forms, and Kaplan and Yorke's dimension at its edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.flow import FlowError, kaplan_yorke, lyapunov

Array = np.ndarray


def linear(W: Array) -> Callable[[Any, Any], Any]:
    """h <- h W, of which every Jacobian is W^T."""
    return lambda h, x: (h @ W, h)


def start(n: int, rows: int = 1) -> Any:
    return mg.tensor(np.full((rows, n), 0.1))


def test_exponents_of_a_linear_network_are_those_of_its_eigenvalues(
    rng: np.random.Generator,
) -> None:
    V = rng.normal(size=(5, 5)) + 3 * np.eye(5)
    W = V @ np.diag([1.2, -0.9, 0.5, 0.3, 0.1]) @ np.linalg.inv(V)
    found = lyapunov(linear(W), mg.tensor(np.zeros((1, 5))), steps=400, warmup=100)
    np.testing.assert_allclose(found.exponents, np.log([1.2, 0.9, 0.5, 0.3, 0.1]), atol=1e-9)
    assert found.n == 5
    assert found.history.shape == (300, 5)


def test_a_rotation_has_exponents_of_zero(rng: np.random.Generator) -> None:
    Q = np.linalg.qr(rng.normal(size=(7, 7)))[0]
    found = lyapunov(linear(Q), start(7, 2), steps=50)
    np.testing.assert_allclose(found.exponents, 0.0, atol=1e-13)
    np.testing.assert_allclose(found.per_row, np.zeros((2, 7)), atol=1e-13)


def test_the_henon_map_has_its_published_exponents() -> None:
    """x' = 1 - 1.4 x^2 + y, y' = 0.3 x: 0.419 and, as |det J| = 0.3, log 0.3 - 0.419.

    Dimension 1.258 (D. Russell, J. Hanson, E. Ott 1980).
    """

    def henon(state: Any, _: Any) -> Any:
        x, y = state
        return (1 - 1.4 * x * x + y, 0.3 * x), y

    init = (mg.tensor([[0.1], [0.2]]), mg.tensor([[0.1], [0.0]]))
    found = lyapunov(henon, init, steps=4000, warmup=100)
    assert found.largest == pytest.approx(0.419, abs=0.01)
    assert found.exponents.sum() == pytest.approx(math.log(0.3), abs=1e-10)
    assert found.dimension == pytest.approx(1.258, abs=0.01)
    assert found.entropy_rate == found.largest
    assert abs(found.largest - 0.419) < 4 * found.standard_error[0]


def test_the_logistic_map_has_log_2() -> None:
    found = lyapunov(lambda h, x: (4 * h * (1 - h), h), mg.tensor([[0.3]]), steps=5000)
    assert found.largest == pytest.approx(math.log(2), abs=0.01)
    assert found.dimension == 1.0


@pytest.mark.parametrize("k", [1, 2, 3])
def test_few_exponents_are_the_largest_of_all(k: int, rng: np.random.Generator) -> None:
    cell = nn.LSTMCell(2, 3, dtype=np.float64, generator=rng)
    xs = rng.normal(size=(600, 1, 2))
    found, whole = lyapunov(cell, xs=xs, k=k), lyapunov(cell, xs=xs)
    np.testing.assert_allclose(found.exponents[0], whole.exponents[0], atol=1e-3)
    assert found.exponents.shape == (k,)


def test_products_without_the_jacobian_give_the_same(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = nn.LSTMCell(2, 3, dtype=np.float64, generator=rng)
    xs = rng.normal(size=(20, 2, 2))
    expected = lyapunov(cell, xs=xs, k=2)
    monkeypatch.setattr("minigrad.flow.steps.Trajectory.chunks", None)  # not by way of these
    monkeypatch.setitem(lyapunov.__globals__, "LARGE", 1)
    monkeypatch.setitem(lyapunov.__globals__, "FEW", 1.0)
    found = lyapunov(cell, xs=xs, k=2)
    np.testing.assert_allclose(found.per_row, expected.per_row, rtol=1e-10)


def test_a_cell_with_a_memory_for_each_row_is_measured_by_its_jacobians(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = nn.AttentionLSTMCell(2, 3, memory_size=2, dtype=np.float64, generator=rng)
    cell.attend(rng.normal(size=(2, 4, 2)))
    xs = rng.normal(size=(20, 2, 2))
    expected = lyapunov(cell, xs=xs, k=2)
    monkeypatch.setitem(lyapunov.__globals__, "LARGE", 1)
    monkeypatch.setitem(lyapunov.__globals__, "FEW", 1.0)
    np.testing.assert_array_equal(lyapunov(cell, xs=xs, k=2).per_row, expected.per_row)


def test_rows_are_trajectories_of_their_own(rng: np.random.Generator) -> None:
    cell = nn.GRUCell(2, 3, dtype=np.float64, generator=rng)
    xs = rng.normal(size=(300, 2, 2))
    both = lyapunov(cell, xs=xs)
    np.testing.assert_allclose(both.exponents, both.per_row.mean(axis=0), rtol=1e-12)
    for row in range(2):
        alone = lyapunov(cell, xs=xs[:, row : row + 1])
        np.testing.assert_allclose(both.per_row[row], alone.exponents, atol=5e-3)


def test_a_layer_is_measured_in_three_lines(rng: np.random.Generator) -> None:
    gru = nn.GRU(3, 4, num_layers=2, dtype=np.float64, generator=rng)
    found = mg.flow.lyapunov(gru, xs=rng.normal(size=(100, 1, 3)))
    assert found.n == 8
    assert found.largest < 0
    assert str(found).startswith(f"largest Lyapunov exponent {found.largest:.4g} +- ")
    assert "8 of 8 exponents, 80 steps after 20 of warm-up" in str(found)


def test_singular_jacobians_have_exponents_of_minus_infinity(rng: np.random.Generator) -> None:
    """relu units that are off have a row of zeros; noise of 1e-16 is no exponent."""
    V = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    W = V @ np.diag([0.9, 0.5, 0.0, 0.0]) @ V.T
    found = lyapunov(linear(W), start(4), steps=200)
    np.testing.assert_allclose(found.exponents[:2], np.log([0.9, 0.5]), atol=1e-9)
    assert np.isneginf(found.exponents[2:]).all()
    assert found.dimension == 0.0
    off = lyapunov(lambda h, x: (mg.relu(h - 1.0), h), start(3), steps=5)
    assert np.isneginf(off.exponents).all()
    assert "largest Lyapunov exponent -inf" in str(off)


def test_exponents_of_tiny_jacobians_are_exact() -> None:
    """Saturated units have slopes of 1e-100: no direction is lost for that."""
    W = np.diag([1e-100, 1e-110, 1e-120])
    found = lyapunov(linear(W), mg.tensor(np.zeros((1, 3))), steps=20)
    np.testing.assert_allclose(found.exponents, np.log([1e-100, 1e-110, 1e-120]), rtol=1e-9)


def test_one_step_is_enough_for_numbers_and_too_little_for_an_error() -> None:
    found = lyapunov(linear(np.array([[0.5]])), start(1), steps=1)
    assert found.exponents.tolist() == pytest.approx([math.log(0.5)])
    assert np.isnan(found.standard_error).all()


def test_a_trajectory_that_overflows_is_named() -> None:
    def cell(h: Any, x: Any) -> Any:
        return h * h * 10.0, h

    with pytest.raises(FlowError, match=r"the state of row 1 holds NaN or Inf after \d+ steps"):
        lyapunov(cell, mg.tensor([[0.0], [2.0]]), steps=50)


def test_a_step_without_a_derivative_is_named() -> None:
    with pytest.raises(FlowError, match="the Jacobian of step 0 holds NaN or Inf although"):
        lyapunov(lambda h, x: (mg.sqrt(h), h), mg.tensor([[0.0]]), steps=3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"k": 0}, "k, a number of exponents, is from 1 to 2 here; got 0"),
        ({"k": 3}, "from 1 to 2 here; got 3"),
        ({"k": 1.0}, "is an integer; got 1.0"),
        ({"warmup": 5}, "from 0 to 4 here; got 5"),
        ({"warmup": True}, "is an integer"),
        ({"steps": None}, "without xs it takes steps"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(FlowError, match=says):
        lyapunov(linear(np.eye(2)), start(2), **({"steps": 5} | options))


@pytest.mark.parametrize(
    ("exponents", "dimension"),
    [
        ([-0.1], 0.0),
        ([-0.1, -2.0], 0.0),
        ([-math.inf], 0.0),
        ([0.0], 1.0),
        ([0.0, -1.0], 1.0),
        ([0.5, -math.inf], 1.0),
        ([0.9, 0.0, -14.6], 2 + 0.9 / 14.6),  # the Lorenz system
        ([-14.6, 0.9, 0.0], 2 + 0.9 / 14.6),
        ([1.0, -0.5, -0.5], 3.0),
        ([2.0, 1.0], 2.0),
    ],
)
def test_kaplan_yorke_at_its_edges(exponents: list[float], dimension: float) -> None:
    assert kaplan_yorke(exponents) == pytest.approx(dimension, rel=1e-12)


def test_too_few_exponents_give_no_dimension() -> None:
    W = np.diag([2.0, 1.5, 0.1])
    few = lyapunov(linear(W), mg.tensor(np.zeros((1, 3))), steps=200, k=2)
    assert math.isnan(few.dimension)
    enough = lyapunov(linear(W), mg.tensor(np.zeros((1, 3))), steps=200, k=3)
    assert enough.dimension == pytest.approx(2 + math.log(3) / math.log(10), rel=1e-6)


def test_kaplan_yorke_refuses_nan() -> None:
    with pytest.raises(mg.errors.ShapeError, match="without NaN"):
        kaplan_yorke([1.0, math.nan])
