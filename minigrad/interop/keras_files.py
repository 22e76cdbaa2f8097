"""The .weights.h5 file of Keras 3: a tree of groups whose names are those of the layers.

    layers/lstm/cell/vars/0, 1, 2                       kernel, recurrent kernel, bias
    layers/bidirectional/forward_layer/cell/vars/...    and backward_layer
    layers/dense/vars/0, 1

Keras names a layer there by its class and how many of it came before: lstm, lstm_1, ... A layer of
a nested model is called `functional/lstm` here. The other files of Keras are in keras_archives.py.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..untrusted import cause, open_regular, reading
from .base import Array, FormatError, need, only_over, version, write_whole

INSIDE = ("layers", "_layer_checkpoint_dependencies", "layer", "cell", "forward_layer",
          "backward_layer", "vars")  # no names of layers  # fmt: skip
WRITER = "minigrad"  # the attribute of the root that holds minigrad's version
ARGUMENTS = "keras_arguments"  # and the one that holds those of the module, as JSON
_HEAP = b"GCOL\x01\0\0\0"  # its signature and version
DIRECTIONS = ("forward_layer", "backward_layer")
DEPTH = 32  # groups inside each other
# HDF5 loads the code of any other filter from a folder that the environment names.
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32"}
EXPANSION = 100  # times that a compressed array may be larger than what is stored of it


def layers_of(path: str | Path, file: Any, left: int, h5py: Any) -> dict[str, list[Array]]:
    """name of a layer -> its arrays, in the order of its get_weights().

    left: how many bytes the file has. Raises FormatError for what is no such file.
    """
    found: dict[str, dict[tuple[int, int], Array]] = {}
    for place, dataset in datasets_of(file, h5py, path):
        *above, last = place
        if "optimizer" in above[:1] or "seed_generator" in above:
            continue
        numbers = dataset.dtype.kind in "fiub"
        if above[-1:] != ["vars"] or not (last.isascii() and last.isdecimal()):
            if not numbers:
                continue
            raise FormatError(
                f"{path}: {'/'.join(place)!r} is no variable as Keras 3 stores it; "
                f"expected a file of keras_model.save_weights('name.weights.h5')."
            )
        name = "/".join(part for part in above if part not in INSIDE)
        backward = int("backward_layer" in above)
        array = array_of(f"{path}: {'/'.join(place)!r}", dataset, left)
        left -= dataset.id.get_storage_size()
        if found.setdefault(name, {}).setdefault((backward, int(last)), array) is not array:
            raise FormatError(f"{path}: {'/'.join(place)!r} is there twice.")
    return {name: [arrays[k] for k in sorted(arrays)] for name, arrays in found.items()}


def opened(path: str | Path, raw: BinaryIO, h5py: Any) -> Any:
    """The HDF5 file. Raises FormatError for what is none."""
    if any(not whole for whole in _heaps(raw)):
        raise FormatError(f"{path}: a heap of its texts is damaged.")
    try:
        return h5py.File(raw, "r")
    except (OSError, RuntimeError) as error:  # HDF5's word for a damaged file is OSError too
        raise FormatError(f"{path}: this is no whole .h5 file of Keras ({cause(error)}).") from None


def _heaps(raw: BinaryIO) -> Iterator[bool]:
    """Whether each heap of texts is what it says: HDF5 would read some damaged ones for ever.

    A heap, in HDF5's specification "global heap collection": a signature, its size, then objects
    of 16 bytes and their content, up to a multiple of 8, until it is full.
    """
    raw.seek(0)
    content, at = raw.read(), 0
    raw.seek(0)
    while (at := content.find(_HEAP, at)) >= 0:
        place, end = at + 16, at + int.from_bytes(content[at + 8 : at + 16], "little")
        while place + 16 <= min(end, len(content)):
            free = content[place : place + 2] == b"\0\0"
            size = int.from_bytes(content[place + 8 : place + 16], "little")
            step = size if free else 16 + -(-size // 8) * 8
            if not 16 <= step <= end - place:
                yield False
                return
            place += step
        yield end <= len(content)
        at += 16


def datasets_of(
    group: Any, h5py: Any, path: str | Path, place: tuple[str, ...] = (), seen: Any = None
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path as a tuple, dataset) of every array; what is not plain is refused.

    No link is followed, and nothing that has two names: groups could hold each other, and an array
    be there a million times.
    """
    seen = set() if seen is None else seen
    for name in group:
        where = "/".join((*place, name))
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise FormatError(f"{path}: {where} is a link, which Keras writes none of.")
        item = group[name]
        address = h5py.h5o.get_info(item.id).addr
        if address in seen or len(place) >= DEPTH:
            why = "is there under two names" if address in seen else "is nested too deeply"
            raise FormatError(f"{path}: {where} {why}, as in no file of Keras.")
        seen.add(address)
        if isinstance(item, h5py.Group):
            yield from datasets_of(item, h5py, path, (*place, name), seen)
        elif not isinstance(item, h5py.Dataset):
            raise FormatError(f"{path}: {where} is a {type(item).__name__}; expected an array.")
        else:
            yield (*place, name), item


def array_of(what: str, dataset: Any, left: int) -> Array:
    """The array of a dataset whose bytes are all in this file, among the `left` that are no other
    array's. Asks for no memory before.

    External storage and virtual datasets would read any file of this machine as weights.
    """
    if dataset.external:
        raise FormatError(f"{what} has its values in another file, {dataset.external[0][0]!r}.")
    if dataset.is_virtual:
        raise FormatError(f"{what} is put together from other files (a virtual dataset).")
    if dataset.dtype.kind not in "fiub":
        raise FormatError(f"{what} is {dataset.dtype}; expected numbers.")
    if dataset.shape is None:
        raise FormatError(f"{what} has no values.")
    properties = dataset.id.get_create_plist()
    for i in range(properties.get_nfilters()):
        code = properties.get_filter(i)[0]
        if code not in FILTERS:
            known = ", ".join(FILTERS.values())
            raise FormatError(f"{what} is packed with HDF5's filter {code}; read are {known}.")
    stored = min(dataset.id.get_storage_size(), left)
    size = math.prod(dataset.shape) * dataset.dtype.itemsize  # h5py's nbytes wraps around at 2^64
    if size > stored * (EXPANSION if properties.get_nfilters() else 1):
        raise FormatError(
            f"{what} says that it has {size:,} bytes {list(dataset.shape)}, and "
            f"{stored:,} are stored."
        )
    return np.asarray(dataset[()])


def write_keras_weights(
    path: str | Path, layers: Mapping[str, tuple[str, list[Array], int]], arguments: Any
) -> Path:
    """Writes name -> (class, arrays, number of cells) and `keras_arguments`, atomically."""
    h5py = need("h5py", "keras", ".weights.h5 files")
    path = Path(path)
    if not path.name.endswith(".weights.h5"):
        raise FormatError(f"{path}: Keras reads weights from names ending in .weights.h5 only.")
    if path.exists():
        only_over(path, _ours(h5py, path), ".weights.h5 file")
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs[WRITER], file.attrs[ARGUMENTS] = version(), json.dumps(arguments)
        file.create_group("vars")
        for name, (cls, arrays, cells) in layers.items():
            top = file.create_group(f"layers/{name}")
            top.create_group("vars")
            groups = [top]
            if cls == "Bidirectional":
                groups = [top.create_group(direction) for direction in DIRECTIONS]
            each = len(arrays) // len(groups)
            for i, group in enumerate(groups):
                own = group.require_group("cell/vars" if cells else "vars")
                for k, array in enumerate(arrays[i * each : (i + 1) * each]):
                    own.create_dataset(str(k), data=array)
    return write_whole(path, memory.getvalue())


def _ours(h5py: Any, path: Path) -> bool:
    try:
        with reading(path, FormatError), open_regular(path) as raw, opened(path, raw, h5py) as file:
            return WRITER in file.attrs
    except FormatError:
        return False
