"""The report of a recording: a table to print, a dict for JSON, a page to share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import FlowError
from .cuts import Cut
from .layerflow import FORWARD_ONLY, LayerFlow
from .recording import Recording
from .tables import BLOCKS, by_lag, log_range, number, reach, sparkline, table
from .verdict import Verdict

if TYPE_CHECKING:
    from .explorer import Explorer

Array = np.ndarray
Row = tuple[list[str], Array]  # the cells under HEAD, and the profile by lag
DETAILED = 24  # runs; of more, only the first call of each layer is written about at length
HEAD = ("cut, layer", "state", "nearest", "farthest", "ratio", "per step", "reach", "verdict")
FROM_FAR = "from the farthest step to the loss"
NOW = (
    "A verdict is about the gradient of this pass: before training it does not say whether the net "
    "will learn."
)
JUDGED = "  judged is the last of many outputs by itself; report(..., summed=True) shows their sum"
SUMMED = "  shown is the sum over all outputs; judged was the last one by itself"


class Report:
    """What one recording, or several by name, have to say. `print(report)` shows the table.

    blocks: characters of the sparklines, all of them on one scale. summed: of a loss read at many
    steps show the sum of what comes back, and not what was judged, the last output alone.
    """

    def __init__(
        self, recordings: Mapping[str, Recording], blocks: str = BLOCKS, summed: bool = False
    ):
        self.recordings, self.blocks, self.summed = dict(recordings), blocks, summed

    def __str__(self) -> str:
        """A row for each cut, then for each state by itself; reasons, gates and advice."""
        rows = [row for named in self.recordings.items() for row in self.rows(*named)]
        low, high = log_range([profile for _, profile in rows])
        lines = [
            [*cells, sparkline(profile[::-1], low, high, blocks=self.blocks)]
            for cells, profile in rows
        ]
        body = table((*HEAD, FROM_FAR), lines, right=range(2, 7))
        notes = [
            line
            for named in self.recordings.items()
            for lines in (self.said, self.inside, self.missing)
            for line in lines(*named)
        ]
        return "\n".join([body, "", *notes])

    __repr__ = __str__

    _repr_html_: ClassVar[Callable[[Any], str]]  # notebook.py, which reads it, says how

    def rows(self, name: str, recording: Recording) -> Iterator[Row]:
        """Of each cut, then of each state by itself, where a cut does not say all of it."""
        said = set()
        for cut in recording.cuts:
            if len(cut.labels) == 1:  # a cut through one state says all of it
                said.add(cut.labels[0])
            yield cut_row(name, cut, self.summed)
        for path, layer in recording.items():
            for state in layer.verdicts:
                if (path, state) not in said:
                    yield state_row(name, layer, state, self.summed)

    def said(self, name: str, recording: Recording) -> Iterator[str]:
        """The verdicts through time and in depth, and what to try."""
        for cut in recording.cuts:
            verdict = cut.verdict
            yield f"{_place(name, cut.name)}: {verdict}"
            if not np.array_equal(cut.profile, cut.summed, equal_nan=True):
                yield SUMMED if self.summed else JUDGED
            if verdict.advice:
                yield f"  try: {verdict.advice}"
        for depth in recording.depth:
            yield f"{_place(name, 'depth')}: {depth.verdict}"
        if recording.cuts:
            yield NOW

    def inside(self, name: str, recording: Recording) -> Iterator[str]:
        """What gates and units did, of the first call of each layer where there are many calls."""
        for layer in recording.values():
            if len(recording) <= DETAILED or layer.first:
                yield from inside(name, layer)

    def missing(self, name: str, recording: Recording) -> Iterator[str]:
        """What ran and is not in the recording."""
        for text in recording.missing:
            yield f"missing: {' '.join(filter(None, (name, text)))}"

    def to_dict(self) -> dict[str, Any]:
        """Norms, gates and verdicts of every layer, for JSON."""
        found = {name: recording.to_dict() for name, recording in self.recordings.items()}
        return found[""] if list(found) == [""] else found

    def to_html(self, path: str | Path, **options: Any) -> Path:
        """One file that shows it all in a browser, without network or server; see flow/explorer.

        options: those of `mg.flow.explorer.to_html`, such as title= and text=.
        """
        from .explorer import to_html

        return to_html(self.recordings, path, **{"summed": self.summed, **options})

    def explore(self, **options: Any) -> Explorer:
        """The same page as an object that shows itself in a notebook; options as in `to_html`.

        >>> import minigrad as mg
        >>> gru = mg.nn.GRU(2, 3, generator=np.random.default_rng(0))
        >>> rec = mg.flow.probe(gru, np.ones((9, 1, 2), np.float32))
        >>> mg.flow.report(rec).explore(text="to be or ")
        <Explorer, ... kB; a notebook shows it, .save('flow.html') writes it>
        """
        from .explorer import Explorer, page

        return Explorer(page(self.recordings, **{"summed": self.summed, **options}))


def report(
    what: Recording | Mapping[str, Recording], blocks: str = BLOCKS, summed: bool = False
) -> Report:
    """The Report of a Recording, or of several by name.

    blocks, summed: see Report. Raises FlowError where there is nothing to report, saying what is
    missing.

    >>> import minigrad as mg
    >>> gru = mg.nn.GRU(2, 3, generator=np.random.default_rng(0))
    >>> print(str(report(mg.flow.probe(gru, np.ones((9, 1, 2), np.float32))))[:27])
    cut, layer  state  nearest
    """
    recordings = {"": what} if isinstance(what, Recording) else what
    if not isinstance(recordings, Mapping) or not recordings:
        raise FlowError(
            f"report: expected a Recording or a dict of them, got {type(what).__name__}; "
            f"`with mg.flow.record() as rec` makes one."
        )
    for name, recording in recordings.items():
        if not isinstance(recording, Recording):
            raise FlowError(
                f"report: {name!r} is {type(recording).__name__}, not a Recording; "
                f"`with mg.flow.record() as rec` makes one."
            )
        _ = recording.layers  # says what is missing
    return Report(recordings, blocks, summed)


Recording.printed = report


def cut_row(name: str, cut: Cut, summed: bool = False) -> Row:
    """name: of the recording, "" where there is one."""
    profile = cut.summed if summed else cut.profile
    states = " ".join(dict.fromkeys(state for _, state in cut.labels))
    return [_place(name, cut.name), states, *_numbers(profile, cut.verdict)], profile


def state_row(name: str, layer: LayerFlow, state: str, summed: bool = False) -> Row:
    """Of one state of a layer by itself."""
    profile = by_lag(layer.norms[state]) if summed else layer.profile(state)
    numbers = _numbers(profile, layer.verdicts[state])
    if layer.forward_only:
        numbers = [*"-----", FORWARD_ONLY]
    return [f"  {_place(name, layer.path)}", state, *numbers], profile


def _place(name: str, path: str) -> str:
    return " ".join(filter(None, (name, path))) or "network"


def _numbers(profile: Array, verdict: Verdict) -> list[str]:
    """The cells from "nearest" to "verdict"."""
    ends = (profile[0], profile[-1]) if profile.size else (0.0, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.divide(ends[1], ends[0]))
    rate = f"x{verdict.rate:.3g}" if verdict.fit else "-"
    return [*map(number, (*ends, ratio)), rate, reach(verdict), verdict.kind]


def inside(name: str, layer: LayerFlow) -> list[str]:
    """What is to be said of a layer: gates with time constants, dead units, NaN and Inf."""
    place = _place(name, layer.path)
    if layer.forward_only:
        return [f"{place}: {layer.verdict}"]
    verdicts, lines = layer.verdicts, []
    if not layer.taking_part.any():
        return [f"{place}: all of it is padding: no row took part in any step"]
    constants = layer.time_constants
    for name, activation in layer.activations.items():
        if name not in verdicts:
            found = activation.mean, activation.saturation, constants.get(name)
            lines.append(_gate(name, *(None if x is None else layer.own_steps(x) for x in found)))
    for name, dead in layer.dead.items():
        if dead.any():
            lines.append(f"  {name}: {int(dead.sum())} of {dead.size} units never move")
    for name, bad in layer.nonfinite.items():
        if any(bad):
            lines.append(
                f"  {name}: {bad.values} values and {bad.gradients} gradient norms are NaN or Inf"
                f"{_since(layer, name, bad.values)}"
            )
    return [f"{place}:", *lines] if lines else []


def _since(layer: LayerFlow, name: str, bad: int) -> str:
    """` (values from t = 82, row 1)`: the first, in order of computation, that are not finite."""
    broken = ~np.isfinite(layer.values[name])
    if not bad or int(broken.sum()) != bad:  # else nan also stands for rows that a step has not
        return ""
    where = broken.any(axis=2)
    at = int(np.argmax(where.any(axis=1)))
    return f" (values from t = {layer.steps[at]}, row {int(np.argmax(where[at]))})"


def _gate(name: str, mean: Any, saturation: Any, constant: Any) -> str:
    text = f"  {name}: {np.mean(mean):.2f} on average"
    flat = float(np.mean(saturation))
    if not math.isnan(flat):
        text += f", {flat:.0%} saturated"
    if constant is not None and not math.isnan(np.median(constant)):
        text += f", keeps the state for {np.median(constant):.3g} steps"
    return text
