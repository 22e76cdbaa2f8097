"""A pure cell that has run before, run again: what was decided then, as long as it holds.

`remember.py` knows which traces may be had again, and compares all that they depend on. That takes
longer than a short sequence runs. So what was found is noted here beside the very objects that it
was found for: the cell's class and what that defines, its attributes, the types of the Tensors that
it holds. As long as these are the same objects nothing has changed; else `remember` is asked.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from itertools import chain
from operator import is_
from typing import Any

import numpy as np

from ..listener import Listener
from ..op import Op
from ..tape import state, tick
from ..tensors import Tensor
from ..tree import rebuild
from .call import Run, wanted_by
from .eager import leaves_behind
from .held import Unwatched
from .held import content as content_of
from .outside import Outside
from .packing import Packing, packs
from .promise import is_pure
from .remember import Remembered, form_of
from .result import Call, ScanResult
from .unrolling import check_mask

_MOST = 16  # calls of one cell
_FIXED = (type(None), bool, int, float, complex, str, bytes, type, np.dtype, np.generic, Op)
_NOTED: weakref.WeakKeyDictionary[Any, dict[Any, Noted]] = weakref.WeakKeyDictionary()


class Watch:
    """Whether a cell is the one that it was: told by identity, but for what can be edited."""

    def __init__(self, cell: Any):
        self.kind = type(cell)
        self.mro = self.kind.__mro__
        self.defined = [vars(c).values() for c in self.mro[:-1]]  # these see what is added
        self.definition = list(chain.from_iterable(self.defined))
        held = getattr(cell, "__dict__", {})
        self.names, self.values = list(held), list(held.values())
        self.tensors = [
            (t, t._array.shape, t._array.dtype) for t in self.values if isinstance(t, Tensor)
        ]
        self.seen: list[Any] = []
        self.edited = [
            (value, content_of(value, self.seen))
            for value in self.values if not isinstance(value, (Tensor, *_FIXED))
        ]  # fmt: skip

    def holds(self, cell: Any) -> bool:
        held = getattr(cell, "__dict__", {})
        if (
            type(cell) is not self.kind
            or self.kind.__mro__ is not self.mro
            or len(held) != len(self.values)
            or not all(map(is_, held.values(), self.values))
            or not all(map(is_, held, self.names))
            or sum(map(len, self.defined)) != len(self.definition)
            or not all(map(is_, chain.from_iterable(self.defined), self.definition))
        ):
            return False
        for t, shape, dtype in self.tensors:
            if t._array.shape != shape or t._array.dtype != dtype:
                return False
        try:
            return all(content_of(value, []) == content for value, content in self.edited)
        except Unwatched:  # a part that is trusted no more
            return False


class Noted:
    """A call that may be had again."""

    def __init__(self, cell: Any, known: Remembered):
        self.watch, self.known = Watch(cell), known
        given, read = known.compiled.inputs, known.compiled.program.inputs
        places = {v: known.outside.slots[k] for k, v in enumerate(given)}
        self.outside: Outside | None = None  # unless more is computed on whole sequences
        shown = [v for v in known.taps.values() if v.role == "x" and v in known.compiled.spread]
        if all(v in places for v in read) and not shown:
            outside = known.outside
            self.outside = Outside(outside.eager, [places[v] for v in read], outside.incoming)

    def run(
        self, given: Sequence[Tensor], reverse: bool, real: Any = None,
        listeners: Sequence[Listener] = (),
    ) -> Run:  # fmt: skip
        """real: (T, B), the steps that take part, if these are not all."""
        time, rows = given[-1]._array.shape[:2]
        compiled, taps = self.known.compiled, self.known.taps if listeners else None
        states = wanted_by(listeners, compiled, taps or ())
        packing = None if real is None else Packing(real, reverse)
        if self.outside is None:
            tensors = compiled.tensors(self.known.again(given), rows, real)
            return Run(compiled, tensors, time, rows, reverse, taps, states, packing=packing)
        raw = [*given, *self.known.held]
        return Run(compiled, raw, time, rows, reverse, taps, states, self.outside, packing)

    def weights(self, run: Run, given: list[Tensor], began: int) -> list[Tensor]:
        """The leaves that a run reads besides what it was given."""
        if run.outside is None:
            return leaves_behind(run.tensors, given, began)
        return [run.tensors[k] for k in run.outside.read(run.needs, len(given))]


def _key(init: Any, xs: Any, heard: bool) -> tuple[Any, list[Tensor]] | None:
    """What calls have in common that may share a trace, and the leaves of (init, xs).

    Of leaves that are no Tensors the types are part of it, and nothing is known for these.
    """
    given: list[Tensor] = []
    form = form_of(init, given), form_of(xs, given)
    if len(set(map(id, given))) != len(given):  # one of them twice
        return None
    types = tuple([(t._array.shape, t._array.dtype.char) for t in given])
    return (form, types, state.recording, heard), given


def noted(cell: Any, init: Any, xs: Any, heard: bool = False) -> tuple[Noted, list[Tensor]] | None:
    """What is known of scan(cell, init, xs), and the leaves of (init, xs).

    heard: whether somebody listens.
    """
    try:
        of_cell = _NOTED.get(cell)
    except TypeError:  # no key of a dictionary, or not to be referred to weakly
        return None
    if of_cell is None:
        return None
    asked = _key(init, xs, heard)
    if asked is None:
        return None
    key, given = asked
    found = of_cell.get(key)
    if found is None or not found.watch.holds(cell) or not found.known.holds():
        of_cell.pop(key, None)
        return None
    for t in given:
        if t._trace is not None:
            return None
    return found, given


def recalled(
    cell: Any, init: Any, xs: Any, reverse: bool, lengths: Any, mask: Any
) -> ScanResult | None:
    """scan(cell, init, xs, lengths, reverse, mask=mask), if its trace is known.

    Who listens wants all steps: there are no lengths and no mask then.
    """
    listeners, began = state.listeners, 0
    if listeners and not state.recording:  # whose weights no node leads to
        return None
    known = noted(cell, init, xs, bool(listeners))
    if known is None:
        return None
    found, given = known
    real = check_mask("scan", lengths, mask, *given[-1]._array.shape[:2])
    if listeners:
        began = tick()
    if real is not None and not packs(real, reverse):
        real = None
    run = found.run(given, reverse, real, listeners)
    made = result(found, run, *run.run())
    if listeners:
        run.tell(listeners, state.scope)
    if any(listener.whole_scans for listener in listeners):
        weights = found.weights(run, given, began)
        call = Call(cell, init, xs, reverse, made.final, made.ys, weights, began)
        for listener in listeners:
            listener.ran(state.scope, call)
    return made


def result(found: Noted, run: Run, finals: list[Tensor], ys: list[Tensor]) -> ScanResult:
    """What a run gives, as the cell would."""
    final, y = found.known.outputs
    return ScanResult(
        finals[0] if final == 0 else rebuild(final, finals),
        ys[0] if y == 0 else rebuild(y, ys),
        None,
        run.explanation(REUSED),
    )


REUSED = "reused: the cell is pure, and nothing that it holds has changed"


def note(cell: Any, init: Any, xs: Any, known: Remembered, heard: bool) -> None:
    """Notes a trace that was found for a call. heard: whether somebody listened."""
    asked = _key(init, xs, heard)
    if asked is None or not is_pure(cell):
        return
    of_cell = _NOTED.setdefault(cell, {})
    if len(of_cell) >= _MOST:
        of_cell.clear()
    of_cell[asked[0]] = Noted(cell, known)
