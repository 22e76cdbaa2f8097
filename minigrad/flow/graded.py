"""Singular values of a matrix whose rows differ by more than a float can hold.

    A = diag(2^k) V,        k integers, rows of V of size 1

A relative error of eps in V moves every singular value by at most eps cond(V) of itself, however
small that value is, and one-sided Jacobi rotations keep to that (J. Demmel, K. Veselic, "Jacobi's
method is more accurate than QR", 1992). A few turns of QR come first (Z. Drmac, K. Veselic, "New
fast and accurate Jacobi SVD algorithm", 2008): they are cheap, and settle what is far apart; the
rotations settle what lies close together, for which QR would take thousands of turns. Powers of two
are scaled apart, exactly, so that only ratios of rows are computed, and none above 1.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray
EPS = float(np.finfo(np.float64).eps)
GONE = -(1 << 40)  # the exponent of a row of zeros
FAR = 2200  # 2^-FAR is zero beside 1, whatever it multiplies
TURNS, SWEEPS = 8, 40


def scaled(k: Array, v: Array) -> tuple[Array, Array]:
    """The same matrices with the largest entry of each row in [0.5, 1). k (B, m), v (B, m, n)."""
    size = np.abs(v).max(axis=-1, initial=0.0)
    _, more = np.frexp(size)
    return np.where(size > 0, k + more, GONE), np.ldexp(v, -more[..., None])


def times(r: Array, k: Array, v: Array) -> tuple[Array, Array]:
    """r diag(2^k) v in the form diag(2^k') v', for any r (B, m, m)."""
    reach = np.where(r != 0, k[..., None, :], GONE)
    top = reach.max(axis=-1)
    return scaled(top, np.ldexp(r, _far(reach - top[..., None])) @ v)


def log_singular_values(k: Array, v: Array) -> tuple[Array, Array]:
    """Natural logarithms of the singular values of diag(2^k) v, (B, m), largest first; whether the
    rotations came to rest, (B,).
    """
    for _ in range(TURNS):
        k, v = _turned(k, v)
        if not _lean(v).any():
            break
    settled = np.ones(len(v), dtype=bool)
    for sweep in range(SWEEPS + 1):
        lean = _lean(v)
        settled = np.asarray(~lean.any(axis=(1, 2)))
        if settled.all() or sweep == SWEEPS:
            break
        k, v = _swept(k, v, np.flatnonzero(lean.any(axis=(0, 2))))
    there = k > GONE
    logs = np.log(np.where(there, _norms(v), 1.0)) + np.where(there, k, 0) * np.log(2.0)
    return -np.sort(-np.where(there, logs, -np.inf), axis=-1), settled


def condition(v: Array) -> Array:
    """The condition number of v with rows of length 1, (B,); zero rows do not count."""
    g = _cosines(v)
    least = np.linalg.eigvalsh(g + np.eye(g.shape[-1]))[..., 0]  # 1 on the diagonal
    with np.errstate(divide="ignore"):
        return np.asarray(np.sqrt(v.shape[-1] / np.maximum(least, 0.0)))


def directions(k: Array, v: Array) -> Array:
    """An orthogonal matrix (B, n, n), close to the right singular vectors of diag(2^k) v."""
    order = np.argsort(-k, axis=-1, kind="stable")
    return np.asarray(
        np.linalg.qr(np.swapaxes(np.take_along_axis(v, order[..., None], axis=-2), -1, -2))[0]
    )


def _turned(k: Array, v: Array) -> tuple[Array, Array]:
    """QR of the transpose, and QR of the transpose of what is left: a triangle closer to diagonal.

    Entries off the diagonal shrink by the square of the ratio of two singular values. v^T = Q U, so
    that diag(2^k) v has the singular values of (D U^T D^-1) D, D = diag(2^k), and so on.
    """
    order = np.argsort(-k, axis=-1, kind="stable")
    k = np.take_along_axis(k, order, axis=-1)
    v = np.take_along_axis(v, order[..., None], axis=-2)
    ratio = _far(k[..., :, None] - k[..., None, :])  # log2 of d_i / d_j, at most 0 for i >= j
    upper: Array = np.asarray(np.linalg.qr(np.swapaxes(v, -1, -2), mode="r"))
    lower = np.tril(np.ldexp(np.swapaxes(upper, -1, -2), ratio))
    r: Array = np.asarray(np.linalg.qr(lower, mode="r"))
    return scaled(k, np.triu(np.ldexp(r, np.swapaxes(ratio, -1, -2))))


def _swept(k: Array, v: Array, active: Array) -> tuple[Array, Array]:
    """Every pair of the active rows turned by the angle at which they are orthogonal, once.

    Pairs that share no row turn together, as in a tournament in which everyone meets everyone.
    """
    v = v.copy()
    for first, second in _rounds(active):
        size = _norms(v)
        log = np.where(size > 0, k + np.log2(np.where(size > 0, size, 1.0)), GONE)
        ahead = log[:, second] > log[:, first]
        p, q = np.where(ahead, second, first), np.where(ahead, first, second)
        _rotate(k, v, size, p, q)
    return scaled(k, v)


def _rotate(k: Array, v: Array, size: Array, p: Array, q: Array) -> None:
    """Makes rows p, the larger, and q, (B, pairs), of diag(2^k) v orthogonal, in place.

    With unit rows u, ratio rho <= 1 of their lengths and cosine g: tan = rho tau,
        tau = 2 g / (1 - rho^2 + hypot(1 - rho^2, 2 rho g)),
        u_p + rho^2 tau u_q,    u_q - tau u_p        (times cos, in units of the rows' lengths)
    """
    x, y = (np.take_along_axis(v, rows[..., None], axis=1) for rows in (p, q))
    a, b = (np.take_along_axis(size, rows, axis=1) for rows in (p, q))
    kp, kq = (np.take_along_axis(k, rows, axis=1) for rows in (p, q))
    with np.errstate(divide="ignore", invalid="ignore"):
        g = np.einsum("bpn,bpn->bp", x, y) / (a * b)
        rho = np.minimum(np.ldexp(b / a, np.clip(kq - kp, -FAR, FAR)), 1.0)
        gap = (1.0 - rho) * (1.0 + rho)
        tau = 2.0 * g / (gap + np.hypot(gap, 2.0 * rho * g))
        turns = (a > 0) & (b > 0) & (g != 0)
        tau = np.where(turns, tau, 0.0)
        cos = 1.0 / np.hypot(1.0, np.where(turns, rho, 0.0) * tau)
        grow = np.where(turns, rho * rho * tau * a / b, 0.0)
        shrink = np.where(turns, tau * b / a, 0.0)
    np.put_along_axis(v, p[..., None], cos[..., None] * (x + grow[..., None] * y), axis=1)
    np.put_along_axis(v, q[..., None], cos[..., None] * (y - shrink[..., None] * x), axis=1)


def _rounds(players: Array) -> list[tuple[Array, Array]]:
    """Rounds of pairs in which everyone meets everyone once; with an odd number one rests.

    >>> [(a.tolist(), b.tolist()) for a, b in _rounds(np.array([5, 6, 7]))]
    [([6], [7]), ([5], [7]), ([5], [6])]
    """
    seats = [*players.tolist(), *[-1] * (len(players) % 2)]
    rounds = []
    for _ in range(len(seats) - 1):
        half = len(seats) // 2
        pairs = zip(seats[:half], seats[: half - 1 : -1], strict=True)
        there = np.array([sorted(pair) for pair in pairs if -1 not in pair]).reshape(-1, 2)
        rounds.append((there[:, 0], there[:, 1]))
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return rounds


def _lean(v: Array) -> Array:
    """(B, m, m), which pairs of rows are further from orthogonal than rounding leaves them."""
    return np.abs(_cosines(v)) > 4.0 * np.sqrt(v.shape[-1]) * EPS


def _cosines(v: Array) -> Array:
    """Cosines between rows, (B, m, m), zero on the diagonal and for rows of zeros."""
    size = _norms(v)[..., None]
    unit = v / np.where(size > 0, size, 1.0)
    g: Array = unit @ np.swapaxes(unit, -1, -2)
    m = np.arange(g.shape[-1])
    g[..., m, m] = 0.0
    return g


def _norms(v: Array) -> Array:
    return np.asarray(np.sqrt(np.einsum("...n,...n->...", v, v)))


def _far(exponent: Array) -> Array:
    """Exponents of ratios that are at most 1; beyond FAR there is nothing."""
    return np.clip(exponent, -FAR, 0)
