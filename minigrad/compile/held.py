"""What the attributes of a pure cell hold, as something to compare at every call."""

from __future__ import annotations

import types
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from ..op import Op
from ..tensors import Tensor
from .promise import is_pure

_LARGEST = 4096  # bytes of an array attribute that is compared by value
_PLAIN = (type(None), bool, int, str, bytes)


class Unwatched(Exception):
    """An attribute that may change without being seen."""


def content(value: Any, seen: list[Any], depth: int = 6) -> Any:
    """An attribute as something to compare. seen: keeps alive what is compared by identity."""
    kind = type(value)
    if kind in _PLAIN or isinstance(value, (type, np.dtype, Op)):
        return kind, value
    if kind in (float, complex) or isinstance(value, np.generic):
        return kind, repr(value)
    if isinstance(value, Tensor):
        seen.append(value)
        return id(value), value._array.shape, value._array.dtype.char
    if depth < 0:
        raise Unwatched("is nested too deeply")
    if isinstance(value, (tuple, list, set, frozenset)):
        return kind, tuple([content(v, seen, depth - 1) for v in value])
    if isinstance(value, dict):
        return kind, tuple([(k, content(v, seen, depth - 1)) for k, v in value.items()])
    if isinstance(value, np.ndarray):
        if value.nbytes > _LARGEST or value.dtype.hasobject:
            raise Unwatched(f"is an array of {value.nbytes} bytes, which may be edited")
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, np.random.Generator) or (callable(value) and _of_ours(value)):
        seen.append(value)
        return id(value)
    if is_dataclass(value):
        names = [f.name for f in fields(value)]
        return kind, tuple([content(getattr(value, n), seen, depth - 1) for n in names])
    if not is_pure(value):
        raise Unwatched(f"is a {kind.__name__}, and not known to be pure")
    seen.append(value)
    return id(value), attributes(getattr(value, "__dict__", {}), seen, depth - 1)


def _of_ours(f: Any) -> bool:
    """A function of minigrad's own: it depends on its arguments alone."""
    module = f.__module__ if isinstance(f, types.FunctionType) else ""
    return module.partition(".")[0] == "minigrad" and not f.__closure__


def attributes(mapping: dict[str, Any], seen: list[Any], depth: int = 6) -> tuple[Any, ...]:
    """name -> what it holds, of all attributes. Raises Unwatched for one that may change unseen."""
    found = []
    for name, value in mapping.items():
        try:
            found.append((name, content(value, seen, depth)))
        except Unwatched as why:
            raise Unwatched(f"its {name} {why}") from None
    return tuple(found)
