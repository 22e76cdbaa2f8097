"""What is said of gates and units is said of steps that are no padding."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modes import MODES

import minigrad as mg
from minigrad import nn

LENGTHS = (7, 4, 2)
STEPS = 9  # the last two of which are padding of every row


def recorded(kind: Any, mode: str, x: Any, lengths: Any = None) -> Any:
    layer = kind(2, 3, generator=np.random.default_rng(0), dtype=np.float64, mode=mode)
    x = mg.tensor(x, requires_grad=True)
    with mg.flow.record() as found:
        y, _ = layer(x, lengths=lengths)
        (y * y).sum().backward()
    return found


def batch() -> Any:
    return np.random.default_rng(1).normal(size=(STEPS, len(LENGTHS), 2))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_gates_of_a_padded_batch_are_those_of_its_rows_alone(kind: Any, mode: str) -> None:
    x = batch()
    (layer,) = recorded(kind, mode, x, LENGTHS).layers.values()
    rows = [
        next(iter(recorded(kind, mode, x[:n, b : b + 1]).layers.values()))
        for b, n in enumerate(LENGTHS)
    ]
    for name, activation in layer.activations.items():
        for what in ("mean", "saturation", "slope"):
            own = [getattr(row.activations[name], what) for row in rows]
            each = [np.mean([a[t] for a in own if t < len(a)]) for t in range(max(LENGTHS))]
            found = getattr(activation, what)
            np.testing.assert_allclose(found[: len(each)], each, atol=1e-13)
            assert np.isnan(found[len(each) :]).all()
    values = {n: np.concatenate([row.values[n][:, 0] for row in rows]) for n in layer.values}
    for name, constants in layer.unit_time_constants.items():
        gate = values[name].mean(axis=0)
        kept = gate if layer.keeps[name] > 0 else 1 - gate
        np.testing.assert_allclose(constants, 1 / (1 - kept), rtol=1e-12)


def test_units_that_move_in_the_padding_alone_are_dead() -> None:
    layer = nn.RNN(1, 1, nonlinearity="relu", dtype=np.float64, mode="tape")
    for p in layer.parameters():
        p.data[...] = 0.0
    layer.weight_ih_l0.data[...] = 1.0
    x = np.where(np.arange(6)[:, None, None] < 3, -1.0, 1.0)  # above 0 behind the third step
    with mg.flow.record() as found:
        layer(mg.tensor(x, requires_grad=True), lengths=[3])[0].sum().backward()
    assert found["rnn/l0/fwd"].dead["h"].all()


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.filterwarnings("error")
def test_a_batch_that_is_padding_alone_is_said_to_be_that(kind: Any) -> None:
    report = str(mg.flow.report(recorded(kind, "fused", batch(), (0, 0, 0))))
    assert "all of it is padding: no row took part in any step" in report
    assert "on average" not in report
    assert "never move" not in report


@pytest.mark.filterwarnings("error")
def test_padding_of_every_row_is_drawn_and_shown(tmp_path: Path) -> None:
    found = recorded(nn.LSTM, "fused", batch(), LENGTHS)
    report = str(mg.flow.report(found))
    assert "nan on average" not in report
    assert "keeps the state for nan" not in report
    found.save(tmp_path / "flow.npz")
    assert str(mg.flow.report(mg.flow.load(tmp_path / "flow.npz"))) == report
    for options in ({"depth": 3}, {"depth": 3, "steps": range(STEPS)}, {"view": "rolled"}):
        gv = mg.flow.draw(found, **options).save(tmp_path / "flow.gv")
        assert not re.search(r"\bnan\b", Path(gv).read_text(encoding="utf-8"))
    mg.flow.report(found).explore().save(tmp_path / "flow.html")


def test_a_gate_that_is_tapped_at_some_steps_is_told_of_these(tmp_path: Path) -> None:
    w = mg.tensor(np.ones((2, 3)), requires_grad=True)
    with mg.flow.record() as found:
        h: Any = 0.0
        for t in range(6):
            with mg.scope(f"t={t}"):
                h = mg.tap("h", mg.tanh(mg.tensor(np.full((2, 2), 0.1 * t)) @ w + h))
                if t % 2:
                    mg.tap("f", mg.sigmoid(h))
        h.sum().backward()
    (layer,) = found.layers.values()
    mean = float(np.mean(layer.activations["f"].mean))
    assert f"f: {mean:.2f} on average" in str(mg.flow.report(found))
    mg.flow.draw(found, depth=3).save(tmp_path / "flow.gv")


@pytest.mark.parametrize("mode", MODES)
def test_of_a_gate_that_is_nan_no_share_is_told(mode: str) -> None:
    x = batch()
    x[4:, 0] = np.nan
    found = recorded(nn.LSTM, mode, x)
    (layer,) = found.layers.values()
    for gate in "ifog":
        activation = layer.activations[gate]
        assert np.isfinite(activation.saturation[:4]).all()
        assert np.isnan(activation.saturation[4:]).all()
    report = str(mg.flow.report(found))
    assert "  i: nan on average\n" in report
    assert "nan steps" not in report
    assert "  i: 15 values and" in report
