"""Long products of matrices, of which the numbers themselves would underflow or overflow.

A product of T factors is kept as matrix * 2^exponent. Its singular values, which spread over more
decades than a float has, come from the QR factors of one matrix after the other,

    A_k Q_{k-1} = Q_k R_k,        A_T ... A_1 = Q_T (R_T ... R_1),

where the product on the right is kept as diag(2^k) V, with rows of V of size 1 (see graded.py; G.
W. Stewart, "On graded QR decompositions of products of matrices", 1994, is about such forms).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from . import graded

Array = np.ndarray
PASSES = 3
WELL, ILL = 1e4, 1e7  # condition numbers with which a triangle is right, and of little use
EPS = float(np.finfo(np.float64).eps)


class PrecisionWarning(UserWarning):
    """Numbers that are less certain than their digits look."""


class Scaled(NamedTuple):
    """matrix * 2^exponent: matrix (B, m, n), its largest entry in [0.5, 1); exponent (B,) ints."""

    matrix: Array
    exponent: Array

    @property
    def value(self) -> Array:
        """The matrix itself; what a float cannot hold becomes 0 or inf."""
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(np.ldexp(self.matrix, self.exponent[:, None, None]))

    @property
    def log_scale(self) -> Array:
        """log(2^exponent), (B,)."""
        return np.asarray(self.exponent * np.log(2.0))

    @property
    def log_norm(self) -> Array:
        """The natural logarithm of the largest singular value, (B,); -inf of zeros."""
        finite = np.isfinite(self.matrix).all(axis=(1, 2))
        matrix = np.where(finite[:, None, None], self.matrix, 0.0)
        first = np.linalg.svd(matrix, compute_uv=False)[:, 0]
        with np.errstate(divide="ignore"):
            return np.where(finite, np.log(first) + self.log_scale, np.nan)


def product(factors: Array, start: Array) -> Scaled:
    """factors[-1] @ ... @ factors[0] @ start; factors (T, B, n, n), start (n, m)."""
    found = np.broadcast_to(start, (factors.shape[1], *start.shape)).copy()
    exponent = np.zeros(factors.shape[1], dtype=np.int64)
    with np.errstate(all="ignore"):  # Inf and NaN are data here
        for factor in factors:
            found, more = _scaled(factor @ found)
            exponent += more
    return Scaled(found, exponent)


def _scaled(a: Array) -> tuple[Array, Array]:
    """a by powers of two, which are exact, such that its largest entry is about 1."""
    _, more = np.frexp(np.abs(a).max(axis=(1, 2), initial=0.0))
    return np.ldexp(a, -more[:, None, None]), more.astype(np.int64)


def log_singular_values(factors: Array, start: Array, end: Array, rows: int) -> tuple[Array, Array]:
    """log singular values of end @ factors[-1] @ ... @ factors[0] @ start, (B, r), largest first.

    factors (T, B, n, n); start (n, m), end (p, n): columns and rows of the identity. r = min(m, p).
    nan for a row of the batch with a factor that is not finite. And the rows of which nine digits
    are not certain.
    """
    if len(end) < start.shape[1]:  # the transposed product has the same, and fewer columns
        return log_singular_values(np.swapaxes(factors[::-1], 2, 3), end.T, start.T, rows)
    good = np.isfinite(factors).all(axis=(0, 2, 3))
    found, loose = np.full((rows, start.shape[1]), np.nan), np.zeros(0, dtype=bool)
    if good.any():
        found[good], loose = _log_singular_values([*factors[:, good], end], start, int(good.sum()))
    return found, np.flatnonzero(good)[loose]


def _log_singular_values(factors: Sequence[Array], start: Array, rows: int) -> tuple[Array, Array]:
    """The values (B, r), and which rows did not settle (B,).

    Directions that happen to be badly chosen leave a triangle whose rows nearly depend on each
    other; those of that triangle are better ones.
    """
    q = np.broadcast_to(start, (rows, *start.shape))
    k, v = _triangle(factors, q)
    for _ in range(PASSES - 1):
        ill = graded.condition(v) >= WELL
        if not ill.any():
            break
        q = q.copy()
        q[ill] = q[ill] @ graded.directions(k[ill], v[ill])
        k[ill], v[ill] = _triangle([*(f[ill] for f in factors[:-1]), factors[-1]], q[ill])
    values, settled = graded.log_singular_values(k, v)
    return values, ~settled | (graded.condition(v) > ILL)


def _triangle(factors: Sequence[Array], q: Array) -> tuple[Array, Array]:
    """k, v with the singular values of factors[-1] @ ... @ factors[0] @ q in diag(2^k) v.

    Before each step the directions are put in order, the largest first: otherwise one that grows
    could hide behind one that shrinks.
    """
    rows, _, m = q.shape
    k = np.zeros((rows, m), dtype=np.int64)
    v = np.broadcast_to(np.eye(m), (rows, m, m))
    for factor in factors:
        a = factor @ q
        _, size = np.frexp(np.abs(a).max(axis=-2, initial=0.0))
        size = size + k
        if (size[:, 1:] > size[:, :-1]).any():
            order = np.argsort(-size, axis=-1, kind="stable")
            k = np.take_along_axis(k, order, axis=-1)
            v = np.take_along_axis(v, order[..., None], axis=-2)
            a, q = (np.take_along_axis(x, order[:, None, :], axis=-1) for x in (a, q))
        q, r = qr(a, _added(factor, q), by_size=True)
        k, v = graded.times(r, k, v)
    return k, v


def _added(factor: Array, q: Array) -> Callable[[], Array]:
    """How large what was added up to each column of factor @ q was."""
    return lambda: _norms(np.abs(factor) @ np.abs(q))


def pushed(factor: Array, q: Array) -> tuple[Array, Array]:
    """Q, R of factor @ q, for a q with orthonormal columns."""
    a = factor @ q
    return qr(a, _added(factor, q))


def qr(
    a: Array, terms: Callable[[], Array] | None = None, by_size: bool = False
) -> tuple[Array, Array]:
    """Q, R of each matrix, with zeros in R where there is nothing but rounding.

    A column with one on the diagonal has lost its direction: the rank is less. What is left of it
    is noise, which would read as a singular value of 1e-16. terms(): how large what was added up to
    each column was; the largest column if left out. Columns may differ in size by any factor;
    by_size: rows, too, for half as much time again.
    """
    size = np.abs(a).max(axis=-2, initial=0.0)
    scale = np.where((size > 0) & np.isfinite(size), size, 1.0)[..., None, :]
    q, r = (_qr_of_sorted if by_size else np.linalg.qr)(a / scale)
    r = r * scale
    diagonal = np.abs(np.diagonal(r, axis1=-2, axis2=-1))
    noise = 2 * max(a.shape[-2:]) * EPS
    largest = size.max(axis=-1, keepdims=True)
    if (diagonal <= noise * 8 * np.sqrt(a.shape[-2]) * largest).any():  # worth a closer look
        added = largest if terms is None else terms()
        lost = np.abs(r) <= noise * np.maximum(added, size)[..., None, :]
        r = np.where(lost, 0.0, r)
    return q, r


def _qr_of_sorted(a: Array) -> tuple[Array, Array]:
    """Q, R of each matrix, by way of its rows in order of their size, the largest first.

    So rounding is small beside every row, not only beside the largest (N. J. Higham, "Accuracy and
    stability of numerical algorithms", 2002, section 19.4), which long products of triangles need.
    """
    order = np.argsort(-np.abs(a).max(axis=-1, initial=0.0), axis=-1, kind="stable")[..., None]
    q, r = np.linalg.qr(np.take_along_axis(a, order, axis=-2))
    back = np.empty_like(q)
    np.put_along_axis(back, order, q, axis=-2)
    return back, np.asarray(r)


def _norms(a: Array) -> Array:
    """Euclidean norms of the columns, which do not underflow."""
    size = np.abs(a).max(axis=-2, keepdims=True, initial=0.0)
    scale = np.where(size > 0, size, 1.0)
    return np.asarray((scale * np.sqrt(((a / scale) ** 2).sum(axis=-2, keepdims=True)))[..., 0, :])
