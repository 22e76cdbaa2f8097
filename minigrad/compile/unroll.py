"""A cell run over a sequence, one step after the other: the meaning of every recurrent layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..border import plain
from ..errors import DTypeError, ShapeError, describe
from ..tape import scope
from ..tensors import Tensor
from ..tree import leaves, map_leaves, named_leaves, structure

Cell = Callable[[Any, Any], tuple[Any, Any]]  # (state, x) -> (state, y)


def unroll(
    cell: Cell, init: Any, xs: Any, lengths: Any = None, reverse: bool = False
) -> tuple[Any, Any]:
    """(cell, init, xs) -> (final, ys), each step eager, in a scope `t=...`.

        state = init
        for t in range(T):                    # T-1 down to 0 if reverse
            state, ys[t] = cell(state, xs[t])
        return state, stack(ys)

    cell: (state, x) -> (state, y); the state comes back with the structure, shapes and dtypes it
        came with.
    init: the first state, a tree of Tensors (B, ...). xs: a tree of Tensors (T, B, ...).
    lengths: (B,) integers from 1 to T. Row b takes part in steps 0 .. lengths[b]-1; in the others
        its state passes through and its y is 0. So `final` is its state after its last real step,
        and in reverse it begins at its last real step.
    Returns the last state, and ys as trees of Tensors (T, B, ...), ys[t] belonging to xs[t] in
    both directions.
    Raises ShapeError or DTypeError if the state changes its type, naming the component.

    >>> add = lambda total, x: (total + x, total + x)
    >>> final, ys = unroll(add, Tensor([0.0]), Tensor([[1.0], [2.0], [3.0]]))
    >>> final.tolist(), ys.tolist()
    ([6.0], [[1.0], [3.0], [6.0]])
    """
    time, batch = sizes("unroll", xs)
    if lengths is not None:
        lengths = check_lengths("unroll", lengths, time, batch)
    state = init
    ys: list[Any] = [None] * time
    for i in range(time):
        t = time - 1 - i if reverse else i
        with scope(f"t={t}"):
            new, y = cell(state, map_leaves(lambda x, t=t: x[t], xs))
            if i == 0:
                check_carry("unroll", init, new)
            real = None if lengths is None else t < lengths
            if real is not None and not real.all():
                new = map_leaves(lambda a, b, real=real: choose(real, a, b), new, state)
                y = map_leaves(lambda a, real=real: choose(real, a), y)
            state, ys[t] = new, y
    return state, map_leaves(lambda *steps: ops.stack(steps), *ys)


def check_lengths(who: str, lengths: Any, time: int, batch: int) -> np.ndarray:
    """lengths as an array; refuses anything but `batch` integers from 1 to `time`."""
    array = plain(lengths)
    if array.shape != (batch,):
        raise ShapeError(
            f"{who}: lengths should hold one length for each of the {batch} rows of the batch, "
            f"got {describe(array)}."
        )
    if array.dtype.kind not in "iu":
        raise DTypeError(f"{who}: lengths are numbers of steps, integers; got {describe(array)}.")
    for row in np.flatnonzero((array < 1) | (array > time)):
        raise ShapeError(
            f"{who}: lengths[{row}] is {array[row]}, and the input has {time} steps; expected 1 "
            f"to {time} (leave empty rows out of the batch)."
        )
    return array


def sizes(who: str, xs: Any) -> tuple[int, int]:
    """T and B, which all inputs must share."""
    sizes = {x.shape[:2] for x in leaves(xs)}
    if len(sizes) != 1 or len(next(iter(sizes))) != 2 or 0 in next(iter(sizes)):
        came = ", ".join(f"{name or 'xs'} {describe(x)}" for name, x in named_leaves(xs))
        raise ShapeError(
            f"{who}: expected inputs (T, B, ...) with at least one step and one row; got {came}."
        )
    time, batch = sizes.pop()
    return time, batch


def check_carry(who: str, init: Any, new: Any) -> None:
    """Raises ShapeError or DTypeError, naming the component, if the carry changes its type."""
    if structure(init) != structure(new):
        raise ShapeError(
            f"{who}: the carry leaves the cell as {structure(new)} but came in as "
            f"{structure(init)}; return the same structure."
        )
    for (name, before), after in zip(named_leaves(init), leaves(new), strict=True):
        if before.shape != after.shape or before.dtype != after.dtype:
            error = ShapeError if before.shape != after.shape else DTypeError
            what = f"carry {name!r}" if name else "the carry"
            raise error(
                f"{who}: {what} leaves the cell as {describe(after)} but came in as "
                f"{describe(before)}; return the same shape and dtype."
            )


def choose(real: Any, a: Tensor, b: Tensor | None = None) -> Tensor:
    """a in the rows (axis 0) that are real, b (or zeros) in the others."""
    real = real.reshape(-1, *(1,) * (a.ndim - 1))
    if a.dtype.kind != "b":
        return ops.where(real, a, 0.0 if b is None else b)
    kept = ops.logical_and(real, a)
    return kept if b is None else ops.logical_or(kept, ops.logical_and(ops.logical_not(real), b))
