"""Other people's values for the same equations: ONNX Runtime's C++ tests, Keras 3, Stanford CS231n.

The data live beside the project (their README says what each file can and cannot see); where they
are missing, these tests skip.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "conformance"
F64: dict[str, Any] = {"dtype": np.float64}

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no data in {FOLDER}")


def read(name: str) -> Any:
    path = FOLDER / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def regate(w: np.ndarray, theirs: str, ours: str) -> np.ndarray:
    """Gates stacked on the first axis, brought from one order into another."""
    blocks = dict(zip(theirs, np.split(np.asarray(w, np.float64), len(theirs)), strict=True))
    return np.concatenate([blocks[gate] for gate in ours])


# ------------------------------------------------------------------------------------ ONNX Runtime

STANDARD = {"RNN": ["tanh"], "LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"]}
GATES = {"RNN": ("h", "h"), "LSTM": ("iofc", "ifco"), "GRU": ("zrh", "rzh")}


class Peephole(nn.LSTMCell):
    """LSTM whose gates see the cell state (Gers 2002), with ONNX's clip and coupled gates."""

    peepholes: Any = (0.0, 0.0, 0.0)
    clip: float = np.inf
    coupled: bool = False

    def step(self, state: Any, a: Any, W: Any, W_hr: Any) -> Any:
        h, c = state
        p_i, p_o, p_f = self.peepholes
        i, f, g, o = mg.split(a + h @ W, 4, axis=-1)
        i = mg.sigmoid(self.limit(i + p_i * c))
        f = 1 - i if self.coupled else mg.sigmoid(self.limit(f + p_f * c))
        c = f * c + i * mg.tanh(self.limit(g))
        h = mg.sigmoid(self.limit(o + p_o * c)) * mg.tanh(c)
        return nn.LSTMState(h, c), h

    def limit(self, x: Any) -> Any:
        return mg.clip(x, -self.clip, self.clip) if np.isfinite(self.clip) else x


def onnx_cases() -> list[Any]:
    """The cases that use the standard activations (the RNN's may also be relu)."""
    chosen = []
    for case in read("onnxruntime_cpp_rnn_cases.json").get("cases", []):
        used = [a.lower() for a in case["attributes"].get("activations", STANDARD[case["op"]])]
        n = len(STANDARD[case["op"]])
        directions = [used[i : i + n] for i in range(0, len(used), n)]
        if all(d == STANDARD[case["op"]] or d == ["relu"] for d in directions):
            empty = "AllZeros" in case["name"]  # no row has a step; minigrad refuses that
            if case["expect"] == "success" and not empty:
                chosen.append(pytest.param(case, directions, id=case["name"]))
    return chosen


@pytest.mark.parametrize(("case", "activations"), onnx_cases())
def test_onnx_runtime(case: Any, activations: Any) -> None:
    with np.load(FOLDER / "onnxruntime_cpp_rnn_cases.npz") as stored:
        given = {
            key.split("/")[-1]: stored[key].astype(np.float64)
            for key in stored.files
            if key.startswith(f"{case['name']}/")
        }
    op, attributes = case["op"], case["attributes"]
    X, H = given["X"], attributes["hidden_size"]
    lengths = given.get("sequence_lens", np.full(X.shape[1], len(X))).astype(int)
    rows = np.flatnonzero(lengths)  # minigrad refuses empty rows; ONNX answers zeros for them
    direction = attributes.get("direction", "forward")
    for d, reverse in enumerate(
        {"bidirectional": (False, True)}.get(direction, (direction == "reverse",))
    ):
        cell: Any
        if op == "RNN":
            cell = nn.RNNCell(X.shape[2], H, nonlinearity=activations[d][0], **F64)
        elif op == "GRU":
            after = bool(attributes.get("linear_before_reset", 0))
            cell = nn.GRUCell(X.shape[2], H, reset_after=after, **F64)
        else:
            cell = Peephole(X.shape[2], H, **F64)
            cell.clip = attributes.get("clip", np.inf)
            cell.coupled = bool(attributes.get("input_forget", 0))
            if "P" in given:
                cell.peepholes = np.split(given["P"][d], 3)
        B = given["B"][d] if "B" in given else np.zeros(2 * len(cell.gates) * H)
        arrays = dict(zip(("bias_ih", "bias_hh"), np.split(B, 2)))
        arrays |= {"weight_ih": given["W"][d], "weight_hh": given["R"][d]}
        cell.load_state_dict({k: regate(w, *GATES[op]) for k, w in arrays.items()})

        zeros = np.zeros((2, *X.shape[1:2], H))
        state = mg.tensor(given.get("initial_h", zeros)[d][rows])
        if op == "LSTM":
            state = nn.LSTMState(state, mg.tensor(given.get("initial_c", zeros)[d][rows]))
        final, ys = nn.unroll(cell, state, mg.tensor(X[:, rows]), lengths[rows], reverse)
        found = {"Y": (ys, lambda y, d=d: y[:, d]), "Y_h": (final, lambda y, d=d: y[d])}
        if op == "LSTM":
            found |= {"Y_h": (final.h, found["Y_h"][1]), "Y_c": (final.c, found["Y_h"][1])}
        for name, (got, part) in found.items():
            if name in given:
                expected = part(given[name])
                expected = expected[:, rows] if name == "Y" else expected[rows]
                np.testing.assert_allclose(got.data, expected, rtol=1e-3, atol=1e-4, err_msg=name)


# ------------------------------------------------------------------------------------------- Keras


def keras_cases() -> list[Any]:
    """One call of a plain layer or of two directions; the rest tests Keras's own machinery."""
    chosen = []
    for case in read("keras_rnn_cases.json").get("cases", []):
        model = case["model"]
        inner = model.get("layer", model)
        call = case["events"][0].get("call", {})
        plain = {"type", "units", "weights", "reset_after", "use_bias", "unit_forget_bias"}
        plain |= {"unroll", "return_sequences", "layer", "merge_mode"}
        if (
            len(case["events"]) == 1
            and set(call) == {"inputs"}
            and set(model) | set(inner) <= plain
            and inner["type"] in ("SimpleRNN", "LSTM", "GRU")
            and model.get("merge_mode", "concat") is not None
        ):
            chosen.append(pytest.param(case, id=case["name"]))
    return chosen


@pytest.mark.parametrize("case", keras_cases())
def test_keras(case: Any) -> None:
    model = case["model"]
    inner = model.get("layer", model)
    recipe = case["events"][0]["call"]["inputs"][0]
    size = int(np.prod(recipe["shape"]))
    values = {"arange": np.arange(size), "ones": np.ones(size), "zeros": np.zeros(size)}
    x = values.get(recipe["recipe"], np.asarray(recipe.get("values", 0.0))).astype(np.float64)
    x = x.reshape(recipe["shape"]) * recipe.get("times", 1)
    options: dict[str, Any] = dict(batch_first=True, bidirectional="layer" in model, **F64)
    options["merge"] = {"ave": "mean"}.get(
        model.get("merge_mode"), model.get("merge_mode", "concat")
    )
    options["return_sequences"] = inner.get("return_sequences", False)
    if inner["type"] == "GRU":
        options["reset_after"] = inner.get("reset_after", True)
    kinds: dict[str, Any] = {"SimpleRNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
    layer = kinds[inner["type"]](x.shape[2], inner["units"], **options)
    constants = {k: 1.0 if v == "ones" else v for k, v in inner["weights"].items()}
    for cell in layer.cells:
        nn.init.constant_(cell.weight_ih, constants["kernel"])
        nn.init.constant_(cell.weight_hh, constants["recurrent"])
        bias = constants.get("bias", 0.0) if inner.get("use_bias", True) else 0.0
        nn.init.constant_(cell.bias_ih, bias)
        two_biases = inner["type"] == "GRU" and options["reset_after"]
        nn.init.constant_(cell.bias_hh, bias if two_biases else 0.0)
        if (
            inner["type"] == "LSTM"
            and inner.get("unit_forget_bias", True)
            and inner.get("use_bias", True)
        ):
            nn.init.forget_bias_(cell, 1.0)
    output, _ = layer(x)
    got = output.data[tuple(case["array_index"])] if case["array_index"] else output.data
    np.testing.assert_allclose(got, case["expected"], rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------ CS231n


def linspace(recipe: Any) -> np.ndarray:
    return np.linspace(recipe["start"], recipe["stop"], int(np.prod(recipe["shape"]))).reshape(
        recipe["shape"]
    )


def spread(module: nn.Module, name: str, shape: tuple[int, ...], gates: str = "") -> None:
    """Their parameter `name`, spread from -1.4 to 1.3 in their layout, into ours."""
    values = np.linspace(-1.4, 1.3, int(np.prod(shape))).reshape(shape).T
    getattr(module, name).data = regate(values, gates, "ifgo") if gates == "ifog" else values


def cs231n_cases(kind: str) -> list[Any]:
    cases = read("extra_golden_cases.json").get("cs231n", {}).get("cases", [])
    return [
        pytest.param(c, id=c["name"])
        for c in cases
        if ("loss" in c["expected"]) == (kind == "loss")
    ]


@pytest.mark.parametrize("case", cs231n_cases("layer"))
def test_cs231n_layers(case: Any) -> None:
    given = {name: linspace(recipe) for name, recipe in case["inputs"].items()}
    lstm, step = "lstm" in case["name"], "step" in case["name"]
    cell = (nn.LSTMCell if lstm else nn.RNNCell)(given["Wx"].shape[0], given["Wh"].shape[0], **F64)
    order = ("ifog", "ifgo") if lstm else ("h", "h")
    arrays = {"weight_ih": given["Wx"].T, "weight_hh": given["Wh"].T, "bias_ih": given["b"]}
    arrays["bias_hh"] = np.zeros_like(given["b"])
    cell.load_state_dict({k: regate(w, *order) for k, w in arrays.items()})
    h = mg.tensor(given["prev_h" if step else "h0"])
    c = mg.tensor(given.get("prev_c", np.zeros(h.shape)))
    state = nn.LSTMState(h, c) if lstm else h
    if step:
        new, _ = cell(state, given["x"])
        found = {"next_h": new.h, "next_c": new.c} if lstm else {"next_h": new}
    else:
        _, ys = nn.unroll(cell, state, mg.tensor(given["x"].swapaxes(0, 1)))
        found = {"h": ys.swapaxes(0, 1)}
    for name, expected in case["expected"].items():
        np.testing.assert_allclose(found[name].data, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", cs231n_cases("loss"))
def test_cs231n_captioning_loss(case: Any) -> None:
    """Linear, Embedding, a recurrent layer and cross_entropy with ignore_index, together."""
    N, D, W, H, V, T = (case["dims"][k] for k in "NDWHVT")
    lstm = case["cell"] == "lstm"
    gates = "ifog" if lstm else "h"
    project, embed, head = nn.Linear(D, H, **F64), nn.Embedding(V, W, **F64), nn.Linear(H, V, **F64)
    layer = (nn.LSTM if lstm else nn.RNN)(W, H, batch_first=True, **F64)
    spread(project, "weight", (D, H))
    spread(project, "bias", (H,))
    embed.weight.data = np.linspace(-1.4, 1.3, V * W).reshape(V, W)
    for name, size in [("weight_ih", W), ("weight_hh", H)]:
        spread(layer.cells[0], name, (size, len(gates) * H), gates)
    spread(layer.cells[0], "bias_ih", (len(gates) * H,), gates)
    nn.init.constant_(layer.cells[0].bias_hh)
    spread(head, "weight", (H, V))
    spread(head, "bias", (V,))
    captions = (np.arange(N * T) % V).reshape(N, T)
    h_0 = project(linspace(case["features"])).reshape((1, N, H))
    state = (h_0, np.zeros((1, N, H))) if lstm else h_0
    hs, _ = layer(embed(captions[:, :-1]), state)
    loss = nn.cross_entropy(head(hs), captions[:, 1:], ignore_index=0, reduction="sum") / N
    assert loss.item() == pytest.approx(case["expected"]["loss"], rel=1e-10)
