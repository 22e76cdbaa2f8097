"""Long products of matrices, of which the numbers themselves would underflow or overflow.

A product of T factors is kept as matrix * 2^exponent. Its singular values, which spread over more
decades than a float has, come from the QR factors of one matrix after the other,

    A_k Q_{k-1} = Q_k R_k,        A_T ... A_1 = Q_T (R_T ... R_1),

where the triangular product is kept as diag(e^d) V, with rows of V of size 1. (G. W. Stewart, "On
graded QR decompositions of products of matrices", 1994, is about such forms.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Array = np.ndarray
SWEEPS = 200
EPS = float(np.finfo(np.float64).eps)


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


def log_singular_values(factors: Array, start: Array, end: Array, rows: int) -> Array:
    """log singular values of end @ factors[-1] @ ... @ factors[0] @ start, (B, r), largest first.

    factors (T, B, n, n); start (n, m), end (p, n): columns and rows of the identity. r = min(m, p).
    nan for a row of the batch with a factor that is not finite.
    """
    if len(end) < start.shape[1]:  # the transposed product has the same, and fewer columns
        return log_singular_values(np.swapaxes(factors[::-1], 2, 3), end.T, start.T, rows)
    good = np.isfinite(factors).all(axis=(0, 2, 3))
    found = np.full((rows, start.shape[1]), np.nan)
    if good.any():
        found[good] = _log_singular_values([*factors[:, good], end], start, int(good.sum()))
    return found


def _log_singular_values(factors: Sequence[Array], start: Array, rows: int) -> Array:
    q = np.broadcast_to(start, (rows, *start.shape))
    d = np.zeros((rows, start.shape[1]))
    v = np.broadcast_to(np.eye(start.shape[1]), (rows, start.shape[1], start.shape[1]))
    for factor in factors:
        q, r = pushed(factor, q)
        d, v = _times(r, d, v)
    return _settled(d, v)


def pushed(factor: Array, q: Array) -> tuple[Array, Array]:
    """Q, R of factor @ q, for a q with orthonormal columns."""
    a = factor @ q
    return qr(a, lambda: _norms(np.abs(factor) @ np.abs(q)))


def qr(a: Array, terms: Callable[[], Array] | None = None) -> tuple[Array, Array]:
    """Q, R of each matrix, with zeros on R's diagonal where there is nothing but rounding.

    Such a column has lost its direction: the rank is less. What is left of it is noise, which would
    read as a singular value of 1e-16. terms(): how large what was added up to each column was; the
    largest column if left out. Columns may differ in size by any factor.
    """
    size = np.abs(a).max(axis=-2, initial=0.0)
    scale = np.where((size > 0) & np.isfinite(size), size, 1.0)[..., None, :]
    q, r = np.linalg.qr(a / scale)
    r = r * scale
    diagonal = np.abs(np.diagonal(r, axis1=-2, axis2=-1))
    noise = max(a.shape[-2:]) * EPS
    largest = size.max(axis=-1, keepdims=True)
    if (diagonal <= noise * 8 * np.sqrt(a.shape[-2]) * largest).any():  # worth a closer look
        added = largest if terms is None else terms()
        lost = diagonal <= noise * np.maximum(added, size)
        r = np.where(lost[..., :, None] & np.eye(r.shape[-1], dtype=bool), 0.0, r)
    return q, r


def _norms(a: Array) -> Array:
    """Euclidean norms of the columns, which do not underflow."""
    size = np.abs(a).max(axis=-2, keepdims=True, initial=0.0)
    scale = np.where(size > 0, size, 1.0)
    return np.asarray((scale * np.sqrt(((a / scale) ** 2).sum(axis=-2, keepdims=True)))[..., 0, :])


def _times(r: Array, d: Array, v: Array) -> tuple[Array, Array]:
    """r diag(e^d) v in the form diag(e^d') v'."""
    with np.errstate(all="ignore"):
        reach = np.where(r != 0, d[..., None, :], -np.inf)
        top = reach.max(axis=-1)
        top = np.where(np.isfinite(top), top, 0.0)
        weights = np.where(r != 0, r * np.exp(d[..., None, :] - top[..., None]), 0.0)
        return _graded(top, weights @ v)


def _graded(d: Array, v: Array) -> tuple[Array, Array]:
    """The size of each row of v put into d."""
    size = np.abs(v).max(axis=-1)
    with np.errstate(divide="ignore"):
        return d + np.log(size), v / np.where(size > 0, size, 1.0)[..., None]


def _settled(d: Array, v: Array) -> Array:
    """log singular values of diag(e^d) v: QR of it and its transpose by turns, until d stays.

    Each turn leaves a triangle whose entries off the diagonal shrink by the ratio of two singular
    values; written with d apart, only those ratios appear, and none is above 1.
    """
    for _ in range(SWEEPS):
        order = np.argsort(-d, axis=-1, kind="stable")
        d = np.take_along_axis(d, order, axis=-1)
        v = np.take_along_axis(v, order[..., None], axis=-2)
        ratio = _ratios(d)  # e^(d_i - d_j) for i >= j
        upper: Array = np.asarray(np.linalg.qr(np.swapaxes(v, -1, -2), mode="r"))
        r: Array = np.asarray(np.linalg.qr(np.swapaxes(upper, -1, -2) * ratio, mode="r"))
        new, v = _graded(d, r * np.swapaxes(ratio, -1, -2))
        with np.errstate(invalid="ignore"):
            moved = np.abs(new - d)
        d = new
        if not (moved > 1e-14 * (1 + np.abs(d))).any():
            break
    return -np.sort(-d, axis=-1)


def _ratios(d: Array) -> Array:
    """e^(d_i - d_j) below the diagonal, 1 on it, 0 above; of zeros (d = -inf) too."""
    with np.errstate(invalid="ignore"):
        gaps = d[..., :, None] - d[..., None, :]
    below = np.tril(np.ones(gaps.shape[-2:], dtype=bool), -1)
    ratio = np.where(below, np.exp(np.where(np.isfinite(gaps), np.minimum(gaps, 0.0), -np.inf)), 0)
    return np.asarray(ratio + np.eye(d.shape[-1]))
