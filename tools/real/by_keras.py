"""Keras's files, compared with the Keras 2 of tf_keras."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import minigrad as mg
from minigrad import interop, nn

from .case import Array, Found, indices, package, values


def pair(ours: Any, theirs: Any, inputs: Sequence[Array]) -> list[tuple[Array, Array]]:
    """The outputs of both models on the same inputs."""
    expected = theirs([*inputs] if len(inputs) > 1 else inputs[0])
    return [(ours(*inputs).numpy(), expected.numpy())]


def whole(*inputs: Array) -> Callable[[Path], Found]:
    def compare(path: Path) -> Found:
        import h5py
        import tf_keras

        with h5py.File(path) as file:
            config = json.loads(file.attrs["model_config"], object_hook=as_then)
        theirs = tf_keras.models.model_from_json(json.dumps(config))
        theirs.load_weights(path)
        return Found("whole", pair(interop.import_keras(path), theirs, inputs))

    return compare


def as_then(config: dict[str, Any]) -> dict[str, Any]:
    """A GRU's configuration from before 2.1.3, when there was no choice of reset_after."""
    gru = "recurrent_activation" in config and "unit_forget_bias" not in config
    return {"reset_after": False} | config if gru else config


def layers(*custom: str) -> Callable[[Path], Found]:
    """The recurrent layers, each alone; where the structure is beside the weights, in a .json."""

    def compare(path: Path) -> Found:
        import tf_keras

        beside = path.with_suffix(".json")
        config = beside.read_text() if beside.exists() else None
        named = {name: type(name, (tf_keras.layers.LSTM,), {}) for name in custom}
        if config is None:
            theirs = tf_keras.models.load_model(path, custom_objects=named, compile=False)
        else:
            theirs = tf_keras.models.model_from_json(config, custom_objects=named)
            theirs.load_weights(path)
        taken, pairs = interop.import_keras(path, only="recurrent", config=config).layers, []
        for name, layer in taken.items():
            x = values(3, 7, layer.layer.input_size)
            pairs += pair(layer.eval(), theirs.get_layer(name), [x])
        return Found(f"layers: {len(taken)} of {len(taken) + len(custom)}", pairs)

    return compare


def structured(make: Callable[..., list[Any]], x: Array) -> Callable[[Path], Found]:
    """Weights alone; make(layers, *names) writes the structure as the package's code does."""

    def compare(path: Path) -> Found:
        import tf_keras

        names = interop.read_keras_weights(path)
        theirs = tf_keras.Sequential(make(tf_keras.layers, *names))
        theirs.load_weights(path, by_name=True)
        ours = interop.import_keras(path, config=theirs.to_json())
        return Found("weights", pair(ours, theirs, [x]))

    return compare


class TextGenerator(nn.Module):
    """The net of textgenrnn: two LSTMs, and attention over all that they read and give."""

    def __init__(self, words: int):
        self.embed, self.rnn_1, self.rnn_2 = (
            nn.Embedding(words, 100), nn.LSTM(100, 128, batch_first=True),
            nn.LSTM(128, 128, batch_first=True),
        )  # fmt: skip
        self.attention, self.head = nn.Linear(356, 1, bias=False), nn.Linear(356, words)

    def forward(self, x: Array) -> mg.Tensor:
        e = self.embed(x)
        h, _ = self.rnn_1(e)
        y = mg.concatenate([e, h, self.rnn_2(h)[0]], axis=-1)
        weighted = mg.sum(mg.softmax(self.attention(y), axis=1) * y, axis=1)
        return mg.softmax(self.head(weighted), axis=-1)


def textgenrnn(path: Path) -> Found:
    made = package(path, "textgenrnn.model").textgenrnn_model
    sizes = dict(rnn_layers=2, rnn_size=128, rnn_bidirectional=False, max_length=20)
    theirs = made(465, sizes | {"dim_embeddings": 100}, weights_path=path)
    ours, arrays = TextGenerator(465), interop.read_keras_weights(path)
    config = [("LSTM", dict(units=128, recurrent_activation="sigmoid"))]
    interop.load_keras_weights(ours.embed, arrays["embedding"], config=[("Embedding", {})])
    interop.load_keras_weights(ours.rnn_1, arrays["rnn_1"], config=config)
    interop.load_keras_weights(ours.rnn_2, arrays["rnn_2"], config=config)
    interop.load_keras_weights(ours.attention, arrays["attention"], config=[("Dense", {})])
    interop.load_keras_weights(ours.head, arrays["output"], config=[("Dense", {})])
    return Found("weights", pair(ours, theirs, [indices(465, 3, 20)]))
