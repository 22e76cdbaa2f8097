"""The nodes of an ONNX graph as steps: layers with their weights, and functions between them."""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn, ops
from ..errors import MinigradError
from ..nn.module import Module, Parameter
from ..untrusted import cause, memory_share
from .base import Array, ConversionError
from .onnx_layers import LAYER_NODES, OnnxRecurrent
from .onnx_loops import OnnxScan
from .onnx_nodes import NODES
from .onnx_quantized import QUANTIZED, ROUNDING, rounding
from .onnx_tensors import array_of
from .onnx_weights import Constants, SharedWeights

SUPPORTED = {*NODES, *ROUNDING, *LAYER_NODES, "Constant", "Scan"}
RECURRENT = ("RNN", "LSTM", "GRU", *QUANTIZED)
# Where a float initializer of more than one number is a weight; elsewhere it is a start or a limit.
TRAINED = ("Add", "Sub", "Mul", "Div", "MatMul", "Gemm", "Gather", "LayerNormalization", "PRelu")


@dataclass
class Step:
    """One node: values in by name, values out by name. No tuple, which Module would look into."""

    name: str
    op: str
    inputs: list[str]
    outputs: list[str]
    function: Callable[..., Any]


class GraphReader:
    """Reads the nodes of a graph, one after the other, into `steps`.

    only: "recurrent" leaves all others in `left`, with what refuses them where something does, and
    looks into the graphs that nodes such as If hold. dequantize: what quantised nodes become.
    """

    def __init__(self, onnx: Any, only: str | None, dequantize: bool, tie_equal: bool):
        self.onnx, self.only, self.dequantize = onnx, only, dequantize
        self.steps: list[Step] = []
        self.left: list[str] = []
        self.constants: dict[str, Array] = {}  # those that steps read
        self.weights: dict[str, Parameter] = {}  # those that plain nodes read, by the file's names
        self.shared = SharedWeights(tie_equal)
        self.layers: dict[tuple[Any, ...], Module] = {}
        self.names: set[str] = set()
        self.bytes = 0
        self.scope: dict[str, str] = {}  # the names of values of the graph that is read

    def read(
        self,
        graph: Any,
        outer: Constants | None = None,
        prefix: str = "",
        around: dict[str, str] | None = None,
    ) -> Constants:
        """Adds the graph's nodes; returns its constants. around: the names of values of the graphs
        that hold it, where these are others than in the file.
        """
        initializers = {w.name: array_of(self.onnx, w) for w in graph.initializer}
        if len(initializers) != len(graph.initializer):
            raise ConversionError("import_onnx: two initializers have the same name.")
        constants = Constants(initializers, outer, prefix)
        readers = defaultdict(list)
        for node in graph.node:
            for value in node.input:
                readers[value].append(node)
        for value in graph.output:
            readers[value.name].append(None)
        local = {v.name for v in graph.input} | {y for node in graph.node for y in node.output}
        scope = {v: prefix + v for v in local | set(initializers) if prefix and v}
        scope = self.scope = (around or {}) | scope
        merged: set[str] = set()
        first = len(self.steps)
        for i, node in enumerate(graph.node):
            if merged.intersection(node.output):
                continue
            name = self.name(f"{prefix}{node.name or f'{node.op_type}_{i}'}", i)
            try:
                merged.update(self.node(name, node, constants, readers))
            except ConversionError as error:
                if not self.only:
                    raise
                self.left.append(str(error).removeprefix("import_onnx: "))
            self.scope = scope
        for step in self.steps[first:]:
            self.bind(step, constants, scope)
            step.outputs = [scope.get(v, v) for v in step.outputs]
        if outer is not None:  # a file has one room, however many graphs it has
            outer.room = min(outer.room, constants.room)
        return constants

    def loop(self, name: str, node: Any, constants: Constants) -> None:
        """Adds a node Scan, with the steps of its graph."""
        attributes = {a.name: self.attribute(a) for a in node.attribute if not a.g.node}
        graph = next((a.g for a in node.attribute if a.name == "body"), None)
        what, prefix, scope = f"node {name!r} (Scan)", f"{name}/", self.scope
        if graph is None or "num_scan_inputs" not in attributes:
            raise ConversionError(f"import_onnx: {what} needs a body and num_scan_inputs.")
        outer, self.steps = self.steps, []
        inner = self.read(graph, constants, prefix, scope)
        steps, self.steps, self.scope = self.steps, outer, scope
        inputs = [prefix + v.name for v in graph.input]
        outputs = [prefix + v.name for v in graph.output]
        own = {*inputs, *(v for step in steps for v in step.outputs), ""}
        read = dict.fromkeys(v for step in steps for v in step.inputs)
        for value, full in zip(graph.output, outputs, strict=True):
            if full not in own and value.name in inner:  # a constant, or what it was folded to
                self.constants[full] = inner[value.name]
                read[full] = None
        captured = [v for v in read if v not in own]
        run, layers = functools.partial(run_steps, steps), modules_of(steps)
        function = OnnxScan(what, run, layers, inputs, outputs, captured, attributes)
        if len(node.input) != len(inputs) or len(node.output) > len(outputs):
            raise ConversionError(
                f"import_onnx: {what} has {len(node.input)} inputs, and its graph {len(inputs)}."
            )
        back = {full: raw for raw, full in scope.items()}  # `bind` maps names of the file
        taken = [*node.input, *(back.get(v, v) for v in captured)]
        self.steps.append(Step(name, "Scan", taken, list(node.output), function))

    def name(self, name: str, i: int) -> str:
        if identifier(name) in self.names:  # ONNX asks for no distinct names
            name = f"{name}_{i}"
        self.names.add(identifier(name))
        return name

    def node(self, name: str, node: Any, constants: Constants, readers: Any) -> list[str]:
        """Adds one node, as a constant or as a step; returns the outputs of the Add that gives it
        its bias, where one does.
        """
        op, what = node.op_type, f"node {name!r} ({node.op_type})"
        inputs, outputs = list(node.input), list(node.output)
        if op == "Scan" and not self.only and node.domain in ("", "ai.onnx"):
            self.loop(name, node, constants)
            return []
        held = [a for a in node.attribute if a.g.node or a.graphs]
        if held and self.only:
            for a in held:
                for graph in (a.g, *a.graphs):
                    self.read(graph, constants, f"{name}/{a.name}/")
        if self.only and (held or op not in (*RECURRENT, *NODES, "Constant")):
            self.left.append(what)
            return []
        attributes = {a.name: self.attribute(a) for a in node.attribute}
        if op in QUANTIZED and node.domain == "com.microsoft":
            inputs = QUANTIZED[op](what, inputs, constants, self.dequantize)
            op, what = "LSTM", f"node {name!r} (LSTM)"
        elif node.domain not in ("", "ai.onnx"):
            raise ConversionError(
                f"import_onnx: {what} is of the domain {node.domain!r}; not of ONNX."
            )
        if op == "Constant":
            constants[outputs[0]] = _constant(name, attributes)
            constants.sources.pop(outputs[0], None)
            return []
        function = NODES[op](what, attributes, len(outputs)) if op in NODES else None
        if op in ROUNDING:
            function = rounding(op, what, attributes, self.dequantize)
        if function is not None and constants.fold(op, function, attributes, node):
            return []
        if self.only and op not in RECURRENT:
            self.left.append(what)
            return []
        if op not in (*RECURRENT, "Split", "Dropout", "DynamicQuantizeLinear"):
            outputs = outputs[:1]  # the mean of a LayerNormalization, say, is not computed
        bias = self.bias_of(node, constants, readers) if op == "MatMul" else None
        weights = [*inputs, bias[0]] if bias else inputs
        layer = self.layer(name, what, op, weights, attributes, constants)
        if isinstance(layer, OnnxRecurrent):
            function, inputs = layer, [inputs[0], *layer.dynamic(inputs)]
        elif isinstance(layer, nn.Embedding):
            wrapped = f"{inputs[1]} in {name}"
            count = functools.partial(from_zero, layer.num_embeddings)
            self.steps.append(Step(f"{name}.indices", op, [inputs[1]], [wrapped], count))
            function, inputs = layer, [wrapped]
        elif layer is not None:  # one input, the others are its weights
            function, inputs = layer, inputs[:1]
        if function is None:
            supported = ", ".join(sorted(SUPPORTED))
            raise ConversionError(
                f"import_onnx: {what} is not supported; supported are {supported}. "
                f'import_onnx(..., only="recurrent") takes the recurrent nodes alone.'
            )
        self.steps.append(Step(name, op, inputs, bias[1] if bias else outputs, function))
        return bias[1] if bias else []

    def layer(
        self, name: str, what: str, op: str, inputs: list[str], attributes: Any, constants: Any
    ) -> Module | None:
        """The module that computes a node, if one does: that of an earlier node with the weights of
        this one, or a new one, with the Parameters of others where they share some.
        """
        if op not in LAYER_NODES:
            return None
        read = (1,) if op == "Gather" else (0, 4, 5, 6)  # what may change: no weights
        places = [v for i, v in enumerate(inputs) if i not in read]
        held = [v for v in places if v in constants]
        key = (
            op,
            *(v if v in held else bool(v) for v in places),
            repr(sorted(attributes.items())),
            constants.scope,
        )
        if key not in self.layers:
            made = LAYER_NODES[op](what, inputs, attributes, constants)
            if made is None:
                return None
            sources = frozenset[str]().union(*(constants.sources.get(v, ()) for v in held))
            self.bytes += self.shared.tie(identifier(name), made, sources)
            if self.bytes > memory_share():
                raise ConversionError(
                    f"import_onnx: the layers up to {name!r} have more weights than fit into half "
                    f"of this machine's memory."
                )
            self.layers[key] = made
        return self.layers[key]

    def bias_of(self, node: Any, constants: Constants, readers: Any) -> Any:
        """(the bias, the outputs) of the Add after a MatMul with constant weights, which nothing
        else reads: both are one Linear.
        """
        W, reader = constants.get(node.input[1]), readers[node.output[0]]
        if node.input[0] in constants or W is None or W.ndim != 2 or len(reader) != 1:
            return None
        if (add := reader[0]) is None or add.op_type != "Add" or add.domain not in ("", "ai.onnx"):
            return None
        name = next(v for v in (*add.input, "") if v != node.output[0])
        b = constants.get(name)
        plain = b is not None and b.shape == W.shape[1:] and b.dtype == W.dtype
        return (name, list(add.output)) if plain else None

    def bind(self, step: Step, constants: Constants, scope: dict[str, str]) -> None:
        """Keeps the constants that a step reads, as Parameters where they are weights."""
        for i, raw in enumerate(step.inputs):
            name = step.inputs[i] = scope.get(raw, raw)
            turned = f"{name} transposed"
            if raw not in constants or name in self.weights or turned in self.weights:
                continue
            w, sources = constants[raw], constants.sources.get(raw, frozenset())
            trained = step.op in TRAINED and not isinstance(step.function, Module)
            if not sources or not trained or w.size < 2:
                self.constants[name] = w
            elif w.ndim == 2 and (other := self.shared.holder(w.T, sources)) is not None:
                # A layer holds it the other way round: the rows of an embedding, say.
                self.weights[turned] = other[2]
                step_before = Step(turned, "Transpose", [turned], [name], ops.transpose)
                self.steps.insert(self.steps.index(step), step_before)
            else:
                self.weights[name] = self.shared.one(name, Parameter(w.copy()), sources)

    def attribute(self, attribute: Any) -> Any:
        value = self.onnx.helper.get_attribute_value(attribute)
        if isinstance(value, self.onnx.TensorProto):
            return array_of(self.onnx, value)
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, (list, tuple)):
            return [text.decode() if isinstance(text, bytes) else text for text in value]
        return value


def run_steps(steps: list[Step], held: dict[str, Any]) -> dict[str, Any]:
    """The values that are there, and those that the steps compute of them."""
    for step in steps:
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
    return held


def modules_of(steps: list[Step]) -> dict[str, Module]:
    """The modules among the steps, each once, by the names of their nodes."""
    found: dict[str, Module] = {}
    for step in steps:
        layer = step.function
        if isinstance(layer, Module) and all(layer is not m for m in found.values()):
            found[identifier(step.name)] = layer
    return found


def from_zero(n: int, indices: Any) -> Array:
    """Indices of n rows, those below 0 counted from the end."""
    indices = np.asarray(indices)
    return np.where(indices < 0, indices + n, indices)


def _constant(name: str, attributes: dict[str, Any]) -> Array:
    (kind, value), *_ = [*attributes.items(), ("nothing", None)]
    if kind not in ("value", "value_int", "value_ints", "value_float", "value_floats"):
        raise ConversionError(f"import_onnx: node {name!r} (Constant) holds a {kind}; no numbers.")
    array = np.asarray(value, np.float32 if "float" in kind else None)
    if array.dtype.kind not in "fiub":
        raise ConversionError(f"import_onnx: node {name!r} (Constant) is {array.dtype}; no number.")
    return array


def identifier(name: str) -> str:
    """A name with an underscore for what is no letter or digit."""
    return re.sub(r"\W+", "_", name).strip("_") or "node"
