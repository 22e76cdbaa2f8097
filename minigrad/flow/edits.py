"""What an intervention does, at which steps, rows and units: as operands for every step of a scan.

Where nothing is chosen an operand is neutral, so that what is not changed keeps its bits.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ..border import plain
from ..errors import DTypeError, FlowError, GradientError, ShapeError, describe
from ..tensors import Tensor

Array = np.ndarray

# how -> (what an operand is where nothing is chosen, for each); None: a mask. x + -0.0 is x, also
# for x = -0.0.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "clamp": (-np.inf, np.inf), "patch": (None, 0.0), "scale": (1.0,), "noise": (-0.0,),
    "detach": (1.0,), "clip_norm": (np.inf,),
}  # fmt: skip


class Chosen(NamedTuple):
    """steps, rows and units: indices, a slice or a mask; None for all."""

    steps: Any
    rows: Any
    units: Any


def checked(who: str, how: str, of: str, value: Any) -> tuple[Array | None, ...]:
    """The numbers that were given for how=value, one for each operand but masks.

    Raises ValueError and DTypeError for what makes no sense.
    """
    if how == "clamp":
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            raise ValueError(f"{who}: clamp is a pair (low, high), one of which may be None.")
        low, high = (
            _numbers(f"{who}: clamp", open_ if v is None else v)
            for v, open_ in zip(value, NEUTRAL["clamp"], strict=True)
        )
        with np.errstate(invalid="ignore"):
            if not (low <= high).all():
                raise ValueError(f"{who}: clamp=(low, high) needs low <= high, got {value!r}.")
            if of == "gradient" and not ((low <= 0).all() and (high >= 0).all()):
                raise ValueError(
                    f"{who}: a gradient is clamped to low <= 0 <= high, got {value!r}: where none "
                    f"arrives none is made."
                )
        return low, high
    if how == "detach":
        return (np.zeros(()),)
    numbers = _numbers(f"{who}: {how}", value)
    if how in ("noise", "clip_norm") and not (numbers >= 0).all():
        what = "a standard deviation" if how == "noise" else "a norm"
        raise ValueError(f"{who}: {how} is {what}, >= 0; got {value!r}.")
    return (None, numbers) if how == "patch" else (numbers,)


def _numbers(what: str, value: Any) -> Array:
    if isinstance(value, Tensor) and value.requires_grad:
        raise GradientError(
            f"{what} is {describe(value)}, which requires a gradient, and none goes to what an "
            f"intervention puts in; write .detach()."
        )
    array = np.asarray(plain(value))
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"{what} takes numbers, got {describe(value)}.")
    return array.astype(np.float64)


def operands(
    how: str, numbers: tuple[Array | None, ...], chosen: Chosen, shape: tuple[int, ...], dtype: Any,
    rng: np.random.Generator, where: str,
) -> tuple[list[Array], Array]:  # fmt: skip
    """(operands, which steps are changed): (T, B, ...) and (T,), for a tap of `shape` (T, B, ...).

    Of the gradient's norm, which a row has as a whole, the operand is (T, B, 1).
    """
    time = indices(f"{where}: steps", chosen.steps, shape[0])
    picked = [time, indices(f"{where}: rows", chosen.rows, shape[1])]
    picked += [np.arange(n) for n in shape[2:]]
    if chosen.units is not None:
        if len(shape) < 3:
            raise ShapeError(f"{where} has no units: it is one number for each row.")
        if how == "clip_norm":
            raise ShapeError(f"{where}: clip_norm is of a whole row, and takes no units=.")
        picked[-1] = indices(f"{where}: units", chosen.units, shape[-1])
    if how == "clip_norm":
        shape, picked = (*shape[:2], 1), [*picked[:2], np.arange(1)]
    at = np.ix_(*picked)
    found = []
    for neutral, given in zip(NEUTRAL[how], numbers, strict=True):
        kind = bool if neutral is None else dtype
        operand = np.full(shape, False if neutral is None else neutral, kind)
        sizes = tuple(map(len, picked))
        if given is None:
            operand[at] = True
        else:
            spread = _spread(f"{where}: {how}", given, sizes)
            operand[at] = spread if how != "noise" else spread * rng.standard_normal(sizes)
        found.append(operand)
    touched = np.zeros(shape[0], bool)
    touched[time] = True
    return found, touched


def _spread(what: str, given: Array, sizes: tuple[int, ...]) -> Array:
    try:
        return np.broadcast_to(given, sizes)
    except ValueError:
        raise ShapeError(
            f"{what} is {list(given.shape)}; expected what broadcasts to {list(sizes)}: steps, "
            f"rows, and the units of what is changed."
        ) from None


def indices(what: str, given: Any, size: int) -> Array:
    """Which of 0 .. size - 1 are chosen. Raises ShapeError for one that is not there, or twice."""
    if given is None:
        return np.arange(size)
    if isinstance(given, slice):
        return np.arange(size)[given]
    listed = np.atleast_1d(np.asarray(given))
    if listed.dtype == bool:
        if listed.shape != (size,):
            raise ShapeError(f"{what} is a mask {list(listed.shape)}, expected [{size}].")
        return np.flatnonzero(listed)
    if wrong := [int(i) for i in listed if not -size <= i < size]:
        raise ShapeError(f"{what}: {wrong[0]} is not among 0 to {size - 1}.")
    found = np.where(listed < 0, listed + size, listed)
    if len(set(found.tolist())) != len(found):
        raise ShapeError(f"{what} names one of them twice: {listed.tolist()}.")
    return found


def as_indices(what: str, given: Any) -> Any:
    """steps=, rows= or units= as they are kept: None, a slice, or an array of integers or bools."""
    if given is None or isinstance(given, slice):
        return given
    try:
        if isinstance(given, (str, bytes, bool, np.bool_)):  # True would be number 1
            raise TypeError
        array = np.asarray(list(given) if isinstance(given, Iterable) else operator.index(given))
        if array.ndim > 1 or (array.size and array.dtype.kind not in "iub"):
            raise TypeError
    except TypeError:
        raise TypeError(
            f"{what} is a number, a slice, a list of numbers or a mask; got {given!r}."
        ) from None
    return array.astype(np.intp) if array.dtype.kind != "b" else array


# -- in a loop by hand, of which nobody knows how many steps it has


def place_of(what: str, steps: Any, t: int) -> tuple[int, int | None] | None:
    """(which of the chosen steps t is, how many there are if that is known); None if it is none."""
    if isinstance(steps, slice):
        start, stop, stride = steps.start or 0, steps.stop, steps.step or 1
        if min(start, stop or 0, stride) < 0:
            raise _from_the_end(what, steps)
        if t < start or (stop is not None and t >= stop) or (t - start) % stride:
            return None
        return (t - start) // stride, None if stop is None else len(range(start, stop, stride))
    listed = (np.flatnonzero(steps) if steps.dtype == bool else steps.reshape(-1)).tolist()
    if min(listed, default=0) < 0:
        raise _from_the_end(what, steps)
    return (listed.index(t), len(listed)) if t in listed else None


def _from_the_end(what: str, steps: Any) -> FlowError:
    return FlowError(
        f"{what}: {steps!r} counts from the end, which a loop by hand does not tell; count from 0."
    )


def of_step(what: str, given: Array | None, k: int, count: int | None, ndim: int) -> Array | None:
    """The part of an operand's numbers for the k-th chosen step, of a tap with `ndim` axes."""
    if given is None or given.ndim <= ndim or len(given) == 1:
        return given if given is None or given.ndim <= ndim else given[0]
    if k >= len(given) or count not in (None, len(given)):
        raise ShapeError(
            f"{what} is {list(given.shape)}, for {len(given)} steps; chosen are "
            f"{f'{k + 1} or more' if count is None else count}."
        )
    return np.asarray(given[k])
