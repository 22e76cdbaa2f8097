"""The time of a whole process that imports minigrad, beside one that does nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from harness import Options, Row, Timing, run_process


def rows(options: Options) -> Iterator[Row]:
    commands = {
        "minigrad": [sys.executable, "-c", "import minigrad"],
        "nothing": [sys.executable, "-c", "pass"],
        "numpy": [sys.executable, "-c", "import numpy"],
    }
    if options.torch:
        commands["torch"] = [options.torch, "-c", "import torch"]
    samples: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        run_process(command)  # fills the page cache and writes .pyc files
    for _ in range(options.rounds):
        for name, command in commands.items():
            samples[name].append(run_process(command)[0])
    times = {name: Timing(values) for name, values in samples.items()}
    ours = times.pop("minigrad")
    yield Row(
        "imports",
        "python -c 'import minigrad'",
        ours.median,
        "s",
        ours.spread(),
        limit=0.2,
        peers={name: timing.median for name, timing in times.items()},
    )
