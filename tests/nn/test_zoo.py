"""The cells of the zoo against their equations in plain NumPy, and what is known in closed form."""

from __future__ import annotations

from typing import Any

import modes
import numpy as np
import pytest
from cells import CELLS, arrays, inputs, random_state
from modes import each_mode
from reference import sigmoid
from zoo_reference import STEPS

import minigrad as mg
from minigrad import nn
from minigrad.border import plain
from minigrad.tree import leaves, map_leaves

F64: dict[str, Any] = {"dtype": np.float64}


def close(got: Any, expected: Any, rtol: float = 1e-12) -> None:
    got, expected = (v.numpy() if isinstance(v, mg.Tensor) else v for v in (got, expected))
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=1e-13)


def test_every_cell_has_its_equations_written_out() -> None:
    assert set(STEPS) == set(CELLS)


@pytest.mark.parametrize(
    ("time", "batch", "size", "hidden"),
    [(1, 1, 1, 1), (4, 3, 2, 5), pytest.param(3, 2, 5, 4, marks=pytest.mark.wide)],
)
@each_mode
@pytest.mark.parametrize("kind", CELLS)
def test_cells_follow_their_equations(
    kind: str, mode: str, time: int, batch: int, size: int, hidden: int, rng: np.random.Generator
) -> None:
    cell = CELLS[kind](size, hidden, np.float64, rng)
    xs, init = inputs(cell, time, batch, rng), random_state(cell, batch, rng)
    final, ys = modes.run(cell, init, xs, mode=mode)
    weights = arrays(cell)
    for b in range(batch):
        w = weights | {"memory": weights["memory"][b]} if "memory" in weights else weights
        state = map_leaves(lambda s, b=b: s.numpy()[b], init)
        for t in range(time):
            x = map_leaves(lambda s, t=t, b=b: plain(s)[t, b], xs)
            state, y = STEPS[kind](w, state, x)
            close(ys.numpy()[t, b], y)
        for got, expected in zip(leaves(final), leaves(state), strict=True):
            close(got.numpy()[b], expected)


# --------------------------------------------------------------------------------- known behaviour


def test_an_irnn_starts_as_a_running_sum(rng: np.random.Generator) -> None:
    cell = nn.IRNNCell(3, 3, **F64)
    nn.init.identity_(cell.weight_ih)
    xs = rng.uniform(0, 1, (50, 2, 3))
    h = mg.tensor(np.ones((2, 3)), requires_grad=True)
    final, ys = modes.run(cell, h, mg.tensor(xs))
    close(ys.numpy(), 1 + np.cumsum(xs, axis=0))
    final.sum().backward()
    np.testing.assert_array_equal(h.grad.numpy(), 1.0)  # neither vanishes nor explodes


def test_a_scaled_irnn_forgets_at_its_scale() -> None:
    cell = nn.IRNNCell(1, 2, scale=0.5, **F64)
    final, _ = modes.run(cell, mg.tensor(np.ones((1, 2))), mg.tensor(np.zeros((10, 1, 1))))
    np.testing.assert_array_equal(final.numpy(), 0.5**10)


def test_a_jordan_network_that_outputs_its_state_is_an_elman_network(
    rng: np.random.Generator,
) -> None:
    elman, jordan = nn.ElmanCell(2, 3, **F64), nn.JordanCell(2, 3, **F64)
    nn.init.identity_(elman.weight_ho)
    nn.init.constant_(elman.bias_o)
    jordan.load_state_dict(elman.state_dict())
    xs = mg.tensor(rng.normal(size=(5, 2, 2)))
    ys = [modes.run(cell, cell.init_state(2), xs)[1].numpy() for cell in (elman, jordan)]
    close(*ys)


def test_a_jordan_network_keeps_a_decaying_trace_of_its_outputs(rng: np.random.Generator) -> None:
    cell = nn.JordanCell(2, 3, output_size=2, decay=0.5, **F64)
    final, ys = modes.run(cell, cell.init_state(1), mg.tensor(rng.normal(size=(4, 1, 2))))
    close(final.numpy(), sum(0.5 ** (3 - t) * ys.numpy()[t] for t in range(4)))


def test_without_its_peepholes_it_is_an_lstm(rng: np.random.Generator) -> None:
    cell, lstm = nn.PeepholeLSTMCell(2, 3, **F64), nn.LSTMCell(2, 3, **F64)
    nn.init.constant_(cell.weight_peephole)
    lstm.load_state_dict(cell.state_dict(), strict=False)
    state, xs = random_state(lstm, 2, rng), mg.tensor(rng.normal(size=(5, 2, 2)))
    close(modes.run(cell, state, xs)[1].numpy(), modes.run(lstm, state, xs)[1].numpy())


def test_a_coupled_lstm_is_one_whose_forget_gate_mirrors_its_input_gate(
    rng: np.random.Generator,
) -> None:
    cell, lstm = nn.CoupledLSTMCell(2, 3, **F64), nn.LSTMCell(2, 3, **F64)
    mirrored = {}
    for name, array in cell.state_dict().items():  # 1 - sigmoid(a) = sigmoid(-a)
        i, g, o = np.split(array, 3)
        mirrored[name] = np.concatenate([i, -i, g, o])
    lstm.load_state_dict(mirrored)
    state, xs = random_state(lstm, 2, rng), mg.tensor(rng.normal(size=(5, 2, 2)))
    close(modes.run(cell, state, xs)[1].numpy(), modes.run(lstm, state, xs)[1].numpy())


def test_layer_normalisation_undoes_the_scale_of_the_weights(rng: np.random.Generator) -> None:
    cell = nn.LayerNormLSTMCell(2, 3, eps=1e-14, **F64)
    state, xs = random_state(cell, 2, rng), mg.tensor(rng.normal(size=(5, 2, 2)))
    before = modes.run(cell, state, xs)[1].numpy()
    cell.weight_ih.data = 7.0 * cell.weight_ih.numpy()
    cell.weight_hh.data = 0.1 * cell.weight_hh.numpy()
    close(modes.run(cell, state, xs)[1].numpy(), before, rtol=1e-6)


def test_zoneout_of_probability_0_is_an_lstm_and_1_keeps_the_state(
    rng: np.random.Generator,
) -> None:
    lstm, xs = nn.LSTMCell(2, 3, **F64), mg.tensor(rng.normal(size=(5, 2, 2)))
    state = random_state(lstm, 2, rng)
    for p in (0.0, 1.0):
        cell = nn.ZoneoutLSTMCell(2, 3, zoneout_h=p, zoneout_c=p, **F64)
        cell.load_state_dict(lstm.state_dict())
        expected = state if p else modes.run(lstm, state, xs)[0]
        for given in ((xs, cell.draw(5, 2)), xs):  # in training and in eval
            found, _ = modes.run(cell.train(given is not xs), state, given)
            for a, b in zip(leaves(found), leaves(expected), strict=True):
                np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_zoneout_draws_its_masks_at_its_probabilities_from_its_generator() -> None:
    options: dict[str, Any] = dict(proj_size=40, zoneout_h=0.1, zoneout_c=0.6)
    cell, twin = (
        nn.ZoneoutLSTMCell(2, 50, **options, generator=np.random.default_rng(0)) for _ in "ab"
    )
    drawn, again = cell.draw(20, 10), twin.draw(20, 10)
    assert {name: d.shape for name, d in drawn.items()} == {"h": (20, 10, 40), "c": (20, 10, 50)}
    for name, p in {"h": 0.1, "c": 0.6}.items():
        assert set(np.unique(drawn[name])) == {0.0, 1.0}
        assert drawn[name].dtype == np.float32
        assert abs(drawn[name].mean() - p) < 4 * np.sqrt(p * (1 - p) / drawn[name].size)
        np.testing.assert_array_equal(drawn[name], again[name])
    assert not np.array_equal(drawn["c"], cell.draw(20, 10)["c"])
    assert cell.eval().draw(20, 10) is None


def test_the_gradient_of_a_mingru_does_not_depend_on_its_state(rng: np.random.Generator) -> None:
    cell, xs = nn.MinGRUCell(2, 3, **F64), rng.normal(size=(6, 1, 2))
    z = sigmoid(xs @ cell.weight_ih.numpy()[:3].T + cell.bias_ih.numpy()[:3])
    for size in (0.0, 100.0):
        h = mg.tensor(np.full((1, 3), size), requires_grad=True)
        modes.run(cell, h, mg.tensor(xs))[0].sum().backward()
        close(h.grad.numpy(), np.prod(1 - z, axis=0))


def test_a_minimal_gated_unit_with_a_closed_gate_keeps_its_state(rng: np.random.Generator) -> None:
    cell = nn.MinimalGatedCell(2, 3, **F64)
    cell.bias_ih.data[:3] = -1000.0
    h = random_state(cell, 2, rng)
    final, _ = modes.run(cell, h, mg.tensor(rng.normal(size=(20, 2, 2))))
    np.testing.assert_array_equal(final.numpy(), h.numpy())


def test_a_unitary_cell_without_input_keeps_the_size_of_its_state_and_gradient(
    rng: np.random.Generator,
) -> None:
    cell = nn.UnitaryCell(1, 5, eps=1e-300, **F64)
    state, g = random_state(cell, 1, rng), rng.normal(size=(1, 10))
    final, ys = modes.run(cell, state, mg.tensor(np.zeros((100, 1, 1))))
    size = np.hypot(state["re"].numpy(), state["im"].numpy())
    close(np.hypot(ys.numpy()[..., :5], ys.numpy()[..., 5:]), np.broadcast_to(size, (100, 1, 5)))
    turned = (state["re"].numpy() + 1j * state["im"].numpy()) * np.exp(100j * cell.theta.numpy())
    close(final["re"].numpy(), turned.real, rtol=1e-10)
    (mg.concatenate([final["re"], final["im"]], axis=-1) * g).sum().backward()
    arrived = np.concatenate([state["re"].grad.numpy(), state["im"].grad.numpy()])
    close(np.linalg.norm(arrived), np.linalg.norm(g), rtol=1e-10)


def test_an_lru_answers_an_impulse_with_powers_of_lambda(rng: np.random.Generator) -> None:
    cell = nn.LRUCell(1, 3, output_size=2, **F64)
    w, xs = arrays(cell), np.zeros((30, 1, 1))
    xs[0] = 1.0
    _, ys = modes.run(cell, cell.init_state(1), mg.tensor(xs))
    eigenvalue = np.exp(-np.exp(w["nu"]) + 1j * np.exp(w["theta"]))
    B = np.exp(w["gamma"]) * (w["weight_ih"][:3, 0] + 1j * w["weight_ih"][3:, 0])
    C = w["weight_ho"][:, :3] - 1j * w["weight_ho"][:, 3:]
    expected = np.stack([(C @ (eigenvalue**t * B)).real for t in range(30)])
    expected[0] += w["weight_io"][:, 0]
    close(ys.numpy()[:, 0], expected, rtol=1e-10)
    assert (np.abs(eigenvalue) >= 0.9).all()
    assert (np.abs(eigenvalue) <= 0.999).all()
    close(np.exp(2 * w["gamma"]), 1 - np.abs(eigenvalue) ** 2)


@pytest.mark.parametrize("score", ["additive", "dot"])
def test_attention_does_not_see_the_order_of_its_memory(
    score: str, rng: np.random.Generator
) -> None:
    cell = nn.AttentionLSTMCell(2, 3, memory_size=4, score=score, **F64)
    state, xs = random_state(cell, 2, rng), mg.tensor(rng.normal(size=(5, 2, 2)))
    memory = rng.normal(size=(2, 6, 4))
    ys = [modes.run(cell.attend(m), state, xs)[1].numpy() for m in (memory, memory[:, ::-1].copy())]
    close(*ys)
    assert np.abs(modes.run(cell.attend(-memory), state, xs)[1].numpy() - ys[0]).max() > 1e-3


def test_attention_reads_the_place_that_its_query_points_at() -> None:
    cell = nn.AttentionLSTMCell(1, 2, memory_size=2, score="dot", **F64)
    nn.init.identity_(cell.weight_memory)
    nn.init.identity_(cell.weight_query, 1000.0)
    cell.attend(np.array([[[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]]))
    for place, h in enumerate(np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])):
        close(cell.context(mg.tensor(h[None])).numpy(), cell.memory.numpy()[:, place])


# ------------------------------------------------------------------------------------------ misuse


def test_initialisers_know_which_gates_keep_the_state() -> None:
    peephole, coupled = nn.PeepholeLSTMCell(1, 2), nn.CoupledLSTMCell(1, 2)
    minimal, mingru = nn.MinimalGatedCell(1, 2), nn.MinGRUCell(1, 2)
    nn.init.forget_bias_(peephole, 1.5)
    assert peephole.bias_ih.data[2:4].tolist() == [1.5, 1.5]
    for cell in (coupled, minimal, mingru):
        nn.init.chrono_(cell, 50, generator=np.random.default_rng(0))
        assert (cell.bias_ih.data[:2] < 0).all()  # these gates overwrite where they are open
        with pytest.raises(ValueError, match="no cell with bias_ih and a gate f"):
            nn.init.forget_bias_(cell)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nn.AttentionLSTMCell(2, 3, 4).attend(np.ones((1, 2, 3))),
            mg.ShapeError,
            r"expected a memory \(B, M, 4\).*got float64\[1, 2, 3\]",
        ),
        (
            lambda: nn.AttentionLSTMCell(2, 3, 4).attend(np.ones((1, 2, 4))),
            mg.DTypeError,
            r"use memory.astype\(np.float32\)",
        ),
        (lambda: nn.AttentionLSTMCell(2, 3, 4, score="sum"), ValueError, "'additive' or 'dot'"),
        (lambda: nn.AttentionLSTMCell(2, 3, 0), mg.ShapeError, "memory_size must be >= 1, got 0"),
        (lambda: nn.ElmanCell(2, 3, output_size=0), mg.ShapeError, "output_size must be >= 1"),
        (lambda: nn.LRUCell(2, 3, r_max=1.0), ValueError, "r_min < r_max < 1, got 0.9 and 1.0"),
        (lambda: nn.ZoneoutLSTMCell(2, 3, zoneout_c=2), ValueError, "zoneout_c is a probability"),
    ],
)
def test_errors_say_what_to_do(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_step_without_its_memory_or_masks_says_so() -> None:
    x = np.ones((2, 2), np.float32)
    attention, zoneout = nn.AttentionLSTMCell(2, 3, 4), nn.ZoneoutLSTMCell(2, 3)
    with pytest.raises(mg.ShapeError, match=r"for a batch of 2, got none; call cell.attend"):
        attention(attention.init_state(2), x)
    attention.attend(np.ones((1, 5, 4), np.float32))
    with pytest.raises(mg.ShapeError, match=r"for a batch of 2, got float32\[1, 5, 4\]"):
        attention(attention.init_state(2), x)
    with pytest.raises(ValueError, match=r"in training needs its masks.*cell.eval\(\)"):
        zoneout(zoneout.init_state(2), x)
