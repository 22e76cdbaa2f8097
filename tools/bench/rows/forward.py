"""The forward pass alone, nothing recorded: LSTM, GRU and RNN, float32, two threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from harness import Options, Row
from sequences import Target, enter, standings

CELLS = ("lstm", "gru", "rnn")


def rows(options: Options) -> Iterator[Row]:
    with ExitStack() as stack:
        entries = enter(stack, options, "minigrad", forward=True)
        entries += enter(stack, options, "torch", forward=True)
        target = Target("torch", 1.1, None)
        for cell in CELLS:
            yield from standings("forward", cell, cell, entries, [target], options)
