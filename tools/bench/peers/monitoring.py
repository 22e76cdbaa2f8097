"""Times training with and without a Monitor, in turns, in a process of its own.

python monitoring.py last|all EVERY ROUNDS B T I H (EVERY 0: the default)

A step is an LSTM's forward and backward pass, clipping and Adam; the loss reads the last output, or
all of them. A round is EVERY steps, of which one is measured. The answer is a line of JSON: seconds
a step of both by round, and the sum of the parameters' squares after as many steps of each, which
must agree.
"""

from __future__ import annotations

import inspect
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import minigrad as mg


class Training:
    """One model on its way; `step` does an update, `clip` its clipping."""

    def __init__(self, reads: str, batch: int, steps: int, inputs: int, hidden: int):
        rng = np.random.default_rng(0)
        self.net = mg.nn.LSTM(inputs, hidden, generator=rng)
        self.optimizer = mg.optim.Adam(self.net.parameters(), lr=1e-4)
        self.xs = mg.tensor(rng.normal(size=(steps, batch, inputs)).astype(np.float32))
        self.weight = mg.tensor(rng.normal(size=(batch, hidden)).astype(np.float32))
        self.last = reads == "last"

    def step(self, clip: Callable[[float], float]) -> float:
        out, _ = self.net(self.xs)
        loss = ((out[-1] if self.last else out) * self.weight).mean()
        self.optimizer.zero_grad()
        loss.backward()
        clip(1.0)
        self.optimizer.step()
        return float(loss.item())

    def clip(self, max_norm: float) -> float:
        return mg.optim.clip_grad_norm_(self.net.parameters(), max_norm)

    def squares(self) -> list[float]:
        return [float((p.numpy().astype(np.float64) ** 2).sum()) for p in self.net.parameters()]


def main() -> None:
    reads, *numbers = sys.argv[1:]
    asked, rounds, *size = map(int, numbers)
    default = inspect.signature(mg.flow.Monitor).parameters["every"].default
    every = asked or int(default)
    plain, watched = (Training(reads, *size) for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.jsonl"
        with mg.flow.Monitor(watched.net, path, every=every) as monitor:

            def monitored() -> None:
                with monitor.step():
                    loss = watched.step(monitor.clip)
                monitor.log(loss=loss)

            seconds: dict[str, list[float]] = {"plain": [], "watched": []}
            for round_ in range(rounds + 1):
                for name, step in (
                    ("plain", lambda: plain.step(plain.clip)),
                    ("watched", monitored),
                ):
                    start = time.perf_counter()
                    for _ in range(every):
                        step()
                    if round_:  # the first compiles
                        seconds[name].append((time.perf_counter() - start) / every)
        seen = len(mg.flow.read_monitor(path).measurements)
    answer = {"seconds": seconds, "plain": plain.squares(), "watched": watched.squares()}
    print(json.dumps(answer | {"measured": seen, "every": every}))


if __name__ == "__main__":
    main()
