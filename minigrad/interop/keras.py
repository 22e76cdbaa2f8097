"""Keras 3: weights in and out, as lists of arrays or a .weights.h5 file, without importing Keras.

    load_keras_weights(model, keras_model.get_weights())        # arrays, in Keras's order
    keras_model.set_weights(to_keras_weights(model))
    load_keras_weights(model, "tagger.weights.h5")              # keras_model.save_weights(...)
    save_keras_weights("tagger.weights.h5", model)              # keras_model.load_weights(...)

    minigrad                  Keras
    RNN, RNNCell              SimpleRNN(activation=nonlinearity)
    LSTM, LSTMCell            LSTM
    GRU, GRUCell              GRU(reset_after=reset_after)
    bidirectional=True        Bidirectional(layer, merge_mode=merge), "mean" being "ave"
    num_layers=n              n such layers, the lower ones with return_sequences=True
    Linear, Embedding         Dense, Embedding

Neither a list nor a file says which activations a layer has, how a Bidirectional merges or whether
it returns sequences: `keras_arguments(layer)` is what Keras must have been given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import nn
from ..nn.module import Module, Parameter
from .base import Array, ConversionError, as_dtype, check_alike, named, walk
from .gates import fitted, from_keras, kind_of, to_keras, weights_of
from .keras_archives import read_keras_weights
from .keras_files import write_keras_weights

CLASSES = {"RNN": "SimpleRNN", "LSTM": "LSTM", "GRU": "GRU"}
SNAKE = {"SimpleRNN": "simple_rnn", "LSTM": "lstm", "GRU": "gru", "Bidirectional": "bidirectional"}
SNAKE |= {"Dense": "dense", "Embedding": "embedding"}
MERGES = {"concat": "concat", "sum": "sum", "mean": "ave", "mul": "mul"}


class Part(NamedTuple):
    """One layer of Keras in a minigrad model."""

    what: str  # for messages
    cls: str  # Keras's class
    path: str  # of the minigrad module
    cells: tuple[tuple[str, Any], ...]  # (the names' prefix and suffix as a template, cell) of each
    layer: Module
    level: int  # which of the layers of a recurrent one

    @property
    def arrays(self) -> int:
        """How many arrays it has."""
        if self.cells:
            return sum(2 + (cell.bias_ih is not None) for _, cell in self.cells)
        return sum(1 for _ in self.layer.parameters())


def to_keras_weights(module: Module) -> list[Array]:
    """The arrays of a module and all below it, in the order of Keras's get_weights().

    Raises ConversionError for what Keras has no layer for.

    >>> [w.shape for w in to_keras_weights(nn.GRU(3, 2))]
    [(3, 6), (2, 6), (2, 6)]
    """
    return [array for part in parts_of(module) for array in _part_to_keras(part)]


def load_keras_weights(
    module: Module,
    source: Sequence[Array] | str | Path,
    names: Mapping[str, str | Sequence[str]] | None = None,
) -> None:
    """Loads Keras's weights into a module, so that both compute the same function.

    source: arrays in the order of get_weights(), the module's layers one after the other; or the
        path of a .weights.h5 file. There, layers are found as Keras names them there, by class and
        order: the second LSTM of the module is `lstm_1`.
    names: path of a minigrad module -> the name of its layer in the file, or the names of its
        layers if it has several; for models that call their layers otherwise.
    Raises ConversionError for what is not exactly this module, FormatError for files. Nothing is
    written then.

    >>> gru = nn.GRU(3, 2)
    >>> load_keras_weights(gru, [np.ones((3, 6)), np.ones((2, 6)), np.zeros((2, 6))])
    >>> float(gru.weight_ih_l0.numpy().sum())
    18.0
    """
    parts = parts_of(module)
    if isinstance(source, (str, Path)):
        chosen = _from_file(parts, read_keras_weights(source), names or {}, str(source))
    else:
        chosen = _from_list(parts, [np.asarray(array) for array in source])
    ready: dict[str, Array] = {}
    for part, arrays in zip(parts, chosen, strict=True):
        ready |= _part_from_keras(part, arrays)
    mine = dict(module.all_parameters())
    for name, array in ready.items():
        mine[name].data = array


def save_keras_weights(path: str | Path, module: Module) -> Path:
    """Writes a .weights.h5 that `keras_model.load_weights` reads, atomically.

    The Keras model has the layers of `keras_arguments`, in this order.
    """
    used: dict[str, int] = {}
    layers = {}
    for part in parts_of(module):
        name = SNAKE[part.cls]
        used[name] = n = used.get(name, -1) + 1
        layers[f"{name}_{n}" if n else name] = (part.cls, _part_to_keras(part), len(part.cells))
    return write_keras_weights(path, layers)


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
    found["activation"] = cell.nonlinearity if kind == "RNN" else "tanh"
    if kind != "RNN":
        found["recurrent_activation"] = "sigmoid"
    if kind == "GRU":
        found["reset_after"] = cell.reset_after
    if isinstance(layer, nn.Recurrent):
        last = part.level == layer.num_layers - 1
        found["return_sequences"] = layer.return_sequences if last else True
        if layer.bidirectional:
            merge = MERGES[layer.merge] if last else "concat"
            return "Bidirectional", dict(layer=(CLASSES[kind], found), merge_mode=merge)
    return CLASSES[kind], found


# --------------------------------------------------------------------------- the parts of a module


def parts_of(module: Module) -> list[Part]:
    """The layers of Keras that a module is. Raises ConversionError if some part is none."""
    found: list[Part] = []
    for path, member in walk(module):
        found += _parts(path, member)
    if not found:
        raise ConversionError(f"{type(module).__name__} has no layer that Keras has weights for.")
    return found


def _parts(path: str, member: Module) -> Iterator[Part]:
    what, dot = named(path, member), f"{path}." if path else ""
    if isinstance(member, nn.Recurrent):
        cells: list[tuple[str, Any]] = list(member.members())
        for suffix, cell in cells:
            _check_cell(f"{what} {suffix}", cell)
        check_alike(what, member)
        n = member.num_directions
        cls = None if n == 1 else "Bidirectional"
        for level in range(member.num_layers):
            own = tuple((f"{dot}{{}}_{s}", cell) for s, cell in cells[n * level : n * (level + 1)])
            where = f"{what} l{level}" if member.num_layers > 1 else what
            yield Part(where, cls or CLASSES[kind_of(own[0][1]) or ""], path, own, member, level)
    elif isinstance(member, nn.Cell):
        _check_cell(what, member)
        cls = CLASSES[kind_of(member) or ""]
        yield Part(what, cls, path, ((f"{dot}{{}}", member),), member, 0)
    elif type(member) in (nn.Linear, nn.Embedding):
        yield Part(
            what, "Dense" if isinstance(member, nn.Linear) else "Embedding", path, (), member, 0
        )
    elif any(isinstance(held, Parameter) for _, held in member.members()):
        raise ConversionError(
            f"{what}: what minigrad converts to Keras and back is RNN, LSTM, GRU, Linear and "
            f"Embedding."
        )


def _check_cell(what: str, cell: Any) -> None:
    if kind_of(cell) is None:
        raise ConversionError(
            f"{what}: Keras has no {type(cell).__name__}; it has SimpleRNN, LSTM and GRU."
        )
    if getattr(cell, "weight_hr", None) is not None:
        raise ConversionError(f"{what}: Keras's LSTM has no projection (proj_size).")


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


# ----------------------------------------------------------------------- which arrays belong where


def _from_list(parts: list[Part], arrays: list[Array]) -> list[list[Array]]:
    counts = [part.arrays for part in parts]
    if sum(counts) != len(arrays):
        each = ", ".join(f"{part.what} {n}" for part, n in zip(parts, counts, strict=True))
        raise ConversionError(
            f"load_keras_weights: expected {sum(counts)} arrays ({each}), got {len(arrays)}."
        )
    ends = np.cumsum(counts)
    return [arrays[end - n : end] for end, n in zip(ends, counts, strict=True)]


def _from_file(
    parts: list[Part],
    layers: dict[str, list[Array]],
    names: Mapping[str, str | Sequence[str]],
    file: str,
) -> list[list[Array]]:
    """The arrays of each part: by the names that are given, else by class and order."""
    paths = {part.path for part in parts}
    if unknown := [path for path in names if path not in paths]:
        raise ConversionError(
            f"load_keras_weights: names has {unknown[0]!r}; the module has {sorted(paths)}."
        )
    given = {path: [n] if isinstance(n, str) else list(n) for path, n in names.items()}
    used: dict[str, int] = {}
    chosen = []
    for part in parts:
        base = SNAKE[part.cls]
        used[base] = n = used.get(base, -1) + 1
        name = f"{base}_{n}" if n else base
        if part.path in given:
            if not given[part.path]:
                raise ConversionError(
                    f"load_keras_weights: {part.what} has several layers; names gives too few."
                )
            name = given[part.path].pop(0)
        if name not in layers:
            raise ConversionError(
                f"{file}: {part.what} should be the layer {name!r}, and the file has "
                f"{', '.join(layers)}; say which with names={{{part.path!r}: ...}}."
            )
        chosen.append(name)
    if left := [name for name in layers if name not in chosen]:
        raise ConversionError(
            f"{file}: no part of the module is {', '.join(left)}; the module's are "
            f"{', '.join(chosen)}."
        )
    return [layers[name] for name in chosen]
