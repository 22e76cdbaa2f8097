"""Dataclasses as trees of plain values, and back: what a field may hold is what its type says.

Dictionaries whose keys are no texts become lists of pairs. What comes back is checked field by
field, as the tree may come from anybody, and its texts are made safe to print.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from ...escapes import printable
from ...untrusted import shortly, whole_number


def pack(value: Any) -> Any:
    """A tree of dicts, lists, arrays, numbers and texts."""
    kind: Any = type(value)
    if names := _fields(kind):
        return {name: pack(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: pack(item) for key, item in value.items()}
        return [[pack(key), pack(item)] for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [pack(item) for item in value]
    return value


def unpack(kind: Any, stored: Any) -> Any:
    """What `pack` was given, of this type. Raises ValueError or TypeError for anything else.

    >>> unpack(dict[str, list[float]], {"a": [1, 2.5]})
    {'a': [1.0, 2.5]}
    """
    if kind in _PLAIN:
        return _PLAIN[kind](stored)
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if stored is None and NoneType in inside:
            return None
        return unpack(next(k for k in inside if k is not NoneType), stored)
    if origin is list:
        return [unpack(inside[0], item) for item in _of(list, stored)]
    if origin is tuple:
        return tuple(unpack(k, x) for k, x in zip(inside, _of(list, stored), strict=True))
    if origin is dict:
        pairs = stored.items() if isinstance(stored, dict) else _of(list, stored)
        return {unpack(inside[0], key): unpack(inside[1], item) for key, item in pairs}
    names = _fields(kind)
    found = _of(dict, stored)
    if unknown := set(found) - set(names):
        raise ValueError(f"{kind.__name__} has no {shortly(min(unknown))}")
    return kind(**{name: unpack(names[name], item) for name, item in found.items()})


@cache
def _fields(kind: Any) -> dict[str, Any]:
    """name -> type of what a dataclass or a named tuple is made of; {} for any other class."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return {field.name: hints[field.name] for field in fields(kind)}
    return get_type_hints(kind) if hasattr(kind, "_fields") else {}


def _of(kind: type, stored: Any) -> Any:
    if not isinstance(stored, kind):
        raise TypeError(f"expected a {kind.__name__}, got {shortly(stored)}")
    return stored


def _truth(stored: Any) -> bool:
    return bool(_of(bool, stored))


def _real(stored: Any) -> float:
    if isinstance(stored, bool) or not isinstance(stored, (int, float)):
        raise TypeError(f"expected a number, got {shortly(stored)}")
    return float(stored)


_PLAIN: dict[Any, Any] = {
    bool: _truth,
    float: _real,
    int: lambda stored: whole_number(stored, -(2**63)),
    str: lambda stored: printable(_of(str, stored)),
    np.ndarray: lambda stored: _of(np.ndarray, stored),
}
