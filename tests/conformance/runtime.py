"""What onnxruntime computes for a node: values of any case, made when the test runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from conformance.nodes import Arrays, Node

INPUTS = {
    "RNN": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
    "GRU": ("X", "W", "R", "B", "sequence_lens", "initial_h"),
    "LSTM": ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"),
}
OUTPUTS = {"RNN": ("Y", "Y_h"), "GRU": ("Y", "Y_h"), "LSTM": ("Y", "Y_h", "Y_c")}
OPSET, IR_VERSION = 14, 8  # the newest RNN operators; old enough for every onnxruntime in use


def onnxruntime_values(node: Node) -> Arrays:
    import onnxruntime
    from onnx import TensorProto, checker, helper

    names = [name if name in node.inputs else "" for name in INPUTS[node.op]]
    outputs = OUTPUTS[node.op]
    H = node.inputs["R"].shape[-1]
    made = helper.make_node(node.op, names, outputs, hidden_size=H, **node.attributes)

    def described(name: str) -> Any:
        integers = name == "sequence_lens"
        kind = TensorProto.INT32 if integers else TensorProto.FLOAT
        unknown = [None] * (4 if name == "Y" else 3)
        shape = node.inputs[name].shape if name in node.inputs else unknown
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        [made], "one_node", [described(n) for n in names if n], [described(n) for n in outputs]
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip(outputs, session.run(outputs, node.inputs), strict=True))


def random_node(
    op: str,
    attributes: dict[str, Any],
    sizes: tuple[int, int, int, int],
    rng: np.random.Generator,
    ragged: bool = True,
    initial: bool = True,
    peepholes: bool = False,
) -> Node:
    """A node with normally distributed float32 inputs; sizes (T, N, I, H)."""
    T, N, I, H = sizes
    D = 2 if attributes.get("direction") == "bidirectional" else 1
    rows = {"RNN": 1, "LSTM": 4, "GRU": 3}[op] * H
    shapes: dict[str, tuple[int, ...]] = {"X": (T, N, I)}
    shapes |= {"W": (D, rows, I), "R": (D, rows, H), "B": (D, 2 * rows)}
    if peepholes:
        shapes["P"] = (D, 3 * H)
    if initial:
        shapes |= {"initial_h": (D, N, H)} | ({"initial_c": (D, N, H)} if op == "LSTM" else {})
    given = {name: (0.7 * rng.standard_normal(s)).astype(np.float32) for name, s in shapes.items()}
    if ragged:
        lengths = rng.integers(1, T + 1, N)
        lengths[0] = (T + 1) // 2  # at least one row ends early
        given["sequence_lens"] = lengths.astype(np.int32)
    return Node(op, attributes, given)
