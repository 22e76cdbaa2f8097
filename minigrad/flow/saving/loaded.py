"""A recording that was loaded: it says what it said when it was saved, without the net."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import NoReturn

import numpy as np

from ...errors import FlowError
from ...norms import row_norms
from ..calls import Calls, Data, Part, Ran
from ..cuts import Cut, Depth
from ..diagnosing.cause import Cause
from ..layerflow import LayerFlow
from ..measured import Net
from ..nonfinite import First
from ..recording import Recording
from ..verdict import Thresholds, Verdict
from .stored import StoredCut, StoredLayer, StoredRecording

Array = np.ndarray


class LoadedRecording(Recording):
    """What `mg.flow.load` gives: a Recording whose every number stands in a file."""

    def __init__(self, stored: StoredRecording, path: Path):
        super().__init__(tuple(stored.states), stored.thresholds)
        self._stored, self.path = stored, path
        self.calls = _calls(stored)
        self._layers = {s.path: LoadedLayer.of(s, stored.thresholds, path) for s in stored.layers}

    @cached_property
    def cuts(self) -> list[Cut]:
        return [_cut(cut) for cut in self._stored.cuts]

    @property
    def depth(self) -> list[Depth]:
        return self._stored.depth

    @property
    def verdict(self) -> Verdict:
        return self._stored.verdict

    @property
    def nonfinite(self) -> First | None:
        return self._stored.nonfinite

    @property
    def missing(self) -> list[str]:
        return self._stored.missing

    def own_causes(self) -> list[Cause]:
        return self._stored.causes

    @property
    def net(self) -> Net:
        raise FlowError(f"net: {self.path} holds what was measured, and none of the runs.")

    def __repr__(self) -> str:
        named = ", ".join(path or "network" for path in self.layers)
        return f"<Recording of {named}, loaded from {self.path}>"


class LoadedLayer(LayerFlow):
    """One layer and direction of a file; what needs the net raises FlowError."""

    stored: StoredLayer
    file: Path

    @classmethod
    def of(cls, stored: StoredLayer, thresholds: Thresholds, file: Path) -> LoadedLayer:
        cut = None if stored.cut is None else _cut(stored.cut)
        layer = cls(
            path=stored.path,
            steps=stored.steps,
            norms={name: row_norms(x) for name, x in stored.per_sample.items()},
            per_sample=stored.per_sample,
            activations=stored.activations,
            tiny=stored.tiny,
            thresholds=thresholds,
            values=stored.values,
            nonfinite=stored.nonfinite,
            scope=stored.scope,
            wants=stored.wants,
            arrived=stored.arrived,
            last_alone=lambda: stored.alone,
            untold=lambda: stored.untold,
            cut=None if cut is None else lambda: cut,
        )
        layer.stored, layer.file = stored, file
        known = {"keeps": stored.keeps, "verdicts": stored.verdicts}
        kept = {"gradients": stored.gradients, "weights": stored.weights}
        vars(layer).update(known | {name: x for name, x in kept.items() if x is not None})
        return layer

    @property
    def real(self) -> Array | None:
        return self.stored.real

    @property
    def begins(self) -> Array | None:
        return self.stored.begins

    @property
    def at_outputs(self) -> Array | None:
        return self.stored.at_outputs

    @property
    def input_gradients(self) -> Mapping[str, Array]:
        if self.stored.inputs is None:
            self._again("input_gradients")
        return self.stored.inputs

    def _again(self, what: str) -> NoReturn:
        hint = ", unless it was saved with weights=True" if what == "weights" else ""
        raise FlowError(
            f"{what}: {self.path or 'this recording'} was loaded from {self.file}, and this needs "
            f"the net that ran, which is not in a file{hint}; record() where the net is."
        )


def _cut(stored: StoredCut) -> Cut:
    return Cut(
        stored.name, list(dict.fromkeys(path for path, _ in stored.labels)), stored.labels,
        stored.profile, stored.summed, stored.per_sample, stored.shares, stored.judged,
        explained=lambda judged: stored.verdict, groups=stored.groups,
        walked=lambda: stored.ways,
    )  # fmt: skip


def _calls(stored: StoredRecording) -> Calls:
    parts = [Part(p.path, p.about, p.size, p.scan, p.reverse, p.merge) for p in stored.parts]
    found: list[Ran] = []
    for number, call in enumerate(stored.calls):
        reads = {
            (Data(read.name, read.text) if read.call is None else found[read.call],
             tuple(read.words)): None
            for read in call.reads
        }  # fmt: skip
        found.append(Ran(parts[call.part], number, number, reads, None, call.steps, call.path))
    return Calls.of(found)
