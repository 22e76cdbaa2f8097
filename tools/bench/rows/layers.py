"""A training step of LSTM, GRU and RNN: forward, backward, float32, two threads, loss sum(h**2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from harness import Options, Row
from sequences import Target, enter, standings

TARGETS = {"lstm": Target("torch", 1.2, 2.0), "gru": Target("torch", 1.1, 4.0)}
TARGETS["rnn"] = TARGETS["gru"]


def rows(options: Options) -> Iterator[Row]:
    with ExitStack() as stack:
        entries = enter(stack, options, "minigrad") + enter(stack, options, "torch")
        jax = enter(stack, options, "jax", label="jax lax.scan")
        for cell, target in TARGETS.items():
            everyone = entries + jax if cell == "lstm" else entries
            yield from standings("layers", cell, cell, everyone, [target], options)
