"""Every cell and variant: its equations, its gradients, and what it must do where that is known."""

from __future__ import annotations

from typing import Any

import modes
import numpy as np
import pytest
import reference
from cells import CELLS, inputs, learned, random_state, with_values
from modes import each_mode

import minigrad as mg
from minigrad import nn
from minigrad.tree import leaves, rebuild

F64: dict[str, Any] = {"dtype": np.float64}
VARIANTS = [(after, update) for after in (True, False) for update in ("keep", "write")]


def weights(cell: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.numpy() for name, p in cell.named_parameters()}


@pytest.mark.parametrize(("time", "batch", "size", "hidden"), [(1, 1, 1, 1), (2, 3, 2, 5)])
@each_mode
@pytest.mark.parametrize("kind", CELLS)
def test_gradients_by_finite_differences(
    kind: str, mode: str, time: int, batch: int, size: int, hidden: int, rng: np.random.Generator
) -> None:
    cell = CELLS[kind](size, hidden, np.float64, rng)
    state, given = random_state(cell, batch, rng), inputs(cell, time, batch, rng)
    xs, *drawn = given if isinstance(given, tuple) else (given,)
    n = len(leaves(state))

    def f(xs: Any, *rest: Any) -> Any:
        init, xs = rebuild(state, rest[:n]), (xs, *drawn) if drawn else xs
        final, ys = with_values(cell, rest[n:], lambda: modes.run(cell, init, xs, mode=mode))
        return mg.concatenate([t.reshape(-1) for t in (*leaves(final), ys)])

    assert mg.gradcheck(f, xs, *leaves(state), *learned(cell).values(), full=hidden == 1)


@pytest.mark.parametrize("kind", CELLS)
def test_float32_stays_float32(kind: str, rng: np.random.Generator) -> None:
    cell = CELLS[kind](2, 3, np.float32, rng)
    final, ys = modes.run(cell, cell.init_state(2), inputs(cell, 2, 2, rng))
    mg.sum(ys).backward()
    assert {t.dtype for t in (*leaves(final), ys)} == {np.dtype(np.float32)}
    assert {p.grad.dtype for p in cell.parameters()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(("reset_after", "update"), VARIANTS)
def test_gru_variants_follow_their_equations(
    reset_after: bool, update: str, rng: np.random.Generator
) -> None:
    cell = nn.GRUCell(2, 3, reset_after=reset_after, update=update, **F64)
    h, x = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    new, _ = cell(mg.tensor(h), x)
    for b in range(4):
        expected = reference.gru_step(weights(cell), h[b], x[b], reset_after, update)
        np.testing.assert_allclose(new.data[b], expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("reset_after", [True, False])
def test_negating_z_turns_keep_into_write(reset_after: bool, rng: np.random.Generator) -> None:
    keep = nn.GRUCell(2, 3, reset_after=reset_after, update="keep", **F64)
    write = nn.GRUCell(2, 3, reset_after=reset_after, update="write", **F64)
    state = keep.state_dict()
    for array in state.values():
        array[3:6] *= -1  # the z rows
    write.load_state_dict(state)
    h, x = mg.tensor(rng.normal(size=(4, 3))), rng.normal(size=(4, 2))
    np.testing.assert_allclose(keep(h, x)[0].data, write(h, x)[0].data, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("bias", [0.0, 1.0, 2.0, 5.0])
def test_memory_of_a_saturated_lstm_is_the_product_of_its_forget_gates(bias: float) -> None:
    cell = nn.LSTMCell(1, 1, **F64)
    for p in cell.parameters():
        nn.init.constant_(p)
    nn.init.forget_bias_(cell, bias)
    c = mg.tensor([[1.0]], requires_grad=True)
    final, _ = nn.unroll(
        cell, nn.LSTMState(mg.tensor([[0.0]]), c), mg.tensor(np.zeros((100, 1, 1)))
    )
    final.c.sum().backward()
    # 7.9e-31, 2.5e-14, 3.1e-6, 0.51: the forget bias decides what is left after 100 steps
    assert c.grad.item() == pytest.approx(reference.sigmoid(bias) ** 100, rel=1e-12)


@pytest.mark.parametrize("w", [0.5, 1.0, 1.5])
def test_gradient_of_a_linear_recurrence_is_a_power_of_its_weight(w: float) -> None:
    cell = nn.RNNCell(1, 1, bias=False, nonlinearity="relu", **F64)  # relu is linear where h > 0
    nn.init.constant_(cell.weight_hh, w)
    nn.init.constant_(cell.weight_ih, 0.0)
    h = mg.tensor([[1.0]], requires_grad=True)
    final, _ = nn.unroll(cell, h, mg.tensor(np.zeros((21, 1, 1))))
    final.sum().backward()
    assert h.grad.item() == pytest.approx(w**21, rel=1e-12)


def test_saturated_update_gate_keeps_the_state_exactly() -> None:
    cell = nn.GRUCell(1, 2, **F64)
    cell.bias_ih.data[2:4] = 1000.0  # z = 1
    h = mg.tensor([[0.3, -0.7]])
    final, _ = nn.unroll(cell, h, mg.tensor(np.ones((50, 1, 1))))
    np.testing.assert_array_equal(final.data, h.data)


def test_cells_mark_their_gates_for_listeners() -> None:
    expected = {
        "rnn-tanh": "h",
        "lstm": "cfghio",
        "gru-after-keep": "hnrz",
        "gru-before-keep": "hnrz",
        "peephole": "cfghio",
        "coupled": "cghio",
        "zoneout-eval": "cfghio",
        "minimal": "fhn",
        "mingru": "hnz",
        "indrnn": "h",
        "cornn": "yz",
        "lem": "rsyz",
        "antisymmetric-gated": "hz",
        "cfc": "fghk",
        "slstm": "cfhimnoz",
    }
    for kind, names in expected.items():
        heard: list[str] = []
        cell = CELLS[kind](2, 3, np.float64, np.random.default_rng(0))
        with mg.listen(lambda name, tensor, scope, heard=heard: heard.append(name)):
            cell(cell.init_state(1), np.ones((1, 2)))
        assert "".join(sorted(heard)) == names


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c(np.ones((1, 2)), c.init_state(1)), mg.ShapeError, r"cell\(state, x\)"),
        (lambda c: c(c.init_state(1), np.ones((1, 3))), mg.ShapeError, r"got float64\[1, 3\]"),
        (lambda c: c(c.init_state(1), np.float32([[1, 2]])), mg.DTypeError, "weights are float64"),
        (lambda c: nn.RNNCell(2, 3, nonlinearity="sin"), ValueError, "'tanh' or 'relu'"),
        (lambda c: nn.GRUCell(2, 3, update="forget"), ValueError, "update must be 'keep'"),
        (lambda c: nn.LSTMCell(2, 3, proj_size=3), mg.ShapeError, "less than hidden_size=3"),
        (lambda c: nn.LSTMCell(0, 3), mg.ShapeError, "input_size must be >= 1, got 0"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call(nn.GRUCell(2, 3, **F64))
