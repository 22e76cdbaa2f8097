"""What gradients at the outputs of a scan bring to the state that each step leaves.

By one more scan where that can be: its loop of BPTT notes the norms. Else by one step after the
other, which finds more and takes longer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..compile.scanning import scan
from ..errors import TraceError
from ..listener import Listener
from ..norms import row_norms
from ..tape import state as switches
from ..tape import tick
from ..tensors import wrap
from ..tree import leaves, map_leaves, rebuild
from .onestep import pulled

if TYPE_CHECKING:
    from .replaying import Replay

Array = np.ndarray


@dataclass
class Seeds:
    """Gradients that come to a scan's outputs: leaf number -> that of the final state, of ys.

    states: the part of those of ys that comes to a y as to a state, if it is one as it stands: from
    the loss at a row's last output and from later steps, not from a layer above at the same step.
    """

    final: dict[int, Array] = field(default_factory=dict)
    ys: dict[int, Array] = field(default_factory=dict)
    states: dict[int, Array] = field(default_factory=dict)

    def same_as(self, other: Seeds) -> bool:
        """Whether the very same gradients come to the same outputs."""
        return all(
            ours.keys() == theirs.keys()
            and all(g is theirs[j] or np.array_equal(g, theirs[j]) for j, g in ours.items())
            for ours, theirs in zip(self._tables(), other._tables(), strict=True)
        )

    def copy(self) -> Seeds:
        """The same, to which nothing is added."""
        return Seeds(*map(dict, self._tables()))

    def _tables(self) -> tuple[dict[int, Array], dict[int, Array], dict[int, Array]]:
        return self.final, self.ys, self.states

    def add(self, more: Seeds) -> None:
        """More gradients that come to the same outputs."""
        for table, parts in zip(self._tables(), more._tables(), strict=True):
            for j, g in parts.items():
                table[j] = table[j] + g if j in table else g


@dataclass
class Carried:
    """What a pass back brought to the states, by leaf number, in order of computation.

    norms: |gradient at the state that a step leaves, from later steps and what reads the final
    state| for each row, (T, B). init: the gradient at the first state. xs: (T, B, ...), in order of
    time. taps: name -> |dL/d(tapped value)|, (T, B). within: |gradient that comes to a tapped state
    inside of its step|, (T, B), to c_t by way of h_t; known by steps alone.
    """

    norms: dict[int, Array]
    init: dict[int, Array]
    xs: dict[int, Array]
    taps: dict[str, Array]
    within: dict[int, Array] = field(default_factory=dict)

    def copy(self) -> Carried:
        """The same, with norms of its own: `count` adds to them."""
        norms = {k: table.copy() for k, table in self.norms.items()}
        return Carried(norms, dict(self.init), dict(self.xs), dict(self.taps), dict(self.within))


class Heard(Listener):
    """What a scan tells, that runs again as it did inside record()."""

    whole_scans = True
    sums = False

    def __init__(self, states: tuple[str, ...]):
        self.states = states
        self.record: Any = None

    def sequence(
        self, path: str, order: range, record: Any, made_by: dict[str, str], wants: bool
    ) -> Callable[[], None]:
        self.record = record
        return lambda: None


def by_loops(replay: Replay, seeds: Seeds) -> Carried | None:
    """By one more scan; None for what runs on the tape, or is read in the middle of a run."""
    heard = Heard(replay.asked)
    with replay.restored():
        before = switches.switch(recording=True)
        switches.listeners = (heard,)
        try:
            init = map_leaves(lambda s: wrap(s._array, None, s.dtype.kind == "f"), replay.init)
            read = zip(leaves(replay.xs), replay.xs_wanted, strict=True)
            xs = rebuild(replay.xs, [wrap(x._array, None, wants) for x, wants in read])
            given = replay.cell, init, xs, None, replay.reverse
            began = tick()
            final, ys = scan(*given, truncate=replay.truncate)
        except TraceError:
            return None
        finally:
            switches.listeners = ()
            switches.switch(**before)
        pairs = [
            (t, np.asarray(table[j], t.dtype))
            for outputs, table in ((final, seeds.final), (ys, seeds.ys))
            for j, t in enumerate(leaves(outputs))
            if j in table and t.requires_grad
        ]
        if not pairs:
            return Carried({}, {}, {}, {})
        wanted = [t for t in (*leaves(init), *leaves(xs)) if t.requires_grad]
        wanted += [w for w, _ in replay.weights]  # the way to windows that are cut off
        arrived = pulled(pairs, wanted, began)
    if heard.record is None or not heard.record.carried:
        return None
    found = in_order(replay, heard.record)
    found.init, found.xs = (
        {j: arrived[id(t)] for j, t in enumerate(leaves(tree)) if id(t) in arrived}
        for tree in (init, xs)
    )
    return found if count(replay, seeds, found) else None


def in_order(replay: Replay, record: Any) -> Carried:
    """What a scan noted, in order of computation."""
    norms, taps = (
        {n: np.asarray(g, np.float64)[replay.order] for n, g in table.items()}
        for table in (record.carried, record.gradients)
    )
    return Carried(norms, {}, {}, taps)


def count(replay: Replay, seeds: Seeds, found: Carried) -> bool:
    """Adds what comes by a y that is a state; False where the parts of a sum are not known."""
    for i, j in replay.own_step.states_given_out() if seeds.states else ():
        if j not in seeds.states:
            continue
        table = found.norms.setdefault(i, np.zeros((replay.steps, replay.rows)))
        read = seeds.states[j][replay.order].reshape(replay.steps, replay.rows, -1)
        k, row = np.nonzero((read != 0).any(axis=2))
        g, both = read[k, row], table[k, row] != 0
        if both.any():
            if i not in seeds.final or (k != replay.ends[row])[both].any():
                return False
            g[both] += seeds.final[i].reshape(replay.rows, -1)[row[both]]
        table[k, row] = row_norms(g)
    return True


def by_steps(replay: Replay, seeds: Seeds) -> Carried:
    """The same by one step after the other, which finds more and takes longer."""
    n = len(leaves(replay.init))
    tapped = [replay.own_step.tapped_as(i) for i in range(n)]
    found = Carried({}, {}, {}, {})
    now: list[Any] = [seeds.final.get(k) for k in range(n)]
    ys = max(seeds.ys, default=-1) + 1
    with replay.restored():
        for k in reversed(range(replay.steps)):
            t = replay.order[k]
            at_ys = [seeds.ys[j][t] if j in seeds.ys else None for j in range(ys)]
            step = replay.step(k)
            arrived = list(now)
            for i, j in replay.own_step.states_given_out() if seeds.states else ():
                if j in seeds.states:
                    g = seeds.states[j][t]
                    arrived[i] = g if arrived[i] is None else arrived[i] + g
            for i, g in enumerate(arrived):
                _note(replay, found.norms, i, k, g)
            now = step.back([*now, *at_ys])
            for name, g in step.taps.items():
                _note(replay, found.taps, name, k, g)
            for i, name in enumerate(tapped):
                if name in step.taps:
                    inside = step.taps[name] if (g := arrived[i]) is None else step.taps[name] - g
                    _note(replay, found.within, i, k, inside)
                    found.within[i][k] *= replay.real[k]
            for j, g in step.of_inputs():
                if j not in found.xs:
                    found.xs[j] = np.zeros((replay.steps, *g.shape), g.dtype)
                found.xs[j][t] = g
            if replay.cut_before(k):
                now = [None] * n
    found.init = {i: g for i, g in enumerate(now) if g is not None}
    return found


def _note(replay: Replay, tables: dict[Any, Array], name: Any, k: int, g: Array | None) -> None:
    if g is not None:
        table = tables.setdefault(name, np.zeros((replay.steps, replay.rows)))
        table[k] = row_norms(g.reshape(replay.rows, -1))
