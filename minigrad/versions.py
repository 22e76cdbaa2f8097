"""What minigrad writes in place, and the question whether backward still needs the old values.

`t[...] = v` under no_grad, a step of an optimiser and gradient clipping write into memory that a
node may have kept. Nodes and edits take their numbers from one clock (`tape.tick`): an edit notes
its number under the memory it touched, and before backward reads a saved array it asks whether that
memory was edited later than the node was recorded. Nothing is paid per operation: the question is
asked only if any edit came later at all. Writes of others cannot reach that memory (memory.py).
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .errors import GradientError, describe
from .tape import Node, tick

if TYPE_CHECKING:
    from .tensors import Tensor

Array = np.ndarray

_edits: dict[int, tuple[int, weakref.ref]] = {}  # id of the owner of memory -> (clock, owner)
latest = 0


def owner(array: Array) -> Array:
    """The array whose memory this one is a view of; itself if it is none."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def writable(t: Tensor) -> Array:
    """t's array to write into now, and the note that it was edited."""
    if not t._array.flags.writeable:  # a broadcast array: many elements in one place
        t._array = t._array.copy()
    edited(t._array)
    return t._array


def edited(*arrays: Array) -> None:
    """Notes that the memory of these arrays is being written to."""
    global latest
    latest = now = tick()
    for array in arrays:
        whole = array
        while isinstance(whole.base, np.ndarray):  # owner(array), without a call
            whole = whole.base
        key = id(whole)
        if key in _edits:
            _edits[key] = now, _edits[key][1]
        else:
            _edits[key] = now, weakref.ref(whole, partial(_edits.pop, key))


def edited_at(array: Array) -> int:
    """When `array`'s memory was edited last, on the clock of the tape; 0 for never."""
    return _edits.get(id(owner(array)), (0, None))[0]


def check(node: Node) -> None:
    """Raises GradientError if data saved by `node` was edited after it was recorded.

    To be asked only if `latest > node.position`.
    """
    for array, label in zip(node._saved or (), node.plan.names, strict=True):
        if edited_at(array) > node.position:
            what = "its output" if label == "y" else f"its input {label!r}"
            raise GradientError(
                f"backward: {node.where()} needs {what}, {describe(array)}, as it was when it ran, "
                f"but it was edited in place since. Edit after backward, or compute on a copy "
                f"(t.detach().copy())."
            )
