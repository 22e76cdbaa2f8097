"""record() against closed forms and finite differences."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.flow import FlowError, Recording
from minigrad.flow.taps import row_norms


def linear_rnn(W: np.ndarray, T: int, w: np.ndarray) -> Recording:
    """h_t = W h_{t-1} + x_t from a loss <w, h_T>: dL/dh_t = (W^T)^(T-t) w."""
    weight = mg.tensor(W.T, requires_grad=True)
    h = mg.tensor(np.zeros((1, len(w))))
    with mg.flow.record() as rec:
        for t in range(T):
            with mg.scope(f"rnn/t={t}"):
                h = mg.tap("h", h @ weight + 1.0)
        (h * w).sum().backward()
    return rec


def test_an_orthogonal_linear_rnn_keeps_the_norm_to_1e_12(rng: np.random.Generator) -> None:
    Q, _ = np.linalg.qr(rng.normal(size=(7, 7)))
    w = rng.normal(size=7)
    rec = linear_rnn(Q, 100, w)
    np.testing.assert_allclose(rec["rnn"].norms["h"], np.linalg.norm(w), rtol=1e-12)
    assert rec.verdict.kind == "healthy"
    assert rec.verdict.rate == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("w", "kind"), [(0.5, "vanishing"), (0.99, "healthy"), (1.3, "exploding")])
def test_a_diagonal_linear_rnn_gives_exactly_w_to_the_lag(w: float, kind: str) -> None:
    rec = linear_rnn(w * np.eye(3), 60, np.array([1.0, 0.0, 0.0]))
    expected = w ** np.arange(59, -1, -1.0)
    np.testing.assert_allclose(rec["rnn"].norms["h"], expected, rtol=1e-13)
    assert rec.verdict.kind == kind
    assert rec.verdict.rate == pytest.approx(w, rel=1e-9)


@pytest.mark.parametrize(
    ("bias", "figure"), [(0.0, 7.9e-31), (1.0, 2.5e-14), (2.0, 3.1e-6), (5.0, 0.51)]
)
def test_a_saturated_lstm_keeps_the_product_of_its_forget_gates(bias: float, figure: float) -> None:
    lstm = nn.LSTM(1, 1, dtype=np.float64)
    for parameter in lstm.parameters():
        parameter.data = np.zeros(parameter.shape)
    lstm.bias_ih_l0.data = np.array([0.0, bias, 0.0, 0.0])
    with mg.flow.record() as rec:
        _, (_, c_n) = lstm(np.zeros((101, 1, 1)))
        c_n.sum().backward()
    c = rec["lstm/l0/fwd"].norms["c"]
    assert c[0] / c[-1] == pytest.approx((1 / (1 + np.exp(-bias))) ** 100, rel=1e-12)
    assert c[0] / c[-1] == pytest.approx(figure, rel=0.02)


def test_a_tanh_rnn_with_largest_singular_value_below_one_cannot_but_vanish(
    rng: np.random.Generator,
) -> None:
    rnn = nn.RNN(2, 5, dtype=np.float64, generator=rng)
    W = rnn.weight_hh_l0.numpy()
    rnn.weight_hh_l0.data = 0.8 * W / np.linalg.norm(W, 2)
    with mg.flow.record() as rec:
        hs, _ = rnn(rng.normal(size=(50, 1, 2)))
        hs[-1].sum().backward()
    norms = rec["rnn/l0/fwd"].norms["h"]
    assert (norms[:-1] <= 0.8 * norms[1:] * (1 + 1e-12)).all()
    assert rec.verdict.kind == "vanishing"
    assert "slope of the activation" in rec.verdict.reason


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_norms_are_those_of_finite_differences(kind: type, rng: np.random.Generator) -> None:
    """L as a function of h_t: perturb the state after step t, run the rest, difference the loss."""
    T, B, H = 6, 2, 3
    layer = kind(2, H, dtype=np.float64, generator=rng)
    xs, w = rng.normal(size=(T, B, 2)), rng.normal(size=(B, H))
    with mg.flow.record() as rec:
        hs, _ = layer(xs)
        (hs[-1] * w).sum().backward()
    (flow,) = rec.values()

    def rest(t: int, name: str, delta: np.ndarray) -> float:
        """The loss when `delta` is added to the state called `name` in step t."""
        with mg.no_grad():
            _, state = layer(xs[: t + 1])
            parts = list(state) if isinstance(state, tuple) else [state]
            if name == "c":  # h_t = o_t tanh(c_t) follows
                h, c = (part.numpy() for part in parts)
                parts = [h / np.tanh(c) * np.tanh(c + delta), c + delta]
            else:
                parts[0] = parts[0] + delta
            hs, _ = layer(xs[t + 1 :], tuple(parts) if len(parts) > 1 else parts[0])
            return float((hs[-1].numpy() * w).sum())

    for t in (0, 2, 4):
        for name in flow.norms:
            g = np.zeros((B, H))
            for i in np.ndindex(B, H):
                delta = np.zeros((1, B, H))
                delta[0][i] = 1e-5
                g[i] = (rest(t, name, delta) - rest(t, name, -delta)) / 2e-5
            np.testing.assert_allclose(
                flow.per_sample[name][t], np.linalg.norm(g, axis=1), rtol=1e-6
            )
            assert flow.norms[name][t] == pytest.approx(np.linalg.norm(g), rel=1e-6)


def test_every_layer_and_direction_has_its_own_entry(rng: np.random.Generator) -> None:
    lstm = nn.LSTM(2, 3, num_layers=2, bidirectional=True, dtype=np.float64, generator=rng)
    with mg.flow.record() as rec:
        _, (h_n, _) = lstm(rng.normal(size=(5, 1, 2)))
        h_n.sum().backward()
    assert list(rec) == ["lstm/l0/fwd", "lstm/l0/rev", "lstm/l1/fwd", "lstm/l1/rev"]
    assert rec["lstm/l1/fwd"].steps.tolist() == [0, 1, 2, 3, 4]
    assert rec["lstm/l1/rev"].steps.tolist() == [4, 3, 2, 1, 0]
    assert rec["lstm/l1/rev"].reverse
    for flow in rec.values():
        assert set(flow.norms) == {"h", "c"}
        assert set(flow.activations) == {"i", "f", "g", "o", "c", "h"}
        assert flow.norms["h"].shape == (5,)
        assert (flow.norms["h"] > 0).all()


def test_padding_leaves_no_gradient_in_finished_rows(rng: np.random.Generator) -> None:
    gru = nn.GRU(2, 3, dtype=np.float64, generator=rng)
    with mg.flow.record() as rec:
        _, h_n = gru(rng.normal(size=(6, 2, 2)), lengths=[6, 2])
        h_n.sum().backward()
    per_sample = rec["gru/l0/fwd"].per_sample["h"]
    assert (per_sample[:, 0] > 0).all()
    assert (per_sample[:2, 1] > 0).all()
    assert (per_sample[2:, 1] == 0).all()


def test_a_detached_state_is_called_cut() -> None:
    w, h = mg.tensor(0.9, requires_grad=True), mg.tensor([1.0])
    with mg.flow.record() as rec:
        for t in range(12):
            with mg.scope(f"t={t}"):
                h = mg.tap("h", w * (h.detach() if t == 6 else h))
        h.sum().backward()
    assert (rec[""].norms["h"][:6] == 0).all()
    assert rec.verdict.kind == "cut"
    assert "6 steps from the loss" in rec.verdict.reason


def test_float32_gradients_of_1e_30_do_not_underflow() -> None:
    w, h = mg.tensor(np.float32(0.5), requires_grad=True), mg.tensor(np.ones(4, np.float32))
    with mg.flow.record() as rec:
        for t in range(5):
            with mg.scope(f"t={t}"):
                h = mg.tap("h", w * h)
        (h * 1e-30).sum().backward()
    expected = 2 * np.float64(np.float32(1e-30)) * 0.5 ** np.arange(4, -1, -1)
    np.testing.assert_allclose(rec[""].norms["h"], expected, rtol=1e-6)
    assert rec[""].tiny == np.finfo(np.float32).tiny


@pytest.mark.parametrize("size", [1e-300, 1.0, 1e300])
def test_row_norms_neither_underflow_nor_overflow(size: float, rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, 2, 5))
    expected = np.linalg.norm(x.reshape(6, 5), axis=1) * size
    np.testing.assert_allclose(row_norms(x * size), expected, rtol=1e-14)


def test_row_norms_keep_nan_inf_and_zero() -> None:
    x = np.array([[0.0, 0.0], [np.inf, 1.0], [np.nan, 1.0]])
    np.testing.assert_array_equal(row_norms(x), [0.0, np.inf, np.nan])


def test_gates_report_their_mean_and_saturation() -> None:
    lstm = nn.LSTM(1, 4, dtype=np.float64)
    for parameter in lstm.parameters():
        parameter.data = np.zeros(parameter.shape)
    lstm.bias_ih_l0.data = np.repeat([10.0, 0.0, 0.0, -10.0], 4)  # i f g o
    with mg.flow.record() as rec:
        hs, _ = lstm(np.zeros((3, 2, 1)))
        hs.sum().backward()
    gates = rec["lstm/l0/fwd"].activations
    np.testing.assert_allclose(gates["i"].mean, 1 / (1 + np.exp(-10)))
    assert (gates["i"].saturation == 1).all()
    assert (gates["o"].saturation == 1).all()
    assert (gates["f"].saturation == 0).all()
    np.testing.assert_allclose(gates["f"].slope, 0.25)
    assert np.isnan(gates["c"].saturation).all()
    assert "forget gate 0.50 on average" in rec.verdict.reason


def test_a_second_pass_has_a_path_of_its_own(rng: np.random.Generator) -> None:
    gru = nn.GRU(1, 2, dtype=np.float64, generator=rng)
    with mg.flow.record() as rec:
        for T in (7, 3):
            hs, _ = gru(np.ones((T, 1, 1)))
            hs[-1].sum().backward()
    assert [len(layer.steps) for layer in rec.values()] == [7, 3]
    assert list(rec) == ["gru/l0/fwd", "gru#2/l0/fwd"]


def test_backward_may_follow_after_the_block() -> None:
    rnn = nn.RNN(1, 2)
    with mg.flow.record() as rec:
        hs, _ = rnn(np.ones((4, 1, 1), np.float32))
    with pytest.raises(FlowError, match="no gradient arrived"):
        rec.verdict  # noqa: B018
    hs[-1].sum().backward()
    assert len(rec) == 1


def test_states_of_your_own_cell_are_recorded_under_their_names() -> None:
    w, s = mg.tensor(0.5, requires_grad=True), mg.tensor([1.0])
    with mg.flow.record(states=("s",)) as rec:
        for _ in range(4):  # steps are counted where the scope does not say t=...
            s = mg.tap("s", w * s)
        s.sum().backward()
    assert rec[""].norms["s"].tolist() == [0.125, 0.25, 0.5, 1.0]
    assert rec[""].verdict.kind == "undecided"  # four steps tell little


def test_states_may_be_tapped_at_some_steps_and_for_some_rows_only() -> None:
    w, h = mg.tensor(0.5, requires_grad=True), mg.tensor(np.ones((3, 1)))
    with mg.flow.record() as rec:
        for t in range(4):
            with mg.scope(f"t={t}"):
                h = mg.tap("h", w * h[: 3 - t // 2])
                if t % 2:
                    mg.tap("c", h * 2.0)
        h.sum().backward()
    assert rec[""].steps.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(rec[""].per_sample["h"][:, 0], [0.125, 0.25, 0.5, 1.0])
    assert (rec[""].per_sample["h"][2:, 2] == 0).all()
    assert (rec[""].norms["c"] == 0).all()
    assert rec[""].verdicts["c"].kind == "none"


def tapped(name: str) -> Iterator[None]:
    mg.tap(name, mg.tensor([1.0], requires_grad=True) * 2.0)
    yield


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        (lambda: None, "nothing was tapped"),
        (lambda: mg.tap("s", mg.tensor([1.0])), "'s' were tapped, but no state 'h' or 'c'"),
        (lambda: mg.tap("h", mg.tensor([1.0])), "none of the states needs a gradient"),
        (lambda: list(tapped("h")), "1 states were seen, but no gradient arrived"),
    ],
)
def test_a_recording_says_what_is_missing(inside: object, message: str) -> None:
    with mg.flow.record() as rec:
        inside()  # type: ignore[operator]
    with pytest.raises(FlowError, match=message):
        rec.verdict  # noqa: B018


def test_recording_inside_a_recording_is_refused() -> None:
    with mg.flow.record(), pytest.raises(FlowError, match="already recording"), mg.flow.record():
        pass


def test_an_error_inside_the_block_ends_the_recording() -> None:
    with pytest.raises(ZeroDivisionError), mg.flow.record():
        raise ZeroDivisionError
    with mg.flow.record():
        pass


def test_states_must_be_a_tuple_of_names() -> None:
    with pytest.raises(FlowError, match=r"tuple of names"):
        mg.flow.record(states="h")  # type: ignore[arg-type]


def test_an_unknown_layer_is_a_key_error_that_lists_the_known() -> None:
    rec = linear_rnn(np.eye(2), 3, np.ones(2))
    with pytest.raises(KeyError, match="recorded are 'rnn'"):
        rec["lstm"]


def test_printing_a_recording_shows_verdicts_and_gates(rng: np.random.Generator) -> None:
    lstm = nn.LSTM(1, 2, generator=rng)
    with mg.flow.record() as rec:
        hs, _ = lstm(np.ones((9, 1, 1), np.float32))
        hs[-1].sum().backward()
    text = str(rec)
    assert text.count("lstm/l0/fwd") == 5  # the cut, h and c, the reason, and the gates
    assert rec["lstm/l0/fwd"].verdict.reason in text
    assert "f: 0." in text


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_probe_records_both_directions_and_leaves_gradients_alone(
    kind: type, rng: np.random.Generator
) -> None:
    layer = kind(2, 3, num_layers=2, bidirectional=True, dtype=np.float64, generator=rng)
    recording = mg.flow.probe(layer, rng.normal(size=(6, 2, 2)))
    name = kind.__name__.lower()
    paths = [f"{name}/l{layer}/{way}" for layer in (0, 1) for way in ("fwd", "rev")]
    assert list(recording) == paths
    for path in paths[2:]:
        assert recording[path].profile().size == 6
    assert all(p.grad is None for p in layer.parameters())


def test_probe_reads_the_last_real_step_of_a_padded_row(rng: np.random.Generator) -> None:
    gru = nn.GRU(2, 3, dtype=np.float64, generator=rng)
    recording = mg.flow.probe(gru, rng.normal(size=(6, 2, 2)), lengths=[2, 6])
    per_sample = recording["gru/l0/fwd"].per_sample["h"]
    assert (per_sample[:, 0] > 0).tolist() == [True, True, False, False, False, False]


def test_probe_takes_a_cell_with_any_state(rng: np.random.Generator) -> None:
    class Leaky(nn.Module):
        def __init__(self) -> None:
            self.w = nn.Parameter(np.array(0.5), dtype=np.float64)

        def init_state(self, batch: int) -> dict[str, mg.Tensor]:
            return {"s": mg.tensor(np.zeros((batch, 2)))}

        def forward(self, state: dict[str, mg.Tensor], x: mg.Tensor) -> object:
            s = mg.tap("h", self.w * state["s"] + x)
            return {"s": s}, s

    recording = mg.flow.probe(nn.Recurrent(lambda size: Leaky(), 2), rng.normal(size=(8, 1, 2)))
    (flow,) = recording.values()
    np.testing.assert_allclose(flow.norms["h"][:-1] / flow.norms["h"][1:], 0.5, rtol=1e-12)
