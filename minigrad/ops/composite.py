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
from .exponential import sqrt
from .index import as_array, getitem
from .matrix import matmul
from .reduce import sum
from .view import astype, reshape, transpose

METHODS: dict[str, Callable[..., Any]] = {}


def _method(function):
    METHODS[function.__name__] = function
    return function


def _floating(x):
    return x if x.dtype.kind == "f" else astype(x, np.float64)


def power(x, p):
    """y = x ** p.  Common constant powers use cheaper exact ops: 2 is square(x), 0.5 sqrt(x).

    The dtype is NumPy's: a Python number takes x's, np.float64(2) is a float64.
    """
    if type(p) is int or type(p) is float:
        x = as_array(x)
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
    x = _floating(as_array(x))
    return sum(x, axis=axis, keepdims=keepdims) / _count(x, axis)


@_method
def var(x, axis=None, keepdims=False, ddof=0):
    """y = mean((x - mean(x))**2); divides by n - ddof."""
    x = _floating(as_array(x))
    deviation = subtract(x, mean(x, axis, keepdims=True))
    n = _count(x, axis)
    if 0 < n <= ddof:
        raise ShapeError(
            f"var: {n} elements over axis {axis} with ddof={ddof}; need more than ddof."
        )
    return sum(square(deviation), axis=axis, keepdims=keepdims) / builtins.max(n - ddof, 0)


@_method
def std(x, axis=None, keepdims=False, ddof=0):
    """y = sqrt(var(x)).  Its slope is 0 where the variance is 0, at the bottom of |x|'s kind."""
    variance = var(x, axis, keepdims, ddof)
    flat = equal(variance, 0.0)
    return where(flat, 0.0, sqrt(where(flat, 1.0, variance)))


@_method
def split(x, sections, axis=0):
    """x cut along `axis` into `sections` equal parts (an int) or before each index (a list).

    Raises ShapeError if the axis does not divide evenly.
    """
    x = as_array(x)
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
    """NumPy's dot: sum_k a[..., k] b[..., k, n], every row of a with every column of b.

    (k,) (k,) -> (), (m, k) (k,) -> (m,), (m, k) (k, n) -> (m, n), (..., m, k) (..., k, n) -> all
    leading axes of a, then all of b (matmul pairs them instead); a number scales.
    Raises ShapeError if the inner sizes differ.
    """
    a, b = as_array(a), as_array(b)
    if not a.shape or not b.shape:
        return multiply(a, b)
    if len(b.shape) <= 2:
        return matmul(a, b)
    *lead, k, n = b.shape
    columns = reshape(moved(b, -2, 0), (k, math.prod(lead) * n))
    return reshape(matmul(a, columns), (*a.shape[:-1], *lead, n))


def moved(x, source, to):
    """x with the axis `source` at the place `to`."""
    axes = list(range(len(x.shape)))
    axes.insert(to, axes.pop(source))
    return transpose(x, axes)


def _count(x, axis):
    return math.prod(x.shape[i] for i in canonical_axes(axis, len(x.shape)))
