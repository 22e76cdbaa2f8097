"""`minigrad warmup`: compile now what a first run of `minigrad flow` or of a layer would."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np

from ..errors import MinigradError
from ..flow import experiment
from ..flow.experiment import CELLS
from ..kernels import cache, jit
from ..tensor import tensor
from .cache import summary
from .draw import CELLS as LAYERS


def add(commands: Any) -> None:
    """Declares the command and its arguments."""
    parser = commands.add_parser(
        "warmup",
        help="compile the kernels that the cells need",
        description="Runs every cell very small, on the tape and as a compiled loop, in float32 "
        "and float64, with and without padding, so that its kernels are compiled and kept in the "
        "cache. Kernels do not depend on sizes.",
    )
    parser.set_defaults(run=run)
    # fmt: off
    parser.add_argument("--cells", nargs="+", type=str.lower, choices=list(CELLS), metavar="CELL",
                        default=list(CELLS), help=f"any of {', '.join(CELLS)} (default: all)")
    # fmt: on


def run(args: argparse.Namespace) -> int:
    """Runs every cell, very small; status 1 where a kernel is not kept."""
    if jit.mode() == "plain":
        return _complain("NUMBA_DISABLE_JIT=1: nothing is compiled; unset it")
    if why := cache.obstacle():
        return _complain(f"kernels can't be kept in {cache.folder() or 'a folder'}: {why}")
    started, failed = time.perf_counter(), 0
    try:
        for cell in dict.fromkeys(args.cells):
            failed += _warm(cell)
    except KeyboardInterrupt:  # each kernel is kept as soon as it is compiled
        print(file=sys.stderr)
        _complain(f"stopped; in {cache.folder()} are {summary(cache.kernels())}")
        return 130
    print(f"{time.perf_counter() - started:.1f} s; in {cache.folder()} are ", end="")
    print(summary(cache.kernels()))
    if cache.spilled():  # no room any more, say
        return _complain(f"not all kernels could be kept in {cache.folder()}")
    return 1 if failed else 0


def _warm(cell: str) -> bool:
    """Runs one cell, and says how long that took; whether it failed."""
    before, started = {entry.stem for entry in cache.kernels()}, time.perf_counter()
    try:
        experiment.warm_up([cell])
        _run_layer(cell)
    except (MinigradError, OSError) as error:  # the other cells may do
        _complain(f"{cell}: {' '.join(str(error).split())}")
        return True
    new = len({entry.stem for entry in cache.kernels()} - before)
    seconds = time.perf_counter() - started
    print(f"{cell:<7} {seconds:5.1f} s  {new:3d} kernels compiled", flush=True)
    return False


def _run_layer(cell: str) -> None:
    """The compiled loops of a layer and of its BPTT, for every kind of input."""
    _, layer_type, bidirectional = LAYERS[cell]
    for dtype in (np.float32, np.float64):
        layer = layer_type(4, 4, bidirectional=bidirectional, dtype=dtype)
        for lengths in (None, np.array([3, 2])):
            for wanted in (False, True):  # gradients of the input, as inner layers do
                xs = tensor(np.ones((3, 2, 4)), dtype=dtype, requires_grad=wanted)
                output, _ = layer(xs, lengths=lengths)
                output.sum().backward()


def _complain(what: str) -> int:
    print(f"minigrad warmup: {what}", file=sys.stderr)
    return 1
