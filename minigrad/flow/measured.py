"""From the runs of a recording to its cuts through time and depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from .advising import advice
from .axes import Wires
from .carried import Carried
from .cuts import Cut, Depth, Measured
from .detail import norm
from .heard import Run
from .places import both_directions
from .replaying import Replay
from .verdict import Thresholds, Verdict
from .walking import Walk, own_last
from .ways import ways_of

if TYPE_CHECKING:
    from .layerflow import LayerFlow

Array = np.ndarray


class Net:
    """The runs of a recording that a gradient reached, and what is asked of them together."""

    def __init__(
        self,
        runs: Mapping[str, Run],
        layers: Mapping[str, LayerFlow],
        wires: Wires,
        thresholds: Thresholds,
    ):
        self.layers, self.wires, self.thresholds = layers, wires, thresholds
        self.runs = {path: run for path, run in runs.items() if path in layers}
        self.paths = {id(run): path for path, run in self.runs.items()}
        there = [run for path, run in self.runs.items() if layers[path].arrived]
        self.again = [run for run in there if run.replay is not None and run.replay.arrived]
        self.by_hand = [run for run in there if run not in self.again]
        self.axes = wires.chains(self.again)
        self._walks: dict[int, Walk] = {}
        self._own: dict[int, tuple[Carried, bool]] = {}
        self._carried: dict[int, Carried] = {}  # of everything, by runs; for `ways_of`

    def walk(self, k: int) -> Walk:
        """Along the k-th axis."""
        if k not in self._walks:
            self._walks[k] = Walk(self.axes[k], self.again, self.wires)
        return self._walks[k]

    def last_alone(self, path: str) -> Mapping[str, Array]:
        """name -> |dL/d(tapped state)| (T, B) of the run's last output alone.

        The last that the loss or a layer above reads. Empty where nothing else is read, or where it
        cannot be told.
        """
        run = self.runs[path]
        if run in self.again:
            found, many = self._own_last(run)
            return found.taps if many else {}
        if run in self.by_hand and run.apart.many and not self.untold(path):
            return run.apart_norms(run.apart.alone, self.layers[path])
        return {}

    def untold(self, path: str) -> str:
        """Why it is not known what the steps carry; "" if it is."""
        run = self.runs[path]
        if run not in self.by_hand:
            return ""
        if run.whole is None:
            return run.apart.untold
        return "record() was told replay=False, so whether the loss reads many steps is not known"

    def _own_last(self, run: Run) -> tuple[Carried, bool]:
        if id(run) not in self._own:
            self._own[id(run)] = own_last(run)
        return self._own[id(run)]

    def cut_of(self, path: str) -> Cut:
        """Through the states of one run alone, from its own last output."""
        run = self.runs[path]
        if run in self.by_hand:
            return self._by_hand(run)
        replay, (found, many) = _replay(run), self._own_last(run)
        names = replay.state_names
        alone = np.zeros((len(names), replay.steps, replay.rows))
        for k, norms in found.norms.items():
            alone[k] = norms
        measured = Measured(
            path, [(path, name) for name in names], alone, alone, replay.real, replay.begins, many,
            windowed=replay.truncate is not None, tiny=self.layers[path].tiny,
        )  # fmt: skip
        return measured.cut(self.thresholds, self._explained([path]))

    @cached_property
    def cuts(self) -> list[Cut]:
        """Through time."""
        found = [self._along(k) for k in range(len(self.axes))]
        return [*found, *(self._by_hand(run) for run in self.by_hand)]

    def _along(self, k: int) -> Cut:
        groups, walk = self.axes[k], self.walk(k)
        every = [run for group in groups for run in group]
        paths: dict[tuple[str, int], str] = {}  # one for all calls of a layer
        for run in every:
            paths.setdefault((run.scope, id(run.owner)), self.paths[id(run)])
        own = [paths[run.scope, id(run.owner)] for run in every]
        labels = list(
            dict.fromkeys(
                (path, name)
                for run, path in zip(every, own, strict=True)
                for name in _replay(run).state_names
            )
        )
        replays = [_replay(group[0]) for group in groups]
        shape = len(labels), sum(r.steps for r in replays), replays[-1].rows
        alone, everything = np.zeros(shape), np.zeros(shape)
        begin = 0
        for group, first in zip(groups, replays, strict=True):
            end = begin + first.steps
            for run in group:
                path = paths[run.scope, id(run.owner)]
                for leaf, name in enumerate(_replay(run).state_names):
                    at = labels.index((path, name))
                    for table, found in ((alone, walk.alone), (everything, walk.all)):
                        if leaf in (norms := found[id(run)].norms):
                            table[at, begin:end] = norms[leaf]
            begin = end
        measured = Measured(
            _name(list(dict.fromkeys(own))), labels, alone, everything,
            np.concatenate([r.real for r in replays]), np.concatenate([r.begins for r in replays]),
            walk.many, walk.untold, self._windowed(every), max(self.layers[p].tiny for p in own),
        )  # fmt: skip
        cut = measured.cut(self.thresholds, self._explained(own))
        cut.groups = [
            {self.paths[id(run)]: paths[run.scope, id(run.owner)] for run in group}
            for group in groups
        ]
        cut.walked = partial(ways_of, groups, walk, self.paths, self._carried)
        return cut

    def _windowed(self, runs: Sequence[Run]) -> bool:
        """Whether a window ends where the state goes on and the gradient does not."""
        for run in runs:
            if run.replay is not None and run.replay.truncate is not None:
                return True
            linked = self.wires.sources(run.by_init).values()
            if run.continues and not linked:
                return True
        return False

    def _by_hand(self, run: Run) -> Cut:
        path = self.paths[id(run)]
        layer = self.layers[path]
        names, untold = list(layer.norms), self.untold(path)
        everything = np.array([layer.per_sample[name] for name in names])
        alone = everything
        if not untold:
            found = run.apart_norms(run.apart.carried, layer)
            alone = np.array([found[name] for name in names])
        measured = Measured(
            path, [(path, name) for name in names], alone, everything,
            np.ones(everything.shape[1:], bool), None, run.apart.many, untold, tiny=layer.tiny,
        )  # fmt: skip
        return measured.cut(self.thresholds, self._explained([path]))

    def _explained(self, paths: Sequence[str]) -> Callable[[Verdict], Verdict]:
        layers = [self.layers[path] for path in paths]

        def explained(verdict: Verdict) -> Verdict:
            return verdict.because(layers[-1].why, advice(layers, verdict.kind))

        return explained

    @cached_property
    def depth(self) -> list[Depth]:
        """Between layers, the topmost first."""
        sizes: dict[tuple[str, str], list[tuple[float, float]]] = {}
        names: dict[tuple[str, int], str] = {}
        for run in self.again:
            for lower in self.wires.below(run):
                pair = tuple(
                    names.setdefault(
                        (both_directions(r.scope), id(r.owner)),
                        both_directions(self.paths[id(r)]),
                    )
                    for r in (run, lower)
                )
                sizes.setdefault(pair, []).append((_arrived(run), _arrived(lower)))  # type: ignore[arg-type]
        found = []
        for (above, below), parts in reversed(sizes.items()):
            at_upper, at_lower = (math.hypot(*column) for column in zip(*parts, strict=True))
            found.append(Depth(above, below, at_upper, at_lower, self.thresholds))
        return found


def _replay(run: Run) -> Replay:
    assert run.replay is not None
    return run.replay


def _arrived(run: Run) -> float:
    """|gradient at all outputs of a run|."""
    assert run.replay is not None
    parts = [*run.replay.y_gradients.values(), *run.replay.final_gradients.values()]
    return norm(np.array([norm(np.asarray(g, np.float64)) for g in parts])) if parts else 0.0


def _name(paths: Sequence[str]) -> str:
    """One path, or what several have in common and the direction, or all of them.

    >>> _name(["lstm/l0/fwd", "lstm/l1/fwd"]), _name(["encoder/l0/fwd", "decoder/l0/fwd"])
    ('lstm/fwd', 'encoder/l0/fwd + decoder/l0/fwd')
    """
    heads = {both_directions(p).rpartition("/")[0] for p in paths}
    ways = {p.rpartition("/")[2] for p in paths}
    if len(paths) > 1 and len(heads) == 1 and len(ways) == 1 and (head := heads.pop()):
        return f"{head}/{ways.pop()}"
    return " + ".join(paths)
