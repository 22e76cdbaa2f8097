"""What a second direction, a longer sequence and a recording add to a training step of an LSTM, and
what rows that have ended and a second thread for a single row take from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

from harness import Options, Row
from peers.inputs import Sizes
from sequences import LARGE, SIZES, THREADS, cost, enter, race, sizes

SHORT, TIMES = Sizes(16, 100, 64, 64), 16
ALONE = Sizes(1, 100, 512, 512)  # one row, whose units two threads share


def rows(options: Options) -> Iterator[Row]:
    yield from directions(options)
    yield from lengths(options)
    yield recording(options)
    yield ended(options)
    yield shared(options)


def directions(options: Options) -> Iterator[Row]:
    for jitted in (False, True):
        with ExitStack() as stack:
            how = {"jitted": jitted}
            entries = enter(stack, options, "minigrad", label="BiLSTM", bidirectional=True, **how)
            entries += enter(stack, options, "minigrad", label="LSTM", **how)
            for size in sizes(options, (*LARGE, SIZES[0], ALONE)):
                times = race(entries, "lstm", size, options)
                name = f"both directions {tuple(size)}" + ", mg.jit" * jitted
                limit = 1.2 if size.batch == 1 else 2.1  # one row: a thread for each
                yield cost("costs", name, times, "BiLSTM", "LSTM", "x one", limit)


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
    return beside_plain(
        options, "with mg.flow.record()", "recorded", "x without", 1.05, record=True
    )


def ended(options: Options) -> Row:
    """Rows of 1 step to all: of half of the steps on average."""
    return beside_plain(options, "lengths, half of the steps", "ragged", "x all", 0.6, ragged=True)


def beside_plain(
    options: Options, what: str, label: str, unit: str, limit: float, **how: bool
) -> Row:
    """A training step that is run in this way beside one that is not."""
    size = sizes(options, LARGE)[0]
    with ExitStack() as stack:
        entries = enter(stack, options, "minigrad", label=label, **how)
        entries += enter(stack, options, "minigrad", label="plain")
        times = race(entries, "lstm", size, options)
    return cost("costs", f"{what} {tuple(size)}", times, label, "plain", unit, limit)


def shared(options: Options) -> Row:
    """How many times faster a single row is on two threads."""
    size = sizes(options, [ALONE])[0]
    names = {"one thread": 1, f"{THREADS} threads": THREADS}
    with ExitStack() as stack:
        entries = []
        for name, count in names.items():
            entries += enter(stack, options, "minigrad", label=name, threads=count)
        times = race(entries, "lstm", size, options)
    slow, fast = names
    name = f"{fast} beside one {tuple(size)}"
    row = cost("costs", name, times, slow, fast, "x as fast", 1.7)
    return replace(row, better=">=")
