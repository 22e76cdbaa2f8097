"""The published checks of Stanford's CS231n, assignment 3: their layers, made of ours."""

from __future__ import annotations

from typing import Any

import modes
import numpy as np
from conformance.gates import to_ours
from conformance.stored import read

import minigrad as mg
from minigrad import nn

F64: dict[str, Any] = {"dtype": np.float64}


def cs231n_cases() -> list[Any]:
    return read("extra_golden_cases.json").get("cs231n", {}).get("cases", [])


def layer_cases() -> list[Any]:
    return [case for case in cs231n_cases() if "loss" not in case["expected"]]


def loss_cases() -> list[Any]:
    return [case for case in cs231n_cases() if "loss" in case["expected"]]


def linspace(recipe: Any) -> np.ndarray:
    shape = recipe["shape"]
    return np.linspace(recipe["start"], recipe["stop"], int(np.prod(shape))).reshape(shape)


def layer_values(case: Any, mode: str) -> dict[str, np.ndarray]:
    """Their rnn_forward, lstm_forward, or one step of them; x is (N, T, D) or (N, D)."""
    given = {name: linspace(recipe) for name, recipe in case["inputs"].items()}
    op, step = ("LSTM" if "lstm" in case["name"] else "RNN"), "step" in case["name"]
    kind: Any = nn.LSTMCell if op == "LSTM" else nn.RNNCell
    cell = kind(len(given["Wx"]), len(given["Wh"]), **F64)
    arrays = {"weight_ih": given["Wx"].T, "weight_hh": given["Wh"].T, "bias_ih": given["b"]}
    arrays["bias_hh"] = np.zeros_like(given["b"])
    cell.load_state_dict({k: to_ours(w, op, "cs231n") for k, w in arrays.items()})
    h = mg.tensor(given["prev_h" if step else "h0"])
    c = mg.tensor(given.get("prev_c", np.zeros(h.shape)))
    x = given["x"][:, None] if step else given["x"]
    state = nn.LSTMState(h, c) if op == "LSTM" else h
    final, ys = modes.run(cell, state, mg.tensor(x.swapaxes(0, 1)), mode=mode)
    if not step:
        return {"h": ys.data.swapaxes(0, 1)}
    if op == "RNN":
        return {"next_h": final.data}
    return {"next_h": final.h.data, "next_c": final.c.data}


def layer_matches(case: Any, mode: str) -> bool:
    found = layer_values(case, mode)
    return all(
        np.allclose(found[name], expected, rtol=1e-6, atol=1e-7)
        for name, expected in case["expected"].items()
    )


def spread(module: nn.Module, name: str, shape: tuple[int, ...], op: str = "RNN") -> None:
    """Their parameter `name`, spread from -1.4 to 1.3 in their layout, into ours."""
    values = np.linspace(-1.4, 1.3, int(np.prod(shape))).reshape(shape).T
    getattr(module, name).data = to_ours(values, op, "cs231n")


def captioning_loss(case: Any, mode: str) -> float:
    """Linear, Embedding, a recurrent layer and cross_entropy with ignore_index, together."""
    N, D, W, H, V, T = (case["dims"][k] for k in "NDWHVT")
    op = case["cell"].upper()
    rows = {"LSTM": 4, "RNN": 1}[op] * H
    project, embed, head = nn.Linear(D, H, **F64), nn.Embedding(V, W, **F64), nn.Linear(H, V, **F64)
    kind: Any = nn.LSTM if op == "LSTM" else nn.RNN
    layer = kind(W, H, batch_first=True, mode=mode, **F64)
    spread(project, "weight", (D, H))
    spread(project, "bias", (H,))
    embed.weight.data = np.linspace(-1.4, 1.3, V * W).reshape(V, W)
    spread(layer.cells[0], "weight_ih", (W, rows), op)
    spread(layer.cells[0], "weight_hh", (H, rows), op)
    spread(layer.cells[0], "bias_ih", (rows,), op)
    nn.init.constant_(layer.cells[0].bias_hh)
    spread(head, "weight", (H, V))
    spread(head, "bias", (V,))
    captions = (np.arange(N * T) % V).reshape(N, T)
    h_0 = project(linspace(case["features"])).reshape((1, N, H))
    state = (h_0, np.zeros((1, N, H))) if op == "LSTM" else h_0
    hs, _ = layer(embed(captions[:, :-1]), state)
    loss = nn.cross_entropy(head(hs), captions[:, 1:], ignore_index=0, reduction="sum") / N
    return loss.item()
