"""Fixed points against closed forms, long runs and finite differences; what is not certain."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.flow import FlowError, fixed_points
from minigrad.tree import leaves, map_leaves

Array = np.ndarray


def upper(w: float) -> float:
    """h > 0 with h = tanh(w h), for w > 1, by bisection."""
    low, high = 1e-9, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if math.tanh(w * middle) > middle else (low, middle)
    return low


def squashed(weights: Any) -> Any:
    """h <- tanh(w h), unit by unit: 3^n fixed points if every w > 1."""
    return lambda h, x: (mg.tanh(h * weights), h)


def test_units_apart_have_three_to_the_n_fixed_points(rng: np.random.Generator) -> None:
    w = np.array([2.0, 1.5, 3.0])
    found = fixed_points(squashed(w), rng.uniform(-1.5, 1.5, (400, 3)))
    assert len(found) == 27
    expected = np.array(list(product(*([-upper(v), 0.0, upper(v)] for v in w))))
    gaps = np.abs(found.points[:, None] - expected[None]).max(axis=-1)
    assert sorted(gaps.argmin(axis=1)) == list(range(27))
    np.testing.assert_allclose(gaps.min(axis=1), 0.0, atol=1e-12)
    slopes = w * (1 - found.points**2)
    np.testing.assert_allclose(found.eigenvalues, -np.sort(-slopes), rtol=1e-9)
    assert found.growing.tolist() == (slopes > 1).sum(axis=1).tolist()
    assert found.kinds == ["stable"] * 8 + ["saddle"] * 18 + ["repeller"]
    assert found.counts.sum() == 400 - len(found.speeds)
    np.testing.assert_allclose(found.residuals, 0.0, atol=1e-14)


@pytest.mark.parametrize(
    ("n", "dtype"),
    [
        (1, np.float64),
        (3, np.float64),
        pytest.param(3, np.float32, marks=pytest.mark.wide),
    ],
)
def test_a_linear_cell_has_the_one_that_its_equation_gives(
    n: int, dtype: Any, rng: np.random.Generator
) -> None:
    """h = W h + x: h* = (I - W)^-1 x. A second call with other weights finds others."""
    x = rng.normal(size=(1, n)).astype(dtype)
    for gain in (0.5, -1.5):
        W = gain * np.linalg.qr(rng.normal(size=(n, n)))[0].astype(dtype)
        starts = rng.normal(size=(5, n)).astype(dtype)
        found = fixed_points(lambda h, x, W=W: (h @ W.T + x, h), starts, x)
        assert found.points.dtype == dtype
        tol = 1e-12 if dtype == np.float64 else 1e-5
        np.testing.assert_allclose(
            found.points, np.linalg.solve(np.eye(n) - W, x[0])[None], rtol=tol, atol=tol
        )
        np.testing.assert_allclose(np.abs(found.eigenvalues), abs(gain), rtol=10 * tol)
        assert found.kinds == ["stable" if abs(gain) < 1 else "repeller"]
        assert found.labels.tolist() == [0] * 5


@pytest.mark.wide
def test_a_stack_of_layers_rests_where_a_long_run_ends(rng: np.random.Generator) -> None:
    lstm = nn.LSTM(2, 3, num_layers=2, mode="tape", dtype=np.float64, generator=rng)
    x = rng.normal(size=(1, 2))
    found = fixed_points(lstm, xs=rng.normal(size=(6, 2, 2)), x=x, many=5)
    assert found.kinds == ["stable"]
    assert found.labels.tolist() == [0] * 5
    with mg.no_grad():
        _, (h, c) = lstm(np.broadcast_to(x, (300, 1, 2)).copy())
    for layer, (h_fixed, c_fixed) in enumerate(found.points):
        np.testing.assert_allclose(h_fixed, h.numpy()[layer], atol=1e-12)
        np.testing.assert_allclose(c_fixed, c.numpy()[layer], atol=1e-12)
    J = found.jacobians[0]
    values = np.linalg.eigvals(J)
    np.testing.assert_allclose(np.abs(found.eigenvalues[0]), -np.sort(-np.abs(values)), rtol=1e-12)
    state = map_leaves(mg.tensor, found.points)
    steps = mg.flow.jacobians(lstm, state, x[None]).steps[0, 0]
    np.testing.assert_allclose(J, steps, atol=1e-12)


@pytest.mark.wide
def test_eigenvalues_are_those_of_finite_differences(rng: np.random.Generator) -> None:
    gru = nn.GRUCell(2, 3, dtype=np.float64, generator=rng)
    gru.weight_hh.data = 3 * gru.weight_hh.numpy()
    x = rng.normal(size=(1, 2))
    found = fixed_points(gru, rng.uniform(-1, 1, (3, 3)), x)
    assert len(found) >= 1
    for h, values in zip(found.points, found.eigenvalues, strict=True):

        def step(h: Array) -> Array:
            with mg.no_grad():
                return gru(h[None], x)[0].numpy()[0]

        columns = [(step(h + e) - step(h - e)) / 2e-6 for e in 1e-6 * np.eye(3)]
        expected = np.linalg.eigvals(np.stack(columns, axis=1))
        np.testing.assert_allclose(np.sort_complex(values), np.sort_complex(expected), atol=1e-8)


# -- what cannot be told ---------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [1e-2, 1e-6, 1.0])
def test_a_slow_point_without_a_fixed_point_is_not_called_one(gap: float) -> None:
    """h <- h + h^2 + gap moves by no less than gap, slowest at 0."""
    found = fixed_points(lambda h, x: (h + h * h + gap, h), np.linspace(-0.5, 0.5, 5)[:, None])
    assert len(found) == 0
    assert found.labels.tolist() == [-1] * 5
    np.testing.assert_allclose(found.speeds, gap, rtol=1e-3)
    np.testing.assert_allclose(found.unresolved, 0.0, atol=0.05)
    assert "5 starts did not come to a fixed point" in str(found)


def test_a_cell_that_only_moves_on_has_none() -> None:
    found = fixed_points(lambda h, x: (h + 1.0, h), np.zeros((3, 2)))
    assert len(found) == 0
    np.testing.assert_allclose(found.speeds, math.sqrt(2))
    assert str(found).startswith("0 fixed points from 3 starts\n")


def test_of_a_line_of_fixed_points_no_stability_is_told(rng: np.random.Generator) -> None:
    starts = rng.normal(size=(6, 2))
    found = fixed_points(lambda h, x: (h @ np.diag([1.0, 0.5]), h), starts)
    assert found.kinds == ["cannot be told"] * 6
    np.testing.assert_allclose(np.sort(found.points[:, 0]), np.sort(starts[:, 0]), atol=1e-9)
    np.testing.assert_allclose(found.points[:, 1], 0.0, atol=1e-9)


def test_at_a_bifurcation_nothing_is_told() -> None:
    """tanh(w h) at w = 1: the three fixed points have just become one, of slope 1."""
    found = fixed_points(squashed(1.0), np.linspace(-1, 1, 5)[:, None])
    assert found.kinds == ["cannot be told"]
    assert found.labels.tolist() == [0] * 5


@pytest.mark.parametrize(
    ("corner", "kind"), [(0.0, "stable"), (1e3, "stable"), (1e14, "cannot be told")]
)
def test_a_jacobian_far_from_normal_is_judged_by_how_near_the_circle_is(
    corner: float, kind: str
) -> None:
    """Eigenvalues of 1/2 twice; a change of 1 / (4 corner) in the other corner makes one of 1."""
    W = np.array([[0.5, corner], [0.0, 0.5]])
    found = fixed_points(lambda h, x: (h @ W.T, h), np.zeros((1, 2)))
    assert found.kinds == [kind]


def test_starts_that_are_not_finite_lead_nowhere() -> None:
    starts = np.array([[0.5], [math.nan], [math.inf], [-0.5]])
    found = fixed_points(squashed(2.0), starts)
    assert (found.labels >= 0).tolist() == [True, False, False, True]
    assert np.isnan(found.speeds[0])
    assert len(found.speeds) == 2
    nowhere = fixed_points(squashed(math.nan), starts)
    assert len(nowhere) == 0
    assert "least speed there nan" in str(nowhere)


# -- cells of all kinds, and what is refused -------------------------------------------------------


def test_a_cell_that_cannot_be_compiled_has_them_too() -> None:
    def decides(h: Any, x: Any) -> Any:
        return (mg.tanh(2.0 * h) if h.numpy().sum() < 1e9 else h), h

    found = fixed_points(decides, np.array([[0.7], [-0.8], [0.9]]))
    np.testing.assert_allclose(np.sort(found.points.ravel()), [-upper(2.0), upper(2.0)])
    assert found.labels[0] == found.labels[2] != found.labels[1]


@pytest.mark.wide
def test_rows_that_hold_a_memory_each_have_a_point_each(rng: np.random.Generator) -> None:
    cell = nn.AttentionLSTMCell(2, 3, memory_size=2, dtype=np.float64, generator=rng)
    cell.attend(rng.normal(size=(2, 4, 2)))
    found = fixed_points(cell, cell.init_state(2), np.zeros((1, 2)))
    assert sorted(found.labels) == [0, 1]
    state = map_leaves(lambda s: mg.tensor(s[found.labels]), found.points)
    with mg.no_grad():
        moved, _ = cell(state, np.zeros((2, 2)))
    for a, b in zip(leaves(moved), leaves(state), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-9)


def test_no_weight_gets_a_gradient_and_no_tape_sees_it(rng: np.random.Generator) -> None:
    cell = nn.RNNCell(2, 3, dtype=np.float64, generator=rng)
    with mg.Tape() as tape:
        fixed_points(cell, np.zeros((1, 3)), np.zeros((1, 2)))
    assert len(tape) == 0
    assert all(p.grad is None for p in cell.parameters())


X, XS = np.zeros((1, 2)), np.zeros((4, 1, 2))


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({}, FlowError, r"takes starts, a tree of Tensors \(R, \.\.\.\) to start from, or xs"),
        ({"starts": np.zeros((2, 3)), "xs": XS}, FlowError, "not both"),
        ({"starts": np.zeros((0, 3))}, FlowError, "starts hold no state"),
        ({"starts": np.zeros((2, 3)), "x": np.zeros((2, 2))}, mg.errors.ShapeError, "one row"),
        ({"xs": XS, "many": 0}, FlowError, "many is an integer >= 1; got 0"),
        ({"starts": np.zeros((2, 3)), "tol": 0.0}, FlowError, "tol is a number between 0 and 1"),
        ({"starts": np.zeros((2, 3)), "merge": True}, FlowError, "merge is a number between"),
        ({"starts": np.zeros((2, 3)), "iterations": 1.5}, FlowError, "iterations is an integer"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], error: Any, says: str) -> None:
    cell = nn.RNNCell(2, 3, dtype=np.float64)
    with pytest.raises(error, match=says):
        fixed_points(cell, **({"x": X} | options))


@pytest.mark.wide
def test_a_cell_that_draws_at_random_is_refused_until_it_is_still() -> None:
    layer = nn.Recurrent(lambda size: nn.ZoneoutLSTMCell(size, 3, zoneout_h=0.5), 2)
    x, xs = X.astype(np.float32), XS.astype(np.float32)
    with pytest.raises(FlowError, match=r"ZoneoutLSTMCell draws at random.*call \.eval\(\)"):
        fixed_points(layer, xs=xs, x=x)
    assert len(fixed_points(layer.eval(), xs=xs, x=x)) == 1
    with pytest.raises(FlowError, match="a bidirectional LSTM is two recurrences"):
        fixed_points(nn.LSTM(2, 3, bidirectional=True), xs=xs, x=x)
