"""The promise that a cell is pure: who gave it, and for what.

A cell is traced whenever it is called. Nothing is guessed about a function: whether it would do the
same once more is known only to who wrote it, and he says so with `mg.pure`, as `nn` does for its
cells. What is remembered of a pure cell is in remember.py.
"""

from __future__ import annotations

import types
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

C = TypeVar("C", bound=Callable[..., Any])

_CLASSES: weakref.WeakKeyDictionary[type, Any] = weakref.WeakKeyDictionary()
_CELLS: weakref.WeakKeyDictionary[Any, None] = weakref.WeakKeyDictionary()


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


# What Python itself writes into a class some time after it was defined: `copy` and `pickle` the
# first, whoever asks for the annotations the rest. No step reads them.
_WRITTEN_LATER = {"__slotnames__", "__annotations__", "__annotations_cache__", "__annotate__"}


def _definition(cls: type) -> tuple[Any, ...]:
    """What a class and those that it derives from define: other once something is replaced."""
    return tuple(
        [v for c in cls.__mro__[:-1] for name, v in vars(c).items() if name not in _WRITTEN_LATER]
    )


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
