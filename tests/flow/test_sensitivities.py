"""|dS_t/dtheta| against finite differences of whole trajectories, and the closed form of a
recurrence element by element.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cells import CELLS, inputs, random_state

import minigrad as mg
from minigrad import nn
from minigrad.flow import FlowError, sensitivities
from minigrad.tree import leaves, map_leaves

Array = np.ndarray


def states(cell: Any, init: Any, xs: Any, lengths: list[int], reverse: bool) -> Array:
    """S after every step by a plain loop, (T, B, n); a row past its length stays."""
    T, found = leaves(xs)[0].shape[0], []
    for t in reversed(range(T)) if reverse else range(T):
        new, _ = cell(init, map_leaves(lambda x, t=t: mg.tensor(x)[t], xs))
        real = t < np.array(lengths)

        def kept(a: Any, b: Any, real: Array = real) -> Any:
            return mg.tensor(np.where(real.reshape(-1, *[1] * (a.ndim - 1)), a.numpy(), b.numpy()))

        init = map_leaves(kept, new, init)
        found.append(np.concatenate([s.numpy().reshape(len(real), -1) for s in leaves(init)], 1))
    return np.stack(found)


def differences(run: Callable[[], Array], p: Any, eps: float = 1e-6) -> Array:
    """|dS_t/dp|, (T, B), by central differences, an element at a time."""
    total, where = 0.0, p.numpy().copy()
    for i in range(where.size):
        ends = []
        for sign in (1, -1):
            moved = where.copy()
            moved.flat[i] += sign * eps
            p.data = moved
            with mg.no_grad():
                ends.append(run())
        total = total + ((ends[0] - ends[1]) / (2 * eps)) ** 2
    p.data = where
    return np.sqrt(np.sum(total, axis=-1))


@pytest.mark.parametrize(
    "name",
    [
        "lstm",
        *(
            pytest.param(n, marks=pytest.mark.long)
            for n in CELLS
            if n != "lstm" and not n.endswith("no-bias")
        ),
    ],
)
def test_norms_are_those_of_finite_differences_in_padded_batches(
    name: str, rng: np.random.Generator
) -> None:
    T, B = 4, 2
    cell = CELLS[name](2, 2, np.float64, rng)
    xs, init = inputs(cell, T, B, rng), random_state(cell, B, rng)
    for reverse, lengths in ((True, [3, 4]), (False, [4, 2]))[: 2 if name == "lstm" else 1]:
        found = sensitivities(cell, init, xs, lengths=lengths, reverse=reverse)
        for parameter, p in cell.named_parameters():
            expected = differences(lambda r=reverse, q=lengths: states(cell, init, xs, q, r), p)
            np.testing.assert_allclose(found.norms[parameter], expected, rtol=1e-6, atol=1e-7)


def test_a_layer_of_layers_and_a_part_of_its_state(rng: np.random.Generator) -> None:
    lstm = nn.LSTM(2, 2, num_layers=2, dtype=np.float64, generator=rng)
    xs = rng.normal(size=(3, 1, 2))
    found = sensitivities(lstm, None, xs, of="[1].c")

    def run() -> Array:
        ends = [lstm(xs[: t + 1])[1][1].numpy()[1] for t in range(3)]
        return np.stack(ends)

    for name, p in lstm.named_parameters():
        np.testing.assert_allclose(found.norms[name], differences(run, p), rtol=1e-6, atol=1e-9)
    squares = sum(norm**2 for norm in found.norms.values())
    np.testing.assert_allclose(found.total, np.sqrt(squares))
    with pytest.raises(FlowError, match=r"no part 'h'; it has '\[0\]\.h', '\[0\]\.c'"):
        sensitivities(lstm, None, xs, of="h")


def diagonal(a: Any) -> Callable[[Any, Any], Any]:
    return lambda h, x: (a * h + x, h)


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.9, 1.0, -0.9])
@pytest.mark.parametrize("projections", [None, 1])
def test_an_impulse_grows_as_k_lambda_to_the_k_minus_1(lam: float, projections: int | None) -> None:
    """d(lambda^k)/d lambda. No two weights move one number: a single direction is exact."""
    a = mg.tensor(np.array([lam, 0.25]), requires_grad=True)
    xs = np.zeros((30, 1, 2))
    xs[0, 0, 0] = 1.0
    found = sensitivities(
        diagonal(a), mg.tensor(np.zeros((1, 2))), xs, {"a": a}, projections=projections
    )
    k = np.arange(30)
    expected = np.where(k > 0, k * np.float64(lam) ** np.maximum(k - 1, 0), 0.0)
    np.testing.assert_allclose(found.norms["a"][:, 0], np.abs(expected), rtol=1e-12, atol=1e-15)
    assert found.standard_errors is None


@pytest.mark.parametrize("lam", [0.5, 0.9])
def test_responses_to_impulses_add_up_to_the_closed_form_of_white_inputs(lam: float) -> None:
    """E|dh/d lambda|^2 = sum of squared responses = (1 + lambda^2) / (1 - lambda^2)^3."""
    a = mg.tensor(np.array([lam]), requires_grad=True)
    xs = np.zeros((400, 1, 1))
    xs[0] = 1.0
    found = sensitivities(diagonal(a), mg.tensor([[0.0]]), xs, {"a": a})
    expected = (1 + lam**2) / (1 - lam**2) ** 3
    assert (found.norms["a"] ** 2).sum() == pytest.approx(expected, rel=1e-12)


def test_weights_that_are_computed_outside_of_the_cell_are_reached() -> None:
    """a = exp(-exp(nu)): da/dnu = a log a."""
    nu = mg.tensor([-1.0], requires_grad=True)
    a = mg.exp(-mg.exp(nu))
    lam, xs = float(a.item()), np.ones((2, 1, 1))
    for projections in (None, 2):
        for _ in range(2):  # the graph outside is still there
            found = sensitivities(
                diagonal(a), mg.tensor([[0.0]]), xs, {"nu": nu}, projections=projections
            )
            assert found.norms["nu"].ravel().tolist() == pytest.approx([0, -lam * math.log(lam)])


def test_estimates_lie_within_their_standard_errors(rng: np.random.Generator) -> None:
    cell = nn.GRUCell(2, 3, dtype=np.float64, generator=rng)
    xs, lengths = rng.normal(size=(8, 2, 2)), [8, 5]
    exact = sensitivities(cell, None, xs, lengths=lengths)
    found = sensitivities(cell, None, xs, lengths=lengths, projections=100, seed=1)
    again = sensitivities(cell, None, xs, lengths=lengths, projections=100, seed=2)
    assert found.standard_errors is not None
    for name, norm in exact.norms.items():
        error = found.standard_errors[name] + 1e-12
        assert (np.abs(found.norms[name] - norm) / error).max() < 5
        assert (error <= 1.5 * norm * math.sqrt(2 / 100) / 2 + 1e-9).all()
    assert any((found.norms[n] != again.norms[n]).any() for n in exact.norms)
    text = str(exact).splitlines()
    assert "mean of 2 rows, after step 1, 4, 8" in text[0]
    assert len(text) == 2 + len(exact.norms)


def test_chunks_make_no_difference_to_estimates(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = nn.RNNCell(2, 3, dtype=np.float64, generator=rng)
    xs = rng.normal(size=(7, 2, 2))
    whole = sensitivities(cell, None, xs, projections=3).total
    monkeypatch.setattr("minigrad.flow.steps.CHUNK_ROWS", 5)
    np.testing.assert_allclose(sensitivities(cell, None, xs, projections=3).total, whole)


def test_rows_that_touch_each_other_move_each_other(rng: np.random.Generator) -> None:
    """h <- tanh(w h - mean over rows), which no scan compiles: the exact way takes it."""
    w = mg.tensor(rng.normal(size=3), requires_grad=True)

    def cell(h: Any, x: Any) -> Any:
        h = mg.tanh(w * h - mg.mean(h, axis=0, keepdims=True) + x)
        return h, h

    xs, init = rng.normal(size=(4, 2, 3)), mg.tensor(rng.normal(size=(2, 3)))
    found = sensitivities(cell, init, xs, {"w": w})
    expected = differences(lambda: states(cell, init, xs, [4, 4], False), w)
    np.testing.assert_allclose(found.norms["w"], expected, rtol=1e-7)
    with pytest.raises(FlowError, match="leave projections out"):
        sensitivities(cell, init, xs, {"w": w}, projections=4)


@pytest.mark.wide
def test_a_second_call_sees_changed_weights_and_float32(rng: np.random.Generator) -> None:
    cell = nn.RNNCell(2, 3, generator=rng)
    xs = rng.normal(size=(3, 1, 2)).astype(np.float32)
    first = sensitivities(cell, None, xs)
    cell.weight_hh.data = 2 * cell.weight_hh.numpy()
    second = sensitivities(cell, None, xs)
    assert (first.total[1:] != second.total[1:]).all()
    exact = sensitivities(cell.to(np.float64), None, xs.astype(np.float64))
    np.testing.assert_allclose(second.total, exact.total, rtol=1e-5)
    assert all(p.grad is None for p in cell.parameters())


def test_what_explodes_is_inf_and_nan_stays_nan() -> None:
    a = mg.tensor([1e200], requires_grad=True)
    found = sensitivities(diagonal(a), mg.tensor([[1.0]]), np.zeros((3, 1, 1)), {"a": a})
    assert found.norms["a"].ravel()[:2].tolist() == [1.0, 2e200]
    assert not np.isfinite(found.norms["a"][2, 0])
    xs = np.full((1, 1, 1), math.nan)
    found = sensitivities(diagonal(a), mg.tensor([[math.nan]]), xs, {"a": a})
    assert math.isnan(found.total[0, 0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, r"its weights are not known; pass parameters=\{'name': tensor\}"),
        ({"parameters": {}}, "no parameter that requires a gradient"),
        ({"parameters": {"a": 3.0}}, "parameter 'a' is 3.0; expected a Tensor"),
        ({"parameters": {"a": mg.tensor([1.0])}}, "that requires a gradient"),
        ({"projections": 0}, "projections is 1 or more; got 0"),
        ({"projections": 2.0}, "projections is an integer; got 2.0"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], says: str) -> None:
    a = mg.tensor([0.5], requires_grad=True)
    if "projections" in options:
        options = {"parameters": {"a": a}, **options}
    with pytest.raises(FlowError, match=says):
        sensitivities(diagonal(a), mg.tensor([[0.0]]), np.ones((2, 1, 1)), **options)


def test_what_would_not_fit_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sensitivities.__globals__, "MOST_BYTES", 47)
    a = mg.tensor(np.ones(2), requires_grad=True)
    init, xs = mg.tensor(np.zeros((3, 2))), np.zeros((1, 3, 2))
    with pytest.raises(FlowError, match=r"\[3, 2, 2\], .* GiB; take fewer rows, or projections=64"):
        sensitivities(diagonal(a), init, xs, {"a": a})
    assert sensitivities(diagonal(a), init, xs, {"a": a}, projections=1).total.shape == (1, 3)
