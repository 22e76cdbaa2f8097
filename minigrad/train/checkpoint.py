"""Checkpoints without pickle: a zip of .npy arrays and one JSON text.

    save("run.ckpt", {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 7})
    load("run.ckpt")["step"]                                    # 7

A tree of dicts and lists goes in and comes out: arrays bit for bit, numbers, texts, None. `np.load`
opens the file too, and its member `checkpoint.json` can be read by eye. A file appears whole or not
at all, whatever is killed when. What is no checkpoint, is damaged, or comes from a later version is
refused with the reason, and never overwritten.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MinigradError
from ..files import replacing
from ..tensors import Tensor
from ..untrusted import DEPTH, MOST_TEXT, cause, open_regular, parse_json, reading, shortly, size_of

Array = np.ndarray
FORMAT, VERSION = "minigrad checkpoint", 1
_TEXT = "checkpoint.json"
_ARRAY = "$array"  # {"$array": "model.weight"} stands in the JSON for an array of the zip
_FLOAT = "$float"  # nan, inf and -inf, which JSON has not


class CheckpointError(MinigradError, ValueError):
    """A file that is no checkpoint this version can read, or a tree that cannot be stored."""


def save(path: str | Path, tree: Mapping[str, Any]) -> Path:
    """Writes a tree, atomically: what was there before stays until the new file is whole.

    tree: dicts with text keys, and lists, of arrays, Tensors, numbers, texts, booleans and None.
    Raises CheckpointError for anything else, and where `path` holds something that is no checkpoint
    of this version or an earlier one.
    """
    path = Path(path)
    if path.exists():
        _check_ours(path)
    arrays: dict[str, Array] = {}
    body = _pack(tree, "", arrays)
    text = json.dumps({"format": FORMAT, "version": VERSION, "tree": body}, allow_nan=False)
    if len(text) > MOST_TEXT:  # ASCII
        raise CheckpointError(
            f"save: the tree without its arrays is {len(text):,} bytes of JSON; at most "
            f"{MOST_TEXT:,}. Make arrays of its long lists."
        )
    try:
        with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_member(_TEXT), text)
            for name, array in arrays.items():
                archive.writestr(_member(f"{name}.npy"), _npy(array))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror or error}).") from error
    return path


def load(path: str | Path) -> dict[str, Any]:
    """The tree that `save` wrote. Raises CheckpointError for any other file, saying what it is.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = save(Path(folder) / "a.ckpt", {"w": np.arange(3.0), "step": 7, "best": math.inf})
    ...     load(file)
    {'w': array([0., 1., 2.]), 'step': 7, 'best': inf}
    """
    with _opened(path) as archive:
        return _Reader(archive).tree(_header(path, archive))


@contextmanager
def _opened(path: str | Path) -> Iterator[zipfile.ZipFile]:
    """The zip of a file that may be anything; whatever is wrong with it is a CheckpointError.

    `save` compresses and encrypts nothing and writes every part once, so a part that is larger than
    the file, or there twice, is not its own.
    """
    with reading(path, CheckpointError, what="checkpoint"), open_regular(path) as file:
        zipped = file.read(4) == b"PK\x03\x04"
        try:
            archive = zipfile.ZipFile(file)
        except Exception as error:
            what = "is cut off or damaged" if zipped else "is no minigrad checkpoint"
            raise CheckpointError(f"{path}: this file {what} ({cause(error)}).") from None
        with archive:
            _check_parts(path, archive, size_of(file))
            try:
                yield archive
            except zipfile.BadZipFile as error:
                raise CheckpointError(f"{path}: this checkpoint is damaged ({error}).") from None


def _check_parts(path: str | Path, archive: zipfile.ZipFile, size: int) -> None:
    parts = archive.infolist()
    if _TEXT not in archive.namelist():
        raise CheckpointError(f"{path}: this is a zip file, but no minigrad checkpoint.")
    for part in parts:
        if part.compress_type != zipfile.ZIP_STORED or part.flag_bits & 0x1:
            raise CheckpointError(
                f"{path}: this checkpoint is damaged: its part {part.filename!r} is compressed or "
                f"encrypted, and no checkpoint is."
            )
    if len({part.filename for part in parts}) != len(parts):
        raise CheckpointError(f"{path}: this checkpoint is damaged: it has a part twice.")
    if sum(part.file_size for part in parts) > size:
        raise CheckpointError(f"{path}: this checkpoint is damaged: its parts overlap.")


def _check_ours(path: Path) -> None:
    """Raises CheckpointError unless all of a checkpoint is there: nothing else is overwritten."""
    with _opened(path) as archive:
        _header(path, archive)
        if (bad := archive.testzip()) is not None:
            raise CheckpointError(f"{path}: this checkpoint is damaged (its part {bad!r}).")


def _header(path: str | Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    """The JSON of a checkpoint of this version: its tree, without the arrays."""
    if archive.getinfo(_TEXT).file_size > MOST_TEXT:
        raise CheckpointError(f"{path}: its {_TEXT} has more than {MOST_TEXT:,} bytes.")
    header = parse_json(archive.read(_TEXT), DEPTH + 2)  # around the tree, and for an array
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(f"{path}: this is a zip file, but no minigrad checkpoint.")
    version = header.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= VERSION:
        raise CheckpointError(
            f"{path}: written by a later version (format {shortly(version)}, this minigrad "
            f"reads up to {VERSION}); update minigrad to read it."
        )
    if not isinstance(header.get("tree"), dict):
        raise CheckpointError(f"{path}: this checkpoint is damaged: it holds no tree.")
    return dict(header["tree"])


def _pack(value: Any, path: str, arrays: dict[str, Array], depth: int = DEPTH) -> Any:
    if not depth and isinstance(value, (Mapping, list, tuple)):
        raise CheckpointError(f"save: {path[:80]}... is nested more than {DEPTH} deep.")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key in (_ARRAY, _FLOAT):
                raise CheckpointError(
                    f"save: {path or 'the tree'} has the key {key!r}; use a text."
                )
        below = {key: f"{path}.{key}" if path else key for key in value}
        return {key: _pack(v, below[key], arrays, depth - 1) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        dot = f"{path}." if path else ""
        return [_pack(v, f"{dot}{i}", arrays, depth - 1) for i, v in enumerate(value)]
    if isinstance(value, Tensor):
        value = value.numpy()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Array):
        if value.dtype.kind not in "fiub":
            raise CheckpointError(f"save: {path} is an array of {value.dtype}; expected numbers.")
        # zip names are cut at NUL and end at 64 KiB; the number alone makes it unique
        name = f"{len(arrays)}-{re.sub(r'[^A-Za-z0-9._-]', '_', path)[:80]}"
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise CheckpointError(
        f"save: {path or 'the tree'} is {type(value).__name__}; expected arrays, numbers, texts, "
        f"dicts and lists of them."
    )


class _Reader:
    """The tree of an archive. Every array is used once: a short text could ask for it a million
    times.
    """

    def __init__(self, archive: zipfile.ZipFile):
        self.archive = archive
        self.used: set[str] = set()

    def tree(self, body: dict[str, Any]) -> dict[str, Any]:
        return {key: self.value(v) for key, v in body.items()}

    def value(self, stored: Any) -> Any:
        if isinstance(stored, list):
            return [self.value(v) for v in stored]
        if not isinstance(stored, dict):
            return stored
        if _ARRAY in stored:
            return self.array(_only(stored, _ARRAY))
        if _FLOAT in stored:
            text = _only(stored, _FLOAT)
            if text not in ("nan", "inf", "-inf"):
                raise ValueError(f"{_FLOAT} is {shortly(text)}")
            return float(text)
        return self.tree(stored)

    def array(self, name: str) -> Array:
        if name in self.used:
            raise ValueError(f"the array {shortly(name)} stands in two places")
        self.used.add(name)
        return _from_npy(name, self.archive.read(f"{name}.npy"))


def _only(stored: dict[str, Any], key: str) -> str:
    if len(stored) != 1 or not isinstance(stored[key], str):
        raise ValueError(f"{key} stands beside other keys, or for {shortly(stored[key])}")
    return str(stored[key])


def _from_npy(name: str, data: bytes) -> Array:
    """The array of a .npy file in memory, which has no more elements than its header says."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"the array {shortly(name)} is of npy version {version}")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    rest = data[file.tell() :]
    if dtype.kind not in "fiub" or any(n < 0 for n in shape):
        raise ValueError(f"the array {shortly(name)} is of {dtype}, shape {shape}")
    if math.prod(shape) * dtype.itemsize != len(rest):
        raise ValueError(
            f"the array {shortly(name)} of {dtype} {list(shape)} has {len(rest)} bytes"
        )
    array = np.frombuffer(rest, np.uint8) != 0 if dtype.kind == "b" else np.frombuffer(rest, dtype)
    return array.reshape(shape, order="F" if by_columns else "C").copy(order="K")


def _npy(array: Array) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def _member(name: str) -> zipfile.ZipInfo:
    """Without the time of day, so that equal trees are equal files."""
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))


def leaves_of(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, leaf) of everything in a tree, as `load` gave it."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        name = f"{path}.{key}" if path else str(key)
        if isinstance(value, (dict, list)):
            yield from leaves_of(value, name)
        else:
            yield name, value
