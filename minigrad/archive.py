"""Trees of arrays and numbers on disk, without pickle: a zip of .npy arrays and one JSON text.

    files = Archive("checkpoint", 1, CheckpointError)
    files.save("run.ckpt", {"model": model.state_dict(), "step": 7})
    files.load("run.ckpt")["step"]                              # 7

A tree of dicts and lists goes in and comes out: arrays bit for bit, numbers, texts, None. `np.load`
opens the file too, and its one JSON member can be read by eye. A file appears whole or not at all,
whatever is killed when. What is of another kind, is damaged, or comes from a later version is
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .files import replacing
from .tensors import Tensor
from .untrusted import DEPTH, MOST_TEXT, cause, open_regular, parse_json, reading, shortly, size_of

Array = np.ndarray
_ARRAY = "$array"  # {"$array": "model.weight"} stands in the JSON for an array of the zip
_FLOAT = "$float"  # nan, inf and -inf, which JSON has not


@dataclass(frozen=True)
class Archive:
    """One kind of file: what it is called, the newest version of it that is known, and the error
    that whatever is wrong comes out as.
    """

    kind: str
    version: int
    error: type[Exception]

    @property
    def text(self) -> str:
        """The member that holds the JSON."""
        return f"{self.kind}.json"

    def save(self, path: str | Path, tree: Mapping[str, Any]) -> Path:
        """Writes a tree, atomically: what was there before stays until the new file is whole.

        tree: dicts with text keys, and lists, of arrays, Tensors, numbers, texts, booleans and
        None. Raises `error` for anything else, and where `path` holds something that is no file of
        this kind, in this version or an earlier one.
        """
        path = Path(path)
        if path.exists():
            self._check_ours(path)
        arrays: dict[str, Array] = {}
        head = {"format": f"minigrad {self.kind}", "version": self.version}
        try:
            body = _pack(tree, "", arrays)
        except _UnsuitableError as error:
            raise self.error(f"save: {error}") from None
        text = json.dumps(head | {"tree": body}, allow_nan=False)
        if len(text) > MOST_TEXT:  # ASCII
            raise self.error(
                f"save: the tree without its arrays is {len(text):,} bytes of JSON; at most "
                f"{MOST_TEXT:,}. Make arrays of its long lists."
            )
        try:
            with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_member(self.text), text)
                for name, array in arrays.items():
                    archive.writestr(_member(f"{name}.npy"), _npy(array))
        except OSError as error:
            raise self.error(f"{path}: cannot be written ({error.strerror or error}).") from error
        return path

    def load(self, path: str | Path) -> dict[str, Any]:
        """The tree that `save` wrote. Raises `error` for any other file, saying what it is."""
        with self._opened(path) as archive:
            return _Reader(archive).tree(self._header(path, archive))

    @contextmanager
    def _opened(self, path: str | Path) -> Iterator[zipfile.ZipFile]:
        """The zip of a file that may be anything; whatever is wrong with it is an `error`.

        `save` compresses and encrypts nothing and writes every part once, so a part that is larger
        than the file, or there twice, is not its own.
        """
        with reading(path, self.error, what=self.kind), open_regular(path) as file:
            zipped = file.read(4) == b"PK\x03\x04"
            try:
                archive = zipfile.ZipFile(file)
            except Exception as error:
                what = "is cut off or damaged" if zipped else f"is no minigrad {self.kind}"
                raise self.error(f"{path}: this file {what} ({cause(error)}).") from None
            with archive:
                self._check_parts(path, archive, size_of(file))
                try:
                    yield archive
                except zipfile.BadZipFile as error:
                    raise self.error(f"{path}: this {self.kind} is damaged ({error}).") from None

    def _check_parts(self, path: str | Path, archive: zipfile.ZipFile, size: int) -> None:
        parts = archive.infolist()
        if self.text not in archive.namelist():
            raise self.error(f"{path}: this is a zip file, but no minigrad {self.kind}.")
        damaged = f"{path}: this {self.kind} is damaged"
        for part in parts:
            if part.compress_type != zipfile.ZIP_STORED or part.flag_bits & 0x1:
                raise self.error(
                    f"{damaged}: its part {part.filename!r} is compressed or encrypted, and no "
                    f"{self.kind} is."
                )
        if len({part.filename for part in parts}) != len(parts):
            raise self.error(f"{damaged}: it has a part twice.")
        if sum(part.file_size for part in parts) > size:
            raise self.error(f"{damaged}: its parts overlap.")

    def _check_ours(self, path: Path) -> None:
        """Raises `error` unless all of such a file is there: nothing else is overwritten."""
        with self._opened(path) as archive:
            self._header(path, archive)
            if (bad := archive.testzip()) is not None:
                raise self.error(f"{path}: this {self.kind} is damaged (its part {bad!r}).")

    def _header(self, path: str | Path, archive: zipfile.ZipFile) -> dict[str, Any]:
        """The JSON of a file of this version: its tree, without the arrays."""
        if archive.getinfo(self.text).file_size > MOST_TEXT:
            raise self.error(f"{path}: its {self.text} has more than {MOST_TEXT:,} bytes.")
        header = parse_json(archive.read(self.text), DEPTH + 2)  # around the tree, and for an array
        if not isinstance(header, dict) or header.get("format") != f"minigrad {self.kind}":
            raise self.error(f"{path}: this is a zip file, but no minigrad {self.kind}.")
        version = header.get("version")
        if type(version) is not int or not 1 <= version <= self.version:
            raise self.error(
                f"{path}: written by a later version (format {shortly(version)}, this minigrad "
                f"reads up to {self.version}); update minigrad to read it."
            )
        if not isinstance(header.get("tree"), dict):
            raise self.error(f"{path}: this {self.kind} is damaged: it holds no tree.")
        return dict(header["tree"])


class _UnsuitableError(ValueError):
    """Something in a tree that no archive holds."""


def _pack(value: Any, path: str, arrays: dict[str, Array], depth: int = DEPTH) -> Any:
    if not depth and isinstance(value, (Mapping, list, tuple)):
        raise _UnsuitableError(f"{path[:80]}... is nested more than {DEPTH} deep.")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key in (_ARRAY, _FLOAT):
                raise _UnsuitableError(f"{path or 'the tree'} has the key {key!r}; use a text.")
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
            raise _UnsuitableError(f"{path} is an array of {value.dtype}; expected numbers.")
        # zip names are cut at NUL and end at 64 KiB; the number alone makes it unique
        name = f"{len(arrays)}-{re.sub(r'[^A-Za-z0-9._-]', '_', path)[:80]}"
        arrays[name] = value
        return {_ARRAY: name}
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise _UnsuitableError(
        f"{path or 'the tree'} is {type(value).__name__}; expected arrays, numbers, texts, "
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
