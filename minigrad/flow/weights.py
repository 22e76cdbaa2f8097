"""The gradient of a weight, taken apart: what each step added, and what came from how far.

    dL/dW = sum_t (dS_t/dW)^T dL/dS_t

Each t is one term. A term can be split once more, by the lag between the use of the weight and the
output whose loss it serves: the gradient from each output travels back on its own, and as
everything is linear, all outputs travel at once, as rows of one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FlowError, ShapeError
from ..tape import no_grad
from ..tree import leaves, rebuild
from .detail import Names, back, norm
from .onestep import OneStep, leaf
from .replaying import Replay

Array = np.ndarray
Step = Callable[[int, Any, Any, Any, list[Any]], list[Any]]


@dataclass
class WeightFlow:
    """The gradient of one weight, taken apart; arrays of norms (Euclidean, over the whole weight).

    by_step: (T,), entry k is |the term of step k|, in order of computation. by_lag: (T,), entry k
    is |the part that travelled k steps|: from the use of the weight to an output that the loss
    reads. total: the whole gradient, the sum of the terms of either kind; but where gradients are
    clipped or clamped in the step there are no parts by lag, as they would not add up, and by_lag
    is nan.
    """

    by_step: Array
    by_lag: Array
    total: Array


def terms(replay: Replay) -> dict[str, Array]:
    """name -> dL/dW of each step by itself, (T, *shape), in order of computation."""
    terms: dict[str, list[Array]] = {}

    def keep(name: str, k: int, g: Array) -> None:
        terms.setdefault(name, [np.zeros_like(g)] * replay.steps)[k] = g

    back(replay, keep)
    return {name: np.stack(series) for name, series in terms.items()}


def nothing(replay: Replay) -> dict[str, Array]:
    """name -> zeros (T, *shape): the terms of a call that no gradient reached."""
    names = Names(replay.weights)
    return {names.of(w): np.zeros((replay.steps, *a.shape), a.dtype) for w, a in replay.weights}


def by_lag(replay: Replay, keep: Callable[[str, int, Array], None]) -> None:
    """keep(name, lag, g): the part of dL/dW that travelled `lag` steps, for every lag.

    At lag 0 the gradient comes straight from the outputs of the step (and from the final state,
    at a row's last step); each further lag is one step back, for all steps side by side.
    """
    names = Names(replay.weights)
    found: dict[str, tuple[Any, float]] = {}  # name -> the sum of its parts, and of their norms

    def step(lag: int, cell: Any, state: Any, x: Any, seeds: list[Any]) -> list[Any]:
        run = OneStep(cell, state, x)
        pulled = run.back(seeds)
        for target, g in run.outer():
            name = names.of(target)
            total, size = found.get(name, (0.0, 0.0))
            found[name] = total + g, size + norm(g)
            keep(name, lag, g)
        return pulled

    walk_lags(replay, step, range(replay.rows))
    for name, whole in replay.detail.totals.items():
        total, size = found.get(name, (0.0, 0.0))
        if norm(total - whole) > np.sqrt(np.finfo(whole.dtype).eps) * (size + norm(whole)):
            raise _NoPartsError(
                f"weights by lag: the parts of {name} do not add up to its gradient, as the step "
                f"clips or clamps gradients, or adds noise; read weight_terms('step')."
            )


def walk_lags(replay: Replay, step: Step, rows: Sequence[int]) -> None:
    """step(lag, cell, state, x, gradients of what it leaves) -> gradients of the state, lag by lag.

    All steps of these rows are the rows of one batch, of which each lag drops the first steps.
    Raises FlowError for a cell that reads something of each row and takes no other rows, and for
    one that mixes rows.
    """
    try:
        _walk_lags(replay, step, list(rows))
    except ShapeError as error:
        raise FlowError(
            f"weights by lag: all steps run as the rows of one batch, which this cell cannot: "
            f"{error} Terms by 'step' do not need that."
        ) from None


class _NoPartsError(FlowError):
    """BPTT is not linear, so that a gradient has no parts by lag."""


def _walk_lags(replay: Replay, step: Step, rows: list[int]) -> None:
    replay.check()
    states = [[s._array[rows] for s in leaves(state)] for state in replay.states]
    n, steps = len(states[0]), replay.steps
    before = [np.concatenate([s[j] for s in states[:-1]]) for j in range(n)]
    inputs = [_in_order(replay, x._array, rows) for x in leaves(replay.xs)]
    last = [replay.final_gradients.get(j) for j in range(n)]
    carried: list[Any] = [_at_ends(replay, g, rows) for g in last]
    ys = leaves(replay.outputs_at(0))
    arrived: list[Any] = [
        _in_order(replay, g, rows) if (g := replay.y_gradients.get(j)) is not None else None
        for j in range(len(ys))
    ]
    with replay.restored():
        for lag in range(steps):
            if all(g is None or not np.any(g) for g in (*carried, *arrived)):
                return
            alive = (steps - lag) * len(rows)
            state = rebuild(replay.init, [leaf(s[:alive]) for s in before])
            x = rebuild(replay.xs, [leaf(x[:alive]) for x in inputs])
            cell = replay.cell_of(rows * (steps - lag))
            if not lag:
                _check_rows(cell, state, x, states[1:])
            pulled = step(lag, cell, state, x, [*carried, *arrived])
            # what reached the state before step k now leaves step k - 1
            carried = [
                None if g is None else _uncut(replay, g, len(rows))[len(rows) :] for g in pulled
            ]
            arrived = [None] * len(ys)


def _check_rows(cell: Any, state: Any, x: Any, left: list[list[Array]]) -> None:
    """Raises FlowError unless steps side by side leave the states that they left one by one."""
    with no_grad():
        new = leaves(cell(state, x)[0])
    for side_by_side, one_by_one in zip(new, zip(*left, strict=True), strict=True):
        dtype = side_by_side.dtype
        loose = np.finfo(dtype).eps ** 0.5 if dtype.kind == "f" else 0.0
        known = np.concatenate(one_by_one)
        if not np.allclose(side_by_side._array, known, loose, loose, equal_nan=True):
            raise FlowError(
                "weights by lag: steps that run as the rows of one batch leave other states than "
                "one after the other: the cell mixes the rows of its batch, or is another one at "
                "every call. Terms by 'step' do not need that."
            )


def parts(replay: Replay) -> dict[str, Array]:
    """name -> the part of dL/dW of each lag, (T, *shape)."""
    parts: dict[str, list[Array]] = {}

    def keep(name: str, lag: int, g: Array) -> None:
        parts.setdefault(name, [np.zeros_like(g)] * replay.steps)[lag] = g

    by_lag(replay, keep)
    return {name: np.stack(series) for name, series in parts.items()}


def flows(replay: Replay) -> dict[str, WeightFlow]:
    """name -> the norms of the terms of both kinds."""
    lags: dict[str, Array] = {}

    def keep(name: str, lag: int, g: Array) -> None:
        lags.setdefault(name, np.zeros(replay.steps))[lag] = norm(g)

    none = np.zeros(replay.steps)
    try:
        by_lag(replay, keep)
    except _NoPartsError:
        lags, none = {}, none * np.nan
    found = replay.detail
    return {
        name: WeightFlow(found.norms[name], lags.get(name, none), total)
        for name, total in sorted(found.totals.items())
    }


def _in_order(replay: Replay, xs: Array, rows: list[int]) -> Array:
    """(T, B, ...) -> (T * rows, ...), in order of computation."""
    picked = xs[replay.order][:, rows]
    return picked.reshape(-1, *xs.shape[2:])


def _at_ends(replay: Replay, g: Array | None, rows: list[int]) -> Array | None:
    """The gradient of the final state at the rows' last steps, (T * rows, ...), zero elsewhere."""
    if g is None:
        return None
    wide = np.zeros((replay.steps, *g.shape), g.dtype)
    seen = replay.ends_seen
    wide[replay.ends[seen], np.flatnonzero(seen)] = g[seen]
    return wide[:, rows].reshape(-1, *g.shape[1:])


def _uncut(replay: Replay, g: Array, rows: int) -> Array:
    """g without the parts that a truncated scan does not pass on to the step before."""
    if replay.truncate is None:
        return g
    g = g.copy()
    for k in range(0, len(g) // rows, replay.truncate):
        g[k * rows : (k + 1) * rows] = 0
    return g
