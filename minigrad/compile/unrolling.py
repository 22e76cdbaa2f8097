"""A cell run over a sequence, one step after the other: the meaning of every recurrent layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .. import ops
from ..border import plain
from ..errors import DTypeError, ShapeError, describe
from ..tape import scope
from ..tape import state as switches
from ..tensors import Tensor
from ..tree import leaves, map_leaves, named_leaves, structure

Cell = Callable[[Any, Any], tuple[Any, Any]]  # (state, x) -> (state, y)


def unroll(
    cell: Cell,
    init: Any,
    xs: Any,
    lengths: Any = None,
    reverse: bool = False,
    mask: Any = None,
    resets: Any = None,
) -> tuple[Any, Any]:
    """(cell, init, xs) -> (final, ys), each step eager, in a scope `t=...`.

        state = init
        for t in range(T):                    # T-1 down to 0 if reverse
            state = where(resets[t], init, state)
            new, y = cell(state, xs[t])
            state, ys[t] = where(mask[t], new, state), where(mask[t], y, 0)
        return state, stack(ys)

    cell: (state, x) -> (state, y); the state comes back with the structure, shapes and dtypes it
        came with.
    init: the first state, a tree of Tensors (B, ...). xs: a tree of Tensors (T, B, ...).
    mask: (T, B) of bool: whether row b takes part in step t. Where it does not, its state passes
        through and its y is 0, as in Keras with zero_output_for_mask=True (by default Keras repeats
        the y before it there). So padding may be in front, and `final` is a row's state after its
        last real step, `init` if it has none.
    lengths: (B,) integers from 0 to T, short for the mask t < lengths[b]. In reverse a row begins
        at its last real step.
    resets: (T, B) of bool: an episode of row b begins at step t. No state passes between that step
        and the row's last one before it, in either direction: what comes behind starts from the
        row's `init`, and gradients end there, in `init`. Allowed where the row takes part.
    Returns the last state, and ys as trees of Tensors (T, B, ...), ys[t] belonging to xs[t] in
    both directions.
    Raises ShapeError or DTypeError if the state changes its type, naming the component, and for
    lengths, a mask or resets that do not fit xs; ValueError for lengths with a mask.

    >>> add = lambda total, x: (total + x, total + x)
    >>> final, ys = unroll(add, Tensor([0.0]), Tensor([[1.0], [2.0], [3.0]]))
    >>> final.tolist(), ys.tolist()
    ([6.0], [[1.0], [3.0], [6.0]])
    """
    time, batch = sizes("unroll", xs)
    real = check_mask("unroll", lengths, mask, time, batch)
    begins = check_resets("unroll", resets, real, time, batch, reverse)
    if real is not None and not varies(real) and real.all():
        real = None
    state = init
    ys: list[Any] = [None] * time
    for i in range(time):
        t = time - 1 - i if reverse else i
        with scope(f"t={t}"):
            if begins is not None:  # at all steps: what is added up in which order is the same
                state = map_leaves(lambda a, b, t=t: choose(begins[t], a, b), init, state)
            new, y = cell(state, map_leaves(lambda x, t=t: x[t], xs))
            if i == 0:
                check_carry("unroll", init, new)
            if real is not None:
                kept = map_leaves(lambda a, b, t=t: choose(real[t], a, b), new, state)
                # Who reads a state reads what the next step reads: the parts of its gradient meet
                # in the order in which they do without padding, and so have the same bits.
                same = {id(a): b for a, b in zip(leaves(new), leaves(kept), strict=True)}
                new, y = kept, map_leaves(lambda a, same=same: same.get(id(a), a), y)
            state, ys[t] = new, y
    stacked = map_leaves(lambda *steps: ops.stack(steps), *ys)
    return state, stacked if real is None else map_leaves(partial(choose, real), stacked)


def check_mask(who: str, lengths: Any, mask: Any, time: int, batch: int) -> np.ndarray | None:
    """(T, B) of bool, what takes part, as `lengths` or a mask say; None for everything."""
    if lengths is None:
        if mask is None:
            return None
        return computed(
            f"{who}: a mask", [mask], lambda given: _flags(who, "mask", given, time, batch), True
        )
    if mask is not None:
        raise ValueError(
            f"{who}: lengths and mask both say which steps are real; leave one out. Lengths as a "
            f"mask are np.arange({time})[:, None] < lengths."
        )

    def before(array: Any) -> np.ndarray:
        ends = check_lengths(who, array, time, batch, least=0)
        return np.asarray(np.arange(time)[:, None] < ends)

    return computed(f"{who}: lengths as a mask", [lengths], before)


def check_resets(
    who: str, resets: Any, real: np.ndarray | None, time: int, batch: int, reverse: bool
) -> np.ndarray | None:
    """(T, B) of bool: before which steps, in order of computation, a row's state is its first.

    That is where an episode begins; in reverse, the row's last real step of the episode before.
    """
    if resets is None:
        return None
    given = [resets] if real is None else [resets, real]
    return computed(
        f"{who}: resets", given, partial(_begins, who, time=time, batch=batch, reverse=reverse)
    )


def _begins(
    who: str, resets: Any, real: np.ndarray | None = None, *, time: int, batch: int, reverse: bool
) -> np.ndarray:
    begins = _flags(who, "resets", resets, time, batch)
    if real is not None and (begins & ~real).any():
        t, row = np.argwhere(begins & ~real)[0]
        raise ValueError(
            f"{who}: resets[{t}, {row}] begins an episode at a step in which the row takes no "
            f"part; set it at the episode's first real step (resets & mask leaves it out)."
        )
    if not reverse:
        return begins
    steps = np.arange(time + 1)[:, None]
    taking = np.ones((time, batch), bool) if real is None else real
    places = np.where(np.concatenate([taking, np.ones((1, batch), bool)]), steps, time)
    following = np.minimum.accumulate(places[::-1])[::-1][1:]  # the next real step; T for none
    padded = np.concatenate([begins, np.zeros((1, batch), bool)])
    return np.asarray(taking & np.take_along_axis(padded, following, axis=0))


def computed(
    what: str, given: list[Any], make: Callable[..., np.ndarray], copies: bool = False
) -> np.ndarray:
    """make(*given): what NumPy makes of lengths and masks; in a step of mg.jit, at every call.

    copies: whether it is a copy of what is given, which has only to be of the right type.
    """
    if switches.jit is not None:
        return switches.jit.computed(what, given, make, copies)
    return make(*given)


def varies(flags: np.ndarray) -> bool:
    """Whether they are others in a replay of the step of mg.jit that is being recorded."""
    return switches.jit is not None and switches.jit.varies(flags)


def _flags(who: str, what: str, given: Any, time: int, batch: int) -> np.ndarray:
    """A mask or resets as an array; refuses anything but (T, B) of bool."""
    array = plain(given)
    if array.shape != (time, batch):
        raise ShapeError(
            f"{who}: {what} should be (T, B) = [{time}, {batch}], one for each step and row; got "
            f"{describe(array)}."
        )
    if array.dtype.kind != "b":
        raise DTypeError(
            f"{who}: {what} should be of bool, got {describe(array)}; write {what} != 0."
        )
    return array.copy()  # the caller may write into his own


def check_lengths(who: str, lengths: Any, time: int, batch: int, least: int = 1) -> np.ndarray:
    """lengths as an array; refuses anything but `batch` integers from `least` to `time`."""
    array = plain(lengths)
    if array.shape != (batch,):
        raise ShapeError(
            f"{who}: lengths should hold one length for each of the {batch} rows of the batch, "
            f"got {describe(array)}."
        )
    if array.dtype.kind not in "iu":
        raise DTypeError(f"{who}: lengths are numbers of steps, integers; got {describe(array)}.")
    if switches.jit is not None:
        switches.jit.checks(who, array, partial(_check_steps, who, time, least))
    else:
        _check_steps(who, time, least, array)
    return array


def _check_steps(who: str, time: int, least: int, array: np.ndarray) -> None:
    for row in np.flatnonzero((array < least) | (array > time)):
        empty = " (leave empty rows out of the batch)" if least else ""
        raise ShapeError(
            f"{who}: lengths[{row}] is {array[row]}, and the input has {time} steps; expected "
            f"{least} to {time}{empty}."
        )


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
    """a in the rows (axis 0; of all steps: 1) that are real, b (or zeros) in the others."""
    lead = (-1,) if real.ndim == 1 else real.shape
    real = real.reshape(*lead, *(1,) * (a.ndim - real.ndim))
    if a.dtype.kind != "b":
        return ops.where(real, a, 0.0 if b is None else b)
    kept = ops.logical_and(real, a)
    return kept if b is None else ops.logical_or(kept, ops.logical_and(ops.logical_not(real), b))
