"""What a second direction, a longer sequence and a recording add to a training step of an LSTM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

from harness import Options, Row
from peers.inputs import Sizes
from sequences import LARGE, cost, enter, race, sizes

SHORT, TIMES = Sizes(16, 100, 64, 64), 16


def rows(options: Options) -> Iterator[Row]:
    yield from directions(options)
    yield from lengths(options)
    yield recording(options)


def directions(options: Options) -> Iterator[Row]:
    with ExitStack() as stack:
        entries = enter(stack, options, "minigrad", label="BiLSTM", bidirectional=True)
        entries += enter(stack, options, "minigrad", label="LSTM")
        for size in sizes(options, LARGE):
            times = race(entries, "lstm", size, options)
            name = f"both directions {tuple(size)}"
            yield cost("costs", name, times, "BiLSTM", "LSTM", "x one", 2.1)


def lengths(options: Options) -> Iterator[Row]:
    """Linear in T: within a tenth of TIMES."""
    short = sizes(options, [SHORT])[0]
    long = short._replace(steps=TIMES * short.steps)
    names = {f"T={size.steps}": size for size in (long, short)}
    with ExitStack() as stack:
        entries = []
        for name, size in names.items():
            entries += enter(stack, options, "minigrad", label=name, steps=size.steps)
        times = race(entries, "lstm", short, options)
    dear, plain = names
    name = f"{TIMES} times the steps {tuple(short)}"
    row = cost("costs", name, times, dear, plain, "x the time", 1.1 * TIMES)
    yield row
    yield replace(row, name=f"{name}, no less", limit=0.9 * TIMES, better=">=")


def recording(options: Options) -> Row:
    size = sizes(options, LARGE)[0]
    with ExitStack() as stack:
        entries = enter(stack, options, "minigrad", label="recorded", record=True)
        entries += enter(stack, options, "minigrad", label="plain")
        times = race(entries, "lstm", size, options)
    name = f"with mg.flow.record() {tuple(size)}"
    return cost("costs", name, times, "recorded", "plain", "x without", 1.05)
