"""What a Monitor has seen of a training run, live or read back from its file: bounded in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from ..errors import FlowError
from ..escapes import printable
from ..untrusted import shortly, whole_number
from .histogram import Histogram
from .tables import BLOCKS
from .verdict import SEVERITY

Array = np.ndarray
Item = TypeVar("Item")
KEPT = 256  # measurements in memory; the file has them all
KEPT_LOGS = 4096  # of each logged number


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


@dataclass
class Clipping:
    """How often the norm of the gradient was beyond its limit.

    steps: how many were told. clipped: of these, beyond the limit. shrink: sum of the factors
    max_norm / norm of the clipped ones. nonfinite: norms that were NaN or Inf. max_norm: the last
    limit.
    """

    steps: int = 0
    clipped: int = 0
    shrink: float = 0.0
    nonfinite: int = 0
    max_norm: float = math.nan

    def hear(self, norm: float, max_norm: float) -> None:
        self.steps, self.max_norm = self.steps + 1, max_norm
        if not math.isfinite(norm):
            self.nonfinite += 1
        elif norm > max_norm:
            self.clipped, self.shrink = self.clipped + 1, self.shrink + max_norm / norm

    @property
    def share(self) -> float:
        """Share of the steps that were clipped; nan if none was told."""
        return self.clipped / self.steps if self.steps else math.nan

    @property
    def mean_factor(self) -> float:
        """Mean of max_norm / norm over the clipped steps; nan if there is none."""
        return self.shrink / self.clipped if self.clipped else math.nan


class Broken(NamedTuple):
    """NaN or Inf, the first time they were seen there.

    what: "gradient", "weight", "logged", or "state": of a layer, where it began in words.
    """

    step: int
    what: str
    where: str
    nan: int
    inf: int

    def __str__(self) -> str:
        kinds = [f"{n} {name}" for n, name in ((self.nan, "NaN"), (self.inf, "Inf")) if n]
        if self.what == "state":
            return f"step {self.step}: {self.where}"
        if self.what == "logged":
            return f"step {self.step}: {self.where} is {'NaN' if self.nan else 'Inf'}"
        return f"step {self.step}: {' and '.join(kinds)} in the {self.what} of {self.where}"


class Thinned(Generic[Item]):
    """At most `limit` of the items added, evenly spaced over all of them, and the last one."""

    def __init__(self, limit: int):
        self.limit, self._stride, self._seen = limit, 1, 0
        self._items: list[Item] = []
        self._last: list[Item] = []  # the newest, where it is not among the items

    def add(self, item: Item) -> None:
        self._last = [item]
        if self._seen % self._stride == 0:
            self._items.append(item)
            self._last = []
        self._seen += 1
        if len(self._items) > self.limit:
            newest = self._items[-1]
            self._items, self._stride = self._items[::2], 2 * self._stride
            self._last = [] if self._items[-1] is newest else [newest]

    @property
    def items(self) -> list[Item]:
        return self._items + self._last

    @property
    def newest(self) -> Item | None:
        return (self._last or self._items or [None])[-1]  # type: ignore[list-item]

    def keep_if(self, wanted: Callable[[Item], bool]) -> None:
        """Drops the newest items until one is wanted."""
        while self._last and not wanted(self._last[0]):
            self._last = []
        while self._items and not wanted(self._items[-1]):
            self._items.pop()


@dataclass
class History:
    """What was measured and logged.

    header: the file's first record. clipping: over the whole run. nonfinite: in the order they
    were seen. torn: the file's last line was cut off and is left out. step: the last one told of.
    """

    header: dict[str, Any] = field(default_factory=dict)
    clipping: Clipping = field(default_factory=Clipping)
    nonfinite: list[Broken] = field(default_factory=list)
    torn: bool = False
    step: int = 0
    keep: int = KEPT
    _measured: Thinned[Measurement] = field(init=False, repr=False)
    _logged: dict[str, Thinned[tuple[int, float]]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._measured = Thinned(self.keep)

    # -- reading

    @property
    def measurements(self) -> list[Measurement]:
        """At most `keep`, evenly spaced over training, and the last one."""
        return self._measured.items

    @property
    def logged(self) -> dict[str, tuple[Array, Array]]:
        """name -> (steps, values) of what log() was given."""
        found = {}
        for name, series in self._logged.items():
            steps, values = zip(*series.items, strict=True)
            found[name] = np.array(steps), np.array(values, np.float64)
        return found

    @property
    def parameters(self) -> list[str]:
        """The names of the parameters, in the order of the module."""
        return list(self.header.get("parameters", {}))

    @property
    def layers(self) -> list[str]:
        """The paths of the recurrent layers that were seen."""
        return list(dict.fromkeys(path for m in self.measurements for path in m.layers))

    def series(self, parameter: str, what: str = "gradient") -> tuple[Array, Array]:
        """(steps, values) of one number of a parameter over training; nan where it is missing.

        what: a field of ParameterFlow, such as "weight", "gradient", "update", "zeros".
        """
        if parameter not in self.parameters:
            known = ", ".join(map(repr, self.parameters)) or "none"
            raise FlowError(f"series: there is no parameter {parameter!r}; there are {known}.")
        numbers = [name for name in ParameterFlow._fields if name != "histogram"]
        if what not in numbers:
            raise FlowError(f"series: expected one of {', '.join(numbers)}, got {what!r}.")
        there = [m for m in self.measurements if parameter in m.parameters]
        values = [getattr(m.parameters[parameter], what) for m in there]
        found = [math.nan if v is None else float(v) for v in values]
        return np.array([m.step for m in there], np.int64), np.array(found, np.float64)

    def ratios(self, path: str, state: str | None = None) -> tuple[Array, Array]:
        """(steps, farthest over nearest norm) of a layer over training: does it learn to reach?"""
        there = [m for m in self.measurements if path in m.layers]
        if not there:
            raise FlowError(f"ratios: there is no layer {path!r}; there are {self.layers}.")
        found = []
        for m in there:
            layer = m.layers[path]
            found.append((layer.verdicts[state] if state else layer.verdict).ratio)
        return np.array([m.step for m in there], np.int64), np.array(found, np.float64)

    @property
    def cuts(self) -> list[str]:
        """The names of the cuts through time that were seen."""
        return list(dict.fromkeys(name for m in self.measurements for name in m.cuts))

    def reach(self, cut: str) -> tuple[Array, Array]:
        """(steps, reach) of a cut over training: after how many steps back 1e-3 is left."""
        there = [m for m in self.measurements if cut in m.cuts]
        if not there:
            raise FlowError(f"reach: there is no cut {cut!r}; there are {self.cuts}.")
        reach = [m.cuts[cut].reach for m in there]
        return np.array([m.step for m in there], np.int64), np.array(reach, np.float64)

    def lags(self, cut: str | None = None) -> tuple[Array, Array]:
        """(steps, |dL/dS| by lag (measurements, lags)) of a cut over training: what was judged.

        nan where a sequence was shorter. cut: its name; None where there is but one.
        """
        if cut is None:
            if len(self.cuts) != 1:
                raise FlowError(f"lags: name the cut, one of {self.cuts}.")
            cut = self.cuts[0]
        steps, _ = self.reach(cut)
        profiles = [m.cuts[cut].profile for m in self.measurements if cut in m.cuts]
        found = np.full((len(profiles), max(p.size for p in profiles)), np.nan)
        for row, profile in zip(found, profiles, strict=True):
            row[: profile.size] = profile
        return steps, found

    def curves(self, what: str) -> dict[str, tuple[Array, Array]]:
        """name -> (steps, values) of everything that has a number of this kind, over training.

        what: "gradient", "weight", "update", "largest" or "zeros" of parameters; "gate gradient",
        "gate weight" or "gate update" of the gates that are stacked in them; "saturation" or
        "opening", the mean, of gates and states; "dead", the share of units; "reach" or
        "far/near" of cuts; or the name of what was logged, such as "loss".
        """
        if what in self._logged:
            return {what: self.logged[what]}
        if what not in CURVES:
            known = [*self._logged, *CURVES]
            raise FlowError(f"curves: expected one of {', '.join(known)}, got {what!r}.")
        found: dict[str, list[tuple[int, float]]] = {}
        for m in self.measurements:
            for name, value in CURVES[what](m):
                found.setdefault(name, []).append((m.step, math.nan if value is None else value))
        return {
            name: (np.array([step for step, _ in line]), np.array([v for _, v in line], np.float64))
            for name, line in found.items()
        }

    def report(self, blocks: str = BLOCKS) -> str:
        """Tables of parameters and layers with sparklines over training, clipping, NaN and Inf."""
        from .monitortable import report

        return printable(report(self, blocks), lines=True)  # names may come from a file

    def __str__(self) -> str:
        return self.report()

    # -- adding

    def add(self, record: Mapping[str, Any]) -> None:
        """One record, as it stands in the file. Kinds that are not known are left out."""
        kind, at = record.get("record"), whole_number(record.get("step", self.step))
        if kind == "header":
            self.header = self.header or _header(record)
        elif kind == "step":
            found = measurement(record)
            # A run that goes on from an earlier checkpoint does steps again: the new ones count.
            self._measured.keep_if(lambda m: m.step < found.step)
            self._measured.add(found)
        elif kind == "log":
            for name, value in record["values"].items():
                step, number = whole_number(record["step"]), float(value)
                series = self._logged.setdefault(name, Thinned(KEPT_LOGS))
                if (newest := series.newest) is not None and newest[0] > step:
                    series.keep_if(lambda item, step=step: item[0] < step)  # type: ignore[misc]
                series.add((step, number))
        elif kind == "nonfinite":
            step, nan, inf = (whole_number(record[name]) for name in ("step", "nan", "inf"))
            what, where = _text(record["what"]), _text(record["where"])
            self.nonfinite.append(Broken(step, what, where, nan, inf))
        elif kind == "clipping":
            part = Clipping(**{k: float(v) for k, v in record["since"].items()})  # type: ignore[arg-type]
            total = self.clipping
            total.steps += int(part.steps)
            total.clipped += int(part.clipped)
            total.shrink += part.shrink
            total.nonfinite += int(part.nonfinite)
            total.max_norm = part.max_norm
        self.step = at


def _header(record: Mapping[str, Any]) -> dict[str, Any]:
    """The header, whose parameters are names and shapes. Raises TypeError, ValueError if not."""
    for shape in record.get("parameters", {}).values():
        for size in shape:
            whole_number(size)
    return dict(record)


def _cut(stored: Mapping[str, Any]) -> CutTrace:
    numbers = {name: float(stored[name]) for name in ("ratio", "rate", "half_life", "reach")}
    return CutTrace(
        _text(stored["kind"]),
        _text(stored["reason"]),
        **numbers,
        path={_text(name): float(share) for name, share in stored["path"].items()},
        profile=floats(stored["profile"]),
    )


def _depth(stored: Mapping[str, Any]) -> DepthTrace:
    upper, lower, kind, reason = (_text(stored[k]) for k in ("upper", "lower", "kind", "reason"))
    return DepthTrace(upper, lower, float(stored["ratio"]), kind, reason)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {shortly(value)}")
    return value


def measurement(record: Mapping[str, Any]) -> Measurement:
    """The Measurement that a record of kind "step" holds."""
    return Measurement(
        whole_number(record["step"]),
        {name: _parameter(stored) for name, stored in record["parameters"].items()},
        {path: _layer(stored) for path, stored in record["layers"].items()},
        {_text(stored["name"]): _cut(stored) for stored in record.get("cuts", ())},
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
            _text(v["kind"]), _text(v["reason"]), *(float(v[k]) for k in StateFlow._fields[2:])
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
