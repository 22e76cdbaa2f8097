"""The gradient of a weight, taken apart: what each step added, and what came from how far.

    dL/dW = sum_t (dS_t/dW)^T dL/dS_t

Each t is one term. A term can be split once more, by the lag between the use of the weight and the
output whose loss it serves: the gradient from each output travels back on its own, and as
everything is linear, all outputs travel at once, as rows of one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FlowError, ShapeError
from ..tree import leaves, rebuild
from .detail import Names, back, norm
from .onestep import OneStep, leaf
from .replaying import Replay

Array = np.ndarray


@dataclass
class WeightFlow:
    """The gradient of one weight, taken apart; arrays of norms (Euclidean, over the whole weight).

    by_step: (T,), entry k is |the term of step k|, in order of computation. by_lag: (T,), entry k
    is |the part that travelled k steps|: from the use of the weight to an output that the loss
    reads. total: the whole gradient, the sum of the terms of either kind.
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

    def step(lag: int, state: Any, x: Any, seeds: list[Any]) -> list[Any]:
        run = OneStep(replay.cell, state, x)
        pulled = run.back(seeds)
        for target, g in run.outer():
            keep(names.of(target), lag, g)
        return pulled

    walk_lags(replay, step)


def walk_lags(
    replay: Replay,
    step: Callable[[int, Any, Any, list[Any]], list[Any]],
    sample: slice = slice(None),
) -> None:
    """step(lag, state, x, gradients of what it leaves) -> gradients of the state, lag by lag.

    All steps of the sample's rows are the rows of one batch, of which each lag drops the first.
    Raises FlowError for a cell that reads something of each row, and takes no other rows.
    """
    try:
        _walk_lags(replay, step, sample)
    except ShapeError as error:
        raise FlowError(
            f"weights by lag: all steps run as the rows of one batch, which this cell cannot: "
            f"{error} Terms by 'step' do not need that."
        ) from None


def _walk_lags(
    replay: Replay, step: Callable[[int, Any, Any, list[Any]], list[Any]], sample: slice
) -> None:
    replay.check()
    states = [leaves(s) for s in replay.states[:-1]]
    n = len(states[0])
    before = [np.concatenate([s[j]._data[sample] for s in states]) for j in range(n)]
    inputs = [_in_order(replay, x._data, sample) for x in leaves(replay.xs)]
    rows = len(before[0]) // replay.steps
    last = [replay.final_gradients.get(j) for j in range(n)]
    carried: list[Any] = [_at_ends(replay, g, sample) for g in last]
    ys = leaves(replay.outputs_at(0))
    arrived: list[Any] = [
        _in_order(replay, g, sample) if (g := replay.y_gradients.get(j)) is not None else None
        for j in range(len(ys))
    ]
    with replay.restored():
        for lag in range(replay.steps):
            if all(g is None or not np.any(g) for g in (*carried, *arrived)):
                return
            alive = (replay.steps - lag) * rows
            state = rebuild(replay.init, [leaf(s[:alive]) for s in before])
            x = rebuild(replay.xs, [leaf(x[:alive]) for x in inputs])
            pulled = step(lag, state, x, [*carried, *arrived])
            # what reached the state before step k now leaves step k - 1
            carried = [None if g is None else _uncut(replay, g, rows)[rows:] for g in pulled]
            arrived = [None] * len(ys)


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

    by_lag(replay, keep)
    found = replay.detail
    none = np.zeros(replay.steps)
    return {
        name: WeightFlow(found.norms[name], lags.get(name, none), total)
        for name, total in sorted(found.totals.items())
    }


def _in_order(replay: Replay, xs: Array, sample: slice) -> Array:
    """(T, B, ...) -> (T * rows, ...), in order of computation."""
    picked = xs[replay.order][:, sample]
    return picked.reshape(-1, *xs.shape[2:])


def _at_ends(replay: Replay, g: Array | None, sample: slice) -> Array | None:
    """The gradient of the final state at the rows' last steps, (T * rows, ...), zero elsewhere."""
    if g is None:
        return None
    wide = np.zeros((replay.steps, *g.shape), g.dtype)
    seen = replay.ends_seen
    wide[replay.ends[seen], np.flatnonzero(seen)] = g[seen]
    return wide[:, sample].reshape(-1, *g.shape[1:])


def _uncut(replay: Replay, g: Array, rows: int) -> Array:
    """g without the parts that a truncated scan does not pass on to the step before."""
    if replay.truncate is None:
        return g
    g = g.copy()
    for k in range(0, len(g) // rows, replay.truncate):
        g[k * rows : (k + 1) * rows] = 0
    return g
