"""Times Jacobians or Lyapunov exponents in a process of its own: the answer is a line of JSON.

python laboratory.py jacobians ROUNDS B T I H | lyapunov ROUNDS N T K

With the times comes a sample of the result, and the same by other means: finite differences of the
whole LSTM, or a plain loop of NumPy's QR over the exact Jacobians of a tanh network.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg

Array = np.ndarray
Case = tuple[Callable[[], Any], Callable[[Any], Array], Array, float]


def jacobians(batch: int, steps: int, inputs: int, hidden: int) -> Case:
    """The sample: how the last state moves along one direction of the first."""
    rng = np.random.default_rng(0)
    cell = mg.nn.LSTMCell(inputs, hidden, dtype=np.float64, generator=rng)
    xs = mg.tensor(rng.normal(size=(steps, batch, inputs)))
    few = min(steps, 5)  # more would leave nothing to compare
    v = rng.normal(size=(batch, 2 * hidden))

    def final(eps: float) -> Array:
        h, c = np.split(eps * v, 2, axis=1)
        with mg.no_grad():
            state, _ = mg.scan(cell, mg.nn.LSTMState(mg.tensor(h), mg.tensor(c)), xs[:few])
        return np.concatenate([state.h.numpy(), state.c.numpy()], axis=1)

    expected = (final(1e-6) - final(-1e-6)) / 2e-6

    def sample(found: Any) -> Array:
        return np.einsum("bij,bj->bi", found.between(few, 0).value, v)

    return lambda: mg.flow.jacobians(cell, None, xs), sample, expected, 1e-6


def lyapunov(units: int, steps: int, k: int) -> Case:
    """The sample: the sum and the largest of the exponents at g = 0.9, where nothing is chaotic."""
    rng = np.random.default_rng(0)
    W = 0.9 * rng.normal(size=(units, units)) / np.sqrt(units)
    first, transposed = rng.normal(size=(1, units)), mg.tensor(W.T)
    h, q, logs = first[0], np.linalg.qr(rng.normal(size=(units, k)))[0], np.zeros(k)
    warmup = steps // 5
    for step in range(steps):
        q, r = np.linalg.qr(W * (1 - np.tanh(h) ** 2) @ q)
        h = W @ np.tanh(h)
        logs += np.log(np.abs(np.diagonal(r))) * (step >= warmup)
    expected = np.array([logs.max(), logs.sum()]) / (steps - warmup)

    def cell(h: Any, x: Any) -> Any:
        return mg.tanh(h) @ transposed, h

    def sample(found: Any) -> Array:
        return np.array([found.largest, found.exponents.sum()])

    return (
        lambda: mg.flow.lyapunov(cell, mg.tensor(first), steps=steps, k=k),
        sample,
        expected,
        0.01,
    )


def main() -> None:
    what, rounds, *size = sys.argv[1:]
    run, sample, expected, tolerance = {"jacobians": jacobians, "lyapunov": lyapunov}[what](
        *map(int, size)
    )
    got = sample(run())
    seconds = []
    for _ in range(int(rounds)):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    answer = {"seconds": seconds, "got": got.tolist(), "expected": expected.tolist()}
    print(json.dumps(answer | {"tolerance": tolerance}))


if __name__ == "__main__":
    main()
