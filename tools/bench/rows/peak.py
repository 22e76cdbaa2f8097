"""How much of what the arithmetic units can do a training step of an LSTM uses, in float32."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
from harness import Options, Peer, Row, Timing, must_agree
from peers.inputs import GATES, Sizes
from sequences import SIZES, THREADS, enter, race, sizes


def rows(options: Options) -> Iterator[Row]:
    size = sizes(options, SIZES[3:4])[0]
    peaks, flops = {}, {}
    with ExitStack() as stack:
        for count in range(1, min(THREADS, os.cpu_count() or 1) + 1):
            name = f"{count} thread{'s' if count > 1 else ''}"
            peaks[name] = stack.enter_context(Peer("minigrad", threads=count, label=name))
            got = peaks[name].prepare("fma")
            must_agree(name, got, {"y": np.ones_like(got["y"])}, 1e-6)
            flops[name] = float(got["flops"])
        layers = enter(stack, options, "minigrad") + enter(stack, options, "torch")
        # The units and the layers take turns: the clock of the moment is the same for both.
        times = race(layers, "lstm", size, options, beside=list(peaks.values()))
    speed = {name: speeds(work, times[name]) for name, work in flops.items()}
    for name, timing in speed.items():
        yield Row(
            "peak",
            f"fused multiply-adds, {name}",
            timing.median,
            "GFLOP/s",
            timing.spread(),
        )
    most = max(speed[name].samples)  # on all threads; a disturbed peak would flatter the layers
    speed = {e.peer.name: speeds(step_flops("lstm", size), times[e.peer.name]) for e in layers}
    shares = {who: Timing([v / most for v in t.samples]) for who, t in speed.items()}
    ours = shares.pop("minigrad")
    yield Row(
        "peak",
        f"LSTM training step {tuple(size)}",
        ours.median,
        f"of {name}",
        ours.spread(),
        limit=0.85,
        better=">=",
        peers={who: share.median for who, share in shares.items()},
        note=", ".join(f"{who} {timing.median:.3g} GFLOP/s" for who, timing in speed.items()),
    )


def speeds(flops: float, timing: Timing) -> Timing:
    """GFLOP/s in each round."""
    return Timing([flops / seconds / 1e9 for seconds in timing.samples])


def step_flops(cell: str, size: Sizes) -> float:
    """Of the matrix products: one forward, and two of its size for the gradients."""
    rows = GATES[cell] * size.hidden
    return 3.0 * 2 * size.batch * size.steps * rows * (size.inputs + size.hidden)
