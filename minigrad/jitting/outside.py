"""What a step reads from outside by name: whether it is what it was.

    model, rate = Net(), 0.1                    # globals, or what a function closes over
    def step(x): ... rate * loss(model(x)) ...
    class Trainer: def step(self, x): ... self.scale ...

A recording holds what these names meant: rebind one, and a replay would go on with the old model
or the old number. Python's bytecode tells which globals, variables of the closure and attributes a
function may read, without what belongs to which object; so an attribute is looked for in every
object that the function reaches by these names. That is too much rather than too little; only what
is looked up by a computed name (getattr, exec) is missed.

(inspect.getclosurevars would take an attribute for a global of the same name.)

Functions of minigrad, of Python and of installed packages are not followed. The Modules that are
called are watched as a whole, see modules.py; Parameters and Tensors are read where they are.
"""

from __future__ import annotations

import dis
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import chain, zip_longest
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from ..tensors import Tensor
from .modules import MANY, WITH_INSIDE, alike, inside, row, walk

_FAR = 4  # attributes of attributes
_NOTHING = object()
_OURS = {"minigrad", "numpy"}
_INSTALLED = tuple({sysconfig.get_path(of) for of in ("purelib", "platlib")})


class Name(NamedTuple):
    """get(key, default) is what it means now. was: what it meant; held: with what was inside;
    entries: of a list or dict, where none of them has an inside of its own.
    """

    says: str
    get: Callable[..., Any]
    key: str
    was: Any
    held: Any
    entries: tuple[Any, ...] | None


class Outside:
    """What functions read by name, as it is when this is made.

    given: the objects among their arguments.
    """

    def __init__(self, functions: Sequence[Any], given: Sequence[Any] = ()):
        self.names: list[Name] = []
        self._seen: dict[Any, Any] = {}
        for function in functions:
            self._enter(function, *given)

    def follow(self, modules: Iterable[Any]) -> None:
        """Notes what the forward passes of these Modules read, and the functions they hold."""
        for module in modules:
            self._enter(type(module).forward, module)
            for value in walk(vars(module)):
                if isinstance(value, types.FunctionType):
                    self._enter(value)

    def changed(self) -> str:
        """The first name that means something else now; "" if none does."""
        for says, get, key, was, held, entries in self.names:
            now = get(key, _NOTHING)
            if now is was and entries is not None:  # as nearly always: done without a call
                if type(now) not in WITH_INSIDE:
                    continue
                if len(now) <= MANY:
                    these = row(now)
                    if len(these) == len(entries) and all(map(is_, these, entries)):
                        continue
            if not alike(inside(now), held):
                return says
        return ""

    def other_than(self, earlier: Outside) -> str:
        """The first name that meant something else then; "" if there is none."""
        for now, then in zip_longest(self.names, earlier.names):
            if now is None or then is None or (now.says, now.key) != (then.says, then.key):
                return (now or then).says
            if not alike(now.held, then.held):
                return now.says
        return ""

    def _enter(self, function: Any, *objects: Any) -> None:
        """Notes what a function names, and what those name that it reaches by that. objects: what
        it has among its arguments.
        """
        if isinstance(function, partial):
            return self._enter(function.func, *function.args, *objects)
        if isinstance(function, types.MethodType):
            return self._enter(function.__func__, function.__self__, *objects)
        if not isinstance(function, types.FunctionType):
            if hasattr(function, "__wrapped__"):
                return self._enter(function.__wrapped__, *objects)
            if _is_foreign(type(function)) or not callable(function):
                return None
            return self._enter(type(function).__call__, function, *objects)
        code, cells = function.__code__, function.__closure__ or ()
        alive = (*objects, *cells, function.__globals__)
        if not self._is_new((code, *map(id, alive)), alive):
            return None
        reached = list(objects)
        if _is_foreign(function):  # but what it was given to call is not
            reached += [cell.cell_contents for cell in cells if _is_bound(cell)]
        else:
            names, attributes = _named(code)
            for name, cell in zip(code.co_freevars, cells):
                if _is_bound(cell):
                    reached += self._note(f"{name} of the closure", cell, "cell_contents")
            for name in sorted(names & function.__globals__.keys()):
                reached += self._note(f"the global {name}", function.__globals__, name)
            for name in ("__defaults__", "__kwdefaults__"):
                reached += self._note(f"a default of {function.__name__}", function, name)
            for value in _all_of(reached):
                self._reach(value, attributes, _FAR)
        for value in _all_of(reached):
            if callable(value):
                self._enter(value)
        return None

    def _reach(self, value: Any, attributes: list[str], left: int) -> None:
        """Notes an object's attributes of these names, and theirs."""
        if left == 0 or isinstance(value, (Tensor, np.ndarray)):
            return
        is_module = isinstance(value, types.ModuleType)
        kind = value if isinstance(value, type) else type(value)
        package = _package(value.__name__ if is_module else kind.__module__)
        if package in _OURS or (is_module and _is_library(package)):  # an argparse.Namespace is not
            return
        if not self._is_new((id(value), *attributes), value):
            return
        of = f"the module {value.__name__}" if is_module else f"a {kind.__name__}"
        own = getattr(value, "__dict__", {})
        for name in attributes:
            says = f".{name} of {of}"
            if name in own:
                found = self._note(says, value if kind is value else own, name)
            else:
                found = [] if is_module else self._of_class(value, kind, name, says)
                if found and type(own) is dict:  # as long as the object has none of its own
                    self.names.append(Name(says, own.get, name, _NOTHING, _NOTHING, ()))
            for v in _all_of(found):
                self._reach(v, attributes, left - 1)
                if callable(v):
                    self._enter(v)

    def _of_class(self, value: Any, kind: type, name: str, says: str) -> list[Any]:
        """What an object has of its class; methods and properties are entered."""
        for c in kind.__mro__:
            if name not in vars(c) or _is_foreign(c):
                continue
            found = vars(c)[name]
            if isinstance(found, types.MemberDescriptorType):  # of __slots__
                return self._note(says, value, name)
            method = getattr(found, "fget", None) or getattr(found, "__func__", found)
            if not isinstance(method, types.FunctionType):
                return self._note(says, c, name)
            self._enter(method, value)
            break
        return []

    def _note(self, says: str, holder: Any, key: str) -> list[Any]:
        """What a name of a dict, a class or an object means, as a list of one; or of none."""
        space = vars(holder) if isinstance(holder, type) else holder
        mapped = isinstance(space, (dict, types.MappingProxyType))
        get = space.get if mapped else partial(getattr, holder)
        value = get(key, _NOTHING)
        if value is _NOTHING or (value is None and isinstance(holder, types.FunctionType)):
            return []
        if not isinstance(value, types.ModuleType) and self._is_new((id(holder), key), holder):
            entries = row(value) if type(value) in WITH_INSIDE else ()
            flat = len(entries) <= MANY and not any(type(x) in WITH_INSIDE for x in entries)
            held = inside(value)
            self.names.append(Name(says, get, key, value, held, entries if flat else None))
        return [value]

    def _is_new(self, key: Any, alive: Any) -> bool:
        """Whether it was not met yet. alive: what the ids in the key are of."""
        new = key not in self._seen
        self._seen[key] = alive
        return new


def _named(code: types.CodeType) -> tuple[set[str], list[str]]:
    """(globals, attributes) that code names, and what is defined in it."""
    names, attributes, codes = set[str](), set[str](), [code]
    for one in codes:
        for step in dis.get_instructions(one):
            if step.opcode not in dis.hasname:  # SET_FUNCTION_ATTRIBUTE of Python 3.13
                continue
            if "GLOBAL" in step.opname or step.opname == "LOAD_NAME":
                names.add(step.argval)
            elif "ATTR" in step.opname or "METHOD" in step.opname:
                attributes.add(step.argval)
        codes += [c for c in one.co_consts if isinstance(c, types.CodeType)]
    return names, sorted(attributes)


def _all_of(roots: Sequence[Any]) -> Iterator[Any]:
    """These objects, and of each what it holds."""
    return chain.from_iterable(map(walk, roots))


def _is_bound(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _package(name: Any) -> str:
    return str(name).partition(".")[0]


def _is_foreign(value: Any) -> bool:
    return _is_library(_package(getattr(value, "__module__", "")))


@cache
def _is_library(package: str) -> bool:
    """Whether it is minigrad, NumPy, of Python itself or installed beside them."""
    if package == "__main__":
        return False
    file = getattr(sys.modules.get(package), "__file__", None) or ""
    return package in _OURS or package in sys.stdlib_module_names or file.startswith(_INSTALLED)
