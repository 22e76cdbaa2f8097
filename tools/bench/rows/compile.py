"""The first gradient of an LSTM: no kernel cached, only its own loops new, all cached."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator

import numpy as np
import oracle
from harness import PEERS, Options, Row, Timing, run_process
from peers import inputs

OURS = str(PEERS / "first_layer_minigrad.py")
THEIRS = str(PEERS / "first_layer_torch.py")
GROUP = "compile"


def rows(options: Options) -> Iterator[Row]:
    nothing, own, warm = [], [], []
    torch: list[float] = []
    for _ in range(1 if options.quick else 3):
        if not options.quick:
            with tempfile.TemporaryDirectory() as cache:
                nothing.append(first([sys.executable, OURS, "lstm"], cache)[1]["seconds"])
        with tempfile.TemporaryDirectory() as cache:
            # A cell of other structure leaves the general kernels there.
            first([sys.executable, OURS, "gru"], cache)
            answer = first([sys.executable, OURS, "lstm", "--more"], cache)[1]
            own.append(answer["seconds"])
            for _ in range(max(1, options.rounds // 3)):
                warm.append(first([sys.executable, OURS, "lstm"], cache)[0])
                if options.torch:
                    torch.append(first([options.torch, THEIRS, "lstm"], cache)[0])
    if nothing:
        yield row("LSTM, no kernel cached", nothing, 6.0, "inside a process that has imported")
    yield row("LSTM, its own loops new", own, 4.0, "the same, after a GRU ran in another process")
    yield row("LSTM, all kernels cached", warm, 0.7, "a whole process, from its start", torch)
    more = answer["kernels_later"] - answer["kernels"]
    yield Row(GROUP, "kernels compiled for other T, B, inputs and units", more, "", limit=0)
    yield tracing(options)


def tracing(options: Options) -> Row:
    command = [sys.executable, str(PEERS / "tracing_minigrad.py")]
    found = []
    for _ in range(1 if options.quick else 5):
        found.append(1e3 * json.loads(run_process(command, threads=2)[1])["seconds"])
    timing = Timing(found)
    note = "what every call of a cell that is not known to be pure does"
    return Row(GROUP, "tracing an LSTM cell", timing.median, "ms", timing.spread(), 0.4, note=note)


def first(command: list[str], cache: str) -> tuple[float, dict[str, float]]:
    """(seconds of the process, what it printed), once that is right."""
    seconds, output = run_process(command, threads=2, MINIGRAD_CACHE_DIR=cache)
    answer = json.loads(output)
    got = {name: np.asarray(answer[name]) for name in ("loss", "gradient")}
    oracle.check(command[1], got, command[2], inputs.FIRST)
    return seconds, answer


def row(
    name: str,
    seconds: list[float],
    limit: float | None,
    note: str,
    torch: list[float] | None = None,
) -> Row:
    peers = {"torch": Timing(torch).median} if torch else {}
    timing = Timing(seconds)
    return Row(GROUP, name, timing.median, "s", timing.spread(), limit, peers=peers, note=note)
