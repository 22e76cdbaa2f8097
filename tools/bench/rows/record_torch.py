"""What recording adds to a training step of a PyTorch model: a layer, a stack, a loop of cells.

Needs an interpreter that imports torch and what minigrad needs; there are no rows without one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
from harness import PEERS, Options, Row, Timing, must_agree, run_process
from peers.inputs import Sizes
from sequences import LARGE, QUICK_SIZES, cost

LIMIT = 1.1


def rows(options: Options) -> Iterator[Row]:
    if options.torch is None:
        return
    sizes = QUICK_SIZES if options.quick else LARGE
    for size in sizes:
        yield row(options, options.torch, "layer", size)
    yield row(options, options.torch, "stack", sizes[0])
    yield row(options, options.torch, "cell", sizes[-1])


def row(options: Options, python: str, what: str, size: Sizes) -> Row:
    command = [python, str(PEERS / "recording_torch.py"), what]
    _, output = run_process([*command, *map(str, (options.rounds, *size))], threads=2)
    answer = json.loads(output)
    squares = ({"gradients": np.asarray(answer[name])} for name in ("recorded", "plain"))
    must_agree("gradients while recording", *squares, tolerance=1e-12)
    times = {name: Timing(samples) for name, samples in answer["seconds"].items()}
    limit = None if options.quick else LIMIT
    name = f"{what} {tuple(size)}"
    return cost("record_torch", name, times, "recorded", "plain", "x without", limit)
