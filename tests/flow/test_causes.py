"""Causes by name: each is found where it was planted, with its numbers, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.flow.diagnosing import NAMES
from minigrad.flow.diagnosing.gradients import distances
from minigrad.flow.diagnosing.padding import padding_of
from minigrad.nn import init

Array = np.ndarray


def lstm(inputs: int = 3, hidden: int = 8, layers: int = 1, bias: float = 5.0) -> nn.LSTM:
    """Its cell keeps: c carries the gradient, f = sigmoid(bias)."""
    layer = nn.LSTM(
        inputs, hidden, layers, dtype=np.float64, mode="tape", generator=np.random.default_rng(0)
    )
    init.forget_bias_(layer, bias)
    return layer


def sequence(rng: np.random.Generator, steps: int = 30, rows: int = 4, inputs: int = 3) -> Array:
    return rng.standard_normal((steps, rows, inputs))


def named(recording: Any, **training: Any) -> dict[str, mg.flow.Cause]:
    found = mg.flow.causes(recording, **training)
    assert training or found == recording.causes
    return {cause.name: cause for cause in found}


def test_of_a_healthy_net_nothing_is_named(rng: np.random.Generator) -> None:
    assert named(mg.flow.probe(lstm(), sequence(rng))) == {}


def test_every_cause_has_numbers_and_a_place(rng: np.random.Generator) -> None:
    found = mg.flow.causes(mg.flow.probe(lstm(bias=-2.0), 100 * sequence(rng, 60)))
    assert {cause.name for cause in found} >= {"input-scale", "vanishing"}
    for cause in found:
        assert cause.where
        assert any(ch.isdigit() for ch in cause.evidence)
        assert np.isfinite(cause.value) or cause.name == "exploding"
        assert str(cause).startswith(f"{cause.name}, {cause.where}: ")
        assert set(cause.to_dict()) == {"name", "where", "evidence", "value"}
    assert [list(NAMES).index(c.name) for c in found] == sorted(
        list(NAMES).index(c.name) for c in found
    )


# -- NaN and Inf


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_first_nan_is_named_by_step_and_row(
    rng: np.random.Generator, bad: float, layers: int
) -> None:
    x = sequence(rng)
    x[17, 2, 1] = bad
    with np.errstate(all="ignore"):
        found = named(mg.flow.probe(lstm(layers=layers), x))
    assert found["nonfinite"].value == 17
    assert "x at t = 17, row 2" in found["nonfinite"].evidence


def test_nan_in_a_weight_is_put_down_to_the_weight(rng: np.random.Generator) -> None:
    layer = lstm()
    layer.weight_ih_l0.data[0, 0] = np.nan
    cause = named(mg.flow.probe(layer, sequence(rng)))["nonfinite"]
    assert "t = 0, row 0" in cause.evidence
    assert "weight_ih_l0 has NaN" in cause.evidence


def test_nan_in_the_padding_that_a_mask_leaves_out_is_no_cause(rng: np.random.Generator) -> None:
    x, lengths = sequence(rng), np.array([30, 12, 20, 7])
    for b, n in enumerate(lengths):
        x[n:, b] = np.nan
    assert named(mg.flow.probe(lstm(), x, lengths=lengths)) == {}


# -- padding


def padded(rng: np.random.Generator, value: float = 0.0) -> tuple[Array, Array]:
    x, lengths = sequence(rng), np.array([30, 12, 20, 7])
    for b, n in enumerate(lengths):
        x[n:, b] = value
    return x, lengths


def read(layer: Any, x: Array, loss: Any, **told: Any) -> dict[str, mg.flow.Cause]:
    with mg.flow.record() as recording:
        ys, final = layer(x, **told)
        loss(ys, final).backward()
    return named(recording)


def test_an_output_read_in_the_padding_is_a_wrong_mask(rng: np.random.Generator) -> None:
    x, lengths = padded(rng)
    head = mg.tensor(rng.standard_normal((8, 1)))
    found = read(lstm(), x, lambda ys, _: (ys[-1] @ head).sum(), lengths=lengths)
    assert "3 of 4 rows" in found["wrong-mask"].evidence
    every = read(lstm(), x, lambda ys, _: (ys @ head).sum(), lengths=lengths)
    outside = 4 * 30 - int(lengths.sum())
    assert f"reads {outside} outputs of masked steps" in every["wrong-mask"].evidence


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_padding_that_the_layer_is_not_told_of_is_a_wrong_mask(
    rng: np.random.Generator, value: float
) -> None:
    x, lengths = padded(rng, value)
    found = read(lstm(), x, lambda ys, _: ys[-1].sum())
    assert f"{4 * 30 - lengths.sum()} of 120 steps are padding" in found["wrong-mask"].evidence
    own = read(lstm(), x, lambda ys, _: ys[lengths - 1, np.arange(4)].sum())
    assert own == {}  # nothing that was read has gone through the padding


@pytest.mark.parametrize("wrong", ["shuffled", "short", "inverted"])
def test_lengths_that_are_not_those_of_x_are_a_wrong_mask(
    rng: np.random.Generator, wrong: str
) -> None:
    x, lengths = padded(rng)
    mask = np.arange(30)[:, None] < lengths
    told = {
        "shuffled": {"lengths": np.roll(lengths, 1)},
        "short": {"lengths": lengths - 2},
        "inverted": {"mask": ~mask},
    }[wrong]
    found = read(lstm(), x, lambda _, final: final[0].sum(), **told)
    assert set(found) >= {"wrong-mask"}
    assert set(read(lstm(), x, lambda _, final: final[0].sum(), lengths=lengths)) == set()


def test_ends_that_are_alike_or_values_of_the_data_are_not_taken_for_padding(
    rng: np.random.Generator,
) -> None:
    alike = sequence(rng)
    alike[20:] = 0.0
    assert padding_of(alike) is None
    events = np.where(rng.random((60, 9, 1)) < 0.2, sequence(rng, 60, 9), 0.0)
    assert padding_of(events) is None
    one_hot = np.eye(3)[rng.integers(0, 3, (40, 16))]
    assert padding_of(one_hot) is None
    for shape in ((0, 0, 3), (1, 4, 3), (5, 1, 3), (5, 0, 3)):
        assert padding_of(np.zeros(shape)) is None


# -- inputs, units, gates


@pytest.mark.parametrize(("size", "is_named"), [(1e-4, True), (0.3, False), (4, False), (90, True)])
def test_inputs_far_from_1_are_named(rng: np.random.Generator, size: float, is_named: bool) -> None:
    found = named(mg.flow.probe(lstm(), size * sequence(rng)))
    assert ("input-scale" in found) == is_named
    if size == 90:
        sizes = np.sqrt(np.mean((size * sequence(rng)) ** 2, axis=(0, 1)))
        assert found["input-scale"].value == pytest.approx(sizes.max(), rel=0.3)


def test_units_that_stand_still_are_counted(rng: np.random.Generator) -> None:
    layer = nn.RNN(
        3, 8, nonlinearity="relu", dtype=np.float64, mode="tape", generator=np.random.default_rng(0)
    )
    layer.weight_hh_l0.data = np.eye(8)
    layer.bias_ih_l0.data = np.where(np.arange(8) < 3, -100.0, 1.0)
    assert "3 of 8 units of h" in named(mg.flow.probe(layer, sequence(rng)))["dead-units"].evidence


def test_a_gate_held_where_it_keeps_is_not_saturated_and_one_that_is_shut_is(
    rng: np.random.Generator,
) -> None:
    x = sequence(rng)
    open_, shut = lstm(bias=20.0), lstm(bias=-20.0)
    for layer in (open_, shut):
        layer.bias_ih_l0.data[:8] = -20.0  # i: writes nothing
    assert "saturated-gates" not in named(mg.flow.probe(open_, x))
    shut.bias_ih_l0.data[16:] = 20.0
    found = named(mg.flow.probe(shut, x))["saturated-gates"]
    assert "f 100%" in found.evidence
    assert "g 100%" in found.evidence


# -- detached


@pytest.mark.parametrize("mode", ["tape", "fused"])
def test_windows_of_truncated_bptt_are_detached(rng: np.random.Generator, mode: str) -> None:
    cell = lstm().cells[0]
    with mg.flow.record() as recording:
        ys = mg.scan(cell, cell.init_state(4), sequence(rng), truncate=7, mode=mode).ys
        ys[-1].sum().backward()
    assert named(recording)["detached"].value == 7


def test_a_call_that_goes_on_from_a_detached_state_is_detached(rng: np.random.Generator) -> None:
    layer, x = lstm(), sequence(rng)
    for cut in (True, False):
        with mg.flow.record() as recording:
            _, state = layer(x[:20])
            if cut:
                state = nn.LSTMState(*(s.detach() for s in state))
            ys, _ = layer(x[20:], state)
            ys[-1].sum().backward()
        found = named(recording)
        assert ("detached" in found) == cut
        assert not cut or "to the bit" in found["detached"].evidence


@pytest.mark.parametrize("mode", ["tape", "fused"])
def test_a_detach_in_the_cell_is_told_from_units_that_are_off(
    rng: np.random.Generator, mode: str
) -> None:
    W = mg.tensor(0.9 * np.eye(3), requires_grad=True)

    def detaching(h: Any, x: Any) -> Any:
        h = mg.tap("h", mg.tanh(h.detach() @ W + x))
        return h, h

    def off(h: Any, x: Any) -> Any:
        h = mg.tap("h", mg.relu(h @ W - 100.0 + x))
        return h, h

    for cell, is_cut in ((detaching, True), (off, False)):
        with mg.flow.record() as recording:
            ys = mg.scan(cell, mg.tensor(np.zeros((4, 3))), sequence(rng), mode=mode).ys
            (ys[-1] + W.sum()).sum().backward()
        assert ("detached" in named(recording)) == is_cut


def test_an_episode_that_begins_is_not_detached(rng: np.random.Generator) -> None:
    resets = np.zeros((30, 4), bool)
    resets[15] = True
    with mg.flow.record() as recording:
        ys, _ = lstm()(sequence(rng), resets=resets)
        ys[-1].sum().backward()
    assert "detached" not in named(recording)


# -- gradients


def test_a_gradient_lost_between_layers_is_lost_in_depth(rng: np.random.Generator) -> None:
    layer = lstm(layers=3)
    layer.weight_ih_l2.data = 1e-7 * layer.weight_ih_l2.numpy()
    (cause,) = mg.flow.causes(mg.flow.probe(layer, sequence(rng)))
    assert cause.name == "lost-in-depth"
    assert cause.where == "between lstm/l2 and lstm/l1"
    assert 1e-9 < cause.value < 1e-6


def test_linear_nets_vanish_and_explode_by_their_factor() -> None:
    for factor, name in ((0.5, "vanishing"), (2.0, "exploding"), (1.0, "")):
        w = mg.tensor([[factor]], requires_grad=True)

        def cell(h: Any, x: Any, w: Any = w) -> Any:
            h = mg.tap("h", h @ w + x)
            return h, h

        with mg.flow.record() as recording:
            x = np.random.default_rng(0).standard_normal((40, 3, 1))
            final, _ = mg.scan(cell, mg.tensor(np.zeros((3, 1))), x, mode="tape")
            final.sum().backward()
        found = named(recording)
        assert set(found) - {"read-too-rarely"} == ({name} if name else set())


def test_steps_to_the_next_that_is_read_are_counted() -> None:
    read = np.array([[0, 1], [0, 0], [1, 0], [0, 0]], bool)
    assert distances(read).T.tolist() == [[2, 1, 0, np.inf], [0, np.inf, np.inf, np.inf]]
    assert distances(np.zeros((0, 2), bool)).shape == (0, 2)


# -- training


@pytest.mark.parametrize(
    ("losses", "is_named"),
    [
        ([1.0, 0.8, 0.7, 0.5, 0.4, 0.3], False),
        ([1.0, 1.1, 0.95, 1.05, 1.0, 0.97], False),
        ([1.0, 30.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.4, 0.3], False),  # one spike
        ([1.0, 3.0, 9.0, 5.0, 8.0, 7.0], True),
        ([1.0, 9.0, 80.0, np.nan], True),
        ([1.0, 0.9, 0.8, np.nan], False),  # NaN out of nowhere is something else
        ([1.0, 9.0, 80.0, 50.0, 9.0, 4.0, 1.1, 0.9, 0.9, 0.9], True),
        ([np.nan], False),
        ([], False),
        ([0.0, 0.0, 0.0, 0.0, 0.0], False),
    ],
)
def test_a_rate_is_too_large_where_losses_rise(
    rng: np.random.Generator, losses: list[float], is_named: bool
) -> None:
    recording = mg.flow.probe(lstm(), sequence(rng))
    assert ("rate-too-large" in named(recording, losses=losses)) == is_named


def test_a_monitor_has_the_losses_and_the_size_of_updates(rng: np.random.Generator) -> None:
    x = sequence(rng, 12)
    layer = nn.RNN(3, 8, nonlinearity="relu", dtype=np.float64, mode="tape", generator=rng)
    sgd = mg.optim.SGD(layer.parameters(), lr=3.0)
    with mg.flow.Monitor(layer, every=2, flow=False) as monitor:
        for _ in range(8):
            with monitor.step(), np.errstate(all="ignore"):
                loss = ((layer(x)[0][-1] - 0.1) ** 2).sum()
                sgd.zero_grad()
                loss.backward()
                sgd.step()
            monitor.log(loss=loss.item())
    found = named(mg.flow.probe(layer, x), monitor=monitor)
    assert "of the weight it changes" in found["rate-too-large"].evidence


# -- recordings of every kind


def by_hand(net: Any, x: Array) -> Any:
    state = net.init_state(x.shape[1])
    for t in range(len(x)):
        with mg.scope(f"t={t}"):
            state, y = net(state, mg.tensor(x[t]))
    return y


def over_time(net: Any, x: Array) -> Any:
    layer = nn.Recurrent(lambda size: net, x.shape[-1], mode="tape")
    return layer(x)[0][-1]


CELLS = [
    nn.RNNCell, nn.LSTMCell, nn.GRUCell, nn.CoupledLSTMCell, nn.ElmanCell, nn.IRNNCell,
    nn.JordanCell, nn.LayerNormLSTMCell, nn.LRUCell, nn.MinGRUCell, nn.MinimalGatedCell,
    nn.PeepholeLSTMCell, nn.UnitaryCell, nn.ZoneoutLSTMCell, nn.IndRNNCell, nn.CoRNNCell,
    nn.LEMCell, nn.AntisymmetricRNNCell, nn.CfCCell, nn.SLSTMCell,
]  # fmt: skip
STATES = ("h", "c", "s", "re", "im", "y", "z")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("steps", [1, 2, 9])
@pytest.mark.parametrize("how", [by_hand, over_time])
def test_causes_can_be_asked_of_any_cell_and_length(
    cell: Any, steps: int, how: Any, rng: np.random.Generator
) -> None:
    net = cell(2, 3, dtype=np.float64, generator=rng).eval()
    with mg.flow.record(states=STATES) as recording:
        how(net, sequence(rng, steps, 1, 2)).sum().backward()
    assert {cause.name for cause in recording.causes} <= {"vanishing", "exploding", "dead-units"}


def test_causes_can_be_asked_without_what_runs_a_layer_again(rng: np.random.Generator) -> None:
    layer, x = lstm(), 100 * sequence(rng)
    x[3, 0, 0] = np.nan
    with np.errstate(all="ignore"), mg.flow.record(replay=False) as recording:
        layer(x)[0][-1].sum().backward()
    assert "nonfinite" in named(recording)
    assert "input-scale" not in named(recording)  # x is not kept


def test_integers_and_embeddings_have_no_input_scale(rng: np.random.Generator) -> None:
    embedding = nn.Embedding(500, 3, dtype=np.float64, generator=rng)
    layer = lstm()
    with mg.flow.record() as recording:
        layer(embedding(rng.integers(0, 500, (30, 4))))[0][-1].sum().backward()
    assert named(recording) == {}


def test_before_backward_it_is_said_that_there_is_no_gradient(rng: np.random.Generator) -> None:
    with mg.flow.record() as recording:
        lstm()(sequence(rng))
    with pytest.raises(mg.flow.FlowError, match="no gradient arrived"):
        recording.causes  # noqa: B018


def test_a_loop_by_hand_is_detached_where_it_detaches_and_not_where_its_units_are_off(
    rng: np.random.Generator,
) -> None:
    W, x = mg.tensor(0.9 * np.eye(3), requires_grad=True), sequence(rng, 12)
    for what in ("detach", "off"):
        with mg.flow.record() as recording:
            h: Any = mg.tensor(np.zeros((4, 3)))
            for t in range(12):
                if t == 7 and what == "detach":
                    h = h.detach()
                with mg.scope(f"t={t}"):
                    shift = -100.0 if t == 7 and what == "off" else 1.0
                    h = mg.tap("h", mg.relu(h @ W + mg.tensor(np.abs(x[t])) + shift))
            h.sum().backward()
        assert ("detached" in named(recording)) == (what == "detach")
