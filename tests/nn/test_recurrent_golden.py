"""RNN, LSTM and GRU give what torch.nn gives: outputs, states and every gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden.store import Case, cases, gradients, weighted_loss

import minigrad as mg
from minigrad import nn

RECURRENT, CELLS = cases("recurrent"), cases("cells")
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
        got = inputs[name].grad.data
        np.testing.assert_allclose(got, g, rtol=1e-10, atol=1e-10, err_msg=f"gradient of {name}")


@pytest.mark.parametrize("name", RECURRENT)
def test_layer_equals_torch(name: str) -> None:
    case = RECURRENT[name]
    options = dict(case.options)
    kind, lengths = options.pop("kind"), options.pop("lengths")
    layer = KINDS[kind.partition("_")[0]](**options, dtype=np.float64)
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


@pytest.mark.parametrize("name", CELLS)
def test_cell_equals_torch(name: str) -> None:
    case = CELLS[name]
    options = dict(case.options)
    kind = options.pop("kind").partition("_")[0]
    cell = CELL_KINDS[kind](**options, dtype=np.float64)
    parameters = dict(cell.named_parameters())
    cell.load_state_dict({k: case.arrays[k] for k in parameters})
    inputs = {k: leaf(case, k) for k in ("x", "h", "c") if k in case.arrays}
    state = nn.LSTMState(inputs["h"], inputs["c"]) if kind == "lstm" else inputs["h"]
    new, y = cell(state, inputs["x"])
    outputs = {"new_h": new.h, "new_c": new.c} if kind == "lstm" else {"new_h": new}
    assert y is outputs["new_h"]
    check(case, inputs | parameters, outputs)
