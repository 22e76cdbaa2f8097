"""Reductions over axes, and the running sum."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from ..axes import canonical_axes, canonical_axis
from ..errors import ShapeError
from ..kernels import reduce as kernels
from ..kinds import reduce
from ..op import sample
from .arithmetic import add, maximum, minimum
from .view import reshape

# what sum, max and min are tested with
_CALLS = [
    sample((3, 4)),
    sample((3, 4), axis=0),
    sample((2, 3, 5), axis=(-1, 0), keepdims=True),
    sample((1,), axis=0),
    sample(()),
]
_REFUSED = [
    (sample((3, 4), axis=2), "out of range"),
    (sample((3, 4), axis=(0, -2)), "names an axis twice"),
]
_EMPTY = sample((0, 3), axis=0)


def _kept(shapes, axis, keepdims):
    return {"axis": canonical_axes(axis, len(shapes[0])), "keepdims": bool(keepdims)}


def _not_empty(name, shapes, axis, keepdims):
    params = _kept(shapes, axis, keepdims)
    if any(shapes[0][i] == 0 for i in params["axis"]):
        raise ShapeError(f"{name}: x is {list(shapes[0])}; there is no {name} over an empty axis.")
    return params


@reduce(symbol="Σ", fold=add, identity=0.0, samples=_CALLS, errors=_REFUSED)
def sum(x, axis=None, keepdims=False):
    """y = sum of x over `axis` (an int, a tuple, or None for all)."""
    return kernels.sum(x, axis, keepdims)


sum.check_params(_kept)


@reduce(
    fold=maximum,
    identity=-math.inf,
    samples=_CALLS,
    errors=[*_REFUSED, (_EMPTY, "no max over an empty axis")],
)
def max(x, axis=None, keepdims=False):
    """y = largest of x over `axis`; NaN if any is.  Equal largest elements share the gradient."""
    return kernels.max(x, axis, keepdims)


max.check_params(partial(_not_empty, "max"))


@reduce(
    fold=minimum,
    identity=math.inf,
    samples=_CALLS,
    errors=[*_REFUSED, (_EMPTY, "no min over an empty axis")],
)
def min(x, axis=None, keepdims=False):
    """y = smallest of x over `axis`; NaN if any is.  Equal smallest elements share the gradient."""
    return kernels.min(x, axis, keepdims)


min.check_params(partial(_not_empty, "min"))


@reduce(
    samples=[sample((5,)), sample((3, 4), axis=0), sample((2, 3, 5), axis=1), sample((1, 1))],
    errors=[(sample((3, 4), axis=2), "out of range")],
)
def cumsum(x, axis=-1):
    """y_i = x_0 + ... + x_i along `axis`."""
    return kernels.cumsum(x, axis)


cumsum.check_params(lambda shapes, axis: {"axis": canonical_axis(axis, len(shapes[0]))})


_ONE_PLACE = [sample((3, 4)), sample((3, 4), axis=0), sample((2, 3), axis=-1, keepdims=True)]
_NO_PLACE = [(sample((3, 4), axis=2), "out of range"), (_EMPTY, "over an empty axis")]


@reduce(differentiable=False, samples=_ONE_PLACE, errors=_NO_PLACE)
def argmax(x, axis=None, keepdims=False):
    """y = the place of the largest of x along `axis`, the first of several; None: in x.flatten().

    Of a NaN, if there is one. Integers, without a gradient.
    """
    return np.argmax(x, axis, keepdims=keepdims)


@reduce(differentiable=False, samples=_ONE_PLACE, errors=_NO_PLACE)
def argmin(x, axis=None, keepdims=False):
    """y = the place of the smallest of x along `axis`; as argmax."""
    return np.argmin(x, axis, keepdims=keepdims)


def _one_place(name, shapes, axis, keepdims):
    _not_empty(name, shapes, axis, keepdims)
    axis = None if axis is None else canonical_axis(axis, len(shapes[0]))
    return {"axis": axis, "keepdims": bool(keepdims)}


argmax.check_params(partial(_one_place, "argmax"))
argmin.check_params(partial(_one_place, "argmin"))


def sum_to(x, shape):
    """x summed over the axes along which an array of `shape` was broadcast to x's shape."""
    if x.shape == shape:
        return x
    extra = len(x.shape) - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(shape) if n == 1 and x.shape[extra + i] != 1
    )
    return reshape(sum(x, axis=axes), shape)
