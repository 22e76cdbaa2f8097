"""The constants of an ONNX file: in the file itself, or in one beside it that it names.

A file may name any other as the place of its weights. What is read lies in the folder of the .onnx
file, and is all there before memory is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..untrusted import memory_share, open_regular, size_of
from .base import Array, ConversionError, FormatError

EXTERNAL = 1  # TensorProto.EXTERNAL
HALF = 10, 16  # TensorProto.FLOAT16, BFLOAT16
BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}


def array_of(onnx: Any, tensor: Any) -> Array:
    """The array of a TensorProto; float16 and bfloat16 as float32, which holds them all.

    Raises ConversionError for what is no array of numbers.
    """
    what = f"import_onnx: the constant {tensor.name!r}"
    if tensor.data_location == EXTERNAL:
        raise ConversionError(f"{what} lies in another file; expected that of initializers only.")
    if tensor.data_type not in BYTES:
        raise ConversionError(f"{what} is of ONNX's dtype {tensor.data_type}; no numbers.")
    if any(n < 0 for n in tensor.dims):
        raise ConversionError(f"{what} has the shape {list(tensor.dims)}.")
    array = onnx.numpy_helper.to_array(tensor)
    if tensor.data_type in HALF:
        array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise ConversionError(f"{what} is {array.dtype}; expected numbers that NumPy has.")
    return array


def load_external(tensors: Iterable[Any], path: Path) -> None:
    """Puts the bytes of initializers that lie beside the file into them.

    Raises FormatError for a place outside of the file's folder, for bytes that are not there, and
    for more than fit into half of the memory: many may name the same bytes.
    """
    room = memory_share()
    for tensor in tensors:
        if tensor.data_location == EXTERNAL:
            what = f"{path}: the external data of {tensor.name!r}"
            room -= _size(what, tensor)
            if room < 0:
                raise FormatError(f"{what} is more than fits into half of this machine's memory.")
            try:
                _load(what, tensor, path.parent)
            except OSError as error:
                raise FormatError(f"{what} cannot be read ({error}).") from None


def _size(what: str, tensor: Any) -> int:
    if tensor.data_type not in BYTES or any(n < 0 for n in tensor.dims):
        raise FormatError(f"{what} is of dtype {tensor.data_type}, shape {list(tensor.dims)}.")
    return math.prod(tensor.dims) * BYTES[tensor.data_type]


def _load(what: str, tensor: Any, folder: Path) -> None:
    given = {entry.key: entry.value for entry in tensor.external_data}
    place, size = _inside(what, folder, given.get("location", "")), _size(what, tensor)
    offset, length = (given.get(key) or other for key, other in (("offset", 0), ("length", size)))
    with open_regular(place) as file:
        whole = size_of(file)
        if int(length) != size or not 0 <= int(offset) <= whole - size:
            raise FormatError(
                f"{what} is {size} bytes by its shape, said to be {length} from {offset} on, of "
                f"the {whole} of {place.name}."
            )
        file.seek(int(offset))
        tensor.raw_data = file.read(size)
    tensor.data_location = 0
    del tensor.external_data[:]


def _inside(what: str, folder: Path, location: str) -> Path:
    """The file that `location` names, if it is in the folder once all links are followed."""
    parts = PurePosixPath(location)
    plain = location and not parts.is_absolute() and ".." not in parts.parts
    if plain and "\0" not in location and "\\" not in location and ":" not in location:
        place, root = (folder / parts).resolve(), folder.resolve()
        if place.is_relative_to(root) and place != root:
            return place
    raise FormatError(f"{what} is said to be in {location!r}, outside of the file's folder.")


def check_inside(graph: Any, path: str, graphs: bool) -> None:
    """Raises FormatError if anything else of a graph lies in another file, or is sparse.

    graphs: whether nodes may hold some of their own. They go through here as well.
    """
    if graph.sparse_initializer:
        raise FormatError(f"{path}: has sparse initializers; store them dense.")
    for node in graph.node:
        for attribute in node.attribute:
            for tensor in (attribute.t, *attribute.tensors):
                if tensor.data_location == EXTERNAL:
                    raise FormatError(
                        f"{path}: the constant {tensor.name!r} of node {node.name!r} lies in "
                        f"another file; only initializers may."
                    )
            looked_into = graphs or node.op_type == "Scan"
            for inner in (attribute.g, *attribute.graphs) if looked_into else ():
                check_inside(inner, path, graphs)
            if (attribute.g.node or attribute.graphs) and not looked_into:
                raise ConversionError(
                    f"import_onnx: node {node.name!r} ({node.op_type}) holds a graph of its own; "
                    f'not supported. import_onnx(..., only="recurrent") looks into it.'
                )
