"""Where the batch axis goes: by the rule of a view, and in broadcasting.

A step works on each row of the batch by itself. These functions follow the axis through the ops
that move axes, and refuse what would mix rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import ShapeError, TraceError
from ..op import MixesRows, Op
from ..tape import state
from .program import Value

Shape = tuple[int, ...]


class Axis(NamedTuple):
    """The batch axis of a value: its place, and its size / B."""

    at: int
    many: int = 1


def mixed(op: Op, value: Value, hint: str) -> TraceError:
    """The error for an op that would mix rows of the batch."""
    where = f" (scope {state.scope})" if state.scope else ""
    return TraceError(
        f"scan: {op.name} of {value.type()}{where} would mix the rows of the batch, and a step may "
        f"not: {hint}. Keep axis {value.batch} as it is, or run this cell with mode='tape'."
    )


def follow(op: Op, values: Sequence[Value], params: dict[str, Any], out: Shape, rows: int) -> Axis:
    """The batch axis of op(values, **params), a view of shape `out`; rows is B."""
    v = values[0]
    assert op.batch_rule is not None
    known = {"at": v.batch, "many": v.many, "rows": rows, f"{op.inputs[0]}_shape": v.shape}
    try:
        found = op.batch_rule(*op.asked(op.batch_rule, **known, **params))
    except MixesRows as why:
        raise mixed(op, v, str(why)) from None
    axis = Axis(*found) if isinstance(found, tuple) else Axis(found, v.many)
    _check(op, values, params, out, rows, axis)
    return axis


def _check(
    op: Op, values: Sequence[Value], params: dict[str, Any], out: Shape, rows: int, axis: Axis
) -> None:
    """Raises TraceError if the rows of the batch do not lie where the op's rule says."""
    at, many = axis
    labels = (np.arange(rows) + 1) * 65537.25  # no number that an op would fill in
    given = [_along(np.repeat(labels, v.many), v.shape, v.batch) for v in values]
    fits = 0 <= at < len(out) and out[at] == rows * many
    if fits:
        y = op.forward([x.copy() for x in given], params)
        wanted = np.broadcast_to(_along(np.repeat(labels, many), out, at), out)
        fits = bool((y == wanted)[np.isin(y, labels)].all())
    if not fits:
        raise TraceError(
            f"scan: {op.name} cannot be compiled: the rule @{op.name}.batch puts the rows of "
            f"{values[0].type()} on axis {at} of {list(out)}, and they are not there. "
            f"Correct it, or run this cell with mode='tape'."
        )


def _along(labels: np.ndarray, shape: Shape, axis: int | None) -> np.ndarray:
    assert axis is not None
    return np.broadcast_to(labels.reshape(-1, *(1,) * (len(shape) - axis - 1)), shape)


def broadcast(values: Sequence[Value]) -> tuple[Shape, Axis | None, tuple[int, ...]]:
    """(shape, batch axis, which inputs turn out to have a row for each of the batch).

    An input without a batch axis that meets the batch axis with as many elements is a constant for
    each row (a mask, say); with one element, or with fewer axes, it is shared by all rows.
    """
    shape = np.broadcast_shapes(*(v.shape for v in values))
    places = {(len(v.shape) - v.batch, v.many) for v in values if v.batch is not None}
    if not places:
        return shape, None, ()
    if len(places) > 1:
        came = " and ".join(v.type() for v in values)
        raise TraceError(
            f"scan: {came} do not have the batch on the same axis; transpose or reshape one side, "
            f"or run this cell with mode='tape'."
        )
    back, many = places.pop()
    at = len(shape) - back
    size = next(v.shape[v.batch] for v in values if v.batch is not None)
    if at < 0 or shape[at] != size:
        came = " and ".join(v.type() for v in values)
        raise ShapeError(f"scan: {came}: broadcasting repeats the batch axis.")
    rows = tuple(
        i
        for i, v in enumerate(values)
        if v.batch is None and len(v.shape) >= back and v.shape[len(v.shape) - back] != 1
    )
    return shape, Axis(at, many), rows if size > 1 else ()
