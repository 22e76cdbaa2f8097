"""Who may write to a tensor's memory: what backward will read is out of the caller's reach.

NumPy has more ways to write into an array than anybody can list, so no write is watched. Instead

- `t.data` is memory that nothing recorded reads: the tensor moves there when it is handed out
  (`lend`), and while anybody holds it, or any view of it, what is recorded of the tensor is a
  snapshot (`kept`);
- what the caller passes in and keeps, operands, index arrays and lists, is copied when it is
  recorded (`private`);
- what is given out to read is read-only, and cannot be made writable again (`readable`).

What minigrad itself writes in place, `t[...] = v` and the steps of optimisers, is in versions.py.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from .switches import state

if TYPE_CHECKING:
    from .tensors import Tensor

Array = np.ndarray

# id of an array of ours -> the handle to it that somebody holds. A handle is an array around a
# memoryview, so that NumPy's chain of bases ends at it: it lives exactly as long as any view,
# iterator or memoryview of what was handed out, and keeps our array, too.
lent: dict[int, weakref.ref[Array]] = {}

_PLAIN = {int, float, bool, str, type(None)}


def lend(t: Tensor) -> Array:
    """t's array to write to. As long as it is held, the same memory is handed out again."""
    handle = _handle(t)
    if handle is None:
        # of an array that only t holds (one reference by t, one by this call) nothing is recorded
        if sys.getrefcount(t._array) > 2 or t._array.base is not None:
            t._array = t._array.copy("K")
        handle = np.asarray(t._array.data)
        key = id(t._array)
        lent[key] = weakref.ref(handle, lambda _: lent.pop(key, None))
    return handle.view()


def _handle(t: Tensor) -> Array | None:
    known = lent.get(id(t._array))
    return None if known is None else known()


def is_lent(t: Tensor, array: Array) -> bool:
    """Whether `array` is the very array that lend(t) gives, as at the end of `t.data += x`."""
    handle = _handle(t)
    return handle is not None and array.__array_interface__ == handle.__array_interface__


def kept(t: Tensor) -> Array:
    """t's array, to be read later on: a snapshot while somebody else may write to it."""
    if state.jit is not None:
        return state.jit.kept(t)
    return t._array.copy("K") if id(t._array) in lent else t._array


def private_params(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters of an op, to be kept: the caller's arrays and lists in them are copied."""
    if _PLAIN.issuperset(map(type, params.values())) or all(map(_fixed, params.values())):
        return params
    return {name: private(value) for name, value in params.items()}


def _fixed(value: Any) -> bool:
    kind = type(value)
    if kind is slice:
        return _PLAIN.issuperset(map(type, (value.start, value.stop, value.step)))
    if kind is tuple:
        return _PLAIN.issuperset(map(type, value)) or all(map(_fixed, value))
    return kind in _PLAIN


def private(value: Any) -> Any:
    """A parameter of an op with its arrays and lists copied: the caller may go on using his.

    >>> mine = np.array([0, 1])
    >>> ours = private((mine, [2], 3))
    >>> mine[0] = 7
    >>> ours
    (array([0, 1]), [2], 3)
    """
    if _fixed(value):
        return value
    if isinstance(value, np.ndarray):
        return value.copy()
    if type(value) is slice:
        return slice(*map(private, (value.start, value.stop, value.step)))
    if type(value) in (tuple, list, set):
        return type(value)(map(private, value))
    if type(value) is dict:
        return {key: private(v) for key, v in value.items()}
    return value


def readable(array: Array) -> Array:
    """The same memory, read-only: not even setflags makes it writable."""
    return np.asarray(array.data.toreadonly())
