"""What an op makes of types: found by running it once, on zeros or on numbers of places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import TraceError
from ..op import Op
from .program import Value, freeze

_INFERRED: dict[Any, tuple[tuple[int, ...], np.dtype]] = {}


def infer(
    op: Op, inputs: Sequence[Any], params: dict[str, Any]
) -> tuple[tuple[int, ...], np.dtype]:
    """(shape, dtype) of op(*inputs, **params)."""
    types = tuple([(v.shape, v.dtype) if type(v) is Value else v for v in inputs])
    key = (op, types, freeze(params))
    known = _INFERRED.get(key)
    if known is None:
        zeros = [
            np.broadcast_to(np.zeros((), v.dtype), v.shape) if type(v) is Value else v
            for v in inputs
        ]
        arrays, _ = op.arrays(zeros)
        with np.errstate(all="ignore"):
            y = op.forward(arrays, params)
        if len(_INFERRED) > 4096:
            _INFERRED.clear()
        known = _INFERRED[key] = (y.shape, y.dtype)
    return known


def is_same(op: Op, v: Value, params: dict[str, Any]) -> bool:
    """Whether a view of v is v itself: x[...] of everything, a reshape to the same shape.

    Raises TraceError if it is no view, and computes values.
    """
    places = np.arange(1, v.size_here + 1).reshape(v.shape)
    y = np.asarray(op.forward([places], params))
    if y.size and not (y.dtype == places.dtype and y.min() >= 1 and y.max() <= places.size):
        raise TraceError(
            f"scan: {op.name} cannot be compiled: it was declared as a view, but not all that it "
            f"returns are values of its input. Declare what puts values among new ones with "
            f"@view(assembles=True), or run this cell with mode='tape'."
        )
    return y.shape == v.shape and bool((y == places).all())
