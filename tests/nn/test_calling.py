"""A cell is called as `state, y = cell(state, x)`, and says so where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cells import CELLS

import minigrad as mg
from minigrad import nn
from minigrad.tree import leaves, map_leaves

B, I, H = 3, 4, 6
PAIR = r"\(state, y\)"


def _case(kind: str) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    cell = CELLS[kind](I, H, np.float32, rng)
    cell.eval()
    if hasattr(cell, "attend"):
        cell.attend(np.ones((B, 2, cell.memory_size), np.float32))
    return cell, cell.init_state(B), mg.tensor(rng.normal(size=(B, I)).astype(np.float32))


@pytest.mark.parametrize("kind", CELLS)
def test_every_cell_refuses_a_state_that_does_not_fit(kind: str) -> None:
    cell, state, x = _case(kind)
    name = type(cell).__name__
    wide = map_leaves(lambda s: mg.tensor(np.zeros((B, s.shape[1] + 1), np.float32)), state)
    for wrong in (cell.init_state(1), cell.init_state(B + 1), wide):
        with pytest.raises(mg.ShapeError, match=rf"{name}: expected cell\(state, x\).*init_state"):
            cell(wrong, x)
    double = map_leaves(lambda s: s.astype(np.float64), state)
    with pytest.raises(mg.DTypeError, match=rf"{name}: the state is .*float64.*np\.float32"):
        cell(double, x)
    with pytest.raises(TypeError, match=r"got one argument.*init_state"):
        cell(x)


@pytest.mark.parametrize("kind", CELLS)
def test_every_cell_refuses_its_arguments_swapped(kind: str) -> None:
    cell, state, x = _case(kind)
    with pytest.raises(mg.ShapeError, match=rf"That is cell\(x, state\).*{PAIR}"):
        cell(x, state)


@pytest.mark.parametrize("kind", CELLS)
def test_every_cell_refuses_the_pair_it_returned(kind: str) -> None:
    cell, state, x = _case(kind)
    pair = cell(state, x)
    for _ in range(2):
        with pytest.raises(
            mg.ShapeError, match=rf"A cell returns the pair {PAIR}.*state, y = cell"
        ):
            cell(pair, x)
    new, _ = cell(pair[0], x)
    assert [s.shape for s in leaves(new)] == [s.shape for s in leaves(state)]


def test_torchs_loop_over_an_lstm_cell_is_refused_at_its_second_step() -> None:
    cell, (h, c), x = _case("lstm")
    h, c = cell((h, c), x)
    with pytest.raises(mg.ShapeError, match=r"\(h, c\), y = cell\(\(h, c\), x\)"):
        cell((h, c), x)
    with pytest.raises(mg.ShapeError, match=r"Linear: expected an array, got a tuple"):
        nn.Linear(H, 1)(h)


def test_equal_sizes_do_not_hide_a_swapped_lstm_state() -> None:
    s = mg.tensor(np.zeros((2, 5), np.float32))
    with pytest.raises(mg.ShapeError, match=r"That is cell\(x, state\)"):
        nn.LSTMCell(5, 5)(s, (s, s))


def test_a_loop_in_minigrads_order_runs_with_arrays_lists_and_one_row() -> None:
    cell = nn.GRUCell(4, 5)
    h = np.zeros((3, 5), np.float32)
    for _ in range(3):
        h, y = cell(h, np.ones((3, 4), np.float32))
    assert y.shape == (3, 5)
    h, _ = cell(np.zeros(5, np.float32), np.ones(4, np.float32))
    assert h.shape == (5,)
    lstm = nn.LSTMCell(4, 5)
    (h, c), _ = lstm([mg.tensor(np.zeros((1, 5), np.float32))] * 2, np.ones((1, 4), np.float32))
    assert c.shape == (1, 5)


def test_a_cell_of_ones_own_has_a_state_of_its_own() -> None:
    class Counting(nn.GRUCell):
        def init_state(self, batch: int) -> Any:
            return (super().init_state(batch), mg.tensor(np.zeros(batch)))

        def forward(self, state: Any, x: Any) -> Any:
            h, y = super().forward(state[0], x)
            return (h, state[1] + 1.0), y

    cell = Counting(4, 5)
    (_, n), _ = cell(cell.init_state(2), np.ones((2, 4), np.float32))
    assert n.tolist() == [1.0, 1.0]


def test_a_state_dict_below_a_prefix_is_refused_with_the_prefix() -> None:
    source, target = nn.LSTM(3, 4), nn.LSTM(3, 4)
    state = {"model.rnn." + k: v for k, v in source.state_dict().items()}
    for strict in (True, False):
        with pytest.raises(mg.StateDictError, match=r"below 'model\.rnn\.': give prefix="):
            mg.interop.load_torch(target, state, strict=strict)
    mg.interop.load_torch(target, state, prefix="model.rnn.")
    for a, b in zip(source.parameters(), target.parameters(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    with pytest.raises(mg.StateDictError, match=r"give prefix='model\.rnn\.'"):
        mg.interop.load_torch(target, {"state_dict": state, "epoch": 3})
    with pytest.raises(mg.StateDictError, match="no name matches"):
        target.load_state_dict({"other": np.zeros(3)}, strict=False)
