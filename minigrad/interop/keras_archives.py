"""The files of Keras: .keras archives, .h5 of Keras 2 and of model.save, and .weights.h5.

    .keras                  a zip file: config.json (the structure), model.weights.h5
    model.h5                the structure in the attribute model_config, the arrays by layer
    weights.h5 of Keras 2   the arrays by layer, in an order that attributes tell
    .weights.h5 of Keras 3  the arrays by class and order: see keras_files.py

Only numbers and JSON are read. A Lambda's code, which some of them hold, stays what it is: a text.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..untrusted import MOST_TEXT, memory_share, open_regular, parse_json, reading, size_of
from .base import Array, FormatError, need
from .keras_files import ARGUMENTS, EXPANSION, array_of, datasets_of, layers_of, opened


class KerasFile(NamedTuple):
    """What a file of Keras holds.

    layers: name -> arrays, in the order of get_weights(). by_name: whether the names are those that
        the model's layers have (the .h5 of Keras 2) or tell class and order (Keras 3).
    config: the structure, {"class_name": ..., "config": ...}; in a file of save_keras_weights the
        list of `keras_arguments`; None in other files of weights alone.
    version: of the Keras that wrote it, as (2, 4, 0); () where the file does not say.
    tf: whether that was the Keras inside TensorFlow.
    """

    layers: dict[str, list[Array]]
    by_name: bool
    config: dict[str, Any] | list[Any] | None = None
    version: tuple[int, ...] = ()
    tf: bool = False


def read_keras_weights(path: str | Path) -> dict[str, list[Array]]:
    """name of a layer -> its arrays, in the order of its get_weights(), from any file of Keras.

    The optimiser's variables and the seeds of dropouts are left out.
    Raises FormatError for what is no such file.
    """
    return read_keras(path).layers


def read_keras(path: str | Path) -> KerasFile:
    """A .keras archive, a .h5 of Keras 2 or a .weights.h5. Raises FormatError for what is none."""
    h5py = need("h5py", "keras", "files of Keras")
    with reading(path, FormatError, what="file of Keras"), open_regular(path) as raw:
        zipped = raw.read(4) == b"PK\3\4"
        raw.seek(0)
        found = _archive(path, raw, h5py) if zipped else _hdf5(path, raw, size_of(raw), h5py)
    if not found.layers:
        raise FormatError(f"{path}: this file holds no weights of Keras.")
    return found


def _archive(path: str | Path, raw: BinaryIO, h5py: Any) -> KerasFile:
    try:
        archive = zipfile.ZipFile(raw)
    except zipfile.BadZipFile as error:
        raise FormatError(f"{path}: this is no whole .keras archive ({error}).") from None
    with archive:
        config = parse_json(_member(path, archive, "config.json", MOST_TEXT))
        metadata = parse_json(_member(path, archive, "metadata.json", MOST_TEXT))
        weights = _member(path, archive, "model.weights.h5", memory_share())
    if not isinstance(config, dict) or not isinstance(metadata, dict):
        raise FormatError(f"{path}: its config.json and metadata.json hold no dictionaries.")
    version, tf = version_of(metadata.get("keras_version"))
    with opened(path, io.BytesIO(weights), h5py) as file:
        layers = layers_of(path, file, len(weights), h5py)
    return KerasFile(layers, False, config, version, tf)


def _member(path: str | Path, archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    entries = [entry for entry in archive.infolist() if entry.filename == name]
    if len(entries) != 1:
        why = f"{len(entries)} times" if entries else "not"
        raise FormatError(
            f"{path}: a .keras archive holds config.json, metadata.json and model.weights.h5; "
            f"{name} is there {why} (weights in several files are not read)."
        )
    (entry,) = entries
    if entry.flag_bits & 1:
        raise FormatError(f"{path}: {name} is encrypted.")
    if entry.file_size > min(most, EXPANSION * max(entry.compress_size, 1)):
        raise FormatError(f"{path}: {name} says that it has {entry.file_size:,} bytes; too many.")
    with archive.open(entry) as member:
        return member.read(entry.file_size)


def _hdf5(path: str | Path, raw: BinaryIO, left: int, h5py: Any) -> KerasFile:
    with opened(path, raw, h5py) as file:
        version, tf = version_of(_text(file.attrs.get("keras_version")))
        config = _text(file.attrs.get("model_config"))
        root = "model_weights" if "model_weights" in file else ""
        if not root and "layer_names" not in file.attrs and "layer_names0" not in file.attrs:
            told = _text(file.attrs.get(ARGUMENTS))
            arguments = parse_json(told) if told else None
            return KerasFile(layers_of(path, file, left, h5py), False, arguments)
        parsed = None if config is None else parse_json(config)
        if parsed is not None and not isinstance(parsed, dict):
            raise FormatError(f"{path}: its model_config holds no dictionary.")
        if version and version < (2,):
            raise FormatError(f"{path}: written by Keras 1; load and save it with Keras 2 first.")
        layers = _by_name(path, file, root, left, h5py)
    return KerasFile(layers, True, parsed, version, tf)


def _by_name(
    path: str | Path, file: Any, root: str, left: int, h5py: Any
) -> dict[str, list[Array]]:
    """The arrays as Keras 2 keeps them: a group for each layer, whose attributes name them."""
    above = [root] if root else []
    known = dict(datasets_of(file, h5py, path))
    group = file[root] if root else file
    layers: dict[str, list[Array]] = {}
    for layer in _names(group, "layer_names"):
        if layer in layers or layer not in group:
            raise FormatError(f"{path}: the layer {layer!r} is named twice, or not there.")
        for name in _names(group[layer], "weight_names"):
            place = (*above, *layer.split("/"), *name.split("/"))
            dataset = known.pop(place, None)
            if dataset is None:
                raise FormatError(f"{path}: {'/'.join(place)!r} is named twice, or not there.")
            array = array_of(f"{path}: {'/'.join(place)!r}", dataset, left)
            left -= dataset.id.get_storage_size()
            layers.setdefault(layer, []).append(array)
    return layers


def _names(group: Any, name: str) -> list[str]:
    """An attribute that lists names; Keras divides a long one into name0, name1, ..."""
    parts, i = [group.attrs[name]] if name in group.attrs else [], 0
    while f"{name}{i}" in group.attrs:
        parts.append(group.attrs[f"{name}{i}"])
        i += 1
    return [_text(value) or "" for part in parts for value in part]


def _text(value: Any) -> str | None:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def version_of(said: Any) -> tuple[tuple[int, ...], bool]:
    """The numbers, and whether it is TensorFlow's.

    >>> version_of("2.2.4-tf"), version_of("3.12.0")
    (((2, 2, 4), True), ((3, 12, 0), False))
    """
    text = said if isinstance(said, str) else ""
    numbers = tuple(int(n) for n in re.findall(r"\d{1,6}", text)[:3])
    return numbers, text.endswith("-tf") or (2, 4) <= numbers < (3,)
