"""ONNX, out: a chain of layers as one .onnx file that onnxruntime runs.

A recurrent layer becomes one node RNN, LSTM or GRU for each of its layers; what minigrad does at
the edges (layouts, merging the directions, stacking the states) becomes Transpose, Reshape, Add,
Mul, Gather and Concat around them. https://onnx.ai/onnx/operators has the operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn, ops
from ..nn.module import Module
from ..untrusted import read_bytes
from .base import Array, ConversionError, check_alike, named, need, only_over, version, write_whole
from .gates import PEEPHOLES, kind_of, reorder, to_onnx, weights_of

OPSET, IR_VERSION = 17, 8  # LayerNormalization came with 17; an onnxruntime of 2022 reads both
PRODUCER = "minigrad"
FUNCTIONS: dict[Any, tuple[str, dict[str, Any]]] = {
    ops.tanh: ("Tanh", {}),
    ops.relu: ("Relu", {}),
    ops.sigmoid: ("Sigmoid", {}),
    ops.softmax: ("Softmax", {"axis": -1}),
    ops.log_softmax: ("LogSoftmax", {"axis": -1}),
}
LAYERS = "RNN, LSTM, GRU, PeepholeLSTMCell in a Recurrent, Linear, Embedding, LayerNorm, Dropout"


def export_onnx(
    path: str | Path,
    model: Module | Sequence[Any],
    lengths: bool = False,
    states: bool = False,
) -> Path:
    """Writes a model as it computes in eval mode, atomically.

    model: a layer, or layers one after the other: a Chain, an nn.Sequential or a list of layers and
        of mg.tanh, relu, sigmoid, softmax and log_softmax.
    The file has the input `x`, (T, B, features), (B, T, features) where the first recurrent layer
    is batch_first, (B, features) without one, or integers without the features for an Embedding;
    and the output `y`, what `Chain` gives.
    lengths=True: an input `lengths` (B,), int32. states=True: for the recurrent layer at index i
    of the chain inputs `i.h_0` and, of an LSTM, `i.c_0`, (layers*directions, B, H). Its final
    states are always there, as the outputs `i.h_n` and `i.c_n`.
    Raises ConversionError for what ONNX has no operator for, with the reason; FormatError where
    `path` is a file that minigrad has not written.

    >>> import tempfile
    >>> from .onnx_import import import_onnx
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = export_onnx(Path(folder) / "rnn.onnx", nn.RNN(3, 4))
    ...     import_onnx(file).outputs
    ['y', '0.h_n']
    """
    onnx = need("onnx", "onnx", "ONNX files")
    path = Path(path)
    if path.exists():
        only_over(path, _ours(onnx, path), "ONNX file")
    if isinstance(model, nn.Sequential):
        layers: list[Any] = list(model.functions)
    else:
        layers = [model] if isinstance(model, Module) else list(model)
    if not layers:
        raise ConversionError("export_onnx: the model has no layer.")
    graph = _Graph(onnx, layers, lengths, states)
    made = graph.build()
    try:
        onnx.checker.check_model(made, full_check=True)
        return write_whole(path, made.SerializeToString(deterministic=True))
    except ValueError as error:  # protobuf's limit of 2 GiB
        raise ConversionError(f"export_onnx: {error}") from None


class _Graph:
    """The nodes so far, and the name of the value that the next layer reads."""

    def __init__(self, onnx: Any, layers: list[Any], lengths: bool, states: bool):
        self.onnx, self.layers = onnx, layers
        self.lengths, self.states = lengths, states
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}
        self.inputs: list[Any] = []
        self.outputs: list[tuple[str, list[Any]]] = []
        self.at = ""  # the name of the layer that is being written, for its nodes
        dtypes = {p.dtype for m in layers if isinstance(m, Module) for p in m.parameters()}
        if len(dtypes) > 1:
            raise ConversionError("export_onnx: the layers have different dtypes; use model.to().")
        self.dtype = dtypes.pop() if dtypes else np.dtype(np.float32)

    def build(self) -> Any:
        helper = self.onnx.helper
        recurrent = [layer for layer in self.layers if isinstance(layer, nn.Recurrent)]
        if not recurrent and (self.lengths or self.states):
            raise ConversionError("export_onnx: lengths and states are for recurrent layers.")
        for layer in recurrent[1:]:
            if layer.batch_first != recurrent[0].batch_first:
                raise ConversionError("export_onnx: some layers are batch_first and some are not.")
        first = bool(recurrent) and recurrent[0].batch_first
        axes: list[Any] = ["B", "T"] if first else ["T", "B"]
        if not recurrent:
            axes = ["B"]
        x, rank = "x", len(axes)
        if isinstance(self.layers[0], nn.Embedding):
            self.input("x", axes, np.int64)
        else:
            first_layer = self.layers[0]
            features = getattr(first_layer, "input_size", getattr(first_layer, "in_features", None))
            self.input("x", [*axes, features], self.dtype)
            rank += 1
        if self.lengths:
            self.input("lengths", ["B"], np.int32)
        for i, layer in enumerate(self.layers):
            self.at = str(i)
            if isinstance(layer, nn.Recurrent):
                x = self.recurrent(i, layer, x)
                rank = 3 if layer.return_sequences else 2
            else:
                x = self.plain(i, layer, x)
                rank += isinstance(layer, nn.Embedding)
        self.node("Identity", [x], output="y")
        self.outputs.insert(0, ("y", [None] * rank))
        values = [
            helper.make_tensor_value_info(name, self.kind(self.dtype), shape)
            for name, shape in self.outputs
        ]
        constants = [
            self.onnx.numpy_helper.from_array(np.array(w, order="C"), name)
            for name, w in self.constants.items()
        ]
        graph = helper.make_graph(self.nodes, "chain", self.inputs, values, constants)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name=PRODUCER,
            producer_version=version(),
        )

    # -- pieces ------------------------------------------------------------------------------------

    def kind(self, dtype: Any) -> int:
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def input(self, name: str, shape: list[Any], dtype: Any) -> str:
        kind = self.kind(dtype)
        self.inputs.append(self.onnx.helper.make_tensor_value_info(name, kind, shape))
        return name

    def constant(self, name: str, value: Any) -> str:
        name = f"{self.at}.{name}"
        self.constants[name] = np.asarray(value)
        return name

    def integers(self, *values: int) -> str:
        return self.constant("integers_" + "_".join(map(str, values)), np.array(values, np.int64))

    def node(self, op: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Adds a node with one output; returns its name."""
        name = f"{self.at}.{op}.{len(self.nodes)}"
        output = output or name
        self.nodes.append(self.onnx.helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    # -- layers ------------------------------------------------------------------------------------

    def plain(self, i: int, layer: Any, x: str) -> str:
        """A layer without a state. Softmax and the like act on the last axis, as in minigrad."""
        if not isinstance(layer, Module):
            if layer not in FUNCTIONS:
                raise ConversionError(
                    f"export_onnx: at {i} is {layer!r}; functions can be mg.tanh, relu, sigmoid, "
                    f"softmax and log_softmax."
                )
            op, attributes = FUNCTIONS[layer]
            return self.node(op, [x], **attributes)
        if type(layer) is nn.Linear:
            x = self.node("MatMul", [x, self.constant("weight", layer.weight.numpy().T)])
            if layer.bias is None:
                return x
            return self.node("Add", [x, self.constant("bias", layer.bias.numpy())])
        if type(layer) is nn.Embedding:
            return self.node("Gather", [self.constant("weight", layer.weight.numpy()), x], axis=0)
        if type(layer) is nn.Dropout:
            return x
        if type(layer) is nn.LayerNorm:
            shape = layer.normalized_shape
            names = [x]
            for name, empty in (("weight", np.ones), ("bias", np.zeros)):
                held = getattr(layer, name)
                value = empty(shape, self.dtype) if held is None else held.numpy()
                names.append(self.constant(name, value))
            options: dict[str, Any] = dict(axis=-len(shape), epsilon=float(layer.eps))
            return self.node("LayerNormalization", names, **options)
        raise ConversionError(
            f"export_onnx: {named(str(i), layer)} is no layer that is exported; expected {LAYERS} "
            f"and functions such as mg.tanh."
        )

    def recurrent(self, i: int, layer: Any, x: str) -> str:
        kinds = [self.kind_of(named(f"{i}", layer), cell) for cell in layer.cells]
        check_alike(f"export_onnx: {named(str(i), layer)}", layer)
        if layer.batch_first:
            x = self.node("Transpose", [x], perm=[1, 0, 2])
        parts = ("h", "c") if kinds[0] == "LSTM" else ("h",)
        D = layer.num_directions
        finals: dict[str, list[str]] = {part: [] for part in parts}
        initial = {}
        for part in parts if self.states else ():
            shape = [len(layer.cells), "B", layer.cells[0].hidden_size]
            initial[part] = self.input(f"{i}.{part}_0", shape, self.dtype)
        Y = Y_h = ""
        for level in range(layer.num_layers):
            self.at = f"{i}.l{level}"
            if level:
                x = self.merged(Y, "concat", D, 1)
            cells = layer.cells[D * level : D * (level + 1)]
            start = [
                self.sliced(name, D * level, D * (level + 1)) if layer.num_layers > 1 else name
                for name in initial.values()
            ]
            Y, Y_h, *rest = self.recurrent_node(kinds[0], cells, x, start)
            for part, name in zip(parts, [Y_h, *rest], strict=True):
                finals[part].append(name)
        self.at = f"{i}"
        for part, names in finals.items():
            op, axis = ("Concat", {"axis": 0}) if len(names) > 1 else ("Identity", {})
            self.node(op, names, output=f"{i}.{part}_n", **axis)
            shape = [len(layer.cells), "B", layer.cells[0].hidden_size]
            self.outputs.append((f"{i}.{part}_n", shape))
        if not layer.return_sequences:  # after the last real step, and of the reverse after step 0
            return self.merged(Y_h, layer.merge, D, 0)
        y = self.merged(Y, layer.merge, D, 1)
        return self.node("Transpose", [y], perm=[1, 0, 2]) if layer.batch_first else y

    def kind_of(self, what: str, cell: Any) -> str:
        kind = "LSTM" if type(cell) is nn.PeepholeLSTMCell else kind_of(cell)
        if kind is None:
            raise ConversionError(
                f"export_onnx: {what}: ONNX has no operator for {type(cell).__name__}; it has RNN, "
                f"LSTM (peepholes too) and GRU."
            )
        if getattr(cell, "weight_hr", None) is not None:
            raise ConversionError(
                f"export_onnx: {what}: ONNX's LSTM has no projection (proj_size)."
            )
        return kind

    def recurrent_node(self, kind: str, cells: list[Any], x: str, start: list[str]) -> list[str]:
        """The node itself: the names of Y (T, D, B, H), Y_h and of an LSTM Y_c (D, B, H)."""
        arrays = to_onnx(kind, [weights_of(cell) for cell in cells])
        names = [self.constant(n, w) for n, w in zip(("W", "R", "B"), arrays)]
        names += [""] * (3 - len(names))
        inputs = [x, *names, "lengths" if self.lengths else "", *start]
        options: dict[str, Any] = dict(hidden_size=cells[0].hidden_size)
        options["direction"] = "bidirectional" if len(cells) == 2 else "forward"
        if kind == "RNN":
            activations = {"tanh": "Tanh", "relu": "Relu"}
            options["activations"] = [activations[cell.nonlinearity] for cell in cells]
        if kind == "GRU":
            after = {cell.reset_after for cell in cells}
            if len(after) > 1:
                raise ConversionError("export_onnx: the GRU's directions reset differently.")
            options["linear_before_reset"] = int(after.pop())
        if isinstance(cells[0], nn.PeepholeLSTMCell):
            order = PEEPHOLES["minigrad"], PEEPHOLES["onnx"]
            P = [reorder(cell.weight_peephole.numpy().ravel(), *order) for cell in cells]
            inputs += [""] * (7 - len(inputs)) + [self.constant("P", np.stack(P))]
        while inputs[-1] == "":
            inputs.pop()
        name = f"{self.at}.{kind}"
        outputs = [f"{name}.{y}" for y in ("Y", "Y_h", *(["Y_c"] if kind == "LSTM" else []))]
        made = self.onnx.helper.make_node(kind, inputs, outputs, name=name, **options)
        self.nodes.append(made)
        return outputs

    def sliced(self, x: str, start: int, end: int) -> str:
        return self.node("Slice", [x, self.integers(start), self.integers(end), self.integers(0)])

    def merged(self, Y: str, merge: str, directions: int, axis: int) -> str:
        """The axis of directions merged as minigrad does, step by step in the same order."""
        if directions == 1:
            return self.node("Squeeze", [Y, self.integers(axis)])
        first, second = (
            self.node("Gather", [Y, self.constant(f"direction_{d}", np.array(d))], axis=axis)
            for d in (0, 1)
        )
        if merge == "concat":
            return self.node("Concat", [first, second], axis=-1)
        y = self.node("Mul" if merge == "mul" else "Add", [first, second])
        if merge == "mean":
            y = self.node("Mul", [y, self.constant("half", np.array(0.5, self.dtype))])
        return y


def _ours(onnx: Any, path: Path) -> bool:
    DecodeError = need("google.protobuf.message", "onnx", "ONNX files").DecodeError

    try:
        return bool(onnx.load_model_from_string(read_bytes(path)).producer_name == PRODUCER)
    except (DecodeError, OSError, ValueError):
        return False
