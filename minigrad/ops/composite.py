"""Functions made of ops. They record the ops they call, and have no gradient rules of their own."""

from __future__ import annotations

import builtins
import functools
import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..axes import canonical_axes, canonical_axis
from ..border import plain
from ..errors import ShapeError
from ..othernames import torch_option
from .arithmetic import abs, divide, float_power, multiply, nearest, square, subtract
from .compare import equal, greater, less, logical_and, not_equal, where
from .exponential import sqrt
from .index import as_array, getitem, plain_index, take
from .matrix import matmul
from .reduce import max, sum
from .view import astype, broadcast_to, concatenate, reshape, transpose

METHODS: dict[str, Callable[..., Any]] = {}


def _method(function):
    METHODS[function.__name__] = function
    return function


def _reduction(function):
    """A method that tells those who say torch's `dim=` what that is called here."""

    @functools.wraps(function)
    def reduced(*args, **options):
        try:
            return function(*args, **options)
        except TypeError:
            for name in options:
                torch_option(function.__name__, name)
            raise

    return _method(reduced)


def _floating(x):
    return x if x.dtype.kind == "f" else astype(x, np.float64)


def power(x, p):
    """y = x ** p.  Common constant powers use cheaper exact ops: 2 is square(x), 0.5 sqrt(x).

    The dtype is NumPy's: a Python number or an integer takes x's, np.float64(2) is a float64.
    """
    if isinstance(p, np.integer):
        p = int(p)
    if (type(p) is int or type(p) is float) and (x := as_array(x)).dtype.kind == "f":
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


@_reduction
def mean(x, axis=None, keepdims=False):
    """y = sum of x over `axis`, divided by their number."""
    x = _floating(as_array(x))
    return sum(x, axis=axis, keepdims=keepdims) / _count(x, axis)


@_reduction
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


@_reduction
def std(x, axis=None, keepdims=False, ddof=0):
    """y = sqrt(var(x)).  Its slope is 0 where the variance is 0, at the bottom of |x|'s kind."""
    variance = var(x, axis, keepdims, ddof)
    flat = equal(variance, 0.0)
    return where(flat, 0.0, sqrt(where(flat, 1.0, variance)))


@_method
def split(x, sections, axis=0):
    """(B, 4 H) -> four of (B, H): x cut along `axis` into equal parts, or before each index.

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


@_method
def outer(a, b):
    """y[i, j] = a[i] b[j], of all elements of a and b."""
    return multiply(reshape(flatten(a), (-1, 1)), flatten(b))


@_method
def flatten(x, start=0, end=-1):
    """The axes from `start` to `end`, both included, as one: (B, 2, 3) -> (B, 6) of start=1."""
    x = as_array(x)
    shape = tuple(x.shape) or (1,)
    first, last = (canonical_axis(a, len(shape), "flatten: axis") for a in (start, end))
    if first > last:
        raise ShapeError(f"flatten: start={start} comes after end={end} in {list(shape)}.")
    return reshape(x, (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))


@_method
def clone(x):
    """y = x in memory of its own; the gradient comes back unchanged."""
    return as_array(x).copy()


@_reduction
def prod(x, axis=None, keepdims=False):
    """y = product of x over `axis`. Its gradient is right where elements are 0, too."""
    x = as_array(x)
    axes = canonical_axes(axis, len(x.shape))
    kept = [i for i in range(len(x.shape)) if i not in axes]
    y = transpose(x, [*axes, *kept]) if axes else x
    shape = [x.shape[i] for i in kept]
    n = _count(x, axis)
    y = reshape(y, (n, *shape))
    while n > 1:  # halves, as a rule with y / x would divide by 0
        half = n // 2
        pairs = multiply(y[:half], y[half : 2 * half])
        y = concatenate([pairs, y[2 * half :]]) if n % 2 else pairs
        n -= half
    whole = [1 if i in axes else size for i, size in enumerate(x.shape)] if keepdims else shape
    return reshape(y, whole) if n else sum(x, axis, keepdims) + 1


@_reduction
def norm(x, p=2, axis=None, keepdims=False):
    """y = (sum |x|^p)^(1/p) over `axis` (None: of all elements); p = inf: the largest |x|.

    Neither overflows nor loses small x, and its gradient at x = 0 is 0.
    """
    if not p > 0:
        raise ValueError(f"norm: p must be > 0, or inf, got {p}.")
    size = abs(_floating(as_array(x)))
    if 0 in (size.shape[i] for i in canonical_axes(axis, len(size.shape))):
        return sum(size, axis, keepdims)
    top = max(size, axis, keepdims=True)
    if p != math.inf and p != 1:
        top = top.detach() if hasattr(top, "detach") else top
        scale = where(logical_and(greater(top, 0.0), less(top, math.inf)), top, 1.0)
        total = sum(power(divide(size, scale), p), axis, keepdims=True)
        zero = equal(total, 0.0)
        root = power(where(zero, 1.0, total), 1.0 / p)
        top = where(zero, 0.0, multiply(scale, root))
    elif p == 1:
        return sum(size, axis, keepdims)
    return top if keepdims else sum(top, axis)


@_reduction
def any(x, axis=None, keepdims=False):
    """y = (some element of x over `axis` is not 0), a mask."""
    return greater(sum(not_equal(as_array(x), 0), axis, keepdims), 0)


@_reduction
def all(x, axis=None, keepdims=False):
    """y = (no element of x over `axis` is 0), a mask."""
    return equal(sum(equal(as_array(x), 0), axis, keepdims), 0)


@_method
def round(x, decimals=0):
    """y = x to `decimals` places, ties to even. Its gradient is 0 everywhere."""
    if not decimals:
        return nearest(x)
    scale = 10.0 ** builtins.abs(decimals)
    if decimals < 0:
        return multiply(nearest(divide(x, scale)), scale)
    return divide(nearest(multiply(x, scale)), scale)


def repeat(x, repeats, axis=None):
    """(T, H) -> (T * repeats, H) for axis 0, each element in turn; None: of x.flatten().

    repeats: one number, or one for each element. torch's t.repeat is tile.
    """
    x = as_array(x)
    if axis is None:
        x, axis = flatten(x), 0
    axis = canonical_axis(axis, len(x.shape), "repeat: axis")
    try:
        places = np.repeat(np.arange(x.shape[axis]), plain(plain_index(repeats)))
    except (ValueError, TypeError) as error:
        raise ShapeError(
            f"repeat: axis {axis} of {list(x.shape)} with repeats {repeats!r}: {error}."
        ) from None
    return take(x, places, axis)


def _repeat(x, *repeats, axis=None):
    """mg.repeat(x, repeats, axis), the axis by its name: torch's t.repeat(2, 1) is tile."""
    if len(repeats) != 1 or axis is None:
        given = ", ".join(map(repr, repeats))
        raise TypeError(
            f"t.repeat({given}): NumPy's repeats elements, along an axis, and torch's repeats the "
            f"whole. Write t.repeat(n, axis=...), or for the latter t.tile({repeats})."
        )
    return repeat(x, repeats[0], axis)


METHODS["repeat"] = _repeat


@_method
def tile(x, reps):
    """(T, H) -> (T, H * reps), the whole of x in turn; reps: a number, or one for each axis."""
    x = as_array(x)
    try:
        reps = tuple(map(operator.index, np.ravel(reps).tolist()))
    except TypeError:
        raise ShapeError(f"tile: reps {reps!r}: expected one integer, or several.") from None
    n = builtins.max(len(reps), len(x.shape))
    reps, shape = (1,) * (n - len(reps)) + reps, (1,) * (n - len(x.shape)) + tuple(x.shape)
    pairs = [part for pair in zip(reps, shape, strict=True) for part in pair]
    apart = [part for size in shape for part in (1, size)]
    y = broadcast_to(reshape(x, apart), pairs)
    return reshape(y, [r * size for r, size in zip(reps, shape, strict=True)])


def moved(x, source, to):
    """x with the axis `source` at the place `to`."""
    axes = list(range(len(x.shape)))
    axes.insert(to, axes.pop(source))
    return transpose(x, axes)


def _count(x, axis):
    return math.prod(x.shape[i] for i in canonical_axes(axis, len(x.shape)))
