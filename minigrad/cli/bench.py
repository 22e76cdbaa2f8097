"""`minigrad bench`: a minute's measurement of this machine. `tools/bench` in a checkout compares
with peers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from operator import matmul
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn, ops
from ..files import write_whole
from ..flow.tables import table
from ..tape import no_grad
from ..tensors import tensor
from .info import facts
from .output import say

Row = tuple[str, float, str]  # what, value, unit


def add(commands: Any) -> None:
    """Declares the command and its arguments."""
    parser = commands.add_parser(
        "bench",
        help="measure kernels, tape and cells on this machine",
        description="Measures vector maths, matrix products beside NumPy's, the cost of a recorded "
        "operation, and training steps of RNN, LSTM and GRU. Results are checked before they are "
        "timed. Medians; run it on an idle machine.",
        epilog="example: minigrad bench --json bench.json",
    )
    parser.set_defaults(run=run)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")


def run(args: argparse.Namespace) -> int:
    """Measures, prints the table and writes the JSON."""
    rows = [*elementwise(), *products(), *operation(), *layers()]
    say(table(("what", "median", "unit"), [(n, f"{v:.3g}", u) for n, v, u in rows], right=[1]))
    if args.json:
        rows_json = [{"what": n, "median": v, "unit": u} for n, v, u in rows]
        report = {"machine": {fact.name: fact.value for fact in facts()}, "rows": rows_json}
        write_whole(args.json, (json.dumps(report, indent=1) + "\n").encode())
        say(f"wrote {args.json}")
    return 0


def seconds(f: Callable[[], Any], budget: float = 0.5) -> float:
    """Median seconds a call, over a budget of time, after a warm-up call."""
    f()
    started = time.perf_counter()
    f()
    calls = max(1, int(0.02 / max(time.perf_counter() - started, 1e-9)))
    samples: list[float] = []
    deadline = time.perf_counter() + budget
    while len(samples) < 5 or (time.perf_counter() < deadline and len(samples) < 50):
        at = time.perf_counter()
        for _ in range(calls):
            f()
        samples.append((time.perf_counter() - at) / calls)
    return statistics.median(samples)


def elementwise() -> list[Row]:
    """Vector maths on arrays that fit the L2 cache."""
    rows = []
    for dtype in (np.float32, np.float64):
        x = tensor(np.linspace(-4, 4, 16384), dtype)
        for name in ("exp", "tanh", "sigmoid"):
            op = getattr(ops, name)
            plain = (
                1 / (1 + np.exp(-x.numpy())) if name == "sigmoid" else getattr(np, name)(x.numpy())
            )
            np.testing.assert_allclose(op(x).numpy(), plain, rtol=1e-5)
            with no_grad():
                each = seconds(partial(op, x), 0.2) / x.size
            rows.append((f"{name}, {np.dtype(dtype)}, 16384 elements", each * 1e9, "ns/element"))
    return rows


def products() -> list[Row]:
    """Matrix products of recurrent shapes, and a large one."""
    rows = []
    rng = np.random.default_rng(0)
    for m, k, n in ((16, 64, 256), (64, 256, 1024), (1024, 1024, 1024)):
        a, b = (rng.normal(size=s).astype(np.float32) for s in ((m, k), (k, n)))
        ta, tb = tensor(a), tensor(b)
        np.testing.assert_allclose((ta @ tb).numpy(), a @ b, rtol=1e-3, atol=1e-3)
        flops = 2 * m * k * n
        for who, pair in (("minigrad", (ta, tb)), ("NumPy", (a, b))):
            speed = flops / seconds(partial(matmul, *pair), 0.3) / 1e9
            rows.append((f"matmul {m}x{k} {k}x{n}, {who}", speed, "GFLOP/s"))
    return rows


def operation() -> list[Row]:
    """A recorded operation, forward and backward: a chain of 100 on 32 numbers."""
    x, chain = tensor(np.ones(32, np.float32), requires_grad=True), 100

    def step() -> None:
        y = x
        for _ in range(chain):
            y = y * x
        y.sum().backward()
        x.zero_grad()

    return [("one small operation, forward and backward", seconds(step) / chain * 1e6, "us")]


def layers() -> list[Row]:
    """Forward and backward of a layer, every step on the tape."""
    rows = []
    rng = np.random.default_rng(0)
    T, B, H = 50, 16, 64
    xs = tensor(rng.normal(size=(T, B, H)).astype(np.float32))
    for layer_type in (nn.RNN, nn.LSTM, nn.GRU):
        layer = layer_type(H, H, generator=np.random.default_rng(0))

        def step(layer: Any = layer) -> None:
            layer.zero_grad()
            ops.sum(ops.square(layer(xs)[0])).backward()

        what = f"{layer_type.__name__} training step, T={T} B={B} I=H={H}"
        rows.append((what, seconds(step) * 1e3, "ms"))
    return rows
