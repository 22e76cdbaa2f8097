"""Nodes of ONNX with constant weights, each as a module of minigrad: see LAYER_NODES."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import nn, ops
from ..compile.scanning import scan
from ..nn.module import Module
from ..tensors import Tensor, as_tensor
from ..tree import map_leaves
from .base import Array, ConversionError
from .gates import ORDERS, PEEPHOLES, Weights, from_onnx, reorder

INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
ATTRIBUTES = {
    "hidden_size", "direction", "layout", "activations", "activation_alpha", "activation_beta",
    "clip", "input_forget", "linear_before_reset", "output_sequence",
}  # fmt: skip
STANDARD = {"RNN": ["Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}
DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


class OnnxRecurrent(Module):
    """A node RNN, LSTM or GRU: (X, sequence_lens, initial_h, initial_c) -> (Y, Y_h, Y_c).

    layer: nn.RNN, nn.LSTM, nn.GRU or an nn.Recurrent that computes it. X (T, N, I); Y (T, D, N, H);
    the states (D, N, H); with layout=1 N comes first in all of them. reverse_only: ONNX's direction
    "reverse", whose cell runs from the last step to the first.
    """

    def __init__(self, layer: Any, reverse_only: bool, layout: int):
        self.layer, self.reverse_only, self.layout = layer, reverse_only, layout

    @staticmethod
    def dynamic(inputs: list[str]) -> list[str]:
        """Of a node's inputs those that may change: sequence_lens, initial_h, initial_c."""
        return (inputs + [""] * 8)[4:7]

    def forward(self, X: Any, lengths: Any = None, h: Any = None, c: Any = None) -> tuple[Any, ...]:
        x = as_tensor(X)
        h, c = (None if s is None else as_tensor(s) for s in (h, c))
        if lengths is not None and not np.all(lengths):
            # The final state of a row without a step is its initial one; onnxruntime's is zero.
            real = np.expand_dims(np.asarray(lengths) > 0, (1, 2) if self.layout else (0, 2))
            h, c = (None if s is None else ops.where(real, s, 0.0) for s in (h, c))
        if self.layout:
            x = ops.swapaxes(x, 0, 1)
            h, c = (None if s is None else ops.swapaxes(s, 0, 1) for s in (h, c))
        cells = self.layer.cells
        state = None
        if h is not None or c is not None:
            zeros = Tensor(np.zeros((len(cells), x.shape[1], cells[0].hidden_size), x.dtype))
            h, c = (zeros if s is None else s for s in (h, c))
            state = nn.LSTMState(h, c) if isinstance(cells[0], nn.LSTMCell) else h
        if self.reverse_only:
            cell = cells[0]
            start = cell.init_state(x.shape[1])
            if state is not None:
                start = map_leaves(lambda s: s[0], state)
            result = scan(cell, start, x, lengths, True, self.layer.mode)
            ys, final = result.ys, map_leaves(lambda s: ops.expand_dims(s, 0), result.final)
        else:
            ys, final = self.layer(x, state, lengths)
        Y = ops.reshape(ys, (*ys.shape[:2], len(cells), -1))
        Y = ops.transpose(Y, (1, 0, 2, 3) if self.layout else (0, 2, 1, 3))
        states = tuple(final) if isinstance(final, tuple) else (final,)
        if self.layout:
            states = tuple(ops.swapaxes(s, 0, 1) for s in states)
        return (Y, *states)


def recurrent(
    what: str, inputs: list[str], attributes: dict[str, Any], constants: dict[str, Array]
) -> OnnxRecurrent:
    """A node RNN, LSTM or GRU as the layer that computes it; its weights are constants."""
    op = what.rpartition("(")[2].rstrip(")")
    names = dict(zip(INPUTS, inputs + [""] * 8))
    held: dict[str, Array | None] = {}
    for name in ("W", "R", "B", "P"):
        if names[name] and names[name] not in constants:
            raise ConversionError(
                f"import_onnx: {what}: its {name} is computed by the graph; expected constants."
            )
        held[name] = constants.get(names[name])
    direction = attributes.get("direction", "forward")
    if direction not in DIRECTIONS:
        raise ConversionError(
            f"import_onnx: {what} has direction={direction!r}; expected {', '.join(DIRECTIONS)}."
        )
    reverses = DIRECTIONS[direction]
    nonlinearity = _refuse(what, op, attributes, len(reverses))
    _check_weights(what, op, held, len(reverses), attributes.get("hidden_size"))
    W, R, B, P = held["W"], held["R"], held["B"], held["P"]
    assert W is not None
    assert R is not None
    coupled = bool(attributes.get("input_forget", 0))
    if coupled and P is not None:
        raise ConversionError(
            f"import_onnx: {what} has peepholes and input_forget; minigrad has a PeepholeLSTMCell "
            f"and a CoupledLSTMCell, and no cell with both."
        )
    layer: Any
    options: dict[str, Any] = dict(bidirectional=len(reverses) == 2)
    cell_options: dict[str, Any] = dict(bias=B is not None, dtype=W.dtype)
    I, H = W.shape[-1], R.shape[-1]
    if op == "RNN":
        layer = nn.RNN(I, H, nonlinearity=nonlinearity, **options, **cell_options)
    elif op == "GRU":
        after = bool(attributes.get("linear_before_reset", 0))
        layer = nn.GRU(I, H, reset_after=after, **options, **cell_options)
    elif P is None and not coupled:
        layer = nn.LSTM(I, H, **options, **cell_options)
    else:
        cell_type = nn.CoupledLSTMCell if coupled else nn.PeepholeLSTMCell
        layer = nn.Recurrent(lambda size: cell_type(size, H, **cell_options), I, **options)
    per_direction: list[Weights] = from_onnx(op, W, R, B, coupled)
    ready: dict[str, Array] = {}
    for d, (suffix, _) in enumerate(layer.members()):
        arrays = dict(per_direction[d])
        if P is not None:
            rows = reorder(P[d], PEEPHOLES["onnx"], PEEPHOLES["minigrad"])
            arrays["weight_peephole"] = rows.reshape(3, H)
        ready |= {f"{name}_{suffix}": w for name, w in arrays.items()}
    layer.load_state_dict(ready)
    return OnnxRecurrent(layer, reverses == (True,), int(attributes.get("layout", 0)))


def _check_weights(
    what: str, op: str, held: dict[str, Array | None], directions: int, hidden: Any
) -> None:
    """Raises ConversionError unless all weights are of one dtype and of ONNX's shapes."""
    W, R = held["W"], held["R"]
    if W is None or R is None:
        raise ConversionError(f"import_onnx: {what} needs the constants W and R.")
    gates = len(ORDERS[op]["onnx"])
    H = R.shape[-1] if R.ndim == 3 else 0
    shapes = {
        "W": (directions, gates * H, W.shape[-1] if W.ndim else 0),
        "R": (directions, gates * H, H),
        "B": (directions, 2 * gates * H),
        "P": (directions, 3 * H),
    }
    for name, array in held.items():
        if array is None:
            continue
        if array.dtype not in (np.float32, np.float64) or array.dtype != W.dtype:
            raise ConversionError(
                f"import_onnx: {what} has weights {name} of {array.dtype}; expected float32 or "
                f"float64, the same for all."
            )
        if array.shape != shapes[name] or not array.size:
            raise ConversionError(
                f"import_onnx: {what}: its {name} is {list(array.shape)}; expected "
                f"{list(shapes[name])}: {directions} directions, {gates} gates, {H} units."
            )
    if hidden is not None and hidden != H:
        raise ConversionError(
            f"import_onnx: {what} has hidden_size={hidden!r}, and its R is {list(R.shape)}."
        )


def _refuse(what: str, op: str, attributes: dict[str, Any], directions: int) -> str:
    """Raises ConversionError for what no cell computes; returns the nonlinearity of an RNN."""
    if unknown := sorted(set(attributes) - ATTRIBUTES):
        raise ConversionError(f"import_onnx: {what} has the attribute {unknown[0]!r}; not known.")
    if (layout := attributes.get("layout", 0)) not in (0, 1):
        raise ConversionError(f"import_onnx: {what} has layout={layout!r}; expected 0 or 1.")
    if attributes.get("clip"):
        raise ConversionError(
            f"import_onnx: {what} has clip={attributes['clip']}; minigrad's cells do not clip the "
            f"sums before their gates."
        )
    wanted = [name.lower() for name in STANDARD[op]] * directions
    used = [str(name).lower() for name in attributes.get("activations", wanted)]
    relu = op == "RNN" and used == ["relu"] * directions
    if used != wanted and not relu:
        also = " or Relu" if op == "RNN" else ""
        raise ConversionError(
            f"import_onnx: {what} has the activations {list(attributes['activations'])}; "
            f"minigrad's {op} has {', '.join(STANDARD[op])}{also}, in both directions alike."
        )
    return "relu" if relu else "tanh"


def matmul(
    what: str, inputs: list[str], attributes: dict[str, Any], constants: dict[str, Array]
) -> Module | None:
    """x W, or x W + b, with a constant matrix W (I, O): a Linear."""
    W = constants.get(inputs[1])
    if W is None or W.ndim != 2 or inputs[0] in constants:
        return None
    return _linear(what, W.T, constants[inputs[2]] if len(inputs) > 2 else None)


def gemm(
    what: str, inputs: list[str], attributes: dict[str, Any], constants: dict[str, Array]
) -> Module | None:
    """x W + b with constants, one number of b for each output: a Linear."""
    W, b = constants.get(inputs[1]), constants.get((inputs + [""])[2])
    plain = all(attributes.get(name, 1.0) == 1.0 for name in ("alpha", "beta"))
    if W is None or W.ndim != 2 or not plain or attributes.get("transA", 0):
        return None
    weight = W if attributes.get("transB", 0) else W.T
    if len(inputs) > 2 and inputs[2]:
        if b is None or b.ndim > 2 or b.shape not in (weight.shape[:1], (1, len(weight))):
            return None
        b = b.reshape(-1)
    return _linear(what, weight, b)


def gather(
    what: str, inputs: list[str], attributes: dict[str, Any], constants: dict[str, Array]
) -> Module | None:
    """Rows of a constant matrix: an Embedding."""
    W = constants.get(inputs[0])
    if W is None or W.ndim != 2 or W.dtype.kind != "f" or attributes.get("axis", 0):
        return None
    layer = nn.Embedding(W.shape[0], W.shape[1], dtype=_float(what, W).dtype)
    layer.load_state_dict({"weight": W})
    return layer


def layer_norm(
    what: str, inputs: list[str], attributes: dict[str, Any], constants: dict[str, Array]
) -> Module | None:
    """With constant gains over the last axes, counted from the end: a LayerNorm."""
    scale, bias = (constants.get(name) for name in (inputs + [""])[1:3])
    if scale is None or scale.ndim != -attributes.get("axis", -1):
        return None
    if len(inputs) > 2 and inputs[2] and bias is None:
        return None
    eps, dtype = attributes.get("epsilon", 1e-5), _float(what, scale).dtype
    layer = nn.LayerNorm(scale.shape, eps, bias=bias is not None, dtype=dtype)
    layer.load_state_dict({"weight": scale} | ({} if bias is None else {"bias": bias}))
    return layer


def _linear(what: str, weight: Array, bias: Array | None) -> Module:
    dtype = _float(what, weight).dtype
    if bias is not None and bias.dtype != dtype:
        raise ConversionError(
            f"import_onnx: {what} has weights of {dtype} and a bias of {bias.dtype}."
        )
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, dtype=dtype)
    layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return layer


def _float(what: str, w: Array) -> Array:
    if w.dtype not in (np.float32, np.float64):
        raise ConversionError(
            f"import_onnx: {what} has weights of {w.dtype}; expected float32 or float64."
        )
    return w


LAYER_NODES: dict[str, Callable[..., Any]] = {
    "RNN": recurrent,
    "LSTM": recurrent,
    "GRU": recurrent,
    "MatMul": matmul,
    "Gemm": gemm,
    "Gather": gather,
    "LayerNormalization": layer_norm,
}
