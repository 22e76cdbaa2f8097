"""`minigrad warmup`: compile now what `minigrad flow` would compile on its first run."""

from __future__ import annotations

import argparse
import time
from typing import Any

from ..flow import experiment
from ..flow.experiment import CELLS
from ..kernels import cache


def add(commands: Any) -> None:
    """Declares the command and its arguments."""
    parser = commands.add_parser(
        "warmup",
        help="compile the kernels that the cells need",
        description="Runs every cell once, very small, in float32 and float64, so that all its "
        "kernels are compiled and kept in the cache. Kernels do not depend on sizes.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs every cell once, very small."""
    before = {name for name, _ in cache.kernels()}
    started = time.perf_counter()
    for cell in CELLS:
        at = time.perf_counter()
        experiment.warm_up([cell])
        print(f"{cell:<7} {time.perf_counter() - at:5.1f} s", flush=True)
    kernels = cache.kernels()
    new = len({name for name, _ in kernels} - before)
    seconds = time.perf_counter() - started
    print(f"{new} kernels compiled, {len(kernels)} in {cache.folder()}, {seconds:.1f} s")
    return 0
