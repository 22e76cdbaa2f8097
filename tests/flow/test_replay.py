"""What a recording computes by running a layer again, against gradients that came another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from modes import each_mode

import minigrad as mg
from minigrad import nn
from minigrad.flow import FlowError, LayerFlow, Recording, replaying
from minigrad.nn import zoo

T, B, I, H = 6, 3, 2, 3

LAYERS: dict[str, Any] = {
    "rnn": lambda **o: nn.RNN(I, H, **o),
    "relu": lambda **o: nn.RNN(I, H, nonlinearity="relu", **o),
    "lstm": lambda **o: nn.LSTM(I, H, **o),
    "gru": lambda **o: nn.GRU(I, H, **o),
    "stack": lambda **o: nn.GRU(I, H, num_layers=2, bidirectional=True, **o),
}


def recorded(layer: Any, xs: Any, lengths: Any = None) -> tuple[Recording, Any]:
    """A recording of a loss on all outputs and on the final state, and x with its gradient."""
    rng = np.random.default_rng(5)
    x = mg.tensor(xs, requires_grad=True)
    with mg.flow.record() as rec:
        ys, final = layer(x, lengths=lengths)
        loss = (ys * rng.normal(size=ys.shape)).sum()
        for part in final if isinstance(final, tuple) else (final,):
            loss = loss + (part * rng.normal(size=part.shape)).sum()
        loss.backward()
    return rec, x


def made(kind: str, mode: str, rng: np.random.Generator) -> Any:
    return LAYERS[kind](mode=mode, dtype=np.float64, generator=rng)


@each_mode
@pytest.mark.parametrize("lengths", [None, [T, 1, 4]], ids=["full", "padded"])
@pytest.mark.parametrize("kind", LAYERS)
def test_terms_by_step_and_by_lag_add_up_to_the_gradient_of_every_weight(
    kind: str, lengths: Any, mode: str, rng: np.random.Generator
) -> None:
    layer = made(kind, mode, rng)
    rec, x = recorded(layer, rng.normal(size=(T, B, I)), lengths)
    whole = {p.name: p.grad.numpy() for p in layer.parameters()}
    seen = []
    for flow in rec.values():
        steps, lags = flow.weight_terms("step"), flow.weight_terms("lag")
        assert set(steps) == set(lags) == set(flow.weights)
        for name, terms in steps.items():
            np.testing.assert_allclose(terms.sum(0), whole[name], rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(lags[name].sum(0), whole[name], rtol=1e-10, atol=1e-12)
            found = flow.weights[name]
            np.testing.assert_allclose(found.total, whole[name], rtol=1e-10, atol=1e-12)
            for norms, parts in ((found.by_step, terms), (found.by_lag, lags[name])):
                expected = np.sqrt((parts**2).reshape(T, -1).sum(1))
                np.testing.assert_allclose(norms, expected, rtol=1e-10, atol=1e-15)
        seen += list(steps)
    assert sorted(seen) == sorted(whole)
    np.testing.assert_allclose(rec.inputs, np.linalg.norm(x.grad.numpy(), axis=-1), rtol=1e-10)


@each_mode
@pytest.mark.parametrize("reverse", [False, True])
def test_every_lag_is_the_sum_over_outputs_that_are_so_many_steps_away(
    reverse: bool, mode: str, rng: np.random.Generator
) -> None:
    """By a weight of its own for each step, and a backward pass of its own for each output."""
    w = rng.normal(size=(H, H))
    xs, c = rng.normal(size=(T, B, H)), rng.normal(size=(T, B, H))
    one = mg.tensor(w, requires_grad=True, name="w")
    with mg.flow.record() as rec:

        def cell(h: Any, x: Any) -> Any:
            h = mg.tap("h", mg.tanh(h @ one + x))
            return h, h

        init = mg.tensor(np.zeros((B, H)))
        _, ys = mg.scan(cell, init, mg.tensor(xs), reverse=reverse, mode=mode)
        (ys * c).sum().backward()

    own = [mg.tensor(w, requires_grad=True) for _ in range(T)]
    h, outputs = init, []
    order = range(T - 1, -1, -1) if reverse else range(T)
    for k, t in enumerate(order):
        h = mg.tanh(h @ own[k] + xs[t])
        outputs.append((h * c[t]).sum())
    table = np.zeros((T, T, H, H))  # (used at, read at)
    for s, loss in enumerate(outputs):
        found = mg.grad(loss, own[: s + 1], retain_graph=True)
        table[: s + 1, s] = [g.numpy() for g in found]

    flow = rec[""]
    np.testing.assert_allclose(flow.weight_terms("step")["w"], table.sum(1), rtol=1e-10)
    by_lag = [sum(table[s - k, s] for s in range(k, T)) for k in range(T)]
    np.testing.assert_allclose(flow.weight_terms("lag")["w"], by_lag, rtol=1e-10)


@each_mode
@pytest.mark.parametrize("kind", LAYERS)
def test_whole_gradients_have_the_norms_that_were_recorded(
    kind: str, mode: str, rng: np.random.Generator
) -> None:
    rec, _ = recorded(made(kind, mode, rng), rng.normal(size=(T, B, I)), [2, T, 3])
    for flow in rec.values():
        for name, norms in flow.per_sample.items():
            g = flow.gradients[name]
            assert g.shape == (T, B, H)
            np.testing.assert_allclose(np.linalg.norm(g, axis=2), norms, rtol=1e-9, atol=1e-15)


def test_the_gradient_of_a_gate_is_that_of_finite_differences(rng: np.random.Generator) -> None:
    """dL/df_t: an LSTM whose forget gate is nudged at one step."""
    nudge = np.zeros((T, 1, H))

    class Nudged(nn.Module):
        def __init__(self) -> None:
            self.cell = nn.LSTMCell(I, H, dtype=np.float64, generator=np.random.default_rng(1))

        def init_state(self, batch: int) -> Any:
            return self.cell.init_state(batch)

        def forward(self, state: Any, x: Any) -> Any:
            x, d = x
            h, c = state
            own = self.cell
            a = x @ own.weight_ih.T + own.bias_ih + h @ own.weight_hh.T + own.bias_hh
            i, f, g, o = mg.split(a, 4, axis=-1)
            f = mg.tap("f", mg.sigmoid(f) + d)
            c = f * c + mg.sigmoid(i) * mg.tanh(g)
            h = mg.tap("h", mg.sigmoid(o) * mg.tanh(c))
            return nn.LSTMState(h, c), h

    cell, xs = Nudged(), rng.normal(size=(T, 1, I))

    def loss() -> Any:
        xd = mg.tensor(xs), mg.tensor(nudge)
        return (mg.scan(cell, cell.init_state(1), xd, mode="tape").ys ** 2).sum()

    with mg.flow.record() as rec:
        loss().backward()
    g = rec[""].gradients["f"]
    for t, j in ((0, 0), (2, 1), (T - 1, 2)):
        values = []
        for sign in (1, -1):
            nudge[t, 0, j] = sign * 1e-6
            values.append(loss().item())
        nudge[t, 0, j] = 0
        assert g[t, 0, j] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6, abs=1e-9)


@each_mode
def test_a_recording_is_read_as_it_was_after_the_weights_have_moved(
    mode: str, rng: np.random.Generator
) -> None:
    layer = made("lstm", mode, rng)
    xs = rng.normal(size=(T, B, I))
    rec, _ = recorded(layer, xs)
    whole = layer.weight_hh_l0.grad.numpy().copy()
    mg.optim.SGD(layer.parameters(), lr=0.5).step()
    moved = layer.weight_hh_l0.numpy().copy()
    flow = rec["lstm/l0/fwd"]
    np.testing.assert_allclose(flow.weights["weight_hh_l0"].total, whole, rtol=1e-10)
    np.testing.assert_array_equal(layer.weight_hh_l0.numpy(), moved)


@each_mode
def test_what_came_to_the_outputs_is_kept_as_it_came(mode: str, rng: np.random.Generator) -> None:
    layer, seed = made("lstm", mode, rng), mg.tensor(np.ones((T, B, H)))
    with mg.flow.record() as rec:
        ys, _ = layer(rng.normal(size=(T, B, I)))
        ys.backward(seed)
    with mg.no_grad():
        seed[...] = 7.0
    seed.data[...] = 8.0
    np.testing.assert_allclose(rec["lstm/l0/fwd"].at_outputs, np.full(T, np.sqrt(B * H)))


@pytest.mark.parametrize("lengths", [None, [T, 1, 4]], ids=["full", "padded"])
def test_a_pass_back_that_ran_is_not_run_again_and_says_the_same(
    lengths: Any, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    layer, xs = made("lstm", "fused", rng), rng.normal(size=(T, B, I))
    ran: list[int] = []
    real = replaying.by_loops
    monkeypatch.setattr(replaying, "by_loops", lambda *args: ran.append(1) or real(*args))
    rec, _ = recorded(layer, xs, lengths)
    flow = rec["lstm/l0/fwd"]
    alone = {name: flow.profile(name) for name in ("h", "c")}
    assert rec.cuts[0].judged == flow.cut().judged
    assert len(ran) == 1
    assert rec.net.walk(0).alone[id(rec._runs[0])].norms.keys() == {0, 1}
    again, _ = recorded(layer, xs, lengths)
    assert again.cuts[0].judged == rec.cuts[0].judged  # asked first here
    for name, profile in alone.items():
        np.testing.assert_array_equal(again["lstm/l0/fwd"].profile(name), profile)
    assert len(ran) == 2


@each_mode
def test_masks_of_a_random_cell_are_used_again_and_are_no_inputs(
    mode: str, rng: np.random.Generator
) -> None:
    cell = zoo.ZoneoutLSTMCell
    layer = nn.Recurrent(
        lambda n: cell(n, H, zoneout_h=0.3, dtype=np.float64, generator=rng), I, mode=mode
    )
    rec, x = recorded(layer, rng.normal(size=(T, B, I)))
    (flow,) = rec.values()
    for p in layer.parameters():
        np.testing.assert_allclose(flow.weights[p.name].total, p.grad.numpy(), rtol=1e-9)
    assert list(flow.input_gradients) == [""]
    np.testing.assert_allclose(flow.inputs, np.linalg.norm(x.grad.numpy(), axis=-1), rtol=1e-9)


@each_mode
def test_values_are_those_of_the_layer_in_order_of_computation(
    mode: str, rng: np.random.Generator
) -> None:
    layer = nn.RNN(I, H, bidirectional=True, mode=mode, dtype=np.float64, generator=rng)
    rec, _ = recorded(layer, rng.normal(size=(T, B, I)))
    ys = layer(rng.normal(size=(0 + T, B, I)))[0]
    assert rec["rnn/l0/rev"].values["h"].shape == (T, B, H) == (*ys.shape[:2], H)
    with mg.flow.record() as rec:
        ys, _ = layer(np.ones((T, B, I)))
        ys.sum().backward()
    y = ys.numpy()
    np.testing.assert_allclose(rec["rnn/l0/fwd"].values["h"], y[:, :, :H], rtol=1e-12)
    np.testing.assert_allclose(rec["rnn/l0/rev"].values["h"], y[::-1, :, H:], rtol=1e-12)


def test_a_loop_by_hand_keeps_the_gradients_of_its_states_and_says_what_it_lacks() -> None:
    w, h = mg.tensor(0.5, requires_grad=True), mg.tensor(np.ones((1, 2)))
    with mg.flow.record() as rec:
        for t in range(4):
            with mg.scope(f"t={t}"):
                h = mg.tap("h", w * h)
        h.sum().backward()
    flow = rec[""]
    np.testing.assert_allclose(flow.gradients["h"][:, 0, 1], [0.125, 0.25, 0.5, 1.0])
    with pytest.raises(FlowError, match=r"weights: this recording cannot be run again"):
        flow.weights  # noqa: B018


def test_nothing_is_kept_for_a_replay_that_is_not_wanted(rng: np.random.Generator) -> None:
    layer = made("rnn", "fused", rng)
    with mg.flow.record(replay=False) as rec:
        layer(rng.normal(size=(T, B, I)))[0].sum().backward()
    assert rec.verdict.kind in ("healthy", "vanishing", "undecided")
    with pytest.raises(FlowError, match=r"replay=False"):
        rec["rnn/l0/fwd"].gradients  # noqa: B018


def test_by_lag_needs_rows_that_can_be_more_than_the_batch(rng: np.random.Generator) -> None:
    per_row = mg.tensor(rng.normal(size=(B, H)))
    w = mg.tensor(np.eye(H) * 0.5, requires_grad=True, name="w")

    def cell(h: Any, x: Any) -> Any:
        h = mg.tap("h", h @ w + x * per_row)
        return h, h

    with mg.flow.record() as rec:
        _, ys = mg.scan(cell, mg.tensor(np.zeros((B, H))), mg.tensor(rng.normal(size=(T, B, H))))
        ys.sum().backward()
    np.testing.assert_allclose(rec[""].weight_terms()["w"].sum(0), w.grad.numpy(), rtol=1e-12)
    with pytest.raises(FlowError, match=r"weights by lag: all steps run as the rows of one batch"):
        rec[""].weight_terms("lag")


# -- what the gates did --------------------------------------------------------------------------


def flow_of(layer: Any, xs: Any) -> LayerFlow:
    with mg.flow.record() as rec:
        layer(xs)[0].sum().backward()
    return next(iter(rec.values()))


@each_mode
def test_a_forget_gate_of_095_keeps_the_state_for_20_steps(mode: str) -> None:
    lstm = nn.LSTM(1, 2, dtype=np.float64, mode=mode)
    for p in lstm.parameters():
        p.data = np.zeros(p.shape)
    lstm.bias_ih_l0.data = np.repeat([0.0, np.log(0.95 / 0.05), 0.0, 0.0], 2)
    flow = flow_of(lstm, np.zeros((5, 1, 1)))
    assert list(flow.time_constants) == ["f"]
    np.testing.assert_allclose(flow.time_constants["f"], 20.0, rtol=1e-9)
    np.testing.assert_allclose(flow.unit_time_constants["f"], 20.0, rtol=1e-9)


@pytest.mark.parametrize(("update", "steps"), [("keep", 4.0), ("write", 4.0 / 3.0)])
def test_an_update_gate_counts_the_way_it_is_used(update: str, steps: float) -> None:
    gru = nn.GRU(1, 2, dtype=np.float64, update=update)
    for p in gru.parameters():
        p.data = np.zeros(p.shape)
    gru.bias_ih_l0.data = np.repeat([0.0, np.log(3.0), 0.0], 2)  # z = 3/4
    flow = flow_of(gru, np.zeros((4, 1, 1)))
    np.testing.assert_allclose(flow.time_constants["z"], steps, rtol=1e-9)


def test_relu_units_that_never_fire_are_dead(rng: np.random.Generator) -> None:
    rnn = nn.RNN(I, 4, nonlinearity="relu", dtype=np.float64, generator=rng)
    rnn.bias_ih_l0.data = np.array([0.5, -50.0, 0.5, -50.0])
    flow = flow_of(rnn, rng.normal(size=(T, B, I)))
    assert flow.dead["h"].tolist() == [False, True, False, True]
    recording = mg.flow.probe(rnn, rng.normal(size=(T, B, I)))
    assert "2 of 4 units never move" in str(mg.flow.report(recording))


def test_one_step_of_one_row_calls_nothing_dead() -> None:
    assert not flow_of(nn.RNN(I, 4, dtype=np.float64), np.ones((1, 1, I))).dead["h"].any()


@each_mode
def test_nan_and_inf_are_counted(mode: str, rng: np.random.Generator) -> None:
    gru = made("gru", mode, rng)
    xs = rng.normal(size=(T, B, I))
    xs[2, 1] = np.nan
    flow = flow_of(gru, xs)
    assert flow.nonfinite["h"].values == (T - 2) * H
    assert flow.nonfinite["h"].gradients == T - 1  # dL/dh_T is 1 whatever h_T is
    assert flow.nonfinite["z"] == ((T - 2) * H, 0)
    assert flow.verdict.kind == "broken"


@each_mode
def test_a_sequence_of_one_step_has_one_lag(mode: str, rng: np.random.Generator) -> None:
    layer = made("lstm", mode, rng)
    rec, x = recorded(layer, rng.normal(size=(1, B, I)))
    (flow,) = rec.values()
    assert flow.verdict.kind == "undecided"
    for p in layer.parameters():
        assert flow.weights[p.name].by_lag == pytest.approx([np.linalg.norm(p.grad.numpy())])
    np.testing.assert_allclose(flow.inputs, np.linalg.norm(x.grad.numpy(), axis=-1), rtol=1e-10)


@each_mode
def test_a_gradient_of_zero_is_zero_everywhere_and_no_crash(mode: str) -> None:
    with mg.flow.record() as rec:
        (made("gru", mode, np.random.default_rng(0))(np.ones((T, B, I)))[0].sum() * 0.0).backward()
    (flow,) = rec.values()
    assert flow.verdict.kind == "none"
    assert all(not w.by_step.any() and not w.by_lag.any() for w in flow.weights.values())
    assert not flow.inputs.any()


# -- a loss that reads many steps ----------------------------------------------------------------


@each_mode
@pytest.mark.parametrize("reverse", [False, True])
def test_a_loss_at_every_step_does_not_hide_that_nothing_comes_far(
    reverse: bool, mode: str
) -> None:
    """h = h/2 + x, L = sum_t h_t: every step gets 1 + 1/2 + 1/4 + ..., next to nothing from far."""
    w, steps = mg.tensor(np.full(1, 0.5), requires_grad=True), 40

    def cell(h: Any, x: Any) -> Any:
        h = mg.tap("h", w * h + x)
        return h, h

    init, xs = mg.tensor(np.zeros((1, 1))), mg.tensor(np.ones((steps, 1, 1)))
    with mg.flow.record() as rec:
        _, ys = mg.scan(cell, init, xs, reverse=reverse, mode=mode)
        ys.sum().backward()
    flow = rec[""]
    np.testing.assert_allclose(flow.norms["h"], 2 - 0.5 ** np.arange(steps - 1, -1, -1.0))
    np.testing.assert_allclose(flow.profile(), 0.5 ** np.arange(steps), rtol=1e-12)
    assert flow.verdict.kind == "vanishing"
    assert flow.verdict.rate == pytest.approx(0.5)
    assert "the last output alone" in flow.verdict.reason
    assert w.grad is not None  # what the backward pass left; the scan for the verdict adds nothing
    np.testing.assert_allclose(flow.weights["weight0"].total, w.grad.numpy(), rtol=1e-12)


@each_mode
def test_rows_that_end_early_are_judged_from_their_own_last_output(mode: str) -> None:
    layer = nn.RNN(1, 1, dtype=np.float64, mode=mode)
    layer.weight_hh_l0.data = np.array([[0.5]])
    for p in (layer.weight_ih_l0, layer.bias_ih_l0, layer.bias_hh_l0):
        p.data = np.zeros(p.shape)
    with mg.flow.record() as rec:
        layer(np.zeros((8, 2, 1)), lengths=[8, 3])[0].sum().backward()
    flow = rec["rnn/l0/fwd"]
    alone = flow.last_alone()["h"]
    np.testing.assert_allclose(alone[:, 0], 0.5 ** np.arange(7, -1, -1.0), rtol=1e-12)
    np.testing.assert_allclose(alone[:3, 1], [0.25, 0.5, 1.0], rtol=1e-12)
    assert not alone[3:, 1].any()


def test_a_loss_at_the_last_step_is_judged_by_what_was_recorded(rng: np.random.Generator) -> None:
    gru = made("gru", "fused", rng)
    with mg.flow.record() as rec:
        gru(rng.normal(size=(T, B, I)))[0][-1].sum().backward()
    flow = rec["gru/l0/fwd"]
    assert not flow.read_at_many_steps
    np.testing.assert_array_equal(flow.profile(), flow.norms["h"][::-1])
