"""record_keras: |dL/dh_t| against the backend's own gradient of the model, unrolled step by step.

Run where Keras 3 is installed with JAX or PyTorch: KERAS_BACKEND=jax pytest this file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.flow import FlowError
from minigrad.interop import ConversionError, MissingPackageError

if "keras" not in sys.modules:
    os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", minversion="3.0", reason="Keras 3 is not installed")
BACKEND = keras.backend.backend()
if BACKEND not in ("jax", "torch"):
    pytest.skip(
        f"the oracle is written for JAX and PyTorch, not {BACKEND}", allow_module_level=True
    )

pytestmark = pytest.mark.filterwarnings("ignore:__array__ impl:DeprecationWarning")  # Keras's own
L, ops = keras.layers, keras.ops
T, B, I, H = 5, 3, 2, 3


# On JAX and PyTorch, Keras multiplies matrices in float32 even where the model is of float64.
DTYPE, CLOSE = "float32", 1e-4


@pytest.fixture(autouse=True, scope="module")
def precision() -> Iterator[None]:
    before, policy = keras.backend.floatx(), keras.config.dtype_policy()
    keras.backend.set_floatx(DTYPE)
    keras.config.set_dtype_policy(DTYPE)
    keras.utils.set_random_seed(0)  # by which weights are drawn
    yield
    keras.backend.set_floatx(before)
    keras.config.set_dtype_policy(policy)


class Unrolled:
    """The layers of a Sequential model, each recurrent one a Python loop over its cell.

    Zeros are added to h after every step, by which the loss is differentiated: (T, B, H) for each
    layer and direction, in order of computation.
    """

    def __init__(self, model: Any, states: dict[str, Any] | None = None):
        self.model, self.first = model, states or {}

    def gradients(self, x: Any, mask: Any, y: Any, loss: Any) -> dict[str, Any]:
        ways = [name for layer in self.model.layers for name, _, _ in _ways(layer)]
        zeros = [ops.zeros((T, B, H)) for _ in ways]

        def value(zeros: Any) -> Any:
            self.zeros = dict(zip(ways, zeros, strict=True))
            return ops.mean(loss(y, self.run(ops.convert_to_tensor(x), mask)))

        if BACKEND == "jax":
            import jax

            found = jax.jit(jax.grad(value))(zeros)
        else:
            import torch

            zeros = [z.requires_grad_() for z in zeros]
            found = torch.autograd.grad(value(zeros), zeros)
        return {w: ops.convert_to_numpy(g) for w, g in zip(ways, found, strict=True)}

    def run(self, x: Any, mask: Any) -> Any:
        for layer in self.model.layers:
            ways = list(_ways(layer))
            if not ways:
                x = layer(x)
                continue
            given = [self.loop(name, one, x, mask) for name, one, _ in ways]
            if len(given) == 1:
                x = given[0]
            else:
                every = layer.return_sequences
                given[1] = ops.flip(given[1], 1) if every else given[1]
                x = (
                    ops.concatenate(given, -1)
                    if layer.merge_mode == "concat"
                    else given[0] * given[1]
                )
            if not ways[0][1].return_sequences:
                mask = None
        return x

    def loop(self, name: str, layer: Any, x: Any, mask: Any) -> Any:
        states = self.first.get(name) or layer.get_initial_state(B)
        order = range(T)[:: -1 if layer.go_backwards else 1]
        outputs = []
        y = ops.zeros((B, H))
        for k, t in enumerate(order):
            new, state = layer.cell(x[:, t], states)
            new, state = new + self.zeros[name][k], [state[0] + self.zeros[name][k], *state[1:]]
            if mask is not None:
                real = mask[:, t, None]
                new = ops.where(real, new, y)
                state = [ops.where(real, a, b) for a, b in zip(state, states, strict=True)]
            y, states = new, state
            outputs.append(y)
        return ops.stack(outputs, 1) if layer.return_sequences else y


def _ways(layer: Any) -> Iterator[tuple[str, Any, bool]]:
    if isinstance(layer, L.Bidirectional):
        yield f"{layer.name}/fwd", layer.forward_layer, False
        yield f"{layer.name}/rev", layer.backward_layer, True
    elif isinstance(layer, L.RNN):
        yield layer.name, layer, bool(layer.go_backwards)


CASES: dict[str, Any] = {
    "last output": lambda: [L.LSTM(H)],
    "stacked": lambda: [L.SimpleRNN(H, return_sequences=True), L.GRU(H, return_sequences=True)],
    "backwards": lambda: [
        L.GRU(H, return_sequences=True, go_backwards=True, reset_after=False),
        L.LSTM(H, return_sequences=True, go_backwards=True),
        L.SimpleRNN(H, activation="relu"),
    ],
    "both": lambda: [
        L.Bidirectional(L.LSTM(H, return_sequences=True), merge_mode="mul"),
        L.Bidirectional(L.GRU(H)),
    ],
    "between": lambda: [
        L.LSTM(H, return_sequences=True, use_bias=False), L.Dense(4, activation="tanh"),
        L.RNN(L.GRUCell(H), unroll=True),
    ],
}  # fmt: skip


def net(layers: Any) -> Any:
    return keras.Sequential([keras.Input((T, I)), *layers, L.Dense(2)])


def data(rng: np.random.Generator, model: Any) -> tuple[Any, Any]:
    x = rng.normal(size=(B, T, I)).astype(DTYPE)
    return x, rng.normal(size=(B, *model.output_shape[1:])).astype(DTYPE)


def square(y: Any, out: Any) -> Any:
    return ops.sum(ops.square(ops.subtract(y, out)), axis=-1)


def same(rec: Any, expected: dict[str, Any], real: Any = True) -> None:
    assert list(rec) == list(expected)
    for name, g in expected.items():
        norms = np.linalg.norm(g, axis=2) * real
        np.testing.assert_allclose(rec[name].per_sample["h"] * real, norms, rtol=CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_of_every_state_is_that_of_the_unrolled_model(
    case: str, rng: np.random.Generator
) -> None:
    model = net(CASES[case]())
    for _ in range(2):
        x, y = data(rng, model)
        rec = mg.flow.record_keras(model, x, y, square)
        same(rec, Unrolled(model).gradients(x, None, y, square))
        assert len(rec.missing) == (case == "between")
        assert all("rnn: what it reads was not followed back" in said for said in rec.missing)
        assert all(cut.verdict.kind != "none" for cut in rec.cuts)
        assert str(rec)


@pytest.mark.parametrize("every", [False, True])
def test_padding_passes_the_gradient_to_the_last_real_step(
    every: bool, rng: np.random.Generator
) -> None:
    """In front, at the end and in the middle; Keras repeats the output before it there."""
    model = keras.Sequential([
        keras.Input((T, I)), L.Masking(0.0), L.GRU(H, return_sequences=True),
        L.LSTM(H, return_sequences=every), L.Dense(2),
    ])  # fmt: skip
    x, y = data(rng, model)
    x[0, :2] = x[1, 3:] = x[2, 2] = 0.0
    mask = (x != 0).any(axis=2)
    rec = mg.flow.record_keras(model, x, y, square)
    bare = keras.Sequential([layer for layer in model.layers if not isinstance(layer, L.Masking)])
    expected = Unrolled(bare).gradients(x, ops.convert_to_tensor(mask), y, square)
    same(rec, expected, mask.T)


def test_a_stateful_layer_begins_where_it_stands_and_stays_there(rng: np.random.Generator) -> None:
    model = keras.Sequential([keras.Input((T, I), batch_size=B), L.LSTM(H, stateful=True)])
    layer = model.layers[-1]
    x, y = data(rng, model)
    model(x)
    stands = [ops.convert_to_numpy(s.value) for s in layer.states]
    assert np.any(stands[0])
    weights = [np.array(w) for w in model.get_weights()]
    for _ in range(2):
        rec = mg.flow.record_keras(model, x, y, "mse")
        first = {layer.name: [ops.convert_to_tensor(s) for s in stands]}
        loss = keras.losses.get("mse")
        same(rec, Unrolled(model, first).gradients(x, None, y, loss))
        for s, before in zip(layer.states, stands, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(s.value), before)
    for w, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(w, before)
    assert "call" not in vars(layer)


def test_a_decoder_goes_on_with_the_axis_of_its_encoder(rng: np.random.Generator) -> None:
    a, b = keras.Input((T, I)), keras.Input((4, I))
    _, *states = L.LSTM(H, return_state=True, name="encoder")(a)
    out = L.LSTM(H, name="decoder")(b, initial_state=states)
    model = keras.Model([a, b], out)
    x = [rng.normal(size=(B, n, I)).astype(DTYPE) for n in (T, 4)]
    rec = mg.flow.record_keras(model, x, np.zeros((B, H), DTYPE), square)
    assert [cut.paths for cut in rec.cuts] == [["encoder", "decoder"]]
    assert len(rec.cuts[0].per_sample) == T + 4
    step = 1e-2

    def loss(nudge: Any) -> float:
        h, c = (ops.convert_to_tensor(s) for s in nudge)
        got = model.get_layer("decoder")(x[1], initial_state=[h, c])
        return float(ops.convert_to_numpy(ops.mean(square(np.zeros((B, H), DTYPE), got))))

    seen = model.get_layer("encoder")(x[0])
    at = [ops.convert_to_numpy(s) for s in seen[1:]]
    g = np.zeros((B, H), DTYPE)
    for i in np.ndindex(B, H):
        e = np.zeros((B, H), DTYPE)
        e[i] = step
        g[i] = (loss((at[0] + e, at[1])) - loss((at[0] - e, at[1]))) / (2 * step)
    np.testing.assert_allclose(
        rec["encoder"].per_sample["h"][-1], np.linalg.norm(g, axis=1), rtol=1e-2
    )


def test_one_layer_called_twice_has_two_runs(rng: np.random.Generator) -> None:
    a = keras.Input((T, I))
    shared = L.GRU(I, return_sequences=True, name="gru")
    model = keras.Model(a, shared(shared(a)))
    x, y = data(rng, model)
    rec = mg.flow.record_keras(model, x, y, square)
    assert list(rec) == ["gru", "gru#2"]
    assert np.all(rec["gru"].norms["h"] > 0)


def test_cells_one_on_the_other_in_one_loop_are_one_layer(rng: np.random.Generator) -> None:
    cells = [L.LSTMCell(4), L.GRUCell(H)]
    model = net([L.RNN(cells, name="stack")])
    apart = net([L.RNN(cells[0], return_sequences=True), L.RNN(cells[1], name="upper")])
    x, y = data(rng, model)
    apart.layers[-1].set_weights(model.layers[-1].get_weights())
    rec = mg.flow.record_keras(model, x, y, square)
    upper = mg.flow.record_keras(apart, x, y, square)["upper"]
    assert rec.missing == []
    np.testing.assert_allclose(rec["stack"].norms["cells.1/h"], upper.norms["h"], rtol=CLOSE)


@keras.saving.register_keras_serializable("minigrad_tests")
class Leaky(keras.layers.Layer):
    """h = 0.8 h + x K."""

    def __init__(self, units: int, **options: Any):
        super().__init__(**options)
        self.state_size = self.output_size = units

    def build(self, shape: Any) -> None:
        self.K = self.add_weight(shape=(shape[-1], self.state_size), name="K")

    def call(self, x: Any, states: Any) -> Any:
        h = 0.8 * states[0] + x @ self.K
        return h, [h]


def test_a_cell_of_ones_own_needs_its_twin_and_a_wrong_twin_is_told(
    rng: np.random.Generator,
) -> None:
    model = net([L.RNN(Leaky(H), name="leaky")])
    x, y = data(rng, model)
    with pytest.raises(FlowError, match=r"minigrad has no Leaky; pass your own .*'leaky': cell"):
        mg.flow.record_keras(model, x, y, square)
    K = mg.tensor(np.asarray(model.get_weights()[0]), requires_grad=True, name="K")

    def twin(h: Any, x: Any, keep: float = 0.8) -> Any:
        h = mg.tap("h", keep * h + x @ K)
        return h, h

    rec = mg.flow.record_keras(model, x, y, square, cells={"leaky": twin})
    norms = rec["leaky"].norms["h"]
    np.testing.assert_allclose(norms, norms[-1] * 0.8 ** np.arange(T)[::-1], rtol=CLOSE)
    assert rec.missing == []
    wrong = mg.flow.record_keras(model, x, y, square, cells={"leaky": lambda h, x: twin(h, x, 0.7)})
    assert any("leaky: the outputs of its cell here differ" in gap for gap in wrong.missing)


def test_the_compiled_loss_is_used_and_a_new_model_is_built(rng: np.random.Generator) -> None:
    model = keras.Sequential([L.SimpleRNN(H, kernel_regularizer="l2")])
    x, y = rng.normal(size=(B, T, I)), rng.normal(size=(B, H))
    with pytest.raises(ConversionError, match="was not compiled with a loss; pass loss"):
        mg.flow.record_keras(model, x, y)
    model.compile(loss="mse")
    own, given = (mg.flow.record_keras(model, x, y, loss) for loss in (None, "mse"))
    name = next(iter(own))
    np.testing.assert_allclose(own[name].norms["h"], given[name].norms["h"], rtol=1e-5)


def test_what_cannot_be_recorded_is_said(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(B, T, I)), rng.normal(size=(B, 2))
    with pytest.raises(ConversionError, match="expected a Keras 3 model or layer, got LSTM"):
        mg.flow.record_keras(nn.LSTM(2, 3), x, y, "mse")
    with pytest.raises(FlowError, match="no SimpleRNN, LSTM, GRU or RNN ran in the model"):
        mg.flow.record_keras(net([L.Flatten()]), x, y, "mse")
    mixed = net([L.LSTM(H, activation="relu", return_sequences=True, name="odd"), L.LSTM(H)])
    rec = mg.flow.record_keras(mixed, x, y, "mse")
    assert any(
        "odd: minigrad has no LSTMCell with activations relu, sigm" in s for s in rec.missing
    )
    with pytest.raises(ConversionError, match="cells has 'even'; the recurrent layers are odd, "):
        mg.flow.record_keras(mixed, x, y, "mse", cells={"even": nn.LSTMCell(2, 3)})
    dropping = net([L.LSTM(H, dropout=0.5)])
    with pytest.raises(FlowError, match="drops out at random, and the masks are not known"):
        mg.flow.record_keras(dropping, x, y, "mse", training=True)
    assert mg.flow.record_keras(dropping, x, y, "mse").missing == []


def test_without_keras_the_command_that_installs_it_is_named() -> None:
    code = (
        "import sys; sys.modules['keras'] = None\n"
        "import minigrad as mg\n"
        "mg.flow.record_keras(None, None, None)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert MissingPackageError.__name__ in told.stderr
    assert "recordings of Keras models need the package keras: pip install keras" in told.stderr
