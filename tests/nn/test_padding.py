"""Padding: a row of length L in a longer batch behaves as if it had come alone, cut at L."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad import nn
from minigrad.tree import leaves

KINDS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
OPTIONS: dict[str, Any] = dict(
    num_layers=2, bidirectional=True, dtype=np.float64, generator=np.random.default_rng(0)
)
LAYERS = {kind: layer(2, 3, **OPTIONS) for kind, layer in KINDS.items()}


def run(
    layer: Any, x: np.ndarray, lengths: Any, weight: np.ndarray, **given: Any
) -> dict[str, np.ndarray]:
    """Outputs, states and all gradients of sum(weight * output) + sum(cos(states))."""
    layer.zero_grad()
    x_leaf = mg.tensor(x, requires_grad=True)
    output, final = layer(x_leaf, lengths=lengths, **given)
    loss = (output * weight).sum()
    for state in leaves(final):
        loss = loss + mg.cos(state).sum()
    loss.backward()
    found = {f"state {i}": s.numpy() for i, s in enumerate(leaves(final))}
    found |= {name: p.grad.numpy() for name, p in layer.named_parameters()}
    return found | {"output": output.numpy(), "x": x_leaf.grad.numpy()}


@pytest.mark.parametrize("kind", KINDS)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    extra=st.integers(0, 3),
    fill=st.sampled_from([0.0, 7.0, 1e30, np.nan, np.inf]),
    seed=st.integers(0, 2**32 - 1),
)
def test_padding_changes_neither_outputs_nor_gradients(
    kind: str, lengths: list[int], extra: int, fill: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    time, batch = max(lengths), len(lengths)
    x, weight = rng.normal(size=(time, batch, 2)), rng.normal(size=(time, batch, 6))
    padding = np.arange(time)[:, None] >= np.array(lengths)
    short = run(LAYERS[kind], np.where(padding[..., None], 0.0, x), lengths, weight)

    x_long = np.full((time + extra, batch, 2), fill)
    x_long[:time] = np.where(padding[..., None], fill, x)
    weight_long = np.concatenate([weight, rng.normal(size=(extra, batch, 6))])
    long = run(LAYERS[kind], x_long, lengths, weight_long)

    for name, expected in short.items():
        got = long[name]
        if name in ("output", "x"):
            assert not got[time:].any()
            assert not got[:time][padding].any()
            got = got[:time]
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_equals_itself_alone(kind: str, rng: np.random.Generator) -> None:
    layer, lengths = LAYERS[kind], [3, 5, 1, 4]
    x, weight = rng.normal(size=(5, 4, 2)), rng.normal(size=(5, 4, 6))
    together = run(layer, x, lengths, weight)
    alone = [
        run(layer, x[:n, [b]], None, weight[:n, [b]]) for b, n in enumerate(lengths)
    ]  # cut, not padded
    for name, expected in together.items():
        if name in ("output", "x"):
            for b, n in enumerate(lengths):
                np.testing.assert_allclose(alone[b][name][:, 0], expected[:n, b], rtol=1e-12)
        elif name.startswith("state"):
            for b in range(4):
                np.testing.assert_allclose(alone[b][name][:, 0], expected[:, b], rtol=1e-12)
        else:
            total = sum(row[name] for row in alone)
            np.testing.assert_allclose(total, expected, rtol=1e-11, atol=1e-12, err_msg=name)


T, B = 6, 4
RNG = np.random.default_rng(3)
STEPS = np.arange(T)[:, None]
MASKS = {
    "padded in front": np.array([3, 0, 5, 2]) <= STEPS,
    "padded behind": np.array([3, 6, 1, 4]) > STEPS,
    "gaps": RNG.random((T, B)) < 0.6,
}
MASKS["gaps"][2] = True  # a row by itself has a step


def layers() -> Any:
    """Layers of every kind, stacked and merged in every way."""
    for merge in ("concat", "sum", "mean", "mul"):
        yield "gru", dict(num_layers=2, bidirectional=True, merge=merge)
    yield "lstm", dict(num_layers=2, bidirectional=True, proj_size=2)
    yield "rnn", dict(num_layers=2)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize(("kind", "options"), list(layers()))
def test_real_steps_wherever_they_are_equal_themselves_alone(
    kind: str, options: dict[str, Any], name: str, rng: np.random.Generator
) -> None:
    layer, mask = KINDS[kind](2, 3, **OPTIONS | options), MASKS[name]
    x = rng.normal(size=(T, B, 2))
    size = layer(x)[0].shape[-1]
    weight = rng.normal(size=(T, B, size))
    x[~mask] = np.nan
    together = run(layer, x, None, weight, mask=mask)
    assert not together["output"][~mask].any()
    assert not together["x"][~mask].any()
    alone = [
        run(layer, x[mask[:, b], b][:, None], None, weight[mask[:, b], b][:, None])
        for b in range(B)
    ]
    for what, expected in together.items():
        if what in ("output", "x"):
            for b in range(B):
                np.testing.assert_allclose(
                    alone[b][what][:, 0], expected[mask[:, b], b], rtol=1e-12, atol=1e-14
                )
        elif what.startswith("state"):
            for b in range(B):
                np.testing.assert_allclose(alone[b][what][:, 0], expected[:, b], rtol=1e-12)
        else:
            total = sum(row[what] for row in alone)
            np.testing.assert_allclose(total, expected, rtol=1e-10, atol=1e-12, err_msg=what)


@pytest.mark.parametrize("kind", KINDS)
def test_episodes_of_a_layer_equal_episodes_run_one_by_one(
    kind: str, rng: np.random.Generator
) -> None:
    layer = LAYERS[kind]
    x, weight = rng.normal(size=(T, B, 2)), rng.normal(size=(T, B, 6))
    begins = rng.random((T, B)) < 0.4
    x_leaf = mg.tensor(x, requires_grad=True)
    output, final = layer(x_leaf, resets=begins)
    layer.zero_grad()
    (output * weight).sum().backward()
    found = {n: p.grad.numpy().copy() for n, p in layer.named_parameters()}
    layer.zero_grad()
    for b in range(B):
        starts = [0, *(t for t in range(1, T) if begins[t, b]), T]
        ends = []
        for first, last in itertools.pairwise(starts):
            own = mg.tensor(x[first:last, [b]], requires_grad=True)
            alone, end = layer(own)
            ends.append(leaves(end))
            np.testing.assert_allclose(alone.data[:, 0], output.data[first:last, b], rtol=1e-12)
            (alone * weight[first:last, [b]]).sum().backward()
            np.testing.assert_allclose(own.grad.data[:, 0], x_leaf.grad.data[first:last, b], 1e-12)
        for k, state in enumerate(leaves(final)):  # (layers * directions, B, H)
            np.testing.assert_allclose(state.data[0::2, b], ends[-1][k].data[0::2, 0], 1e-12)
            np.testing.assert_allclose(state.data[1::2, b], ends[0][k].data[1::2, 0], 1e-12)
    for name, parameter in layer.named_parameters():
        np.testing.assert_allclose(parameter.grad.data, found[name], rtol=1e-10, atol=1e-12)


def test_masks_and_resets_have_the_leading_axes_of_x(rng: np.random.Generator) -> None:
    layer = nn.GRU(2, 3, dtype=np.float64, bidirectional=True, return_sequences=False)
    x, mask = rng.normal(size=(T, B, 2)), MASKS["gaps"]
    resets = mask & (rng.random((T, B)) < 0.5)
    output, h_n = layer(x, mask=mask, resets=resets)
    np.testing.assert_array_equal(output.data, np.concatenate([*h_n.data], axis=-1))
    layer.batch_first = True
    turned, _ = layer(np.swapaxes(x, 0, 1), mask=mask.T, resets=resets.T)
    np.testing.assert_array_equal(turned.data, output.data)
    one, _ = layer(x[:, 0], mask=mask[:, 0], resets=resets[:, 0])
    np.testing.assert_allclose(one.data, output.data[0], rtol=1e-12)
    empty, _ = layer(np.swapaxes(x, 0, 1), lengths=[0, 1, 2, 0])
    assert not empty.data[[0, 3]].any()
    with pytest.raises(mg.ShapeError, match=r"GRU: mask should be \(T, B\) = \[6, 4\]"):
        layer(np.swapaxes(x, 0, 1), mask=mask)


def test_both_directions_follow_the_row_by_row_reference(rng: np.random.Generator) -> None:
    layer = nn.LSTM(2, 3, bidirectional=True, dtype=np.float64)
    x, lengths = rng.normal(size=(5, 3, 2)), [2, 5, 1]
    output, (h_n, c_n) = layer(x, lengths=lengths)
    for direction, cell in enumerate(layer.cells):
        w = {name: p.numpy() for name, p in cell.named_parameters()}
        for b, length in enumerate(lengths):
            (h, c), states = reference.run(
                lambda s, x_t, w=w: reference.lstm_step(w, s, x_t),
                (np.zeros(3), np.zeros(3)),
                x[:, b],
                length,
                reverse=direction == 1,
            )
            np.testing.assert_allclose(h_n.data[direction, b], h, rtol=1e-12)
            np.testing.assert_allclose(c_n.data[direction, b], c, rtol=1e-12)
            half = output.data[:, b, 3 * direction : 3 * direction + 3]
            for t, state in enumerate(states):
                expected = np.zeros(3) if state is None else state[0]
                np.testing.assert_allclose(half[t], expected, rtol=1e-12)


def test_full_lengths_give_the_same_tape_as_none(rng: np.random.Generator) -> None:
    x = rng.normal(size=(3, 2, 2))
    layer = nn.GRU(2, 3, dtype=np.float64, mode="tape")
    with mg.Tape() as plain:
        layer(x)
    with mg.Tape() as padded:
        layer(x, lengths=[3, 3])
    assert [n.op.name for n in padded.nodes] == [n.op.name for n in plain.nodes]


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        (
            [2, 5, 1],
            mg.ShapeError,
            r"lengths\[1\] is 5, and the input has 4 steps; expected 0 to 4",
        ),
        ([2, -1, 1], mg.ShapeError, r"lengths\[1\] is -1"),
        ([2, 2], mg.ShapeError, r"each of the 3 rows of the batch, got int64\[2\]"),
        (3, mg.ShapeError, "each of the 3 rows"),
        ([[2, 2, 2]], mg.ShapeError, "each of the 3 rows"),
        ([2.0, 2.0, 2.0], mg.DTypeError, r"integers; got float64\[3\]"),
        ([True, True, True], mg.DTypeError, "integers; got bool"),
    ],
)
def test_bad_lengths_are_refused(lengths: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        LAYERS["gru"](np.zeros((4, 3, 2)), lengths=lengths)
