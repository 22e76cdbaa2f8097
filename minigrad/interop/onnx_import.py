"""ONNX, in: a .onnx file as minigrad modules, run node by node.

RNN, LSTM and GRU become layers of minigrad, MatMul and Gemm with constant weights Linear, Gather
from a constant Embedding; their weights train like any others. The rest of a graph is what
exporters put around recurrent nodes: shapes (`onnx_nodes.py`) and numbers (`onnx_functions.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..nn.module import Module
from ..tensors import Tensor, as_tensor
from ..untrusted import cause, read_bytes, reading
from .base import ConversionError, FormatError, need
from .onnx_graph import RECURRENT, SUPPORTED, GraphReader, modules_of, run_steps
from .onnx_tensors import check_inside, load_external

OPSET = 13, 17  # what the nodes here are written for, and what an older file is converted to


class OnnxModel(Module):
    """What an .onnx file computes: model(x, lengths=...) -> {name of an output: Tensor or array}.

    Inputs go by position, in the order of `inputs`, or by name. `layers` has the minigrad modules,
    by the names of their nodes with an underscore for what is no letter or digit, each once;
    `weights` the float initializers that other nodes add or multiply, by their names in the file.
    merged: "a = b" for each Parameter that several initializers with the same numbers became.
    left: with only="recurrent" the nodes that were not taken, with the reason where there is one.
    """

    def __init__(self, inputs: list[str], outputs: list[str], reader: GraphReader):
        self.inputs, self.outputs, self.steps = inputs, outputs, reader.steps
        self.constants, self.weights = reader.constants, reader.weights
        self.merged, self.left = reader.shared.merged, reader.left
        self.layers = modules_of(self.steps)

    def forward(self, *values: Any, **named: Any) -> dict[str, Any]:
        if len(values) > len(self.inputs):
            raise ShapeError(f"OnnxModel: expected inputs {self.inputs}, got {len(values)} values.")
        given = dict(zip(self.inputs, values)) | named
        if set(given) != set(self.inputs):
            raise ShapeError(f"OnnxModel: expected inputs {self.inputs}, got {list(given)}.")
        held: dict[str, Any] = {name: _value(value) for name, value in given.items()}
        held = run_steps(self.steps, self.constants | self.weights | held | {"": None})
        return {name: _result(held[name]) for name in self.outputs}

    def describe(self) -> str:
        return f"{', '.join(self.inputs)} -> {', '.join(self.outputs)}"


def import_onnx(
    path: str | Path, only: str | None = None, dequantize: bool = False, tie_equal: bool = True
) -> OnnxModel:
    """Reads an .onnx file. The model's parameters have the file's dtype, and its very bits; halves
    become float32, and then nothing is rounded to halves on the way.

    only: "recurrent" takes the nodes RNN, LSTM and GRU of a file whose rest is refused, those in
        the branches of an If too. What they read from the rest are the model's inputs, by the
        names that the file has for it, and all that they give its outputs.
    dequantize: makes a DynamicQuantizeLSTM an LSTM with the weights that its integers mean, and
        leaves out what QuantizeLinear and DynamicQuantizeLinear round. The outputs are those of a
        net that rounds nothing, and not onnxruntime's. Integers that a MatMulInteger or a Gather
        reads stay constants.
    tie_equal: initializers that hold the same numbers, or one the other's transposed, are one
        Parameter, as before an exporter wrote them twice; otherwise only one initializer is.
    Raises ConversionError naming the node, and what is supported, for an operator, an attribute or
    an activation that no layer of minigrad has; FormatError for what is no ONNX file.
    """
    onnx = need("onnx", "onnx", "ONNX files")
    if only not in (None, "recurrent"):
        raise ConversionError(f"import_onnx: only={only!r}; expected 'recurrent', or None for all.")
    with reading(path, FormatError, ConversionError, what="ONNX file"):
        model = _converted(onnx, path, _parsed(onnx, path, only), only)
        reader = GraphReader(onnx, only, dequantize, tie_equal)
        return _model(model.graph, reader)


def _converted(onnx: Any, path: str | Path, model: Any, only: str | None) -> Any:
    """The model in an opset that the nodes here are written for."""
    opset = {entry.domain: entry.version for entry in model.opset_import}.get("", 1)
    if opset >= OPSET[0]:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET[1])
    except Exception as error:  # RuntimeError of C++ with its place there, or of protobuf
        if only and opset >= 7:  # since when recurrent nodes are what they are
            return model
        said = cause(error).rpartition(" failed: ")[2].rstrip(". ")
        raise ConversionError(
            f"{path}: written for opset {opset}, and onnx.version_converter cannot convert it to "
            f"{OPSET[1]}: {said}. Export it for {OPSET[0]} or later."
        ) from error


def _parsed(onnx: Any, path: str | Path, only: str | None) -> Any:
    """The checked protobuf of a file, with everything that it keeps in other files beside it."""
    DecodeError = need("google.protobuf.message", "onnx", "ONNX files").DecodeError
    data = read_bytes(path)
    try:
        model = onnx.load_model_from_string(data)
        load_external(model.graph.initializer, Path(path))
        check_inside(model.graph, str(path), graphs=only is not None)
        for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
            if value.type.HasField("tensor_type"):  # no shape means any; the checker wants one
                value.type.tensor_type.shape.SetInParent()
        for value in model.graph.output:  # one without a type is of any, too
            if not value.HasField("type"):
                value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
                value.type.tensor_type.shape.SetInParent()
        onnx.checker.check_model(model)
    except DecodeError as error:
        raise FormatError(f"{path}: this is no whole ONNX file ({cause(error)}).") from None
    except onnx.checker.ValidationError as error:
        said = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise FormatError(f"{path}: this is no valid ONNX file ({said}).") from None
    return model


def _model(graph: Any, reader: GraphReader) -> OnnxModel:
    constants = reader.read(graph)
    steps, outputs = reader.steps, [value.name for value in graph.output]
    initializers = {w.name for w in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in initializers]
    if reader.only:
        if not steps:
            told = [text for text in reader.left if any(f"({op})" in text for op in RECURRENT)]
            others = sorted({node.op_type for node in graph.node} - SUPPORTED)
            way = (
                f"and the whole file is refused too, for {', '.join(others)}"
                if others
                else "so import the whole file, whose nodes are all known"
            )
            raise ConversionError(
                f"import_onnx: no node RNN, LSTM or GRU can be taken: {told[0]}"
                if told
                else "import_onnx: there is no node RNN, LSTM or GRU; a loop over time that an "
                f"exporter unrolled has none, {way}."
            )
        outputs = [name for step in steps for name in step.outputs if name]
        read = dict.fromkeys(name for step in steps for name in step.inputs)
        inputs = [name for name in read if name not in {"", *outputs, *reader.constants}]
    reader.constants |= {name: constants[name] for name in outputs if name in constants}
    _check_computed(inputs, outputs, reader)
    return OnnxModel(inputs, outputs, reader)


def _check_computed(inputs: list[str], outputs: list[str], reader: GraphReader) -> None:
    """Raises ConversionError for a value that is read before any node gives it, or by none."""
    known = {"", *inputs, *reader.constants, *reader.weights}
    for step in reader.steps:
        if missing := [name for name in step.inputs if name not in known]:
            raise ConversionError(
                f"import_onnx: node {step.name!r} ({step.op}) reads {missing[0]!r}, which nothing "
                f"before it gives."
            )
        known.update(step.outputs)
    if missing := [name for name in outputs if name not in known or not name]:
        raise ConversionError(f"import_onnx: the output {missing[0]!r} is computed by no node.")


def _result(value: Any) -> Any:
    """A mask as an array, as every other is that is no float."""
    return value.numpy() if isinstance(value, Tensor) and value.dtype.kind == "b" else value


def _value(value: Any) -> Any:
    """Floats as a Tensor; integers, which are indices and sizes, as an array."""
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    return as_tensor(array) if array.dtype.kind == "f" else array
