"""A whole process up to its first gradient of an MLP, with no kernel compiled yet or with all."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
from harness import PEERS, Options, Row, Timing, must_agree, run_process
from peers import inputs


def rows(options: Options) -> Iterator[Row]:
    want = expected()
    ours = [sys.executable, str(PEERS / "first_gradient_minigrad.py")]
    torch = [options.torch or "", str(PEERS / "first_gradient_torch.py")]

    def once(command: list[str], cache: str) -> float:
        seconds, output = run_process(command, threads=2, MINIGRAD_CACHE_DIR=cache)
        got = {name: np.asarray(value) for name, value in json.loads(output).items()}
        must_agree(command[1], got, want, 1e-5)
        return seconds

    cold: list[float] = []
    warm: dict[str, list[float]] = {"minigrad": [], **({"torch": []} if options.torch else {})}
    for _ in range(1 if options.quick else 5):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(once(ours, cache))
    with tempfile.TemporaryDirectory() as cache:
        once(ours, cache)
        for _ in range(options.rounds):
            warm["minigrad"].append(once(ours, cache))
            if options.torch:
                warm["torch"].append(once(torch, cache))
    yield row("cold kernel cache", cold, 6.0, {})
    peers = {"torch": Timing(warm["torch"]).median} if options.torch else {}
    yield row("warm kernel cache", warm["minigrad"], 0.6, peers)


def row(name: str, seconds: list[float], limit: float, peers: dict[str, float]) -> Row:
    timing = Timing(seconds)
    return Row("first_gradient", name, timing.median, "s", timing.spread(), limit, peers=peers)


def expected() -> dict[str, np.ndarray]:
    """Loss and gradients of the MLP by its textbook formulas, in float64."""
    data = {
        name: a.astype(np.float64) if a.dtype == np.float32 else a
        for name, a in inputs.mlp().items()
    }
    x, labels, count = data["x"], data["labels"], len(data["labels"])
    hidden = np.tanh(x @ data["w1"] + data["b1"])
    logits = hidden @ data["w2"] + data["b2"]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(count), labels]).mean()
    dlogits = (p - np.eye(p.shape[1])[labels]) / count
    dz = (dlogits @ data["w2"].T) * (1 - hidden**2)
    return {
        "loss": loss,
        "w1": x.T @ dz,
        "b1": dz.sum(axis=0),
        "w2": hidden.T @ dlogits,
        "b2": dlogits.sum(axis=0),
    }
