"""What the taps of one step are called, where several have one name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..listener import Listener


def label(below: str, name: str, taken: Counter[tuple[str, str]]) -> tuple[str, str]:
    """(scope below the step's, name) of a tap; the second of a kind in a step is `h#2`."""
    taken[below, name] += 1
    again = taken[below, name]
    return below, name if again == 1 else f"{name}#{again}"


def labels(taps: Sequence[tuple[str, str]]) -> list[str]:
    """(scope, name) -> what to call each: its name, and its scope too where others share the name.

    >>> labels([("a", "h"), ("a", "f"), ("b", "h"), ("", "c")])
    ['a/h', 'f', 'b/h', 'c']
    """
    shared = Counter(name for _, name in taps)
    return [f"{scope}/{name}" if scope and shared[name] > 1 else name for scope, name in taps]


def bare(label: str) -> str:
    """The name that the cell gave: `h` of `upper/h#2`."""
    return label.rpartition("/")[2].partition("#")[0]


def carried(k: int) -> str:
    """What stands, among the norms of taps, for the gradient of leaf k of the state that enters."""
    return f"entering state {k}"


class StepTaps(Listener):
    """The taps of one step, in a scope, as they are heard; one value under one name counts once."""

    def __init__(self, scope: str):
        self._around = f"{scope}/" if scope else ""
        self._taken: Counter[tuple[str, str]] = Counter()
        self._seen: set[tuple[str, int]] = set()
        self._values: list[tuple[tuple[str, str], Any]] = []

    def tap(self, name: str, value: Any, scope: str) -> None:
        if (name, id(value)) in self._seen:
            return
        self._seen.add((name, id(value)))
        below = scope[len(self._around) :] if scope.startswith(self._around) else ""
        self._values.append((label(below, name, self._taken), value))

    def named(self) -> dict[str, Any]:
        """label -> value."""
        found = labels([place for place, _ in self._values])
        return dict(zip(found, [value for _, value in self._values], strict=True))
