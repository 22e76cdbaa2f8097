"""The report of a recording: a table to print, a dict for JSON, a page to share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .layerflow import FORWARD_ONLY, Activation, LayerFlow
from .recording import Recording
from .replay import FlowError
from .tables import BLOCKS, log_range, number, sparkline, steps, table

DETAILED = 24  # runs; of more, only the first call of each layer is written about at length
_HEAD = ("layer", "state", "nearest", "farthest", "ratio", "per step", "half-life", "verdict")


class Report:
    """What one recording, or several by name, have to say. `print(report)` shows the table.

    blocks: characters of the sparklines, all of them on one scale.
    """

    def __init__(self, recordings: Mapping[str, Recording], blocks: str = BLOCKS):
        self.recordings, self.blocks = dict(recordings), blocks

    def __str__(self) -> str:
        """A row for each state, then gates, reasons and advice."""
        layers = [
            (name, path, layer)
            for name, recording in self.recordings.items()
            for path, layer in recording.items()
        ]
        low, high = log_range([n for *_, layer in layers for n in layer.norms.values()])
        rows, notes = [], []
        for name, path, layer in layers:
            place = " ".join(filter(None, (name, path)))
            verdicts = layer.verdicts
            for state, verdict in verdicts.items():
                profile = layer.profile(state)
                ends = (profile[0], profile[-1]) if profile.size else (0.0, 0.0)
                rate = f"x{verdict.rate:.3g}" if verdict.fit else "-"
                numbers = [*map(number, ends), number(verdict.ratio), rate]
                numbers += [steps(verdict.half_life), verdict.kind]
                if layer.forward_only:
                    numbers = [*"-----", FORWARD_ONLY]
                row = [place or "-", state, *numbers]
                rows.append([*row, sparkline(layer.norms[state], low, high, blocks=self.blocks)])
            notes.append(f"{place or 'network'}: {layer.verdict}")
            if len(layers) <= DETAILED or layer.first:
                notes += _notes(layer)
        body = table((*_HEAD, "|dL/dstate| in order of computation"), rows, right=range(2, 7))
        missing = [
            f"missing: {' '.join(filter(None, (name, text)))}"
            for name, recording in self.recordings.items()
            for text in recording.missing
        ]
        return "\n".join([body, "", *notes, *missing])

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Norms, gates and verdicts of every layer, for JSON."""
        found = {name: recording.to_dict() for name, recording in self.recordings.items()}
        return found[""] if list(found) == [""] else found

    def to_html(self, path: str | Path, **options: Any) -> Path:
        """One file that shows it all in a browser, without network or server; see flow/explorer.

        options: those of `mg.flow.explorer.to_html`, such as title= and text=.
        """
        from .explorer import to_html

        return to_html(self.recordings, path, **options)


def report(what: Recording | Mapping[str, Recording], blocks: str = BLOCKS) -> Report:
    """The Report of a Recording, or of several by name.

    Raises FlowError where there is nothing to report, saying what is missing.

    >>> import minigrad as mg
    >>> gru = mg.nn.GRU(2, 3, generator=np.random.default_rng(0))
    >>> print(str(report(mg.flow.probe(gru, np.ones((9, 1, 2), np.float32))))[:27])
    layer       state  nearest
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
    return Report(recordings, blocks)


Recording.printed = report


def _notes(layer: LayerFlow) -> list[str]:
    """Gates with time constants, dead units, NaN and Inf, and what to try."""
    if layer.forward_only:
        return []
    verdicts, lines = layer.verdicts, []
    constants = layer.time_constants
    for name, activation in layer.activations.items():
        if name not in verdicts:
            lines.append(_gate(name, activation, constants.get(name)))
    for name, dead in layer.dead.items():
        if dead.any():
            lines.append(f"  {name}: {int(dead.sum())} of {dead.size} units never move")
    for name, bad in layer.nonfinite.items():
        if any(bad):
            lines.append(
                f"  {name}: {bad.values} values and {bad.gradients} gradient norms are NaN or Inf"
                f"{_since(layer, name, bad.values)}"
            )
    if advice := layer.verdict.advice:
        lines.append(f"  try: {advice}")
    return lines


def _since(layer: LayerFlow, name: str, bad: int) -> str:
    """` (values from t = 82, row 1)`: the first, in order of computation, that are not finite."""
    broken = ~np.isfinite(layer.values[name])
    if not bad or int(broken.sum()) != bad:  # else nan also stands for rows that a step has not
        return ""
    where = broken.any(axis=2)
    at = int(np.argmax(where.any(axis=1)))
    return f" (values from t = {layer.steps[at]}, row {int(np.argmax(where[at]))})"


def _gate(name: str, activation: Activation, constant: np.ndarray | None) -> str:
    text = f"  {name}: {np.mean(activation.mean):.2f} on average"
    saturation = float(np.mean(activation.saturation))
    if not math.isnan(saturation):
        text += f", {saturation:.0%} saturated"
    if constant is not None:
        text += f", keeps the state for {np.median(constant):.3g} steps"
    return text
