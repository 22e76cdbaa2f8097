"""layer.stream(batch): one step at a time is what the layer computes over the whole sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compile.agree import PLAIN, wide

import minigrad as mg
from minigrad import nn
from minigrad.nn import streaming
from minigrad.nn.streaming import Stream
from minigrad.tree import leaves

F64 = np.float64


def same(got: Any, want: Any) -> None:
    got, want = (t.numpy() if isinstance(t, mg.Tensor) else t for t in (got, want))
    if PLAIN:  # products are NumPy's, whose rounding depends on how many rows there are
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)
    else:
        assert got.tobytes() == want.tobytes()


def steps(stream: Stream, xs: np.ndarray) -> np.ndarray:
    return np.stack([stream(x).numpy() for x in xs])


LAYERS: dict[str, Callable[[Any], Any]] = {
    "lstm": lambda rng: nn.LSTM(3, 5, dtype=F64, generator=rng),
    "gru": lambda rng: nn.GRU(3, 5, dtype=F64, generator=rng),
    "gru-before": lambda rng: nn.GRU(3, 5, reset_after=False, dtype=F64, generator=rng),
    "rnn": lambda rng: nn.RNN(3, 5, dtype=F64, generator=rng),
    "stack": lambda rng: nn.LSTM(3, 5, num_layers=3, dtype=F64, generator=rng),
    "projected": lambda rng: nn.LSTM(3, 5, num_layers=2, proj_size=2, dtype=F64, generator=rng),
    "batch-first": lambda rng: nn.GRU(3, 5, batch_first=True, dtype=F64, generator=rng),
    "last-alone": lambda rng: nn.GRU(3, 5, return_sequences=False, dtype=F64, generator=rng),
    "tape": lambda rng: nn.LSTM(3, 5, mode="tape", dtype=F64, generator=rng),
    "two-states": lambda rng: nn.Recurrent(
        lambda size: nn.LRUCell(size, 4, output_size=2, dtype=F64, generator=rng), 3
    ),
    "normed": lambda rng: nn.Recurrent(
        lambda size: nn.LayerNormLSTMCell(size, 4, dtype=F64, generator=rng), 3, num_layers=2
    ),
    "own": lambda rng: nn.Recurrent(lambda size: Leaky(size, rng), 3, num_layers=2),
}


class Leaky(nn.Module):
    """h = 0.9 h + tanh(x W), in a list; nobody promised anything."""

    def __init__(self, size: int, rng: np.random.Generator):
        self.weight = nn.Parameter(rng.normal(size=(size, 4)), F64)
        self.output_size = 4

    def forward(self, state: Any, x: Any) -> Any:
        (h,) = state
        h = 0.9 * h + mg.tanh(x @ self.weight)
        return [h], h

    def init_state(self, batch: int) -> Any:
        return [mg.tensor(np.full((batch, 4), 0.5))]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", wide(list(LAYERS), ["lstm", "stack"]))
def test_the_steps_of_a_stream_are_the_layer_over_the_sequence(
    name: str, batch: int, rng: np.random.Generator
) -> None:
    layer = LAYERS[name](rng)
    stream = layer.stream(batch)
    for time in (7, 3):
        xs = rng.normal(size=(time, batch, 3))
        output, final = layer(np.swapaxes(xs, 0, 1) if layer.batch_first else xs)
        ys = steps(stream, xs)
        if not layer.return_sequences:
            ys = ys[-1]
        same(ys, np.swapaxes(output.numpy(), 0, 1) if layer.batch_first else output.numpy())
        for got, want in zip(leaves(stream.state), leaves(final), strict=True):
            same(got, want)
        stream.reset()


def test_the_state_goes_on_where_it_was_or_begins_where_it_is_told(rng: Any) -> None:
    layer = LAYERS["stack"](rng)
    xs = rng.normal(size=(9, 2, 3))
    whole = layer(xs)[0].numpy()
    stream = layer.stream(2)
    same(steps(stream, xs[:6]), whole[:6])
    state = stream.state
    same(steps(stream, xs[6:]), whole[6:])
    for _ in range(2):
        stream.reset(state)
        same(steps(stream, xs[6:]), whole[6:])
    stream.reset()
    same(steps(stream, xs), whole)


def test_what_a_stream_gives_out_stays_as_it_is(rng: Any) -> None:
    stream = LAYERS["lstm"](rng).stream(2)
    x = rng.normal(size=(2, 3))
    for _ in range(6):
        y, state = stream(x), stream.state
        copies = [t.numpy().copy() for t in (y, *leaves(state))]
        before = x.copy()
        stream(rng.normal(size=(2, 3)))
        for t, copy in zip((y, *leaves(state)), copies, strict=True):
            np.testing.assert_array_equal(t.numpy(), copy)
        state.h.data[...] = 7.0
        y.data[...] = 7.0
        assert not (stream.state.h.numpy() == 7.0).any()
        np.testing.assert_array_equal(x, before)


def new_values(layer: Any, rng: Any) -> None:
    for p in layer.parameters():
        p.data = rng.normal(size=p.shape)


def written(layer: Any, rng: Any) -> None:
    layer.weight_hh_l0.data[...] = rng.normal(size=layer.weight_hh_l0.shape)


def edited(layer: Any, rng: Any) -> None:
    with mg.no_grad():
        layer.bias_ih_l0[...] = rng.normal(size=layer.bias_ih_l0.shape)


def stepped(layer: Any, rng: Any) -> None:
    optimizer = mg.optim.SGD(layer.parameters(), lr=0.5)
    layer(rng.normal(size=(3, 2, 3)))[0].sum().backward()
    optimizer.step()


def replaced(layer: Any, rng: Any) -> None:
    shape = layer.weight_ih_l0.shape
    layer.cells[0].weight_ih = nn.Parameter(rng.normal(size=shape), F64)


def loaded(layer: Any, rng: Any) -> None:
    layer.load_state_dict({n: rng.normal(size=a.shape) for n, a in layer.state_dict().items()})


def another_cell(layer: Any, rng: Any) -> None:
    layer.cells[0] = type(layer.cells[0])(3, 5, dtype=F64, generator=rng)


@pytest.mark.parametrize(
    "change", [new_values, written, edited, stepped, replaced, loaded, another_cell]
)
@pytest.mark.parametrize("name", wide(["lstm", "gru"], ["lstm"]))
def test_parameters_that_change_between_steps_are_seen(name: str, change: Any, rng: Any) -> None:
    layer = LAYERS[name](rng)
    stream = layer.stream(2)
    for _ in range(3):
        steps(stream, rng.normal(size=(6, 2, 3)))
        state = stream.state
        change(layer, rng)
        xs = rng.normal(size=(4, 2, 3))
        same(steps(stream, xs), layer(xs, state)[0])


def test_a_class_whose_step_is_another_by_now_is_seen(rng: Any, monkeypatch: Any) -> None:
    layer = LAYERS["rnn"](rng)
    stream = layer.stream(2)
    steps(stream, rng.normal(size=(6, 2, 3)))
    state, real = stream.state, nn.RNNCell.forward

    def halved(self: Any, state: Any, x: Any) -> Any:
        h, y = real(self, state, x)
        return h * 0.5, y * 0.5

    monkeypatch.setattr(nn.RNNCell, "forward", halved)
    xs = rng.normal(size=(4, 2, 3))
    same(steps(stream, xs), layer(xs, state)[0])


def test_a_step_needs_no_gradient_and_records_nothing(rng: Any) -> None:
    layer = LAYERS["lstm"](rng)
    stream = layer.stream(2)
    for _ in range(6):
        x = mg.tensor(rng.normal(size=(2, 3)), requires_grad=True)
        assert not stream(x).requires_grad
        assert not any(t.requires_grad for t in leaves(stream.state))


def test_who_listens_hears_the_steps(rng: Any) -> None:
    layer = LAYERS["lstm"](rng)
    stream = layer.stream(2)
    xs = rng.normal(size=(9, 2, 3))
    whole = layer(xs)[0].numpy()
    got = [*steps(stream, xs[:6])]
    heard: list[str] = []
    with mg.listen(lambda name, tensor, scope: heard.append(f"{scope}/{name}")):
        got += [stream(xs[6]).numpy()]
    assert "lstm/l0/fwd/t=0/c" in heard
    got += [*steps(stream, xs[7:])]
    same(np.stack(got), whole)


def test_two_streams_of_a_layer_have_states_of_their_own(rng: Any) -> None:
    layer = LAYERS["gru"](rng)
    xs = rng.normal(size=(2, 8, 3, 3))
    streams = [layer.stream(3), layer.stream(3)]
    found: list[list[np.ndarray]] = [[], []]
    for t in range(8):
        for k, stream in enumerate(streams):
            found[k].append(stream(xs[k, t]).numpy())
    for k in range(2):
        same(np.stack(found[k]), layer(xs[k])[0])


def test_what_is_no_step_is_refused_before_and_after_steps(rng: Any) -> None:
    stream = nn.LSTM(3, 5, generator=rng).stream(2)
    x = np.zeros((2, 3), np.float32)
    for _ in range(2):
        with pytest.raises(mg.ShapeError, match=r"\(batch, I\) = \(2, 3\).*float32\[4, 2, 3\]"):
            stream(np.zeros((4, 2, 3), np.float32))
        with pytest.raises(mg.ShapeError, match=r"\(batch, I\) = \(2, 3\), one step"):
            stream(np.zeros((1, 3), np.float32))
        with pytest.raises(mg.DTypeError, match=r"float64\[2, 3\] and the weights are float32"):
            stream(np.zeros((2, 3)))
        for _ in range(5):
            stream(x)
    with pytest.raises(mg.ShapeError, match="initial state h should be"):
        stream.reset(nn.LSTMState(mg.tensor(np.zeros((1, 3, 5))), mg.tensor(np.zeros((1, 3, 5)))))


def test_what_cannot_be_streamed_is_refused_with_the_reason(rng: Any) -> None:
    with pytest.raises(ValueError, match="reverse direction begins at the last step"):
        nn.GRU(3, 5, bidirectional=True).stream(2)
    with pytest.raises(ValueError, match=r"GRU.stream: batch.*0"):
        nn.GRU(3, 5).stream(0)
    layer = nn.GRU(3, 5, num_layers=2, dropout=0.5)
    stream, x = layer.stream(1), np.zeros((1, 3), np.float32)
    with pytest.raises(ValueError, match=r"call layer.eval\(\) first"):
        stream(x)
    layer.eval()
    for _ in range(6):
        stream(x)
    layer.train()
    with pytest.raises(ValueError, match=r"call layer.eval\(\) first"):
        stream(x)


def test_a_step_that_is_prepared_takes_no_scan(rng: Any, monkeypatch: Any) -> None:
    layer = LAYERS["stack"](rng)
    stream = layer.stream(2)
    xs = rng.normal(size=(9, 2, 3))
    whole = layer(xs)[0].numpy()
    first = steps(stream, xs[:6])
    monkeypatch.setattr(type(layer), "forward", None)
    same(np.concatenate([first, steps(stream, xs[6:])]), whole)


@pytest.mark.skipif(not PLAIN, reason="once is enough")
@pytest.mark.parametrize("change", [new_values, written, edited, replaced, another_cell])
def test_a_step_that_looks_at_nothing_is_seen(change: Any, rng: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(streaming._Ready, "holds", lambda self, layer: True)
    with pytest.raises(AssertionError):
        test_parameters_that_change_between_steps_are_seen("lstm", change, rng)


@pytest.mark.skipif(not PLAIN, reason="once is enough")
def test_an_edit_that_is_not_asked_for_is_seen(rng: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(streaming._Ready, "_unedited", lambda self: True)
    with pytest.raises(AssertionError):
        test_parameters_that_change_between_steps_are_seen("lstm", edited, rng)
