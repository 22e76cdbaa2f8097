"""Keras, in: a .keras archive or a whole .h5 model as modules of minigrad.

    model = interop.import_keras("tagger.keras")
    y = model(words)                            # what keras_model(words) is
    model.layers["bidirectional"].layer         # an nn.LSTM
    model = interop.import_keras("weights.h5", config=Path("model.json").read_text())

The structure is the file's: which layer reads which, activations, masks, states. Nothing of it is
run: a Lambda, a class of somebody's own, or a layer that is not in the list is refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import MinigradError
from ..nn.module import Module
from ..untrusted import cause, parse_json
from .base import Array, ConversionError, FormatError
from .keras_archives import KerasFile, read_keras, version_of
from .keras_graph import (
    MODELS,
    Call,
    Of,
    counted_from_1,
    described,
    is_operation,
    leaves,
    ofs,
    ordered,
)  # fmt: skip
from .keras_layers import LAYERS, made
from .keras_model import OPERATIONS, KerasModel, KerasOperation, TimeDistributed
from .keras_recurrent import RECURRENT, KerasRecurrent, recurrent_layer
from .keras_weights import Row, Weights


class RecurrentLayers(NamedTuple):
    """What import_keras(path, only="recurrent") gives."""

    layers: dict[str, KerasRecurrent]
    left: list[str]  # a sentence for each layer that was not taken


def import_keras(path: str | Path, only: str | None = None, config: Any = None) -> Any:
    """Reads a .keras archive or a whole .h5 model (Keras 2 and 3) -> KerasModel.

    only="recurrent": instead of a model its recurrent layers, name -> KerasRecurrent in `layers`,
        and in `left` a sentence for each layer that was not taken; where the rest is refused.
    config: the structure, where the file has weights alone: the text of keras_model.to_json().
    Weights keep the file's bits; float16 becomes float32. An LSTM or GRU whose activations are not
    nn's own becomes a Recurrent of KerasLSTMCell or KerasGRUCell. Dropout inside recurrent layers
    is left out and named in `left_out`; BatchNormalization computes as at inference.
    Raises ConversionError naming the layer for what is not computed here, and for a file of weights
    alone without a `config`, or with that of another model; FormatError for what is no such file.
    """
    if only not in (None, "recurrent"):
        raise ConversionError(f'import_keras: only must be None or "recurrent", got {only!r}.')
    file = _structured(path, read_keras(path), config)
    assert isinstance(file.config, dict)
    builder = _Builder(file, only is not None)
    try:
        name, cls, config = described(file.config, "the model")
        if cls not in MODELS:
            raise ConversionError(
                f"import_keras: the model is a {cls}, a class of somebody's own, whose code is not "
                f"in the file; read are Sequential and Functional ones."
            )
        weights = Weights({k: _widened(v) for k, v in file.layers.items()}, file.by_name)
        model = builder.model(name, cls, config, weights)
        unread = [name for name in file.layers if name not in weights.read]
        if unread and config is not None and not only:
            raise ConversionError(
                f"{path}: config has no layer for the weights of {', '.join(unread)}."
            )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, MinigradError):
            raise
        raise FormatError(f"{path}: its structure is none of Keras ({cause(error)}).") from error
    return RecurrentLayers(builder.taken, builder.left) if only else model.eval()


def _structured(path: str | Path, file: KerasFile, config: Any) -> KerasFile:
    """The file with its structure, its own or the one that is given."""
    if isinstance(file.config, dict):
        if config is not None:
            raise ConversionError(f"{path}: this file has a structure of its own; give no config.")
        return file
    if config is None:
        raise ConversionError(
            f"{path}: this file has weights alone and does not say which layers; give the "
            f"structure, config=keras_model.to_json(), or make the model with minigrad.nn and use "
            f"load_keras_weights(model, path)."
        )
    try:
        found = parse_json(config) if isinstance(config, (str, bytes)) else config
    except ValueError as error:
        raise ConversionError(f"import_keras: config is no JSON ({error}).") from None
    if not isinstance(found, dict) or "class_name" not in found:
        raise ConversionError(
            f"import_keras: config is {type(found).__name__}; expected keras_model.to_json()."
        )
    version, tf = version_of(found.get("keras_version"))
    own = (version, tf) if version else (file.version, file.tf)
    return KerasFile(file.layers, file.by_name, found, *own)


def _widened(arrays: list[Array]) -> list[Array]:
    return [a.astype(np.float32) if a.dtype == np.float16 else a for a in arrays]


DEPTH = 16  # models inside each other


class _Builder:
    """Modules from configurations. recurrent: what is not supported is noted and left."""

    def __init__(self, file: KerasFile, recurrent: bool):
        self.version, self.tf = file.version or (3,), file.tf
        self.recurrent = recurrent
        self.taken: dict[str, KerasRecurrent] = {}
        self.left: list[str] = []
        self.left_out: list[str] = []
        self.depth = 0

    def model(self, name: str, cls: str, config: Any, weights: Weights) -> KerasModel:
        self.depth += 1
        if self.depth > DEPTH:
            raise ConversionError(f"{name}: more than {DEPTH} models inside each other.")
        members = config if isinstance(config, list) else config["layers"]  # a list until 2.2.2
        own_members = [described(member, f"layer {i}") for i, member in enumerate(members)]
        layers: dict[str, Module] = {}
        inputs: list[str] = []
        for at, (layer, kind, own) in enumerate(own_members):
            if layer in layers or layer in inputs:
                raise ConversionError(f"import_keras: two layers are called {layer!r}.")
            key = weights.name(kind, layer)
            if kind == "InputLayer":
                inputs.append(layer)
                continue
            module = self.layer(layer, kind, own, weights, key, members[at])
            if module is not None:
                layers[layer] = module
        self.depth -= 1
        calls: list[Call] = []
        outputs: Any = None
        if self.recurrent:
            pass
        elif cls == "Sequential":
            inputs = inputs[:1] or ["x"]
            outputs = Of(inputs[0], 0, 0)
            for layer in layers:
                calls.append(Call(layer, 0, [outputs]))
                outputs = Of(layer, 0, 0)
        else:
            inputs = [of.layer for of in leaves(ofs(config["input_layers"], set()))]
            calls = ordered(members, own_members, inputs)
            outputs = ofs(config["output_layers"], counted_from_1(own_members, self.version))
            if isinstance(outputs, list) and len(outputs) == 1:
                outputs = outputs[0]
            known = {Of(n, 0, 0) for n in inputs} | {Of(c.layer, c.number, 0) for c in calls}
            for of in leaves(outputs):
                if of._replace(output=0) not in known:
                    raise ConversionError(f"import_keras: no layer gives the output {of.layer!r}.")
        dtypes = [p.dtype for m in layers.values() for p in m.parameters()]
        dtype = dtypes[0] if dtypes else np.float32
        return KerasModel(inputs, outputs, calls, layers, dtype, self.left_out, self.version)

    def layer(
        self, name: str, cls: str, config: Any, weights: Weights, key: str, whole: Any
    ) -> Module | None:
        """The module of one layer; None where it is left."""
        what = f"layer {name!r} ({cls})"
        try:
            return self._layer(what, name, cls, config, weights, key, whole)
        except ConversionError as error:
            if not self.recurrent:
                raise
            self.left.append(str(error).removeprefix("import_keras: "))
            return None

    def _layer(
        self, what: str, name: str, cls: str, config: Any, weights: Weights, key: str, whole: Any
    ) -> Module:
        if cls in MODELS:
            return self.model(name, cls, config, weights.inside(key))
        if cls == "TimeDistributed":
            inner, kind, own = described(config["layer"], what)
            return TimeDistributed(self._inside(what, inner, kind, own, weights, key, config))
        if cls in OPERATIONS and is_operation(whole):
            return KerasOperation(OPERATIONS[cls])
        arrays = weights.take(what, cls, config) if isinstance(weights, Row) else weights.of(key)
        if not arrays and cls in (*RECURRENT, "Dense", "Embedding"):
            raise ConversionError(
                f"import_keras: {what}: the file has no weights called {key!r}; it has those of "
                f"{', '.join(weights.layers)}."
            )
        if cls in RECURRENT:
            self._note_dropouts(name, config)
            found = recurrent_layer(what, cls, config, arrays, self.version, self.tf)
            self.taken[name] = found
            return found
        layer = made(what, cls, config, arrays, self.version)
        if layer is None:
            why = " holds Python code, which is never run" if cls == "Lambda" else " is not read"
            hint = "" if self.recurrent else (
                f"; read are {', '.join(sorted({*LAYERS, *RECURRENT}))}, TimeDistributed. "
                f'only="recurrent" takes the recurrent layers alone'
            )  # fmt: skip
            raise ConversionError(f"import_keras: {what}{why}{hint}.")
        return layer

    def _inside(
        self, what: str, name: str, cls: str, config: Any, weights: Weights, key: str, outer: Any
    ) -> Module:
        """What a TimeDistributed holds; its weights are under that one's name."""
        if cls in MODELS:
            return self.model(name, cls, config, weights.inside(key))
        if not isinstance(weights, Row):
            weights = Weights({key: weights.of(key)}, True)
        return self._layer(what, name, cls, config, weights, key, {})

    def _note_dropouts(self, name: str, config: dict[str, Any]) -> None:
        for inner in (config, (config.get("layer") or {}).get("config") or {}):
            for option in ("dropout", "recurrent_dropout"):
                if inner.get(option):
                    self.left_out.append(f"{name}: {option}={inner[option]}")
