"""How far one step moves a state, F(S) = cell(S, x) - S, under an input x that stays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import FlowError, ShapeError, describe
from ..tensors import as_tensor
from ..tree import leaves, map_leaves, rebuild
from .steps import CHUNK_BYTES, Trajectory

Array = np.ndarray


class Speed:
    """F and J - I of a cell at any states, flat (R, n), for an input that stays."""

    def __init__(self, cell: Any, starts: Any, x: Any):
        rows = (np.shape(leaves(starts)[0]) or (0,))[0] if leaves(starts) else 0
        if not rows:
            raise FlowError("fixed_points: starts hold no state; pass a tree of Tensors (R, ...).")

        def of_all(part: Any) -> Array:
            part = as_tensor(part)._array
            if part.shape[:1] != (1,):
                raise ShapeError(
                    f"fixed_points: x is {describe(part)}; expected one step of one row, (1, ...)."
                )
            return np.repeat(part, rows, axis=0)[None]

        xs = map_leaves(of_all, x)
        self.path = Trajectory("fixed_points", cell, starts, xs, None if leaves(xs) else 1)
        self.inputs = map_leaves(lambda x: x[0], self.path.inputs)
        before = [s[0] for s in self.path.states]
        self.shapes = [s.shape[1:] for s in before]
        self.dtypes = [s.dtype for s in before]
        self.itemsize = min(d.itemsize for d in self.dtypes)
        self.first = _flat(before)

    def groups(self) -> list[Array]:
        """The rows, in as many parts as their Jacobians need."""
        rows, n = self.first.shape
        parts = -(-4 * 8 * rows * n * n // CHUNK_BYTES) if self.path.repeatable else 1
        return np.array_split(np.arange(rows), min(parts, rows))

    def at(self, s: Array, rows: Array) -> tuple[Array, Array]:
        """F (r, n) and J - I (r, n, n) at some rows of s (R, n)."""
        if not len(rows):
            return np.empty((0, s.shape[1])), np.empty((0, s.shape[1], s.shape[1]))
        asked = rows if self.path.repeatable else np.arange(len(s))
        x = map_leaves(lambda x: x[asked], self.inputs)
        state = self._leaves(s[asked])
        new, jacobian = self.path.linearised(state, x)
        found = _flat(new) - _flat(state), jacobian - np.eye(s.shape[1])
        return found if asked is rows else (found[0][rows], found[1][rows])

    def rounded(self, s: Array) -> Array:
        """As the dtype of the cell holds it."""
        with np.errstate(over="ignore"):
            return _flat(self._leaves(s))

    def tree(self, s: Array) -> Any:
        """The state, leaves (r, ...)."""
        return rebuild(self.path.init, self._leaves(s))

    def _leaves(self, s: Array) -> list[Array]:
        pieces = [s[:, part] for part in self.path.parts.values()]
        return [
            p.reshape(len(s), *shape).astype(dtype)
            for p, shape, dtype in zip(pieces, self.shapes, self.dtypes, strict=True)
        ]


def _flat(parts: list[Array]) -> Array:
    wide = [p.reshape(len(p), int(np.prod(p.shape[1:]))) for p in parts]
    return np.concatenate(wide, axis=1).astype(np.float64)
