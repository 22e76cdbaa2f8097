"""Keras's weights in and out: a model, its files, or lists of arrays, without importing Keras.

    load_keras_weights(model, keras_model)                      # or one layer of it
    load_keras_weights(model, "tagger.keras")                   # .h5 and .weights.h5 too
    load_keras_weights(model, arrays, config=keras_model.to_json())
    keras_model.set_weights(to_keras_weights(model))
    save_keras_weights("tagger.weights.h5", model)              # keras_model.load_weights(...)

    minigrad                  Keras
    RNN, RNNCell              SimpleRNN(activation=nonlinearity)
    LSTM, LSTMCell            LSTM
    GRU, GRUCell              GRU(reset_after=reset_after)
    bidirectional=True        Bidirectional(layer, merge_mode=merge), "mean" being "ave"
    num_layers=n              n such layers, the lower ones with return_sequences=True
    Linear, Embedding         Dense, Embedding

    Recurrent of KerasGRUCell GRU(activation=..., recurrent_activation=...); LSTM, SimpleRNN alike

A file with a structure is held against the module: activations, directions, merges. Neither a list
nor a file of weights alone says any of that: `keras_arguments(layer)` is what Keras must have been
given, and without a `config` a warning says what was taken for granted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..nn.module import Module
from .base import Array, ConversionError, as_dtype
from .gates import fitted, from_keras, to_keras, weights_of
from .keras_archives import read_keras
from .keras_cells import kind_of
from .keras_claims import check, claims_of, version_in, warn_unchecked
from .keras_files import write_keras_weights
from .keras_matching import claims_of_live, from_file, from_list, in_order
from .keras_parts import CLASSES, SNAKE, Part, parts_of

MERGES = {"concat": "concat", "sum": "sum", "mean": "ave", "mul": "mul"}


def to_keras_weights(module: Module) -> list[Array]:
    """The arrays of a module and all below it, in the order of Keras's get_weights().

    Raises ConversionError for what Keras has no layer for.

    >>> [w.shape for w in to_keras_weights(nn.GRU(3, 2))]
    [(3, 6), (2, 6), (2, 6)]
    """
    return [array for part in parts_of(module) for array in _part_to_keras(part)]


def load_keras_weights(
    module: Module,
    source: Any,
    names: Mapping[str, str | Sequence[str]] | None = None,
    config: Any = None,
) -> None:
    """Loads Keras's weights into a module, so that both compute the same function.

    source: a Keras model or layer; arrays in the order of get_weights(), the module's layers one
        after the other; or the path of a file: .keras, .h5 or .weights.h5. In a file, layers are
        found by class and order: the second LSTM of the module is the second of the file. A Keras 2
        file of weights alone names no classes; its layers are taken in order.
    names: path of a minigrad module -> the name of its layer in the file, or the names of its
        layers if it has several; for models that call their layers otherwise.
    config: which layers the weights are of, where source does not say: keras_model.to_json(), or
        a list as of `keras_arguments`. They are checked; without it, UncheckedActivationsWarning.
    Raises ConversionError for what is not exactly this module, FormatError for files. Nothing is
    written then.

    >>> gru, made_with = nn.GRU(3, 2), [("GRU", dict(units=2, reset_after=True))]
    >>> arrays = [np.ones((3, 6)), np.ones((2, 6)), np.zeros((2, 6))]
    >>> load_keras_weights(gru, arrays, config=made_with)
    >>> float(gru.weight_ih_l0.numpy().sum())
    18.0
    """
    parts = parts_of(module)
    made_with = [(part.what, _arguments(part)[1]) for part in parts]
    if isinstance(source, (str, Path)):
        chosen, claims, version = from_file(parts, read_keras(source), names or {}, str(source))
    else:
        claims, version = [], (3,)
        if hasattr(source, "get_weights"):
            claims, version = claims_of_live(parts, source)
            source = source.get_weights()
        chosen = from_list(parts, [np.asarray(array) for array in source])
    if config is not None:
        claims, version = in_order(parts, claims_of(config)), version_in(config)
    for (what, arguments), claim in zip(made_with, claims):
        check(what, arguments, claim, version)
    ready: dict[str, Array] = {}
    for part, arrays in zip(parts, chosen, strict=True):
        ready |= _part_from_keras(part, arrays)
    if not claims:
        recurrent = [one for one, part in zip(made_with, parts) if part.cells]
        warn_unchecked(str(source) if isinstance(source, (str, Path)) else "arrays", recurrent)
    mine = dict(module.all_parameters())
    for name, array in ready.items():
        mine[name].data = array


def save_keras_weights(path: str | Path, module: Module) -> Path:
    """Writes a .weights.h5 that `keras_model.load_weights` reads, atomically.

    The Keras model has the layers of `keras_arguments`, in this order. The file tells them too, so
    that `load_keras_weights` can check them.
    """
    used: dict[str, int] = {}
    layers = {}
    for part in parts_of(module):
        name = SNAKE[part.cls]
        used[name] = n = used.get(name, -1) + 1
        layers[f"{name}_{n}" if n else name] = (part.cls, _part_to_keras(part), len(part.cells))
    return write_keras_weights(path, layers, keras_arguments(module))


def keras_arguments(module: Module) -> list[tuple[str, dict[str, Any]]]:
    """(class in keras.layers, arguments) of every layer, those that decide what is computed.

    >>> keras_arguments(nn.Linear(3, 2))
    [('Dense', {'units': 2, 'use_bias': True})]
    """
    return [_arguments(part) for part in parts_of(module)]


def _arguments(part: Part) -> tuple[str, dict[str, Any]]:
    layer = part.layer
    if isinstance(layer, nn.Linear):
        return "Dense", dict(units=layer.out_features, use_bias=layer.bias is not None)
    if isinstance(layer, nn.Embedding):
        return "Embedding", dict(input_dim=layer.num_embeddings, output_dim=layer.embedding_dim)
    cell = part.cells[0][1]
    found: dict[str, Any] = dict(units=cell.hidden_size, use_bias=cell.bias_ih is not None)
    kind = kind_of(cell) or ""
    usual = cell.nonlinearity if kind == "RNN" else "tanh"
    found["activation"] = getattr(cell, "activation", usual)
    if kind != "RNN":
        found["recurrent_activation"] = getattr(cell, "recurrent_activation", "sigmoid")
    if kind == "GRU":
        found["reset_after"] = cell.reset_after
    if isinstance(layer, nn.Recurrent):
        last = part.level == layer.num_layers - 1
        found["return_sequences"] = layer.return_sequences if last else True
        if layer.bidirectional:
            merge = MERGES[layer.merge] if last else "concat"
            return "Bidirectional", dict(layer=(CLASSES[kind], found), merge_mode=merge)
    return CLASSES[kind], found


def _part_to_keras(part: Part) -> list[Array]:
    found: list[Array] = []
    for _, cell in part.cells:
        kind = kind_of(cell) or ""
        found += to_keras(kind, weights_of(cell), getattr(cell, "reset_after", False))
    if isinstance(part.layer, nn.Linear):
        found = [np.ascontiguousarray(part.layer.weight.numpy().T)]
        found += [part.layer.bias.numpy().copy()] if part.layer.bias is not None else []
    if isinstance(part.layer, nn.Embedding):
        found = [part.layer.weight.numpy().copy()]
    return found


def _part_from_keras(part: Part, arrays: list[Array]) -> dict[str, Array]:
    """name in the module -> array."""
    if not part.cells:
        return _plain_from_keras(part, arrays)
    if len(arrays) % len(part.cells):
        raise ConversionError(
            f"{part.what}: expected arrays for two directions, got {len(arrays)}."
        )
    each = len(arrays) // len(part.cells)
    ready = {}
    for i, (template, cell) in enumerate(part.cells):
        what = part.what + (" reverse" if i else "")
        own, after = arrays[i * each : (i + 1) * each], getattr(cell, "reset_after", False)
        weights = from_keras(what, kind_of(cell) or "", own, after)
        for name, array in fitted(what, cell, weights).items():
            ready[template.format(name)] = array
    return ready


def _plain_from_keras(part: Part, arrays: list[Array]) -> dict[str, Array]:
    layer: Any = part.layer
    shapes = {"weight": layer.weight.shape}
    bias = getattr(layer, "bias", None)
    if isinstance(layer, nn.Linear):
        arrays = [arrays[0].T if np.ndim(arrays[0]) == 2 else arrays[0], *arrays[1:]]
        if bias is not None:
            shapes["bias"] = bias.shape
            if len(arrays) == 1:
                arrays = [*arrays, np.zeros(bias.shape, bias.dtype)]
    given = [list(np.shape(array)) for array in arrays]
    if given != [list(shape) for shape in shapes.values()]:
        expected = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise ConversionError(
            f"{part.what}: expected {expected} (in minigrad's layout), got "
            f"{', '.join(map(str, given))}."
        )
    dot = f"{part.path}." if part.path else ""
    return {
        f"{dot}{name}": as_dtype(f"{part.what}: {name}", array, layer.weight.dtype)
        for name, array in zip(shapes, arrays, strict=True)
    }
