"""What a Monitor has seen of a training run, live or read back from its file: bounded in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from ..errors import FlowError
from ..escapes import printable
from ..untrusted import whole_number
from .measurements import CURVES, Measurement, ParameterFlow, measurement, text
from .tables import BLOCKS

Array = np.ndarray
Item = TypeVar("Item")
KEPT = 256  # measurements in memory; the file has them all
KEPT_LOGS = 4096  # of each logged number


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
            what, where = text(record["what"]), text(record["where"])
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
