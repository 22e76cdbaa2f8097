"""Jacobians of steps against finite differences, closed forms and numpy.linalg."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cells import CELLS, inputs, random_state

import minigrad as mg
from minigrad import nn
from minigrad.flow import FlowError, Jacobians
from minigrad.flow.steps import Trajectory
from minigrad.tree import leaves, map_leaves, rebuild

Array = np.ndarray


def differences(cell: Any, states: list[Array], init: Any, x: Any, k: int, eps: float) -> Array:
    """dS_{k+1}/dS_k of all rows, (B, n, n), by central differences of the whole state."""
    before = [s[k] for s in states]
    rows = before[0].shape[0]
    sizes = [int(np.prod(s.shape[1:])) for s in before]

    def step(flat: Array) -> Array:
        pieces = np.split(flat, np.cumsum(sizes)[:-1], axis=1)
        parts = [mg.tensor(p.reshape(s.shape)) for p, s in zip(pieces, before, strict=True)]
        with mg.no_grad():
            new, _ = cell(rebuild(init, parts), x)
        return np.concatenate([t.numpy().reshape(rows, -1) for t in leaves(new)], axis=1)

    flat = np.concatenate([s.reshape(rows, -1) for s in before], axis=1)
    columns = []
    for j in range(flat.shape[1]):
        e = np.zeros(flat.shape)
        e[:, j] = eps
        columns.append((step(flat + e) - step(flat - e)) / (2 * eps))
    return np.stack(columns, axis=2)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", list(CELLS))
def test_jacobians_are_those_of_finite_differences(
    name: str, reverse: bool, rng: np.random.Generator
) -> None:
    T, B = 3, 2
    cell = CELLS[name](3, 4, np.float64, rng)
    xs, init = inputs(cell, T, B, rng), random_state(cell, B, rng)
    found = mg.flow.jacobians(cell, init, xs, reverse=reverse)
    states = trajectory(cell, init, xs, reverse)
    for k, t in enumerate(reversed(range(T)) if reverse else range(T)):
        x = map_leaves(lambda x, t=t: mg.tensor(x)[t], xs)
        expected = differences(cell, states, init, x, k, 1e-6)
        np.testing.assert_allclose(found.steps[k], expected, rtol=1e-6, atol=1e-8)


def trajectory(cell: Any, init: Any, xs: Any, reverse: bool) -> list[Array]:
    """The states by a plain loop."""
    T = leaves(xs)[0].shape[0]
    states = [[t.numpy() for t in leaves(init)]]
    with mg.no_grad():
        for t in reversed(range(T)) if reverse else range(T):
            init, _ = cell(init, map_leaves(lambda x, t=t: mg.tensor(x)[t], xs))
            states.append([s.numpy() for s in leaves(init)])
    return [np.stack(part) for part in zip(*states, strict=True)]


@pytest.mark.parametrize(("T", "B", "H"), [(1, 1, 1), (1, 3, 2), (7, 1, 1), (5, 3, 4)])
def test_any_number_of_steps_rows_and_units(
    T: int, B: int, H: int, rng: np.random.Generator
) -> None:
    """h_t = tanh(W h + x): J = diag(1 - h_t^2) W."""
    cell = nn.RNNCell(2, H, dtype=np.float64, generator=rng)
    xs = mg.tensor(rng.normal(size=(T, B, 2)))
    found = mg.flow.jacobians(cell, cell.init_state(B), xs)
    h = trajectory(cell, cell.init_state(B), xs, False)[0]
    expected = (1 - h[1:] ** 2)[..., None] * cell.weight_hh.numpy()
    np.testing.assert_allclose(found.steps, expected, rtol=1e-12)
    assert found.parts == {"h": slice(0, H)}
    assert found.singular_values().shape == (T, B, H)
    assert found.norms().shape == found.condition_numbers().shape == (T, B)


def test_chunks_make_no_difference(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = nn.LSTMCell(2, 3, dtype=np.float64, generator=rng)
    xs = rng.normal(size=(7, 2, 2))
    whole = mg.flow.jacobians(cell, None, xs).steps
    monkeypatch.setattr("minigrad.flow.steps.CHUNK_ROWS", 5)
    path = Trajectory("test", cell, None, xs)
    assert [k for k, _ in path.chunks()] == [0, 2, 4, 6]
    np.testing.assert_allclose(mg.flow.jacobians(cell, None, xs).steps, whole, rtol=1e-14)


def test_a_row_that_has_ended_stays_where_it_is(rng: np.random.Generator) -> None:
    cell = nn.GRUCell(2, 3, dtype=np.float64, generator=rng)
    xs = rng.normal(size=(5, 3, 2))
    found = mg.flow.jacobians(cell, None, xs, lengths=[5, 2, 1])
    back = mg.flow.jacobians(cell, None, xs, lengths=[5, 2, 1], reverse=True)
    for row, length in enumerate([5, 2, 1]):
        alone = mg.flow.jacobians(cell, None, xs[:length, row : row + 1])
        np.testing.assert_allclose(found.steps[:length, row], alone.steps[:, 0], rtol=1e-13)
        assert (found.steps[length:, row] == np.eye(3)).all()
        alone = mg.flow.jacobians(cell, None, xs[:length, row : row + 1], reverse=True)
        np.testing.assert_allclose(back.steps[5 - length :, row], alone.steps[:, 0], rtol=1e-13)
        assert (back.steps[: 5 - length, row] == np.eye(3)).all()


def test_a_recording_gives_the_jacobians_of_what_ran(rng: np.random.Generator) -> None:
    lstm = nn.LSTM(2, 3, bidirectional=True, dtype=np.float64, generator=rng)
    xs = mg.tensor(rng.normal(size=(4, 2, 2)))
    with mg.flow.record() as rec:
        ys, _ = lstm(xs, lengths=[4, 3])
        ys.sum().backward()
    for cell, path in zip(lstm.cells, ("lstm/l0/fwd", "lstm/l0/rev"), strict=True):
        expected = mg.flow.jacobians(cell, None, xs, [4, 3], reverse=path.endswith("rev"))
        np.testing.assert_allclose(rec[path].jacobians().steps, expected.steps, rtol=1e-12)


def test_nothing_is_recorded_and_no_gradient_is_left(rng: np.random.Generator) -> None:
    cell = nn.LSTMCell(2, 3, generator=rng)
    with mg.Tape() as tape:
        mg.flow.jacobians(cell, None, np.ones((3, 1, 2), np.float32))
    assert len(tape) == 0
    assert all(p.grad is None for p in cell.parameters())


def test_float32_cells_run_in_float32(rng: np.random.Generator) -> None:
    cell = nn.GRUCell(2, 3, generator=rng)
    xs = rng.normal(size=(4, 1, 2)).astype(np.float32)
    rough = mg.flow.jacobians(cell, None, xs).steps
    exact = mg.flow.jacobians(cell.to(np.float64), None, xs.astype(np.float64)).steps
    assert rough.dtype == exact.dtype == np.float64
    np.testing.assert_allclose(rough, exact, rtol=1e-4, atol=1e-6)
    assert (rough != exact).any()


# -- cells of all kinds --------------------------------------------------------------------------


def test_a_layer_of_several_layers_has_one_state(rng: np.random.Generator) -> None:
    rnn = nn.RNN(2, 3, num_layers=2, dtype=np.float64, generator=rng)
    xs = rng.normal(size=(4, 1, 2))
    found = mg.flow.jacobians(rnn, None, xs)
    assert list(found.parts) == ["[0]", "[1]"]
    (lower, _), (first, second) = rnn.cells[0](np.zeros((1, 3)), xs[0]), rnn.cells
    upper, _ = second(np.zeros((1, 3)), lower)
    D1, D2 = np.diag(1 - lower.numpy()[0] ** 2), np.diag(1 - upper.numpy()[0] ** 2)
    W1, W2 = first.weight_hh.numpy(), second.weight_hh.numpy()
    below = D2 @ second.weight_ih.numpy() @ D1 @ W1
    expected = np.block([[D1 @ W1, np.zeros((3, 3))], [below, D2 @ W2]])
    np.testing.assert_allclose(found.steps[0, 0], expected, rtol=1e-12)


def test_a_state_that_the_step_does_not_read_has_a_column_of_zeros() -> None:
    def cell(state: Any, x: Any) -> Any:
        return {"kept": state["kept"], "last": x, "sum": state["sum"] + state["last"]}, x

    init = {name: mg.tensor(np.zeros((2, 1))) for name in ("kept", "last", "sum")}
    found = mg.flow.jacobians(cell, init, np.ones((3, 2, 1)))
    assert list(found.parts) == ["kept", "last", "sum"]
    expected = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    assert (found.steps == expected).all()
    assert np.isinf(found.condition_numbers()).all()


def test_a_state_of_matrices_is_flattened(rng: np.random.Generator) -> None:
    def cell(S: Any, x: Any) -> Any:
        return S * S + x.reshape(-1, 1, 1), x

    init = rng.normal(size=(2, 3, 2))
    found = mg.flow.jacobians(cell, mg.tensor(init), rng.normal(size=(1, 2)))
    expected = [np.diag(2 * s.ravel()) for s in init]
    np.testing.assert_allclose(found.steps[0], expected, rtol=1e-13)


def test_a_branch_on_a_value_is_differentiated_row_by_row() -> None:
    """It is decided by the whole batch, as `mode="tape"` would; a chunk would decide otherwise."""

    def cell(h: Any, x: Any) -> Any:
        h = 3.0 * h if h.numpy().max() < 2 else 0.5 * h
        return h, h

    init = mg.tensor([[1.0], [0.1]])
    found = mg.flow.jacobians(cell, init, steps=4)
    assert found.steps[:, :, 0, 0].tolist() == [[3, 3], [0.5, 0.5], [3, 3], [0.5, 0.5]]


def test_rows_that_mix_keep_to_their_own_block(rng: np.random.Generator) -> None:
    """h_b <- h_b - mean over rows: dh_b/dh_b = 1 - 1/B, which cotangents for all rows would hide"""

    def cell(h: Any, x: Any) -> Any:
        h = h - h.mean(axis=0)
        return h, h

    found = mg.flow.jacobians(cell, mg.tensor(rng.normal(size=(4, 2))), steps=3)
    np.testing.assert_allclose(found.steps, np.full((3, 4, 1, 1), 0.75) * np.eye(2), atol=1e-15)


def test_a_cell_that_counts_on_its_batch_size_is_not_given_another(
    rng: np.random.Generator,
) -> None:
    """In a batch of several steps, reshape(2, -1) would mix them, and give the right shape back."""

    def cell(h: Any, x: Any) -> Any:
        new = mg.tanh(h.reshape(2, -1) * mg.tensor([[1.0], [2.0]])).reshape(-1, 3) + x
        return new, h

    xs = rng.normal(size=(4, 2, 3))
    found = mg.flow.jacobians(cell, mg.tensor(np.zeros((2, 3))), xs)
    h = trajectory(cell, mg.tensor(np.zeros((2, 3))), mg.tensor(xs), False)[0][:-1]
    scale = np.array([[1.0], [2.0]])
    expected = (scale * (1 - np.tanh(scale * h) ** 2))[..., None] * np.eye(3)
    np.testing.assert_allclose(found.steps, expected, rtol=1e-12)


def test_integers_in_xs_select(rng: np.random.Generator) -> None:
    table = mg.tensor(rng.normal(size=(5, 2)))

    def cell(h: Any, i: Any) -> Any:
        h = h * table[i]
        return h, h

    ids = np.array([[0, 1], [4, 2]])
    found = mg.flow.jacobians(cell, mg.tensor(np.ones((2, 2))), ids)
    expected = table.numpy()[ids][..., None] * np.eye(2)
    np.testing.assert_allclose(found.steps, expected, rtol=1e-15)


# -- products ------------------------------------------------------------------------------------


def random_jacobians(rng: np.random.Generator, T: int, B: int, n: int) -> Jacobians:
    half = n // 2
    return Jacobians(rng.normal(size=(T, B, n, n)), {"h": slice(0, half), "c": slice(half, n)})


def test_between_is_the_product_of_the_steps(rng: np.random.Generator) -> None:
    J = random_jacobians(rng, 6, 2, 5)
    A = J.steps
    for b in range(2):
        expected = A[4, b] @ A[3, b] @ A[2, b]
        np.testing.assert_allclose(J.between(5, 2).value[b], expected, rtol=1e-12)
        block = J.between(5, 2, of="h", wrt="c").value[b]
        np.testing.assert_allclose(block, expected[:2, 2:], rtol=1e-11)
        norm = np.log(np.linalg.norm(expected, 2))
        assert J.between(5, 2).log_norm[b] == pytest.approx(norm, rel=1e-12)
    assert (J.between(3, 3).value == np.eye(5)).all()


def test_a_product_of_1e_minus_400_keeps_its_digits(rng: np.random.Generator) -> None:
    Q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    J = Jacobians(np.broadcast_to(0.1 * Q, (400, 1, 3, 3)), {"h": slice(0, 3)})
    assert (J.between().value == 0).all()
    np.testing.assert_allclose(J.between().log_norm, -400 * np.log(10), rtol=1e-13)
    np.testing.assert_allclose(J.log_singular_values(), -400 * np.log(10), rtol=1e-13)
    grows = Jacobians(np.broadcast_to(10 * Q, (400, 1, 3, 3)), {})
    assert np.isinf(grows.between().value).any()
    np.testing.assert_allclose(grows.between().log_norm, 400 * np.log(10), rtol=1e-13)


@pytest.mark.parametrize(("t", "s"), [(1, 0), (4, 1), (6, 0), (2, 2)])
@pytest.mark.parametrize(("of", "wrt"), [(None, None), ("h", "c"), ("c", "h"), (None, "h")])
def test_log_singular_values_of_a_short_product_are_numpys(
    t: int, s: int, of: str | None, wrt: str | None, rng: np.random.Generator
) -> None:
    J = random_jacobians(rng, 6, 3, 5)
    with np.errstate(divide="ignore"):
        values = np.linalg.svd(J.between(t, s, of, wrt).value, compute_uv=False)
        expected = np.log(np.where(values < 1e-14, 0, values))
    np.testing.assert_allclose(J.log_singular_values(t, s, of, wrt), expected, rtol=1e-9, atol=1e-8)


def test_log_singular_values_hold_side_by_side_what_no_float_does(
    rng: np.random.Generator,
) -> None:
    """Factors P_{k+1} diag(s_k) P_k^T with orthogonal P have the product P diag(prod s) P^T."""
    T, n = 300, 5
    P = np.linalg.qr(rng.normal(size=(T + 1, n, n)))[0]
    sizes = np.exp(rng.normal(size=(T, n)) + np.array([0.5, 0.0, -1.0, -2.0, -5.0]))
    A = P[1:] * sizes[:, None, :] @ np.swapaxes(P[:-1], 1, 2)
    found = Jacobians(A[:, None], {}).log_singular_values()[0]
    expected = -np.sort(-np.log(sizes).sum(axis=0))
    assert expected[0] - expected[-1] > 1400  # 600 decades
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_lost_direction_is_minus_infinity(rng: np.random.Generator) -> None:
    P = np.linalg.qr(rng.normal(size=(3, 4, 4)))[0]
    A = P @ np.diag([1.0, 0.5, 0.2, 0.0]) @ np.swapaxes(P, 1, 2)
    J = Jacobians(A[:, None], {})
    values = J.log_singular_values(1, 0)[0]
    np.testing.assert_allclose(values[:3], np.log([1, 0.5, 0.2]), atol=1e-14)
    assert values[3] == -np.inf
    assert J.log_singular_values()[0, 3] == -np.inf
    assert np.isinf(J.condition_numbers()).all()


def test_what_a_step_does_is_numpys(rng: np.random.Generator) -> None:
    J = random_jacobians(rng, 2, 3, 5)
    np.testing.assert_allclose(J.singular_values(), np.linalg.svd(J.steps, compute_uv=False))
    np.testing.assert_allclose(J.norms("h", "c"), np.linalg.norm(J.steps[..., :2, 2:], 2, (2, 3)))
    np.testing.assert_allclose(J.condition_numbers(), np.linalg.cond(J.steps))
    largest = np.abs(np.linalg.eigvals(J.steps)).max(axis=-1)
    np.testing.assert_allclose(J.spectral_radii(), largest)


def test_nan_stays_in_its_step_and_row(rng: np.random.Generator) -> None:
    J = random_jacobians(rng, 3, 2, 4)
    J.steps[1, 0, 2, 2] = np.nan
    for values in (J.singular_values()[..., 0], J.norms(), J.spectral_radii()):
        assert np.isnan(values).tolist() == [[False, False], [True, False], [False, False]]
    assert np.isnan(J.condition_numbers()).sum() == 1
    assert np.isnan(J.log_singular_values()).all(axis=1).tolist() == [True, False]
    assert np.isnan(J.between().log_norm).tolist() == [True, False]


# -- weights -------------------------------------------------------------------------------------


def test_weights_are_measured_gate_by_gate(rng: np.random.Generator) -> None:
    gru = nn.GRU(2, 3, num_layers=2, generator=rng)
    found = mg.flow.spectral_radius(gru)
    assert list(found) == [f"weight_hh_l{layer}.{gate}" for layer in (0, 1) for gate in "rzn"]
    z = gru.weight_hh_l1.numpy()[3:6].astype(np.float64)
    assert found["weight_hh_l1.z"] == pytest.approx(np.abs(np.linalg.eigvals(z)).max())
    values = mg.flow.singular_values(gru)["weight_hh_l1.z"]
    np.testing.assert_allclose(values, np.linalg.svd(z, compute_uv=False))
    assert list(mg.flow.singular_values(nn.RNNCell(2, 3))) == ["weight_hh"]


def test_orthogonal_weights_have_singular_values_of_one(rng: np.random.Generator) -> None:
    Q = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    np.testing.assert_allclose(mg.flow.singular_values(mg.tensor(2 * Q)), np.full(4, 2.0))
    assert mg.flow.spectral_radius(2 * Q) == pytest.approx(2.0)


# -- errors --------------------------------------------------------------------------------------

ONE = mg.tensor(np.ones((1, 1)))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: mg.flow.jacobians(lambda h, x: (h, h), mg.tensor([[1]]), steps=1),
         r"the state is int64\[1, 1\]; only states of floats"),
        (lambda: mg.flow.jacobians(lambda h, x: (h, h), (), np.ones((1, 1, 1))),
         "the state holds no Tensor"),
        (lambda: mg.flow.jacobians(lambda h, x: (h, h), None, np.ones((1, 1, 1))),
         r"has no init_state\(batch\); pass init"),
        (lambda: mg.flow.jacobians(lambda h, x: (h, h), ONE), "without xs it takes steps"),
        (lambda: mg.flow.jacobians(lambda h, x: (h, h), ONE, steps=0), "got 0"),
        (lambda: mg.flow.jacobians(lambda h, x: (h, h), ONE, np.ones((2, 1, 1)), steps=3),
         "steps=3, and xs have 2 steps"),
        (lambda: mg.flow.jacobians(3, ONE, steps=1), "expected a cell"),
        (lambda: mg.flow.jacobians(nn.GRU(1, 1, bidirectional=True), None, np.ones((2, 1, 1))),
         "a bidirectional GRU is two recurrences"),
        (lambda: Jacobians(np.ones((3, 1, 1, 1)), {}).between(1, 2), "0 <= s <= t <= 3"),
        (lambda: Jacobians(np.ones((3, 1, 1, 1)), {"h": slice(0, 1)}).norms("c"),
         "no part 'c'; it has 'h'"),
        (lambda: mg.flow.spectral_radius(nn.Linear(2, 3)), "has no weight_hh"),
        (lambda: mg.flow.jacobians(lambda h, x: (h, h), np.ones((1, 40_000)), steps=1),
         r"\[1, 1, 40000, 40000\], \(T, B, n, n\), would take 11.9 GiB"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(FlowError, match=says):
        call()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(mg.errors.ShapeError, match="expected 2 rows"):
        mg.flow.jacobians(lambda h, x: (h, h), ONE, np.ones((3, 2, 1)))
    with pytest.raises(mg.errors.ShapeError, match="the carry leaves the cell as"):
        mg.flow.jacobians(lambda h, x: (h[:, :0], h), ONE, steps=2)
    with pytest.raises(mg.errors.ShapeError, match="expected a square matrix"):
        mg.flow.spectral_radius(np.ones((2, 3)))
