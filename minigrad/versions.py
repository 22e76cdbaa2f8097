"""In-place edits of data that a recorded operation still needs are caught, never silently wrong.

Nodes and edits take their numbers from one clock (`tape.tick`). An edit notes its number under the
memory it touched; before backward reads a saved array it asks whether that memory was edited later
than the node was recorded. Nothing is paid per operation: the question is asked only if any edit
came later at all.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from .errors import GradientError, describe
from .tape import Node, tick

Array = np.ndarray

_edits: dict[int, tuple[int, weakref.ref]] = {}  # id of the owner of memory -> (clock, owner)
latest = 0


def _owner(array: Array) -> Array:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def edited(array: Array) -> None:
    """Notes that `array`'s memory has just been written to."""
    global latest
    owner = _owner(array)
    key = id(owner)
    latest = tick()

    def forget(_: Any) -> None:
        _edits.pop(key, None)

    _edits[key] = (latest, weakref.ref(owner, forget))


def check(node: Node) -> None:
    """Raises GradientError if data saved by `node` was edited after it was recorded.

    To be asked only if `latest > node.position`.
    """
    for array, label in zip(node.saved or (), node.plan.names, strict=True):
        when, _ = _edits.get(id(_owner(array)), (0, None))
        if when > node.position:
            what = "its output" if label == "y" else f"its input {label!r}"
            raise GradientError(
                f"backward: {node.where()} needs {what}, {describe(array)}, as it was when it ran, "
                f"but it was edited in place since. Edit after backward, or compute on a copy "
                f"(t.detach().copy())."
            )


class EditedArray(np.ndarray):
    """What `t.data` returns: the array itself, noting writes. Results of it are plain arrays."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        edited(self)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.get("out", ())
        plain = [i.view(np.ndarray) if isinstance(i, EditedArray) else i for i in inputs]
        if out:
            kwargs["out"] = tuple(
                o.view(np.ndarray) if isinstance(o, EditedArray) else o for o in out
            )
        result = getattr(ufunc, method)(*plain, **kwargs)
        for o in out:
            if isinstance(o, EditedArray):
                edited(o)
        if method == "at" and isinstance(inputs[0], EditedArray):
            edited(inputs[0])
        return out[0] if len(out) == 1 else result

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        result = super().__array_function__(func, types, args, kwargs)
        if func in _WRITERS and args and isinstance(args[0], EditedArray):
            edited(args[0])
        return result

    def fill(self, value: Any) -> None:
        super().fill(value)
        edited(self)

    def sort(self, *args: Any, **kwargs: Any) -> None:
        super().sort(*args, **kwargs)
        edited(self)

    def __repr__(self) -> str:
        return repr(self.view(np.ndarray))


_WRITERS = {np.copyto, np.put, np.place, np.putmask, np.fill_diagonal, np.put_along_axis}
