"""Initial weights do what their papers say, gate by gate, in all layers and directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import init


def matrix(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(np.zeros((rows, columns)), np.float64)


@pytest.mark.parametrize(("rows", "columns"), [(5, 5), (7, 3), (3, 7), (1, 1)])
@pytest.mark.parametrize("gates", [1, 4])
def test_orthogonal_is_orthogonal_for_each_gate(rows: int, columns: int, gates: int) -> None:
    p = matrix(gates * rows, columns)
    init.orthogonal_(p, gain=2.0, gates=gates, generator=np.random.default_rng(0))
    for W in np.split(p.numpy(), gates):
        product = W @ W.T if rows <= columns else W.T @ W
        np.testing.assert_allclose(product, 4 * np.eye(min(rows, columns)), atol=1e-13)
    assert (
        gates == 1
        or rows == columns == 1
        or not np.allclose(p.data[:rows], p.data[rows : 2 * rows])
    )


def test_orthogonal_is_uniform_over_rotations() -> None:
    rng, signs = np.random.default_rng(0), []
    p = matrix(1, 1)
    for _ in range(200):
        init.orthogonal_(p, generator=rng)
        signs.append(p.item())
    assert abs(np.mean(signs)) < 0.2  # QR alone always gives the same sign


def test_every_layer_and_direction_is_reached() -> None:
    layer = nn.LSTM(3, 4, num_layers=2, bidirectional=True, dtype=np.float64)
    net = nn.Sequential(nn.Linear(2, 3), layer)
    init.each_gate_(net, "weight_hh", init.orthogonal_)
    init.each_gate_(net, "weight_ih", init.identity_, scale=0.5)
    init.forget_bias_(net, 1.5)
    for cell in layer.cells:
        for W in np.split(cell.weight_hh.numpy(), 4):
            np.testing.assert_allclose(W @ W.T, np.eye(4), atol=1e-13)
        np.testing.assert_array_equal(
            cell.weight_ih.data, np.tile(0.5 * np.eye(4, cell.input_size), (4, 1))
        )
        total = cell.bias_ih.data + cell.bias_hh.data
        np.testing.assert_array_equal(total[4:8], 1.5)  # gates are i f g o
        assert not np.any(total[:4] == 1.5)


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        (lambda p, g: init.xavier_uniform_(p, gain=2.0, gates=2, generator=g), 4 * 2 / (50 + 300)),
        (lambda p, g: init.xavier_normal_(p, gates=2, generator=g), 2 / (50 + 300)),
        (lambda p, g: init.he_uniform_(p, generator=g), 2 / 300),
        (lambda p, g: init.he_normal_(p, gates=2, generator=g), 2 / 300),
        (lambda p, g: init.uniform_(p, 0.3, generator=g), 0.3**2 / 3),
        (lambda p, g: init.normal_(p, 0.3, generator=g), 0.3**2),
    ],
)
def test_variance_is_that_of_the_formula(fill: Any, expected: float) -> None:
    p = matrix(100, 300)  # as two gates: 50 rows each
    fill(p, np.random.default_rng(0))
    assert p.data.var() == pytest.approx(expected, rel=0.03)
    assert abs(p.data.mean()) < 3 * (expected / p.size) ** 0.5


def test_chrono_sets_the_memory_of_lstm_and_gru() -> None:
    lstm = nn.LSTM(1, 500, num_layers=2, dtype=np.float64)
    init.chrono_(lstm, t_max=100, generator=np.random.default_rng(0))
    for cell in lstm.cells:
        b_i, b_f, _, _ = np.split(cell.bias_ih.data + cell.bias_hh.data, 4)
        np.testing.assert_array_equal(b_i, -b_f)
        steps = np.exp(b_f)
        assert 1 <= steps.min() < 5
        assert 95 < steps.max() <= 99
        assert steps.mean() == pytest.approx(50, rel=0.1)
    for update, sign in [("keep", 1), ("write", -1)]:
        gru = nn.GRU(1, 500, update=update, dtype=np.float64)
        init.chrono_(gru, t_max=100, generator=np.random.default_rng(0))
        b_z = np.split(gru.bias_ih_l0.data + gru.bias_hh_l0.data, 3)[1]
        assert (sign * b_z >= 0).all()
        assert np.exp(sign * b_z).mean() == pytest.approx(50, rel=0.1)


def test_an_irnn_passes_its_state_on() -> None:
    layer = nn.RNN(1, 3, nonlinearity="relu", dtype=np.float64)
    init.each_gate_(layer, "weight_hh", init.identity_)
    for name in ("weight_ih", "bias_ih", "bias_hh"):
        init.constant_(getattr(layer, f"{name}_l0"))
    h = np.array([[[0.3, 1.0, 2.0]]])
    np.testing.assert_array_equal(layer(np.ones((50, 1, 1)), h)[1].data, h)


def test_one_seed_repeats_everything() -> None:
    def draw() -> dict[str, np.ndarray]:
        mg.seed(3)
        return nn.LSTM(2, 3, num_layers=2).state_dict()

    for a, b in zip(draw().values(), draw().values()):
        np.testing.assert_array_equal(a, b)
    explicit = nn.LSTM(2, 3, num_layers=2, generator=np.random.default_rng(3)).state_dict()
    np.testing.assert_array_equal(explicit["weight_ih_l0"], draw()["weight_ih_l0"])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: init.orthogonal_(matrix(5, 2), gates=2), mg.ShapeError, r"2 gates stacked, got"),
        (lambda: init.forget_bias_(nn.GRU(1, 2)), ValueError, "GRU has no cell with .* a gate f"),
        (lambda: init.forget_bias_(nn.LSTM(1, 2, bias=False)), ValueError, "no cell with bias_ih"),
        (lambda: init.each_gate_(nn.Dropout(), "bias_hh", init.identity_), ValueError, "no cell"),
        (lambda: init.chrono_(nn.RNN(1, 2), 10), ValueError, "gate that keeps the state"),
        (lambda: init.chrono_(nn.LSTM(1, 2), 1), ValueError, "t_max is the longest dependency"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
