"""The ways that a gradient took along one time axis: from run to run, and inside of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..norms import row_norms
from .axes import Wires
from .carried import Carried, Seeds, by_steps
from .heard import Run
from .replaying import Replay
from .walking import Walk

Array = np.ndarray
PATIENCE = 256  # steps of a run that are taken one after the other


@dataclass
class Ways:
    """Norms over rows and units, by step in order of time, of the gradient that was judged.

    many: whether the loss reads more than one step of a row; then `read` and `ended` tell of all:
    path -> from the loss itself to the outputs, and state -> to the last state. outputs: (reader,
    source) -> from the inputs of one run to the outputs of another. states: (reader, source) ->
    from a first state to a last one. sent: path -> to all that a run reads. within: (path, state)
    -> to a state inside of its step, by way of the others (nothing of a run of very many steps).
    """

    many: bool = False
    outputs: dict[tuple[str, str], Array] = field(default_factory=dict)
    states: dict[tuple[str, str], float] = field(default_factory=dict)
    sent: dict[str, Array] = field(default_factory=dict)
    within: dict[tuple[str, str], Array] = field(default_factory=dict)
    read: dict[str, Array] = field(default_factory=dict)
    ended: dict[str, dict[str, float]] = field(default_factory=dict)


def ways_of(
    groups: Sequence[Sequence[Run]],
    walk: Walk,
    paths: Mapping[int, str],
    known: dict[int, Carried],
) -> Ways:
    """Along the groups. paths: of runs, by identity. known: what was carried in them, to share.

    Where the loss reads one step of a row, what came to the outputs of each run is what was judged;
    else what the walk has met, with the last reading alone.
    """
    found = Ways(walk.many)
    for group in groups:
        for run in group:
            path, replay = paths[id(run)], _replay(run)
            if walk.many:
                _of_run(found, path, replay, _carried(replay, walk.seeds[id(run)]))
                _read(found, path, replay, walk.direct(run))
                continue
            if id(run) not in known:
                known[id(run)] = _carried(replay, replay.arrivals)
            _of_run(found, path, replay, known[id(run)])
            _as_it_arrived(found, run, walk.wires, paths)
    for (reader, source, what), parts in walk.passed.items() if walk.many else ():
        pair = paths[reader], paths[source]
        if what == "ys":
            found.outputs[pair] = _joined([_by_step(g) for g in parts])
        else:
            found.states[pair] = float(np.hypot.reduce([_size(g) for g in parts]))
    return found


def _carried(replay: Replay, seeds: Seeds) -> Carried:
    """One step after the other tells what goes on inside of a step, too."""
    if replay.steps <= PATIENCE:
        return by_steps(replay, seeds)
    return replay.carried(seeds)


def _read(found: Ways, path: str, replay: Replay, seeds: Seeds) -> None:
    if seeds.ys:
        found.read[path] = _joined([_by_step(g) for g in seeds.ys.values()])
    found.ended[path] = {replay.state_names[k]: _size(g) for k, g in seeds.final.items()}


def _of_run(found: Ways, path: str, replay: Replay, carried: Carried) -> None:
    if carried.xs:
        found.sent[path] = _joined([_by_step(g) for g in carried.xs.values()])
    for k, name in enumerate(replay.state_names):
        if k in carried.within:
            in_order = row_norms(carried.within[k])
            found.within[path, name] = in_order[np.argsort(replay.order)]


def _as_it_arrived(found: Ways, run: Run, wires: Wires, paths: Mapping[int, str]) -> None:
    for lower in wires.below(run):
        if parts := _replay(lower).y_gradients.values():
            found.outputs[paths[id(run)], paths[id(lower)]] = _joined([_by_step(g) for g in parts])
    for earlier in wires.before(run):
        parts = _replay(earlier).final_gradients.values()
        if id(earlier) in paths and parts:
            size = float(np.hypot.reduce([_size(g) for g in parts]))
            found.states[paths[id(run)], paths[id(earlier)]] = size


def _replay(run: Run) -> Replay:
    assert run.replay is not None
    return run.replay


def _by_step(g: Array) -> Array:
    return row_norms(g.reshape(len(g), -1))


def _size(g: Array) -> float:
    return float(row_norms(g.reshape(1, -1))[0])


def _joined(parts: Sequence[Array]) -> Array:
    return row_norms(np.stack(parts, axis=1))
