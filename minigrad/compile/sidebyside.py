"""Scans that do not need one another, such as the two directions of a layer: loops side by side.

Everything happens in the order in which it would one after the other, but the loops themselves,
forward and of BPTT: they run at once, each on a share of the threads, where that takes less time.
The nodes of the scans follow one another on the tape, so when BPTT comes to one of them all
gradients of the other are there, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..tape import Node
from ..tape import state as switches
from . import division
from .call import Kept, Run
from .fusing import ready
from .node import SCAN, Saved, arrays_of
from .prepared import AtOnce, Back, Prepared
from .recall import noted, result
from .result import ScanResult


def beside(calls: Sequence[tuple[Any, Any, Any, bool, str]]) -> list[ScanResult] | None:
    """The results of scan(cell, init, xs, reverse=reverse) for each (cell, init, xs, reverse,
    scope), run in that scope.

    None, and nothing is done, where somebody listens or intervenes, or a trace is not known from a
    call before. In a step that mg.jit records they are traced.
    """
    recording = switches.jit is not None and switches.jit.replays
    if switches.mode == 2 and not recording:
        return None
    if switches.listeners or switches.intervening is not None:
        return None
    runs: list[Run] = []
    results: list[Callable[..., ScanResult]] = []
    found = None if recording else [noted(cell, init, xs) for cell, init, xs, _, _ in calls]
    if found is not None and None in found:
        return None
    for k, (cell, init, xs, reverse, scope) in enumerate(calls):
        switches.scope = scope
        if found is None:
            run, made = ready(cell, init, xs, reverse)
        else:
            known: Any = found[k]
            run = known[0].run(known[1], reverse)
            made = partial(result, known[0], run)
        runs.append(run)
        results.append(made)
    scopes = [call[-1] for call in calls]
    outputs = _at_once(runs, scopes) if _worth_it(runs) else _in_turn(runs, scopes)
    return [made(finals, ys) for made, (finals, ys) in zip(results, outputs, strict=True)]


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
    prepared = [Prepared(run.arrange(len(runs)), run.arrays) for run in runs]
    joint = AtOnce(prepared)
    joint.run()
    if switches.jit is not None:
        read = [x for each in prepared for x in each.inputs]
        made = [y for each in prepared for y in each.outputs]
        names = " and ".join(run.compiled.name for run in runs)
        switches.jit.ran(f"scans of {names}, at once", joint, read, made, joint.replayed)
    filled = []
    for run, has_run, scope in zip(runs, prepared, scopes, strict=True):
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
    pairs = [(_kept(node), arrays_of(g)), (_kept(following), arrays_of(of_following))]
    backs = [Back(kept.run, arrived) for kept, arrived in pairs]
    joint = AtOnce(backs)
    joint.run()
    if switches.jit is not None:
        read = [x for kept, arrived in pairs for x in (*kept.run.inputs, *arrived.values())]
        made = [x for back in backs for x in back.input_gradients.values()]
        names = [each.params["compiled"].name for each in (node, following)]
        switches.jit.ran(
            f"BPTT of {' and '.join(names)}, at once", joint, read, made, joint.replayed
        )
    for (kept, arrived), back in zip(pairs, backs, strict=True):
        kept.ahead = arrived, back


SCAN.joins = joins
