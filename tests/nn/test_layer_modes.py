"""A layer computes the same compiled as on the tape: outputs, states and all gradients."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compile.agree import assert_agree, close
from modes import each_mode

import minigrad as mg
from minigrad import nn
from minigrad.tree import leaves

KINDS: dict[str, Callable[..., Any]] = {
    "rnn": nn.RNN,
    "relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
    "lstm": nn.LSTM,
    "projected": lambda *sizes, **options: nn.LSTM(*sizes, proj_size=PROJECTED, **options),
    "gru": nn.GRU,
    "reset-before": lambda *sizes, **options: nn.GRU(*sizes, reset_after=False, **options),
}
STACKED: dict[str, Any] = dict(num_layers=2, bidirectional=True, dropout=0.4)
OPTIONS: dict[str, dict[str, Any]] = {
    "one layer": {},
    "bidirectional": dict(bidirectional=True, merge="mul"),
    "last step": dict(return_sequences=False, bidirectional=True),
    "stacked": STACKED,
    "stacked, batch first": dict(batch_first=True, merge="mean", **STACKED),
}
T, B, H, PROJECTED = 5, 3, 4, 2
LENGTHS = [4, 5, 1]


def inputs_of(kind: str) -> int:
    """As many as come out of two directions: so every layer here runs the same kernels."""
    return 2 * (PROJECTED if kind == "projected" else H)


def made(kind: str, rng: np.random.Generator, **options: Any) -> Any:
    return KINDS[kind](inputs_of(kind), H, dtype=np.float64, generator=rng, **options)


def leaf(rng: np.random.Generator, *shape: int, name: str = "x") -> mg.Tensor:
    return mg.tensor(rng.normal(size=shape), requires_grad=True, name=name)


def given(layer: Any, rng: np.random.Generator) -> tuple[mg.Tensor, Any]:
    """x and an initial state, with gradients."""
    sizes = [layer.cells[0].output_size, *([H] if isinstance(layer, nn.LSTM) else [])]
    states = [leaf(rng, len(layer.cells), B, n, name=name) for n, name in zip(sizes, "hc")]
    x = leaf(rng, *((B, T) if layer.batch_first else (T, B)), layer.input_size)
    return x, nn.LSTMState(*states) if len(states) > 1 else states[0]


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "padded"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_fused_equals_tape(kind: str, options: str, lengths: Any, rng: np.random.Generator) -> None:
    layer = made(kind, rng, **OPTIONS[options])
    x, state = given(layer, rng)

    def run(mode: str) -> Any:
        layer.mode = mode
        layer.generator = np.random.default_rng(1)  # dropout: the same units every time
        return layer(x, state, lengths)

    assert_agree(run, [x, *leaves(state), *layer.parameters()], np.float64)
    assert all(s.grad.numpy().any() for s in leaves(state))


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_fused_equals_tape_without_a_batch_or_a_state(kind: str, rng: np.random.Generator) -> None:
    layer, x = made(kind, rng), leaf(rng, T, inputs_of(kind))

    def run(mode: str) -> Any:
        layer.mode = mode
        return layer(x)

    assert_agree(run, [x, *layer.parameters()], np.float64)


@each_mode
def test_explain_says_what_ran_in_every_layer_and_direction(
    mode: str, rng: np.random.Generator
) -> None:
    layer = made("gru", rng, num_layers=2, bidirectional=True, mode=mode)
    assert layer.explain() == "GRU has not run yet; call it, then ask."
    x, state = given(layer, rng)
    layer(x, state)[0].sum().backward()
    parts = dict(part.split(": ", 1) for part in layer.explain().split("\n\n"))
    assert list(parts) == ["l0", "l0_reverse", "l1", "l1_reverse"]
    for name, said in parts.items():
        if mode == "tape":
            assert said.startswith("mode='tape': every step ran as eager operations")
        else:
            assert said.startswith(f"scan of grucell: {T} steps of {B} rows")
            assert ("last step first" in said) == name.endswith("_reverse")
            assert "not run yet" not in said
    layer.mode = "fused" if mode == "tape" else "tape"
    layer(x, state)
    assert ("scan of" in layer.explain()) == (mode == "tape")


@each_mode
def test_copies_and_pickles_of_a_layer_that_ran_run_on_their_own(
    mode: str, rng: np.random.Generator
) -> None:
    layer = made("lstm", rng, num_layers=2, bidirectional=True, mode=mode)
    x, state = given(layer, rng)
    for _ in range(3):  # by then it is known
        before = layer(x, state)[0].numpy()
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(twin(x, state)[0].numpy(), before)
        twin(x, state)[0].sum().backward()
        assert all(p.grad is None for p in layer.parameters())
        twin.weight_hh_l1.data[:] = 0.0
        assert not np.array_equal(twin(x, state)[0].numpy(), before)
        np.testing.assert_array_equal(layer(x, state)[0].numpy(), before)


def other_parameter(layer: Any) -> None:
    layer.weight_hh_l0 = nn.Parameter(0.5 * layer.weight_hh_l0.numpy(), np.float64)


def other_array(layer: Any) -> None:
    layer.weight_hh_l0.data = 0.5 * layer.weight_hh_l0.numpy()


def edited(layer: Any) -> None:
    layer.weight_hh_l0.data[0] *= 0.5


def loaded(layer: Any) -> None:
    layer.load_state_dict({k: 0.5 * a for k, a in layer.state_dict().items()})


def without_bias(layer: Any) -> None:
    layer.cells[0].bias_hh = None


def other_option(layer: Any) -> None:
    layer.cells[0].update = "write"


def other_cell(layer: Any) -> None:
    layer.cells[0] = nn.GRUCell(2 * H, H, reset_after=False, dtype=np.float64)


def frozen(layer: Any) -> None:
    layer.weight_hh_l0.requires_grad = False


@pytest.mark.parametrize(
    "change",
    [other_parameter, other_array, edited, loaded, without_bias, other_option, other_cell, frozen],
)
def test_a_layer_that_was_changed_runs_as_it_is_now(change: Any, rng: np.random.Generator) -> None:
    layer = made("gru", rng)
    x, state = given(layer, rng)
    for _ in range(3):  # by then its trace is remembered
        before = layer(x, state)[0].numpy()
    change(layer)
    results = {}
    for mode in ("fused", "tape"):
        layer.mode = mode
        layer.zero_grad()
        output, _ = layer(x, state)
        output.sum().backward()
        results[mode] = [output, *(p.grad for p in layer.parameters() if p.grad is not None)]
    for k, (got, want) in enumerate(zip(results["fused"], results["tape"], strict=True)):
        close(f"result {k}", got.numpy(), want.numpy(), 1e-12)
    assert np.array_equal(results["fused"][0].numpy(), before) == (change is frozen)


def test_a_layer_moves_to_another_dtype(rng: np.random.Generator) -> None:
    layer = made("lstm", rng)
    x, state = given(layer, rng)
    double = layer(x, state)[0].numpy()
    layer.to(np.float32)
    single = layer(x.astype(np.float32), [s.astype(np.float32) for s in state])[0].numpy()
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-6)


def test_the_generator_of_dropout_makes_both_modes_drop_the_same(rng: np.random.Generator) -> None:
    layer = made("rnn", rng, num_layers=2, dropout=0.5)
    x, _ = given(layer, rng)
    outputs = []
    for mode in ("fused", "tape", "fused"):
        layer.mode, layer.generator = mode, np.random.default_rng(len(outputs) // 2)
        outputs.append(layer(x)[0].numpy())
    close("output", outputs[0], outputs[1], 1e-13)
    assert not np.allclose(outputs[0], outputs[2])
