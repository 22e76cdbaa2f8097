"""Keras 3's own files and values: read, computed, written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.keras import array_of, two_biases
from conformance.stored import needs_stored
from conformance.test_keras import CASES, at, expected_of, named, one_call_of_a_layer
from interop.models import LAYERS, TAPE, Tagger, Zoo, same_bits, same_states

from minigrad import interop, nn

pytestmark = pytest.mark.filterwarnings("ignore::minigrad.interop.UncheckedActivationsWarning")

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
ZOO, TAGGER = (GOLDEN / f"keras_{name}.weights.h5" for name in ("zoo", "tagger"))
NAMES = [name for name, _ in Zoo().members()]


def arrays_of(stored: Any, name: str) -> list[np.ndarray]:
    return [stored[key] for key in stored.files if key.startswith(f"weights.{name}.")]


@pytest.fixture(scope="module")
def stored() -> Any:
    return np.load(ZOO.with_name("keras_zoo.npz"))


# -------------------------------------------------------------------------------- lists of arrays


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_with_keras_arrays_gives_keras_outputs(name: str, stored: Any) -> None:
    layer = getattr(Zoo(), name)
    interop.load_keras_weights(layer, arrays_of(stored, name))
    y = layer(stored["words"] if name == "embedding" else stored["x"])
    y = y[0] if isinstance(y, tuple) else y
    np.testing.assert_allclose(y.numpy(), stored[f"output.{name}"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_keras_arrays_come_back_with_the_same_bits(name: str, stored: Any) -> None:
    layer = getattr(Zoo(), name)
    interop.load_keras_weights(layer, arrays_of(stored, name))
    back = interop.to_keras_weights(layer)
    assert all(map(same_bits, back, arrays_of(stored, name)))


@needs_stored
@pytest.mark.parametrize("case", named([c for c in CASES if one_call_of_a_layer(c)]))
def test_constant_weights_give_the_values_of_keras_own_tests(case: Any) -> None:
    model = case["model"]
    inner = model.get("layer", model)
    x = array_of(case["events"][0]["call"]["inputs"][0]).astype(np.float64)
    merge = model.get("merge_mode", "concat")
    options: dict[str, Any] = dict(batch_first=True, dtype=np.float64, **TAPE)
    options |= dict(bidirectional="layer" in model, merge="mean" if merge == "ave" else merge)
    options["return_sequences"] = inner.get("return_sequences", False)
    if inner["type"] == "GRU":
        options["reset_after"] = two_biases(inner)
    if not inner.get("use_bias", True):
        options["bias"] = False
    kinds: dict[str, Any] = {"SimpleRNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
    H, gates = inner["units"], {"SimpleRNN": 1, "LSTM": 4, "GRU": 3}[inner["type"]]
    layer = kinds[inner["type"]](x.shape[2], H, **options)
    constants = {k: 1.0 if v == "ones" else v for k, v in inner["weights"].items()}
    one = [np.full((x.shape[2], gates * H), constants["kernel"])]
    one.append(np.full((H, gates * H), constants["recurrent"]))
    if inner.get("use_bias", True):
        bias = np.full((2, gates * H) if two_biases(inner) else gates * H, constants.get("bias", 0))
        if inner["type"] == "LSTM" and inner.get("unit_forget_bias", True):
            bias[H : 2 * H] = 1.0  # Keras's order: i f c o
        one.append(bias.astype(np.float64))
    interop.load_keras_weights(layer, one * (2 if "layer" in model else 1))
    expected, tolerances = expected_of(case)
    found = at(layer(x)[0].numpy(), case["array_index"])
    np.testing.assert_allclose(found, expected, **tolerances)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sizes", [(1, 1), (3, 5)])
@pytest.mark.parametrize("name", LAYERS)
def test_through_keras_arrays_and_back_a_layer_computes_the_same_bits(
    name: str, sizes: tuple[int, int], dtype: Any, rng: np.random.Generator
) -> None:
    for options in (dict(num_layers=2, bidirectional=True, merge="sum"), dict(bias=False)):
        layer, again = (LAYERS[name](*sizes, dtype=dtype, **options) for _ in range(2))
        interop.load_keras_weights(again, interop.to_keras_weights(layer))
        x = rng.standard_normal((4, 3, sizes[0])).astype(dtype)
        assert same_bits(again(x)[0].numpy(), layer(x)[0].numpy())


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_cells_convert_as_layers_do(cell: Any) -> None:
    layer = {nn.RNNCell: nn.RNN, nn.LSTMCell: nn.LSTM, nn.GRUCell: nn.GRU}[cell](3, 5)
    interop.load_keras_weights(layer, interop.to_keras_weights(cell(3, 5)))


# ------------------------------------------------------------------------------------------ files

h5 = pytest.mark.usefixtures("h5py")


@pytest.fixture
def h5py() -> Any:
    return pytest.importorskip("h5py", reason="reads and writes .weights.h5")


@h5
def test_a_models_file_gives_keras_outputs(stored: Any) -> None:
    model = Tagger()
    interop.load_keras_weights(model, TAGGER)
    tagger = np.load(TAGGER.with_name("keras_tagger.npz"))
    y = model(tagger["words"]).numpy()
    np.testing.assert_allclose(y, tagger["output.output"], rtol=1e-5, atol=1e-6)


@h5
def test_files_name_layers_as_keras_does_and_keep_every_bit(tmp_path: Path) -> None:
    """tools/golden_keras.py --reads has checked with Keras that it loads such a file."""
    for model, theirs in ((Zoo(), ZOO), (Tagger(), TAGGER)):
        interop.load_keras_weights(model, theirs)
        file = interop.save_keras_weights(tmp_path / theirs.name, model)
        before, after = map(interop.read_keras_weights, (theirs, file))
        assert before.keys() == after.keys()
        for name, arrays in before.items():
            assert all(map(same_bits, after[name], arrays)), name


@h5
def test_names_say_which_layer_is_which() -> None:
    with pytest.raises(interop.ConversionError, match=r"no part of the module is .*dense_1"):
        interop.load_keras_weights(nn.Sequential(nn.Linear(3, 3)), ZOO)
    names = {"lstm": ["bidirectional", "bidirectional_1"], "gru": "gru", "head": "dense"}
    model = Tagger()
    interop.load_keras_weights(model, TAGGER, names)
    (kernel, _) = interop.read_keras_weights(TAGGER)["dense"]
    assert np.array_equal(model.head.weight.numpy().T, kernel)
    with pytest.raises(interop.ConversionError, match="'nowhere'"):
        interop.load_keras_weights(model, TAGGER, {"nowhere": "dense"})
    with pytest.raises(interop.ConversionError, match="gives too few"):
        interop.load_keras_weights(model, TAGGER, {"lstm": "bidirectional"})
    with pytest.raises(interop.ConversionError, match=r"should be the layer 'other'.*names="):
        interop.load_keras_weights(model, TAGGER, {"head": "other"})


@h5
def test_a_file_that_is_none_is_refused_in_one_line(tmp_path: Path, h5py: Any) -> None:
    whole = ZOO.read_bytes()
    bad = {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}
    bad["zip"] = b"PK\3\4" + whole
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(interop.FormatError, match=f"{name}: this is no whole") as caught:
            interop.read_keras_weights(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(interop.FormatError, match="no such file"):
        interop.read_keras_weights(tmp_path / "missing.weights.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.ones(3)
    with pytest.raises(interop.FormatError, match="no variable as Keras 3 stores it"):
        interop.read_keras_weights(tmp_path / "other.h5")


@h5
def test_a_file_of_others_is_never_overwritten(tmp_path: Path) -> None:
    for name, data in (("keras.weights.h5", ZOO.read_bytes()), ("text.weights.h5", b"mine")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(interop.FormatError, match="left alone"):
            interop.save_keras_weights(tmp_path / name, Zoo())
        assert (tmp_path / name).read_bytes() == data
    with pytest.raises(interop.FormatError, match=r"ending in \.weights\.h5"):
        interop.save_keras_weights(tmp_path / "a.h5", Zoo())
    for _ in range(2):  # one of ours is
        interop.save_keras_weights(tmp_path / "ours.weights.h5", Zoo())
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "keras.weights.h5",
        "ours.weights.h5",
        "text.weights.h5",
    ]


@h5
def test_links_out_of_a_file_are_not_followed(tmp_path: Path, h5py: Any) -> None:
    with h5py.File(tmp_path / "a.weights.h5", "w") as file:
        file["layers/dense/vars/0"] = h5py.ExternalLink(str(ZOO), "layers/dense/vars/0")
    with pytest.raises(interop.FormatError, match="is a link"):
        interop.read_keras_weights(tmp_path / "a.weights.h5")


# --------------------------------------------------------------------------------------- refusals


def test_what_is_not_exact_is_refused_with_the_reason_and_nothing_is_written(stored: Any) -> None:
    gru, before = arrays_of(stored, "gru"), arrays_of(stored, "gru_1")
    lstm, dense = arrays_of(stored, "lstm"), arrays_of(stored, "dense")
    refused: list[tuple[nn.Module, list[Any], str]] = [
        (nn.GRU(3, 3, reset_after=False), gru, "cannot be converted into each other"),
        (nn.GRU(3, 5), before, "cannot be converted into each other"),
        (nn.LSTM(3, 3), gru, r"a LSTM has kernel \(I, 4\*H\)"),
        (nn.LSTM(3, 5, bias=False), lstm, "expected 2 arrays"),
        (nn.LSTM(3, 7), lstm, r"weight_ih is \[28, 3\] here and \[20, 3\] there"),
        (nn.LSTM(3, 5), [a.astype(np.float64) / 3 for a in lstm], "would round it"),
        (nn.LSTM(3, 5), lstm[:2], "expected 3 arrays"),
        (nn.Linear(3, 2), dense, r"expected weight \[2, 3\]"),
        (nn.Embedding(3, 3), dense[:1] * 2, "expected 1 arrays"),
        (nn.Sequential(nn.Linear(3, 3), nn.GRU(3, 5)), dense + before, "1 .GRU.: these are"),
    ]
    for module, arrays, reason in refused:
        kept = {k: w.copy() for k, w in module.state_dict().items()}
        with pytest.raises(interop.ConversionError, match=reason):
            interop.load_keras_weights(module, arrays)
        assert all(same_bits(kept[k], w) for k, w in module.state_dict().items())


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.LSTM(3, 5, proj_size=2), "no projection"),
        (nn.Recurrent(lambda size: nn.MinGRUCell(size, 2), 3), "Keras has no MinGRUCell"),
        (nn.PeepholeLSTMCell(3, 2), "Keras has no PeepholeLSTMCell"),
        (nn.LayerNorm(3), "LayerNorm: what minigrad converts"),
        (nn.Dropout(0.5), "no layer that Keras has weights for"),
    ],
)
def test_what_keras_lacks_is_refused_with_the_reason(module: nn.Module, reason: str) -> None:
    with pytest.raises(interop.ConversionError, match=reason):
        interop.to_keras_weights(module)


def test_arguments_are_what_the_stored_layers_were_made_with() -> None:
    found = dict(zip(NAMES, interop.keras_arguments(Zoo()), strict=True))
    assert found["simple_rnn_1"] == (
        "SimpleRNN",
        dict(units=1, use_bias=False, activation="relu", return_sequences=False),
    )
    cls, arguments = found["bidirectional_2"]
    assert (cls, arguments["merge_mode"]) == ("Bidirectional", "ave")
    assert arguments["layer"][1]["reset_after"] is False
    merges = [a["merge_mode"] for c, a in interop.keras_arguments(Tagger()) if c == "Bidirectional"]
    assert merges == ["concat", "concat"]


def test_a_list_must_have_every_array_of_the_module(stored: Any) -> None:
    layer = nn.Linear(3, 1)
    with pytest.raises(interop.ConversionError, match="expected 2 arrays"):
        interop.load_keras_weights(layer, arrays_of(stored, "dense_1"))


@h5
def test_without_biases_in_the_file_a_layers_are_zeros(tmp_path: Path) -> None:
    file = interop.save_keras_weights(tmp_path / "a.weights.h5", nn.LSTM(3, 2, bias=False))
    layer = nn.LSTM(3, 2)
    interop.load_keras_weights(layer, file)
    assert not layer.bias_ih_l0.numpy().any()
    assert not same_states(layer, nn.LSTM(3, 2))


@pytest.mark.parametrize("size", [0, 2**64 - 16, 2**40])
def test_a_heap_that_hdf5_would_read_for_ever_is_refused(tmp_path: Path, size: int) -> None:
    path = interop.save_keras_weights(tmp_path / "a.weights.h5", nn.LSTM(2, 3))
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    first = heap + 16  # its first object: number, references, nothing, size
    content[first : first + 2] = b"\0\0" if size == 0 else b"\1\0"
    content[first + 8 : first + 16] = size.to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(interop.FormatError, match="heap of its texts is damaged"):
        interop.load_keras_weights(nn.LSTM(2, 3), path)
