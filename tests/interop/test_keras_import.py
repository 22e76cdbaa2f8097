"""Whole models of Keras 2 and 3: they compute what Keras did, or are refused by name."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop.models import on_the_tape

from minigrad import Tensor, interop, nn
from minigrad.interop.keras_cells import ACTIVATIONS, activation_named

pytest.importorskip("h5py", reason="reads the files of Keras")

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
ZIPS = {version: GOLDEN / f"keras{version}_files.zip" for version in (2, 3)}
COMPILED = {"carried.keras", "cudnn.h5"}  # the others run without JIT anyway
MODELS = [
    pytest.param(version, name, marks=[] if name in COMPILED else [pytest.mark.wide])
    for version, path in ZIPS.items()
    for name in zipfile.ZipFile(path).namelist()
    if name.endswith((".h5", ".keras"))
]


def stored(version: int, name: str, folder: Path) -> tuple[Path, list[Any], list[Any]]:
    """(path of the file, the model's inputs, what Keras computed)."""
    with zipfile.ZipFile(ZIPS[version]) as archive:
        path = Path(archive.extract(name, folder))
        arrays = np.load(io.BytesIO(archive.read(name.rpartition(".")[0] + ".npz")))
        found = {key: arrays[key] for key in arrays.files}
    return path, *([w for key, w in found.items() if key[0] == which] for which in "io")


def imported(path: Path) -> Any:
    return on_the_tape(interop.import_keras(path))


@pytest.mark.parametrize(("version", "name"), MODELS)
def test_a_whole_model_computes_what_keras_did(version: int, name: str, tmp_path: Path) -> None:
    path, inputs, outputs = stored(version, name, tmp_path)
    model = imported(path)
    found = [model(*inputs)] + ([model(*inputs)] if "stateful" in name else [])
    found = found[0] if isinstance(found[0], list) else found
    assert len(found) == len(outputs)
    for ours, theirs in zip(found, outputs, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=2e-6, atol=2e-6)


def test_usual_layers_are_those_of_nn_and_others_have_cells_of_their_own(tmp_path: Path) -> None:
    model = imported(stored(3, "carried.keras", tmp_path)[0])
    both, slow, gru = (model.layers[k].layer for k in ("bidirectional", "gru", "gru_1"))
    assert type(both) is nn.LSTM
    assert both.bidirectional
    assert type(gru) is nn.GRU
    assert type(slow) is nn.Recurrent
    assert slow.cells[0].recurrent_activation == "hard_sigmoid"


def test_a_model_trains(tmp_path: Path) -> None:
    path, inputs, _ = stored(3, "carried.keras", tmp_path)
    model = imported(path)
    model(*inputs)[0].sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_stateful_model_forgets_on_request_and_knows_its_rows(tmp_path: Path) -> None:
    path, (x,), outputs = stored(2, "stateful.h5", tmp_path)
    model = imported(path)
    for _ in range(2):
        np.testing.assert_allclose(model(x).numpy(), outputs[0], atol=2e-6)
        with pytest.raises(interop.base.MinigradError, match=r"of 3 rows, and x has 2; call reset"):
            model(x[:2])
        model.reset_states()
    assert model(x[:2, :1]).shape == (2, 2)


def test_dropout_inside_a_layer_is_named_before_anybody_trains(tmp_path: Path) -> None:
    path, (x,), _ = stored(3, "norms.keras", tmp_path)
    model = imported(path).train()
    with pytest.raises(interop.ConversionError, match=r"gru\w*: dropout=0\.2"):
        model(x)
    model.left_out.clear()
    assert model(x).shape[0] == 3


def test_keras_2_and_3_mean_two_functions_by_hard_sigmoid() -> None:
    x = np.linspace(-4.0, 4.0, 81)
    for version, slope in (((2, 15, 0), 0.2), ((3, 0, 0), 1 / 6)):
        name = activation_named("gru", "hard_sigmoid", version)
        found = ACTIVATIONS[name](Tensor(x)).numpy()
        np.testing.assert_allclose(found, np.clip(slope * x + 0.5, 0, 1), atol=1e-15)


# -------------------------------------------------------------------- weights and structure apart


def apart(version: int, name: str, folder: Path) -> tuple[Path, str, list[Any], list[Any]]:
    """A stored model as two files: its weights alone, and the text of its structure; with inputs
    and outputs.
    """
    path, inputs, outputs = stored(version, name, folder)
    if version == 3:
        with zipfile.ZipFile(path) as archive:
            weights = folder / "apart.weights.h5"
            weights.write_bytes(archive.read("model.weights.h5"))
            return weights, archive.read("config.json").decode(), inputs, outputs
    h5py = pytest.importorskip("h5py")
    weights = folder / "apart.h5"
    with h5py.File(path) as whole, h5py.File(weights, "w") as alone:
        for key, value in whole["model_weights"].attrs.items():
            alone.attrs[key] = value
        for layer in whole["model_weights"]:
            whole.copy(f"model_weights/{layer}", alone, layer)
        return weights, str(whole.attrs["model_config"]), inputs, outputs


@pytest.mark.parametrize(
    ("version", "name"),
    [(2, "cells.h5"), (3, "cells.keras"), (2, "nested.h5"), (3, "nested.keras")],
)
def test_weights_alone_are_read_with_the_structure_beside_them(
    version: int, name: str, tmp_path: Path
) -> None:
    weights, config, inputs, outputs = apart(version, name, tmp_path)
    with pytest.raises(interop.ConversionError, match=r"weights alone .* config=keras_model\.to_j"):
        interop.import_keras(weights)
    model = on_the_tape(interop.import_keras(weights, config=config))
    whole = interop.import_keras(stored(version, name, tmp_path)[0])
    assert {k: w.tobytes() for k, w in model.state_dict().items()} == {
        k: w.tobytes() for k, w in whole.state_dict().items()
    }
    found = model(*inputs)
    first = found[0] if isinstance(found, list) else found
    np.testing.assert_allclose(first.numpy(), outputs[0], rtol=2e-6, atol=2e-6)


def test_a_structure_of_another_model_is_refused_with_the_names_of_both(tmp_path: Path) -> None:
    weights, config, _, _ = apart(2, "masked_stack.h5", tmp_path)
    other = json.loads(config)
    last = other["config"]["layers"].pop()["config"]["name"]
    cut = other["config"]["layers"][-1]["config"]["name"]
    other["config"] |= {"output_layers": [[cut, 0, 0]]} if "output_layers" in config else {}
    with pytest.raises(interop.ConversionError, match=f"no layer for the weights of {last}"):
        interop.import_keras(weights, config=other)
    for wrong, said in [
        (config.replace(last, "other"), f"'other'; it has those of .*{last}"), ("{", "no JSON"),
        ("[]", "is list; expected keras_model"), ({}, "is dict; expected keras_model"),
    ]:  # fmt: skip
        with pytest.raises(interop.ConversionError, match=said):
            interop.import_keras(weights, config=wrong)
    with pytest.raises(interop.ConversionError, match="structure of its own; give no config"):
        interop.import_keras(stored(2, "masked_stack.h5", tmp_path)[0], config=config)


# -------------------------------------------------------------------------------------- refusals


def edited(tmp_path: Path, edit: Callable[[Any], Any], name: str = "masked_stack.keras") -> Path:
    """A stored archive with another configuration."""
    path = stored(3, name, tmp_path)[0]
    with zipfile.ZipFile(path) as archive:
        held = {entry: archive.read(entry) for entry in archive.namelist()}
    config = json.loads(held["config.json"])
    edit(config)
    held["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "edited.keras", "w") as archive:
        for entry, data in held.items():
            archive.writestr(entry, data)
    return tmp_path / "edited.keras"


def of_layer(name: str, **values: Any) -> Callable[[Any], None]:
    def edit(config: Any) -> None:
        for layer in config["config"]["layers"]:
            if layer["config"]["name"].startswith(name):
                own = {k: v for k, v in values.items() if k in ("class_name", "registered_name")}
                layer.update(own)
                layer["config"].update({k: v for k, v in values.items() if k not in own})

    return edit


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (of_layer("dropout", class_name="Lambda"), "holds Python code, which is never run"),
        (of_layer("dropout", class_name="Conv1D"), r"\(Conv1D\) is not read.*only=\"recurrent\""),
        (of_layer("lstm", registered_name="mine>Slow"), "mine>Slow, a class of somebody's own"),
        (of_layer("lstm", activation="mine"), "layer 'lstm.*activation 'mine'; known are"),
        (of_layer("lstm", units=4), "has 4 units; its weights have 3"),
        (of_layer("lstm", use_bias=False), "use_bias=False"),
        (of_layer("gru", reset_after=True), "cannot be converted into each other"),
        (of_layer("dense", units=2), r"asks for weights \[\[None, 2\], \[2\]\], the file has"),
        (lambda config: config.update(class_name="Mine"), "the model is a Mine"),
    ],
)
def test_what_is_not_computed_here_is_refused_by_name(
    edit: Callable[[Any], Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(interop.ConversionError, match=said):
        interop.import_keras(edited(tmp_path, edit))


def test_recurrent_layers_are_taken_out_of_a_model_whose_rest_is_refused(tmp_path: Path) -> None:
    path = edited(tmp_path, of_layer("dropout", class_name="Conv1D"))
    taken, left = interop.import_keras(path, only="recurrent")
    assert [type(layer.layer) for layer in taken.values()] == [nn.LSTM, nn.GRU]
    (sentence,) = left
    assert "Conv1D" in sentence
    with pytest.raises(interop.ConversionError, match="only must be"):
        interop.import_keras(path, only="all")


@pytest.mark.parametrize(
    "edit",
    [
        lambda config: config.pop("config"),
        lambda config: config["config"].update(layers=3),
        lambda config: config["config"]["layers"].append({"class_name": "LSTM"}),
        of_layer("lstm", units="many"),
    ],
)
def test_a_structure_that_is_none_is_refused_in_one_line(edit: Any, tmp_path: Path) -> None:
    with pytest.raises((interop.FormatError, interop.ConversionError)) as caught:
        interop.import_keras(edited(tmp_path, edit))
    assert "\n" not in str(caught.value)


def test_an_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    path = stored(3, "cells.keras", tmp_path)[0]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(interop.FormatError, match=r"no whole \.keras archive"):
        interop.import_keras(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("metadata.json", "{}")
    with pytest.raises(interop.FormatError, match=r"model\.weights\.h5 is there not"):
        interop.import_keras(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (1 << 24))
    with pytest.raises(interop.FormatError, match="too many"):
        interop.import_keras(path)
    with pytest.raises(interop.ConversionError, match="weights alone"):
        interop.import_keras(GOLDEN / "keras_tagger.weights.h5")
