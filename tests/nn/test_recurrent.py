"""What the layer around a cell does: layouts, merging, dropout, custom cells, names, errors."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import recurrent

F64: dict[str, Any] = {"dtype": np.float64}
KINDS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Leaky(nn.Module):
    """h = a h + (1 - a) tanh(x W), y = sum of h: a cell whose output is no state."""

    def __init__(self, size: int):
        self.weight = nn.Parameter(np.full((size, 3), 0.5), np.float64)
        self.decay = nn.Parameter(np.full(3, 0.25), np.float64)
        self.output_size = 1

    def init_state(self, batch: int) -> Any:
        return {"h": mg.tensor(np.zeros((batch, 3)))}

    def forward(self, state: Any, x: Any) -> Any:
        h = self.decay * state["h"] + (1 - self.decay) * mg.tanh(x @ self.weight)
        mg.tap("h", h)
        return {"h": h}, h.sum(axis=-1, keepdims=True)


def test_batch_first_swaps_inputs_and_outputs_but_never_states(rng: np.random.Generator) -> None:
    layer = nn.LSTM(2, 3, bidirectional=True, **F64)
    swapped = nn.LSTM(2, 3, bidirectional=True, batch_first=True, **F64)
    swapped.load_state_dict(layer.state_dict())
    x, state = rng.normal(size=(5, 4, 2)), (rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 3)))
    output, final = layer(x, state)
    output_swapped, final_swapped = swapped(x.swapaxes(0, 1), state)
    np.testing.assert_array_equal(output_swapped.data, output.data.swapaxes(0, 1))
    for a, b in zip(final, final_swapped):
        assert a.shape == (2, 4, 3)
        np.testing.assert_array_equal(a.data, b.data)


def test_order_of_states_is_layer_by_layer_forward_before_reverse(rng: np.random.Generator) -> None:
    layer = nn.GRU(2, 3, num_layers=2, bidirectional=True, **F64)
    output, h_n = layer(rng.normal(size=(5, 4, 2)))
    assert h_n.shape == (4, 4, 3)
    np.testing.assert_array_equal(h_n.data[2], output.data[-1, :, :3])  # layer 1 forward
    np.testing.assert_array_equal(h_n.data[3], output.data[0, :, 3:])  # layer 1 reverse
    names = [name for name, _ in layer.named_parameters()]
    suffixes = [re.sub("^weight_ih", "", name) for name in names if name.startswith("weight_ih")]
    assert suffixes == ["_l0", "_l0_reverse", "_l1", "_l1_reverse"]


@pytest.mark.parametrize("num_layers", [1, 2])
def test_merging_joins_outputs_and_leaves_states_alone(
    num_layers: int, rng: np.random.Generator
) -> None:
    x, options = rng.normal(size=(5, 2, 2)), dict(num_layers=num_layers, bidirectional=True, **F64)
    concatenated = nn.LSTM(2, 3, **options)
    output, final = concatenated(x, lengths=[5, 3])
    forward, reverse = output.data[..., :3], output.data[..., 3:]
    expected = {
        "sum": forward + reverse,
        "mean": (forward + reverse) / 2,
        "mul": forward * reverse,
    }
    for merge, value in expected.items():
        layer = nn.LSTM(2, 3, merge=merge, **options)
        layer.load_state_dict(concatenated.state_dict())  # the shapes do not depend on merge
        merged, states = layer(x, lengths=[5, 3])
        np.testing.assert_allclose(merged.data, value, rtol=1e-15)
        for a, b in zip(states, final):
            np.testing.assert_array_equal(a.data, b.data)


@pytest.mark.parametrize("lengths", [None, [4, 2, 1]])
@pytest.mark.parametrize("batch_first", [False, True])
def test_without_sequences_the_output_is_that_after_each_rows_last_step(
    lengths: Any, batch_first: bool, rng: np.random.Generator
) -> None:
    options = dict(bidirectional=True, batch_first=batch_first, **F64)
    full, last = nn.GRU(2, 3, **options), nn.GRU(2, 3, return_sequences=False, **options)
    last.load_state_dict(full.state_dict())
    x = rng.normal(size=(3, 4, 2) if batch_first else (4, 3, 2))
    output, h_n = last(x, lengths=lengths)
    assert output.shape == (3, 6)
    np.testing.assert_array_equal(output.data, np.concatenate(list(h_n.data), axis=-1))
    np.testing.assert_array_equal(h_n.data, full(x, lengths=lengths)[1].data)
    assert last(x[:, 0] if batch_first else x[0])[0].shape == (6,)


def test_dropout_acts_between_layers_in_training_only(rng: np.random.Generator) -> None:
    x = rng.normal(size=(4, 2, 3))
    layer = nn.RNN(3, 5, num_layers=2, dropout=1.0, **F64)
    plain = nn.RNN(3, 5, num_layers=2, **F64)
    plain.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(layer.eval()(x)[0].data, plain(x)[0].data)
    output, h_n = layer.train()(x)
    # All of layer 0's output is dropped; its state and layer 1's output are not.
    np.testing.assert_array_equal(h_n.data[0], plain(x)[1].data[0])
    second = nn.RNN(5, 5, **F64)
    second.load_state_dict(
        {k.replace("l1", "l0"): v for k, v in layer.state_dict().items() if "l1" in k}
    )
    np.testing.assert_allclose(output.data, second(np.zeros((4, 2, 5)))[0].data, rtol=1e-13)


def test_dropout_with_one_layer_warns_that_it_does_nothing() -> None:
    with pytest.warns(UserWarning, match=r"LSTM: dropout=0.5 acts between layers") as caught:
        nn.LSTM(2, 3, dropout=0.5)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("kind", KINDS)
def test_layer_and_unrolled_cell_agree(kind: str, rng: np.random.Generator) -> None:
    layer = KINDS[kind](2, 3, **F64)
    x = rng.normal(size=(4, 2, 2))
    cell = layer.cells[0]
    _, ys = nn.unroll(cell, cell.init_state(2), mg.tensor(x))
    np.testing.assert_allclose(layer(x)[0].data, ys.data, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_through_layers_directions_and_lengths(
    kind: str, rng: np.random.Generator
) -> None:
    layer = KINDS[kind](1, 3, num_layers=2, bidirectional=True, merge="mul", **F64)
    names = [name for name, _ in layer.named_parameters()]

    def f(x: Any, h: Any, *values: Any) -> Any:
        for name, value in zip(names, values):
            setattr(layer, name, value)
        state = (h, h * 0.5) if kind == "lstm" else h
        output, final = layer(x, state, lengths=[3, 1])
        final = final[1] if kind == "lstm" else final
        return mg.concatenate([output.reshape(-1), final.reshape(-1)])

    values = [p.data.copy() for p in layer.parameters()]
    assert mg.gradcheck(f, rng.normal(size=(3, 2, 1)), rng.normal(size=(4, 2, 3)), *values)


def test_any_cell_gets_layers_directions_lengths_and_merging(rng: np.random.Generator) -> None:
    layer = nn.Recurrent(Leaky, 2, num_layers=2, bidirectional=True, merge="sum")
    assert layer.cells[2].weight.shape == (2, 3)  # two directions of one number each
    x = mg.tensor(rng.normal(size=(5, 3, 2)), requires_grad=True)
    output, final = layer(x, lengths=[5, 1, 3])
    assert output.shape == (5, 3, 1)
    assert final["h"].shape == (4, 3, 3)
    assert not output.data[1:, 1].any()
    output.sum().backward()
    assert not x.grad.data[1:, 1].any()
    again, _ = layer(x, final)
    assert not np.allclose(again.data, output.data)
    assert list(layer.state_dict())[:4] == [
        "weight_l0",
        "decay_l0",
        "weight_l0_reverse",
        "decay_l0_reverse",
    ]


def test_a_custom_cell_follows_its_own_equation(rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, 1, 2))
    layer = nn.Recurrent(Leaky, 2)
    output, _ = layer(x)
    h = np.zeros(3)
    for t in range(3):
        h = 0.25 * h + 0.75 * np.tanh(x[t, 0] @ np.full((2, 3), 0.5))
        assert output.data[t, 0, 0] == pytest.approx(h.sum(), rel=1e-14)


def test_a_step_overridden_as_a_whole_is_the_one_that_runs() -> None:
    class Frozen(nn.LSTMCell):
        def forward(self, state: Any, x: Any) -> Any:
            return state, state.h + 1.0

    output, _ = nn.Recurrent(lambda size: Frozen(size, 3), 2)(np.ones((4, 1, 2), np.float32))
    np.testing.assert_array_equal(output.data, np.ones((4, 1, 3)))


def test_operations_carry_layer_direction_and_step_in_their_scope() -> None:
    layer = nn.LSTM(2, 3, num_layers=2, bidirectional=True, mode="tape")
    with mg.Tape() as tape:
        layer(np.ones((2, 1, 2), np.float32))
    scopes = list(dict.fromkeys(node.scope for node in tape.nodes))
    steps = [s for s in scopes if "t=" in s]
    assert steps == [
        f"lstm/l{layer}/{direction}"
        for layer in (0, 1)
        for direction in ("fwd/t=0", "fwd/t=1", "rev/t=1", "rev/t=0")
    ]


def test_a_layer_inside_a_model_is_called_as_the_model_calls_it() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            self.encoder = nn.GRU(2, 3)

        def forward(self, x: Any) -> Any:
            return self.encoder(x)[0]

    heard = set()
    with mg.listen(lambda name, tensor, scope: heard.add((name, scope))):
        Model()(np.ones((2, 1, 2), np.float32))
    assert heard == {(gate, f"encoder/l0/fwd/t={t}") for gate in "rznh" for t in (0, 1)}


def test_parameters_are_reached_by_torchs_names() -> None:
    layer = nn.LSTM(2, 3, num_layers=2, bidirectional=True)
    assert layer.weight_ih_l1_reverse is layer.cells[3].weight_ih
    assert layer.bias_hh_l0.name == "bias_hh_l0"
    other = nn.LSTM(2, 3, num_layers=2, bidirectional=True)
    other.weight_ih_l0 = layer.weight_ih_l0  # tied
    assert other.cells[0].weight_ih is layer.cells[0].weight_ih
    assert "weight_ih_l0" not in vars(other)
    for name in ("weight_ih_l2", "weight_xx_l0", "weight_ih_l01", "nothing"):
        with pytest.raises(AttributeError, match=name):
            getattr(layer, name)
    assert copy.deepcopy(layer).weight_ih_l0 is not layer.weight_ih_l0


def test_layers_start_in_torchs_range() -> None:
    for kind in KINDS.values():
        layer = kind(3, 25, num_layers=2, bidirectional=True, generator=np.random.default_rng(0))
        for p in layer.parameters():
            assert p.dtype == np.float32
            assert 0.15 < np.abs(p.data).max() <= 0.2  # 1 / sqrt(25)


def test_the_initial_state_receives_a_gradient_through_every_layer(
    rng: np.random.Generator,
) -> None:
    layer = nn.GRU(2, 3, num_layers=2, bidirectional=True, **F64)
    h_0 = mg.tensor(rng.normal(size=(4, 2, 3)), requires_grad=True)
    layer(rng.normal(size=(3, 2, 2)), h_0)[0].sum().backward()
    assert (np.abs(h_0.grad.data).sum(axis=(1, 2)) > 0).all()


def test_truncated_bptt_carries_a_detached_state(rng: np.random.Generator) -> None:
    layer = nn.LSTM(2, 3, **F64)
    x = rng.normal(size=(6, 2, 2))
    whole, _ = layer(x)
    first, state = layer(x[:3])
    first.sum().backward()
    second, _ = layer(x[3:], nn.LSTMState(*(s.detach() for s in state)))
    second.sum().backward()  # no "backward a second time"
    np.testing.assert_allclose(np.concatenate([first.data, second.data]), whole.data, rtol=1e-13)


def test_repr_names_options_that_are_not_defaults() -> None:
    layer = nn.LSTM(3, 5, num_layers=2, bias=False, merge="sum", bidirectional=True, proj_size=2)
    head = "LSTM(3, 5, num_layers=2, bidirectional=True, merge='sum', bias=False, proj_size=2)"
    assert repr(layer).splitlines()[0] == head
    assert repr(nn.GRU(1, 2)) == "GRU(1, 2)\n  (l0): GRUCell(1, 2)"


def test_layers_run_compiled_unless_told_otherwise() -> None:
    assert recurrent.DEFAULT_MODE == "fused"
    assert nn.GRU(1, 2).mode == nn.Recurrent(Leaky, 1).mode == recurrent.DEFAULT_MODE


X = np.zeros((4, 3, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.GRU(2, 3, mode="fast"), ValueError, "must be 'fused' or 'tape', got 'fast'"),
        (lambda: nn.GRU(2, 3, merge="max"), ValueError, "merge must be one of .*'concat'"),
        (lambda: nn.GRU(2, 3, num_layers=0), ValueError, "num_layers must be >= 1"),
        (lambda: nn.GRU(2, 3, num_layers=2, dropout=2.0), ValueError, "GRU: dropout is a probab"),
        (lambda: nn.GRU(2, 3, proj_size=2), TypeError, "proj_size"),
        (lambda: nn.Recurrent(lambda i: mg.tanh, 2), TypeError, "a Module with init_state"),
        (lambda: nn.GRU(5, 3, **F64)(X), mg.ShapeError, r"\(T, B, I\).*5 .*got float64\[4"),
        (lambda: nn.GRU(2, 3, batch_first=True, **F64)(X[0, 0]), mg.ShapeError, r"\(B, T, I\)"),
        (lambda: nn.GRU(2, 3, **F64)(X[:0]), mg.ShapeError, "no empty axis"),
        (lambda: nn.GRU(2, 3)(X), mg.DTypeError, r"x.astype\(np.float32\)"),
        (lambda: nn.GRU(2, 3)(X.astype(int)), mg.DTypeError, "expected x of floats"),
        (lambda: nn.GRU(2, 3, **F64)(X[0], lengths=[2]), mg.ShapeError, "lengths go with a batch"),
        (
            lambda: nn.GRU(2, 5, batch_first=True, **F64)(X, np.zeros((4, 1, 5))),
            mg.ShapeError,
            r"should be \[1, 4, 5\], .*batch_first does not apply to states",
        ),
        (
            lambda: nn.LSTM(2, 5, **F64)(X, (np.zeros((1, 3, 5)), np.zeros((1, 3, 4)))),
            mg.ShapeError,
            r"initial state c should be \[1, 3, 5\]",
        ),
        (lambda: nn.LSTM(2, 5, **F64)(X, np.zeros((1, 3, 5))), mg.ShapeError, r"of h, c, got \*"),
        (
            lambda: nn.GRU(2, 5)(X.astype(np.float32), np.zeros((1, 3, 5))),
            mg.DTypeError,
            r"state is float64\[1, 3, 5\] and the layer float32; use .astype\(np.float32\)",
        ),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_stacking_a_cell_needs_its_output_size() -> None:
    class Silent(Leaky):
        def __init__(self, size: int):
            super().__init__(size)
            del self.output_size

    nn.Recurrent(Silent, 2)
    with pytest.raises(TypeError, match="Silent needs an attribute output_size"):
        nn.Recurrent(Silent, 2, num_layers=2)


@pytest.mark.parametrize(
    ("cell", "error", "message"),
    [
        (
            lambda s, x: ({"h": s["h"], "c": s["c"][:, :2]}, x),
            mg.ShapeError,
            r"carry 'c' leaves the cell as float64\[3, 2\] but came in as float64\[3, 4\]",
        ),
        (
            lambda s, x: ({"h": s["h"].astype(np.float32), "c": s["c"]}, x),
            mg.DTypeError,
            r"carry 'h' leaves the cell as float32\[3, 4\]",
        ),
        (
            lambda s, x: ((s["h"], s["c"]), x),
            mg.ShapeError,
            r"leaves the cell as \(\*, \*\) but came in as \{c: \*, h: \*\}",
        ),
    ],
)
def test_unroll_names_the_part_of_the_carry_that_changes(
    cell: Any, error: Any, message: str
) -> None:
    zeros = mg.tensor(np.zeros((3, 4)))
    with pytest.raises(error, match=message):
        nn.unroll(cell, {"h": zeros, "c": zeros}, mg.tensor(np.zeros((2, 3, 1))))


def test_unroll_takes_trees_of_inputs_and_gives_trees_of_outputs() -> None:
    xs = {"a": mg.tensor(np.arange(3.0).reshape(3, 1)), "b": mg.tensor(np.ones((3, 1, 2)))}
    final, ys = nn.unroll(
        lambda s, x: (s + x["a"], (s, x["b"])), mg.tensor([0.0]), xs, reverse=True
    )
    assert final.tolist() == [3.0]
    assert ys[0].tolist() == [[3.0], [2.0], [0.0]]
    assert ys[1].shape == (3, 1, 2)
    with pytest.raises(mg.ShapeError, match=r"a float64\[2, 1\], b float64\[3, 1, 2\]"):
        nn.unroll(lambda s, x: (s, s), mg.tensor([0.0]), {**xs, "a": mg.tensor(np.ones((2, 1)))})
