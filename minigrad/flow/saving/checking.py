"""Whether what a file says of a recording fits together: shapes, names, signs.

Raises ValueError with the place. Every axis has an entry that takes room in the file, so that none
can be longer than the file is.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...untrusted import shortly, whole_number
from ..diagnosing.cause import NAMES
from ..places import both_directions
from ..verdict import SEVERITY, Verdict
from .stored import StoredCut, StoredLayer, StoredRecording

Array = np.ndarray
Lengths = dict[str, StoredLayer]
MOST = 2**31  # a step's number


def check(recording: StoredRecording) -> None:
    """All of it."""
    if not recording.layers:
        raise ValueError("it holds no layer")
    layers = {layer.path: layer for layer in recording.layers}
    if len(layers) < len(recording.layers):
        raise ValueError("two layers have the same path")
    for path, layer in layers.items():
        _layer(f"layer {shortly(path)}", layer, layers)
    for cut in recording.cuts:
        _cut(f"cut {shortly(cut.name)}", cut, layers)
    _both_sides(layers)
    _kind("verdict", recording.verdict)
    _known("causes", (cause.name for cause in recording.causes), NAMES)
    for number, call in enumerate(recording.calls):
        whole_number(call.part, 0, len(recording.parts) - 1)
        for read in call.reads:
            whole_number(0 if read.call is None else read.call, 0, max(number - 1, 0))
            if read.call is not None and not number:
                raise ValueError("the first call has read another")


def _layer(where: str, layer: StoredLayer, layers: Lengths) -> None:
    steps, first = layer.steps, next(iter(layer.per_sample.values()), None)
    if steps.ndim != 1 or not steps.size or steps.dtype.kind != "i" or first is None:
        raise ValueError(f"{where} has no steps, or no state")
    if np.unique(steps).size < steps.size or (np.abs(steps.astype(np.float64)) > MOST).any():
        raise ValueError(f"{where}: its steps are no numbers of steps")
    shape = (steps.size, first.shape[-1] if first.ndim else 0)
    if not shape[1]:
        raise ValueError(f"{where} has no rows")
    for name, x in (*layer.per_sample.items(), *layer.alone.items()):
        _shape(f"{where}, norms of {shortly(name)}", x, shape)
        _not_below_zero(where, x)
    _known(f"{where}, alone", layer.alone, layer.per_sample)
    if (layer.real is None) != (layer.begins is None):
        raise ValueError(f"{where}: its padding is half known")
    for steps_of in (layer.real, layer.begins):
        _shape(f"{where}, padding", steps_of, shape, "b")
    for name, a in layer.activations.items():
        _shape(f"{where}, activation of {shortly(name)}", a.mean, (None,))
        for x in (a.saturation, a.slope):
            _shape(f"{where}, activation of {shortly(name)}", x, a.mean.shape)
    for name, x in layer.values.items():
        _shape(f"{where}, values of {shortly(name)}", x, (steps.size, None, None), "fiub")
    for name, x in (layer.gradients or {}).items():
        _shape(f"{where}, gradients of {shortly(name)}", x, (steps.size, None, None))
    for name, x in (layer.inputs or {}).items():
        _shape(f"{where}, inputs {shortly(name)}", x, (*shape, *[None] * (x.ndim - 2)))
    for name, flow in (layer.weights or {}).items():
        for x in (flow.by_step, flow.by_lag):
            _shape(f"{where}, weight {shortly(name)}", x, (steps.size,))
        _shape(f"{where}, weight {shortly(name)}", flow.total, flow.total.shape)
    _shape(f"{where}, outputs", layer.at_outputs, (steps.size,))
    _known(f"{where}, nonfinite", layer.nonfinite, layer.values)
    _known(f"{where}, keeps", layer.keeps, layer.activations)
    _known(f"{where}, states", layer.per_sample, layer.verdicts)
    _known(f"{where}, verdicts", layer.verdicts, layer.per_sample)
    for verdict in layer.verdicts.values():
        _kind(where, verdict)
    if layer.cut is not None:
        _cut(f"{where}, its cut", layer.cut, layers)


def _cut(where: str, cut: StoredCut, layers: Lengths) -> None:
    if not cut.labels or not cut.groups or not all(cut.groups):
        raise ValueError(f"{where} is through nothing")
    through = {path for path, _ in cut.labels}
    runs = {run: path for group in cut.groups for run, path in group.items()}
    _known(where, (*through, *runs), layers)
    _known(f"{where}, groups", runs.values(), through)
    for group in cut.groups:
        if len({layers[run].steps.size for run in group}) > 1:
            raise ValueError(f"{where}: runs side by side have different numbers of steps")
    lags = cut.profile.size
    for x, shape in (
        (cut.profile, (lags,)), (cut.summed, (lags,)), (cut.per_sample, (lags, None)),
        (cut.shares, (lags, len(cut.labels))),
    ):  # fmt: skip
        _shape(where, x, shape)
        _not_below_zero(where, x)
    if not cut.per_sample.shape[1]:
        raise ValueError(f"{where} has no rows")
    if (cut.shares > 1 + 1e-6).any():
        raise ValueError(f"{where}: a share is more than the whole")
    for verdict in (cut.judged, cut.verdict):
        _kind(where, verdict)
    if cut.ways is None:
        return
    ways = cut.ways
    _known(f"{where}, ways", (p for pair in (*ways.outputs, *ways.states) for p in pair), layers)
    inside = (*ways.sent, *ways.read, *ways.ended, *(path for path, _ in ways.within))
    _known(f"{where}, ways", inside, runs)
    by_pair = (*ways.outputs.values(), *ways.within.values())
    for x in (*by_pair, *ways.sent.values(), *ways.read.values()):
        _shape(f"{where}, ways", x, (None,))
        _not_below_zero(where, x)


def _both_sides(layers: Lengths) -> None:
    """Gradients of inputs are added up over directions."""
    seen: dict[tuple[str, str], tuple[int, ...]] = {}
    for path, layer in layers.items():
        for name, x in (layer.inputs or {}).items():
            if seen.setdefault((both_directions(path), name), x.shape) != x.shape:
                raise ValueError(f"layer {shortly(path)}: its two directions read different inputs")


def _kind(where: str, verdict: Verdict) -> None:
    _known(where, [verdict.kind], SEVERITY)
    if verdict.fit is not None and verdict.fit.rate < 0:
        raise ValueError(f"{where}: a factor per step is below 0")


def _known(where: str, names: Iterable[str], known: Iterable[str]) -> None:
    among = set(known)
    for name in names:
        if name not in among:
            raise ValueError(f"{where}: {shortly(name)} is not known")


def _shape(where: str, x: Array | None, shape: tuple[int | None, ...], kinds: str = "f") -> None:
    """Raises unless x is None, or of one of these kinds and this shape; None: of any length."""
    if x is None:
        return
    fits = x.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, x.shape))
    if not fits or x.dtype.kind not in kinds:
        raise ValueError(f"{where}: an array is {x.dtype}{list(x.shape)}")


def _not_below_zero(where: str, x: Array) -> None:
    if (x < 0).any():
        raise ValueError(f"{where}: a norm is below 0")
