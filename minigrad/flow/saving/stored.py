"""What a file holds of a recording: everything that was read from it while the net was there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ...errors import FlowError
from ..calls import Calls, Ran
from ..cuts import Cut, Depth
from ..diagnosing.cause import Cause
from ..layerflow import Activation, LayerFlow, Nonfinite
from ..nonfinite import First
from ..recording import Recording
from ..verdict import Thresholds, Verdict
from ..ways import Ways
from ..weights import WeightFlow

Array = np.ndarray
T = TypeVar("T")


@dataclass
class StoredCut:
    """A Cut, with what it would compute when it is read."""

    name: str
    labels: list[tuple[str, str]]
    profile: Array
    summed: Array
    per_sample: Array
    shares: Array
    judged: Verdict
    verdict: Verdict
    groups: list[dict[str, str]]
    ways: Ways | None

    @classmethod
    def of(cls, cut: Cut) -> StoredCut:
        return cls(
            cut.name, cut.labels, cut.profile, cut.summed, cut.per_sample, cut.shares, cut.judged,
            cut.verdict, cut.groups, cut.ways,
        )  # fmt: skip


@dataclass
class StoredLayer:
    """A LayerFlow, likewise. gradients, inputs, weights: None where the layer could not run again,
    or where they were not asked for.
    """

    path: str
    scope: str
    steps: Array
    tiny: float
    wants: bool
    arrived: bool
    untold: str
    per_sample: dict[str, Array]
    activations: dict[str, Activation]
    values: dict[str, Array]
    nonfinite: dict[str, Nonfinite]
    verdicts: dict[str, Verdict]
    cut: StoredCut | None
    alone: dict[str, Array]
    real: Array | None
    begins: Array | None
    keeps: dict[str, int]
    at_outputs: Array | None
    gradients: dict[str, Array] | None
    inputs: dict[str, Array] | None
    weights: dict[str, WeightFlow] | None

    @classmethod
    def of(cls, layer: LayerFlow, weights: bool) -> StoredLayer:
        return cls(
            layer.path, layer.scope, layer.steps, layer.tiny, layer.wants, layer.arrived,
            layer.untold() if layer.arrived else "",
            dict(layer.per_sample), dict(layer.activations), dict(layer.values),
            dict(layer.nonfinite), layer.verdicts,
            StoredCut.of(layer.cut()) if layer.arrived and layer.cut is not None else None,
            dict(layer.last_alone()) if layer.arrived else {},
            layer.real, layer.begins, layer.keeps, layer.at_outputs,
            _if_it_runs(lambda: dict(layer.gradients)),
            _if_it_runs(lambda: dict(layer.input_gradients)),
            _if_it_runs(lambda: dict(layer.weights)) if weights else None,
        )  # fmt: skip


@dataclass
class StoredPart:
    """A part of a model; see calls.py."""

    path: str
    about: str
    size: int
    scan: bool
    reverse: bool
    merge: str


@dataclass
class StoredRead:
    """What a call has read: the number of an earlier call, or data by name. words: what happened to
    it on the way.
    """

    call: int | None
    name: str
    text: str
    words: list[str]


@dataclass
class StoredCall:
    """One call of a part, which has a number. path: what it is called in the recording, if it is
    there.
    """

    part: int
    path: str | None
    steps: int
    reads: list[StoredRead]


@dataclass
class StoredRecording:
    """All of a Recording; see there."""

    minigrad: str
    states: list[str]
    thresholds: Thresholds
    missing: list[str]
    verdict: Verdict
    nonfinite: First | None
    causes: list[Cause]
    layers: list[StoredLayer]
    cuts: list[StoredCut]
    depth: list[Depth]
    parts: list[StoredPart]
    calls: list[StoredCall]

    @classmethod
    def of(cls, recording: Recording, weights: bool, version: str) -> StoredRecording:
        """Computes all that is not known yet. Raises FlowError where there is nothing to save."""
        parts, calls = _calls(recording.calls, recording.layers)
        return cls(
            version, list(recording.states), recording.thresholds, recording.missing,
            recording.verdict, recording.nonfinite, recording.causes,
            [StoredLayer.of(layer, weights) for layer in recording.values()],
            [StoredCut.of(cut) for cut in recording.cuts], recording.depth, parts, calls,
        )  # fmt: skip


def _if_it_runs(read: Callable[[], T]) -> T | None:
    """None of a loop written by hand, which cannot run again."""
    try:
        return read()
    except FlowError:
        return None


def _calls(
    calls: Calls, layers: Mapping[str, LayerFlow]
) -> tuple[list[StoredPart], list[StoredCall]]:
    number, paths = {ran: i for i, ran in enumerate(calls.ran)}, calls.paths(layers)
    parts = list(dict.fromkeys(ran.part for ran in calls.ran))

    def read(source: Any, words: tuple[str, ...]) -> StoredRead:
        if isinstance(source, Ran):
            return StoredRead(number.get(source), source.part.path, "", list(words))
        found = calls.named(source)
        return StoredRead(None, found.name, found.text, list(words))

    stored = [
        StoredCall(
            parts.index(ran.part), paths.get(ran), ran.steps,
            [read(source, words) for source, words in ran.reads],
        )
        for ran in calls.ran
    ]  # fmt: skip
    return [StoredPart(p.path, p.about, p.size, p.scan, p.reverse, p.merge) for p in parts], stored
