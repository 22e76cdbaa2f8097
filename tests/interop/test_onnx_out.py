"""export_onnx of models with a forward of their own: onnxruntime computes what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop.models import TAPE, on_the_tape

import minigrad as mg
from minigrad import interop, nn
from minigrad.op import REGISTRY
from minigrad.tree import leaves

onnx = pytest.importorskip("onnx", reason="writes ONNX files")
runtime = pytest.importorskip("onnxruntime", reason="computes the values")
SIZES = [{"T": 9, "B": 3}, {"T": 1, "B": 1}]


def run(file: Path, feed: dict[str, Any]) -> list[np.ndarray]:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


def array(value: Any) -> np.ndarray:
    return value.numpy() if isinstance(value, mg.Tensor) else np.asarray(value)


def floats(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def sized(example: dict[str, Any], axes: Any, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Inputs of other sizes, by repeating the example's."""
    made = {}
    for name, value in example.items():
        held = np.asarray(value)
        for axis, label in enumerate(axes.get(name, ())):
            if label:
                held = np.take(held, np.arange(sizes[label]) % held.shape[axis], axis)
        made[name] = np.minimum(held, sizes["T"]) if name == "lengths" else held
    return made


def agrees(model: nn.Module, file: Path, example: Any, axes: Any, sizes: Any = SIZES) -> None:
    """onnxruntime's values, and those of the file read back, are the model's, with its dtypes."""
    again = on_the_tape(interop.import_onnx(file))
    for part in again.modules():
        part.mode = "tape"
    on_the_tape(model.eval())
    for each in sizes:
        feed = sized(example, axes, each)
        result = model(**feed)
        parts = list(result.values()) if type(result) is dict else [result]
        expected = [array(leaf) for part in parts for leaf in leaves(part)]
        found, back = run(file, feed), list(map(array, again(**feed).values()))
        for e, f, b in zip(expected, found, back, strict=True):
            assert e.dtype == f.dtype == b.dtype
            np.testing.assert_allclose(f, e, rtol=1e-5, atol=3e-6)
            np.testing.assert_allclose(b, e, rtol=1e-5, atol=3e-6)


class Of(nn.Module):
    """A model of a function of (self, its inputs) and what it holds."""

    def __init__(self, function: Any, **held: Any):
        self.function = function
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def pooled(m: Any, x: Any, lengths: Any) -> Any:
    """The mean over real steps, beside the last state of both directions."""
    ys, h = m.rnn(m.embed(x), None, lengths)
    mean = ys.sum(axis=0) / lengths[:, None]
    return m.head(mg.concatenate([mean, h[0], h[1]], axis=-1)), mg.softmax(ys.sum(-1), axis=0)


def attending(m: Any, x: Any) -> Any:
    ys, (h, _) = m.rnn(x)
    memory = mg.swapaxes(ys, 0, 1)
    scores = mg.squeeze(memory @ m.q(h[-1]).reshape(-1, 4, 1), 2) / np.sqrt(4)
    weights = mg.softmax(scores, axis=-1)
    return {"context": mg.einsum("bt,bth->bh", weights, memory), "weights": weights}


def tied(m: Any, x: Any, **state: Any) -> Any:
    ys, state_n = m.rnn(m.embed(x))
    return mg.log_softmax(ys @ m.embed.weight.T + m.bias, axis=-1), state_n


def masked(m: Any, x: Any) -> Any:
    """Of whole tokens: what NumPy writes of them, an embedding that pads, a mask with gaps."""
    real = (x != 0) & ~(x == 3)
    ys, _ = m.rnn(m.embed(x), mask=real)
    both = mg.where(np.expand_dims(real, 2), ys, -1.0), np.where(real, x + 1, 0) * 2
    return (*both, mg.one_hot(x, 11), real.sum(axis=0), np.argmax(x, axis=0))


def shapes(m: Any, x: Any) -> Any:
    T, B, n = x.shape
    parts = mg.split(x, [1], axis=-1)
    grid = x[np.arange(T)[:, None], np.arange(B)[None], 0]
    pairs = mg.pad(x, ((1, 0), (0, 0), (0, 0))).reshape((T + 1) * B, n)[:-B]
    return {
        "flat": x.reshape(-1, n), "pairs": pairs, "grid": grid, "mean": x.mean(),
        "scaled": x / np.sqrt(T) + B / T, "std": mg.std(x, axis=(0, 1)), "last": x[-1, :, None],
        "some": x[:, [0, -1]], "turned": mg.flip(x, 0)[1:], "rolled": mg.roll(x, 2, 0),
        "joined": mg.stack([parts[0], parts[0] * (x[..., :1] > 0)], axis=1),
        "many": mg.tile(x, (2, 1, 1)), "steps": x[..., 0] + np.arange(T)[:, None],
        "sum": mg.cumsum(x, 0), "best": x.argmax(0), "wide": x.astype(np.float64),
        "nan": mg.where(x > 0, x, np.nan),
        "waves": mg.sin(mg.tensor(np.arange(T, dtype=np.float32)) * 0.1)[:, None, None] + x,
        "picked": x[:, 0, [1, 0]], "apart": x[0, :, np.array([2, 1])],
    }  # fmt: skip


def looped(m: Any, x: Any) -> Any:
    """Four steps of a cell in Python."""
    h = m.cell.init_state(x.shape[1])
    for _ in range(4):
        h, y = m.cell(h, x[-1])
    return y


def scanned(m: Any, x: Any) -> Any:
    """A scan of a function, backwards, that reads what is around it, in a scan."""
    start = mg.tensor(np.zeros((x.shape[1], 3), np.float32))
    top = x.max(axis=0)

    def inner(h: Any, v: Any) -> Any:
        return mg.tanh(h * m.w + v), h

    def cell(h: Any, v: Any) -> Any:
        twice, _ = mg.scan(inner, h, mg.stack([v, top]))
        return twice, twice - v

    return mg.scan(cell, start, x, reverse=True)


def states(m: Any, x: Any) -> Any:
    return m.rnn(x)


def mixed() -> nn.Recurrent:
    """An LSTM on a GRU: what a cell_factory may give and no layer of another library is."""
    cells = iter([nn.GRUCell(3, 2), nn.LSTMCell(2, 4)])
    return nn.Recurrent(lambda size: next(cells), 3, num_layers=2, **TAPE)


X, TOKENS, LENGTHS = floats(5, 2, 3), np.arange(10).reshape(5, 2), np.array([5, 3])
AXES: dict[str, Any] = {"x": ("T", "B")}
BOTH: dict[str, Any] = {**AXES, "lengths": ("B",)}
NAMED: dict[str, Any] = {**BOTH, "begins": ("T", "B")}


def made(name: str) -> tuple[nn.Module, dict[str, Any], dict[str, Any]]:
    """(model, an example of its inputs, names of their axes)."""
    embed, both = nn.Embedding(11, 3), dict(bidirectional=True, **TAPE)
    models: dict[str, Any] = {
        "pooled": (
            Of(pooled, embed=embed, rnn=nn.GRU(3, 4, **both), head=nn.Linear(16, 2)),
            {"x": TOKENS, "lengths": LENGTHS},
        ),
        "attending": (Of(attending, rnn=nn.LSTM(3, 4, **TAPE), q=nn.Linear(4, 4)), {"x": X}),
        "tied": (
            Of(tied, embed=embed, rnn=nn.LSTM(3, 3, num_layers=2, **TAPE),
               bias=nn.Parameter(np.ones(11), np.float32)),
            {"x": TOKENS},
        ),
        "masked": (
            Of(masked, embed=nn.Embedding(11, 3, padding_idx=0), rnn=nn.RNN(3, 4, **TAPE)),
            {"x": TOKENS},
        ),
        "shapes": (Of(shapes), {"x": X}),
        "looped": (Of(looped, cell=nn.LSTMCell(3, 4)), {"x": X}),
        "scanned": (Of(scanned, w=nn.Parameter(np.full(3, 0.5), np.float32)), {"x": X}),
        "states": (
            Of(states, rnn=nn.LSTM(3, 4, proj_size=2, return_states=True, **both)), {"x": X},
        ),
        "sizes": (Of(states, rnn=nn.GRU(3, [4, 5], **both)), {"x": X}),
        "mixed": (Of(states, rnn=mixed()), {"x": X}),
        "episodes": (
            Of(lambda m, x, begins: m.rnn(x, resets=begins), rnn=nn.LSTM(3, 4, **both)),
            {"x": X, "begins": X[..., 0] > 0},
        ),
        "blocks": (
            nn.Sequential(nn.Linear(3, 4), mg.tanh, Of(lambda m, x: x * 2), nn.LayerNorm(4)),
            {"x": X},
        ),
    }  # fmt: skip
    model, example = models[name]
    return model, example, {key: NAMED[key] for key in example}


MODELS = ["looped", "blocks", "pooled", "attending", "tied", "masked", "shapes", "scanned"]
MODELS += ["states", "sizes", "mixed", "episodes"]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_with_a_forward_of_its_own_is_what_onnxruntime_computes(
    name: str, tmp_path: Path
) -> None:
    model, example, axes = made(name)
    file = interop.export_onnx(tmp_path / "a.onnx", model, inputs=example, axes=axes)
    agrees(model, file, example, axes)
    sizes = [{"T": 5, "B": 2}]  # without axes it has the size of the example, and no other
    fixed = interop.export_onnx(tmp_path / "b.onnx", model, inputs=example)
    agrees(model, fixed, example, axes, sizes)
    assert len(onnx.load(fixed).graph.node) <= len(onnx.load(file).graph.node)


ZOO = ["MinGRUCell", "LayerNormLSTMCell", "LRUCell", "SLSTMCell", "ZoneoutLSTMCell", "JordanCell"]


@pytest.mark.parametrize("name", ZOO)
def test_any_cell_is_a_scan_with_lengths_and_both_directions(name: str, tmp_path: Path) -> None:
    rnn = nn.Recurrent(lambda n: getattr(nn, name)(n, 4), 3, bidirectional=True, **TAPE)
    rnn.return_sequences = name == "MinGRUCell"
    model = Of(lambda m, x, lengths: m.rnn(x, None, lengths), rnn=rnn)
    example = {"x": X, "lengths": LENGTHS}
    file = interop.export_onnx(tmp_path / "a.onnx", model, inputs=example, axes=BOTH)
    agrees(model, file, example, BOTH)
    assert [n.op_type for n in onnx.load(file).graph.node].count("Scan") == 2


def test_a_scan_is_unrolled_on_request(tmp_path: Path) -> None:
    model = Of(states, rnn=nn.Recurrent(lambda n: nn.MinGRUCell(n, 4), 3, **TAPE))
    options: dict[str, Any] = dict(inputs={"x": X}, unroll=True)
    axes = {"x": (None, "B")}
    file = interop.export_onnx(tmp_path / "a.onnx", model, axes=axes, **options)
    agrees(model, file, {"x": X}, axes, [{"T": 5, "B": 2}, {"T": 5, "B": 1}])
    assert "Scan" not in {n.op_type for n in onnx.load(file).graph.node}
    with pytest.raises(interop.ConversionError, match="leave the axis out of axes="):
        interop.export_onnx(tmp_path / "b.onnx", model, axes=AXES, **options)


def test_a_row_without_a_step_keeps_its_state(tmp_path: Path) -> None:
    rnn = nn.LSTM(3, 4, num_layers=2, bidirectional=True, **TAPE)
    file = interop.export_onnx(tmp_path / "a.onnx", rnn, lengths=True, states=True)
    h, c = floats(4, 2, 4), floats(4, 2, 4) + 1
    lengths = np.array([0, 3], np.int32)
    y, finals = rnn(X, (mg.tensor(h), mg.tensor(c)), lengths)
    found = run(file, {"x": X, "lengths": lengths, "0.h_0": h, "0.c_0": c})
    for mine, theirs in zip((y, *finals), found, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-5, atol=2e-6)


def test_inputs_and_outputs_keep_their_names_beside_parameters(tmp_path: Path) -> None:
    model = Of(
        lambda m, **given: {"y": given["bias"] @ m.weight + m.bias, "weight": given["y"] * 2}
    )
    model.weight, model.bias = (nn.Parameter(floats(*s), np.float32) for s in ((3, 3), (3,)))
    feed = {"bias": X[0], "y": floats(1, 1)}
    example = {name: mg.tensor(a) for name, a in feed.items()}
    file = interop.export_onnx(tmp_path / "a.onnx", model, inputs=example)
    graph = onnx.load(file).graph
    assert [v.name for v in graph.input] == ["bias", "y"]
    assert [v.name for v in graph.output] == ["y_out", "weight_out"]
    expected = [X[0] @ model.weight.numpy() + model.bias.numpy(), feed["y"] * 2]
    for mine, theirs in zip(expected, run(file, feed), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_a_constant_that_is_added_to_in_place_is_a_new_tensor(tmp_path: Path) -> None:
    def summed(m: Any, x: Any) -> Any:
        total = mg.tensor(np.zeros(3, np.float32))
        for row in x[:3]:
            total += mg.sum(row, axis=0)
        return total

    file = interop.export_onnx(tmp_path / "a.onnx", Of(summed), inputs={"x": mg.tensor(X)})
    np.testing.assert_allclose(run(file, {"x": X})[0], X[:3].sum((0, 1)), rtol=1e-5, atol=1e-6)


def test_states_go_in_and_out_as_trees(tmp_path: Path) -> None:
    model = nn.LSTMCell(3, 4)
    state = nn.LSTMState(mg.tensor(floats(2, 4)), mg.tensor(floats(2, 4) + 1))
    axes = {"x": ("B",), "state.h": ("B",), "state.c": ("B",)}
    inputs = (state, mg.tensor(X[0]))
    file = interop.export_onnx(tmp_path / "a.onnx", model, inputs=inputs, axes=axes)
    graph = onnx.load(file).graph
    assert [v.name for v in graph.input] == ["state.h", "state.c", "x"]
    assert [v.name for v in graph.output] == ["y[0].h", "y[0].c", "y[1]"]
    feed = {"state.h": floats(3, 4), "state.c": floats(3, 4) * 2, "x": floats(3, 3)}
    (h, c), y = model((mg.tensor(feed["state.h"]), mg.tensor(feed["state.c"])), feed["x"])
    for mine, theirs in zip((h, c, y), run(file, feed), strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-5, atol=2e-6)


def test_weights_keep_their_names_and_a_shared_one_is_one(tmp_path: Path) -> None:
    model, example, axes = made("tied")
    model.train()
    before = {name: w.copy() for name, w in model.state_dict().items()}
    scopes = [m.scope_name for m in model.modules()]
    files = [
        interop.export_onnx(tmp_path / name, model, inputs=example, axes=axes).read_bytes()
        for name in "ab"
    ]
    assert files[0] == files[1]
    held = {
        w.name: onnx.numpy_helper.to_array(w)
        for w in onnx.load_from_string(files[0]).graph.initializer
    }
    for name in ("embed.weight", "bias"):
        assert held[name].tobytes() == before[name].tobytes()
    assert sum(w.shape == (11, 3) or w.shape == (3, 11) for w in held.values()) == 1
    assert len(list(interop.import_onnx(tmp_path / "a").parameters())) == len(before)
    assert model.training
    assert [m.scope_name for m in model.modules()] == scopes
    assert all(np.array_equal(w, before[name]) for name, w in model.state_dict().items())


REFUSED = {"cross_entropy", "cross_entropy_pull", "softmax_pull", "log_softmax_pull", "scatter"}


def calls_of(op: Any) -> list[tuple[list[np.ndarray], dict[str, Any]]]:
    """Arguments that an op is tested with; an elementwise one broadcasts, and takes integers."""
    if op.kind != "elementwise":
        return [([floats(*s) for s in shapes], dict(p)) for shapes, p in op.samples]
    low, high = op.domain
    drawn = [
        (np.random.default_rng(i).uniform(low, high, s)).astype(np.float32)
        for i, s in zip(range(len(op.inputs)), [(3, 4), (4,), (3, 1)], strict=False)
    ]
    values = [a > 0 if n in op.bools else a for n, a in zip(op.inputs, drawn, strict=True)]
    found = [(values, {})]
    if op.integers is not None:
        whole = np.array([-7, -4, -1, 2, 7, 5]), np.array([2, 3, -2, 2, 3, 1]), np.array(4)
        found.append((list(whole[: len(op.inputs)]), {}))
    return found


OPS = sorted(name for name, op in REGISTRY.items() if op.__module__.startswith("minigrad."))


@pytest.mark.wide
@pytest.mark.parametrize("names", [OPS[:40], pytest.param(OPS[40:], marks=pytest.mark.long)])
def test_every_op_is_written_as_it_computes(names: list[str], tmp_path: Path) -> None:
    for name in names:
        op = REGISTRY[name]
        for given, params in calls_of(op):
            given = [np.abs(a) for a in given] if name == "pow" and given[0].dtype == int else given
            example = {f"x{i}": mg.tensor(a) for i, a in enumerate(given)}

            def forward(m: Any, op: Any = op, params: Any = params, **xs: Any) -> Any:
                return op([*xs.values()], **params) if op.variadic else op(*xs.values(), **params)

            model = Of(forward)
            if name in REFUSED:
                with pytest.raises(interop.ConversionError, match=f"{name} has no writer"):
                    interop.export_onnx(tmp_path / "a.onnx", model, inputs=example)
                continue
            file = interop.export_onnx(tmp_path / "a.onnx", model, inputs=example)
            expected = model(**example).numpy()
            feed = {key: t.numpy() for key, t in example.items()}
            for found in (run(file, feed)[0], array(interop.import_onnx(file)(**feed)["y"])):
                assert found.dtype == expected.dtype, name
                np.testing.assert_allclose(found, expected, 2e-6, 1e-6, err_msg=name)


SPECIAL = np.array([-np.inf, -200, -1e-6, -0.0, 1e-7, 0.5, 90, np.inf, np.nan], np.float32)


@pytest.mark.wide
@pytest.mark.parametrize("name", ["expm1", "log1p", "sigmoid", "softplus", "elu", "sech2", "gelu"])
def test_formulas_hold_near_zero_and_far_out(name: str, tmp_path: Path) -> None:
    model = Of(lambda m, x: getattr(mg.ops, name)(x))
    file = interop.export_onnx(tmp_path / "a.onnx", model, inputs=SPECIAL)
    expected = model(mg.tensor(SPECIAL)).numpy()
    np.testing.assert_allclose(run(file, {"args0": SPECIAL})[0], expected, rtol=2e-6, atol=1e-30)


def test_an_op_of_ones_own_is_written_from_its_declaration(tmp_path: Path) -> None:
    from minigrad import scalar
    from minigrad.kinds import elementwise

    if "squashed" not in REGISTRY:

        @elementwise
        def squashed(x, by):
            """y = x / (1 + |by x|)."""
            return x / (1.0 + scalar.abs(by * x))

        squashed.vjp(x=lambda g, x, by: g, by=lambda g, x, by: g)
    op = REGISTRY.pop("squashed")
    model = Of(lambda m, x: op(x, 2.0))
    file = interop.export_onnx(tmp_path / "a.onnx", model, inputs=mg.tensor(X))
    found = run(file, {"args0": X})[0]
    np.testing.assert_allclose(found, X / (1 + np.abs(2 * X)), rtol=1e-6)


# ---------------------------------------------------------------------------------------- refusals


def leaking(m: Any, x: Any) -> Any:
    kept: list[Any] = []

    def cell(h: Any, v: Any) -> Any:
        kept.append(h * 2)
        return h + v, h

    mg.scan(cell, mg.tensor(np.zeros((x.shape[1], 3), np.float32)), x)
    return kept[-1]


WRONG: dict[str, tuple[Any, str]] = {
    "branch": (lambda m, x: x * 2 if mg.tensor(x).sum() > 0 else x, "a branch on a Tensor"),
    "branch of NumPy": (lambda m, x: x * 2 if x.sum() > 0 else x, r"bool\(\) of what depends"),
    "number": (lambda m, x: x * mg.tensor(x).sum().item(), r"t.item\(\) of float32"),
    "copied": (lambda m, x: mg.tanh(np.asarray(x) * 2), "Python or NumPy computed it"),
    "cut": (lambda m, x: mg.tensor(np.asarray(x)[0]), "which NumPy cut out unseen"),
    "sorted": (lambda m, x: np.sort(x), "np.sort of what depends on an input"),
    "loop": (
        lambda m, x: mg.stack([m.c(m.c.init_state(x.shape[1]), v)[1] for v in x]),
        "a loop or a branch that Python decides about",
    ),
    "half": (lambda m, x: x[: x.shape[0] // 2], "no simple function of the sizes"),
    "mask": (lambda m, x: mg.tensor(x)[x > 0], "a mask as an index"),
    "random": (lambda m, x: x * m.random.random(), "Python or NumPy computed it"),
    "drawn": (lambda m, x: m.dropout.train()(x), "random numbers are drawn"),
    "loss": (lambda m, x: nn.cross_entropy(x[0], np.zeros(2, int)), "it is a loss"),
    "edit": (lambda m, x: mg.tensor(x).__setitem__(0, 1.0), "build a new tensor"),
    "step": (lambda m, x: m.optimizer.step(), "no part of a forward pass"),
    "leak": (leaking, "a value of a scan's step is read after it"),
    "nothing": (lambda m, x: None, "returns no Tensor"),
    "text": (lambda m, x: (mg.tanh(x), "a"), r"returns str as \[1\]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_would_be_another_function_is_refused_with_the_line(name: str, tmp_path: Path) -> None:
    function, reason = WRONG[name]
    weight = nn.Parameter(np.ones(3), np.float32)
    model = Of(
        function, c=nn.GRUCell(3, 3), dropout=nn.Dropout(0.5), w=weight,
        random=np.random.default_rng(0), optimizer=mg.optim.SGD([weight], 0.1),
    )  # fmt: skip
    with pytest.raises(interop.ConversionError, match=reason) as caught:
        interop.export_onnx(tmp_path / "a.onnx", model, inputs=X, axes={"args0": ("T", "B")})
    assert not list(tmp_path.iterdir())
    if name not in ("nothing", "text"):
        assert "test_onnx_out.py:" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (dict(inputs=X, axes={"y": ("T",)}), "the inputs are x"),
        (dict(inputs=X, axes={"x": ("T", "B", "I", "J")}), "expected a name or None for each"),
        (dict(inputs=X, axes={"x": ("T", "T")}), "the axis 'T' has 5 elements, and 2 in x"),
        (dict(inputs=X[:0], axes={"x": ("T", "B")}), "none of them empty"),
        (dict(inputs={}), "no array and no Tensor"),
        (dict(inputs=(X, X, X, X, X, X, X)), "has 7 values, and the forward of GRU takes x, state"),
        (dict(inputs=X, lengths=True), "among the inputs"),
        (dict(axes={"x": ("T",)}), "axes= names the axes of inputs="),
        (dict(lengths=X), r"expected export_onnx\(path, model\)"),
    ],
)
def test_a_call_that_makes_no_sense_says_what_would(
    options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(interop.ConversionError, match=reason):
        interop.export_onnx(tmp_path / "a.onnx", nn.GRU(3, 2, **TAPE), **options)


def test_a_size_that_the_model_does_not_take_is_named(tmp_path: Path) -> None:
    with pytest.raises(mg.ShapeError) as caught:
        interop.export_onnx(
            tmp_path / "a.onnx", nn.Linear(3, 2), inputs=X, axes={"x": ("T", "B", "I")}
        )
    assert "ran the model with T = 5, B = 2, I = 4" in caught.value.__notes__[0]


# --------------------------------------------------------------------------------------- and back


def test_an_imported_scan_trains_and_is_recorded_as_the_model_was(tmp_path: Path) -> None:
    model = Of(states, rnn=nn.Recurrent(lambda n: nn.MinGRUCell(n, 4), 3, **TAPE))
    file = interop.export_onnx(tmp_path / "a.onnx", model, inputs={"x": X}, axes=AXES)
    again = interop.import_onnx(file)
    for part in again.modules():
        part.mode = "tape"
    norms = []
    for outputs in (lambda: model(X), lambda: tuple(again(X).values())):
        with mg.flow.record() as rec:
            (mg.sum(outputs()[0] ** 2) + mg.sum(outputs()[1])).backward()
        norms.append([layer.norms["h"] for layer in rec.values()])
    np.testing.assert_allclose(norms[0], norms[1], rtol=1e-4, atol=1e-6)
    weight = model.rnn.weight_ih_l0.grad.numpy()
    found = [p.grad.numpy() for p in again.parameters() if p.shape == weight.shape]
    assert any(np.allclose(weight, g, rtol=1e-4, atol=1e-6) for g in found)


@pytest.mark.slow
@pytest.mark.needs_jit
def test_an_imported_scan_compiles(tmp_path: Path) -> None:
    model = Of(states, rnn=nn.Recurrent(lambda n: nn.MinGRUCell(n, 4), 3, **TAPE))
    file = interop.export_onnx(tmp_path / "a.onnx", model, inputs={"x": X}, axes=AXES)
    again = interop.import_onnx(file)
    assert {m.mode for m in again.layers.values()} == {"fused"}
    for mine, theirs in zip(leaves(model(X)), again(X).values(), strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-6)


def scan_file(path: Path, state: str, **attributes: Any) -> Path:
    """A Scan of two sequences, the second of integers, and a state without rows."""
    body = onnx.parser.parse_graph(
        f"step ({state}[2] s, float[3] x, int64[3] i) => ({state}[2] r, float[3] y, int64[3] j) {{"
        f" one = Constant <value = {state}[1] {{1}}> () r = Add (s, one) k = Shape (i)"
        " e = Gather (W, i) y = Add (x, e) j = Add (i, k) }"
    )
    H = onnx.helper
    kinds = {"float": onnx.TensorProto.FLOAT, "int64": onnx.TensorProto.INT64}
    node = H.make_node(
        "Scan", ["s", "x", "i"], ["r", "y", "j"], "it", body=body, num_scan_inputs=2, **attributes
    )
    given = [("s", state, [2]), ("x", "float", [None, None]), ("i", "int64", [None, None])]
    infos = [H.make_tensor_value_info(name, kinds[kind], shape) for name, kind, shape in given]
    ends = [("r", state), ("y", "float"), ("j", "int64")]
    outputs = [H.make_tensor_value_info(name, kinds[kind], None) for name, kind in ends]
    held = [onnx.numpy_helper.from_array(np.arange(7, dtype=np.float32) / 8, "W")]
    graph = H.make_graph([node], "g", infos, outputs, held)
    opset = [H.make_opsetid("", 17)]
    path.write_bytes(H.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())
    return path


@pytest.mark.parametrize("state", ["float", "int64"])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        dict(scan_input_directions=[1, 1], scan_output_directions=[1, 1]),
        dict(scan_input_directions=[0, 1], scan_output_directions=[1, 0]),
        dict(scan_input_axes=[1, 0], scan_output_axes=[1, 0], scan_input_directions=[1, 0]),
    ],
)
def test_scans_of_others_run_over_every_axis_and_both_ways(
    attributes: dict[str, Any], state: str, tmp_path: Path
) -> None:
    file = scan_file(tmp_path / "a.onnx", state, **attributes)
    s = np.array([1, 2], {"float": np.float32, "int64": np.int64}[state])
    model = interop.import_onnx(file)
    for T in (1, 4):
        turned = attributes.get("scan_input_axes", [0])[0]
        x = floats(3, T) if turned else floats(T, 3)
        feed = {"s": s, "x": x, "i": np.arange(3 * T).reshape(T, 3) % 7}
        for mine, theirs in zip(model(**feed).values(), run(file, feed), strict=True):
            assert array(mine).dtype == theirs.dtype
            np.testing.assert_array_equal(array(mine), theirs)
    with pytest.raises(interop.ConversionError, match="without a step"):
        model(s=s, x=x[:, :0] if turned else x[:0], i=feed["i"][:0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(num_scan_inputs=9), "9 sequences"),
        (dict(num_scan_inputs=1), "has 1 sequences as inputs|9|other axes|outputs"),
        (dict(scan_input_axes=[0]), "other axes"),
    ],
)
def test_a_scan_that_is_not_what_it_says_is_refused(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    file = scan_file(tmp_path / "a.onnx", "float", scan_input_axes=[0, 0])
    model = onnx.load(file)
    node = model.graph.node[0]
    for name, value in change.items():
        held = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*held, onnx.helper.make_attribute(name, value)])
    file.write_bytes(model.SerializeToString())
    with pytest.raises((interop.ConversionError, interop.FormatError), match=reason):
        interop.import_onnx(file)
