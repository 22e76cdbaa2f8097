"""Which runs go on with one another, and which read one another: time axes, and depth.

The state at time t is everything that is carried over, so runs that move along together are one
axis: the layers of a stack in one direction. A run that begins from the last state of another goes
on with its axis: windows of truncated BPTT, decoding step by step, an encoder and its decoder.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compile.result import Call
from ..tree import leaves
from .copies import Copies
from .heard import Run
from .stretch import Stretch, nodes_of

Array = np.ndarray
Slot = tuple[str, int]  # ("final" | "ys" | "init" | "xs", number of the leaf)
MOST = 16  # axes that are told apart where runs branch


class Wires:
    """What leads from the outputs of runs to the inputs of others."""

    def __init__(self, copies: Copies):
        self._copies = copies
        self._made: dict[int, tuple[Run, Slot]] = {}  # position on the tape -> whose output it is
        self._states: dict[tuple[Any, ...], Run] = {}  # values of a last state -> whose it is

    def connect(self, run: Run, call: Call) -> None:
        """A run has ended: where its inputs came from, and what its outputs are."""
        init, xs = leaves(call.init), leaves(call.xs)
        run.inputs = _positions("init", init) | _positions("xs", xs)
        if self._made:
            since = min(self._made)
            run.by_init = Stretch(nodes_of(init), self._made, since, copies=self._copies)
            run.by_xs = Stretch(nodes_of(xs), self._made, since, copies=self._copies)
        for s in init:
            before = self._states.get(_values(s._array))
            if before is not None and before is not run:
                run.continues.append(weakref.ref(before))
        for what, outputs in (("final", leaves(call.final)), ("ys", leaves(call.ys))):
            for j, t in enumerate(outputs):
                if t._node is not None:
                    self._made[t._node.position] = run, (what, j)
                if what == "final" and t._array.any():
                    self._states[_values(t._array)] = run

    def ended(self, run: Run, states: Sequence[Array]) -> None:
        """What its last states were where it ran first, which differs by rounding."""
        self._states |= {_values(s): run for s in states if s.any()}

    def forget(self, run: Run) -> None:
        self._made = {p: made for p, made in self._made.items() if made[0] is not run}
        self._states = {key: r for key, r in self._states.items() if r is not run}

    # -- reading

    def sources(self, way: Stretch | None) -> dict[int, tuple[Run, Slot]]:
        """position -> the run whose output is there, and which; where a stretch ends."""
        ends = () if way is None else sorted(way.ends)
        return {p: self._made[p] for p in ends if p in self._made}

    def before(self, run: Run) -> list[Run]:
        """The runs whose last state it begins from."""
        linked = [r for r, _ in self.sources(run.by_init).values()]
        linked += [r for known in run.continues if (r := known()) is not None]
        return [r for r in dict.fromkeys(linked) if _size(r)[1] == _size(run)[1]]

    def below(self, run: Run) -> list[Run]:
        """The runs whose outputs it reads at the same steps."""
        linked = [r for r, (what, _) in self.sources(run.by_xs).values() if what == "ys"]
        earlier = set(map(id, self.before(run)))
        return [r for r in dict.fromkeys(linked) if id(r) not in earlier and _size(r) == _size(run)]

    def _behind(self, run: Run, others: Sequence[Run]) -> bool:
        """Whether its state comes from that of one of them."""
        met: dict[Run, None] = {}
        todo = self.before(run)
        while todo:
            if (earlier := todo.pop()) not in met:
                met[earlier] = None
                todo += self.before(earlier)
        return any(other in met for other in others)

    def chains(self, runs: Sequence[Run]) -> list[list[list[Run]]]:
        """The time axes: groups of runs that move along together, one group after the other."""
        group: dict[int, list[Run]] = {id(r): [r] for r in runs}
        for run in runs:
            for lower in self.below(run):
                if id(lower) in group and _way(lower) == _way(run):
                    _join(group, lower, run)
        for side in _side_by_side(runs):
            for other in side[1:]:
                if not self._behind(other, side):
                    _join(group, side[0], other)
        groups = list({id(g): g for g in group.values()}.values())
        earlier = {
            id(g): _others(g, [group[id(b)] for r in g for b in self.before(r) if id(b) in group])
            for g in groups
        }
        followed = {id(g) for some in earlier.values() for g in some}
        found: list[list[list[Run]]] = []
        for end in groups:
            if id(end) not in followed:
                found += _paths(end, earlier)
        return found[:MOST]


def _positions(what: str, tensors: Sequence[Any]) -> dict[int, list[Slot]]:
    found: dict[int, list[Slot]] = {}
    for j, t in enumerate(tensors):
        if t.requires_grad and t._node is not None:
            found.setdefault(t._node.position, []).append((what, j))
    return found


def _values(array: Array) -> tuple[Any, ...]:
    return array.shape, array.dtype.char, hash(array.tobytes())


def _side_by_side(runs: Sequence[Run]) -> list[list[Run]]:
    """The first calls of different layers that read the very same inputs, in the same direction."""
    found: dict[Any, dict[Any, Run]] = {}
    for run in runs:
        assert run.replay is not None
        x = leaves(run.replay.xs)[0]._array
        read = x.__array_interface__["data"][0], x.shape, x.strides, _way(run)
        found.setdefault(read, {}).setdefault((run.scope, id(run.owner)), run)
    return [list(side.values()) for side in found.values()]


def _size(run: Run) -> tuple[int, int]:
    assert run.replay is not None
    return run.replay.steps, run.replay.rows


def _way(run: Run) -> bool:
    assert run.replay is not None
    return run.replay.reverse


def _join(group: dict[int, list[Run]], a: Run, b: Run) -> None:
    one, other = group[id(a)], group[id(b)]
    if one is not other:
        one += other
        for r in other:
            group[id(r)] = one
        one.sort(key=lambda r: r.began)


def _others(own: list[Run], groups: list[list[Run]]) -> list[list[Run]]:
    return list({id(g): g for g in groups if g is not own}.values())


def _paths(end: list[Run], earlier: dict[int, list[list[Run]]]) -> list[list[list[Run]]]:
    """Every way that leads to a last group, each from its beginning."""
    done: list[list[list[Run]]] = []
    todo = [[end]]
    while todo and len(done) < MOST:
        path = todo.pop()
        ways = [g for g in earlier[id(path[0])] if all(g is not p for p in path)]
        if not ways:
            done.append(path)
        todo += [[g, *path] for g in ways]
    return done
