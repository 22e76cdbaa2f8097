"""The .weights.h5 file of Keras 3: a tree of groups whose names are those of the layers.

    layers/lstm/cell/vars/0, 1, 2                       kernel, recurrent kernel, bias
    layers/bidirectional/forward_layer/cell/vars/...    and backward_layer
    layers/dense/vars/0, 1

Keras names a layer there by its class and how many of it came before: lstm, lstm_1, ... A layer of
a nested model is called `functional/lstm` here.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .base import Array, FormatError, need, only_over, read_whole, version, write_whole

INSIDE = ("layers", "cell", "forward_layer", "backward_layer", "vars")  # no names of layers
WRITER = "minigrad"  # the attribute of the root that holds minigrad's version
DIRECTIONS = ("forward_layer", "backward_layer")


def read_keras_weights(path: str | Path) -> dict[str, list[Array]]:
    """name of a layer -> its arrays, in the order of its get_weights().

    The optimiser's variables and the seeds of dropouts are left out.
    Raises FormatError for what is no such file.
    """
    h5py = need("h5py", "keras", ".weights.h5 files")
    data = read_whole(path)
    found: dict[str, dict[tuple[int, int], Array]] = {}
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            for place, array in _datasets(file, h5py):
                *above, last = place
                if "optimizer" in above[:1] or "seed_generator" in above:
                    continue
                if above[-1:] != ["vars"] or not last.isdigit():
                    raise FormatError(
                        f"{path}: {'/'.join(place)!r} is no variable as Keras 3 stores it; "
                        f"expected a file of keras_model.save_weights('name.weights.h5')."
                    )
                name = "/".join(part for part in above if part not in INSIDE)
                backward = int("backward_layer" in above)
                found.setdefault(name, {})[backward, int(last)] = array
    except (OSError, RuntimeError, KeyError) as error:
        zipped = data[:2] == b"PK"
        what = "a .keras archive; unzip it and read its model.weights.h5" if zipped else error
        raise FormatError(f"{path}: this is no whole .weights.h5 file ({what}).") from None
    if not found:
        raise FormatError(f"{path}: this HDF5 file holds no weights of Keras 3.")
    return {name: [arrays[k] for k in sorted(arrays)] for name, arrays in found.items()}


def _datasets(group: Any, h5py: Any, place: tuple[str, ...] = ()) -> Any:
    """(path as a tuple, array) of every dataset. Links out of the file are not followed."""
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise FormatError(f"{'/'.join((*place, name))} is a link, which Keras writes none of.")
        item = group[name]
        if isinstance(item, h5py.Dataset):
            if item.dtype.kind in "fiub":
                yield (*place, name), np.asarray(item)
        else:
            yield from _datasets(item, h5py, (*place, name))


def write_keras_weights(
    path: str | Path, layers: Mapping[str, tuple[str, list[Array], int]]
) -> Path:
    """Writes name -> (class, arrays, number of cells), atomically."""
    h5py = need("h5py", "keras", ".weights.h5 files")
    path = Path(path)
    if not path.name.endswith(".weights.h5"):
        raise FormatError(f"{path}: Keras reads weights from names ending in .weights.h5 only.")
    if path.exists():
        only_over(path, _ours(h5py, path), ".weights.h5 file")
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs[WRITER] = version()
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
        with h5py.File(path, "r") as file:
            return WRITER in file.attrs
    except OSError:
        return False
