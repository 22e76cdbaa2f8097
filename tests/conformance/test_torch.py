"""RNN, LSTM and GRU give what torch.nn gives: outputs, states and every gradient."""

from __future__ import annotations

from typing import Any

import modes
import numpy as np
import pytest
from golden.store import Case, cases, gradients, weighted_loss
from modes import MODES, each_mode, thin

import minigrad as mg
from minigrad import nn

RECURRENT, CELLS = cases("recurrent"), cases("cells")
WITH_UPDATE_GATE = [name for name in RECURRENT if name.startswith("gru-") and "-bias" in name]
KINDS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
CELL_KINDS: dict[str, Any] = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}


def leaf(case: Case, name: str) -> mg.Tensor | None:
    array = case.arrays.get(name)
    return None if array is None else mg.tensor(array, requires_grad=True)


def check(case: Case, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    """Outputs and gradients agree with the stored ones."""
    for name, y in outputs.items():
        np.testing.assert_allclose(y.data, case.arrays[name], rtol=1e-10, atol=1e-10, err_msg=name)
    weighted_loss(case, outputs).backward()
    expected = gradients(case)
    assert set(inputs) == set(expected)
    for name, g in expected.items():
        got, what = inputs[name].grad, f"gradient of {name}"
        assert got is not None, f"no {what}"
        np.testing.assert_allclose(got.data, g, rtol=1e-10, atol=1e-10, err_msg=what)


@each_mode
@pytest.mark.parametrize("name", thin(RECURRENT, 3))
def test_layer_equals_torch(name: str, mode: str) -> None:
    case = RECURRENT[name]
    options = dict(case.options)
    kind, lengths = options.pop("kind"), options.pop("lengths")
    layer = KINDS[kind.partition("_")[0]](**options, dtype=np.float64, mode=mode)
    parameters = dict(layer.named_parameters())
    # torch's checkpoint loads as it is: the same names, in the same order, with the same shapes.
    assert list(parameters) == [k for k in gradients(case) if k not in ("x", "h_0", "c_0")]
    layer.load_state_dict({k: case.arrays[k] for k in parameters})

    inputs = {k: leaf(case, k) for k in ("x", "h_0", "c_0") if k in case.arrays}
    state = inputs.get("h_0") if "c_0" not in inputs else (inputs["h_0"], inputs["c_0"])
    output, final = layer(inputs["x"], state, lengths)
    outputs = {"output": output}
    outputs |= dict(zip(("h_n", "c_n"), final)) if kind.startswith("lstm") else {"h_n": final}
    check(case, inputs | parameters, outputs)


@each_mode
@pytest.mark.parametrize("name", thin(WITH_UPDATE_GATE, 3))
def test_a_gate_that_writes_is_torchs_gate_that_keeps_negated(name: str, mode: str) -> None:
    """1 - sigmoid(a) = sigmoid(-a): the rows of z change their sign, and so do their gradients."""

    def negated(parameter: str, w: np.ndarray) -> np.ndarray:
        """The rows of z, if it is a parameter of the layer."""
        if not parameter.startswith(("weight", "bias")):
            return w
        r, z, n = np.split(w, 3)
        return np.concatenate([r, -z, n])

    case = RECURRENT[name]
    options = {k: v for k, v in case.options.items() if k not in ("kind", "lengths")}
    layer = nn.GRU(**options, update="write", dtype=np.float64, mode=mode)
    parameters = dict(layer.named_parameters())
    layer.load_state_dict({k: negated(k, case.arrays[k]) for k in parameters})
    inputs: dict[str, Any] = {k: leaf(case, k) for k in ("x", "h_0") if k in case.arrays}
    output, h_n = layer(inputs["x"], inputs.get("h_0"), case.options["lengths"])
    turned = {k.removeprefix("grad."): k for k in case.arrays if k.startswith("grad.")}
    arrays = case.arrays | {k: negated(name, case.arrays[k]) for name, k in turned.items()}
    check(case._replace(arrays=arrays), inputs | parameters, {"output": output, "h_n": h_n})


def test_stored_cases_cover_every_pair_of_options() -> None:
    def settings(case: Case) -> set[tuple[str, Any]]:
        o = case.options
        layout = ("batch_first", o["batch_first"]), ("batched", case.arrays["x"].ndim == 3)
        rest = ("lengths", o["lengths"] is not None), ("state", "h_0" in case.arrays)
        named = ((k, o[k]) for k in ("num_layers", "bidirectional", "bias"))
        return {*layout, *rest, *named}

    impossible = (
        {("batched", False), ("lengths", True)},
        {("batched", False), ("batch_first", True)},
    )
    for kind in ("rnn_tanh", "rnn_relu", "lstm", "gru"):
        seen = [settings(c) for c in RECURRENT.values() if c.options["kind"] == kind]
        single = sorted(set().union(*seen), key=str)
        for i, a in enumerate(single):
            for b in single[i + 1 :]:
                if a[0] != b[0] and {a, b} not in impossible and not {a, b} <= {("batched", False)}:
                    assert any({a, b} <= s for s in seen), (kind, a, b)


@pytest.mark.parametrize("mode", ["one call", *MODES])
@pytest.mark.parametrize("name", CELLS)
def test_cell_equals_torch(name: str, mode: str) -> None:
    case = CELLS[name]
    options = dict(case.options)
    kind = options.pop("kind").partition("_")[0]
    cell = CELL_KINDS[kind](**options, dtype=np.float64)
    parameters = dict(cell.named_parameters())
    cell.load_state_dict({k: case.arrays[k] for k in parameters})
    inputs = {k: leaf(case, k) for k in ("x", "h", "c") if k in case.arrays}
    state = nn.LSTMState(inputs["h"], inputs["c"]) if kind == "lstm" else inputs["h"]
    if mode == "one call":
        new, y = cell(state, inputs["x"])
    else:
        new, ys = modes.run(cell, state, mg.expand_dims(inputs["x"], 0), mode=mode)
        y = ys[0]
    outputs = {"new_h": new.h, "new_c": new.c} if kind == "lstm" else {"new_h": new}
    assert np.array_equal(y.data, outputs["new_h"].data)
    check(case, inputs | parameters, outputs)
