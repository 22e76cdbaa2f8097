"""Which step of which sequence taught a weight: its gradient by sample and by step, or by lag.

    dL/dW = sum_b sum_k g[k, b]

k is the step at which W was used, or how many steps the gradient had travelled to get there. Norms
do not add up; what does is the share of each term along the whole,

    share[k, b] = <g[k, b], dL/dW> / |dL/dW|^2,      sum_b sum_k share[k, b] = 1.

A negative one pulls the other way: without that step of that sequence the gradient were longer. All
of it is one compiled step at a time, of one row, or of one sample's steps side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..compile.outer import Target
from ..compile.padding import unwrapped, with_init
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
    norms = {name: np.zeros((replay.steps, replay.rows)) for name in totals}
    shares = {name: np.zeros((replay.steps, replay.rows)) for name in totals}

    def keep(name: str, k: int, row: int, g: Array) -> None:
        norms[name][k, row] = norm(g)
        with np.errstate(all="ignore"):  # of a total of zero there are no shares
            along = (totals[name] / sizes[name]).ravel()
            shares[name][k, row] = (np.asarray(g, np.float64) / sizes[name]).ravel() @ along

    each(replay, by, keep)
    for name, size in sizes.items():
        if not 0 < size < np.inf:
            shares[name][:] = np.nan
    return Credit(
        path, by, steps if by == "step" else np.arange(replay.steps), norms, shares, sizes
    )


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


def each(replay: Replay, by: str, keep: Keep, rows: Iterable[int] | None = None) -> None:
    """keep(name, k, row, g) is told every term that is not zero, of these rows or of all."""
    rows = range(replay.rows) if rows is None else list(rows)
    if by == "step":
        _by_step(replay, keep, rows)
        return
    for row in rows:
        _by_lag(replay, keep, row)


def _by_step(replay: Replay, keep: Keep, rows: Iterable[int]) -> None:
    replay.check()
    names, every = _names(replay), range(replay.rows)
    n = len(leaves(replay.init))
    carried: list[Any] = [replay.final_gradients.get(j) for j in range(n)]
    alone = True  # whether the cell takes a batch of one: not if it reads something of each row
    with replay.restored():
        for k in reversed(range(replay.steps)):
            t, state = replay.order[k], replay.states[k]
            x = map_leaves(lambda x, t=t: x[t], replay.xs)
            seeds = [*carried, *replay.ys_at(t)]
            for row in rows:
                if not any(g is not None and np.any(g[row]) for g in seeds):
                    continue
                found: list[tuple[Target, Array]] = []
                if alone:
                    try:
                        picked = [None if g is None else g[row : row + 1] for g in seeds]
                        _, found = _stepped(replay, *_only(row, state, x), picked, [row])
                    except ShapeError:
                        alone = False
                if not alone:
                    picked = [None if g is None else _masked(g, row) for g in seeds]
                    _, found = _stepped(replay, state, x, picked, every)
                for w, g in found:
                    keep(names.of(w), k, row, g)
            carried, _ = _stepped(replay, state, x, seeds, every)
            if replay.cut_before(k):
                carried = [None] * n


def _by_lag(replay: Replay, keep: Keep, row: int) -> None:
    names = _names(replay)

    def step(lag: int, state: Any, x: Any, seeds: list[Any]) -> list[Any]:
        rows = [row] * len(leaves(x)[0]._data)
        back, found = _stepped(replay, state, x, seeds, rows)
        for w, g in found:
            keep(names.of(w), lag, row, g)
        return back

    weights.walk_lags(replay, step, slice(row, row + 1))


def _masked(g: Array, row: int) -> Array:
    alone = np.zeros_like(g)
    alone[row] = g[row]
    return alone


def _names(replay: Replay) -> Names:
    return Names(replay.weights)


def _only(row: int, *trees: Any) -> list[Any]:
    return [map_leaves(lambda s: wrap(s._data[row : row + 1], None, False), t) for t in trees]


def _stepped(
    replay: Replay, state: Any, x: Any, seeds: list[Any], rows: Iterable[int]
) -> tuple[list[Any], list[tuple[Target, Array]]]:
    """Gradients of the state before a step, and of the weights, from those of what it leaves.

    rows: of which of the batch the state is. By a scan of one step, or what cannot be compiled, by
    the step itself.
    """
    first = map_leaves(lambda s: wrap(s._data[list(rows)], None, False), replay.init)
    cell = with_init(replay.cell, first) if unwrapped(replay.cell).kinds else replay.cell
    own = {id(w) for w, _ in replay.weights}
    init = map_leaves(lambda s: leaf(s._data), state)
    began, before = tick(), switches.switch(recording=True)
    try:
        final, ys = scan(cell, init, map_leaves(lambda x: wrap(x._data[None], None, False), x))
    except TraceError:
        step = OneStep(cell, state, x)
        return step.back(seeds), [(w, g) for w, g in step.outer() if id(w) in own]
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
