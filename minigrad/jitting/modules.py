"""The settings of modules, which decide what runs: whether they are what they were."""

from __future__ import annotations

from typing import Any

_PLAIN = (bool, int, float, str, type(None))


def settings(module: Any) -> dict[str, Any]:
    """The attributes of a module, and what its lists and dicts hold, to be compared by `alike`."""
    found = {name: contents(v) for name, v in vars(module).items()}
    return found | {"training": module.training}


def contents(value: Any) -> Any:
    """Of a list, tuple or dict what it holds; anything else as it is."""
    if type(value) in (list, tuple):
        return tuple(map(contents, value))
    return tuple(map(contents, value.items())) if type(value) is dict else value


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
