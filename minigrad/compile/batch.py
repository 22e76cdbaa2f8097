"""Where the batch axis goes: the rule of every view and reduction, and of broadcasting.

A step works on each row of the batch by itself. These functions follow the axis through the ops
that move axes, and refuse what would mix rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import ShapeError, TraceError
from .program import Value

Shape = tuple[int, ...]


KNOWN = {  # views, of which `follow` says where the batch axis goes
    "reshape", "transpose", "swapaxes", "expand_dims", "stack", "squeeze", "broadcast_to",
    "concatenate", "roll", "flip", "pad", "getitem", "scatter", "astype",
}  # fmt: skip


class Axis(NamedTuple):
    """The batch axis of a value: its place, and its size / B."""

    at: int
    many: int = 1


def mixes(op: str, value: Value, scope: str, hint: str) -> TraceError:
    """The error for an op that would mix rows of the batch."""
    where = f" (scope {scope})" if scope else ""
    return TraceError(
        f"scan: {op} of {value.type()}{where} would mix the rows of the batch, and a step may not: "
        f"{hint}. Keep axis {value.batch} as it is, or run this cell with mode='tape'."
    )


def follow(op: str, v: Value, params: dict[str, Any], out: Shape, rows: int, scope: str) -> Axis:
    """The batch axis of op(v, **params), a view of shape `out`; rows is B."""
    at, many = _place(v)

    def refuse(hint: str) -> TraceError:
        return mixes(op, v, scope, hint)

    def need(fits: bool, hint: str) -> None:
        if not fits:
            raise refuse(hint)

    if op == "reshape":
        return _reshaped(v, out, rows, refuse)
    if op == "transpose":
        return Axis(params["axes"].index(at), many)
    if op == "swapaxes":
        a, b = params["axis1"], params["axis2"]
        return Axis({a: b, b: a}.get(at, at), many)
    if op in ("expand_dims", "stack"):
        return Axis(at + (params["axis"] <= at), many)
    if op == "squeeze":
        need(at not in params["axis"], "it drops the batch axis")
        return Axis(at - sum(a < at for a in params["axis"]), many)
    if op == "broadcast_to":
        at += len(out) - len(v.shape)
        need(out[at] == rows * many, "it repeats the batch axis")
    elif op in ("concatenate", "roll"):
        need(params["axis"] != at, "it works along the batch axis")
    elif op == "flip":
        need(at not in params["axis"], "it turns the batch axis round")
    elif op == "pad":
        need(params["pad_width"][at] == (0, 0), "it adds rows")
    elif op in ("getitem", "scatter"):
        shape = v.shape if op == "getitem" else out
        for axis, item, place in indexed(params["index"], len(shape)):
            source, target = (axis, place) if op == "getitem" else (place, axis)
            if source == at and axis is not None:
                whole = isinstance(item, slice) and _is_whole(item, shape[axis])
                need(whole and target is not None, "it chooses among the rows")
                return Axis(int(target), many)  # type: ignore[arg-type]
        raise refuse("it chooses among the rows")
    return Axis(at, many)


def _place(v: Value) -> tuple[int, int]:
    assert v.batch is not None
    return v.batch, v.many


def _is_whole(item: slice, size: int) -> bool:
    return item.indices(size) == (0, size, 1)


def _reshaped(v: Value, out: Shape, rows: int, refuse: Any) -> Axis:
    at, many = _place(v)
    before, inside = math.prod(v.shape[:at]), many * math.prod(v.shape[at + 1 :])
    # With one row several places would do: the axis stays where it is if it can.
    for k in sorted(range(len(out)), key=lambda k: k != at):
        size = out[k]
        fits = size and math.prod(out[:k]) == before and size % rows == 0
        if fits and inside % (size // rows) == 0:
            return Axis(k, size // rows)
    raise refuse(f"reshape to {list(out)} cuts across it")


def indexed(index: Any, ndim: int) -> list[tuple[int | None, Any, int | None]]:
    """(axis of x or None, index item, axis of x[index] or None) for each part of a plain index.

    >>> indexed((0, Ellipsis, None), 2)
    [(0, 0, None), (1, slice(None, None, None), 0), (None, None, 1)]
    """
    items = list(index) if isinstance(index, tuple) else [index]
    taken = sum(i is not None and i is not Ellipsis for i in items)
    at = next((k for k, i in enumerate(items) if i is Ellipsis), len(items))
    items[at : at + 1] = [slice(None)] * (ndim - taken)
    found: list[tuple[int | None, Any, int | None]] = []
    axis = place = 0
    for item in items:
        if item is None:
            found.append((None, None, place))
            place += 1
        elif isinstance(item, slice):
            found.append((axis, item, place))
            axis, place = axis + 1, place + 1
        else:
            found.append((axis, item, None))
            axis += 1
    return found


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
