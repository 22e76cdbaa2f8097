"""What a Monitor adds to training an LSTM, at its default `every` and at each fifth step."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import numpy as np
from harness import PEERS, BenchError, Options, Row, Timing, must_agree, run_process
from peers.inputs import Sizes
from sequences import QUICK_SIZES, SIZES, cost

DEFAULT = 0  # the Monitor's own `every`
SCRIPT = str(PEERS / "monitoring.py")


def rows(options: Options) -> Iterator[Row]:
    yield row(options, "last", DEFAULT, limit=1.1)
    yield row(options, "all", DEFAULT, limit=1.1)
    yield row(options, "last", 5, limit=None)


def row(options: Options, reads: str, every: int, limit: float | None) -> Row:
    size: Sizes = QUICK_SIZES[0] if options.quick else SIZES[2]
    arguments = [reads, *map(str, (every, options.rounds, *size))]
    _, output = run_process([sys.executable, SCRIPT, *arguments], threads=2)
    answer = json.loads(output)
    squares = ({"parameters": np.asarray(answer[name])} for name in ("watched", "plain"))
    must_agree("training under a Monitor", *squares, tolerance=1e-12)
    if (seen := answer["measured"]) != options.rounds + 2:  # the first step, and one a round
        raise BenchError(f"monitoring: {seen} steps were measured, not {options.rounds + 2}")
    times = {name: Timing(samples) for name, samples in answer["seconds"].items()}
    what = "the last step" if reads == "last" else "all steps"
    name = f"every={answer['every']}, a loss of {what} {tuple(size)}"
    limit = None if options.quick else limit
    return cost("monitoring", name, times, "watched", "plain", "x without", limit)
