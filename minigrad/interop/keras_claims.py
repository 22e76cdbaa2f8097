"""What a file of Keras, or its user, says of layers, held against those that take the weights."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..untrusted import parse_json
from .base import Array, ConversionError
from .keras_archives import version_of
from .keras_graph import MODELS, described
from .keras_recurrent import RECURRENT, cell_of, directions_of
from .keras_weights import Row, Weights

WEIGHTED = {*RECURRENT, "Dense", "Embedding"}  # of Keras's layers, those that minigrad converts


class UncheckedActivationsWarning(UserWarning):
    """Weights that came alone: whether the layers compute what Keras's did cannot be told."""


class Claim(NamedTuple):
    """One layer, as a file or somebody says it is."""

    name: str
    cls: str
    config: dict[str, Any]
    arrays: list[Array]  # empty where nothing but the configuration is known

    @property
    def plain_class(self) -> str:
        """LSTM also for CuDNNLSTM and RNN(LSTMCell)."""
        if self.cls == "RNN":
            return str(self.config["cell"]["class_name"]).removesuffix("Cell")
        return self.cls.removeprefix("CuDNN")


def claims_of(config: Any, weights: Weights | None = None) -> list[Claim]:
    """The layers with weights in a structure, models inside it included, in order.

    config: {"class_name": ..., "config": ...}, its JSON (keras_model.to_json()), or a list of
    (class, arguments) as `keras_arguments` gives. Raises ConversionError for anything else.
    """
    if isinstance(config, (str, bytes)):
        try:
            config = parse_json(config)
        except ValueError as error:
            raise ConversionError(f"load_keras_weights: config is no JSON ({error}).") from None
    if isinstance(config, list) and all(map(_is_pair, config)):
        return [_argued(cls, arguments) for cls, arguments in config]
    if not isinstance(config, dict) or "class_name" not in config:
        raise ConversionError(
            "load_keras_weights: expected config=keras_model.to_json(), or what "
            "keras_arguments(module) gives; got neither."
        )
    try:
        return _claims(config, weights or Weights({}, True))
    except (KeyError, TypeError, AttributeError) as error:
        raise ConversionError(
            f"load_keras_weights: this structure is none of Keras ({error!r})."
        ) from None


def _is_pair(entry: Any) -> bool:
    """Whether it is (class, arguments), as `keras_arguments` gives them."""
    if not isinstance(entry, (list, tuple)) or len(entry) != 2 or str(entry[0]) not in WEIGHTED:
        return False
    cls, arguments = entry
    if not isinstance(arguments, dict):
        return False
    return cls != "Bidirectional" or _is_pair(arguments.get("layer"))


def version_in(config: Any) -> tuple[int, ...]:
    """Which Keras wrote a configuration; Keras 3 does not say so in to_json()."""
    config = parse_json(config) if isinstance(config, (str, bytes)) else config
    said = config.get("keras_version") if isinstance(config, dict) else None
    return version_of(said)[0] or (3,)


def _argued(cls: str, arguments: dict[str, Any]) -> Claim:
    if cls == "Bidirectional":
        kind, inner = arguments["layer"]
        arguments = arguments | {"layer": {"class_name": kind, "config": inner}}
    return Claim(cls, cls, arguments, [])


def _claims(
    member: dict[str, Any], weights: Weights, key: str | None = None, above: str = ""
) -> list[Claim]:
    """above: the names of the models around, where the layers of two may have the same name."""
    name, cls, config = described(member, "a layer")
    if cls in MODELS:
        above = above if key is None else f"{above}{name}/"
        inside = weights if key is None else weights.inside(key)
        layers = config if isinstance(config, list) else config["layers"]
        named = [(layer, described(layer, "a layer")) for layer in layers]
        keys = [inside.name(kind, own) for _, (own, kind, _) in named]
        return [c for layer, k in zip(layers, keys) for c in _claims(layer, inside, k, above)]
    key = name if key is None else key
    if cls == "TimeDistributed":
        inner = config["layer"]
        if not isinstance(weights, Row) and inner["class_name"] not in MODELS:
            weights = Weights({key: weights.of(key)}, True)
        return _claims(inner, weights, key, above)
    if cls not in WEIGHTED:
        return []
    if isinstance(weights, Row):
        return [Claim(above + name, cls, config, weights.take(f"layer {name!r}", cls, config))]
    return [Claim(above + name, cls, config, weights.of(key))]


def check(what: str, arguments: dict[str, Any], claim: Claim, version: tuple[int, ...]) -> None:
    """Raises ConversionError if a layer with these arguments in Keras is not the one claimed.

    Compared are kinds, activations, directions and how they merge. Which outputs are given out, and
    the activation that a Dense ends with, are the program's business.
    """
    where = f"{what}: Keras's layer {claim.name!r}"
    if claim.cls not in RECURRENT:
        return
    own = _argued(claim.plain_class, arguments)
    if claim.cls == "Bidirectional":
        ours, theirs = (
            directions_of(where, c.config, v) for c, v in ((own, (3,)), (claim, version))
        )
        said, mine = claim.config.get("merge_mode", "concat"), arguments["merge_mode"]
        if said != mine:
            raise ConversionError(f"{where} has merge_mode={said!r}, and this one {mine!r}.")
    else:
        ours = [cell_of(where, own.cls, own.config, (3,))]
        theirs = [cell_of(where, claim.cls, claim.config, version)]
        if theirs[0][2].get("go_backwards"):
            raise ConversionError(
                f"{where} has go_backwards=True, and this one runs forwards; import_keras has such "
                f"layers."
            )
    for (kind, mine, _), (kind_there, there, _) in zip(ours, theirs, strict=True):
        if kind != kind_there:
            raise ConversionError(f"{where} is a {kind_there}, and this one a {kind}.")
        for name in ("activation", "recurrent_activation", "reset_after"):
            if mine.get(name) != there.get(name):
                raise ConversionError(
                    f"{where} has {name}={there.get(name)!r}, and this one {mine.get(name)!r}; "
                    f"{_way_out(name, kind, there)}"
                )


def _way_out(name: str, kind: str, options: dict[str, Any]) -> str:
    if name == "reset_after":
        return "reset before and after cannot be converted into each other."
    said = ", ".join(f"{k}={v!r}" for k, v in options.items() if k.endswith("activation"))
    return (
        f"make it nn.Recurrent(lambda size: interop.Keras{kind}Cell(size, {options['units']}, "
        f"{said}), ...)."
    )


def warn_unchecked(source: str, layers: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Says what was taken for granted: (what, arguments in Keras) of the recurrent layers."""
    said = [
        f"{what} "
        + ", ".join(f"{k}={v!r}" for k, v in _inner(own).items() if k.endswith("activation"))
        for what, own in layers
    ]
    if said:
        warnings.warn(
            f"{source}: weights alone do not say which activations their layers had; taken for "
            f"granted: {'; '.join(said)}. To have them checked, give the .keras or .h5 file of "
            f"keras_model.save, the Keras model itself, or config=keras_model.to_json().",
            UncheckedActivationsWarning,
            stacklevel=3,
        )


def _inner(arguments: dict[str, Any]) -> dict[str, Any]:
    return arguments["layer"][1] if "layer" in arguments else arguments
