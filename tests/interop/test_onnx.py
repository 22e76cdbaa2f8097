"""ONNX both ways: onnxruntime computes what minigrad exports, minigrad what others wrote."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.nodes import Node
from conformance.runtime import INPUTS, OUTPUTS, onnxruntime_values, random_node
from interop.models import LAYERS, TAPE, on_the_tape, same_bits

import minigrad as mg
from minigrad import interop, nn

onnx = pytest.importorskip("onnx", reason="reads and writes ONNX files")
HERE = Path(__file__).resolve().parent
T, B, I = 5, 3, 3


def run(file: Path, feed: dict[str, Any]) -> list[np.ndarray]:
    runtime = pytest.importorskip("onnxruntime", reason="computes the values")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


def close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)


# --------------------------------------------------------------------------------- out, and back in


def peephole(i: int, h: int, **options: Any) -> nn.Recurrent:
    return nn.Recurrent(lambda size: nn.PeepholeLSTMCell(size, h), i, **TAPE, **options)


EXPORTED = {**LAYERS, "peepholes": peephole}
SHAPES: list[dict[str, Any]] = [
    {},
    dict(num_layers=2, batch_first=True),
    dict(return_sequences=False),
    dict(bidirectional=True),
    dict(bidirectional=True, num_layers=2, merge="sum"),
    dict(bidirectional=True, merge="mean", batch_first=True),
    dict(bidirectional=True, merge="mul", return_sequences=False),
    dict(bidirectional=True, num_layers=3, return_sequences=False, batch_first=True),
]


@pytest.mark.parametrize("hidden", [1, 3])
@pytest.mark.parametrize("options", SHAPES, ids=lambda o: "-".join(map(str, o.values())) or "plain")
@pytest.mark.parametrize("name", EXPORTED)
def test_onnxruntime_computes_what_minigrad_does(
    name: str, options: dict[str, Any], hidden: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    layer = EXPORTED[name](I, hidden, **options)
    wide = hidden * (2 if layer.bidirectional and layer.merge == "concat" else 1)
    chain = interop.Chain(
        nn.Embedding(7, I), layer, nn.Dropout(0.5), mg.tanh, nn.Linear(wide, 3), mg.log_softmax
    ).eval()
    file = interop.export_onnx(tmp_path / "a.onnx", chain, lengths=True, states=True)

    shape = (B, T) if layer.batch_first else (T, B)
    feed: dict[str, Any] = {
        "x": rng.integers(0, 7, shape),
        "lengths": np.array([5, 1, 3], np.int32),
    }
    lstm = isinstance(layer.cells[0], nn.LSTMCell)
    for part in "hc" if lstm else "h":
        state = rng.standard_normal((len(layer.cells), B, hidden))
        feed[f"1.{part}_0"] = state.astype(np.float32)
    h, c = feed["1.h_0"], feed.get("1.c_0")
    y, finals = chain(feed["x"], feed["lengths"], {1: (h, c) if lstm else h})
    ours = [y, *(finals[1] if lstm else [finals[1]])]

    for mine, theirs in zip(ours, run(file, feed), strict=True):
        close(mine.numpy(), theirs)

    # And back: the same outputs, to the bit where no row was negated.
    model = on_the_tape(interop.import_onnx(file))
    again = model(**feed)
    assert list(again) == ["y", "1.h_n", "1.c_n"][: len(ours)]
    for mine, theirs in zip(ours, again.values(), strict=True):
        assert same_bits(mine.numpy(), theirs.numpy()) or "write" in name
        close(mine.numpy(), theirs.numpy())


@pytest.mark.parametrize("options", [{}, dict(bias=False)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_weights_come_back_with_the_same_bits(
    name: str, dtype: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    layer = LAYERS[name](I, 5, bidirectional=True, dtype=dtype, **options)
    linear = nn.Linear(10, 1, dtype=dtype, **options)
    file = interop.export_onnx(tmp_path / "a.onnx", [layer, linear])
    found = list(interop.import_onnx(file).layers.values())
    back, head = found[0].layer, found[1]
    if "write" in name:  # the file has one that keeps
        kept = LAYERS[name](I, 5, bidirectional=True, dtype=dtype, **options)
        made_with = interop.keras_arguments(back)
        interop.load_keras_weights(kept, interop.to_keras_weights(back), config=made_with)
    else:
        assert all(map(same_bits, layer.state_dict().values(), back.state_dict().values()))
    assert same_bits(linear.weight.numpy(), head.weight.numpy())
    assert isinstance(head, nn.Linear)
    assert (head.bias is None) == (linear.bias is None)


def test_float64_agrees_with_the_specifications_own_evaluator(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """onnxruntime computes RNN in float32 only; onnx.reference takes any dtype, forward only."""
    from onnx.reference import ReferenceEvaluator

    for name in ("rnn", "lstm", "gru", "gru before"):
        layer = LAYERS[name](I, 5, dtype=np.float64)
        file = interop.export_onnx(tmp_path / "a.onnx", layer)
        x = rng.standard_normal((T, B, I))
        expected = ReferenceEvaluator(str(file)).run(None, {"x": x})[0]
        assert expected.dtype == np.float64
        np.testing.assert_allclose(layer(x)[0].numpy(), expected, rtol=1e-12, atol=1e-14)
        found = interop.import_onnx(file)(x)["y"]
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-14)


def test_layers_without_time_are_exported_too(tmp_path: Path, rng: np.random.Generator) -> None:
    layers = [nn.LayerNorm(3, eps=1e-3), nn.Linear(3, 5), mg.relu, nn.Linear(5, 1, bias=False)]
    nn.init.normal_(layers[0].weight)
    model = nn.Sequential(*layers, mg.sigmoid)
    file = interop.export_onnx(tmp_path / "a.onnx", model)
    x = rng.standard_normal((7, 3)).astype(np.float32)
    close(run(file, {"x": x})[0], model(x).numpy())
    assert same_bits(interop.import_onnx(file)(x)["y"].numpy(), model(x).numpy())


def test_what_is_imported_trains(tmp_path: Path, rng: np.random.Generator) -> None:
    """Gradients are those of the layers that were exported."""
    chain = interop.Chain(nn.GRU(3, 2, **TAPE), nn.Linear(2, 1))
    file = interop.export_onnx(tmp_path / "a.onnx", chain)
    model = on_the_tape(interop.import_onnx(file))
    x = rng.standard_normal((T, B, I)).astype(np.float32)
    chain(x).output.sum().backward()
    model(x)["y"].sum().backward()
    ours, theirs = list(chain.parameters()), list(model.parameters())
    assert len(ours) == len(theirs) == 6
    for a, b in zip(ours, theirs, strict=True):
        close(a.grad.numpy(), b.grad.numpy())


# -------------------------------------------------------------------------------- what others wrote


def file_of(node: Node, path: Path, constant: tuple[str, ...] = ("W", "R", "B", "P")) -> Path:
    """One node with its weights as initialisers and the rest as inputs."""
    helper = onnx.helper
    names = [name if name in node.inputs else "" for name in INPUTS[node.op]]
    H = node.inputs["R"].shape[-1]
    outputs = list(OUTPUTS[node.op])
    made = helper.make_node(node.op, names, outputs, "it", hidden_size=H, **node.attributes)

    def described(name: str) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(node.inputs[name].dtype)
        return helper.make_tensor_value_info(name, kind, node.inputs[name].shape)

    held = [onnx.numpy_helper.from_array(node.inputs[n], n) for n in names if n in constant]
    floats = onnx.TensorProto.FLOAT
    results = [
        helper.make_tensor_value_info(n, floats, [None] * (4 if n == "Y" else 3)) for n in outputs
    ]
    inputs = [described(n) for n in names if n and n not in constant]
    graph = helper.make_graph([made], "one", inputs, results, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


VARIANTS: list[tuple[str, dict[str, Any], bool]] = [
    ("RNN", {}, False),
    ("RNN", {"activations": ["Relu"]}, False),
    ("LSTM", {}, False),
    ("LSTM", {}, True),
    ("LSTM", {"input_forget": 1}, False),
    ("GRU", {}, False),
    ("GRU", {"linear_before_reset": 1}, False),
]


@pytest.mark.parametrize("sizes", [(4, 3, 3, 5), (1, 1, 1, 1)])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("op", "attributes", "peepholes"), VARIANTS)
def test_minigrad_computes_what_onnxruntime_does(
    op: str,
    attributes: dict[str, Any],
    peepholes: bool,
    direction: str,
    sizes: tuple[int, int, int, int],
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    pytest.importorskip("onnxruntime", reason="computes the values")
    attributes = {**attributes, "direction": direction}
    if direction == "bidirectional" and "activations" in attributes:
        attributes["activations"] = attributes["activations"] * 2
    for ragged, initial in itertools.product((True, False), repeat=2):
        node = random_node(op, attributes, sizes, rng, ragged, initial, peepholes)
        model = on_the_tape(interop.import_onnx(file_of(node, tmp_path / "a.onnx")))
        found = model(**{k: w for k, w in node.inputs.items() if k in model.inputs})
        for name, y in onnxruntime_values(node).items():
            close(found[name].numpy(), y)


@pytest.mark.slow
@pytest.mark.needs_jit
@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_imported_layers_run_compiled_as_they_run_on_the_tape(
    direction: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    node = random_node("LSTM", {"direction": direction}, (4, 3, 3, 2), rng, peepholes=True)
    model = interop.import_onnx(file_of(node, tmp_path / "a.onnx"))
    feed = {k: w for k, w in node.inputs.items() if k in model.inputs}
    compiled = model(**feed)
    for name, y in on_the_tape(model)(**feed).items():
        close(compiled[name].numpy(), y.numpy())


def test_batch_first_nodes_are_the_others_with_their_axes_swapped(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """onnxruntime has no layout=1, so it computes layout=0."""
    node = random_node("LSTM", {"direction": "bidirectional"}, (4, 3, 3, 2), rng)
    expected = onnxruntime_values(node)
    swapped = dict(node.inputs)
    for name in ("X", "initial_h", "initial_c"):
        swapped[name] = np.ascontiguousarray(swapped[name].swapaxes(0, 1))
    other = Node(node.op, {**node.attributes, "layout": 1}, swapped)
    model = on_the_tape(interop.import_onnx(file_of(other, tmp_path / "a.onnx")))
    found = model(**{k: w for k, w in swapped.items() if k in model.inputs})
    close(found["Y"].numpy().transpose(1, 2, 0, 3), expected["Y"])
    close(found["Y_c"].numpy().swapaxes(0, 1), expected["Y_c"])


@pytest.mark.parametrize("name", ["torch_lstm", "torch_gru_dynamo"])
def test_files_of_torchs_exporters_give_torchs_values(name: str) -> None:
    model = on_the_tape(interop.import_onnx(HERE / f"{name}.onnx"))
    stored = np.load(HERE / f"{name}.npz")
    close(model(stored["words"])["y"].numpy(), stored["y"])
    close(model(words=stored["other_words"])["y"].numpy(), stored["other_y"])
    kinds = {type(layer).__name__ for layer in model.layers.values()}
    assert kinds == {"Embedding", "OnnxRecurrent", "Linear"}


# --------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("op", "attributes", "peepholes", "reason"),
    [
        ("LSTM", {"clip": 3.0}, False, "node 'it' .LSTM. has clip=3.0"),
        ("LSTM", {"input_forget": 1}, True, "has peepholes and input_forget"),
        (
            "GRU",
            {"activations": ["HardSigmoid", "Tanh"]},
            False,
            "minigrad's GRU has Sigmoid, Tanh",
        ),
        ("RNN", {"activations": ["Softsign"]}, False, "RNN has Tanh or Relu"),
        (
            "RNN",
            {"direction": "bidirectional", "activations": ["Tanh", "Relu"]},
            False,
            "in both directions alike",
        ),
    ],
)
def test_a_node_that_no_layer_computes_is_refused_by_name(
    op: str,
    attributes: dict[str, Any],
    peepholes: bool,
    reason: str,
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    node = random_node(op, attributes, (2, 1, 3, 1), rng, peepholes=peepholes)
    with pytest.raises(interop.ConversionError, match=reason):
        interop.import_onnx(file_of(node, tmp_path / "a.onnx"))


def test_weights_that_the_graph_computes_are_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    file = file_of(random_node("GRU", {}, (2, 1, 3, 1), rng), tmp_path / "a.onnx", ("R", "B"))
    with pytest.raises(interop.ConversionError, match="its W is computed by the graph"):
        interop.import_onnx(file)


def graph_file(path: Path, text: str) -> Path:
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    return path


HEAD = '<ir_version: 8, opset_import: ["" : 17]> g '


def test_an_unknown_operator_is_named_with_what_is_supported(tmp_path: Path) -> None:
    text = HEAD + "(float[2] x) => (float[2] y) { [its_name] y = Det (x) }"
    with pytest.raises(interop.ConversionError) as caught:
        interop.import_onnx(graph_file(tmp_path / "a.onnx", text))
    assert "node 'its_name' (Det) is not supported; supported are Abs, Add," in str(caught.value)
    assert "GRU, Gather, GatherElements, GatherND, Gelu, Gemm" in str(caught.value)


GRAPHS = {
    "Gemm": "(float[3,4] x) => (float[3,2] y)"
    "<float[4,2] W = {1,2,3,4,5,6,7,8}, float[2] b = {1,2}> { y = Gemm (x, W, b) }",
    "transposed Gemm": "(float[3,4] x) => (float[3,2] y) <float[2,4] W = {1,2,3,4,5,6,7,8}>"
    "{ y = Gemm <transB = 1> (x, W) }",
    "shapes": "(float[3,4] x) => (float[N,M] y)"
    "{ s = Shape (x) one = Constant <value_ints = [1]> () t = Squeeze (s)"
    " z = ConstantOfShape (t) u = Add (z, x) a = Unsqueeze (u, one)"
    " e = Squeeze (a, one) f = Softmax <axis = 0> (e) y = Transpose (f) }",
    "parts": "(float[3,4] x) => (float[N,M] y) <int64[1] a = {-1}, int64[1] b = {-9},"
    "int64[1] ax = {1}, int64[1] st = {-1}, int64[2] n = {1,3}, int64[2] sh = {0,-1}>"
    "{ r = Slice (x, a, b, ax, st) p, q = Split <axis = 1> (r, n)"
    " c = Concat <axis = -1> (q, p) m = ReduceMean <axes = [0], keepdims = 1> (c)"
    " d = Sub (c, m) w = Mul (d, d) v = Div (w, c) y = Reshape (v, sh) }",
    "constants": "(float[3,4] x) => (float[3,4] y) <float[1] a = {7}, float[1] b = {2},"
    "int64[1] i = {-7}, int64[1] j = {2}> { c = Div (a, b) k = Div (i, j) f = Cast <to = 1> (k)"
    " d = Dropout (x) z = Mul (d, c) y = Sub (z, f) }",
    "sums": "(float[3,4] x) => (float[N] y) <int64[1] ax = {0}, float[4] w = {1,2,3,4}>"
    "{ s = ReduceSum <keepdims = 0> (x, ax) l = LayerNormalization (s, w)"
    " c = Cast <to = 7> (l) d = Cast <to = 1> (c) e = Relu (l) y = Add (e, d) }",
}


@pytest.mark.parametrize("name", GRAPHS)
def test_nodes_without_weights_compute_what_onnxruntime_does(
    name: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    file = graph_file(tmp_path / "a.onnx", HEAD + GRAPHS[name])
    x = rng.standard_normal((3, 4)).astype(np.float32)
    close(interop.import_onnx(file)(x)["y"].numpy(), run(file, {"x": x})[0])


def test_layers_of_nodes_with_one_name_are_kept_apart(tmp_path: Path) -> None:
    text = HEAD + (
        "(float[3,2] x) => (float[3,2] y) <float[2,2] W = {1,2,3,4}, float[2,2] V = {5,6,7,8}>"
        '{ ["a/b"] h = MatMul (x, W) ["a.b"] y = MatMul (h, V) }'
    )
    file = graph_file(tmp_path / "a.onnx", text)
    model, x = interop.import_onnx(file), np.ones((3, 2), np.float32)
    assert list(model.layers) == ["a_b", "a_b_1"]
    close(model(x)["y"].numpy(), run(file, {"x": x})[0])


def test_weights_in_a_file_beside_are_read_or_missed_in_one_line(tmp_path: Path) -> None:
    text = (
        HEAD + "(float[3,2] x) => (float[3,2] y) <float[2,2] W = {1,2,3,4}> { y = MatMul (x, W) }"
    )
    file = tmp_path / "a.onnx"
    options: dict[str, Any] = dict(save_as_external_data=True, location="a.bin", size_threshold=0)
    onnx.save(onnx.parser.parse_model(text), file, **options)
    # The parser keeps numbers as text-sized fields; only raw ones move to the other file.
    model = onnx.load(file)
    raw = onnx.numpy_helper.from_array(np.array([[1, 2], [3, 4]], np.float32), "W")
    model.graph.initializer[0].CopyFrom(raw)
    onnx.save(model, file, **options)
    x = np.eye(3, 2, dtype=np.float32)
    assert interop.import_onnx(file)(x)["y"].numpy().tolist() == [[1, 2], [3, 4], [0, 0]]
    (tmp_path / "a.bin").unlink()
    with pytest.raises(interop.FormatError) as caught:
        interop.import_onnx(file)
    assert "\n" not in str(caught.value)


def test_a_dropout_in_training_is_refused(tmp_path: Path) -> None:
    text = "(float[2] x) => (float[2] y) <float r = {0.5}, bool t = {1}> { y = Dropout (x, r, t) }"
    model = interop.import_onnx(graph_file(tmp_path / "a.onnx", HEAD + text))
    with pytest.raises(interop.ConversionError, match="training mode"):
        model(np.ones(2, np.float32))


def test_an_error_while_a_graph_runs_says_in_which_node(tmp_path: Path) -> None:
    file = interop.export_onnx(tmp_path / "a.onnx", nn.RNN(3, 2))
    with pytest.raises(mg.ShapeError) as caught:
        interop.import_onnx(file)(np.ones((4, 2, 7), np.float32))
    assert caught.value.__notes__ == ["in node '0.l0.RNN' (RNN)"]
    with pytest.raises(mg.ShapeError, match=r"expected inputs .'x'., got .'z'."):
        interop.import_onnx(file)(z=1)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.LSTMCell(3, 2), "0 .LSTMCell. does not say what x is: give an example"),
        ([mg.tanh], "no layer says what x is"),
        ([nn.Linear(3, 2), "tanh"], "at 1 is 'tanh'; expected a layer"),
        ([nn.GRU(3, 2), nn.GRU(2, 2, batch_first=True)], "some layers are batch_first"),
        ([nn.GRU(3, 2), nn.Linear(2, 2, dtype=np.float64)], "different dtypes"),
        ([], "no layer"),
    ],
)
def test_what_onnx_lacks_is_refused_with_the_reason(
    model: Any, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(interop.ConversionError, match=reason):
        interop.export_onnx(tmp_path / "a.onnx", model)
    assert not list(tmp_path.iterdir())
    with pytest.raises(interop.ConversionError, match="are for recurrent layers"):
        interop.export_onnx(tmp_path / "a.onnx", nn.Linear(3, 2), lengths=True)


def test_files_that_are_none_are_refused_and_never_overwritten(tmp_path: Path) -> None:
    whole = (HERE / "torch_lstm.onnx").read_bytes()
    bad = {"cut.onnx": whole[: len(whole) // 2], "text.onnx": b"hello, world", "empty.onnx": b""}
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(interop.FormatError, match=f"{name}: this is no") as caught:
            interop.import_onnx(tmp_path / name)
        assert "\n" not in str(caught.value)
    (tmp_path / "torch.onnx").write_bytes(whole)
    for path in tmp_path.iterdir():
        before = path.read_bytes()
        with pytest.raises(interop.FormatError, match="left alone"):
            interop.export_onnx(path, nn.RNN(3, 2))
        assert path.read_bytes() == before
    with pytest.raises(interop.FormatError, match="no such file"):
        interop.import_onnx(tmp_path / "missing.onnx")
    for _ in range(2):
        interop.export_onnx(tmp_path / "ours.onnx", nn.RNN(3, 2))


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    layer = nn.LSTM(3, 2)
    a, b = (interop.export_onnx(tmp_path / name, layer).read_bytes() for name in ("a", "b"))
    assert a == b


SLICES = [
    (start, end, step)
    for start in (-9, -6, -4, -1, 0, 2, 4, 9)
    for end in (-9, -7, -5, -1, 0, 3, 4, 9)
    for step in (-3, -1, 1, 2)
]


def test_slices_are_onnxruntimes_for_starts_and_ends_beyond_the_array(tmp_path: Path) -> None:
    helper, floats, ints = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    names = ("start", "end", "axis", "step")
    graph = helper.make_graph(
        [helper.make_node("Slice", ["x", *names], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", floats, ["n"]),
            *(helper.make_tensor_value_info(name, ints, [1]) for name in names),
        ],
        [helper.make_tensor_value_info("y", floats, ["m"])],
    )
    opset = [helper.make_opsetid("", 17)]
    file = tmp_path / "a.onnx"
    file.write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    )
    model = interop.import_onnx(file)
    for n in (1, 4, 5):
        x = np.arange(n, dtype=np.float32)
        for start, end, step in SLICES:
            values = {"start": start, "end": end, "axis": 0, "step": step}
            given = {"x": x} | {name: np.array([v], np.int64) for name, v in values.items()}
            assert model(**given)["y"].numpy().tolist() == run(file, given)[0].tolist(), values
    zero = {name: np.array([v], np.int64) for name, v in zip(names, (0, 1, 0, 0), strict=True)}
    with pytest.raises(interop.ConversionError, match="Slice with a step of 0"):
        model(x=x, **zero)


def test_an_output_without_a_shape_or_a_type_is_of_any(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(HEAD + "(float[2] x) => (float[2] y) { y = Tanh (x) }")
    output, file = model.graph.output[0], tmp_path / "a.onnx"
    for lost in (
        lambda: output.type.tensor_type.ClearField("shape"),
        lambda: output.ClearField("type"),
    ):
        lost()
        file.write_bytes(model.SerializeToString())
        x = np.array([0.5, -2.0], np.float32)
        close(interop.import_onnx(file)(x)["y"].numpy(), run(file, {"x": x})[0])


def test_an_error_that_numpy_raises_while_a_graph_runs_names_the_node(tmp_path: Path) -> None:
    text = HEAD + (
        "(float[2] x) => (float[2] y) <int64[1] s = {3}>{ [its_name] y = Reshape (x, s) }"
    )
    model = interop.import_onnx(graph_file(tmp_path / "a.onnx", text))
    with pytest.raises((interop.ConversionError, mg.ShapeError)) as caught:
        model(np.ones(2, np.float32))
    said = str(caught.value) + "".join(getattr(caught.value, "__notes__", ()))
    assert "'its_name' (Reshape)" in said
