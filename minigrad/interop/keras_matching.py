"""Which arrays of a file, a list or a live Keras model go into which layer of a module."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..untrusted import parse_json
from .base import Array, ConversionError
from .keras_archives import KerasFile, version_of
from .keras_claims import WEIGHTED, Claim, claims_of
from .keras_graph import MODELS
from .keras_parts import SNAKE, Part
from .keras_weights import Weights

Version = tuple[int, ...]


def from_list(parts: list[Part], arrays: list[Array]) -> list[list[Array]]:
    """The arrays of each part, one after the other."""
    counts = [part.arrays for part in parts]
    if sum(counts) != len(arrays):
        each = ", ".join(f"{part.what} {n}" for part, n in zip(parts, counts, strict=True))
        raise ConversionError(
            f"load_keras_weights: expected {sum(counts)} arrays ({each}), got {len(arrays)}."
        )
    ends = np.cumsum(counts)
    return [arrays[end - n : end] for end, n in zip(ends, counts, strict=True)]


def in_order(parts: list[Part], claims: list[Claim]) -> list[Claim]:
    """The claims, if they are of the parts, one for each. Raises ConversionError otherwise."""
    theirs, ours = [claim.plain_class for claim in claims], [part.cls for part in parts]
    if theirs != ours:
        raise ConversionError(
            f"load_keras_weights: Keras has the layers {', '.join(theirs) or 'none'}; the module's "
            f"are {', '.join(ours)}."
        )
    return claims


def claims_of_live(parts: list[Part], keras_model: Any) -> tuple[list[Claim], Version]:
    """What a model or a layer of Keras says it is; nothing for a class of somebody's own."""
    cls = type(keras_model).__name__
    library = sys.modules.get(type(keras_model).__module__.partition(".")[0])
    version = version_of(getattr(library, "__version__", None))[0] or (3,)
    if cls not in MODELS | WEIGHTED:
        return [], version
    text = json.dumps(keras_model.get_config(), default=_as_json)
    structure = {"class_name": cls, "config": parse_json(text)}
    return in_order(parts, claims_of(structure)), version


def _as_json(value: Any) -> Any:
    """What else stands in a configuration: an object that has one itself, or a number of NumPy."""
    if hasattr(value, "get_config"):
        return {"class_name": type(value).__name__, "config": value.get_config()}
    return value.tolist() if hasattr(value, "tolist") else str(value)


def from_file(
    parts: list[Part], file: KerasFile, names: Mapping[str, str | Sequence[str]], path: str
) -> tuple[list[list[Array]], list[Claim], Version]:
    """The arrays of each part, what the file says of its layer (or nothing), Keras's version."""
    claims = _claims(file)
    layers = {c.name: c.arrays for c in claims} if isinstance(file.config, dict) else file.layers
    chosen = _chosen(parts, file, claims, layers, names, path)
    if left := [name for name in layers if name not in chosen]:
        raise ConversionError(
            f"{path}: no part of the module is {', '.join(left)}; the module's are "
            f"{', '.join(chosen)}."
        )
    said = {claim.name: claim for claim in claims}
    return (
        [layers[name] for name in chosen],
        [said[name] for name in chosen if name in said],
        file.version or (3,),
    )


def _claims(file: KerasFile) -> list[Claim]:
    if file.config is None:
        return []
    if isinstance(file.config, dict):
        return claims_of(file.config, Weights(file.layers, file.by_name))
    numbered, used = [], Counter[str]()
    for claim in claims_of(file.config):
        numbered.append(claim._replace(name=_numbered(claim.cls, used)))
    return numbered


def _numbered(cls: str, used: Counter[str]) -> str:
    """lstm, lstm_1, ...: what Keras 3 calls the next layer of a class in a file."""
    base = SNAKE.get(cls, cls)
    used[base] += 1
    return base if used[base] == 1 else f"{base}_{used[base] - 1}"


def _chosen(
    parts: list[Part],
    file: KerasFile,
    claims: list[Claim],
    layers: dict[str, list[Array]],
    names: Mapping[str, str | Sequence[str]],
    path: str,
) -> list[str]:
    """The layer of each part: by the names that are given, else by class and order.

    Without classes, in Keras 2's files of weights alone, by order.
    """
    paths = {part.path for part in parts}
    if unknown := [path for path in names if path not in paths]:
        raise ConversionError(
            f"load_keras_weights: names has {unknown[0]!r}; the module has {sorted(paths)}."
        )
    given = {path: [n] if isinstance(n, str) else list(n) for path, n in names.items()}
    used: Counter[str] = Counter()
    chosen: list[str] = []
    for i, part in enumerate(parts):
        name = _numbered(part.cls, used)
        if isinstance(file.config, dict) or file.by_name:
            alike = [c.name for c in claims if c.plain_class == part.cls] or list(layers)
            n = used[SNAKE[part.cls]] - 1 if claims else i
            name = alike[n] if n < len(alike) else name
        if part.path in given:
            if not given[part.path]:
                raise ConversionError(
                    f"load_keras_weights: {part.what} has several layers; names gives too few."
                )
            name = given[part.path].pop(0)
        if name not in layers or name in chosen:
            raise ConversionError(
                f"{path}: {part.what} should be the layer {name!r}, and the file has "
                f"{', '.join(layers)}; say which with names={{{part.path!r}: ...}}."
            )
        chosen.append(name)
    return chosen
