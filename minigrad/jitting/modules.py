"""The settings of modules, which decide what runs: whether they are what they were."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

_PLAIN = (bool, int, float, str, type(None))
WITH_INSIDE = (list, tuple, dict)
MANY = 1000  # entries that are compared; of longer lists and dicts, how many they are


def settings(module: Any) -> dict[str, Any]:
    """The attributes of a module, and what its lists and dicts hold, to be compared by `alike`."""
    found = {name: inside(v) for name, v in vars(module).items()}
    return found | {"training": module.training}


def inside(value: Any) -> Any:
    """Of a list, tuple or dict all that it holds, in a row; anything else as it is."""
    return tuple(walk(value)) if type(value) in WITH_INSIDE else value


def walk(value: Any) -> Iterator[Any]:
    """A list, tuple or dict, what it holds, and what that holds: of each how many, and the rest as
    it is. They may be nested without end.
    """
    return islice(_walk([value]), 4 * MANY)


def _walk(todo: list[Any]) -> Iterator[Any]:
    while todo:
        value = todo.pop()
        if type(value) in WITH_INSIDE:
            yield len(value)
            todo += reversed(row(value)) if len(value) <= MANY else ()
        else:
            yield value


def row(value: Any) -> tuple[Any, ...]:
    """The entries of a list or tuple, the keys and values of a dict."""
    return (*value, *value.values()) if type(value) is dict else tuple(value)


def alike(a: Any, b: Any) -> bool:
    """Whether settings are the same: plain values by what they are, objects by which they are."""
    if type(a) is tuple and type(b) is tuple:
        return len(a) == len(b) and all(map(alike, a, b))
    return a is b or (type(a) is type(b) and type(a) in _PLAIN and repr(a) == repr(b))


def changed(before: dict[str, Any], after: dict[str, Any]) -> str:
    """The name of an attribute that is another; "" if none is."""
    for name in {**before, **after}:
        if name not in before or name not in after or not alike(before[name], after[name]):
            return name
    return ""
