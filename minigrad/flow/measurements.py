"""What a Monitor measured at one step of training, read from a record of its file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..untrusted import shortly, whole_number
from .histogram import Histogram
from .verdict import SEVERITY

Array = np.ndarray


class GateWeights(NamedTuple):
    """The rows of one gate in a parameter that holds those of several; see ParameterFlow."""

    weight: float
    update: float
    gradient: float | None = None


class ParameterFlow(NamedTuple):
    """One parameter at one measured step.

    weight: |w| after the update. update: |w - w before| / |w|. gradient: |dL/dw|, and largest the
    largest |element| of it, zeros the share of its elements that are exactly 0, histogram their
    magnitudes; None where the parameter got no gradient. bad_weights: NaN and Inf in w. gates: of
    each gate of a cell by itself, where they are stacked in one parameter.
    """

    weight: float
    update: float
    bad_weights: int = 0
    gradient: float | None = None
    largest: float | None = None
    zeros: float | None = None
    histogram: Histogram | None = None
    gates: Mapping[str, GateWeights] = {}


class GateFlow(NamedTuple):
    """A tapped value at one measured step: its mean over steps, rows and units, and the share of
    them in the flat ends of the sigmoid or tanh that made it (nan of any other value).
    """

    mean: float
    saturation: float


class StateFlow(NamedTuple):
    """How the gradient of one state travelled back: a Verdict's numbers (see verdict.py)."""

    kind: str
    reason: str
    ratio: float
    rate: float
    half_life: float


@dataclass
class LayerTrace:
    """One recurrent layer and direction at one measured step.

    norms: name -> |dL/d(state_t)| in order of computation, (T,). verdicts: name -> StateFlow.
    taps: name of a state or gate -> GateFlow. dead: name of a state -> share of units that do not
    move. Both {} of a call that no gradient reached, and in files before they were measured.
    """

    reverse: bool
    norms: dict[str, Array]
    verdicts: dict[str, StateFlow]
    taps: dict[str, GateFlow] = field(default_factory=dict)
    dead: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> StateFlow:
        """That of the hidden state (or of the first state, if none is called h)."""
        return self.verdicts.get("h") or next(iter(self.verdicts.values()))


class CutTrace(NamedTuple):
    """One cut through time at one measured step: the profile that was judged, by lag, and the
    numbers of its verdict (see cuts.py).
    """

    kind: str
    reason: str
    ratio: float
    rate: float
    half_life: float
    reach: float
    path: dict[str, float]
    profile: Array

    @property
    def where(self) -> str:
        return "time"


class DepthTrace(NamedTuple):
    """What arrived at a layer over what arrived at the one above it, and the verdict on that."""

    upper: str
    lower: str
    ratio: float
    kind: str
    reason: str

    @property
    def where(self) -> str:
        return "depth"


@dataclass
class Measurement:
    """All that was measured at one step of training. cuts: name of a time axis -> CutTrace."""

    step: int
    parameters: dict[str, ParameterFlow]
    layers: dict[str, LayerTrace]
    cuts: dict[str, CutTrace] = field(default_factory=dict)
    depth: list[DepthTrace] = field(default_factory=list)

    @property
    def verdict(self) -> CutTrace | DepthTrace | None:
        """The most severe, `where` says through what; None if no gradient's way was recorded."""
        found: list[CutTrace | DepthTrace] = list(self.cuts.values())
        found += [d for d in self.depth if d.kind != "healthy"]
        return max(found, key=lambda v: SEVERITY.index(v.kind)) if found else None


# -- from a file -----------------------------------------------------------------------------------


def text(value: Any) -> str:
    """The value, if it is a text. Raises TypeError if not."""
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {shortly(value)}")
    return value


def _cut(stored: Mapping[str, Any]) -> CutTrace:
    numbers = {name: float(stored[name]) for name in ("ratio", "rate", "half_life", "reach")}
    return CutTrace(
        text(stored["kind"]),
        text(stored["reason"]),
        **numbers,
        path={text(name): float(share) for name, share in stored["path"].items()},
        profile=floats(stored["profile"]),
    )


def _depth(stored: Mapping[str, Any]) -> DepthTrace:
    upper, lower, kind, reason = (text(stored[k]) for k in ("upper", "lower", "kind", "reason"))
    return DepthTrace(upper, lower, float(stored["ratio"]), kind, reason)


def measurement(record: Mapping[str, Any]) -> Measurement:
    """The Measurement that a record of kind "step" holds."""
    return Measurement(
        whole_number(record["step"]),
        {name: _parameter(stored) for name, stored in record["parameters"].items()},
        {path: _layer(stored) for path, stored in record["layers"].items()},
        {text(stored["name"]): _cut(stored) for stored in record.get("cuts", ())},
        [_depth(stored) for stored in record.get("depth", ())],
    )


def _parameter(stored: Mapping[str, Any]) -> ParameterFlow:
    weight, update = float(stored["weight"]), float(stored["update"])
    bad, slopes = int(stored["bad_weights"]), stored.get("gate_gradients", {})
    gates = {
        name: GateWeights(
            float(gate["weight"]), float(gate["update"]),
            float(slopes[name]) if name in slopes else None,
        )
        for name, gate in stored.get("gates", {}).items()
    }  # fmt: skip
    if stored.get("gradient") is None:
        return ParameterFlow(weight, update, bad, gates=gates)
    gradient, largest, zeros = (float(stored[k]) for k in ("gradient", "largest", "zeros"))
    histogram = Histogram.from_dict(stored["histogram"])
    return ParameterFlow(weight, update, bad, gradient, largest, zeros, histogram, gates)


def _layer(stored: Mapping[str, Any]) -> LayerTrace:
    norms = {name: floats(x) for name, x in stored["norms"].items()}
    verdicts = {
        name: StateFlow(
            text(v["kind"]), text(v["reason"]), *(float(v[k]) for k in StateFlow._fields[2:])
        )
        for name, v in stored["verdicts"].items()
    }
    taps = {
        name: GateFlow(float(tap["mean"]), float(tap["saturation"]))
        for name, tap in stored.get("taps", {}).items()
    }
    dead = {name: float(share) for name, share in stored.get("dead", {}).items()}
    return LayerTrace(bool(stored["reverse"]), norms, verdicts, taps, dead)


def floats(values: Iterable[Any]) -> Array:
    """An array of numbers, some of which may be the texts "nan", "inf", "-inf"."""
    return np.array([float(x) for x in values], np.float64)


# -- over training ---------------------------------------------------------------------------------


Numbers = Iterator[tuple[str, float | None]]  # by name, of one measurement


def _of_parameters(what: str) -> Callable[[Measurement], Numbers]:
    return lambda m: ((name, getattr(p, what)) for name, p in m.parameters.items())


def _of_gates(what: str) -> Callable[[Measurement], Numbers]:
    return lambda m: (
        (f"{name} {gate}", getattr(w, what))
        for name, p in m.parameters.items()
        for gate, w in p.gates.items()
    )


def _of_taps(what: str) -> Callable[[Measurement], Numbers]:
    return lambda m: (
        (f"{path} {name}".strip(), getattr(tap, what))
        for path, layer in m.layers.items()
        for name, tap in layer.taps.items()
        if not math.isnan(getattr(tap, what))
    )


def _dead(m: Measurement) -> Numbers:
    return (
        (f"{path} {name}".strip(), share)
        for path, layer in m.layers.items()
        for name, share in layer.dead.items()
    )


def _of_cuts(what: str) -> Callable[[Measurement], Numbers]:
    return lambda m: ((name or "network", getattr(cut, what)) for name, cut in m.cuts.items())


CURVES: dict[str, Callable[[Measurement], Numbers]] = {
    **{what: _of_parameters(what) for what in ("gradient", "weight", "update", "largest", "zeros")},
    **{f"gate {what}": _of_gates(what) for what in ("gradient", "weight", "update")},
    "saturation": _of_taps("saturation"),
    "opening": _of_taps("mean"),
    "dead": _dead,
    "reach": _of_cuts("reach"),
    "far/near": _of_cuts("ratio"),
}
