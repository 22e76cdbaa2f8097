"""Dropout inside of the recurrence: of h before weight_hh, and of the entries of weight_hh."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.errors import FlowError
from minigrad.interop import ConversionError

F64: dict[str, Any] = {"dtype": np.float64}
VARIANTS = {
    "RNN": {},
    "LSTM": {},
    "GRU": {},
    "GRU before": {"reset_after": False, "update": "write"},
}


def step(kind: str, layer: Any, W: Any, h: Any, c: Any, x: Any, mask: Any) -> tuple[Any, Any]:
    """One step as the papers write it, with `mask` on what weight_hh multiplies."""
    a = x @ layer.weight_ih_l0.T + layer.bias_ih_l0
    b, d = layer.bias_hh_l0, h * mask
    if kind == "RNN":
        return mg.tanh(a + d @ W.T + b), c
    if kind == "LSTM":
        i, f, g, o = mg.split(a + d @ W.T + b, 4, axis=-1)
        c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g)
        return mg.sigmoid(o) * mg.tanh(c), c
    (a_r, a_z, a_n), (W_r, W_z, W_n) = mg.split(a, 3, axis=-1), mg.split(W, 3)
    b_r, b_z, b_n = mg.split(b, 3)
    r, z = mg.sigmoid(a_r + d @ W_r.T + b_r), mg.sigmoid(a_z + d @ W_z.T + b_z)
    if kind == "GRU":
        return z * h + (1 - z) * mg.tanh(a_n + r * (d @ W_n.T + b_n)), c
    return (1 - z) * h + z * mg.tanh(a_n + (r * d) @ W_n.T + b_n), c


@pytest.mark.parametrize("lengths", [np.array([4, 2, 3]), None])
@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU", "GRU before"])
def test_masks_are_those_of_a_call_the_same_at_all_steps(
    kind: str, lengths: Any, rng: np.random.Generator
) -> None:
    """What weight_hh multiplies has a mask for each row, its entries have one for all."""
    layer = getattr(nn, kind[:4].strip())(
        2, 5, recurrent_dropout=0.4, weight_dropout=0.3, generator=np.random.default_rng(3),
        **VARIANTS[kind], **F64,
    )  # fmt: skip
    parameters = list(layer.parameters())
    for _ in range(3):  # traced, traced to be remembered, remembered
        x = rng.normal(size=(4, 3, 2))
        same = np.random.default_rng()
        same.bit_generator.state = layer.generator.bit_generator.state
        output, _ = layer(x, lengths=lengths)
        mask = (same.random((3, 5)) >= 0.4) / 0.6
        W = layer.weight_hh_l0 * ((same.random(layer.weight_hh_l0.shape) >= 0.3) / 0.7)
        h, c, ys = mg.tensor(np.zeros((3, 5))), mg.tensor(np.zeros((3, 5))), []
        for t in range(4):  # what a row does behind its last step is not read
            h, c = step(kind, layer, W, h, c, x[t], mask)
            ys.append(h if lengths is None else h * (t < lengths)[:, None].astype(float))
        expected = mg.stack(ys)
        np.testing.assert_allclose(output.data, expected.data, rtol=1e-12, atol=1e-14)
        found, wanted = (mg.grad((y * y).sum(), parameters) for y in (output, expected))
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a.data, b.data, rtol=1e-9, atol=1e-12)


def test_dropped_weights_are_those_of_a_layer_without_them(rng: np.random.Generator) -> None:
    layer = nn.LSTM(2, 3, bidirectional=True, weight_dropout=0.5, **F64)
    plain = nn.LSTM(2, 3, bidirectional=True, **F64)
    generator = layer.generator = np.random.default_rng(4)
    for _ in range(3):
        x = rng.normal(size=(4, 2, 2))
        same = np.random.default_rng()
        same.bit_generator.state = generator.bit_generator.state
        output, _ = layer(x)
        masks = {f"weight_hh_l0{r}": (same.random((12, 3)) >= 0.5) * 2.0 for r in ("", "_reverse")}
        state = layer.state_dict()
        plain.load_state_dict(state | {n: state[n] * m for n, m in masks.items()})
        expected, _ = plain(x)
        np.testing.assert_allclose(output.data, expected.data, rtol=1e-12, atol=1e-14)
        for one, y in ((layer, output), (plain, expected)):
            one.zero_grad()
            (y * y).sum().backward()
        for (name, p), q in zip(layer.named_parameters(), plain.parameters(), strict=True):
            g = q.grad.data * masks.get(name, 1.0)  # the same entries get no gradient
            np.testing.assert_allclose(p.grad.data, g, rtol=1e-10, atol=1e-13)
    np.testing.assert_array_equal(layer.state_dict()["weight_hh_l0"], state["weight_hh_l0"])


def test_eval_mode_switches_both_off_and_they_go_with_other_options() -> None:
    layer = nn.GRU(2, [3, 2], recurrent_dropout=0.5, weight_dropout=0.5, return_states=True, **F64)
    plain = nn.GRU(2, [3, 2], **F64)
    plain.load_state_dict(layer.state_dict())
    x = np.ones((4, 2, 2))
    assert layer(x)[2][1].shape == (4, 2, 2)
    assert not np.array_equal(layer(x)[0].data, plain(x)[0].data)
    np.testing.assert_array_equal(layer.eval()(x)[0].data, plain(x)[0].data)
    assert "recurrent_dropout=0.5" in layer.describe()
    assert "weight_dropout=0.5" in layer.describe()


def test_a_second_call_before_backward_changes_nothing(rng: np.random.Generator) -> None:
    """Each call has masks of its own, also where BPTT computes steps again."""
    options: dict[str, Any] = dict(recurrent_dropout=0.5, weight_dropout=0.5, **F64)
    layer = nn.LSTM(2, 3, checkpoint=2, generator=np.random.default_rng(5), **options)
    x, found = rng.normal(size=(5, 2, 2)), []
    for again in (False, True):
        layer.generator.bit_generator.state = np.random.default_rng(6).bit_generator.state
        layer.zero_grad()
        loss = (layer(x)[0] ** 2).sum()
        if again:
            layer(x)
        loss.backward()
        found.append([p.grad.data for p in layer.parameters()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_jitted_step_draws_anew_as_an_eager_one_does(rng: np.random.Generator) -> None:
    layer = nn.LSTM(2, 3, recurrent_dropout=0.5, weight_dropout=0.5, **F64)
    generator = layer.generator = layer.cells[0].generator = np.random.default_rng(7)

    def training(x: Any) -> Any:
        loss = (layer(x)[0] ** 2).sum()
        layer.zero_grad()
        loss.backward()
        return loss

    x, losses = rng.normal(size=(4, 2, 2)), []
    for step in (mg.jit(training), training):
        generator.bit_generator.state = np.random.default_rng(8).bit_generator.state
        losses.append([step(x).item() for _ in range(5)])
    assert len(set(losses[1])) == 5
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-12)


def test_a_recording_replays_each_call_with_its_own_masks(rng: np.random.Generator) -> None:
    layer = nn.LSTM(2, 3, recurrent_dropout=0.5, weight_dropout=0.5, **F64)
    x, found = rng.normal(size=(4, 2, 2)), []
    for mode in ("fused", "tape"):
        layer.mode, layer.generator = mode, np.random.default_rng(9)
        layer.cells[0].generator = layer.generator
        with mg.flow.record() as rec:
            first = (layer(x)[0] ** 2).sum()
            layer(x)
            first.backward()
        whole = layer.weight_hh_l0.grad.data
        flow = rec["lstm/l0/fwd"]
        layer.zero_grad()
        found.append({n: flow.gradients[n] for n in "hcf"})
        found[-1]["weight_hh"] = flow.weights["weight_hh_l0"].total
    for name, g in found[0].items():
        np.testing.assert_allclose(g, found[1][name], rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(found[0]["weight_hh"], whole, rtol=1e-9)


def test_what_cannot_draw_says_so() -> None:
    cell = nn.GRUCell(2, 3, recurrent_dropout=0.5)
    x = np.ones((1, 2), np.float32)
    with pytest.raises(ValueError, match=r"GRUCell: a step in training .* needs its mask, cell\("):
        cell(cell.init_state(1), x)
    cell(cell.init_state(1), (x, cell.draw(1, 1)[0]))
    for option in ("recurrent_dropout", "weight_dropout"):
        layer = nn.LSTM(2, 3, **{option: 0.5})
        with pytest.raises(ValueError, match=r"draws random numbers"):
            layer.stream()(x)
        layer.eval().stream()(x)
        with pytest.raises(ConversionError, match=r"LSTM drops out inside of the recurrence"):
            mg.interop.torch_arguments(layer)
        with pytest.raises(ValueError, match=rf"{option} .*1.5"):
            nn.RNN(2, 3, **{option: 1.5})
    with pytest.raises(FlowError, match=r"drops out weights at random; call .eval\(\) first"):
        mg.flow.jacobians(nn.GRU(2, 3, weight_dropout=0.5), None, np.ones((4, 1, 2), np.float32))
    with pytest.raises(TypeError, match=r"drops entries of weight_hh, and LRUCell has no"):
        nn.Recurrent(lambda size: nn.LRUCell(size, 3), 2, weight_dropout=0.5)
