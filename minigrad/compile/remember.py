"""Which traces are remembered: those of cells that somebody who knows has promised to be pure.

What a trace compiles to is found again by its content (`fusing.py`). Of a pure cell the
trace is skipped, too, on inputs of types that were seen before. Of a Module that is pure the
attributes are compared at every call; of any pure cell, the Tensors that it reads are inputs of the
program, so that their values may change.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..tape import Node, state
from ..tensors import Tensor
from ..tree import leaves
from .held import Unwatched, attributes
from .outside import MADE, NUMBER, RAW, Eager, Outside, Slot
from .promise import is_pure

_MOST = 16  # traces of one cell

_KNOWN: weakref.WeakKeyDictionary[Any, dict[Any, Remembered | None]] = weakref.WeakKeyDictionary()


class Recorder:
    """Stands where a Tape would, while a cell is traced: notes the eager ops, to run them again."""

    def __init__(self) -> None:
        self.nodes: list[tuple[Node, bool]] = []  # and whether it ran inside of a no_grad
        self.recording = state.recording

    def record(self, node: Node, y: Any) -> None:
        self.nodes.append((node, self.recording and not state.recording))


class Remembered:
    """A trace that can be had again: the compiled step, and how to come by its inputs: outside,
    from the leaves of (init, xs) and the Tensors that the cell holds.
    """

    def __init__(
        self, compiled: Any, nodes: Sequence[tuple[Node, bool]], tensors: Sequence[Tensor],
        given: Sequence[Tensor], outputs: tuple[Any, Any], taps: Any, seen: list[Any],
    ):  # fmt: skip
        self.compiled, self.outputs, self.taps, self.seen = compiled, outputs, taps, seen
        places: dict[int, Slot] = {id(t): (RAW, k) for k, t in enumerate(given)}
        places |= {id(node): (MADE, k) for k, (node, _) in enumerate(nodes)}
        self.held: list[Tensor] = []  # by the cell, and read
        self.kept: list[Any] = []  # these each time, and Python numbers

        def slot(t: Any) -> Slot:
            made = places.get(id(t._node)) if isinstance(t, Tensor) else None
            known = made or places.get(id(t))
            if known is None and isinstance(t, Tensor):
                known = places[id(t)] = RAW, len(given) + len(self.held)
                self.held.append(t)
            if known is None or (known[0] is RAW and known[1] >= len(given)):
                self.kept.append(t)
            return known or (NUMBER, t)

        ops = [
            Eager(node.op, [slot(i) for i in node.inputs], node.params, quiet)
            for node, quiet in nodes
        ]
        slots = [slot(t) for t in tensors]
        self.outside = Outside(ops, slots, len(given) + len(self.held))
        self.types = [(t.shape, t.dtype) for t in self.held]

    def holds(self) -> bool:
        """Whether the Tensors that the cell holds have the types that they had."""
        for t, (shape, dtype) in zip(self.held, self.types, strict=True):
            if t._array.shape != shape or t._array.dtype != dtype:
                return False
        return True

    def again(self, given: Sequence[Tensor]) -> list[Tensor]:
        """The inputs of the program for this call: the eager ops run again."""
        return self.outside.again([*given, *self.held])


def why_not(first: Remembered, second: Remembered, reads: str) -> str:
    """Why a trace cannot be had again, from two traces one after the other; "" if it can."""
    if reads:
        return reads
    if len(first.kept) != len(second.kept):
        return "its eager ops change from call to call"
    for a, b in zip(first.kept, second.kept, strict=True):
        if isinstance(a, (int, float)):
            if repr(a) != repr(b):
                return "its eager ops change from call to call"
        elif a is not b:  # made by the cell: of what, nobody knows (w.detach(), NumPy on w, ...)
            return "it makes Tensors of its own in the step; keep them outside of it"
        elif isinstance(a, Node) or (a._node is not None and a.requires_grad):
            return "it reads a Tensor that was computed, which belongs to one graph"
    for ran in second.outside.eager:
        if ran.op.kind == "scan":
            return "it runs another scan"
        if any(isinstance(p, np.ndarray) for p in leaves(ran.params)):
            return "it indexes by an array"
    return ""


def has_integers(given: Sequence[Tensor]) -> bool:
    """Whether the values of an input may have been read while it was traced: as indices."""
    return any(t._array.dtype.kind in "iu" for t in given)


class Memory:
    """What is remembered for one call: `found`, or None and, in `why`, the reason.

    wanted: whether it is worth remembering what is traced now (`keep`).
    """

    def __init__(
        self, cell: Any, wrapped: Any, init: Any, xs: Any, given: Sequence[Tensor], asked: Any
    ):
        self.found: Remembered | None = None
        self.seen: list[Any] = []
        self.wanted = False
        self.why = ""
        if not is_pure(cell):
            self.why = "a cell of one's own is traced at every call, unless mg.pure(cell) says more"
        elif state.mode == 2:
            self.why = "a Tape or detect_anomaly sees all that runs"
        elif has_integers(given):
            self.why = "integers among its inputs choose what it reads"
        else:
            self._look(cell, wrapped, init, xs, given, asked)

    def _look(
        self, cell: Any, wrapped: Any, init: Any, xs: Any, given: Sequence[Tensor], asked: Any
    ) -> None:
        try:
            held = attributes(getattr(cell, "__dict__", {}), self.seen)
        except Unwatched as why:
            self.why = str(why)
            return
        numbers: dict[int, int] = {}
        same = tuple([numbers.setdefault(id(t), k) for k, t in enumerate(given)])
        shapes = tuple([(t._array.shape, t._array.dtype.char) for t in given])
        form = form_of((init, xs), [])
        self.key = (wrapped, held, shapes, same, form, asked, state.recording)
        try:
            self.known = _KNOWN.setdefault(cell, {})
            seen_before = self.key in self.known
        except TypeError:  # not hashable: an attribute, or a cell that defines ==
            self.why = "it cannot be looked up"
            return
        found = self.known.get(self.key)
        if found is not None and found.holds():
            self.found = found
            return
        self.wanted = seen_before  # not at the first call: it may be the only one
        self.why = "it has not been called twice on inputs of these types and with these attributes"
        if not seen_before:
            if len(self.known) >= _MOST:
                self.known.clear()
            self.known[self.key] = None

    def learn(
        self, compiled: Any, runs: Sequence[tuple[Any, Sequence[Tensor], Sequence[Tensor]]],
        outputs: tuple[Any, Any], taps: Any,
    ) -> None:  # fmt: skip
        """Remembers what was traced twice, if it can be had again.

        runs: for each of the two the trace, the inputs of its program, and what scan was given, the
        second time as Tensors that nothing else knows.
        """
        first, second = (
            Remembered(compiled, traced.eager, tensors, given, outputs, taps, self.seen)
            for traced, tensors, given in runs
        )
        why = why_not(first, second, runs[1][0].trace.reads)
        self.why = why or "from now on its trace is remembered"
        if not why:
            self.known[self.key] = second


def form_of(tree: Any, found: list[Tensor]) -> Any:
    """The types of a tree, hashable; its Tensors are added to `found`, in the order of `leaves`."""
    if isinstance(tree, Tensor):
        found.append(tree)
        return None
    if isinstance(tree, (tuple, list)):
        return type(tree), tuple([form_of(v, found) for v in tree])
    if isinstance(tree, dict):
        return type(tree), tuple([(k, form_of(v, found)) for k, v in sorted(tree.items())])
    return type(tree)
