"""Fixed points of a cell under an input that stays, and how states move near them.

    F(S) = cell(S, x) - S        S* is fixed if F(S*) = 0;  |F(S)| is the speed at S
    S_k - S*  ->  J (S_k - S*),  J = d cell(S*, x)/dS      near S*, to first order

From every start the speed is minimised by steps d of Levenberg and Marquardt, and what comes near
zero is polished by Newton's:

    ((J - I)^T (J - I) + mu I) d = -(J - I)^T F            (J - I) d = -F

    found = mg.flow.fixed_points(cell, xs=xs, x=np.zeros((1, 3)))    # from states xs lead to
    print(found)                                    # how many, of which kind, how fast
    found.points, found.eigenvalues

(D. Sussillo, O. Barak, "Opening the black box: low-dimensional dynamics in high-dimensional
recurrent neural networks", 2013. K. Madsen, H. B. Nielsen, O. Tingleff, "Methods for non-linear
least squares problems", 2004, algorithm 3.16, for how mu is chosen.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import FlowError
from ..tensors import as_tensor
from ..tree import leaves, map_leaves, rebuild
from .linearised import FixedPoints, kind_of
from .speed import Speed
from .steps import Trajectory

Array = np.ndarray
TOLERANCE = {4: 1e-5, 8: 1e-10}  # of |F| beside 1 + |S|, for float32 and float64
PATIENCE, IDLE = 10, 1e-3  # so many steps that each take less than that from |F|^2 are enough
POLISH = 30  # Newton steps at most; where J - I is singular they gain a factor of two or so each


def fixed_points(
    cell: Any,
    starts: Any = None,
    x: Any = None,
    xs: Any = None,
    many: int = 128,
    tol: float | None = None,
    merge: float | None = None,
    iterations: int = 300,
    seed: int = 0,
) -> FixedPoints:
    """The fixed points S* = cell(S*, x)[0] that are reached from a batch of starts.

    cell: (state, x) -> (state, y) as for `mg.scan`, or a layer of mg.nn in one direction (its
        layers' states are one state).
    starts: a tree of float Tensors (R, ...), R states to start from. Or xs, a tree (T, B, ...):
        then `many` of the states that it leads to from init_state are drawn (with `seed`). Fixed
        points that no start leads to are not found; more starts, from where the net is at work,
        find more.
    x: the input that stays: one step of one row, a tree of arrays (1, ...); None for a cell that
        reads no input.
    tol: a point is fixed if |F| <= tol (1 + |S|) and its place is known: the next step of Newton's
        would be shorter than a tenth of `merge`. 1e-10 if left out (float32: 1e-5).
    merge: points nearer than merge (1 + |S|) are one; sqrt(tol) if left out.
    What did not get there within `iterations` steps, or rests at a least speed above zero, is in
    `unresolved`: a slow point, of which it cannot be told whether there is a fixed point nearby.
    It runs in the dtype of the cell. Each iteration costs n walks back through one step of all
    starts, and solves a system of n equations for each.
    Raises FlowError for a cell that draws at random, for starts that are missing, and for numbers
    that make no sense; ShapeError for an x of several rows.

    >>> import minigrad as mg
    >>> found = fixed_points(lambda h, x: (mg.tanh(2.0 * h), h), np.linspace(-2, 2, 9)[:, None])
    >>> found.points.round(6).ravel().tolist(), found.kinds
    ([-0.957504, 0.957504, 0.0], ['stable', 'stable', 'repeller'])
    >>> found.eigenvalues.real.round(6).ravel().tolist()
    [0.166372, 0.166372, 2.0]
    """
    _check_still(cell)
    if starts is None:
        starts = _visited(cell, xs, _count("many", many), seed)
    elif xs is not None:
        raise FlowError("fixed_points: takes starts, or xs to find some, not both.")
    iterations = _count("iterations", iterations)
    starts = map_leaves(as_tensor, starts)
    speed = Speed(cell, starts, x)
    tol = _small("tol", TOLERANCE.get(speed.itemsize, 1e-10) if tol is None else tol)
    merge = _small("merge", tol**0.5 if merge is None else merge)
    s = speed.first.copy()
    f, a = np.empty(s.shape), np.empty((*s.shape, s.shape[1]))
    for rows in speed.groups():
        _descend(speed, s, f, a, rows, tol, iterations)
    rows = np.flatnonzero(_near(f, s, tol))
    step = np.full(s.shape, np.inf)
    step[rows] = _polish(speed, s, f, a, rows, merge)
    fixed = _near(f, s, tol) & _near(step, s, 0.1 * merge)
    return _described(speed, s, f, a, step, fixed, merge)


@np.errstate(all="ignore")  # Inf and NaN are data here
def _descend(
    speed: Speed, s: Array, f: Array, a: Array, rows: Array, tol: float, iterations: int
) -> None:
    """Minimises |F|^2 / 2 over some rows of s, in place, with f and a = J - I there."""
    f[rows], a[rows] = speed.at(s, rows)
    mu, nu, idle = np.zeros(len(s)), np.full(len(s), 2.0), np.zeros(len(s), dtype=int)
    # careful at first: Newton's steps from afar leave the valley that a start is in
    mu[rows] = (a[rows] ** 2).sum(axis=1).max(axis=1) + 1e-12
    finite = np.isfinite(s[rows] + f[rows]).all(axis=1) & np.isfinite(a[rows]).all(axis=(1, 2))
    going = rows[finite]
    for _ in range(iterations):
        going = going[~_near(f[going], s[going], tol)]
        if not going.size:
            return
        here, now = a[going], f[going]
        slope = np.einsum("rij,ri->rj", here, now)
        system = np.swapaxes(here, 1, 2) @ here
        system += mu[going, None, None] * np.eye(s.shape[1])
        d = -np.linalg.solve(system, slope[..., None])[..., 0]
        trial = s.copy()
        trial[going] = speed.rounded(s[going] + d)
        new, new_a = speed.at(trial, going)
        speeds = (now**2).sum(axis=1)
        less = speeds - (new**2).sum(axis=1)
        gain = less / (d * (mu[going, None] * d - slope)).sum(axis=1)
        better = (less > 0) & np.isfinite(new_a).all(axis=(1, 2))
        took, gain = going[better], np.minimum(gain[better], 1.0)
        s[took], f[took], a[took] = trial[took], new[better], new_a[better]
        mu[took] *= np.maximum(1 / 3, 1 - (2 * gain - 1) ** 3)
        nu[took] = 2.0
        failed = going[~better]
        mu[failed] *= nu[failed]
        nu[failed] *= 2
        idle[going] = np.where(less < IDLE * speeds, idle[going] + 1, 0)
        # a step that is lost in rounding, or gains that are nothing any more: it rests there
        rests = (_norm(d) <= 1e-15 * (1 + _norm(s[going]))) | (idle[going] >= PATIENCE)
        going = going[~rests]


def _polish(speed: Speed, s: Array, f: Array, a: Array, rows: Array, merge: float) -> Array:
    """Newton's steps, in place, as long as they make |F| smaller; the step that would come next."""
    step = np.zeros((len(s), s.shape[1]))
    step[rows] = _newton(a[rows], f[rows], merge)
    going = rows
    for _ in range(POLISH):
        going = going[_norm(f[going]) > 0]
        if not going.size:
            break
        trial = s.copy()
        trial[going] = speed.rounded(s[going] + step[going])
        new, new_a = speed.at(trial, going)
        better = _norm(new) < _norm(f[going])
        going = going[better]
        s[going], f[going], a[going] = trial[going], new[better], new_a[better]
        step[going] = _newton(a[going], f[going], merge)
    return step[rows]


def _newton(a: Array, f: Array, merge: float) -> Array:
    """d with a d = -f; where a is singular, the least."""
    try:
        d = -np.linalg.solve(a, f[..., None])[..., 0]
    except np.linalg.LinAlgError:
        d = np.full(f.shape, np.inf)
    far = ~(_norm(d) <= 0.1 * merge)
    if far.any():  # rounding over next to nothing, in the directions in which all states are fixed
        d[far] = -(np.linalg.pinv(a[far], rcond=1e-12) @ f[far, :, None])[..., 0]
    return np.asarray(d)


def _described(
    speed: Speed, s: Array, f: Array, a: Array, step: Array, fixed: Array, merge: float
) -> FixedPoints:
    """The points that rows came to, each once, the most stable first."""
    labels, first = _merged(s, _norm(f), fixed, merge)
    moved = s.copy()
    moved[first] = speed.rounded(s[first] + step[first])
    changes = speed.at(moved, first)[1] - a[first]
    jacobians = a[first] + np.eye(s.shape[1])
    eps = float(np.finfo(f"f{speed.itemsize}").eps)
    found = [kind_of(J, change, eps) for J, change in zip(jacobians, changes, strict=True)]
    counts = np.bincount(labels[fixed], minlength=len(first))
    order = np.lexsort([-counts, np.array([kind.growing for kind in found], dtype=int)])
    place = np.append(np.argsort(order), -1)  # the last is that of rows at no point
    return FixedPoints(
        points=speed.tree(s[first][order]),
        residuals=_norm(f)[first][order],
        jacobians=jacobians[order],
        eigenvalues=np.array([found[i].eigenvalues for i in order]).reshape(-1, s.shape[1]),
        kinds=[found[i].kind for i in order],
        labels=place[labels],
        unresolved=speed.tree(s[~fixed]),
        speeds=_norm(f)[~fixed],
        parts=speed.path.parts,
    )


def _merged(s: Array, residuals: Array, fixed: Array, merge: float) -> tuple[Array, Array]:
    """(R,) the number of the point that each row is at, -1 if none; and a row for each point."""
    labels = np.full(len(s), -1)
    first: list[int] = []
    for i in np.argsort(residuals, kind="stable"):
        if not fixed[i]:
            continue
        near = _near(s[first] - s[i], s[i], merge)
        if near.any():
            labels[i] = int(np.argmax(near))
        else:
            labels[i] = len(first)
            first.append(int(i))
    return labels, np.array(first, dtype=int)


def _visited(cell: Any, xs: Any, many: int, seed: int) -> Any:
    """So many of the states that xs lead to, drawn without repetition; all if there are fewer."""
    if not leaves(xs):
        raise FlowError(
            "fixed_points: takes starts, a tree of Tensors (R, ...) to start from, or xs, (T, B, "
            "...), to start from states that they lead to."
        )
    path = Trajectory("fixed_points", cell, None, xs)
    all_states = [s.reshape(-1, *s.shape[2:]) for s in path.states]
    rows = len(all_states[0])
    chosen = np.random.default_rng(seed).permutation(rows)[:many]
    return rebuild(path.init, [s[chosen] for s in all_states])


def _check_still(cell: Any) -> None:
    for part in getattr(cell, "cells", [cell]):
        if hasattr(part, "draw") and part.draw(1, 1) is not None:
            raise FlowError(
                f"fixed_points: {type(part).__name__} draws at random at every step, so no state "
                f"is fixed; call .eval() first."
            )


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise FlowError(f"fixed_points: {name} is an integer >= 1; got {value!r}.")
    return int(value)


def _small(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise FlowError(f"fixed_points: {name} is a number between 0 and 1; got {value!r}.")
    return float(value)


def _near(a: Array, s: Array, tol: float) -> Array:
    """Whether |a| is nothing beside 1 + |S|."""
    size = _norm(s)
    return np.isfinite(size) & (_norm(a) <= tol * (1 + size))


def _norm(a: Array) -> Array:
    return np.asarray(np.linalg.norm(a, axis=-1))
