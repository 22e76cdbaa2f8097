"""What `scan` asks of the ops that move values: where the rows of the batch go, in one table.

    op.batch(rule)        at, where the rows are in x -> where in y; mixes(why) if rows meet
    op.over_time(rule)    the parameters that change when x has an axis of time in front
    op.expand(rule)       the op as an expression of others, in a step

op.py says what a rule may ask for.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ..axes import indexed, next_axis
from ..errors import TraceError
from ..op import mixes
from .arithmetic import divide, subtract
from .compare import equal, where
from .exponential import exp, log1p
from .index import getitem, scatter
from .logits import cross_entropy, log_softmax, logsumexp, softmax
from .matrix import linear
from .reduce import cumsum, max, min, sum

# isort: off
# fmt: off
from .view import (
    astype, broadcast_to, concatenate, expand_dims, flip, pad, reshape, roll, squeeze, stack,
    swapaxes, transpose,
)
# fmt: on

_MOST_LISTED = 64  # integers of a list, in a step of scan

# -- the rows

astype.batch(lambda at: at)
transpose.batch(lambda at, axes: axes.index(at))
swapaxes.batch(lambda at, axis1, axis2: {axis1: axis2, axis2: axis1}.get(at, at))
expand_dims.batch(lambda at, axis: at + (axis <= at))
stack.batch(lambda at, axis: at + (axis <= at))
concatenate.batch(lambda at, axis: at if axis != at else mixes("it works along the batch axis"))
roll.batch(lambda at, axis: at if axis != at else mixes("it works along the batch axis"))
flip.batch(lambda at, axis: at if at not in axis else mixes("it turns the batch axis round"))
pad.batch(lambda at, pad_width: at if pad_width[at] == (0, 0) else mixes("it adds rows"))


@squeeze.batch
def _(at, axis):
    return (
        at - len([a for a in axis if a < at])
        if at not in axis
        else mixes("it drops the batch axis")
    )


@broadcast_to.batch
def _(at, many, rows, x_shape, shape):
    at += len(shape) - len(x_shape)
    return at if shape[at] == rows * many else mixes("it repeats the batch axis")


@reshape.batch
def _(at, many, rows, x_shape, shape):
    before, inside = math.prod(x_shape[:at]), many * math.prod(x_shape[at + 1 :])
    # With one row several places would do: the axis stays where it is if it can.
    for k in sorted(range(len(shape)), key=lambda k: k != at):
        fits = shape[k] and math.prod(shape[:k]) == before and shape[k] % rows == 0
        if fits and inside % (shape[k] // rows) == 0:
            return k, shape[k] // rows
    return mixes(f"reshape to {list(shape)} cuts across it")


@getitem.batch
def _(at, x_shape, index):
    for axis, item, place in indexed(index, len(x_shape)):
        if axis == at and place is not None and _takes_all(item, x_shape[at]):
            return place
    return mixes("it chooses among the rows")


@scatter.batch
def _(at, index, shape):
    for axis, item, place in indexed(index, len(shape)):
        if place == at and axis is not None and _takes_all(item, shape[axis]):
            return axis
    return mixes("it chooses among the rows")


def _takes_all(item, size):
    return isinstance(item, slice) and item.indices(size) == (0, size, 1)


# -- an axis of time in front


def _all_steps(index):
    return (slice(None), *(index if isinstance(index, tuple) else (index,)))


for _op in (sum, max, min, expand_dims, squeeze, concatenate, stack, flip, roll):
    _op.over_time(next_axis)
astype.over_time(lambda dtype: {})
reshape.over_time(lambda steps, shape: {"shape": (steps, *shape)})
broadcast_to.over_time(lambda steps, shape: {"shape": (steps, *shape)})
transpose.over_time(lambda axes: {"axes": (0, *(a + 1 for a in axes))})
swapaxes.over_time(lambda axis1, axis2: {"axis1": axis1 + 1, "axis2": axis2 + 1})
pad.over_time(lambda pad_width: {"pad_width": ((0, 0), *pad_width)})
getitem.over_time(lambda index: {"index": _all_steps(index)})
scatter.over_time(
    lambda steps, index, shape: {"index": _all_steps(index), "shape": (steps, *shape)}
)

# -- in a step an expression of other ops


@getitem.expand
def _(x, index):
    """x[:, [2, 0, 1]] as slices side by side."""
    parts = index if isinstance(index, tuple) else (index,)
    if all(i is None or i is Ellipsis or isinstance(i, (int, slice)) for i in parts):
        return None
    items = indexed(index, len(x.shape))
    lists = [(a, np.asarray(i)) for a, i, _ in items if isinstance(i, (list, np.ndarray))]
    axis, places = lists[0] if lists else (None, np.zeros(()))
    if axis is None or len(lists) > 1 or places.ndim != 1 or places.dtype.kind not in "iu":
        raise TraceError(
            "scan: getitem in a step takes integers, slices, None, Ellipsis and one list of "
            "integers; a mask or several lists need mode='tape'."
        )
    if places.size > _MOST_LISTED:
        raise TraceError(
            f"scan: getitem with a list of {places.size} integers in a step; up to {_MOST_LISTED} "
            "compile. Multiply by a constant matrix that has a 1 in the wanted places instead."
        )
    lead, n = (slice(None),) * axis, x.shape[axis]
    slices = [x[(*lead, slice(i % n, i % n + 1))] for i in map(int, places)]
    joined = slices[0] if len(slices) == 1 else concatenate(slices, axis=axis)
    rest = tuple(slice(None) if a == axis else item for a, item, _ in items)
    return joined[rest] if rest else joined


@cumsum.expand
def _(x, axis):
    """As a masked sum: y_i = sum of x_j over j <= i."""
    later = len(x.shape) - 1 - axis
    return sum(where(_up_to(x.shape[axis], later), expand_dims(x, axis), 0.0), axis=axis + 1)


@functools.cache
def _up_to(n, later):
    """mask[i, j] = j <= i, with `later` axes of one element behind."""
    return (np.arange(n)[:, None] >= np.arange(n)).reshape(n, n, *(1,) * later)


linear.expand(lambda x, weight, bias: x @ weight.T + bias)


@softmax.expand
def _(x, axis):
    e = exp(subtract(x, _top(x, axis)))
    return divide(e, sum(e, axis=axis, keepdims=True))


@log_softmax.expand
def _(x, axis):
    moved = subtract(x, _top(x, axis))
    return subtract(moved, _log_sum(moved, axis))


@logsumexp.expand
def _(x, axis, keepdims):
    top = _top(x, axis)
    y = _log_sum(subtract(x, top), axis) + top
    return y if keepdims else squeeze(y, axis)


@cross_entropy.expand
def _(x, index, ignore_index, reduction):
    chosen = np.arange(x.shape[-1]) == index[..., None]
    losses = -sum(where(chosen, log_softmax(x), 0.0), axis=-1)
    if reduction == "none":
        return losses
    return sum(losses) / (int((index != ignore_index).sum()) if reduction == "mean" else 1)


def _top(x, axis):
    """The largest along axis (0 where infinite), by which x is moved.

    Its gradient cancels out in exact arithmetic, and is recorded all the same. In floating point it
    gives the largest element minus the sum of the others' gradients, where its own, p - 1 for a
    probability p that rounds to 1, would be 0.
    """
    top = max(x, axis=axis, keepdims=True)
    return where(equal(top - top, 0.0), top, 0.0)


def _log_sum(moved, axis):
    """ln sum e^moved, the largest being 0: what little the others add to its 1 is not lost."""
    e, largest = exp(moved), equal(moved, 0.0)
    ones = sum(where(largest, e, 0.0), axis=axis, keepdims=True)
    return log1p(sum(where(largest, 0.0, e), axis=axis, keepdims=True) + (ones - 1.0))
