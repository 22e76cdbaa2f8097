"""What all formats share: their errors, a package that may be missing, and files written whole."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .. import files
from ..errors import MinigradError
from ..nn.module import Module
from ..nn.recurrent import Recurrent

Array = np.ndarray


class ConversionError(MinigradError, ValueError):
    """What cannot be converted exactly, where it stands, and why."""


class FormatError(MinigradError, ValueError):
    """A file that is damaged, of another format, or not ours to overwrite."""


class MissingPackageError(MinigradError, ImportError):
    """A package that this conversion needs, and how to install it."""


def need(module: str, extra: str, what: str) -> Any:
    """The imported module. Raises MissingPackageError with the command that installs it.

    extra: minigrad's that brings it; "" for a package that is installed by its own name.

    >>> need("no_such_package", "onnx", "ONNX files")
    Traceback (most recent call last):
    minigrad.interop.base.MissingPackageError: ONNX files need the package no_such_package:
    pip install "minigrad-bptt[onnx]"
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise MissingPackageError(
            f"{what} need the package {package}: pip install "
            + (f'"minigrad-bptt[{extra}]"' if extra else package)
        ) from None


def version() -> str:
    """minigrad's version, read from the package above, which this layer does not import."""
    return str(sys.modules[__name__.partition(".")[0]].__version__)


def write_whole(path: str | Path, data: bytes) -> Path:
    """Writes a file that appears whole or not at all; what was there stays until then."""
    try:
        return files.write_whole(path, data)
    except OSError as error:
        raise FormatError(f"{path}: cannot be written ({error.strerror or error}).") from None


def only_over(path: str | Path, ours: bool, what: str) -> None:
    """Raises FormatError if `path` holds something that is not ours: it is never overwritten."""
    if not ours:
        raise FormatError(
            f"{path}: there is a file already that is no {what} of minigrad, and it is left alone; "
            f"choose another name, or remove it first."
        )


def as_dtype(what: str, array: Array, dtype: Any) -> Array:
    """The array in another dtype. Raises ConversionError if a value would change on the way.

    >>> as_dtype("w", np.array([0.5]), np.float32)
    array([0.5], dtype=float32)
    """
    array = np.asarray(array)
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "fiu":
        raise ConversionError(f"{what} is {array.dtype}; expected numbers.")
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    if not np.array_equal(converted.astype(array.dtype), array, equal_nan=array.dtype.kind == "f"):
        raise ConversionError(
            f"{what} is {array.dtype} and the layer {np.dtype(dtype)}, which would round it; make "
            f"the layer with dtype=np.{array.dtype} (or module.to), or round it yourself with "
            f".astype(np.{np.dtype(dtype)})."
        )
    return converted


def walk(module: Module, path: str = "") -> Iterator[tuple[str, Module]]:
    """(path, module) of this one and all below it; recurrent layers are not looked into."""
    yield path, module
    if isinstance(module, Recurrent):
        return
    for name, member in module.members():
        if isinstance(member, Module):
            yield from walk(member, f"{path}.{name}" if path else name)


def check_alike(what: str, layer: Recurrent) -> None:
    """Raises ConversionError if the cells of a Recurrent differ in kind or size."""
    found = {(type(cell), getattr(cell, "hidden_size", None)) for cell in layer.cells}
    if len(found) > 1:
        said = sorted(f"{kind.__name__} of {size}" for kind, size in found)
        raise ConversionError(f"{what} is made of {', '.join(said)}; expected cells of one kind.")


def named(path: str, module: Module) -> str:
    """How a message calls a module: `encoder.rnn (GRU)`."""
    kind = type(module).__name__
    return f"{path} ({kind})" if path else kind
