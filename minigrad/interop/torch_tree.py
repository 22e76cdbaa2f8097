"""What the pickles of `torch.save` hold: tensors on storages, in dictionaries and lists."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..untrusted import DEPTH, shortly, whole_number
from .base import Array
from .pickles import Foreign
from .safetensors import widened

KINDS = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL",
}  # fmt: skip
STORED = {
    "F64": "f8", "F32": "f4", "F16": "f2", "BF16": "u2", "I64": "i8", "I32": "i4", "I16": "i2",
    "I8": "i1", "U8": "u1", "BOOL": "u1",
}  # fmt: skip
MOST_AXES = 64  # NumPy's


@dataclass
class Storage:
    """`count` numbers in a row, under a key in the file; kind: as safetensors calls it."""

    key: str
    kind: str
    count: int

    @property
    def bytes(self) -> int:
        return self.count * np.dtype(STORED[self.kind]).itemsize


@dataclass(eq=False)
class Strided:
    """A tensor that has not been read yet. dtype: what it will have; offset, stride in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> str:
        return "float" if self.storage.kind in ("F64", "F32", "F16", "BF16") else "other"


@dataclass(eq=False)
class Content:
    """A file: its tree, what reads the bytes of a storage, and its size in bytes."""

    tree: Any
    storage: Callable[[Storage], bytes]
    size: int
    byteorder: Literal["<", ">"]


# ------------------------------------------------------------------- what torch's pickles call


def persistent(identifier: Any) -> Any:
    """The Storage that a persistent id names."""
    if not isinstance(identifier, tuple) or len(identifier) > 6:
        raise ValueError("a storage is named otherwise than torch does")
    if identifier[0] != "storage":  # "module" of a whole model, before PyTorch 1.6
        return identifier[1]
    _, kind, key, _device, count, *views = identifier
    if any(view is not None for view in views):
        raise ValueError("it has views of storages, which PyTorch wrote before 0.4")
    module, _, name = kind.name.rpartition(".")
    if name not in KINDS or module.partition(".")[0] != "torch":
        return Foreign(kind.name)
    if not isinstance(key, str):
        raise ValueError(f"a storage is called {shortly(key)}")
    return Storage(key, KINDS[name], whole_number(count))


def _tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, grad: Any = 0, hooks: Any = 0, *_: Any
) -> Any:
    if isinstance(storage, Foreign):
        return storage
    if not isinstance(storage, Storage):
        raise ValueError(f"a tensor stands on a {type(storage).__name__}")
    if len(shape) != len(stride) or len(shape) > MOST_AXES:
        raise ValueError(f"a tensor has {len(shape)} axes and {len(stride)} strides")
    sizes = [tuple(whole_number(n) for n in numbers) for numbers in (shape, stride)]
    return Strided(storage, whole_number(offset), *sizes)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _ordered(*pairs: Any) -> Any:
    return Foreign("collections.OrderedDict, as Python 2 stored it,") if pairs else {}


def _size(numbers: Any) -> Any:
    if not isinstance(numbers, tuple):
        raise ValueError(f"a torch.Size is made of a {type(numbers).__name__}")
    return numbers


CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}


# ----------------------------------------------------------------------------------- the tree


def entry_of(tree: Any, entry: str | None) -> Any:
    """tree["a"]["b"] for "a.b"; a key may have dots of its own. KeyError if it is not there.

    >>> entry_of({"a.b": {"c": [1, 2]}}, "a.b.c.1")
    2
    """
    if not entry:
        return tree
    items = dict(tree if isinstance(tree, Mapping) else enumerate(_listed(tree)))
    for key in sorted(items, key=lambda key: -len(str(key))):
        if entry == str(key) or entry.startswith(f"{key}."):
            return entry_of(items[key], entry[len(str(key)) + 1 :])
    raise KeyError(entry)


def _listed(tree: Any) -> Any:
    return tree if isinstance(tree, (list, tuple)) else ()


def state_dicts(
    tree: Any, depth: int = 3, seen: set[int] | None = None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(entry, mapping) of what looks like weights: texts -> tensors, one of them of floats and not
    a single number. An optimiser's state goes by integers.
    """
    seen = set() if seen is None else seen
    if not isinstance(tree, Mapping) or not depth or id(tree) in seen:
        return
    seen.add(id(tree))
    values = list(tree.values())
    if all(hasattr(value, "shape") for value in values) and any(
        len(value.shape) and "float" in str(value.dtype) for value in values
    ):
        yield "", tree
        return
    for key, value in tree.items():
        if isinstance(key, str):
            for below, found in state_dicts(value, depth - 1, seen):
                yield f"{key}.{below}".removesuffix("."), found


class Maker:
    """Arrays in the place of tensors. What is not made is listed in `foreign`: (place, name)."""

    def __init__(self, content: Content):
        self.content = content
        self.foreign: list[tuple[tuple[Any, ...], str]] = []
        self.storages: dict[str, tuple[Storage, Array]] = {}
        self.containers: dict[int, Any] = {}  # a pickle can name a list a million times
        self.elements = 0

    def made(self, value: Any, place: tuple[Any, ...] = ()) -> Any:
        if isinstance(value, Foreign):
            self.foreign.append((place, value.name))
            return None
        if isinstance(value, Strided):
            return self.array(value)
        if isinstance(value, Storage):
            return self.array(Strided(value, 0, (value.count,), (1,)))
        if not isinstance(value, (dict, list, tuple)):
            return value
        if len(place) >= DEPTH:
            raise ValueError(f"nested more than {DEPTH} deep")
        if id(value) not in self.containers:
            self.containers[id(value)] = None  # what holds itself finds None and is refused
            self.containers[id(value)] = self.container(value, place)
        found = self.containers[id(value)]
        if found is None:
            raise ValueError(f"a {type(value).__name__} in it holds itself")
        return found

    def container(self, value: Any, place: tuple[Any, ...]) -> Any:
        if isinstance(value, dict):
            self.foreign += [(place, key.name) for key in value if isinstance(key, Foreign)]
            return {key: self.made(v, (*place, key)) for key, v in value.items()}
        return type(value)(self.made(v, (*place, i)) for i, v in enumerate(value))

    def array(self, tensor: Strided) -> Array:
        self.elements += math.prod(tensor.shape)
        if self.elements > 16 * self.content.size:  # views, and expanded tensors
            raise ValueError("its tensors have far more elements than are stored")
        numbers = self.numbers(tensor.storage)
        size = numbers.itemsize
        strides = [n * size for n in tensor.stride]
        # NumPy checks that no element lies outside of the buffer.
        return np.ndarray(tensor.shape, numbers.dtype, numbers.data, tensor.offset * size, strides)

    def numbers(self, storage: Storage) -> Array:
        if storage.key not in self.storages:
            stored = np.dtype(STORED[storage.kind]).newbyteorder(self.content.byteorder)
            raw = np.frombuffer(self.content.storage(storage), stored)
            native = raw != 0 if storage.kind == "BOOL" else raw.astype(stored.newbyteorder("="))
            if storage.kind in ("F16", "BF16"):
                native = widened(native, storage.kind)
            self.storages[storage.key] = storage, native
        known, numbers = self.storages[storage.key]
        if known != storage:
            raise ValueError(f"the storage {shortly(storage.key)} is there in two ways")
        return numbers
