"""Scans that do not need one another, such as the two directions of a layer: loops side by side.

Everything happens in the order in which it would one after the other, but the loops themselves,
forward and of BPTT: they run at once, each on a share of the threads, where that takes less time.
The nodes of the scans follow one another on the tape, so when BPTT comes to one of them all
gradients of the other are there, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..tape import Node
from ..tape import state as switches
from . import division
from .call import Kept, Run
from .node import SCAN, Saved
from .prepared import Back, Prepared, at_once
from .recall import noted, result
from .result import ScanResult


def beside(calls: Sequence[tuple[Any, Any, Any, bool, str]]) -> list[ScanResult] | None:
    """The results of scan(cell, init, xs, reverse=reverse) for each (cell, init, xs, reverse,
    scope), run in that scope.

    None, and nothing is done, where somebody listens or intervenes, or a trace is not known from a
    call before.
    """
    if switches.mode == 2 or switches.listeners or switches.intervening is not None:
        return None
    found = []
    for cell, init, xs, _, _ in calls:
        known = noted(cell, init, xs)
        if known is None:
            return None
        found.append(known)
    runs: list[Run] = []
    for (of_cell, given), (*_, reverse, scope) in zip(found, calls, strict=True):
        switches.scope = scope
        runs.append(of_cell.run(given, reverse))
    scopes = [call[-1] for call in calls]
    outputs = _at_once(runs, scopes) if _worth_it(runs) else _in_turn(runs, scopes)
    return [
        result(of_cell, run, finals, ys)
        for (of_cell, _), run, (finals, ys) in zip(found, runs, outputs, strict=True)
    ]


def _worth_it(runs: Sequence[Run]) -> bool:
    (steps, rows), *others = {(run.steps, run.rows) for run in runs}
    works = [run.at.loop.kernel.work for run in runs]
    return not others and division.side_by_side(works, steps, rows)


def _in_turn(runs: Sequence[Run], scopes: Sequence[str]) -> list[Any]:
    found = []
    for run, scope in zip(runs, scopes, strict=True):
        switches.scope = scope
        found.append(run.run())
    return found


def _at_once(runs: Sequence[Run], scopes: Sequence[str]) -> list[Any]:
    ready = [Prepared(run.arrange(len(runs)), run.arrays) for run in runs]
    at_once(ready)
    filled = []
    for run, has_run, scope in zip(runs, ready, scopes, strict=True):
        switches.scope = scope
        filled.append(run.node(has_run))
    nodes = [node for node, _ in filled]
    found = []
    for run, (node, made), scope in zip(runs, filled, scopes, strict=True):
        switches.scope = scope
        found.append(run.outputs(node, made))
        if node is not None and run.needs:
            _kept(node).together = nodes
    return found


def _kept(node: Node) -> Kept:
    assert isinstance(node._saved, Saved)
    of: Kept = node._saved.of
    return of


def joins(node: Node, g: dict[int, Any], following: Node, of_following: Any) -> None:
    """Runs BPTT of two scans at once: of the one that a backward pass has come to, with gradients g
    of its results, and of the one it comes to next. Each finds its own when it is pulled.
    """
    if of_following is None or following._saved is None or following not in _kept(node).together:
        return
    pairs = (node, g), (following, of_following)
    backs = [Back(_kept(each).run, arrived) for each, arrived in pairs]
    at_once(backs)
    for (each, arrived), back in zip(pairs, backs, strict=True):
        _kept(each).ahead = arrived, back


SCAN.joins = joins
