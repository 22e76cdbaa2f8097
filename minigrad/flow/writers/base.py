"""A writer hears every record of a Monitor, and what is in one: numbers, histograms and words."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FlowError
from ..histogram import HIGH, LOW, Histogram
from ..history import History
from ..measurements import CURVES, Measurement, measurement
from ..monitorfile import read_monitor
from ..plots.style import PlotError

Array = np.ndarray
# kinds of History.curves -> the head of their names in a writer
HEADS = {
    "weight": "weight", "gradient": "gradient", "update": "update", "gate weight": "weight",
    "gate gradient": "gradient", "gate update": "update", "saturation": "saturation",
    "opening": "opening", "dead": "dead", "reach": "reach", "far/near": "far over near",
}  # fmt: skip
EDGES = np.arange(LOW - 1, HIGH + 2)  # of log2 |x|; the first bin has zeros, the last what is over


class Writer(ABC):
    """Something that a Monitor's records go to; `Monitor(writers=[...])`, or `copy` of a file."""

    @abstractmethod
    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers by name, at one step of training."""

    @abstractmethod
    def histogram(self, step: int, name: str, counts: Array) -> None:
        """How many elements are between two of EDGES."""

    @abstractmethod
    def words(self, step: int, name: str, text: str) -> None:
        """A verdict, or where NaN began."""

    @abstractmethod
    def image(self, step: int, name: str, png: bytes) -> None:
        """A picture."""

    @abstractmethod
    def close(self) -> None:
        """Ends the files; closing again does nothing."""

    def write(self, record: Mapping[str, Any]) -> None:
        """One record, as it stands in a Monitor's file."""
        kind = record.get("record")
        if kind == "log":
            self.numbers(record["step"], {name: float(x) for name, x in record["values"].items()})
        elif kind == "step":
            self._step(measurement(record))
        elif kind == "clipping":
            since = record["since"]
            self.numbers(record["step"], {"clipped": since["clipped"] / since["steps"]})
        elif kind == "nonfinite":
            self.words(record["step"], "nonfinite", f"{record['what']}: {record['where']}")

    def _step(self, m: Measurement) -> None:
        found: dict[str, float] = {}
        for what, head in HEADS.items():
            numbers = CURVES[what](m)
            found |= {f"{head}/{n.replace(' ', '/')}": x for n, x in numbers if x is not None}
        self.numbers(m.step, found)
        for name, p in m.parameters.items():
            if p.histogram is not None:
                self.histogram(m.step, f"log2 gradient/{name}", counts_of(p.histogram))
        for name, cut in m.cuts.items():
            self.words(m.step, f"verdict/{name or 'network'}", f"{cut.kind}: {cut.reason}")

    def finish(self, history: History) -> None:
        """The pictures of a whole run, and the end."""
        if history.cuts:
            with suppress(PlotError):  # no matplotlib
                self.image(history.step, "lag x update", _picture(history))
        self.close()

    def copy(self, path: str | Path) -> None:
        """Writes all that a Monitor's file holds, and ends. Raises FlowError as read_monitor."""
        self.finish(read_monitor(path, heard=self.write))


def counts_of(histogram: Histogram) -> Array:
    """(len(EDGES) - 1,): of log2 of what is finite."""
    ends = histogram.zero + histogram.under, histogram.over
    return np.array([ends[0], *histogram.counts, ends[1]])


def package(what: str, name: str, install: str) -> Any:
    """A module of another package, or FlowError that says how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise FlowError(
            f"{what}: needs {install}, which is not installed: pip install {install}"
        ) from error


def _picture(history: History) -> bytes:
    from ..plots import lags

    out = io.BytesIO()
    lags(history).savefig(out, format="png", dpi=110)
    return out.getvalue()
