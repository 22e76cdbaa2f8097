"""ONNX files, compared with onnxruntime."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import interop

from .case import Array, Found, values


def run(model: Any, feeds: dict[str, Array]) -> list[Array]:
    """What onnxruntime computes of a path or the bytes of a model."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    return onnxruntime.InferenceSession(model).run(None, feeds)


def whole(feeds: dict[str, Array], **options: Any) -> Callable[[Path], Found]:
    def compare(path: Path) -> Found:
        ours = interop.import_onnx(path, **options).eval()(**feeds)
        theirs = run(str(path), feeds)
        return Found("whole", [(np.asarray(a.data), b) for a, b in zip(ours.values(), theirs)])

    return compare


def layers(path: Path) -> Found:
    """Each recurrent node alone, on random inputs and states."""
    import onnx

    taken = interop.import_onnx(path, only="recurrent", dequantize=True).eval()
    model, pairs = onnx.load(path), []
    for step, (node, givers) in zip(taken.steps, recurrent_nodes(model.graph), strict=True):
        layer: Any = step.function
        D, H = len(layer.layer.cells), layer.layer.cells[0].hidden_size
        feeds = {"X": values(7, 3, layer.layer.input_size), "h": values(D, 3, H)}
        feeds |= {"c": 2 * values(D, 3, H)} if "LSTM" in node.op_type else {}
        theirs = run(alone(model, node, givers, feeds), feeds)
        ours = layer(feeds["X"], None, feeds["h"], feeds.get("c"))
        pairs += [(a.numpy(), b) for a, b in zip(ours, theirs, strict=True)]
    kinds = [type(step.function.layer).__name__ for step in taken.steps]
    return Found(
        f"layers: {', '.join(f'{kinds.count(k)} {k}' for k in dict.fromkeys(kinds))}", pairs
    )


def recurrent_nodes(graph: Any, outer: dict[str, Any] | None = None) -> Iterator[tuple[Any, Any]]:
    """(node, what gives each value that it sees) of a graph and of those inside its nodes."""
    givers = dict(outer or {}) | {w.name: w for w in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            for inside in (attribute.g, *attribute.graphs):
                yield from recurrent_nodes(inside, givers)
        if node.op_type in ("RNN", "LSTM", "GRU", "DynamicQuantizeLSTM"):
            yield node, givers
        givers |= dict.fromkeys(node.output, node)


def alone(model: Any, node: Any, givers: dict[str, Any], feeds: dict[str, Array]) -> bytes:
    """A model of one recurrent node, and what computes its weights; its inputs are `feeds`."""
    from onnx import NodeProto, TensorProto, helper

    own, needed = type(node)(), {}
    own.CopyFrom(node)
    weights = [*node.input[1:4], ""][:3]  # B may be left out
    own.input[:] = ["X", *weights, "", "h", *(["c", *node.input[7:]] if "c" in feeds else [])]
    own.output[:] = ["Y", "Y_h", "Y_c"][: len(feeds)]

    def need(names: Sequence[str]) -> None:
        for name in names:
            if name and name not in needed and name not in feeds:
                need(getattr(givers[name], "input", ()))
                needed[name] = givers[name]

    need(own.input)
    nodes = [g for g in needed.values() if isinstance(g, NodeProto)]
    held = [g for g in needed.values() if not isinstance(g, NodeProto)]
    typed = functools.partial(
        helper.make_tensor_value_info, elem_type=TensorProto.FLOAT, shape=None
    )
    graph = helper.make_graph(
        [*nodes, own], "alone", [*map(typed, feeds)], [*map(typed, own.output)], held
    )
    found = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return found.SerializeToString()
