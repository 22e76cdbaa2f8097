"""ONNX, in: a .onnx file as minigrad modules, run node by node.

RNN, LSTM and GRU become layers of minigrad, MatMul and Gemm with constant weights Linear, Gather
from a constant Embedding; their weights train like any others. The rest of a graph is what
exporters put around recurrent nodes: shapes, sums, activations (`onnx_nodes.py` has the list).
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..errors import MinigradError, ShapeError
from ..nn.module import Module
from ..tensors import Tensor, as_tensor
from ..untrusted import cause, memory_share, read_bytes, reading
from .base import Array, ConversionError, FormatError, need
from .onnx_layers import LAYER_NODES, OnnxRecurrent
from .onnx_nodes import NODES
from .onnx_tensors import array_of, check_inside, load_external


class SharedWeightsWarning(UserWarning):
    """Weights that are one in the file and several in the model: right until it is trained."""


@dataclass
class Step:
    """One node: values in by name, values out by name. No tuple, which Module would look into."""

    name: str
    op: str
    inputs: list[str]
    outputs: list[str]
    function: Callable[..., Any]


class OnnxModel(Module):
    """What an .onnx file computes: model(x, lengths=...) -> {name of an output: Tensor or array}.

    Inputs go by position, in the order of `inputs`, or by name. `layers` has the minigrad modules,
    by the names of their nodes with an underscore for what is no letter or digit.
    """

    def __init__(
        self, inputs: list[str], outputs: list[str], steps: list[Step], constants: dict[str, Array]
    ):
        self.inputs, self.outputs, self.steps, self.constants = inputs, outputs, steps, constants
        self.layers: dict[str, Module] = {
            _identifier(step.name): step.function
            for step in steps
            if isinstance(step.function, Module)
        }

    def forward(self, *values: Any, **named: Any) -> dict[str, Any]:
        if len(values) > len(self.inputs):
            raise ShapeError(f"OnnxModel: expected inputs {self.inputs}, got {len(values)} values.")
        given = dict(zip(self.inputs, values)) | named
        if set(given) != set(self.inputs):
            raise ShapeError(f"OnnxModel: expected inputs {self.inputs}, got {list(given)}.")
        held: dict[str, Any] = {name: _value(value) for name, value in given.items()}
        held = self.constants | held | {"": None}
        for step in self.steps:
            try:
                results = step.function(*(held[name] for name in step.inputs))
            except MinigradError as error:
                error.add_note(f"in node {step.name!r} ({step.op})")
                raise
            except Exception as error:
                what = f"node {step.name!r} ({step.op})"
                raise ConversionError(f"OnnxModel: {what} cannot run: {cause(error)}.") from error
            results = results if isinstance(results, tuple) else (results,)
            held |= {name: r for name, r in zip(step.outputs, results) if name}
        return {name: held[name] for name in self.outputs}

    def describe(self) -> str:
        return f"{', '.join(self.inputs)} -> {', '.join(self.outputs)}"


def import_onnx(path: str | Path) -> OnnxModel:
    """Reads an .onnx file. The model's parameters have the file's dtype, and its very bits.

    Raises ConversionError naming the node, and what is supported, for an operator, an attribute or
    an activation that no layer of minigrad has; FormatError for what is no ONNX file.
    """
    onnx = need("onnx", "onnx", "ONNX files")
    with reading(path, FormatError, ConversionError, what="ONNX file"):
        model = _parsed(onnx, path)
        opset = {entry.domain: entry.version for entry in model.opset_import}.get("", 1)
        if opset < 13:
            raise ConversionError(
                f"{path}: written for opset {opset}; convert it to 13 or later with "
                f"onnx.version_converter.convert_version."
            )
        return _model(onnx, model.graph)


def _parsed(onnx: Any, path: str | Path) -> Any:
    """The checked protobuf of a file, with everything that it keeps in other files beside it."""
    DecodeError = need("google.protobuf.message", "onnx", "ONNX files").DecodeError
    data = read_bytes(path)
    try:
        model = onnx.load_model_from_string(data)
        load_external(model.graph.initializer, Path(path))
        check_inside(model.graph, str(path))
        for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
            if value.type.HasField("tensor_type"):  # no shape means any; the checker wants one
                value.type.tensor_type.shape.SetInParent()
        onnx.checker.check_model(model)
    except DecodeError as error:
        raise FormatError(f"{path}: this is no whole ONNX file ({cause(error)}).") from None
    except onnx.checker.ValidationError as error:
        said = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise FormatError(f"{path}: this is no valid ONNX file ({said}).") from None
    return model


def _model(onnx: Any, graph: Any) -> OnnxModel:
    constants = {w.name: array_of(onnx, w) for w in graph.initializer}
    if len(constants) != len(graph.initializer):
        raise ConversionError("import_onnx: two initializers have the same name.")
    inputs = [value.name for value in graph.input if value.name not in constants]
    steps = _steps(onnx, graph, constants)
    outputs = [value.name for value in graph.output]
    _check_computed(inputs, outputs, steps, constants)
    used = {name for step in steps for name in step.inputs} | set(outputs)
    kept = {name: w for name, w in constants.items() if name in used}
    return OnnxModel(inputs, outputs, steps, kept)


def _check_computed(
    inputs: list[str], outputs: list[str], steps: list[Step], constants: dict[str, Array]
) -> None:
    """Raises ConversionError for a value that is read before any node gives it, or by none."""
    known = {"", *inputs, *constants}
    for step in steps:
        if missing := [name for name in step.inputs if name not in known]:
            raise ConversionError(
                f"import_onnx: node {step.name!r} ({step.op}) reads {missing[0]!r}, which nothing "
                f"before it gives."
            )
        known.update(step.outputs)
    if missing := [name for name in outputs if name not in known or not name]:
        raise ConversionError(f"import_onnx: the output {missing[0]!r} is computed by no node.")


def _steps(onnx: Any, graph: Any, constants: dict[str, Array]) -> list[Step]:
    """The nodes in order; adds what Constant nodes hold to the constants."""
    steps: list[Step] = []
    weights = 0  # bytes
    owners: dict[str, str] = {}  # name of a constant -> the node whose weight it is
    names: set[str] = set()
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(value.name for value in graph.output)
    for i, node in enumerate(graph.node):
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        attributes = {k: _readable(onnx, v) for k, v in attributes.items()}
        name = node.name or f"{node.op_type}_{i}"
        if _identifier(name) in names:  # ONNX asks for no distinct names
            name = f"{name}_{i}"
        names.add(_identifier(name))
        if node.op_type == "Constant" and not node.domain:
            constants[node.output[0]] = _constant(name, attributes)
            continue
        if node.op_type == "Add" and _is_bias(node, steps, readers, constants):
            steps[-1].outputs = list(node.output)
            continue
        function = _function(name, node, attributes, constants)
        if isinstance(function, Module):  # nodes that share a constant have copies of it
            _warn_of_copies(name, node, constants, owners)
            weights += sum(p.numpy().nbytes for p in function.parameters())
            if weights > memory_share():
                raise ConversionError(f"import_onnx: the layers up to {name!r} have more weights "
                                      f"than fit into half of this machine's memory.")  # fmt: skip
        inputs = list(node.input)
        if isinstance(function, OnnxRecurrent):
            inputs = [inputs[0], *function.dynamic(inputs)]
        elif isinstance(function, Module):  # one input, the others are its weights
            inputs = [inputs[1 if node.op_type == "Gather" else 0]]
        steps.append(Step(name, node.op_type, inputs, list(node.output), function))
    return steps


def _warn_of_copies(
    name: str, node: Any, constants: dict[str, Array], owners: dict[str, str]
) -> None:
    for weight in node.input:
        if weight in constants and constants[weight].dtype.kind == "f":
            if weight in owners:
                warnings.warn(
                    f"import_onnx: the nodes {owners[weight]!r} and {name!r} share the weights "
                    f"{weight!r}; each has a copy, so training would make them differ.",
                    SharedWeightsWarning,
                    stacklevel=5,
                )
            owners[weight] = name


def _is_bias(node: Any, steps: list[Step], readers: Any, constants: dict[str, Array]) -> bool:
    """Whether an Add gives the Linear just before it, read by nothing else, its bias."""
    if not steps or steps[-1].op != "MatMul" or not isinstance(steps[-1].function, nn.Linear):
        return False
    linear, y = steps[-1].function, steps[-1].outputs[0]
    others = [name for name in node.input if name != y]
    if len(node.input) - len(others) != 1 or readers[y] != 1 or linear.bias is not None:
        return False
    b = constants.get(others[0])
    if b is None or b.shape != (linear.out_features,) or b.dtype != linear.weight.dtype:
        return False
    linear.bias = nn.Parameter(b.copy())
    return True


def _function(name: str, node: Any, attributes: dict[str, Any], constants: dict[str, Array]) -> Any:
    """A minigrad module, or a function of the node's inputs."""
    what = f"node {name!r} ({node.op_type})"
    if node.domain not in ("", "ai.onnx"):
        raise ConversionError(f"import_onnx: {what} is of the domain {node.domain!r}; not of ONNX.")
    if node.op_type in LAYER_NODES:
        made = LAYER_NODES[node.op_type](what, list(node.input), attributes, constants)
        if made is not None:
            return made
    if node.op_type not in NODES:
        supported = ", ".join(sorted({*NODES, *LAYER_NODES, "Constant"}))
        raise ConversionError(f"import_onnx: {what} is not supported; supported are {supported}.")
    return NODES[node.op_type](what, attributes, len(node.output))


def _constant(name: str, attributes: dict[str, Any]) -> Array:
    (kind, value), *_ = [*attributes.items(), ("nothing", None)]
    if kind not in ("value", "value_int", "value_ints", "value_float", "value_floats"):
        raise ConversionError(f"import_onnx: node {name!r} (Constant) holds a {kind}; no numbers.")
    array = np.asarray(value, np.float32 if "float" in kind else None)
    if array.dtype.kind not in "fiub":
        raise ConversionError(f"import_onnx: node {name!r} (Constant) is {array.dtype}; no number.")
    return array


def _readable(onnx: Any, value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return array_of(onnx, value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], bytes):
        return [text.decode() for text in value]
    if isinstance(value, (list, tuple)):
        return list(value)
    return value


def _value(value: Any) -> Any:
    """Floats as a Tensor; integers, which are indices and sizes, as an array."""
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    return as_tensor(array) if array.dtype.kind == "f" else array


def _identifier(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_") or "node"
