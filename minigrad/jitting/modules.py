"""The settings of modules, which decide what runs: whether they are what they were."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

_PLAIN = (bool, int, float, str, type(None))
WITH_INSIDE = (list, tuple, dict)
MANY = 1000  # entries to compare at every call; of longer lists and dicts, how many they are


def settings(module: Any) -> dict[str, Any]:
    """The attributes of a module, and what its lists and dicts hold, to be compared by `alike`."""
    found = {name: inside(v, None) for name, v in vars(module).items()}
    return found | {"training": module.training}


def inside(value: Any, most: int | None = MANY) -> Any:
    """Of a list, tuple or dict all that it holds, in a row; anything else as it is."""
    return tuple(walk(value, most)) if type(value) in WITH_INSIDE else value


def walk(value: Any, most: int | None = MANY) -> Iterator[Any]:
    """A list, tuple or dict, what it holds, and what that holds: of each how many, and the rest as
    it is, each once. most: of longer ones how many is all, and four times as much in all.
    """
    return islice(_walk([value], most), most and 4 * most)


def _walk(todo: list[Any], most: int | None) -> Iterator[Any]:
    met = set[int]()
    while todo:
        value = todo.pop()
        if type(value) not in WITH_INSIDE:
            yield value
            continue
        yield len(value)
        if id(value) not in met and (most is None or len(value) <= most):
            met.add(id(value))  # it may hold itself
            todo += reversed(row(value))


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
