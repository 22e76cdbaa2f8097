"""From the runs of a recording to its cuts through time and depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .advising import advice, reason
from .axes import Wires
from .cuts import Cut, Depth, Measured
from .heard import Run
from .places import both_directions
from .replay import norm
from .verdict import Thresholds, Verdict
from .walking import Walk

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
        self.paths = {id(run): path for path, run in runs.items()}
        there = [run for path, run in runs.items() if path in layers and layers[path].arrived]
        self.again = [run for run in there if run.replay is not None and run.replay.arrived]
        self.by_hand = [run for run in there if run not in self.again]

    def cuts(self) -> list[Cut]:
        """Through time."""
        axes = self.wires.chains(self.again)
        found = [self._along(groups) for groups in axes]
        return [*found, *(self._by_hand(run) for run in self.by_hand)]

    def _along(self, groups: Sequence[Sequence[Run]]) -> Cut:
        walk = Walk(groups, self.again, self.wires)
        paths: dict[tuple[str, int], str] = {}  # one for all calls of a layer
        labels: list[tuple[str, str]] = []
        tables: dict[str, list[Array]] = {"alone": [], "all": []}
        steps = sum(group[0].replay.steps for group in groups)  # type: ignore[union-attr]
        rows = groups[-1][0].replay.rows  # type: ignore[union-attr]
        begin = 0
        for group in groups:
            for run in group:
                replay = run.replay
                assert replay is not None
                path = paths.setdefault((run.scope, id(run.owner)), self.paths[id(run)])
                for k, name in enumerate(replay.state_names):
                    if (path, name) not in labels:
                        labels.append((path, name))
                        for table in tables.values():
                            table.append(np.zeros((steps, rows)))
                    at = labels.index((path, name))
                    for what, found in (("alone", walk.alone), ("all", walk.all)):
                        if id(run) in found and k in found[id(run)].norms:
                            end = begin + replay.steps
                            tables[what][at][begin:end] = found[id(run)].norms[k]
            begin += group[0].replay.steps  # type: ignore[union-attr]
        real = np.concatenate([g[0].replay.real for g in groups])  # type: ignore[union-attr]
        every = [run for group in groups for run in group]
        own = [paths[run.scope, id(run.owner)] for run in every]
        measured = Measured(
            _name(list(dict.fromkeys(own))), labels, np.array(tables["alone"]),
            np.array(tables["all"]), real, walk.many, walk.told, self._windowed(every),
            max(self.layers[p].tiny for p in own),
        )  # fmt: skip
        return measured.cut(self.thresholds, self._explained(own))

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
        names = list(layer.norms)
        everything = np.array([layer.per_sample[name] for name in names])
        known = run.carried_by_hand(names, [int(t) for t in layer.steps], everything.shape[2])
        told = run.whole is None and run.apart.told
        measured = Measured(
            path, [(path, name) for name in names], everything if known is None else known,
            everything, np.ones(everything.shape[1:], bool), run.apart.many, told,
            tiny=layer.tiny,
        )  # fmt: skip
        return measured.cut(self.thresholds, self._explained([path]))

    def _explained(self, paths: Sequence[str]) -> Callable[[Verdict], Verdict]:
        top = self.layers[paths[-1]]

        def explained(verdict: Verdict) -> Verdict:
            return verdict.because(reason(top), advice(top, verdict.kind))

        return explained

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
