"""The table that advice comes from: what helped small nets with planted faults.

    python tools/prescriptions.py             # writes minigrad/flow/prescribing/prescriptions.json
    python tools/prescriptions.py --out FILE  # ... somewhere else
    python tools/prescriptions.py --only exploding rnn

Each cause is planted in several cells on several tasks of mg.lab, and mg.flow.prescribe tries all
remedies on it. A run counts for a cause only where that is what a report would name, if a report
can see it at all. Nothing in it depends on the machine but the last bits of the arithmetic: updates
and seeds are fixed, and there is no budget of time.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.files import write_whole
from minigrad.flow.prescribing import known
from minigrad.flow.prescribing.case import kind_of
from minigrad.flow.results import to_json
from minigrad.lab.tasks import task

TASKS = {"latch": 30, "adding": 20, "order": 20}  # delay of each
HIDDEN, ROWS, MEASURED, UPDATES, SEEDS, RATE = 16, 16, 128, 200, 4, 5e-3
FOREVER = 1e9

CELLS: dict[str, Callable[..., nn.Recurrent]] = {
    "rnn": nn.RNN,
    "relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "minimal": lambda I, H, num_layers, generator: nn.Recurrent(
        lambda size: nn.MinimalGatedCell(size, H, generator=generator), I, num_layers
    ),
}


class Plan(NamedTuple):
    """A cause: in which cells, what is done to their first weights, and to the rest of the run.

    seen: whether a report can tell it from other causes before a step is done.
    """

    cells: tuple[str, ...]
    plant: Callable[[nn.Recurrent], None] = lambda layer: None
    inputs: float = 1.0
    rate: float = RATE
    layers: int = 1
    seen: bool = True


def scaled(name: str, times: float) -> Callable[[nn.Recurrent], None]:
    def plant(layer: nn.Recurrent) -> None:
        for cell in layer.cells:
            p = getattr(cell, name)
            p.data = times * p.numpy()

    return plant


def stuck(layer: nn.Recurrent) -> None:
    """Three quarters of the units never move: their biases hold them at the end."""
    for cell in layer.cells:
        part = np.arange(cell.hidden_size) < 0.75 * cell.hidden_size
        cell.bias_ih.data[: cell.hidden_size][part] = -30.0


def exploding(layer: nn.Recurrent) -> None:
    """A weight_hh that grows; tanh takes more of it."""
    scaled("weight_hh", 3.5 if layer.cells[0].nonlinearity == "relu" else 8.0)(layer)


def saturated(layer: nn.Recurrent) -> None:
    """Weights so large that gates are at their ends, whatever is read."""
    scaled("weight_ih", 100.0)(layer)
    scaled("bias_ih", 30.0)(layer)


def lost_between(layer: nn.Recurrent) -> None:
    """The second layer hardly reads the first."""
    layer.cells[1].weight_ih.data = 1e-4 * layer.cells[1].weight_ih.numpy()


PLANS = {
    "vanishing": Plan(("rnn", "relu", "lstm", "gru", "minimal")),
    "exploding": Plan(("rnn", "relu"), exploding),
    "saturated-gates": Plan(("lstm", "gru"), saturated),
    "input-scale": Plan(("rnn", "lstm", "gru"), inputs=100.0),
    "dead-units": Plan(("rnn", "relu"), stuck),
    "rate-too-large": Plan(("rnn", "lstm"), rate=0.3, seen=False),
    "lost-in-depth": Plan(("rnn", "lstm"), lost_between, layers=2),
}


class Net(nn.Module):
    """A recurrent layer and a linear head on its last output."""

    def __init__(self, cell: str, plan: Plan, work: Any, seed: int):
        generator = np.random.default_rng([seed, 1])
        self.layer = CELLS[cell](work.inputs, HIDDEN, num_layers=plan.layers, generator=generator)
        plan.plant(self.layer)
        self.head = nn.Linear(HIDDEN, work.outputs, generator=generator)

    def forward(self, xs: np.ndarray) -> mg.Tensor:
        return self.head(self.layer(xs)[0][-1])


class Case(NamedTuple):
    """A cause in a cell on a task."""

    cause: str
    cell: str
    name: str

    @property
    def plan(self) -> Plan:
        return PLANS[self.cause]

    @property
    def task(self) -> Any:
        return task(self.name, TASKS[self.name])

    def net(self, seed: int) -> Net:
        return Net(self.cell, self.plan, self.task, seed)

    def batches(self, count: int, rows: int, part: int) -> list[tuple[np.ndarray, np.ndarray]]:
        draw = np.random.default_rng([part, list(TASKS).index(self.name)])
        drawn = [self.task.batch(draw, rows) for _ in range(count)]
        return [((self.plan.inputs * xs).astype(np.float32), ys) for xs, ys in drawn]

    def loss(self, model: Any, batch: Any) -> mg.Tensor:
        return self.task.loss(model(batch[0]), batch[1])

    def named(self) -> list[str]:
        """What a report names as the causes, before training."""
        with mg.flow.record() as rec:
            self.loss(self.net(0), self.batches(1, ROWS, 1)[0]).backward()
        return [cause.name for cause in rec.causes]

    def prescribed(self) -> mg.flow.Prescription:
        return mg.flow.prescribe(
            self.net,
            self.loss,
            self.batches(UPDATES, ROWS, 1),
            lambda parameters: mg.optim.Adam(parameters, self.plan.rate),
            held=self.batches(1, MEASURED, 2),
            updates=UPDATES,
            seeds=SEEDS,
            seconds=FOREVER,
        )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=known.FILE, metavar="FILE")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="causes and cells")
    parser.add_argument("--dry-run", action="store_true", help="say what a report names, and stop")
    args = parser.parse_args(argv)
    chosen = [c for c in PLANS if c in args.only] or list(PLANS)
    started, unlike = time.perf_counter(), []
    pairs: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    for cause in chosen:
        cells = [c for c in PLANS[cause].cells if c in args.only] or PLANS[cause].cells
        for case in [Case(cause, cell, name) for cell in cells for name in TASKS]:
            kind = kind_of(case.net(0).layer.cells[0])
            named = case.named()
            print(f"{time.perf_counter() - started:5.0f} s  {' '.join(case)}: {named}", flush=True)
            if case.plan.seen and cause not in named:
                unlike.append(" ".join(case))
            elif not args.dry_run:
                for tried in case.prescribed().tried:
                    pairs[cause, kind, tried.name] += tried.losses
    if args.dry_run:
        return 0
    rows = []
    for (cause, kind, remedy), losses in pairs.items():
        ratios = [a / b if math.isfinite(b) else 0.0 for a, b in losses if a != b]
        rows.append({
            "cause": cause, "cell": kind, "remedy": remedy,
            "lower": sum(a < b for a, b in losses), "higher": sum(a > b for a, b in losses),
            "ratio": float(f"{median(ratios):.3g}") if ratios else 1.0,
        })  # fmt: skip
    settings = {
        "tasks": TASKS, "hidden": HIDDEN, "batch": ROWS, "updates": UPDATES, "seeds": SEEDS,
        "optimizer": f"Adam, rate {RATE:g}",
        "left out, as a report does not name the cause": unlike,
    }  # fmt: skip
    stored = {"command": "python tools/prescriptions.py", "settings": settings, "rows": rows}
    write_whole(args.out, to_json(stored).encode())
    print(f"{len(rows)} rows in {time.perf_counter() - started:.0f} s: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
