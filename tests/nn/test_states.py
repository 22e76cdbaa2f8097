"""return_states=True: h_t and c_t of every step as Tensors that a loss may read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compile.agree import PLAIN

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


@pytest.mark.parametrize("lengths", [np.array([4, 1, 3]), None])
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


# ------------------------------------------------------------------ sizes that differ by layer


def test_layers_of_different_sizes_are_layers_one_after_the_other(rng: np.random.Generator) -> None:
    layer = nn.LSTM(3, [4, 1, 2], bidirectional=True, **F64)
    assert layer.num_layers == 3
    assert layer.weight_ih_l1_reverse.shape == (4, 8)
    assert layer.describe() == "3, (4, 1, 2), num_layers=3, bidirectional=True"
    x = xs = mg.tensor(rng.normal(size=(5, 2, 3)), requires_grad=True)
    output, final, states = layer(x, lengths=[5, 2], return_states=True)
    for i, H in enumerate((4, 1, 2)):
        one = nn.LSTM(xs.shape[-1], H, bidirectional=True, **F64)
        own = {n: w for n, w in layer.state_dict().items() if f"_l{i}" in n}
        one.load_state_dict({n.replace(f"_l{i}", "_l0"): w for n, w in own.items()})
        xs, (h_n, c_n) = one(xs, lengths=[5, 2])
        for d in (0, 1):
            h, c = final[2 * i + d]
            np.testing.assert_allclose(h.data, h_n.data[d], rtol=1e-13)
            np.testing.assert_allclose(c.data, c_n.data[d], rtol=1e-13)
            assert states[2 * i + d].c.shape == (5, 2, H)
    np.testing.assert_allclose(output.data, xs.data, rtol=1e-13)
    (a,), (b,) = (mg.grad((y * y).sum(), [x]) for y in (output, xs))
    np.testing.assert_allclose(a.data, b.data, rtol=1e-10)


def test_a_tuple_of_states_goes_back_in_and_through_a_stream(rng: np.random.Generator) -> None:
    layer = nn.GRU(2, (3, 5))
    x = rng.normal(size=(6, 2, 2)).astype(np.float32)
    whole, h_n = layer(x)
    first, state = layer(x[:4])
    rest, last = layer(x[4:], state)
    np.testing.assert_array_equal(np.concatenate([first.data, rest.data]), whole.data)
    stream = layer.stream(2)
    np.testing.assert_array_equal(np.stack([stream(x_t).data for x_t in x]), whole.data)
    for found in (last, stream.state):
        assert isinstance(found, tuple)
        for a, b in zip(found, h_n, strict=True):
            np.testing.assert_array_equal(a.data, b.data)
    assert [s.shape for s in layer(x[:, 0])[1]] == [(3,), (5,)]
    alone, _ = layer(x[4:, 0], [s[0] for s in state])
    if PLAIN:  # products are NumPy's, whose rounding may depend on how many rows there are
        np.testing.assert_allclose(alone.data, rest.data[:, 0], rtol=1e-6)
    else:
        np.testing.assert_array_equal(alone.data, rest.data[:, 0])


def test_wrong_sizes_and_states_say_what_was_expected() -> None:
    with pytest.raises(mg.ShapeError, match=r"one size for each layer, 2 .* num_layers=3"):
        nn.RNN(2, [3, 4], num_layers=3)
    with pytest.raises(mg.ShapeError, match=r"hidden_size=\[\] is one size for each layer"):
        nn.RNN(2, [])
    with pytest.raises(TypeError, match=r"hidden_size\[1\] is an integer >= 1; got 4.5"):
        nn.RNN(2, [3, 4.5])
    layer, x = nn.LSTM(2, [3, 4]), np.ones((5, 1, 2), np.float32)
    h = np.zeros((1, 3), np.float32)
    with pytest.raises(mg.ShapeError, match=r"a state for each of 2 layers\*directions, .*sizes"):
        layer(x, h)
    with pytest.raises(mg.ShapeError, match=r"initial state \[1\] h should be \[1, 4\], \(B, size"):
        layer(x, [(h, h), (h, h)])
    with pytest.raises(mg.DTypeError, match=r"state \[0\] h is float64.* the layer float32"):
        layer(x, [(h.astype(float), h)] * 2)


def test_a_recording_and_a_drawing_take_layers_of_different_sizes() -> None:
    layer = nn.GRU(2, [3, 5], bidirectional=True)
    with mg.flow.record() as rec:
        layer(np.ones((4, 2, 2), np.float32))[0].sum().backward()
    assert [rec[f"gru/l{i}/rev"].gradients["h"].shape for i in (0, 1)] == [(4, 2, 3), (4, 2, 5)]
    assert "l1" in mg.flow.draw(layer).dot
