"""return_states=True: h_t and c_t of every step as Tensors that a loss may read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.tree import leaves

F64: dict[str, Any] = {"dtype": np.float64}


def by_hand(cell: Any, x: np.ndarray, lengths: Any = None, reverse: bool = False) -> list[Any]:
    """The states that the steps of each row leave, one step after the other; 0 in the padding."""
    time, batch, _ = x.shape
    state = cell.init_state(batch)
    found: list[Any] = [None] * time
    for t in reversed(range(time)) if reverse else range(time):
        new, _ = cell(state, mg.tensor(x[t]))
        real = mg.tensor(np.full((batch, 1), True) if lengths is None else t < lengths[:, None])
        found[t] = [mg.where(real, s, 0.0) for s in leaves(new)]
        state = mg.tree.map_leaves(lambda a, b, r=real: mg.where(r, a, b), new, state)
    return [mg.stack(steps) for steps in zip(*found, strict=True)]


@pytest.mark.parametrize("lengths", [None, np.array([4, 1, 3])])
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_states_and_their_gradients_are_those_of_the_steps(
    kind: str, lengths: Any, rng: np.random.Generator
) -> None:
    layer = getattr(nn, kind)(2, 3, bidirectional=True, **F64)
    for _ in range(3):  # traced, traced to be remembered, remembered
        x = rng.normal(size=(4, 3, 2))
        output, final, states = layer(x, lengths=lengths, return_states=True)
        plain, plain_final = layer(x, lengths=lengths)
        np.testing.assert_array_equal(output.data, plain.data)
        for a, b in zip(leaves(final), leaves(plain_final), strict=True):
            np.testing.assert_array_equal(a.data, b.data)
        expected = [by_hand(c, x, lengths, d == 1) for d, c in enumerate(layer.cells)]
        weights = [rng.normal(size=s.shape) for s in leaves(states)]
        for k, s in enumerate(leaves(states)):
            assert s.shape == (2, 4, 3, 3)
            wanted = np.stack([each[k].data for each in expected])
            np.testing.assert_allclose(s.data, wanted, rtol=1e-12, atol=1e-14)
        parameters = list(layer.parameters())
        loss = sum((s * w).sum() for s, w in zip(leaves(states), weights, strict=True))
        same = sum(
            (each[k] * w[d]).sum() for d, each in enumerate(expected) for k, w in enumerate(weights)
        )
        for a, b in zip(mg.grad(loss, parameters), mg.grad(same, parameters), strict=True):
            np.testing.assert_allclose(a.data, b.data, rtol=1e-10, atol=1e-12)


def test_states_lie_as_the_batch_does(rng: np.random.Generator) -> None:
    layer = nn.LSTM(2, 3, num_layers=2, proj_size=1, return_states=True, **F64)
    x = rng.normal(size=(5, 2, 2))
    _, _, (h, c) = layer(x)
    assert (h.shape, c.shape) == ((2, 5, 2, 1), (2, 5, 2, 3))
    _, _, (h_1, c_1) = layer(x[:, 0])
    assert (h_1.shape, c_1.shape) == ((2, 5, 1), (2, 5, 3))
    np.testing.assert_allclose(c_1.data, c.data[:, :, 0], rtol=1e-12)
    layer.batch_first = True
    output, _, (h_b, c_b) = layer(x.swapaxes(0, 1))
    np.testing.assert_array_equal(c_b.data, c.data.swapaxes(1, 2))
    np.testing.assert_array_equal(h_b.data[1], output.data)
    assert len(layer(x.swapaxes(0, 1), return_states=False)) == 2


@pytest.mark.parametrize("steps", [1, 4])
def test_the_output_may_be_the_last_step_alone_beside_all_states(steps: int) -> None:
    layer = nn.GRU(2, 3, return_sequences=False, return_states=True)
    output, h_n, hs = layer(np.ones((steps, 2, 2), np.float32))
    assert hs.shape == (1, steps, 2, 3)
    np.testing.assert_array_equal(output.data, hs.data[0, -1])
    np.testing.assert_array_equal(h_n.data, hs.data[:, -1])


def test_a_recording_knows_the_gradient_that_comes_by_a_state(rng: np.random.Generator) -> None:
    x = rng.normal(size=(5, 2, 2))
    found = []
    layer = nn.LSTM(2, 3, return_states=True, **F64)
    for mode in ("fused", "tape"):
        layer.mode = mode
        with mg.flow.record() as rec:
            output, _, states = layer(x, lengths=[5, 3])
            (states.c[0] * output).sum().backward()
        flow = rec["lstm/l0/fwd"]
        found.append({name: flow.gradients[name] for name in ("h", "c", "f")})
    for name, g in found[0].items():
        np.testing.assert_allclose(g, found[1][name], rtol=1e-10, atol=1e-14)


def test_checkpoints_and_jit_leave_states_as_they_are(rng: np.random.Generator) -> None:
    layer = nn.LSTM(2, 3, return_states=True, **F64)
    few = nn.LSTM(2, 3, return_states=True, checkpoint=2, **F64)
    few.load_state_dict(layer.state_dict())

    @mg.jit
    def step(x: Any) -> Any:
        loss = (layer(x)[2].c ** 2).sum()
        layer.zero_grad()
        loss.backward()
        return loss

    for _ in range(4):
        x = rng.normal(size=(5, 2, 2))
        loss = (few(x)[2].c ** 2).sum()
        few.zero_grad()
        loss.backward()
        np.testing.assert_allclose(step(x).item(), loss.item(), rtol=1e-12)
        for p, q in zip(layer.parameters(), few.parameters(), strict=True):
            np.testing.assert_allclose(p.grad.data, q.grad.data, rtol=1e-10)
