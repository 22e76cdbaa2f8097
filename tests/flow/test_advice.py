"""The reason of a verdict in numbers, and what it tells people to try."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from modes import each_mode

import minigrad as mg
from minigrad import nn
from minigrad.flow import Recording
from minigrad.flow.advising import stretch


def linear(W: Any, T: int = 30, mode: str = "fused", **options: Any) -> Recording:
    """h = h W^T + x, a loss <w, h_T>."""
    weight = mg.tensor(np.asarray(W).T, requires_grad=True, name="W")
    n = len(W)

    def cell(h: Any, x: Any) -> Any:
        h = mg.tap("h", h @ weight + x)
        return h, h

    xs = mg.tensor(np.ones((T, 2, n)))
    with mg.flow.record(**options) as rec:
        final, _ = mg.scan(cell, mg.tensor(np.zeros((2, n))), xs, mode=mode)
        final.sum().backward()
    return rec


@each_mode
def test_the_stretch_of_a_linear_step_is_the_largest_singular_value_of_its_weight(
    mode: str, rng: np.random.Generator
) -> None:
    W = rng.normal(size=(5, 5))
    assert stretch(linear(W, mode=mode)[""]) == pytest.approx(np.linalg.norm(W, 2), rel=1e-12)


def test_the_stretch_of_a_tanh_step_is_that_of_its_slopes_times_its_weight(
    rng: np.random.Generator,
) -> None:
    rnn = nn.RNN(2, 4, dtype=np.float64, generator=rng)
    with mg.flow.record() as rec:
        ys, _ = rnn(rng.normal(size=(1, 3, 2)))
        ys.sum().backward()
    J = (1 - ys.numpy()[0] ** 2)[:, :, None] * rnn.weight_hh_l0.numpy()  # of each row
    sigma = np.median(np.linalg.svd(J, compute_uv=False)[:, 0])
    assert stretch(rec["rnn/l0/fwd"]) == pytest.approx(sigma, rel=1e-12)


def test_there_is_no_stretch_without_a_replay() -> None:
    assert stretch(linear(np.eye(2), replay=False)[""]) is None


def test_a_cell_of_one_batch_size_still_gets_a_verdict(rng: np.random.Generator) -> None:
    per_row, w = mg.tensor(rng.normal(size=(3, 2))), mg.tensor(np.eye(2) * 0.3, requires_grad=True)

    def cell(h: Any, x: Any) -> Any:
        h = mg.tap("h", h @ w + x * per_row)
        return h, h

    with mg.flow.record() as rec:
        final, _ = mg.scan(cell, mg.tensor(np.zeros((3, 2))), mg.tensor(np.ones((20, 3, 2))))
        final.sum().backward()
    assert rec.verdict.kind == "vanishing"


def lstm_of(forget: float) -> Recording:
    layer = nn.LSTM(2, 3, dtype=np.float64, generator=np.random.default_rng(0))
    layer.bias_ih_l0.data = np.repeat([0.0, forget, 0.0, 0.0], 3)
    return mg.flow.probe(layer, np.ones((200, 1, 2)))


def test_an_lstm_with_half_open_forget_gates_is_told_to_open_them() -> None:
    verdict = lstm_of(0.0).verdict
    assert verdict.kind == "vanishing"
    assert "forget_bias_" in verdict.advice
    assert "chrono_(layer, 200)" in verdict.advice
    assert "largest singular value of a step's Jacobian" in verdict.reason


def test_an_lstm_whose_gates_are_open_is_not() -> None:
    assert "forget_bias_" not in lstm_of(4.0).verdict.advice


@pytest.mark.parametrize(
    ("scale", "kind", "words"),
    [
        (0.5, "vanishing", "a gated cell"),
        (1.0, "healthy", ""),
        (2.0, "exploding", "clip_grad_norm_"),
    ],
)
def test_advice_follows_the_verdict(scale: float, kind: str, words: str) -> None:
    verdict = linear(scale * np.eye(3)).verdict
    assert (verdict.kind, words in verdict.advice) == (kind, True)
    assert bool(verdict.advice) == (kind != "healthy")


@pytest.mark.parametrize(("scale", "lag"), [(0.5, 10), (2.0, 10), (1.0, None)])
def test_a_verdict_says_where_the_gradient_is_lost(scale: float, lag: int | None) -> None:
    """0.5^10 = 1/1024 is the first below 1e-3, and 2^10 the first above 1e3."""
    verdict = linear(scale * np.eye(3)).verdict
    assert verdict.lost == lag
    said = f"past x1000 from {lag} steps on" if scale > 1 else f"reach {lag} steps"
    assert (said in verdict.reason) == (lag is not None)


def test_the_report_shows_the_advice() -> None:
    text = str(mg.flow.report({"half open": lstm_of(0.0), "open": lstm_of(4.0)}))
    assert "half open lstm/l0/fwd" in text
    assert "  try: open the forget gate" in text


@pytest.mark.parametrize("what", [{}, {"a": 1}, None, "rec"])
def test_a_report_of_something_else_says_what_it_takes(what: Any) -> None:
    with pytest.raises(mg.flow.FlowError, match=r"`with mg.flow.record\(\) as rec` makes one"):
        mg.flow.report(what)


def test_a_report_before_any_data_says_so() -> None:
    with mg.flow.record() as rec:
        pass
    with pytest.raises(mg.flow.FlowError, match="nothing was tapped"):
        mg.flow.report(rec)
