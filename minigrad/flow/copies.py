"""Weights as they were: an optimiser edits them in place while a recording still needs them."""

from __future__ import annotations

import numpy as np

from ..tape import Node
from ..tensors import Tensor

Array = np.ndarray


class Copies:
    """One copy of each weight for all runs of a recording that read the same values."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Tensor, Array]] = {}

    def of(self, w: Tensor) -> Array:
        """The weight as it is now; the copy made before, if no bit has changed since."""
        known = self._known.get(id(w))
        bits = f"u{w.dtype.itemsize}"
        if (
            known is None
            or known[1].shape != w.shape
            or known[1].dtype != w.dtype
            or not np.array_equal(known[1].view(bits), np.ascontiguousarray(w._array).view(bits))
        ):
            known = self._known[id(w)] = (w, np.array(w._array, order="C"))
        return known[1]

    def of_saved(self, node: Node) -> tuple[Array, ...] | None:
        """What a node saved, with copies in place of the leaves' own arrays."""
        leaves = [t for t in node.inputs if isinstance(t, Tensor) and t.requires_grad]
        if node._saved is None or not leaves:
            return node._saved
        own = {id(t._array): t for t in leaves}
        return tuple(self.of(own[id(a)]) if id(a) in own else a for a in node._saved)
