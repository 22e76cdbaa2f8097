"""Which traces are remembered: those of cells that somebody who knows has promised to be pure.

A cell is traced whenever it is called; what a trace compiles to is found again by its content
(`scan.compile_traced`). Nothing is guessed about a function: whether it would do the same once more
is known only to who wrote it, and he says so with `mg.pure`, as `nn` does for its cells. Then the
trace is skipped, too, on inputs of types that were seen before. Of a Module that is pure the
attributes are compared at every call; of any pure cell, the Tensors that it reads are inputs of the
program, so that their values may change.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

from ..op import Op
from ..tape import Node, no_grad, state
from ..tensors import Tensor, apply

_MOST = 16  # traces of one cell
_LARGEST = 4096  # bytes of an array attribute that is compared by value
_PLAIN = (type(None), bool, int, str, bytes)

C = TypeVar("C", bound=Callable[..., Any])

_CLASSES: weakref.WeakKeyDictionary[type, Any] = weakref.WeakKeyDictionary()
_CELLS: weakref.WeakKeyDictionary[Any, None] = weakref.WeakKeyDictionary()
_KNOWN: weakref.WeakKeyDictionary[Any, dict[Any, Remembered | None]] = weakref.WeakKeyDictionary()


def pure(cell: C) -> C:
    """cell -> the same cell, with a promise: a step does the same ops on the same Tensors whenever
    its inputs have the same types. Then `scan` need not trace it again at every call.

    What may change nevertheless: the values of Tensors that the cell reads, as long as no Python
    number is made of them (`.item()`, a branch), and the attributes of a Module: these are compared
    at every call, lists, dicts and small arrays by what they hold. What may not: globals, closures
    and class attributes, nor anything random. A promise that does not hold gives wrong results.

    cell: a function, a Module, or a class of them; of a class exactly this one, not what derives
        from it, and not once a method has been replaced. Modules that it holds have to be pure,
        too. The cells of `mg.nn` are. `scan(...).explain()` tells whether a trace was used again.
    Returns cell itself, so that it serves as a decorator.
    Raises TypeError for a bound method, and for what is neither.

    >>> @pure
    ... def cell(h, x):
    ...     h = (h + x).tanh()
    ...     return h, h
    """
    if isinstance(cell, type):
        _CLASSES[cell] = _definition(cell)
        return cell
    if isinstance(cell, types.MethodType) or not callable(cell):
        raise TypeError(
            f"pure: expected a function, a Module or a class, got a {type(cell).__name__}; of a "
            f"method mark the object that has it, and give scan that."
        )
    try:
        _CELLS[cell] = None
    except TypeError:
        raise TypeError(
            f"pure: a {type(cell).__name__} cannot be a key of a dictionary or be referred to "
            f"weakly; mark a function instead."
        ) from None
    return cell


def _definition(cls: type) -> tuple[Any, ...]:
    """What a class and those that it derives from define: other once something is replaced."""
    return tuple([tuple(vars(c).values()) for c in cls.__mro__[:-1]])


def is_pure(cell: Any) -> bool:
    """Whether somebody promised it for this cell, or for its class as it was then."""
    kind = type(cell)
    if kind in _CLASSES and _CLASSES[kind] == _definition(kind):
        return True
    try:
        return cell in _CELLS
    except TypeError:
        return False


def code_of(cell: Any) -> Any:
    """What a cell runs, apart from what it closes over: its code, or its class."""
    return getattr(cell, "__code__", None) or type(cell)


class _Unwatched(Exception):
    """An attribute that may change without being seen."""


def _content(value: Any, seen: list[Any], depth: int = 6) -> Any:
    """An attribute as something to compare. seen: keeps alive what is compared by identity."""
    kind = type(value)
    if kind in _PLAIN or isinstance(value, (type, np.dtype, Op)):
        return kind, value
    if kind in (float, complex) or isinstance(value, np.generic):
        return kind, repr(value)
    if isinstance(value, Tensor):
        seen.append(value)
        return id(value), value._data.shape, value._data.dtype.char
    if depth < 0:
        raise _Unwatched("is nested too deeply")
    if isinstance(value, (tuple, list, set, frozenset)):
        return kind, tuple([_content(v, seen, depth - 1) for v in value])
    if isinstance(value, dict):
        return kind, tuple([(k, _content(v, seen, depth - 1)) for k, v in value.items()])
    if isinstance(value, np.ndarray):
        if value.nbytes > _LARGEST or value.dtype.hasobject:
            raise _Unwatched(f"is an array of {value.nbytes} bytes, which may be edited")
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, np.random.Generator) or (callable(value) and _of_ours(value)):
        seen.append(value)
        return id(value)
    if is_dataclass(value):
        names = [f.name for f in fields(value)]
        return kind, tuple([_content(getattr(value, n), seen, depth - 1) for n in names])
    if not is_pure(value):
        raise _Unwatched(f"is a {kind.__name__}, and not known to be pure")
    seen.append(value)
    attributes = getattr(value, "__dict__", {})
    return id(value), _attributes(attributes, seen, depth - 1)


def _of_ours(f: Any) -> bool:
    """A function of minigrad's own: it depends on its arguments alone."""
    module = f.__module__ if isinstance(f, types.FunctionType) else ""
    return module.partition(".")[0] == "minigrad" and not f.__closure__


def _attributes(mapping: dict[str, Any], seen: list[Any], depth: int = 6) -> tuple[Any, ...]:
    found = []
    for name, value in mapping.items():
        try:
            found.append((name, _content(value, seen, depth)))
        except _Unwatched as why:
            raise _Unwatched(f"its {name} {why}") from None
    return tuple(found)


class Recorder:
    """Stands where a Tape would, while a cell is traced: notes the eager ops, to run them again."""

    def __init__(self) -> None:
        self.nodes: list[tuple[Node, bool]] = []  # and whether it ran inside of a no_grad
        self.recording = state.recording

    def record(self, node: Node, y: Any) -> None:
        self.nodes.append((node, self.recording and not state.recording))

    @contextmanager
    def listening(self) -> Iterator[None]:
        before = state.switch(tape=self)
        try:
            yield
        finally:
            state.switch(**before)


class Remembered:
    """A trace that can be had again: the compiled step, and how to come by its inputs.

    slots: for each input of the program ("given", k) for the k-th leaf of (init, xs), ("made", k)
    for the result of the k-th eager op, ("kept", Tensor) for what the cell holds.
    """

    def __init__(
        self, compiled: Any, nodes: Sequence[tuple[Node, bool]], tensors: Sequence[Tensor],
        given: Sequence[Tensor], outputs: tuple[Any, Any], taps: Any, seen: list[Any],
    ):  # fmt: skip
        self.compiled, self.outputs, self.taps, self.seen = compiled, outputs, taps, seen
        places: dict[int, tuple[str, Any]] = {id(t): ("given", k) for k, t in enumerate(given)}
        places |= {id(node): ("made", k) for k, (node, _) in enumerate(nodes)}

        def slot(t: Any) -> tuple[str, Any]:
            made = places.get(id(t._node)) if isinstance(t, Tensor) else None
            return made or places.get(id(t), ("kept", t))

        self.ops = [
            (node.op, [slot(i) for i in node.inputs], node.params, quiet) for node, quiet in nodes
        ]
        self.slots = [slot(t) for t in tensors]
        every = [*(s for _, slots, _, _ in self.ops for s in slots), *self.slots]
        self.kept = [what for kind, what in every if kind == "kept"]
        self.types = [(t.shape, t.dtype) for t in self.kept if isinstance(t, Tensor)]

    def holds(self) -> bool:
        """Whether the Tensors that the cell holds have the types that they had."""
        return self.types == [(t.shape, t.dtype) for t in self.kept if isinstance(t, Tensor)]

    def again(self, given: Sequence[Tensor]) -> list[Tensor]:
        """The inputs of the program for this call: the eager ops run again."""
        made: list[Any] = []

        def value(slot: tuple[str, Any]) -> Any:
            kind, what = slot
            return given[what] if kind == "given" else made[what] if kind == "made" else what

        for op, slots, params, quiet in self.ops:
            if quiet:
                with no_grad():
                    made.append(apply(op, [value(s) for s in slots], params))
            else:
                made.append(apply(op, [value(s) for s in slots], params))
        return [value(s) for s in self.slots]


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
    for op, _, params, _ in second.ops:
        if op.kind == "scan":
            return "it runs another scan"
        if any(isinstance(p, np.ndarray) for p in _parts(params)):
            return "it indexes by an array"
    return ""


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        for v in value:
            yield from _parts(v)
    else:
        yield value


def has_integers(given: Sequence[Tensor]) -> bool:
    """Whether the values of an input may have been read while it was traced: as indices."""
    return any(t._data.dtype.kind in "iu" for t in given)


class Memory:
    """What is remembered for one call: `found`, or None and, in `why`, the reason.

    wanted: whether it is worth remembering what is traced now (`keep`).
    """

    def __init__(
        self, cell: Any, wrapped: bool, init: Any, xs: Any, given: Sequence[Tensor], asked: Any
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
        self, cell: Any, wrapped: bool, init: Any, xs: Any, given: Sequence[Tensor], asked: Any
    ) -> None:
        try:
            held = _attributes(getattr(cell, "__dict__", {}), self.seen)
        except _Unwatched as why:
            self.why = str(why)
            return
        numbers: dict[int, int] = {}
        same = tuple([numbers.setdefault(id(t), k) for k, t in enumerate(given)])
        shapes = tuple([(t._data.shape, t._data.dtype.char) for t in given])
        self.key = (
            wrapped, held, shapes, same, _form(init), _form(xs), asked, state.recording,
        )  # fmt: skip
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


def _form(tree: Any) -> Any:
    """The types of a tree, down to its leaves."""
    if isinstance(tree, dict):
        return type(tree), tuple([(k, _form(v)) for k, v in sorted(tree.items())])
    if isinstance(tree, (tuple, list)):
        return type(tree), tuple([_form(v) for v in tree])
    return tree is None
