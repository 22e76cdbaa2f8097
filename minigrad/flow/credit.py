"""Which step of which sequence taught a weight: its gradient by sample and by step, or by lag.

    dL/dW = sum_b sum_k g[k, b]

k is the step at which W was used, or how many steps the gradient had travelled to get there. Norms
do not add up; what does is the share of each term along the whole,

    share[k, b] = <g[k, b], dL/dW> / |dL/dW|^2,      sum_b sum_k share[k, b] = 1.

A negative one pulls the other way: without that step of that sequence the gradient were longer. All
of it is one compiled step at a time, of one row, or of one sample's steps side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..compile.outer import Target
from ..compile.scanning import scan
from ..errors import ShapeError, TraceError
from ..tape import state as switches
from ..tape import tick
from ..tensors import wrap
from ..tree import leaves, map_leaves
from . import weights
from .detail import Names, norm
from .onestep import OneStep, leaf, pulled
from .replaying import Replay
from .tables import number, table

Array = np.ndarray
Terms = Sequence[tuple[Target, Array]]  # (weight, its gradient)
Keep = Callable[[str, int, int, Array], None]  # (name, k, row, term)
SHOWN = 3  # terms of a weight in print(credit)


class Term(NamedTuple):
    """One term of a weight's gradient. step: its t, or its lag."""

    step: int
    row: int
    share: float
    norm: float


@dataclass(frozen=True)
class Credit:
    """The gradient of every weight of a layer by sample and by step or lag; `print` shows the most.

    by: "step" or "lag". steps: (T,), the t of each entry in order of computation, or the lags.
    norms: name -> |g[k, b]|, (T, B). shares: name -> <g[k, b], dL/dW> / |dL/dW|^2, (T, B), which
    add up to 1 (nan where dL/dW is zero, or not finite). totals: name -> |dL/dW|.
    """

    path: str
    by: str
    steps: Array
    norms: Mapping[str, Array]
    shares: Mapping[str, Array]
    totals: Mapping[str, float] = field(default_factory=dict)

    def top(self, name: str, count: int = 5) -> list[Term]:
        """The terms with the largest shares of either sign, the largest first."""
        if name not in self.shares:
            raise KeyError(f"{name!r}; known are {', '.join(map(repr, self.shares))}")
        shares, norms = self.shares[name], self.norms[name]
        order = np.argsort(-np.abs(shares), axis=None, kind="stable")[:count]
        found = []
        for k, row in zip(*np.unravel_index(order, shares.shape), strict=True):
            step, size = int(self.steps[k]), float(norms[k, row])
            found.append(Term(step, int(row), float(shares[k, row]), size))
        return found

    def __str__(self) -> str:
        rows = []
        for name, total in self.totals.items():
            if not np.isfinite(self.shares[name]).any():
                rows.append((name, number(total), "", "", "cannot be told", ""))
                continue
            for i, term in enumerate(self.top(name, SHOWN)):
                what = (name, number(total)) if i == 0 else ("", "")
                share = f"{100 * term.share:+.1f} %"
                rows.append((*what, str(term.row), str(term.step), share, number(term.norm)))
        head = ("weight", "|dL/dW|", "sample", "t" if self.by == "step" else "lag", "share", "|g|")
        where = f"{self.path}: " if self.path else ""
        return f"{where}what taught the weights\n\n{table(head, rows, right=range(1, 6))}"


def measured(replay: Replay, by: str, path: str, steps: Array) -> Credit:
    """The credit of a layer that a gradient reached."""
    totals = {name: np.asarray(g, np.float64) for name, g in replay.detail.totals.items()}
    own = set(_names(replay).names.values())
    totals = {name: totals[name] for name in sorted(totals) if name in own}
    sizes = {name: norm(g) for name, g in totals.items()}
    with np.errstate(all="ignore"):  # of a total of zero there are no shares
        along = {name: g / sizes[name] for name, g in totals.items()}
    norms = {name: np.zeros((replay.steps, replay.rows)) for name in totals}
    shares = {name: np.zeros((replay.steps, replay.rows)) for name in totals}

    def keep(name: str, k: int, row: int, g: Array) -> None:
        norms[name][k, row] = norm(g)
        with np.errstate(all="ignore"):
            shares[name][k, row] = np.sum(g * along[name]) / sizes[name]

    each(replay, by, keep)
    for name, size in sizes.items():
        if not 0 < size < np.inf:
            shares[name][:] = np.nan
    steps = steps if by == "step" else np.arange(replay.steps)
    return Credit(path, by, steps, norms, shares, sizes)


def none(replay: Replay, by: str, path: str, steps: Array) -> Credit:
    """The credit of a layer that no gradient reached."""
    names = sorted(_names(replay).names.values())
    zero, unknown = (np.full((replay.steps, replay.rows), x) for x in (0.0, np.nan))
    steps = steps if by == "step" else np.arange(replay.steps)
    norms, shares = dict.fromkeys(names, zero), dict.fromkeys(names, unknown)
    return Credit(path, by, steps, norms, shares, dict.fromkeys(names, 0.0))


def of_row(replay: Replay, by: str, row: int) -> dict[str, Array]:
    """name -> the terms of one sample, (T, *shape)."""
    found = weights.nothing(replay)

    def keep(name: str, k: int, row: int, g: Array) -> None:
        found[name][k] = g

    each(replay, by, keep, [row])
    return found


def each(replay: Replay, by: str, keep: Keep, rows: Sequence[int] | None = None) -> None:
    """keep(name, k, row, g) is told every term that is not zero, of these rows or of all."""
    rows = range(replay.rows) if rows is None else rows
    if by == "step":
        _by_step(replay, keep, rows)
        return
    for row in rows:
        _by_lag(replay, keep, row)


def _by_step(replay: Replay, keep: Keep, rows: Sequence[int]) -> None:
    replay.check()
    names = _names(replay)
    n = len(leaves(replay.init))
    carried: list[Any] = [replay.final_gradients.get(j) for j in range(n)]
    taken = _alone
    with replay.restored():
        for k in reversed(range(replay.steps)):
            t, state = replay.order[k], replay.states[k]
            x = map_leaves(lambda x, t=t: x[t], replay.xs)
            seeds = [*carried, *replay.ys_at(t)]
            for row in rows:
                if not any(g is not None and np.any(g[row]) for g in seeds):
                    continue
                try:
                    found = taken(replay, row, state, x, seeds)
                except (ShapeError, TraceError):  # it may read something of each row, or mix them
                    taken = _among_others
                    found = taken(replay, row, state, x, seeds)
                for w, g in found:
                    keep(names.of(w), k, row, g)
            carried, _ = _stepped(replay, replay.cell, state, x, seeds)
            if replay.cut_before(k):
                carried = [None] * n


def _alone(replay: Replay, row: int, state: Any, x: Any, seeds: list[Any]) -> Terms:
    """The weights' terms of one row, by a step of it alone. Raises TraceError and ShapeError."""
    state, x = (
        map_leaves(lambda s: wrap(s._array[row : row + 1], None, False), tree)
        for tree in (state, x)
    )
    picked = [None if g is None else g[row : row + 1] for g in seeds]
    return _scanned(replay, replay.cell_of([row]), state, x, picked)[1]


def _among_others(replay: Replay, row: int, state: Any, x: Any, seeds: list[Any]) -> Terms:
    """The same by a step of all rows, at which no gradient comes to the others."""
    picked: list[Any] = [None if g is None else np.zeros_like(g) for g in seeds]
    for mine, g in zip(picked, seeds, strict=True):
        if g is not None:
            mine[row] = g[row]
    return _stepped(replay, replay.cell, state, x, picked)[1]


def _by_lag(replay: Replay, keep: Keep, row: int) -> None:
    names = _names(replay)

    def step(lag: int, cell: Any, state: Any, x: Any, seeds: list[Any]) -> list[Any]:
        back, found = _stepped(replay, cell, state, x, seeds)
        for w, g in found:
            keep(names.of(w), lag, row, g)
        return back

    weights.walk_lags(replay, step, [row])


def _names(replay: Replay) -> Names:
    return Names(replay.weights)


def _stepped(
    replay: Replay, cell: Any, state: Any, x: Any, seeds: list[Any]
) -> tuple[list[Any], Terms]:
    """Gradients of the state before a step, and of the weights, from those of what it leaves.

    What cannot be compiled is run as it is.
    """
    try:
        return _scanned(replay, cell, state, x, seeds)
    except TraceError:
        step, own = OneStep(cell, state, x), {id(w) for w, _ in replay.weights}
        return step.back(seeds), [(w, g) for w, g in step.outer() if id(w) in own]


def _scanned(
    replay: Replay, cell: Any, state: Any, x: Any, seeds: list[Any]
) -> tuple[list[Any], Terms]:
    """The same by a scan of one step."""
    init = map_leaves(lambda s: leaf(s._array), state)
    xs = map_leaves(lambda x: wrap(x._array[None], None, False), x)
    began, before = tick(), switches.switch(recording=True)
    try:
        final, ys = scan(cell, init, xs)
    finally:
        switches.switch(**before)
    last, read = leaves(final), leaves(ys)
    given = [*seeds[: len(last)], *(None if g is None else g[None] for g in seeds[len(last) :])]
    pairs = [
        (t, np.asarray(g, t.dtype))
        for t, g in zip([*last, *read], given, strict=False)
        if g is not None and t.requires_grad
    ]
    if not pairs:
        return [None] * len(leaves(init)), []
    wanted = [t for t in leaves(init) if t.requires_grad] + [w for w, _ in replay.weights]
    arrived = pulled(pairs, wanted, began)
    of_weights = [(w, arrived[id(w)]) for w, _ in replay.weights if id(w) in arrived]
    return [arrived.get(id(t)) for t in leaves(init)], of_weights
