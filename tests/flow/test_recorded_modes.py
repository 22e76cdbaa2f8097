"""A recording of a compiled layer is that of the same layer on the tape, to the last word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from modes import MODES, each_mode

import minigrad as mg
from minigrad import data, nn
from minigrad.flow import FlowError, Recording, summary
from minigrad.flow.comparison import Outcome, Settings, run

KINDS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
T, B, H = 12, 2, 3


class Linear(nn.Module):
    """h = w h + x: the gradient shrinks or grows by w, exactly."""

    def __init__(self, w: float):
        self.w = nn.Parameter(np.full(H, w), np.float64)

    def init_state(self, batch: int) -> Any:
        return {"h": mg.tensor(np.zeros((batch, H)))}

    def forward(self, state: Any, x: Any) -> Any:
        h = mg.tap("h", self.w * state["h"] + x)
        return {"h": h}, h


def recorded(layer: Any, record: Callable[[Any], Recording]) -> list[Recording]:
    """What record(layer) gives in every mode."""
    found = []
    for mode in MODES:
        layer.mode = mode
        found.append(record(layer))
    return found


def assert_same(fused: Recording, tape: Recording, rtol: float = 1e-9) -> None:
    assert list(fused) == list(tape)
    for path, want in tape.items():
        got = fused[path]
        assert got.steps.tolist() == want.steps.tolist()
        assert got.tiny == want.tiny
        assert list(got.norms) == list(want.norms)
        for name, norms in want.norms.items():
            np.testing.assert_allclose(got.norms[name], norms, rtol=rtol, atol=0.0)
            np.testing.assert_allclose(got.per_sample[name], want.per_sample[name], rtol=rtol)
        assert set(got.activations) == set(want.activations)
        for name, gate in want.activations.items():
            for what in ("mean", "saturation", "slope"):
                a, b = (getattr(x, what) for x in (got.activations[name], gate))
                np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9, err_msg=f"{name} {what}")
    assert str(fused.verdict) == str(tape.verdict)
    assert str(fused) == str(tape)


@pytest.mark.parametrize("lengths", [None, [T, 7]], ids=["full", "padded"])
@pytest.mark.parametrize("kind", KINDS)
def test_two_stacked_bidirectional_layers(
    kind: str, lengths: Any, rng: np.random.Generator
) -> None:
    options: dict[str, Any] = dict(num_layers=2, bidirectional=True, dtype=np.float64)
    layer = KINDS[kind](2 * H, H, generator=rng, **options)
    xs = mg.tensor(rng.normal(size=(T, B, 2 * H)), requires_grad=True)
    fused, tape = recorded(layer, lambda layer: mg.flow.probe(layer, xs, lengths))
    assert len(fused) == 4
    assert_same(fused, tape)


def test_a_float32_layer(rng: np.random.Generator) -> None:
    layer = nn.LSTM(2 * H, H, generator=rng)
    xs = rng.normal(size=(30, B, 2 * H)).astype(np.float32)
    fused, tape = recorded(layer, lambda layer: mg.flow.probe(layer, xs))
    assert fused["lstm/l0/fwd"].tiny == np.finfo(np.float32).tiny
    for name, norms in tape["lstm/l0/fwd"].norms.items():
        np.testing.assert_allclose(fused["lstm/l0/fwd"].norms[name], norms, rtol=1e-3)
    assert fused.verdict.kind == tape.verdict.kind


@pytest.mark.parametrize(("w", "kind"), [(0.5, "vanishing"), (1.0, "healthy"), (1.4, "exploding")])
def test_verdicts_of_a_cell_of_ones_own(w: float, kind: str) -> None:
    layer = nn.Recurrent(lambda size: Linear(w), H)
    fused, tape = recorded(layer, lambda layer: mg.flow.probe(layer, np.ones((60, 1, H))))
    assert fused.verdict.kind == kind
    assert fused.verdict.rate == pytest.approx(w, rel=1e-9)
    assert_same(fused, tape)


def test_nothing_arrives_behind_a_loss_in_the_middle(rng: np.random.Generator) -> None:
    layer = nn.GRU(2, H, dtype=np.float64, generator=rng)
    xs = rng.normal(size=(T, B, 2))

    def record(layer: Any) -> Recording:
        with mg.flow.record() as recording:
            layer(xs)[0][4].sum().backward()
        return recording

    fused, tape = recorded(layer, record)
    assert (fused["gru/l0/fwd"].norms["h"][5:] == 0).all()
    assert_same(fused, tape)


@each_mode
def test_windows_of_truncated_bptt_end_the_gradient(mode: str, rng: np.random.Generator) -> None:
    cell = nn.GRUCell(2, H, dtype=np.float64, generator=rng)
    xs = mg.tensor(rng.normal(size=(T, B, 2)), requires_grad=True)
    result = mg.scan(cell, cell.init_state(B), xs, mode=mode, truncate=4, record="h")
    result.ys[-1].sum().backward()
    norms = result.record.gradients["h"]
    assert norms.shape == (T, B)
    assert (norms[8:] > 0).all()
    assert (norms[:8] == 0).all()


def test_windows_of_truncated_bptt_record_the_same(rng: np.random.Generator) -> None:
    cell = nn.LSTMCell(2, H, dtype=np.float64, generator=rng)
    xs, weight = rng.normal(size=(T - 1, B, 2)), rng.normal(size=(T - 1, B, H))
    records = []
    for mode in MODES:
        result = mg.scan(cell, cell.init_state(B), xs, mode=mode, truncate=4, record=True)
        (result.ys * weight).sum().backward()
        records.append(result.record)
    fused, tape = records
    assert set(fused.values) == set(tape.values) == set("ifgoch")
    for name, values in tape.values.items():
        np.testing.assert_allclose(fused.values[name], values, rtol=1e-11)
    for name in ("h", "c"):
        np.testing.assert_allclose(fused.gradients[name], tape.gradients[name], rtol=1e-10)


def test_a_layer_called_window_by_window_shows_its_last_window(rng: np.random.Generator) -> None:
    layer = nn.LSTM(2, H, dtype=np.float64, generator=rng)
    xs = rng.normal(size=(T, B, 2))

    def record(layer: Any) -> Recording:
        state = None
        with mg.flow.record() as recording:
            for start in range(0, T, 4):
                ys, state = layer(xs[start : start + 4], state)
                ys[-1].sum().backward()
                state = nn.LSTMState(*(s.detach() for s in state))
        return recording

    fused, tape = recorded(layer, record)
    assert fused["lstm/l0/fwd"].steps.tolist() == [0, 1, 2, 3]
    assert_same(fused, tape)


@each_mode
@pytest.mark.parametrize(
    ("inside", "message"),
    [
        (lambda layer, xs: layer(xs), "states were seen, but no gradient arrived"),
        (lambda layer, xs: quietly(layer, xs), "none of the states needs a gradient"),
    ],
)
def test_a_recording_without_gradients_says_so(inside: Any, message: str, mode: str) -> None:
    layer = nn.GRU(2, H, dtype=np.float64, mode=mode)
    with mg.flow.record() as recording:
        inside(layer, np.ones((T, B, 2)))
    with pytest.raises(FlowError, match=message):
        recording.verdict  # noqa: B018


def quietly(layer: Any, xs: Any) -> None:
    with mg.no_grad():
        layer(xs)


def test_backward_after_the_block_arrives_in_the_recording(rng: np.random.Generator) -> None:
    layer = nn.GRU(2, H, dtype=np.float64, generator=rng)
    xs = rng.normal(size=(T, B, 2))

    def record(layer: Any) -> Recording:
        with mg.flow.record() as recording:
            ys, _ = layer(xs)
        ys[-1].sum().backward()
        return recording

    assert_same(*recorded(layer, record))


@pytest.mark.parametrize("cell", ["lstm", pytest.param("bilstm", marks=pytest.mark.slow)])
def test_the_comparison_finds_the_same_in_every_mode(cell: str) -> None:
    text, outcomes = data.shakespeare()[:3000], dict[str, Outcome]()
    for mode in MODES:
        settings = Settings(steps=T, hidden=6, batch=2, updates=3, embedding=4, mode=mode)
        outcomes[mode] = run(cell, text, settings)
    fused, tape = outcomes["fused"], outcomes["tape"]
    np.testing.assert_allclose(fused.curve, tape.curve, rtol=1e-4)
    assert fused.bits == pytest.approx(tape.bits, rel=1e-4)
    assert_same(fused.before, tape.before, rtol=1e-6)
    assert fused.after.verdict.kind == tape.after.verdict.kind
    for one, other in zip(*(summary.table([o]).splitlines() for o in (fused, tape)), strict=True):
        assert one.split()[:3] == other.split()[:3]
