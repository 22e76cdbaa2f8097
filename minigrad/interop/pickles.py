"""A pickle, read without running it.

A pickle is a program for a stack machine: it may import any function and call it. The machine here
has the same instructions and imports nothing. A name stands for one of our own functions if `known`
has it; whatever else would be called becomes a `Foreign`, which keeps the name and does nothing.
https://docs.python.org/3/library/pickletools.html describes the instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

# Each instruction makes one object at most, and is done in the time that its own bytes take.
MOST = 16_000_000  # instructions
MOST_ARGUMENTS = 10  # of a call: a tuple of a million could be unpacked a million times
KEYS = (str, int, float, bytes, type(None))  # hashed without recursion
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_IGNORED = {"PROTO", "FRAME", "STOP"}
_PUT = {"PUT", "BINPUT", "LONG_BINPUT"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_EXTENSIONS = {"EXT1", "EXT2", "EXT4"}
_LITERAL = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip


class Foreign:
    """What a pickle would import or make, and is not made: its name, `module.name`."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name


def read_pickle(
    stream: BinaryIO,
    known: Mapping[str, Callable[..., Any]],
    persistent: Callable[[Any], Any],
) -> Any:
    """The tree in the pickle at the stream's position, which afterwards is behind it.

    known: `module.name` -> what is called in its place. persistent: what a persistent id stands
    for. Raises ValueError, IndexError, KeyError or TypeError for what is no pickle.

    >>> import io, pickle
    >>> def read(value):
    ...     return read_pickle(io.BytesIO(pickle.dumps(value)), {}, Foreign)
    >>> read({"a": [1, (2.5, None)]})
    {'a': [1, (2.5, None)]}
    >>> read(print).name
    'builtins.print'
    """
    import pickletools  # a millisecond that `import minigrad` does without

    machine = _Machine(known, persistent)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count >= MOST:
            raise ValueError(f"its pickle has more than {MOST:,} instructions")
        machine.step(opcode.name, argument)
    return machine.stack.pop()


class _Machine:
    def __init__(self, known: Mapping[str, Callable[..., Any]], persistent: Callable[[Any], Any]):
        self.known, self.persistent = known, persistent
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _LITERAL:
            stack.append(argument)
        elif name in _PUT:
            self.memo[int(argument)] = stack[-1]
        elif name in _GET:
            stack.append(self.memo[int(argument)])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            self._replace(_TUPLES[name], tuple)
        elif name in _EXTENSIONS:
            stack.append(Foreign(f"copyreg's extension {argument}"))
        elif name not in _IGNORED:
            method = getattr(self, f"_{name.lower()}", None)
            if method is None:
                raise ValueError(f"its pickle has the instruction {name}")
            method(argument)

    def _replace(self, count: int, make: Callable[[list[Any]], Any]) -> None:
        if count > len(self.stack):
            raise ValueError("its pickle takes more than it has put")
        self.stack[-count:] = [make(self.stack[-count:])]

    def _items(self) -> list[Any]:
        """What stands above the last mark, which is taken away with it."""
        items, self.stack = self.stack, self.marked.pop()
        return items

    # -- the stack ---------------------------------------------------------------------------------

    def _mark(self, _: Any) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def _pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._items()

    def _pop_mark(self, _: Any) -> None:
        self._items()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    # -- containers --------------------------------------------------------------------------------

    def _empty_list(self, _: Any) -> None:
        self.stack.append([])

    def _empty_tuple(self, _: Any) -> None:
        self.stack.append(())

    def _empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def _empty_set(self, _: Any) -> None:
        self.stack.append(Foreign("builtins.set"))

    def _list(self, _: Any) -> None:
        items = self._items()
        self.stack.append(items)

    def _tuple(self, _: Any) -> None:
        items = self._items()
        self.stack.append(tuple(items))

    def _dict(self, _: Any) -> None:
        items = self._items()
        self.stack.append({})
        self._put_pairs(items)

    def _frozenset(self, _: Any) -> None:
        self._items()
        self.stack.append(Foreign("builtins.frozenset"))

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        self._extend([item])

    def _appends(self, _: Any) -> None:
        self._extend(self._items())

    def _additems(self, _: Any) -> None:
        self._extend(self._items())

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Foreign):
            raise ValueError(f"its pickle appends to a {type(target).__name__}")

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put_pairs([key, value])

    def _setitems(self, _: Any) -> None:
        self._put_pairs(self._items())

    def _put_pairs(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Foreign):
            return
        if not isinstance(target, dict):
            raise ValueError(f"its pickle puts a key into a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, KEYS):
                target[key] = value
            else:  # refused with the dictionary that it stands in, if that is asked for
                what = key.name if isinstance(key, Foreign) else type(key).__name__
                target[Foreign(f"a key that is a {what}")] = value

    # -- names and calls ---------------------------------------------------------------------------

    def _global(self, argument: str) -> None:
        self.stack.append(Foreign(argument.replace(" ", ".")))

    def _stack_global(self, _: Any) -> None:
        self._replace(2, lambda pair: Foreign(f"{_text(pair[0])}.{_text(pair[1])}"))

    def _reduce(self, _: Any) -> None:
        self._replace(2, lambda pair: self._called(*pair))

    def _newobj(self, _: Any) -> None:
        self._replace(2, lambda pair: self._called(*pair))

    def _newobj_ex(self, _: Any) -> None:
        self._replace(3, lambda three: Foreign(_name(three[0])))

    def _inst(self, argument: str) -> None:
        self._items()
        self._global(argument)

    def _obj(self, _: Any) -> None:
        items = self._items()
        self.stack.append(Foreign(_name(items[0])))

    def _called(self, function: Any, arguments: Any) -> Any:
        name = _name(function)
        if name not in self.known:
            return Foreign(name)
        if not isinstance(arguments, tuple) or len(arguments) > MOST_ARGUMENTS:
            raise ValueError(f"its pickle calls {name} with other arguments than it has")
        return self.known[name](*arguments)

    def _build(self, _: Any) -> None:
        """Attributes: of a Foreign, or of an OrderedDict (torch's `_metadata`). None is set."""
        self.stack.pop()
        if not isinstance(self.stack[-1], (Foreign, dict)):
            raise ValueError(f"its pickle sets attributes of a {type(self.stack[-1]).__name__}")

    def _binpersid(self, _: Any) -> None:
        self._replace(1, lambda one: self.persistent(one[0]))


def _name(function: Any) -> str:
    if not isinstance(function, Foreign):
        raise ValueError(f"its pickle calls a {type(function).__name__}")
    return function.name


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"its pickle names a {type(value).__name__}")
    return value
