"""ONNX files as exporters write them: weights computed, shared, halved, quantised, old opsets."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.nodes import Node
from conformance.runtime import onnxruntime_values, random_node
from interop.models import on_the_tape, same_bits

import minigrad as mg
from minigrad import interop, nn
from minigrad.interop.onnx_nodes import NODES

onnx = pytest.importorskip("onnx", reason="builds the files")
runtime = pytest.importorskip("onnxruntime", reason="computes the values")
H = onnx.helper
FLOAT = onnx.TensorProto.FLOAT


def file_of(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, Any],
    outputs: list[str],
    constants: dict[str, Any],
    opset: int = 17,
    **options: Any,
) -> Path:
    """A graph of nodes; inputs: name -> an array of the dtype, of any shape of its rank."""

    def described(name: str, value: Any) -> Any:
        value = np.asarray(value)
        kind = H.np_dtype_to_tensor_dtype(value.dtype)
        return H.make_tensor_value_info(name, kind, [None] * value.ndim)

    held = [onnx.numpy_helper.from_array(np.asarray(w), name) for name, w in constants.items()]
    results = [H.make_tensor_value_info(name, FLOAT, None) for name in outputs]
    given = [described(name, value) for name, value in inputs.items()]
    graph = H.make_graph(nodes, "g", given, results, held)
    domains = [H.make_opsetid("", opset), H.make_opsetid("com.microsoft", 1)]
    model = H.make_model(graph, opset_imports=domains, ir_version=8, **options)
    path.write_bytes(model.SerializeToString())
    return path


def run(file: Path, feed: dict[str, Any], outputs: list[str] | None = None) -> list[np.ndarray]:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return list(session.run(outputs, feed))


def agrees(file: Path, feed: dict[str, Any], **options: Any) -> Any:
    """The imported model, once it gives what onnxruntime does."""
    model = on_the_tape(interop.import_onnx(file, **options))
    found = model(**feed)
    for name, expected in zip(found, run(file, feed), strict=True):
        value = found[name].numpy() if isinstance(found[name], mg.Tensor) else found[name]
        assert value.dtype == expected.dtype
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=2e-6)
    return model


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


# ------------------------------------------------------------------------------ weights computed


def sliced_lstm(path: Path, rng: np.random.Generator, h: int) -> tuple[Path, dict[str, Any]]:
    """What torch's exporter writes of an LSTM: its rows i f g o, sliced, joined as i o f g."""
    constants: dict[str, Any] = {"w": normal(rng, 4 * h, 3), "r": normal(rng, 4 * h, h)}
    constants |= {"b": normal(rng, 8 * h), "zero": integers(0), "one": integers(1)}
    nodes = []
    for name in "wr":
        for i, gate in enumerate("ifgo"):
            constants |= {f"{gate}0": integers(i * h), f"{gate}1": integers((i + 1) * h)}
            inputs = [name, f"{gate}0", f"{gate}1", "zero", "one"]
            nodes.append(H.make_node("Slice", inputs, [f"{name}{gate}"]))
        nodes.append(H.make_node("Concat", [f"{name}{g}" for g in "iofg"], [f"{name}_"], axis=0))
        nodes.append(H.make_node("Unsqueeze", [f"{name}_", "zero"], [name.upper()]))
    nodes.append(H.make_node("Reshape", ["b", "shape"], ["b_"]))
    nodes.append(H.make_node("Cast", ["b_"], ["B"], to=FLOAT))
    constants["shape"] = integers(1, -1)
    nodes.append(H.make_node("LSTM", ["x", "W", "R", "B"], ["Y"], "rnn", hidden_size=h))
    file = file_of(path, nodes, {"x": normal(rng, 5, 2, 3)}, ["Y"], constants)
    return file, {"x": normal(rng, 5, 2, 3)}


@pytest.mark.parametrize("h", [1, 5])
def test_weights_that_come_through_slices_and_joins_are_folded(
    h: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    file, feed = sliced_lstm(tmp_path / "a.onnx", rng, h)
    model = agrees(file, feed)
    assert [step.op for step in model.steps] == ["LSTM"]
    assert len(list(model.parameters())) == 4
    w = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(file).graph.initializer}
    assert same_bits(model.layers["rnn"].layer.weight_ih_l0.numpy(), w["w"])  # torch's own order


def test_folding_stops_where_a_few_bytes_would_fill_the_memory(tmp_path: Path) -> None:
    nodes = [H.make_node("Concat", ["a0"] * 64, ["a1"], axis=0)]
    nodes += [H.make_node("Concat", [f"a{i}"] * 64, [f"a{i + 1}"], axis=0) for i in range(1, 9)]
    nodes.append(H.make_node("Shape", ["x"], ["y"]))
    file = file_of(
        tmp_path / "a.onnx", nodes, {"x": np.ones(2, np.float32)}, ["y"], {"a0": np.ones(8)}
    )
    model = interop.import_onnx(file)
    assert sum(w.size for w in model.constants.values()) < 1 << 23
    for op, constants in (
        ("Expand", {"c": np.ones(1, np.float32), "s": integers(1 << 40)}),
        ("ConstantOfShape", {"s": integers(1 << 20, 1 << 20)}),
        ("Gather", {"c": np.ones((1, 1 << 12), np.float32), "s": np.zeros(1 << 14, np.int64)}),
    ):
        nodes = [H.make_node(op, list(constants), ["y"])]
        file = file_of(tmp_path / "a.onnx", nodes, {}, ["y"], constants)
        assert interop.import_onnx(file).steps[-1].op == op


# -------------------------------------------------------------------------------- weights shared


def test_an_initializer_of_two_nodes_is_one_parameter(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    nodes = [
        H.make_node("MatMul", ["x", "W"], ["a"]),
        H.make_node("Tanh", ["a"], ["b"]),
        H.make_node("MatMul", ["b", "W"], ["y"]),
    ]
    W, x = normal(rng, 3, 3), normal(rng, 1, 3)
    model = agrees(file_of(tmp_path / "a.onnx", nodes, {"x": x}, ["y"], {"W": W}), {"x": x})
    (parameter,) = model.parameters()
    model(x)["y"].sum().backward()
    inner = np.tanh(x @ W)
    slope = (1 - inner**2) * W.sum(1)  # d sum(tanh(x W) W) / dW
    expected = inner.T @ np.ones((1, 3)) + x.T @ slope
    np.testing.assert_allclose(parameter.grad.numpy(), expected.T, rtol=1e-4)
    mg.optim.SGD(model.parameters(), 0.1).step()
    W = W - np.float32(0.1) * expected
    np.testing.assert_allclose(model(x)["y"].numpy(), np.tanh(x @ W) @ W, rtol=1e-4)


def tied(path: Path, W: np.ndarray, how: str) -> Path:
    """Words -> their rows of W -> the product with all rows of W."""
    nodes, constants = [H.make_node("Gather", ["W", "x"], ["e"])], {"W": W}
    if how == "gemm":
        nodes.append(H.make_node("Gemm", ["e", "W"], ["y"], transB=1))
    elif how == "transposed":
        nodes.append(H.make_node("Transpose", ["W"], ["V"]))
    elif how == "twice":
        constants["V"] = np.ascontiguousarray(W.T)
    if how != "gemm":
        nodes.append(H.make_node("MatMul", ["e", "V"], ["y"]))
    return file_of(path, nodes, {"x": integers(0)}, ["y"], constants)


@pytest.mark.parametrize("how", ["gemm", "transposed", "twice"])
def test_a_tied_embedding_stays_tied(how: str, tmp_path: Path, rng: np.random.Generator) -> None:
    file, x = tied(tmp_path / "a.onnx", normal(rng, 7, 3), how), integers(1, 6, -7, -1)
    model = agrees(file, {"x": x})
    embedding, linear = model.layers.values()
    assert embedding.weight is linear.weight
    assert len(model.merged) == (how == "twice")
    again = interop.import_onnx(file, tie_equal=False)
    assert len(list(again.parameters())) == 1 + (how == "twice")


def test_zeros_and_ones_that_layers_start_with_are_not_taken_for_one_weight(
    tmp_path: Path,
) -> None:
    first, second = nn.LSTM(3, 3), nn.LSTM(3, 3)
    for layer in (first, second):
        for name, p in layer.named_parameters():
            if "bias" in name:
                p.data = np.zeros_like(p.numpy())
    file = interop.export_onnx(tmp_path / "a.onnx", [first, second, nn.LayerNorm(3)])
    model = interop.import_onnx(file)
    assert len(list(model.parameters())) == 10


def test_a_cell_called_in_a_loop_has_its_weights_once(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """As torch writes nn.LSTMCell in a loop, and nn.RNN: Gemm, or MatMul and Add, for each step."""
    steps = 3
    names = [f"x{t}" for t in range(steps)]
    nodes = [H.make_node("Split", ["x", "ones"], names, axis=0)]
    h = "h0"
    for t in range(steps):
        nodes += [
            H.make_node("Squeeze", [f"x{t}", "zero"], [f"s{t}"]),
            H.make_node("MatMul", [f"s{t}", "W"], [f"a{t}"]),
            H.make_node("Add", ["b", f"a{t}"], [f"b{t}"]),
            H.make_node("Gemm", [h, "R", "c"], [f"c{t}"], transB=1),
            H.make_node("Add", [f"b{t}", f"c{t}"], [f"d{t}"]),
            H.make_node("Add", [f"d{t}", "e"], [f"e{t}"]),
            H.make_node("Tanh", [f"e{t}"], [h := f"h{t + 1}"]),
        ]
    constants = {"W": normal(rng, 3, 2), "R": normal(rng, 2, 2), "b": normal(rng, 2)}
    constants |= {"c": normal(rng, 1, 2), "e": normal(rng, 2)}
    shapes = {"zero": integers(0), "ones": integers(1, 1, 1), "h0": np.zeros((4, 2), np.float32)}
    feed = {"x": normal(rng, steps, 4, 3)}
    model = agrees(file_of(tmp_path / "a.onnx", nodes, feed, [h], constants | shapes), feed)
    assert len(model.layers) == 2
    assert list(model.weights) == ["e"]  # nothing says that the start h0 is a weight
    assert len(list(model.parameters())) == 5

    # The same loop in an nn.RNN: after a step on both, both are still the same.
    W, R, b, c, e = (constants[name] for name in "WRbce")
    rnn = nn.RNN(3, 2, mode="tape")
    both = {"weight_ih_l0": W.T, "weight_hh_l0": R, "bias_ih_l0": b + e, "bias_hh_l0": c[0]}
    rnn.load_state_dict(both)
    for found, parameters in (
        (model(**feed)[h], model.parameters()),
        (rnn(feed["x"])[0][-1], rnn.parameters()),
    ):
        mg.sum(found).backward()
        mg.optim.SGD(parameters, 0.1).step()
    linear = model.layers["MatMul_2"]
    np.testing.assert_allclose(linear.weight.numpy(), rnn.weight_ih_l0.numpy(), rtol=1e-5)
    gemm = model.layers["Gemm_4"]
    np.testing.assert_allclose(gemm.weight.numpy(), rnn.weight_hh_l0.numpy(), rtol=1e-5)


def test_a_weight_that_a_layer_and_a_plain_node_read_is_one(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    nodes = [
        H.make_node("Gather", ["W", "x"], ["e"]),
        H.make_node("MatMul", ["V", "V"], ["f"]),
        H.make_node("MatMul", ["e", "V"], ["g"]),
        H.make_node("Mul", ["g", "W"], ["h"]),
        H.make_node("Transpose", ["W"], ["V"]),
    ]
    nodes = [nodes[0], nodes[4], nodes[2], nodes[3], H.make_node("Add", ["h", "V"], ["y"])]
    x = integers(0, 2, 1)
    file = file_of(tmp_path / "a.onnx", nodes, {"x": x}, ["y"], {"W": normal(rng, 3, 3)})
    model = agrees(file, {"x": x})
    (parameter,) = model.parameters()
    model(x)["y"].sum().backward()
    W = parameter.numpy().astype(float)

    def loss(w: np.ndarray) -> float:
        return float(((w[x] @ w.T) * w + w.T).sum())

    eps, slopes = 1e-6, np.zeros((3, 3))
    for place in np.ndindex(3, 3):
        d = np.zeros((3, 3))
        d[place] = eps
        slopes[place] = (loss(W + d) - loss(W - d)) / (2 * eps)
    np.testing.assert_allclose(parameter.grad.numpy(), slopes, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------------------------- what nodes do


REFUSED = {"exclusive", "reverse", "wrap", "edge", "reflect", "training", "positive", "negative"}
# More outputs than are given, axes without an element, and halves, which are floats here.
REFUSED |= {"mask", "empty", "normalization", "float16", "bfloat16"}
# Numbers that NumPy lacks, and a scale for each block of an axis.
REFUSED |= {"e4m3fn", "e5m2", "float4e2m1", "int4", "uint4", "int2", "uint2", "blocked"}
FEW = ["Clip", "DequantizeLinear", "Gelu", "MatMulInteger", "OneHot", "Pad", "Pow", "ReduceMax",
       "Slice", "Split", "Where"]  # fmt: skip


def standard_cases(op: str) -> list[Any]:
    """The standard's own tests of a node."""
    from onnx.backend.test.case import node
    from onnx.backend.test.case.node import _NodeTestCases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in pkgutil.iter_modules(node.__path__):
            if module.name.replace("_", "") == op.lower():
                importlib.import_module(f"{node.__name__}.{module.name}")  # fills the list
    return [
        case
        for case in _NodeTestCases
        if {(n.op_type, n.domain) for n in case.model.graph.node} == {(op, "")}
        and not REFUSED.intersection(case.name.split("_"))
    ]


@pytest.mark.wide
@pytest.mark.parametrize("names", [FEW, pytest.param(sorted(NODES), marks=pytest.mark.long)])
def test_nodes_give_the_standards_values(names: list[str], tmp_path: Path) -> None:
    cases = {name: standard_cases(name) for name in names if name != "Cast"}
    assert sum(map(bool, cases.values())) > 0.9 * len(names)
    for case in (case for some in cases.values() for case in some):
        (tmp_path / "a.onnx").write_bytes(case.model.SerializeToString())
        model = interop.import_onnx(tmp_path / "a.onnx")
        for given, expected in case.data_sets:
            for found, right in zip(model(*given).values(), expected, strict=True):
                value = found.numpy() if isinstance(found, mg.Tensor) else found
                assert value.dtype == np.asarray(right).dtype, case.name
                np.testing.assert_allclose(
                    value, right, rtol=1e-5, atol=1e-6, err_msg=case.name, strict=True
                )


def test_gemms_of_every_kind_are_computed(tmp_path: Path, rng: np.random.Generator) -> None:
    x = normal(rng, 3, 3)
    for shape in ((), (1,), (3,), (1, 3), (3, 1), (3, 3)):
        for options in ({}, {"transB": 1}, {"transA": 1}, {"alpha": 0.5, "beta": 2.0}):
            nodes = [H.make_node("Gemm", ["x", "W", "c"], ["y"], **options)]
            constants = {"W": normal(rng, 3, 3), "c": normal(rng, *shape)}
            file = file_of(tmp_path / "a.onnx", nodes, {"x": x}, ["y"], constants)
            model = agrees(file, {"x": x})
            linear = shape in ((3,), (1, 3)) and not {"transA", "alpha"} & set(options)
            assert len(model.layers) == linear
            assert sum(p.size for p in model.parameters()) == 9 + (
                constants["c"].size if constants["c"].size > 1 else 0
            )


def test_the_same_weights_with_a_bias_that_is_computed_are_another_layer(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    nodes = [
        H.make_node("Gemm", ["x", "W"], ["a"]),
        H.make_node("Gemm", ["a", "W", "x"], ["b"]),
        H.make_node("LayerNormalization", ["b", "w"], ["c"]),
        H.make_node("LayerNormalization", ["c", "w", "x"], ["y"]),
    ]
    constants, x = {"W": normal(rng, 3, 3), "w": normal(rng, 3)}, normal(rng, 3, 3)
    file = file_of(tmp_path / "a.onnx", nodes, {"x": x}, ["y"], constants)
    assert len(list(agrees(file, {"x": x}).parameters())) == 2


def test_an_output_that_a_node_does_not_give_is_refused(tmp_path: Path) -> None:
    nodes = [H.make_node("LayerNormalization", ["x", "w"], ["y", "mean"])]
    x = np.ones((2, 2), np.float32)
    file = file_of(tmp_path / "a.onnx", nodes, {"x": x}, ["mean"], {"w": x[0]})
    with pytest.raises(interop.ConversionError, match="the output 'mean' is computed by no node"):
        interop.import_onnx(file)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", ["RNN", "LSTM", "GRU"])
def test_rows_without_a_step_are_zero_as_in_onnxruntime(
    op: str, direction: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    node = random_node(op, {"direction": direction}, (3, 3, 2, 2), rng)
    held = {name: node.inputs[name] for name in "WRB"}
    names = ["X", "W", "R", "B", "sequence_lens", "initial_h"] + ["initial_c"] * (op == "LSTM")
    outputs = ["Y", "Y_h"] + ["Y_c"] * (op == "LSTM")
    made = H.make_node(op, names, outputs, hidden_size=2, direction=direction)
    for lengths in ([2, 0, 3], [0, 0, 0]):
        feed = {name: w for name, w in node.inputs.items() if name not in held}
        feed["sequence_lens"] = np.array(lengths, np.int32)
        model = agrees(file_of(tmp_path / "a.onnx", [made], feed, outputs, held), feed)
        feed["X"][:, 1] = np.nan  # of the row without a step nothing is read
        found = model(**feed)
        expected = onnxruntime_values(Node(op, {"direction": direction}, node.inputs | feed))
        assert all(np.isfinite(found[name].numpy()).all() for name in outputs)
        np.testing.assert_allclose(found["Y"].numpy(), expected["Y"], rtol=1e-5, atol=1e-6)


# ----------------------------------------------------------------------------- versions and dtypes


def old_graph(opset: int, rng: np.random.Generator) -> tuple[list[Any], dict[str, Any]]:
    """Nodes whose attributes became inputs, one after the other, from opset 10 to 13."""
    h = 2
    constants: dict[str, Any] = {"W": normal(rng, 1, 4 * h, 3), "R": normal(rng, 1, 4 * h, h)}
    constants |= {"V": normal(rng, h, 5), "b": normal(rng, 5), "one": integers(1)}
    constants |= {"zero": integers(0), "many": integers(9)}
    constants |= {"low": np.float32(-1), "high": np.float32(0.8)}
    slices: dict[str, Any] = {} if opset > 9 else {"starts": [1], "ends": [9], "axes": [0]}
    limits: dict[str, Any] = {} if opset > 10 else {"min": -1.0, "max": 0.8}
    axis: dict[str, Any] = {} if opset > 12 else {"axes": [1]}
    nodes = [
        H.make_node("LSTM", ["x", "W", "R"], ["Y"], hidden_size=h),
        H.make_node("Squeeze", ["Y"] if axis else ["Y", "one"], ["s"], **axis),
        H.make_node("Slice", ["s"] if slices else ["s", "one", "many", "zero"], ["l"], **slices),
        H.make_node("MatMul", ["l", "V"], ["m"]),
        H.make_node("Add", ["m", "b"], ["a"]),
        H.make_node("Clip", ["a"] if limits else ["a", "low", "high"], ["c"], **limits),
        H.make_node("Dropout", ["c"], ["d"], **({"ratio": 0.5} if opset < 12 else {})),
        H.make_node("ReduceSum", ["d"] if axis else ["d", "one"], ["r"], **axis),
        H.make_node("Softmax", ["r"], ["y"], axis=2),
    ]
    read = {name for node in nodes for name in node.input}
    return nodes, {name: w for name, w in constants.items() if name in read}


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 18, 21, 23])
def test_every_opset_from_7_on_is_read(
    opset: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    nodes, constants = old_graph(opset, rng)
    feed = {"x": normal(rng, 4, 2, 3)}
    model = agrees(file_of(tmp_path / "a.onnx", nodes, feed, ["y"], constants, opset), feed)
    assert [type(m).__name__ for m in model.layers.values()] == ["OnnxRecurrent", "Linear"]


def test_an_opset_that_cannot_be_converted_says_why(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    nodes, constants = old_graph(5, rng)
    file = file_of(tmp_path / "a.onnx", nodes, {"x": normal(rng, 4, 2, 3)}, ["y"], constants, 5)
    with pytest.raises(interop.ConversionError, match=r"opset 5, .*: No Adapter.* for LSTM"):
        interop.import_onnx(file)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_halves_become_float32_with_the_same_numbers(
    kind: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    half = onnx.TensorProto.FLOAT16 if kind == "float16" else onnx.TensorProto.BFLOAT16
    W = rng.integers(-8, 8, (1, 4, 3)) / 8
    constants = [H.make_tensor("W", half, W.shape, W.ravel())]
    constants.append(H.make_tensor("R", half, (1, 4, 1), [0.5, 0.25, 1, 2]))
    nodes = [
        H.make_node("Cast", ["x"], ["z"], to=half),
        H.make_node("LSTM", ["z", "W", "R"], ["Y"], "rnn", hidden_size=1),
        H.make_node("Cast", ["Y"], ["y"], to=FLOAT),
    ]
    ends = [H.make_tensor_value_info(n, FLOAT, [None] * r) for n, r in (("x", 3), ("y", 4))]
    graph = H.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    model = H.make_model(graph, opset_imports=[H.make_opsetid("", 22)], ir_version=10)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    imported = on_the_tape(interop.import_onnx(tmp_path / "a.onnx"))
    expected = nn.LSTM(3, 1, bias=False, mode="tape")
    expected.load_state_dict(
        {"weight_ih_l0": W[0][[0, 2, 3, 1]], "weight_hh_l0": [[0.5], [1], [2], [0.25]]}
    )
    assert {p.dtype for p in imported.parameters()} == {np.dtype(np.float32)}
    for dtype in (np.float32, np.float16):
        x = (rng.integers(-8, 8, (4, 2, 3)) / 8).astype(dtype)
        found = imported(x)["y"].numpy()
        np.testing.assert_array_equal(
            found[:, 0], expected(x.astype(np.float32))[0].numpy(), strict=True
        )


# -------------------------------------------------------------------------- recurrent nodes alone


def test_recurrent_nodes_are_taken_from_a_model_that_is_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    rnn, gru = ["z", "W", "R"], ["s", "U", "R"]
    nodes = [
        H.make_node("Det", ["q"], ["unused"], "det"),
        H.make_node("Identity", ["W0"], ["W"]),
        H.make_node("Neg", ["x"], ["z"], "neg"),
        H.make_node("GRU", rnn, ["Y", "h"], "first", hidden_size=2, linear_before_reset=1),
        H.make_node("Squeeze", ["Y", "one"], ["s"], "squeeze"),
        H.make_node("GRU", gru, ["y"], "second", hidden_size=2, linear_before_reset=1),
        H.make_node("GRU", gru, ["no"], "clipped", hidden_size=2, clip=0.5),
    ]
    constants = {"W0": normal(rng, 1, 6, 3), "U": normal(rng, 1, 6, 2), "R": normal(rng, 1, 6, 2)}
    feed = {"x": normal(rng, 4, 2, 3), "q": normal(rng, 2, 2)}
    file = file_of(
        tmp_path / "a.onnx", nodes, feed, ["y", "unused", "h"], constants | {"one": integers(1)}
    )
    with pytest.raises(interop.ConversionError, match=r"'det' .Det. is not supported"):
        interop.import_onnx(file)
    model = on_the_tape(interop.import_onnx(file, only="recurrent"))
    assert list(model.layers) == ["first", "second"]
    assert (model.inputs, model.outputs) == (["z", "s"], ["Y", "h", "y"])
    assert model.left[:3] == ["node 'det' (Det)", "node 'neg' (Neg)", "node 'squeeze' (Squeeze)"]
    assert "has clip=0.5" in model.left[3]
    h, y = run(file, feed, ["h", "y"])
    first = model(z=-feed["x"], s=np.zeros((4, 2, 2), np.float32))
    np.testing.assert_allclose(first["h"].numpy(), h, rtol=1e-5, atol=1e-6)
    second = model(z=-feed["x"], s=first["Y"][:, 0])
    np.testing.assert_allclose(second["y"].numpy(), y, rtol=1e-5, atol=1e-6)
    assert model.layers["first"].layer.weight_hh_l0 is model.layers["second"].layer.weight_hh_l0
    with pytest.raises(interop.ConversionError, match="expected 'recurrent'"):
        interop.import_onnx(file, only="rnn")
    only_clipped = file_of(tmp_path / "b.onnx", nodes[6:], {"s": feed["x"]}, ["no"], constants)
    with pytest.raises(interop.ConversionError, match=r"can be taken: node 'clipped'.*clip=0.5"):
        interop.import_onnx(only_clipped, only="recurrent")
    file = file_of(tmp_path / "a.onnx", nodes[2:3], {"x": feed["x"]}, ["z"], {})
    with pytest.raises(interop.ConversionError, match=r"no node RNN.*file, whose nodes are all kn"):
        interop.import_onnx(file, only="recurrent")
    conv = H.make_node("Conv", ["z", "w"], ["y"])
    weight = {"w": np.ones((1, 1, 1), np.float32)}
    file = file_of(tmp_path / "a.onnx", [nodes[2], conv], {"x": feed["x"]}, ["y"], weight)
    with pytest.raises(interop.ConversionError, match=r"no node RNN.*refused too, for Conv\."):
        interop.import_onnx(file, only="recurrent")


def test_recurrent_nodes_are_found_in_the_branches_of_an_if(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Both branches call their values the same, as exporters do."""
    held = {name: normal(rng, 1, 8, n) for name, n in (("W", 3), ("V", 3), ("R", 2))}

    def branch(name: str, W: str) -> Any:
        inner = [onnx.numpy_helper.from_array(held[W], "mine")]
        nodes = [
            H.make_node("Neg", ["x"], ["z"]),
            H.make_node("LSTM", ["z", "mine", "R"], ["y"], "rnn", hidden_size=2),
        ]
        return H.make_graph(nodes, name, [], [H.make_tensor_value_info("y", FLOAT, None)], inner)

    node = H.make_node(
        "If", ["c"], ["y"], "if", then_branch=branch("a", "W"), else_branch=branch("b", "V")
    )
    feed = {"x": normal(rng, 4, 2, 3), "c": np.array(True)}
    file = file_of(tmp_path / "a.onnx", [node], feed, ["y"], {"R": held["R"]})
    with pytest.raises(interop.ConversionError, match="holds a graph of its own"):
        interop.import_onnx(file)
    model = on_the_tape(interop.import_onnx(file, only="recurrent"))
    assert set(model.inputs) == {"if/then_branch/z", "if/else_branch/z"}
    found = model(-feed["x"], -feed["x"])
    for name, choice in (("then", True), ("else", False)):
        (expected,) = run(file, feed | {"c": np.array(choice)})
        np.testing.assert_allclose(
            found[f"if/{name}_branch/y"].numpy(), expected, rtol=1e-5, atol=1e-6
        )
    first, second = (layer.layer for layer in model.layers.values())
    assert first.weight_hh_l0 is second.weight_hh_l0


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_a_quantised_lstm_is_one_with_the_weights_that_it_means(
    dtype: Any, columns: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    D, I, h = 2, 3, 2
    info = np.iinfo(dtype)
    q = {n: rng.integers(info.min, info.max + 1, (D, k, 4 * h), dtype) for n, k in
         (("W", I), ("R", h))}  # fmt: skip
    shape = (D, 4 * h) if columns else (D,)
    scales = {n: (rng.random(shape) / 100 + 0.005).astype(np.float32) for n in "WR"}
    zeros = {n: np.full(shape, 0 if dtype is np.int8 else 128, dtype) for n in "WR"}
    B = normal(rng, D, 8 * h)
    names = ["x", "Wq", "Rq", "B", "", "", "", "", "Ws", "Wz", "Rs", "Rz"]
    constants: dict[str, Any] = {"B": B}
    for n in "WR":
        constants |= {f"{n}q": q[n], f"{n}s": scales[n], f"{n}z": zeros[n]}
    node = H.make_node(
        "DynamicQuantizeLSTM", names, ["Y", "Y_h"], "rnn", domain="com.microsoft",
        direction="bidirectional", hidden_size=h,
    )  # fmt: skip
    feed = {"x": normal(rng, 4, 2, I)}
    file = file_of(tmp_path / "a.onnx", [node], feed, ["Y", "Y_h"], constants)
    with pytest.raises(interop.ConversionError, match=r"8 bits.*dequantize=True"):
        interop.import_onnx(file)
    model = on_the_tape(interop.import_onnx(file, dequantize=True))
    meant = {
        n: ((q[n].astype(float) - zeros[n].reshape(D, 1, -1)) * scales[n].reshape(D, 1, -1))
        .swapaxes(1, 2)
        .astype(np.float32)
        for n in "WR"
    }
    plain = Node("LSTM", {"direction": "bidirectional"}, {"X": feed["x"], **meant, "B": B})
    expected = onnxruntime_values(plain)
    found = model(**feed)
    for name in ("Y", "Y_h"):
        np.testing.assert_allclose(found[name].numpy(), expected[name], rtol=1e-5, atol=1e-6)
    # What onnxruntime makes of the file, which rounds x and h to 8 bits as well, is near.
    np.testing.assert_allclose(found["Y"].numpy(), run(file, feed)[0], atol=0.05)
    constants["Ws"] = np.ones(5, np.float32)
    file = file_of(tmp_path / "a.onnx", [node], feed, ["Y"], constants)
    with pytest.raises(interop.ConversionError, match=r"a scale .* is \[5\]; expected \[2\]"):
        interop.import_onnx(file, dequantize=True)


def quantised_net(path: Path, rng: np.random.Generator) -> tuple[Path, dict[str, Any], Any]:
    """8-bit rows of an embedding, and a product as onnxruntime's quantize_dynamic writes it; and
    what it is without rounding, in float64.
    """
    constants: dict[str, Any] = {
        "rows": rng.integers(-128, 128, (7, 5), np.int8), "rs": np.float32(0.03), "rz": np.int8(3),
        "W": rng.integers(0, 256, (5, 3), np.uint8), "Ws": np.float32(0.02),
        "Wz": rng.integers(0, 256, 3, np.uint8), "b": normal(rng, 3),
    }  # fmt: skip
    nodes = [
        H.make_node("Gather", ["rows", "i"], ["e8"]),
        H.make_node("DequantizeLinear", ["e8", "rs", "rz"], ["e"]),
        H.make_node("Add", ["e", "x"], ["h"]),
        H.make_node("DynamicQuantizeLinear", ["h"], ["h8", "hs", "hz"]),
        H.make_node("MatMulInteger", ["h8", "W", "hz", "Wz"], ["p"]),
        H.make_node("Cast", ["p"], ["pf"], to=FLOAT),
        H.make_node("Mul", ["hs", "Ws"], ["s"]),
        H.make_node("Mul", ["pf", "s"], ["ps"]),
        H.make_node("Add", ["ps", "b"], ["y"]),
    ]
    feed = {"i": rng.integers(-7, 7, (2, 4)), "x": normal(rng, 2, 4, 5)}
    c = {name: np.asarray(w, np.float64) for name, w in constants.items()}
    h = (c["rows"][feed["i"]] - c["rz"]) * c["rs"] + feed["x"]
    exact = h @ ((c["W"] - c["Wz"]) * c["Ws"]) + c["b"]
    return file_of(path, nodes, feed, ["y"], constants), feed, exact


def test_a_quantised_net_without_its_rounding_is_the_one_that_it_approximates(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    file, feed, exact = quantised_net(tmp_path / "a.onnx", rng)
    with pytest.raises(interop.ConversionError, match=r"rounds to integers; .*dequantize=True"):
        interop.import_onnx(file)
    model = interop.import_onnx(file, dequantize=True)
    for _ in range(2):
        x = mg.tensor(feed["x"], requires_grad=True)
        y = model(feed["i"], x)["y"]
        np.testing.assert_allclose(y.numpy(), exact, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(y.numpy(), run(file, feed)[0], atol=0.01 * np.ptp(exact))
        y.sum().backward()
        assert np.all(np.any(x.grad, axis=-1))  # so the way back goes through what rounds
        feed = {"i": feed["i"][:1], "x": feed["x"][:1]}
        exact = exact[:1]


@pytest.mark.parametrize(("axis", "dtype"), [(0, np.int8), (1, np.uint8), (-1, np.int32)])
def test_dequantizing_is_exact_with_a_scale_for_each_place_of_an_axis(
    axis: int, dtype: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    q = rng.integers(0, 100, (3, 4), dtype)
    scale = (rng.random(q.shape[axis]) + 0.1).astype(np.float32)
    zero = (
        np.zeros(len(scale), dtype)
        if dtype is np.int32
        else rng.integers(9, size=len(scale), dtype=dtype)
    )
    node = H.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=axis)
    agrees(file_of(tmp_path / "a.onnx", [node], {"q": q}, ["y"], {"s": scale, "z": zero}), {"q": q})
    # Quantised before, without rounding: what went in comes out.
    before = H.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=axis)
    constants = {"s": scale, "z": np.zeros(len(scale), np.int8)}
    feed = {"x": normal(rng, 3, 4)}
    file = file_of(tmp_path / "b.onnx", [before, node], feed, ["y"], constants)
    found = interop.import_onnx(file, dequantize=True)(**feed)["y"]
    np.testing.assert_allclose(found.numpy(), feed["x"], rtol=1e-6)


def test_a_weight_stored_as_integers_is_a_parameter(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    constants = {"q": rng.integers(-9, 9, (3, 2), np.int8), "s": np.float32(0.5)}
    nodes = [
        H.make_node("DequantizeLinear", ["q", "s"], ["W"]),
        H.make_node("MatMul", ["x", "W"], ["y"]),
    ]
    feed = {"x": normal(rng, 4, 3)}
    model = interop.import_onnx(file_of(tmp_path / "a.onnx", nodes, feed, ["y"], constants))
    (weight,) = model.parameters()
    np.testing.assert_array_equal(weight.numpy().T, constants["q"] * 0.5)
    # The standard's value: onnxruntime rounds x to 8 bits here, as the file does not ask for.
    expected = feed["x"].astype(float) @ (constants["q"] * 0.5)
    np.testing.assert_allclose(model(**feed)["y"].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_product_of_integers_is_one_of_integers(tmp_path: Path, rng: np.random.Generator) -> None:
    a, b = rng.integers(0, 256, (2, 3), np.uint8), rng.integers(-128, 128, (3, 4), np.int8)
    constants: dict[str, Any] = {"b": b, "az": np.uint8(7), "bz": rng.integers(-9, 9, 4, np.int8)}
    node = H.make_node("MatMulInteger", ["a", "b", "az", "bz"], ["p"])
    file = file_of(tmp_path / "a.onnx", [node, H.make_node("Cast", ["p"], ["y"], to=FLOAT)],
                   {"a": a}, ["y"], constants)  # fmt: skip
    expected = (a.astype(int) - 7) @ (b.astype(int) - constants["bz"])
    np.testing.assert_array_equal(interop.import_onnx(file)(a=a)["y"].numpy(), expected)
    constants["az"] = rng.integers(9, size=2, dtype=np.uint8)  # one for each row
    file_of(file, [node, H.make_node("Cast", ["p"], ["y"], to=FLOAT)], {"a": a}, ["y"], constants)
    expected = (a.astype(int) - constants["az"][:, None]) @ (b.astype(int) - constants["bz"])
    np.testing.assert_array_equal(interop.import_onnx(file)(a=a)["y"].numpy(), expected)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_what_onnxruntime_quantises_is_read_as_the_net_that_it_approximates(
    kind: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization = pytest.importorskip("onnxruntime.quantization", reason="quantises")
    chain = interop.Chain(nn.Embedding(20, 6), nn.LSTM(6, 8, bidirectional=True), nn.Linear(16, 5))
    plain, small = tmp_path / "a.onnx", tmp_path / "b.onnx"
    interop.export_onnx(plain, chain)
    feed = {
        runtime.InferenceSession(str(plain)).get_inputs()[0].name: rng.integers(20, size=(7, 3))
    }
    if kind == "dynamic":
        # 7 bits: CPUs without VNNI add products of 8 bits in 16, which overflows
        quantization.quantize_dynamic(plain, small, per_channel=True, reduce_range=True)
    else:

        class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
            inputs = iter([feed] * 3)

            def get_next(self) -> Any:
                return next(self.inputs, None)

        quantization.quantize_static(plain, small, Reader())
    y, *_ = interop.import_onnx(small, dequantize=True)(**feed).values()
    scale = np.ptp(run(plain, feed)[0])
    for file in (plain, small):
        np.testing.assert_allclose(y.numpy(), run(file, feed)[0], atol=0.02 * scale)
