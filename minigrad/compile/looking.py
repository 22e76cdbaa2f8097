"""What a step taps, before it runs: by a trace of it, or by running it once."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

from ..listener import Listener
from ..tape import state as switches
from ..tree import leaves, map_leaves, structure
from .intervened import InStep, Place
from .promise import is_pure
from .recall import Watch
from .traced import Traced
from .tracer import Tracer


class Seen(NamedTuple):
    """A tap of a step. used: whether the step goes on with what the tap returned."""

    place: Place
    shape: tuple[int, ...]
    dtype: Any
    used: bool


class _Looking(InStep):
    """The hand that notes what is tapped."""

    def __init__(self) -> None:
        super().__init__()
        self._found: list[tuple[Place, Any, Any]] = []  # and what it gave

    def meets(self, place: Place, name: str, tensor: Any) -> Any:
        marked = tensor
        if type(tensor) is Tracer and tensor.dtype.kind == "f":
            marked = tensor * 1.0
        self._found.append((place, tensor, marked))
        return marked

    def seen(self, program: Any = None) -> list[Seen]:
        read = None if program is None else set(map(id, program.body))
        return [
            Seen(
                place, tuple(v.shape), v.dtype,
                read is None or marked is v or id(marked._value) in read,
            )
            for place, v, marked in self._found
        ]  # fmt: skip


_SEEN: weakref.WeakKeyDictionary[Any, dict[Any, tuple[Watch, list[Seen]]]] = (
    weakref.WeakKeyDictionary()
)


def look(cell: Any, init: Any, xs: Any) -> list[Seen]:
    """What a step of the cell taps, by a trace of it; of a cell that has none, by running it once.

    Of a pure cell it is remembered, as long as the cell is what it was.
    """
    if not is_pure(cell):
        return _look(cell, init, xs)
    key = structure(init), structure(xs), *((t.shape[-1:], t.dtype) for t in leaves((init, xs)))
    key = *key, leaves(xs)[0].shape[1]
    known = _SEEN.setdefault(cell, {})
    if key not in known or not known[key][0].holds(cell):
        seen = _look(cell, init, xs)
        known[key] = Watch(cell), seen
    return known[key][1]


def _look(cell: Any, init: Any, xs: Any) -> list[Seen]:
    looking = _Looking()
    with switches.switched(
        tape=None, anomaly=False, recording=False, listeners=(Listener(),), intervening=looking
    ):
        try:
            first = map_leaves(lambda x: x[:1], xs)
            return looking.seen(Traced(cell, init, first, leaves(xs)[0].shape[1]).program)
        except Exception:  # whatever a cell does with a Tracer: it is run as it is
            switches.intervening = looking = _Looking()
            cell(init, map_leaves(lambda x: x[0], xs))
            return looking.seen()
