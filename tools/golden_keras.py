"""Rebuild the files of Keras 3 that the tests read: two .weights.h5 and what their models compute.

    python tools/golden_keras.py            write tests/golden/keras_*
    python tools/golden_keras.py --check    recompute and compare, write nothing
    python tools/golden_keras.py --reads F  whether Keras reads the zoo's weights that minigrad
                                            wrote to F with save_keras_weights, and computes alike

Needs keras with any backend (`pip install keras jax h5py`; KERAS_BACKEND=jax is the default here);
the tests themselves never import it. Weights are normally distributed, biases too, so that every
order of gates but Keras's own gives other values. Each model has a seed of its own.
"""

import argparse
import json
import os
import sys
import tempfile
import zlib
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from keras import layers as L

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
BATCH, TIME, FEATURES, WORDS = 3, 5, 3, 7  # odd: layouts that are mixed up do not fit


def generator(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def filled(model, rng):
    """The model with normally distributed weights, biases included."""
    model.set_weights([0.6 * rng.standard_normal(w.shape) for w in model.get_weights()])
    return model


def zoo():
    """One of each layer, side by side: every output is one layer's. (model, inputs, names)."""
    x = keras.Input((TIME, FEATURES), name="x")
    words = keras.Input((TIME,), dtype="int32", name="words")
    sequences = dict(return_sequences=True)
    made = {
        "simple_rnn": L.SimpleRNN(4, **sequences)(x),
        "simple_rnn_1": L.SimpleRNN(1, activation="relu", use_bias=False)(x),
        "lstm": L.LSTM(5, **sequences)(x),
        "lstm_1": L.LSTM(1, use_bias=False)(x),
        "gru": L.GRU(3, **sequences)(x),
        "gru_1": L.GRU(5, reset_after=False, **sequences)(x),
        "gru_2": L.GRU(1, use_bias=False)(x),
        "bidirectional": L.Bidirectional(L.LSTM(3, **sequences))(x),
        "bidirectional_1": L.Bidirectional(L.GRU(3, **sequences), merge_mode="sum")(x),
        "bidirectional_2": L.Bidirectional(
            L.GRU(1, reset_after=False, **sequences), merge_mode="ave"
        )(x),
        "bidirectional_3": L.Bidirectional(L.SimpleRNN(3), merge_mode="mul")(x),
        "dense": L.Dense(3)(x),
        "dense_1": L.Dense(1, use_bias=False)(x),
        "embedding": L.Embedding(WORDS, 3)(words),
    }
    return keras.Model([x, words], list(made.values())), list(made)


def tagger():
    """Layers one on the other, as a user stacks them."""
    words = keras.Input((TIME,), dtype="int32", name="words")
    x = L.Embedding(WORDS, 3)(words)
    for _ in range(2):
        x = L.Bidirectional(L.LSTM(3, return_sequences=True))(x)
    x = L.GRU(4, return_sequences=True)(x)
    x = L.GRU(3)(x)
    return keras.Model(words, L.Dense(5)(x)), ["output"]


def record(name, folder):
    """Writes NAME.weights.h5 and NAME.npz: inputs, outputs, and get_weights() of each layer."""
    keras.utils.clear_session()
    model, outputs = {"zoo": zoo, "tagger": tagger}[name]()
    rng = generator(name)
    filled(model, rng)
    arrays = {"words": rng.integers(0, WORDS, (BATCH, TIME)).astype(np.int32)}
    inputs = arrays["words"]
    if name == "zoo":
        arrays["x"] = rng.standard_normal((BATCH, TIME, FEATURES)).astype(np.float32)
        inputs = [arrays["x"], inputs]
    values = model(inputs)
    values = values if isinstance(values, list) else [values]
    for output, value in zip(outputs, values, strict=True):
        arrays[f"output.{output}"] = np.asarray(value)
    if name == "zoo":  # get_weights() by layer, in the order of `outputs`
        weighted = [layer for layer in model.layers if layer.weights]
        used = {}
        for layer in weighted:
            kind = keras.src.utils.naming.to_snake_case(type(layer).__name__)
            n = used[kind] = used.get(kind, -1) + 1
            for k, w in enumerate(layer.get_weights()):
                arrays[f"weights.{kind}{f'_{n}' if n else ''}.{k}"] = w
    model.save_weights(folder / f"keras_{name}.weights.h5")
    arrays["made_by"] = np.array(json.dumps({"keras": keras.__version__}))
    np.savez_compressed(folder / f"keras_{name}.npz", **arrays)


def reads(path):
    """Keras loads a file of minigrad's and computes the stored outputs."""
    keras.utils.clear_session()
    model, outputs = zoo()
    model.load_weights(path)
    with np.load(GOLDEN / "keras_zoo.npz") as stored:
        values = model([stored["x"], stored["words"]])
        for output, value in zip(outputs, values, strict=True):
            expected = stored[f"output.{output}"]
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6, err_msg=output)
    print(f"{path}: read, and every output is as stored")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument("--reads", metavar="F", help="a .weights.h5 that minigrad wrote")
    arguments = parser.parse_args()
    if arguments.reads:
        reads(arguments.reads)
        return 0
    check = arguments.check
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if check else GOLDEN
        for name in ("zoo", "tagger"):
            record(name, folder)
            if not check:
                continue
            new, old = (np.load(place / f"keras_{name}.npz") for place in (folder, GOLDEN))
            assert set(new.files) == set(old.files), (name, set(new.files) ^ set(old.files))
            for key in set(old.files) - {"made_by"}:
                np.testing.assert_allclose(
                    new[key], old[key], rtol=1e-5, atol=1e-6, err_msg=f"{name}: {key}"
                )
            print(f"{name}: as stored")
    return 0


if __name__ == "__main__":
    sys.exit(main())
