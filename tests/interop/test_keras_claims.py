"""No layer takes the weights of one that computes something else, unless it is said aloud."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interop.models import TAPE, same_bits
from interop.test_keras_import import stored

from minigrad import interop, nn

h5py = pytest.importorskip("h5py", reason="reads the files of Keras")
UNTOLD = interop.UncheckedActivationsWarning


def slow_gru(size: int) -> nn.Module:
    return interop.KerasGRUCell(size, 4, recurrent_activation="hard_sigmoid")


class Carried(nn.Module):
    """The layers of the stored model `carried`; slow: whether its first GRU is as Keras's."""

    def __init__(self, slow: bool = True):
        self.embed = nn.Embedding(9, 4)
        self.both = nn.LSTM(4, 3, bidirectional=True, **TAPE)
        self.gru = nn.Recurrent(slow_gru, 6, **TAPE) if slow else nn.GRU(6, 4, **TAPE)
        self.last = nn.GRU(6, 4, **TAPE)
        self.head = nn.Linear(8, 2)


def weights_alone(path: Path) -> Path:
    """A whole .h5 of Keras 2 as its save_weights writes it: the group of the weights alone."""
    alone = path.with_name("alone.h5")
    with h5py.File(path) as whole, h5py.File(alone, "w") as file:
        group = whole["model_weights"]
        for name, value in group.attrs.items():
            file.attrs[name] = value
        for name in group:
            whole.copy(group[name], file, name)
    return alone


def test_a_gru_with_another_sigmoid_is_not_loaded_into_nn_gru(tmp_path: Path) -> None:
    path = stored(3, "carried.keras", tmp_path)[0]
    model = Carried(slow=False)
    before = model.state_dict()
    said = r"gru \(GRU\).*recurrent_activation='hard_sigmoid', and this one 'sigmoid'.*KerasGRUCell"
    with pytest.raises(interop.ConversionError, match=said):
        interop.load_keras_weights(model, path)
    assert all(same_bits(w, model.state_dict()[name]) for name, w in before.items())
    interop.load_keras_weights(Carried(), path)


def test_keras_2s_hard_sigmoid_is_not_keras_3s(tmp_path: Path) -> None:
    path = stored(2, "carried.h5", tmp_path)[0]
    with pytest.raises(interop.ConversionError, match="'hard_sigmoid_2', and this one 'hard_sig"):
        interop.load_keras_weights(Carried(), path)


@pytest.mark.long
def test_loaded_weights_compute_what_the_model_of_the_file_does(tmp_path: Path) -> None:
    path, (words,), (_, y) = stored(3, "carried.keras", tmp_path)
    model = Carried()
    interop.load_keras_weights(model, path)
    mask = (words != 0).T
    x = model.both(model.embed(words.T), mask=mask)[0]
    found = model.gru(x, mask=mask)[0].numpy()
    np.testing.assert_allclose(found[mask], y.swapaxes(0, 1)[mask], atol=2e-6)


@pytest.mark.parametrize("name", ["documents.keras", "nested.keras"])
def test_layers_inside_models_are_found(name: str, tmp_path: Path) -> None:
    path = stored(3, name, tmp_path)[0]
    layers = [nn.GRU(4, 3, bidirectional=True), nn.Linear(6, 2), nn.LSTM(2, 2)]
    model = nn.Sequential(*layers if name[0] == "d" else [nn.GRU(4, 3), nn.Linear(3, 2), layers[2]])
    interop.load_keras_weights(model, path)
    ours, theirs = model.parameters(), interop.import_keras(path).parameters()
    assert {p.numpy().tobytes() for p in ours} == {p.numpy().tobytes() for p in theirs}


def test_cudnns_layout_loads_into_plain_layers(tmp_path: Path) -> None:
    path, (x,), (y,) = stored(2, "cudnn.h5", tmp_path)
    options: dict[str, Any] = dict(batch_first=True, **TAPE)
    for file in (path, weights_alone(path)):
        layers = [nn.LSTM(4, 3, **options), nn.GRU(3, 2, bidirectional=True, **options)]
        chain = interop.Chain(*layers, nn.GRU(4, 3, return_sequences=False, **options))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if file != path else "error", UNTOLD)
            interop.load_keras_weights(chain, file)
        np.testing.assert_allclose(chain(x).output.numpy(), y, atol=2e-6)
    before = nn.Sequential(*layers, nn.GRU(4, 3, reset_after=False))
    with pytest.raises(interop.ConversionError, match="of a CuDNNGRU, which resets after"):
        interop.load_keras_weights(before, file)


def test_weights_alone_are_taken_with_a_word_on_what_is_taken_for_granted(tmp_path: Path) -> None:
    path = weights_alone(stored(2, "masked_stack.h5", tmp_path)[0])
    layers = [nn.Embedding(9, 4), nn.LSTM(4, 3), nn.GRU(3, 3, reset_after=False), nn.Linear(3, 1)]
    model = nn.Sequential(*layers)
    said = r"alone\.h5: .*1 \(LSTM\) activation='tanh', recurrent_activation='sigmoid'; 2 \(GRU\)"
    with pytest.warns(UNTOLD, match=said):
        interop.load_keras_weights(model, path)
    with pytest.warns(UNTOLD, match="arrays: weights alone"):
        interop.load_keras_weights(layers[1], interop.to_keras_weights(layers[1]))
    interop.load_keras_weights(layers[3], interop.to_keras_weights(layers[3]))  # a Dense: no word


def test_a_config_is_checked_and_nothing_more_is_said() -> None:
    layer = nn.GRU(3, 4)
    arrays, made_with = interop.to_keras_weights(layer), interop.keras_arguments(layer)
    interop.load_keras_weights(layer, arrays, config=made_with)
    own = {"units": 4, "reset_after": True}
    structure = {"class_name": "GRU", "config": {"name": "a", **own}}
    interop.load_keras_weights(layer, arrays, config=json.dumps(structure))
    for wrong, said in {
        json.dumps(structure | {"class_name": "LSTM"}): "Keras has the layers LSTM",
        json.dumps(structure | {"config": own | {"activation": "relu"}}): "activation='relu'",
        json.dumps(structure | {"config": own | {"go_backwards": True}}): "go_backwards=True",
        "{": "config is no JSON",
        "3": "expected config=",
        '[["GRU", 3]]': "expected config=",
    }.items():
        with pytest.raises(interop.ConversionError, match=said):
            interop.load_keras_weights(layer, arrays, config=wrong)


def test_a_merge_must_be_the_one_that_is_claimed() -> None:
    layer = nn.LSTM(3, 2, bidirectional=True, merge="sum")
    made_with = interop.keras_arguments(nn.LSTM(3, 2, bidirectional=True))
    with pytest.raises(interop.ConversionError, match="merge_mode='concat', and this one 'sum'"):
        interop.load_keras_weights(layer, interop.to_keras_weights(layer), config=made_with)


class GRU:
    """What is read of a layer of Keras."""

    def __init__(self, gates: str):
        self.gates = gates
        self.layer = nn.GRU(3, 4)

    def get_weights(self) -> list[Any]:
        return interop.to_keras_weights(self.layer)

    def get_config(self) -> dict[str, Any]:
        return {"units": np.int64(4), "reset_after": True, "recurrent_activation": self.gates}


def test_a_live_layer_of_keras_tells_what_it_is() -> None:
    layer = nn.GRU(3, 4)
    interop.load_keras_weights(layer, GRU("sigmoid"))
    with pytest.raises(interop.ConversionError, match="hard_sigmoid"):
        interop.load_keras_weights(layer, GRU("hard_sigmoid"))


def test_a_file_of_ours_is_checked_as_one_of_keras(tmp_path: Path) -> None:
    slow = nn.Recurrent(slow_gru, 3)
    path = interop.save_keras_weights(tmp_path / "a.weights.h5", slow)
    again = nn.Recurrent(slow_gru, 3)
    interop.load_keras_weights(again, path)
    assert same_bits(again.weight_hh_l0.numpy(), slow.weight_hh_l0.numpy())
    with pytest.raises(interop.ConversionError, match="hard_sigmoid"):
        interop.load_keras_weights(nn.GRU(3, 4), path)
