"""What recording adds to a training step of a PyTorch model: a layer, a stack, a loop of cells.

Needs an interpreter that imports torch and what minigrad needs; there are no rows without one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
from harness import PEERS, Options, Row, Timing, must_agree, run_process
from peers.inputs import Sizes
from sequences import LARGE, QUICK_SIZES, quotient

LIMIT = 1.1


def rows(options: Options) -> Iterator[Row]:
    if options.torch is None:
        return
    sizes = QUICK_SIZES if options.quick else LARGE
    for size in sizes:
        yield row(options, options.torch, "layer", size, LIMIT)
    yield row(options, options.torch, "stack", sizes[0], LIMIT)
    yield row(options, options.torch, "cell", sizes[-1], None)  # a dozen Python calls a step


def row(options: Options, python: str, what: str, size: Sizes, limit: float | None) -> Row:
    command = [python, str(PEERS / "recording_torch.py"), what]
    _, output = run_process([*command, *map(str, (options.rounds, *size))], threads=2)
    answer = json.loads(output)
    squares = ({"gradients": np.asarray(answer[name])} for name in ("recorded", "plain"))
    must_agree("gradients while recording", *squares, tolerance=1e-12)
    times = {name: Timing(samples) for name, samples in answer["seconds"].items()}
    value, note = quotient(times, "recorded", "plain")
    return Row(
        "record_torch",
        f"{what} {tuple(size)}",
        value,
        "x without",
        times["recorded"].ratio(times["plain"]).spread(),
        limit=None if options.quick else limit,
        peers={f"{name} ms": timing.median * 1e3 for name, timing in times.items()},
        note=note,
    )
