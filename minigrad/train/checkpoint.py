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
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MinigradError
from ..files import replacing
from ..tensor import Tensor

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
        _header(path)  # refuses what it does not know
    arrays: dict[str, Array] = {}
    body = _pack(tree, "", arrays)
    text = json.dumps({"format": FORMAT, "version": VERSION, "tree": body}, allow_nan=False)
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
    path = Path(path)
    tree = _header(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _unpack(tree, archive)
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise CheckpointError(f"{path}: this checkpoint is damaged ({error}).") from None


def _header(path: Path) -> Any:
    """The JSON of a checkpoint; raises CheckpointError unless all of the file is there."""
    try:
        with zipfile.ZipFile(path) as archive:
            if _TEXT not in archive.namelist():
                raise CheckpointError(f"{path}: this is a zip file, but no minigrad checkpoint.")
            if (bad := archive.testzip()) is not None:
                raise CheckpointError(f"{path}: this checkpoint is damaged (its part {bad}).")
            header = json.loads(archive.read(_TEXT))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file.") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        with open(path, "rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
        what = "is cut off or damaged" if zipped else "is no minigrad checkpoint"
        raise CheckpointError(f"{path}: this file {what} ({error}).") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(f"{path}: this is a zip file, but no minigrad checkpoint.")
    if not isinstance(header.get("version"), int) or header["version"] > VERSION:
        raise CheckpointError(
            f"{path}: written by a later version (format {header.get('version')}, this minigrad "
            f"reads up to {VERSION}); update minigrad to read it."
        )
    return header["tree"]


def _pack(value: Any, path: str, arrays: dict[str, Array]) -> Any:
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key in (_ARRAY, _FLOAT):
                raise CheckpointError(
                    f"save: {path or 'the tree'} has the key {key!r}; use a text."
                )
        return {key: _pack(v, f"{path}.{key}" if path else key, arrays) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_pack(v, f"{path}.{i}" if path else str(i), arrays) for i, v in enumerate(value)]
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


def _unpack(value: Any, archive: zipfile.ZipFile) -> Any:
    if isinstance(value, list):
        return [_unpack(v, archive) for v in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        data = archive.read(f"{value[_ARRAY]}.npy")
        return np.load(io.BytesIO(data), allow_pickle=False)
    if _FLOAT in value:
        return float(value[_FLOAT])
    return {key: _unpack(v, archive) for key, v in value.items()}


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
