"""Rebuild the whole models of Keras that the tests read: tests/golden/keras3_files.zip, keras2_*.

    python tools/golden_keras_files.py      with Keras 3, or with TensorFlow 2.15 (Keras 2)

Writes the archive of the Keras that is installed: of each model NAME.keras (3) or NAME.h5 (2), and
NAME.npz with inputs i0, i1, ... and outputs o0, o1, ... Keras 2 also writes cudnn.h5, whose weights
its own converter has put into CuDNN's layout, as no layer of CuDNN runs without a GPU.
The tests never import Keras. Weights are normally distributed, biases too, and masks have their
gaps in front, inside and at the end.
"""

import io
import json
import os
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

L = keras.layers
THREE = keras.__version__.startswith("3.")
GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
ALL = dict(return_sequences=True)
STATES = dict(return_sequences=True, return_state=True)


def of_words(*layers):
    words = [keras.Input((None,), dtype="int32"), L.Embedding(9, 4, mask_zero=True)]
    return keras.Sequential([*words, *layers])


def of_steps(*layers):
    return keras.Sequential([keras.Input((6, 4)), *layers])


def carried():
    """States out of one layer and into another, masks, a slower sigmoid, two outputs."""
    words = keras.Input((None,), dtype="int32", name="words")
    x = L.Embedding(9, 4, mask_zero=True)(words)
    x = L.Bidirectional(L.LSTM(3, **ALL))(x)
    y, h = L.GRU(4, recurrent_activation="hard_sigmoid", **STATES)(x)
    z = L.Concatenate()([L.GRU(4)(x, initial_state=h), h])
    return keras.Model(words, [L.Dense(2, activation="softmax")(z), y])


def seq2seq():
    a, b = keras.Input((5, 4), name="a"), keras.Input((3, 2), name="b")
    _, h, c = L.LSTM(5, return_state=True)(a)
    y = L.LSTM(5, **ALL)(b, initial_state=[h, c])
    return keras.Model([a, b], L.TimeDistributed(L.Dense(3, activation="softmax"))(y))


def nested():
    """Models as layers, each called twice."""
    x, inner = keras.Input((6, 4)), keras.Input((6, 2))
    encode = of_steps(L.GRU(3, **ALL), L.Dense(2, activation="relu"))
    end = keras.Model(inner, L.LSTM(2)(inner))
    a, b = encode(x), encode(x * 0.5 if THREE else L.ReLU()(x))
    return keras.Model(x, [L.Add()([end(a), end(b)]), end(a)])


def documents():
    x = keras.Input((2, 6, 4))
    return keras.Model(
        x, L.LSTM(2)(L.TimeDistributed(of_steps(L.Bidirectional(L.GRU(3)), L.Dense(2)))(x))
    )


def both_states():
    words = keras.Input((None,), dtype="int32")
    x = L.Embedding(9, 4, mask_zero=True)(words)
    y, *states = L.Bidirectional(L.LSTM(3, **STATES), merge_mode="sum")(x)
    z = L.Bidirectional(L.LSTM(3, **ALL), merge_mode="ave")(x, initial_state=states)
    return keras.Model(words, [y, z, L.GlobalAveragePooling1D()(z)])


def stateful():
    start = dict(batch_shape=(3, 6, 4)) if THREE else dict(shape=(6, 4), batch_size=3)
    layers = L.GRU(3, stateful=True, **ALL), L.LSTM(2, stateful=True)
    return keras.Sequential([keras.Input(**start), *layers])


MODELS = {
    "carried": carried,
    "seq2seq": seq2seq,
    "nested": nested,
    "documents": documents,
    "both_states": both_states,
    "stateful": stateful,
    "masked": lambda: of_words(L.GRU(3, **ALL)),
    "masked_backwards": lambda: of_words(L.LSTM(3, go_backwards=True, **ALL)),
    "masked_backwards_last": lambda: of_words(L.LSTM(3, go_backwards=True)),
    "masked_stack": lambda: of_words(
        L.LSTM(3, **ALL), L.Dropout(0.5), L.GRU(3, reset_after=False), L.Dense(1, "sigmoid")
    ),
    "masked_both": lambda: of_words(
        L.Bidirectional(L.GRU(3, **ALL), merge_mode="mul"), L.Bidirectional(L.SimpleRNN(3))
    ),
    "masking": lambda: of_steps(L.Masking(0.0), L.SimpleRNN(3, **ALL)),
    "rnn_activations": lambda: of_steps(
        *(L.SimpleRNN(3, name, **ALL) for name in ("relu", "linear", "elu", "selu")),
        L.SimpleRNN(3, "softsign", use_bias=False),
    ),
    "lstm_activations": lambda: of_steps(
        L.LSTM(3, recurrent_activation="hard_sigmoid", **ALL),
        L.LSTM(3, "relu", **ALL),
        L.LSTM(3, "softplus", "softmax", **ALL),
        L.Bidirectional(L.LSTM(2, "swish")),
    ),
    "gru_activations": lambda: of_steps(
        L.GRU(3, recurrent_activation="hard_sigmoid", reset_after=False, **ALL),
        L.GRU(3, "gelu", **ALL),
        L.GRU(3, "exponential", "hard_sigmoid"),
    ),
    "cells": lambda: of_steps(
        L.RNN(L.LSTMCell(3), **ALL), L.RNN(L.GRUCell(3), go_backwards=True)
    ),
    "norms": lambda: of_steps(
        L.LayerNormalization(), L.BatchNormalization(), L.GRU(3, dropout=0.2, **ALL),
        L.LeakyReLU(), L.GlobalMaxPooling1D(), L.BatchNormalization(scale=False),
        L.Activation("tanh"),
    ),
    "shapes": lambda: of_steps(
        L.Flatten(), L.RepeatVector(5), L.LSTM(4, **ALL), L.Permute((2, 1)), L.Reshape((10, 2)),
        L.SimpleRNN(2, **ALL), L.ELU(), L.Softmax(),
    ),
    "unlike": lambda: of_steps(
        L.Bidirectional(
            L.LSTM(3, **ALL), backward_layer=L.LSTM(3, "relu", go_backwards=True, **ALL)
        )
    ),
    "by_step": lambda: of_steps(
        L.LSTM(3, **ALL), L.TimeDistributed(L.Dense(2)), L.TimeDistributed(L.LayerNormalization())
    ),
}  # fmt: skip


def inputs_of(name, rng):
    words = np.array([[0, 0, 3, 1, 2, 5], [1, 2, 0, 0, 0, 0], [4, 0, 2, 0, 1, 8]], np.int32)
    if name.startswith("masked") or name in ("carried", "both_states"):
        return [words]
    shapes = {"seq2seq": [(3, 5, 4), (3, 3, 2)], "documents": [(3, 2, 6, 4)]}
    found = [rng.standard_normal(s).astype(np.float32) for s in shapes.get(name, [(3, 6, 4)])]
    if name == "masking":
        found[0][0, 2:4] = found[0][1, :3] = found[0][2] = 0.0
    return found


def filled(model, rng):
    model.set_weights([
        np.abs(w) + 0.3 if "variance" in v.name else 0.5 * rng.standard_normal(w.shape)
        for v, w in zip(model.weights, model.get_weights(), strict=True)
    ])  # fmt: skip
    return model


def add(archive, folder, name, model, inputs):
    given = inputs if len(inputs) > 1 else inputs[0]
    outputs = [model(given), model(given)] if name == "stateful" else model(given)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    arrays = {f"i{k}": x for k, x in enumerate(inputs)}
    arrays |= {f"o{k}": np.asarray(y) for k, y in enumerate(outputs)}
    file = folder / f"{name}.{'keras' if THREE else 'h5'}"
    model.save(file)
    memory = io.BytesIO()
    np.savez(memory, **arrays)
    archive.writestr(f"{name}.npz", memory.getvalue())
    return file


def to_cudnn(path):
    """The LSTM and GRU of a saved model as CuDNNLSTM and CuDNNGRU, by Keras's own converter."""
    import h5py
    from keras.src.saving.legacy.hdf5_format import _convert_rnn_weights

    kept = {"name", "trainable", "dtype", "units", "return_sequences", "return_state", "stateful"}

    def turn(layer):
        layer["class_name"] = f"CuDNN{layer['class_name']}"
        layer["config"] = {k: v for k, v in layer["config"].items() if k in kept}
        return type(layer["class_name"], (), {"units": layer["config"]["units"]})()

    with h5py.File(path, "r+") as file:
        model = json.loads(file.attrs["model_config"])
        for layer in model["config"]["layers"][1:]:
            name, inner = layer["config"]["name"], layer["config"].get("layer", layer)
            layer["config"].pop("backward_layer", None)
            target, group = turn(inner), file["model_weights"][name]
            names = list(group.attrs["weight_names"])
            for i in range(0, len(names), 3):
                arrays = [group[n][()] for n in names[i : i + 3]]
                for n, w in zip(names[i:], _convert_rnn_weights(target, arrays)):
                    del group[n]
                    group[n] = np.asarray(w)
        file.attrs["model_config"] = json.dumps(model)


def main():
    path = GOLDEN / f"keras{3 if THREE else 2}_files.zip"
    packed = dict(compression=zipfile.ZIP_DEFLATED, compresslevel=9)
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(path, "w", **packed) as archive:
        for name, make in MODELS.items():
            keras.backend.clear_session()
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            file = add(archive, Path(scratch), name, filled(make(), rng), inputs_of(name, rng))
            archive.write(file, file.name)
        if not THREE:
            rng = np.random.default_rng(0)
            layers = L.LSTM(3, **ALL), L.Bidirectional(L.GRU(2, **ALL)), L.GRU(3)
            model = filled(of_steps(*layers), rng)
            file = add(archive, Path(scratch), "cudnn", model, inputs_of("cudnn", rng))
            to_cudnn(file)
            archive.write(file, file.name)
        archive.writestr("made_by", f"keras {keras.__version__}")
    print(f"{path}: {path.stat().st_size:,} bytes, keras {keras.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
