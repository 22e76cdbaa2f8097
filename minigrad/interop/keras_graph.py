"""Which layer of a Keras model reads which: the calls in its configuration, in an order to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .base import ConversionError

MODELS = {"Sequential", "Functional", "Model"}


class Of(NamedTuple):
    """One output of one call of a layer."""

    layer: str
    call: int
    output: int


@dataclass
class Call:
    """A layer, called. No tuple, which Module would look into."""

    layer: str
    number: int
    args: list[Any]  # with an Of for each value
    kwargs: dict[str, Any] = field(default_factory=dict)


def is_operation(whole: dict[str, Any]) -> bool:
    """Whether it is called as f(x, y); the layers of these names are called with one list."""
    nodes = whole.get("inbound_nodes") or []
    first = nodes[0] if nodes else None
    return isinstance(first, dict) and not (first["args"] and isinstance(first["args"][0], list))


def described(member: Any, what: str) -> tuple[str, str, Any]:
    """(name, class, configuration) of a layer or a model."""
    cls, config = member["class_name"], member["config"]
    registered = member.get("registered_name")
    if isinstance(registered, str) and ">" in registered:
        raise ConversionError(
            f"import_keras: {what} is a {registered}, a class of somebody's own, whose code is not "
            f"in the file."
        )
    name = member.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return str(name or cls), str(cls), config


def ofs(found: Any, nested: set[str]) -> Any:
    """[name, call, output] as an Of, in any lists and dictionaries around it."""
    if isinstance(found, list) and len(found) == 3 and isinstance(found[0], str):
        name, call, output = found
        return Of(name, int(call) - (name in nested), int(output))
    if isinstance(found, dict):
        return {key: ofs(value, nested) for key, value in found.items()}
    return [ofs(value, nested) for value in found]


def counted_from_1(described: Any, version: tuple[int, ...]) -> set[str]:
    """The models that are layers: the call that they were made with is their number 0.

    Keras 3 counts so where outputs are named, for Functional ones; Keras 2 everywhere, for all.
    """
    counted = MODELS if version < (3,) else MODELS - {"Sequential"}
    return {name for name, cls, _ in described if cls in counted}


def ordered(members: Any, described: Any, inputs: list[str]) -> list[Call]:
    """The calls of all layers, each after those whose outputs it reads."""
    nested = counted_from_1(described, (2,))
    waiting = []
    for member, (name, cls, _) in zip(members, described, strict=True):
        if cls == "InputLayer":
            continue
        for number, node in enumerate(member.get("inbound_nodes", [])):
            args, kwargs = _arguments(node, nested)
            waiting.append(Call(name, number, args, kwargs))
    known, ordered = {(name, 0) for name in inputs}, []
    while waiting:
        ready = [
            call for call in waiting
            if all((of.layer, of.call) in known for of in leaves([call.args, call.kwargs]))
        ]  # fmt: skip
        if not ready:
            raise ConversionError(
                f"import_keras: layer {waiting[0].layer!r} reads what no layer before it gives."
            )
        ordered += ready
        known |= {(call.layer, call.number) for call in ready}
        waiting = [call for call in waiting if call not in ready]
    return ordered


def _arguments(node: Any, nested: set[str]) -> tuple[list[Any], dict[str, Any]]:
    """Of one call; Keras 2 lists [name, call, output, kwargs], Keras 3 has tensors in args."""
    if isinstance(node, dict):
        return _tensors(node["args"]), _tensors(node["kwargs"])
    if node and isinstance(node[0], str):
        node = [node]
    kwargs = {k: v for entry in node for k, v in (entry[3] if len(entry) > 3 else {}).items()}
    kwargs = {k: _legacy(v, nested) for k, v in kwargs.items()}
    found = [ofs(list(entry[:3]), nested) for entry in node]
    return [found[0] if len(found) == 1 else found], kwargs


def _legacy(value: Any, nested: set[str]) -> Any:
    if isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str):
        return ofs(value[:3], nested)
    return [_legacy(v, nested) for v in value] if isinstance(value, list) else value


def _tensors(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return ofs(list(value["config"]["keras_history"]), set())
        if value.get("class_name") == "__tuple__":
            return _tensors(list(value["config"]["value"]))
        return {key: _tensors(v) for key, v in value.items()}
    return [_tensors(v) for v in value] if isinstance(value, list) else value


def mapped(found: Any, f: Callable[[Any], Any], leaf: type = Of) -> Any:
    """f of every leaf of lists and dictionaries; what is none stays."""
    if isinstance(found, leaf):
        return f(found)
    if isinstance(found, list):
        return [mapped(value, f, leaf) for value in found]
    if isinstance(found, dict):
        return {key: mapped(value, f, leaf) for key, value in found.items()}
    return found


def leaves(found: Any) -> list[Of]:
    """Every Of in lists and dictionaries."""
    all_of_them: list[Of] = []
    mapped(found, all_of_them.append)
    return all_of_them
