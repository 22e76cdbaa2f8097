"""Functions made of ops. They record the ops they call, and have no gradient rules of their own."""

from __future__ import annotations

import builtins
import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..axes import canonical_axes, canonical_axis
from ..errors import ShapeError
from .arithmetic import divide, float_power, multiply, square, subtract
from .compare import equal, where
from .exponential import exp, log, sqrt
from .index import getitem
from .reduce import max, sum
from .view import astype

METHODS: dict[str, Callable[..., Any]] = {}


def _method(function):
    METHODS[function.__name__] = function
    return function


def _floating(x):
    return x if x.dtype.kind == "f" else astype(x, np.float64)


def _like(x):
    return x if hasattr(x, "dtype") else np.asarray(x)


def power(x, p):
    """y = x ** p.  Common constant powers use cheaper exact ops: 2 is square(x), 0.5 sqrt(x)."""
    if isinstance(p, (int, float)):
        if p == 1:
            return x * 1.0
        if p == 2:
            return square(x)
        if p == 3:
            return x * square(x)
        if p == 0.5:
            return sqrt(x)
        if p == -1:
            return divide(1.0, x)
    return float_power(x, p)


@_method
def mean(x, axis=None, keepdims=False):
    """y = sum of x over `axis`, divided by their number."""
    x = _floating(_like(x))
    return sum(x, axis=axis, keepdims=keepdims) / _count(x, axis)


@_method
def var(x, axis=None, keepdims=False, ddof=0):
    """y = mean((x - mean(x))**2); divides by n - ddof."""
    x = _floating(_like(x))
    deviation = subtract(x, mean(x, axis, keepdims=True))
    n = _count(x, axis)
    if 0 < n <= ddof:
        raise ShapeError(
            f"var: {n} elements over axis {axis} with ddof={ddof}; need more than ddof."
        )
    return sum(square(deviation), axis=axis, keepdims=keepdims) / builtins.max(n - ddof, 0)


@_method
def std(x, axis=None, keepdims=False, ddof=0):
    """y = sqrt(var(x)).  Its slope is Inf where the variance is 0."""
    return sqrt(var(x, axis, keepdims, ddof))


@_method
def logsumexp(x, axis=-1, keepdims=False):
    """y = ln sum e^x over `axis`, without overflow: the largest is taken out first."""
    x = _like(x)
    top = _top(x, axis)
    y = log(sum(exp(subtract(x, top)), axis=axis, keepdims=keepdims))
    return y + (top if keepdims else top.reshape(y.shape))


@_method
def softmax(x, axis=-1):
    """y_i = e^x_i / sum_j e^x_j over `axis`; sums to 1, never overflows."""
    x = _like(x)
    e = exp(subtract(x, _top(x, axis)))
    return divide(e, sum(e, axis=axis, keepdims=True))


@_method
def log_softmax(x, axis=-1):
    """y_i = x_i - ln sum_j e^x_j over `axis`; exact where softmax(x) would underflow."""
    x = _like(x)
    shifted = subtract(x, _top(x, axis))
    return subtract(shifted, log(sum(exp(shifted), axis=axis, keepdims=True)))


@_method
def split(x, sections, axis=0):
    """x cut along `axis` into `sections` equal parts (an int) or before each index (a list).

    Raises ShapeError if the axis does not divide evenly.
    """
    x = _like(x)
    axis = canonical_axis(axis, len(x.shape), "split: axis")
    n = x.shape[axis]
    if isinstance(sections, (list, tuple)):
        cuts = [0, *(builtins.min(builtins.max(c + n * (c < 0), 0), n) for c in sections), n]
    else:
        k = operator.index(sections)
        if k < 1 or n % k:
            raise ShapeError(
                f"split: axis {axis} of {list(x.shape)} does not divide into {k} equal parts."
            )
        cuts = [i * (n // k) for i in range(k + 1)]
    lead = (slice(None),) * axis
    return [getitem(x, (*lead, slice(a, b))) for a, b in itertools.pairwise(cuts)]


@_method
def dot(a, b):
    """The inner product of two 1-D arrays."""
    return sum(multiply(a, b))


def _top(x, axis):
    """The largest along axis (0 where infinite): a constant, as its gradient cancels out."""
    largest = max if _count(x, axis) else sum  # over an empty axis there is none: 0
    top = largest(x.detach() if hasattr(x, "detach") else x, axis=axis, keepdims=True)
    return where(equal(top - top, 0.0), top, 0.0)


def _count(x, axis):
    return math.prod(x.shape[i] for i in canonical_axes(axis, len(x.shape)))
