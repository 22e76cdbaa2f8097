"""Where in a model something ran, and for which time: the names in a recording.

    encoder/l0/fwd       the layer `encoder`, its layer 0, forward
    encoder#2/l0/fwd     the second call of `encoder`
    lstm-2/l0/fwd        the second layer that is called `lstm` there
    blocks.0/rnn/l0/fwd  `rnn` in the first of the list `blocks`

A layer that is called once, and alone in its name, is called as its scope says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..tape import Node
from ..tape import state as switches
from ..tensors import Tensor

STEP = "t="


@dataclass
class _Entry:
    """A scope: how often it was entered since the one around it was, and what is in it."""

    count: int = 0
    below: dict[str, _Entry] = field(default_factory=dict)


class Places:
    """Follows the calls of modules, to tell layers of one name and calls of one layer apart."""

    def __init__(self) -> None:
        self._root = _Entry()
        self._met: dict[tuple[str, str], list[Any]] = {}  # (scope around, name) -> modules
        self._running: list[tuple[str, Any]] = []  # (scope around, module without a name, or None)
        self._anonymous: dict[
            str, list[Any]
        ] = {}  # the name of a class -> its modules, if nameless

    @contextmanager
    def entered(self, module: Any, name: str) -> Iterator[str]:
        """A module is called: yields what its scope is to be called."""
        around = switches.scope
        if name:
            k = _index(self._met.setdefault((around, name), []), module)
            name = f"{name}-{k + 1}" if k else name
            entry = self._entry(join(around, name))
            entry.count += 1
            entry.below.clear()
        self._running.append((around, None if name else module))
        try:
            yield name
        finally:
            self._running.pop()

    def numbered(self, scope: str) -> str:
        """The scope, with the number of the call where it is not the first: `encoder#2/l0`."""
        entry: _Entry | None = self._root
        parts = []
        for part in scope.split("/") if scope else ():
            entry = entry.below.get(part) if entry is not None else None
            again = entry is not None and entry.count > 1
            parts.append(f"{part}#{entry.count}" if again and entry else part)
        return "/".join(parts)

    def nameless(self, scope: str) -> Any:
        """The module without a name of its own that runs in just this scope, or None.

        What was entered further inside, in a scope `t=...`, is part of a step.
        """
        for around, module in reversed(self._running):
            if len(around) <= len(scope):
                return module if around == scope else None
        return None

    def name_of(self, module: Any) -> str:
        """What a nameless module is called where it must be told from others: `lstmcell-2`."""
        name = type(module).__name__.lower()
        k = _index(self._anonymous.setdefault(name, []), module)
        return f"{name}-{k + 1}" if k else name

    def _entry(self, scope: str) -> _Entry:
        entry = self._root
        for part in scope.split("/"):
            entry = entry.below.setdefault(part, _Entry())
        return entry


def join(*parts: str) -> str:
    """A path of the parts that are not empty."""
    return "/".join(filter(None, parts))


def both_directions(path: str) -> str:
    """What the two directions of a layer have in common; of any other path all of it.

    >>> both_directions("lstm/l0/rev"), both_directions("decoder")
    ('lstm/l0', 'decoder')
    """
    head, _, way = path.rpartition("/")
    return head if way in ("fwd", "rev") else path


def at_step(scope: str) -> tuple[str, int | None, str]:
    """(scope of the loop, t, scope within the step); t is None outside of a scope `t=...`.

    >>> at_step("rnn/t=3/cell"), at_step("t=7"), at_step("cell")
    (('rnn', 3, 'cell'), ('', 7, ''), ('cell', None, ''))
    """
    parts = scope.split("/")
    for i in range(len(parts) - 1, -1, -1):
        t = parts[i][len(STEP) :]
        if parts[i].startswith(STEP) and t.isdecimal():
            return "/".join(parts[:i]), int(t), "/".join(parts[i + 1 :])
    return scope, None, ""


def descends(tensor: Tensor, marks: Mapping[Any, int | None]) -> bool | None:
    """Whether a value was computed from one made at a marked position; None if none can tell."""
    known = {p for p in marks.values() if p is not None}
    node = tensor._node
    if not known and node is None:
        return None
    if not known or node is None:
        return False
    oldest, todo, seen = min(known), [node], set()
    while todo:
        found = todo.pop()
        if found.position in known:
            return True
        if found.position < oldest or found.position in seen:
            continue
        seen.add(found.position)
        todo.extend(i for i in found.inputs if isinstance(i, Node))
    return False


def _index(items: list[Any], item: Any) -> int:
    """Where it stands in the list, by identity; put there if it is new."""
    for i, known in enumerate(items):
        if known is item:
            return i
    items.append(item)
    return len(items) - 1
