"""An ONNX node RNN, LSTM or GRU, computed by minigrad: the built-in cells where they can do it.

Inputs and outputs have ONNX's names and shapes: X (T, N, I), W (D, gates*H, I), R (D, gates*H, H),
B (D, 2*gates*H), P (D, 3*H), sequence_lens (N,), initial_h and initial_c (D, N, H); Y (T, D, N, H),
Y_h and Y_c (D, N, H). With the attribute layout=1, N comes first in X, the states and the outputs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import modes
import numpy as np
from conformance.cells import OnnxGRU, OnnxLSTM, OnnxRNN, activations
from conformance.gates import to_ours

import minigrad as mg
from minigrad import nn

Arrays = dict[str, np.ndarray]

STANDARD = {"RNN": ["tanh"], "LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"]}
LAYERS: dict[str, Any] = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
CELLS: dict[str, Any] = {"RNN": nn.RNNCell, "LSTM": nn.LSTMCell, "GRU": nn.GRUCell}
OWN: dict[str, Any] = {"RNN": OnnxRNN, "LSTM": OnnxLSTM, "GRU": OnnxGRU}
NO_CLIP = 100.0  # activations in these tests stay below


class Node(NamedTuple):
    op: str
    attributes: dict[str, Any]
    inputs: Arrays

    @property
    def directions(self) -> tuple[bool, ...]:
        """Whether each one runs in reverse."""
        return {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[
            self.attributes.get("direction", "forward")
        ]

    @property
    def functions(self) -> list[str]:
        """The names of the activations, of all directions."""
        used = self.attributes.get("activations", STANDARD[self.op] * len(self.directions))
        return [name.lower() for name in used]

    @property
    def built_in(self) -> bool:
        """Whether minigrad's own cells compute it."""
        a, D = self.attributes, len(self.directions)
        standard = self.functions == STANDARD[self.op] * D
        standard |= self.op == "RNN" and self.functions == ["relu"] * D
        free = a.get("clip", NO_CLIP) >= NO_CLIP and not a.get("input_forget", 0)
        return standard and free and "P" not in self.inputs


def compute(node: Node, mode: str) -> Arrays:
    """Y, Y_h and, for an LSTM, Y_c."""
    given = dict(node.inputs)
    batch_first = bool(node.attributes.get("layout", 0))
    if batch_first:
        for name in {"X", "initial_h", "initial_c"} & set(given):
            given[name] = given[name].swapaxes(0, 1)
    # minigrad refuses rows without a step, for which ONNX answers zeros.
    batch, lengths = given["X"].shape[1], given.get("sequence_lens")
    rows = np.arange(batch)
    if lengths is not None and len(lengths) == batch and not lengths.all():
        rows = np.flatnonzero(lengths)
        given["sequence_lens"] = lengths[rows]
        for name in {"X", "initial_h", "initial_c"} & set(given):
            given[name] = given[name][:, rows]
    node = node._replace(inputs=given)
    found = (compute_built_in if node.built_in else compute_own)(node, mode)
    for name, few in found.items():
        axis = few.ndim - 2
        every = np.zeros((*few.shape[:axis], batch, few.shape[-1]), few.dtype)
        every[..., rows, :] = few
        found[name] = every
    if batch_first:
        found["Y"] = found["Y"].transpose(2, 0, 1, 3)
        found |= {name: found[name].swapaxes(0, 1) for name in {"Y_h", "Y_c"} & set(found)}
    return found


def initial(node: Node) -> Any:
    """h or (h, c), each (D, N, H); zeros for one that is not given, None if neither is."""
    names = ["initial_h"] + ["initial_c"] * (node.op == "LSTM")
    if not set(names) & set(node.inputs):
        return None
    shape = (len(node.directions), node.inputs["X"].shape[1], node.inputs["R"].shape[-1])
    states = [node.inputs.get(n, np.zeros(shape, node.inputs["X"].dtype)) for n in names]
    return nn.LSTMState(*map(mg.tensor, states)) if node.op == "LSTM" else mg.tensor(states[0])


def results(node: Node, ys: Any, final: Any) -> Arrays:
    """ys (T, N, D*H) and the states (D, N, H), as ONNX names and shapes them."""
    D = len(node.directions)
    Y = ys.data.reshape(*ys.shape[:2], D, -1).swapaxes(1, 2)
    h, c = final if node.op == "LSTM" else (final, None)
    return {"Y": Y, "Y_h": h.data} | ({} if c is None else {"Y_c": c.data})


def biases(node: Node, d: int) -> np.ndarray:
    W = node.inputs["W"]
    return node.inputs["B"][d] if "B" in node.inputs else np.zeros(2 * W.shape[1], W.dtype)


def built_in_weights(node: Node, d: int) -> Arrays:
    b_ih, b_hh = np.split(biases(node, d), 2)
    arrays = {"weight_ih": node.inputs["W"][d], "weight_hh": node.inputs["R"][d]}
    arrays |= {"bias_ih": b_ih, "bias_hh": b_hh}
    return {name: to_ours(w, node.op, "onnx") for name, w in arrays.items()}


def compute_built_in(node: Node, mode: str) -> Arrays:
    """nn.RNN, LSTM or GRU; in reverse alone, which no layer does, the cell by itself."""
    X, H = node.inputs["X"], node.inputs["R"].shape[-1]
    lengths, state = node.inputs.get("sequence_lens"), initial(node)
    options: dict[str, Any] = {"dtype": X.dtype}
    if node.op == "RNN":
        options["nonlinearity"] = node.functions[0]
    if node.op == "GRU":
        options["reset_after"] = bool(node.attributes.get("linear_before_reset", 0))
    if node.directions == (True,):
        cell = CELLS[node.op](X.shape[2], H, **options)
        cell.load_state_dict(built_in_weights(node, 0))
        state = cell.init_state(X.shape[1]) if state is None else mg.tree.map_leaves(first, state)
        final, ys = modes.run(cell, state, mg.tensor(X), lengths, True, mode)
        return results(node, ys, mg.tree.map_leaves(lambda s: mg.expand_dims(s, 0), final))
    options |= dict(bidirectional=len(node.directions) == 2, mode=mode)
    layer = LAYERS[node.op](X.shape[2], H, **options)
    weights = {}
    for d, suffix in zip(range(len(node.directions)), ("l0", "l0_reverse")):
        weights |= {f"{k}_{suffix}": w for k, w in built_in_weights(node, d).items()}
    layer.load_state_dict(weights)
    ys, final = layer(X, state, lengths)
    return results(node, ys, final)


def first(s: Any) -> Any:
    return s[0]


def compute_own(node: Node, mode: str) -> Arrays:
    """The cells of cells.py, one direction after the other."""
    a, state = node.attributes, initial(node)
    functions = activations(
        node.functions, a.get("activation_alpha", ()), a.get("activation_beta", ())
    )
    n = len(functions) // len(node.directions)
    clip = a.get("clip", NO_CLIP)
    parts = []
    for d, reverse in enumerate(node.directions):
        cell = OWN[node.op](
            node.inputs["W"][d],
            node.inputs["R"][d],
            biases(node, d),
            functions[d * n : (d + 1) * n],
            clip if clip < NO_CLIP else None,
        )
        if node.op == "LSTM":
            cell.input_forget = bool(a.get("input_forget", 0))
            if "P" in node.inputs:
                cell.P = nn.Parameter(node.inputs["P"][d])
        if node.op == "GRU":
            cell.linear_before_reset = bool(a.get("linear_before_reset", 0))
        X, lengths = mg.tensor(node.inputs["X"]), node.inputs.get("sequence_lens")
        start = cell.init_state(X.shape[1])
        if state is not None:
            start = mg.tree.map_leaves(lambda s, d=d: s[d], state)
        parts.append(modes.run(cell, start, X, lengths, reverse, mode))
    finals, ys = zip(*parts)
    final = mg.tree.map_leaves(lambda *s: mg.stack(s), *finals)
    return results(node, mg.concatenate(ys, axis=-1), final)


def check(found: Arrays, expected: Arrays, **tolerances: float) -> None:
    assert expected.keys() <= found.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, err_msg=name, **tolerances)
