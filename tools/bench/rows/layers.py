"""A training step of LSTM, GRU and RNN: forward, backward, float32, two threads, loss sum(h**2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from harness import Options, Row
from sequences import Target, enter, standings

TARGETS = {
    "lstm": [Target("torch", 1.25, 1.75), Target("torch", None, 2.1, who="mg.jit")],
    "gru": [Target("torch", 1.1, 7.0)],
    "rnn": [Target("torch", 1.1, 5.5)],
}


def rows(options: Options) -> Iterator[Row]:
    with ExitStack() as stack:
        entries = enter(stack, options, "minigrad") + enter(stack, options, "torch")
        more = enter(stack, options, "minigrad", label="mg.jit", jitted=True)
        more += enter(stack, options, "jax", label="jax lax.scan")
        for cell, targets in TARGETS.items():
            everyone = entries + more if cell == "lstm" else entries
            yield from standings("layers", cell, cell, everyone, targets, options)
