"""Traces remembered: the same cell on inputs of the same types is not traced again.

What a trace depends on is more than the cell: the attributes and functions that its code reaches.
A `Guard` lists them when the cell is traced, and a trace is used again only while every one is what
it was. Where the list cannot be complete (an array that may be edited, an object of unknown kind, a
draw of random numbers) there is no guard, and the cell is traced at every call.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..op import Op
from ..tape import Node, state
from ..tensor import Tensor, apply
from ..tree import structure

_MOST = 16  # traces of one cell
_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.dtype, np.generic)
_MODULES = {"minigrad", "numpy", "math", "builtins", "operator", "functools", "itertools", "typing"}
_DRAWS = {
    "random", "normal", "uniform", "integers", "permutation", "choice", "shuffle", "rand", "randn",
    "standard_normal", "default_rng", "generator", "time", "open", "globals", "eval", "exec",
}  # fmt: skip
# Names that mean a draw only where there is something to draw from: gamma may be a parameter.
_OF_GENERATORS = {n for n in dir(np.random.Generator) if not n.startswith("_")}
_OUTSIDE = {"__init__", "init_state", "draw", "describe"}  # methods that run outside of the step
_DEPTH = 6


class _Unsure(Exception):
    """Something that the guard cannot vouch for."""


class Guard:
    """What a trace of `cell` depends on. `holds()` asks whether it is all as it was."""

    def __init__(self, cell: Callable[..., Any]):
        self.same: list[tuple[Any, Any, Any]] = []  # (mapping, key, the object found there)
        self.equal: list[tuple[Any, Any, Any]] = []  # (mapping, key, the value found there)
        self.sizes: list[tuple[Any, int]] = []  # (mapping, how many)
        self.lists: list[tuple[Any, tuple[Any, ...]]] = []  # (list, what is in it)
        self.cells: list[tuple[Any, Any]] = []  # (closure cell, the object in it)
        self.functions: list[tuple[Any, Any, Any, Any]] = []  # (function, code, its defaults)
        self.seen: set[int] = set()
        self.names: set[str] = set()  # that functions of the user's mention
        self.generator = False  # whether they reach one
        self._callable(cell, _DEPTH)
        if self.generator and self.names & _OF_GENERATORS:
            raise _Unsure("it draws random numbers")

    def holds(self) -> bool:
        for mapping, key, found in self.same:
            if mapping.get(key) is not found:
                return False
        for mapping, key, value in self.equal:
            now = mapping.get(key, _MISSING)
            if type(now) is not type(value) or now != value:
                return False
        for mapping, size in self.sizes:
            if len(mapping) != size:
                return False
        for values, found in self.lists:
            if len(values) != len(found) or any(a is not b for a, b in zip(values, found)):
                return False
        for known, code, defaults, named in self.functions:
            f = known()
            if f is None or f.__code__ is not code or f.__defaults__ is not defaults:
                return False
            if f.__kwdefaults__ is not named:
                return False
        return all(cell.cell_contents is found for cell, found in self.cells)

    # -- building

    def _callable(self, f: Any, depth: int) -> None:
        if id(f) in self.seen:
            return
        self.seen.add(id(f))
        if depth < 0:
            raise _Unsure("nested too deeply")
        if isinstance(f, types.MethodType):
            self._object(f.__self__, depth - 1)
            self._function(f.__func__, depth - 1)
        elif isinstance(f, types.FunctionType):
            self._function(f, depth)
        elif isinstance(f, functools.partial):
            for part in (f.func, f.args, f.keywords):
                self._inside(part, depth - 1)
        elif isinstance(f, types.BuiltinFunctionType):
            owner = f.__self__  # a module or a type; or what a method is bound to
            known = not isinstance(owner, types.ModuleType) or _is_known(owner.__name__)
            if not known or not isinstance(owner, (types.ModuleType, type, type(None))):
                raise _Unsure(f"{f.__name__} of a {type(owner).__name__}")
        elif hasattr(f, "__dict__") and not isinstance(
            f, (np.random.Generator, np.random.RandomState)
        ):
            self._object(f, depth)
        else:
            raise _Unsure(f"a {type(f).__name__}")

    def _function(self, f: Any, depth: int) -> None:
        """The globals and closure of a function; of our own functions only what they name."""
        ours = _is_ours(f.__module__)
        if not ours:
            known = weakref.ref(f), f.__code__, f.__defaults__, f.__kwdefaults__
            self.functions.append(known)  # a guard must not keep its cell alive
        for code in _codes(f.__code__):
            if not ours and _DRAWS & {*code.co_names}:
                raise _Unsure("it draws random numbers or reads from outside")
            if not ours:
                self.names.update(code.co_names)
            for name in code.co_names:
                if name not in f.__globals__:
                    continue
                value = f.__globals__[name]
                if not ours:
                    self._found(f.__globals__, name, value, depth - 1)
                elif callable(value):
                    self.same.append((f.__globals__, name, value))
        for values in (f.__defaults__ or (), f.__kwdefaults__ or {}):
            self._inside(values, depth - 1)
        for cell in f.__closure__ or ():
            self.cells.append((cell, cell.cell_contents))
            self._inside(cell.cell_contents, depth - 1)

    def _found(self, mapping: Any, key: Any, value: Any, depth: int) -> None:
        """A value under a key: it must stay there, and so must all that it depends on."""
        if isinstance(value, _PLAIN):
            self.equal.append((mapping, key, value))
        else:
            self.same.append((mapping, key, value))
            self._inside(value, depth)

    def _inside(self, value: Any, depth: int) -> None:
        if isinstance(value, np.random.Generator):  # for masks, which are drawn outside of the step
            self.generator = True
        elif isinstance(value, (*_PLAIN, Tensor, Op)):
            return
        elif isinstance(value, type):
            if not _is_ours(value.__module__):
                self._class(value, depth)
        elif isinstance(value, types.ModuleType):
            if not _is_known(value.__name__):
                raise _Unsure(f"module {value.__name__}")
        elif isinstance(value, (tuple, list)):
            self.lists.append((value, tuple(value)))
            for v in value:
                self._inside(v, depth - 1)
        elif isinstance(value, dict):
            self.sizes.append((value, len(value)))
            for key, v in value.items():
                self._found(value, key, v, depth - 1)
        elif callable(value):
            self._callable(value, depth)
        else:
            raise _Unsure(f"a {type(value).__name__}")

    def _object(self, thing: Any, depth: int) -> None:
        """An object with attributes and methods: a Module."""
        attributes = getattr(thing, "__dict__", None)
        if attributes is None:
            raise _Unsure(f"a {type(thing).__name__}")
        self.sizes.append((attributes, len(attributes)))
        for name, value in attributes.items():
            self._found(attributes, name, value, depth - 1)
        self._class(type(thing), depth)

    def _class(self, cls: type, depth: int) -> None:
        """The methods and attributes of a class, and of those that it derives from."""
        if id(cls) in self.seen or (issubclass(cls, tuple) and hasattr(cls, "_fields")):
            return
        self.seen.add(id(cls))
        for base in cls.__mro__[:-1]:
            ours = _is_ours(base.__module__)
            if not ours and _is_known(base.__module__):
                continue  # of Python or NumPy
            members = vars(base)
            self.sizes.append((members, len(members)))
            for name, member in members.items():
                if isinstance(member, types.FunctionType):
                    self.same.append((members, name, member))
                    if name == "forward" or not (ours or name in _OUTSIDE):
                        self._function(member, depth - 1)
                elif name.startswith("__"):
                    continue
                elif ours:
                    if isinstance(member, _PLAIN):
                        self.equal.append((members, name, member))
                elif isinstance(member, (property, staticmethod, classmethod)):
                    self.same.append((members, name, member))
                    inner = (getattr(member, "fget", None), getattr(member, "__func__", None))
                    for f in inner:
                        if f is not None:
                            self._callable(f, depth - 1)
                elif not isinstance(member, types.MemberDescriptorType):
                    self._found(members, name, member, depth - 1)


def _is_ours(module: str | None) -> bool:
    return (module or "").partition(".")[0] == "minigrad"


def _is_known(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _MODULES


_MISSING = object()


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A function's code and that of the functions written in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def guard(cell: Any) -> Guard | None:
    """The guard of a cell, or None where it cannot be complete."""
    try:
        return Guard(cell)
    except (_Unsure, ValueError):  # an empty closure cell
        return None


class Recorder:
    """Stands where a Tape would, while a cell is traced: notes the eager ops, to run them again."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def record(self, node: Node, y: Any) -> None:
        self.nodes.append(node)


class Remembered:
    """A trace that can be had again: the compiled step, and how to come by its inputs.

    slots: for each input of the program ("given", k) for the k-th leaf of (init, xs), ("made", k)
    for the result of the k-th eager op, ("kept", Tensor) for what the cell holds.
    """

    def __init__(
        self, compiled: Any, nodes: Sequence[Node], tensors: Sequence[Tensor],
        given: Sequence[Tensor], guard: Guard, outputs: tuple[Any, Any], taps: Any,
    ):  # fmt: skip
        self.compiled, self.guard, self.outputs, self.taps = compiled, guard, outputs, taps
        places: dict[int, tuple[str, Any]] = {}
        for k, t in enumerate(given):
            places[id(t)] = ("given", k)
            if t._node is not None:
                places[id(t._node)] = ("given", k)
        for k, node in enumerate(nodes):
            places[id(node)] = ("made", k)

        def slot(t: Any) -> tuple[str, Any]:
            if id(t) in places:
                return places[id(t)]
            if isinstance(t, Tensor) and t._node is not None and id(t._node) in places:
                return places[id(t._node)]
            return ("kept", t)

        self.ops = [(node.op, [slot(i) for i in node.inputs], node.params) for node in nodes]
        self.slots = [slot(t) for t in tensors]
        kept = [t for kind, t in self._all_slots() if kind == "kept"]
        # A computed Tensor belongs to one graph, which its next call may have freed.
        self.usable = all(not isinstance(t, Node) for t in kept) and all(
            t._node is None or not t.requires_grad for t in kept if isinstance(t, Tensor)
        )

    def _all_slots(self) -> Iterator[tuple[str, Any]]:
        for _, slots, _ in self.ops:
            yield from slots
        yield from self.slots

    def tensors(self, given: Sequence[Tensor]) -> list[Tensor]:
        """The inputs of the program for this call: the eager ops run again."""
        made: list[Any] = []

        def value(slot: tuple[str, Any]) -> Any:
            kind, what = slot
            return given[what] if kind == "given" else made[what] if kind == "made" else what

        for op, slots, params in self.ops:
            made.append(apply(op, [value(s) for s in slots], params))
        return [value(s) for s in self.slots]


# cell -> {types of its inputs: a trace}; the first call of a cell only leaves an empty dict, so
# that a function written anew for every call costs nothing here.
_KNOWN: weakref.WeakKeyDictionary[Any, dict[Any, Remembered]] = weakref.WeakKeyDictionary()


def _who(cell: Any) -> tuple[Any, bool]:
    """(the cell itself, whether it is wrapped for padding)."""
    inner = getattr(cell, "cell", None) if isinstance(cell, types.FunctionType) else None
    return (cell, False) if inner is None else (inner, True)


def _key(cell: Any, init: Any, xs: Any, given: Sequence[Tensor], wanted: Any) -> Any:
    shapes = tuple([(t.shape, t.dtype.char) for t in given])
    return (_who(cell)[1], shapes, structure(init), structure(xs), wanted)


def recall(cell: Any, init: Any, xs: Any, given: Sequence[Tensor], wanted: Any) -> Any:
    """(compiled, tensors, outputs, taps) of a remembered trace that still holds; else None."""
    if state.mode == 2:  # a Tape or detect_anomaly wants to see all
        return None
    try:
        known = _KNOWN.get(_who(cell)[0])
    except TypeError:  # no weak reference to it
        return None
    found = known.get(_key(cell, init, xs, given, wanted)) if known else None
    if found is None or not found.guard.holds():
        return None
    return found.compiled, found.tensors(given), found.outputs, found.taps


class recorder:
    """`with recorder(cell) as r:` around a trace; `r.remember(...)` keeps it, if that is safe."""

    def __init__(self, cell: Any):
        self.cell = cell
        self.guard: Guard | None = None
        self.tape: Recorder | None = None

    def __enter__(self) -> recorder:
        who, _ = _who(self.cell)
        try:
            seen = who in _KNOWN
            _KNOWN.setdefault(who, {})
        except TypeError:
            return self
        if seen and state.mode != 2:
            self.guard = guard(who)
        if self.guard is not None:
            self.tape = Recorder()
            self.before = state.switch(tape=self.tape)
        return self

    def __exit__(self, *error: object) -> None:
        if self.tape is not None:
            state.switch(**self.before)

    def remember(
        self, init: Any, xs: Any, given: Sequence[Tensor], wanted: Any, compiled: Any,
        tensors: Sequence[Tensor], outputs: tuple[Any, Any], taps: Any,
    ) -> None:  # fmt: skip
        if self.guard is None or self.tape is None:
            return
        found = Remembered(compiled, self.tape.nodes, tensors, given, self.guard, outputs, taps)
        if found.usable:
            known = _KNOWN[_who(self.cell)[0]]
            if len(known) >= _MOST:
                known.clear()
            known[_key(self.cell, init, xs, given, wanted)] = found
