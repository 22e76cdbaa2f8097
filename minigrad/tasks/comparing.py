"""RNN, LSTM, GRU and BiLSTM on one task at equal parameters: quality, time, gradient half-life.

Every cell gets as many units as make its model's number of parameters nearest to that of the task's
default model, and a BiLSTM is trained once for every way to merge its two directions. Quality is
the metric on the test part: mean, least and most over several seeds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from ..files import write_whole
from ..flow import probe
from ..flow.results import to_json
from ..flow.tables import steps as shown_steps
from ..flow.tables import table
from ..interop.base import version
from ..nn.recurrent import MERGES
from ..optim import Adam
from ..train.loop import fit
from .base import CELLS, Settings, Task, TaskError
from .running import measure

COMPARISON = "comparison.json"
HEAD = ("cell", "units", "parameters", "mean", "from", "to", "ms a step", "half-life")


@dataclass(frozen=True)
class Row:
    """One cell. values: the metric, one for each seed. ms: median time of an update. half_lives:
    steps in which |dL/dh_t| halves in the trained layer of the first seed, by path.
    """

    cell: str
    merge: str
    hidden: int
    parameters: int
    values: list[float]
    ms: float
    half_lives: dict[str, float]
    epochs: list[int]  # of the parameters that were kept

    @property
    def name(self) -> str:
        return f"{self.cell}, {self.merge}" if self.cell == "bilstm" else self.cell


def compare(
    kind: type[Task],
    base: Settings,
    runs: int,
    folder: Path,
    told: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Trains every cell `runs` times; rewrites DIR/comparison.json after each, whole.

    Seeds are base.seed, base.seed + 1, ... Raises TaskError for a task without such a layer.
    """
    check(kind)
    budget = kind(base).parameters()
    rows: list[Row] = []
    for settings in variants(kind, base):
        row = _row(kind, replace(settings, hidden=hidden_for(kind, settings, budget)), runs)
        rows.append(row)
        told(row)
        found = {
            "task": kind.name,
            "metric": kind.metric,
            "unit": kind.unit,
            "larger_is_better": kind.larger_is_better,
            "settings": base.to_dict(),
            "seeds": list(range(base.seed, base.seed + runs)),
            "rows": [vars(r) for r in rows],
            "minigrad": version(),
        }
        write_whole(folder / COMPARISON, to_json(found).encode())
    return rows


def comparable(kind: type[Task]) -> bool:
    """Whether the task offers two recurrent cells or more."""
    return sum(cell in kind.cells for cell in CELLS) > 1


def check(kind: type[Task]) -> None:
    """Raises TaskError if there are no cells to compare."""
    if not comparable(kind):
        raise TaskError(f"{kind.name}: its model has one cell only, so there is none to compare.")


def variants(kind: type[Task], base: Settings) -> Iterator[Settings]:
    """Settings of each cell that the task offers, a BiLSTM once for each merge, others last."""
    for cell in [*CELLS, *(cell for cell in kind.cells if cell not in CELLS)]:
        if cell in kind.cells:
            for merge in MERGES if cell == "bilstm" else ("concat",):
                yield replace(base, cell=cell, merge=merge)


def hidden_for(kind: type[Task], settings: Settings, budget: int) -> int:
    """The number of units with which the model has the number of parameters nearest to `budget`.

    That number is a h^2 + b h + c for every cell, so three models tell it for all h.
    """
    sizes = (1, 2, 3)
    counts = [kind(replace(settings, hidden=h)).parameters() for h in sizes]
    a, b, c = np.linalg.solve(np.vander(sizes, 3).astype(float), np.array(counts, float)).round()
    inside = max(b * b - 4 * a * (c - budget), 0.0)
    root = (-b + math.sqrt(inside)) / (2 * a) if a else (budget - c) / b
    near = [max(math.floor(root), 1), max(math.ceil(root), 1)]
    return min(near, key=lambda h: abs(a * h * h + b * h + c - budget))


def _row(kind: type[Task], settings: Settings, runs: int) -> Row:
    values, paces, epochs = [], [], []
    half_lives: dict[str, float] = {}
    for k in range(runs):
        task = kind(replace(settings, seed=settings.seed + k))
        clock = _Clock()
        fitted = fit(
            task.model, task.loss, task.batches, Adam(task.model.parameters(), task.rate),
            epochs=settings.epochs, max_norm=task.max_norm, carry=task.carry,
            validate=task.validate, patience=task.patience, callbacks=[clock], progress=False,
        )  # fmt: skip
        values.append(measure(task, fitted.steps, fitted.epochs, fitted.seconds).value)
        epochs.append(int(fitted.best.get("epoch", 0)))
        paces.append(clock.pace())
        half_lives = half_lives or _half_lives(task)
    return Row(
        settings.cell, settings.merge, settings.hidden, task.parameters(), values,
        1e3 * median(paces), half_lives, epochs,
    )  # fmt: skip


class _Clock:
    """When each update ended. The median of the differences leaves validation and compiling out."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, run: Any) -> None:
        self.times.append(time.perf_counter())

    def pace(self) -> float:
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else math.nan


def _half_lives(task: Task) -> dict[str, float]:
    if task.settings.cell not in CELLS:  # no time, so nothing to flow through it
        return {}
    xs, lengths = task.probed()
    recording = probe(task.recurrent, xs, lengths)
    return {path: layer.verdicts["h"].half_life for path, layer in recording.items()}


def shown(kind: type[Task], rows: list[Row]) -> str:
    """The rows as a table, in the order they were trained in."""
    lines = []
    for row in rows:
        lives = " / ".join(shown_steps(life) for life in row.half_lives.values()) or "-"
        values = [kind.shown(v) for v in (fmean(row.values), min(row.values), max(row.values))]
        lines.append(
            (row.name, str(row.hidden), f"{row.parameters:,}", *values, f"{row.ms:.2f}", lives)
        )
    return table(HEAD, lines, right=range(1, len(HEAD)))
