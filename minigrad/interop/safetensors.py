"""safetensors: a state_dict in a file that holds numbers and nothing that runs.

    save_safetensors("tagger.safetensors", model)
    model.load_state_dict(load_safetensors("tagger.safetensors"))

Names and shapes are torch.nn's, so torch reads the file too (`safetensors.torch.load_file`), and a
file that torch wrote loads here. https://huggingface.co/docs/safetensors gives the format.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..nn.module import Module
from ..untrusted import parse_json, read_bytes, reading
from .base import Array, ConversionError, FormatError, need, only_over, version, write_whole

# float16 and bfloat16 are read as float32, which has all their values.
DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "BOOL": np.bool_,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8,
}  # fmt: skip
OURS = "minigrad"  # the entry of the metadata that holds minigrad's version


class StateFile(dict[str, Array]):
    """name -> array, as `Module.load_state_dict` takes it.

    metadata: texts that the file carries. widened: the names stored as float16 or bfloat16 and read
    as float32: the same values, in a wider dtype.
    """

    metadata: dict[str, str]
    widened: list[str]


def save_safetensors(
    path: str | Path,
    state: Module | Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Writes a module's state_dict (or any name -> array), atomically.

    metadata: texts of your own, kept beside minigrad's version.
    Raises ConversionError for what is no array of numbers, FormatError if `path` is a file that
    minigrad has not written: it stays as it is.

    >>> import tempfile
    >>> from minigrad import nn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = save_safetensors(Path(folder) / "a.safetensors", nn.Linear(3, 2))
    ...     {name: w.shape for name, w in load_safetensors(file).items()}
    {'bias': (2,), 'weight': (2, 3)}
    """
    numpy_format = need("safetensors.numpy", "safetensors", "safetensors files")
    path = Path(path)
    if path.exists():
        only_over(path, OURS in _metadata_or_none(path), "safetensors file")
    given = state.state_dict() if isinstance(state, Module) else state
    arrays = {name: _storable(name, value) for name, value in given.items()}
    texts = {**(metadata or {}), OURS: version(), "format": "pt"}  # pt: torch's names and layout
    for key, text in texts.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise ConversionError(
                f"save_safetensors: metadata are texts; got {key!r}: {text!r}. Use str() or "
                f"json.dumps()."
            )
    return write_whole(path, numpy_format.save(arrays, texts))


def load_safetensors(path: str | Path) -> StateFile:
    """name -> array of every tensor in the file, sorted by name. FormatError for any other file.

    float16 and bfloat16 come as float32, exactly; `.widened` names them. Other small floats (FP8)
    are refused: they are scaled by numbers that stand elsewhere.
    """
    package = need("safetensors", "safetensors", "safetensors files")
    with reading(path, FormatError, what="safetensors file"):
        data = read_bytes(path)
        texts = _metadata(Path(path), data)
        return _state(path, package.deserialize(data), texts)


def _state(path: str | Path, entries: Any, texts: dict[str, str]) -> StateFile:
    found = StateFile()
    found.metadata, found.widened = texts, []
    for name, entry in sorted(entries, key=lambda item: item[0]):
        kind = entry["dtype"]
        if kind not in DTYPES:
            raise FormatError(
                f"{path}: {name!r} is stored as {kind}, which NumPy and minigrad have no dtype "
                f"for; store it as F32 or F64."
            )
        raw = entry["data"]
        if kind == "BOOL":  # what is neither 0 nor 1 would be neither equal nor unequal to True
            array = np.frombuffer(raw, np.uint8).reshape(entry["shape"]) != 0
        else:
            array = np.frombuffer(raw, DTYPES[kind]).reshape(entry["shape"])
        if kind in ("F16", "BF16"):
            found.widened.append(name)
            array = widened(array, kind)
        found[name] = array.copy()
    return found


def widened(array: Array, kind: str) -> Array:
    """float16, or the upper half of a float32 that bfloat16 is, as float32."""
    if kind == "F16":
        return array.astype(np.float32)
    return (array.astype(np.uint32) << 16).view(np.float32)


def _storable(name: str, value: Any) -> Array:
    array = np.ascontiguousarray(value.numpy() if hasattr(value, "numpy") else value)
    array = array.reshape(np.shape(value))  # ascontiguousarray makes a 0-d array 1-d
    if array.dtype.newbyteorder("=") not in [np.dtype(d) for d in DTYPES.values()]:
        raise ConversionError(
            f"save_safetensors: {name!r} is {array.dtype}; expected an array of numbers."
        )
    return array  # the package brings its bytes into the format's order


def _metadata(path: Path, data: bytes) -> dict[str, str]:
    """The texts in the header: 8 bytes of its length, then JSON."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8 or data[8:9] != b"{":
        cut = data[8:9] == b"{" and size < 100_000_000  # the format's own limit of a header
        what = "is cut off" if cut else "is no safetensors file"
        raise FormatError(f"{path}: this file {what} ({len(data)} bytes).")
    try:
        header = parse_json(data[8 : 8 + size])
    except ValueError as error:
        raise FormatError(f"{path}: the header of this file is damaged ({error}).") from None
    texts = header.get("__metadata__")
    if texts is None:
        return {}
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise FormatError(f"{path}: its __metadata__ is not a dictionary of texts.")
    return texts


def _metadata_or_none(path: Path) -> dict[str, str]:
    try:
        return load_safetensors(path).metadata
    except FormatError:
        return {}
