"""`minigrad warmup`: compile now what a first run of `minigrad flow` or of a layer would."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import MinigradError
from ..flow import comparison
from ..flow.comparison import CELLS, Settings
from ..kernels import cache, jit
from ..tensors import tensor
from .arguments import integer
from .cache import summary
from .draw import CELLS as LAYERS
from .output import say

DEFAULT = Settings()


def add(commands: Any) -> None:
    """Declares the command and its arguments."""
    parser = commands.add_parser(
        "warmup",
        help="compile the kernels that the cells need",
        description="Runs every cell briefly, in float32 and float64, with and without padding, "
        "so that its kernels are compiled and kept in the cache. A cell's loop is compiled for its "
        "sizes, and runs any number of steps and rows.",
        epilog="example: minigrad warmup --cells lstm gru --hidden 128",
    )
    parser.set_defaults(run=run)
    # fmt: off
    parser.add_argument("--cells", nargs="+", type=str.lower, choices=list(CELLS), metavar="CELL",
                        default=list(CELLS), help=f"any of {', '.join(CELLS)} (default: all)")
    parser.add_argument("--input", type=integer(1), default=DEFAULT.embedding,
                        help="features of the input (default: %(default)s, as in minigrad flow)")
    parser.add_argument("--hidden", type=integer(1), default=DEFAULT.hidden,
                        help="units of each cell (default: %(default)s, as in minigrad flow)")
    # fmt: on


def run(args: argparse.Namespace) -> int:
    """Runs every cell, very small; status 1 where a kernel is not kept."""
    if jit.mode() == "plain":
        return _complain("NUMBA_DISABLE_JIT=1: nothing is compiled; unset it")
    if why := cache.obstacle():
        return _complain(f"kernels can't be kept in {cache.folder() or 'a folder'}: {why}")
    settings = replace(DEFAULT, embedding=args.input, hidden=args.hidden)
    started, failed = time.perf_counter(), 0
    try:
        for cell in dict.fromkeys(args.cells):
            failed += _warm(cell, settings)
    except KeyboardInterrupt:  # each kernel is kept as soon as it is compiled
        say(file=sys.stderr)
        _complain(f"stopped; in {cache.folder()} are {summary(cache.kernels())}")
        return 130
    say(f"{time.perf_counter() - started:.1f} s; in {cache.folder()} are ", end="")
    say(summary(cache.kernels()))
    if cache.spilled():  # no room any more, say
        return _complain(f"not all kernels could be kept in {cache.folder()}")
    return 1 if failed else 0


def _warm(cell: str, settings: Settings) -> bool:
    """Runs one cell, and says how long that took; whether it failed."""
    before, started = {entry.stem for entry in cache.kernels()}, time.perf_counter()
    try:
        comparison.warm_up([cell], settings)
        _run_layer(cell, settings)
    except (MinigradError, OSError) as error:  # the other cells may do
        _complain(f"{cell}: {' '.join(str(error).split())}")
        return True
    new = len({entry.stem for entry in cache.kernels()} - before)
    seconds = time.perf_counter() - started
    say(f"{cell:<7} {seconds:5.1f} s  {new:3d} kernels compiled", flush=True)
    return False


def _run_layer(cell: str, settings: Settings) -> None:
    """The compiled loops of a layer and of its BPTT, for every kind of input."""
    _, layer_type, bidirectional = LAYERS[cell]
    size, hidden = settings.embedding, settings.hidden
    for dtype in (np.float32, np.float64):
        layer = layer_type(size, hidden, bidirectional=bidirectional, dtype=dtype)
        for lengths in (None, np.array([3, 2])):
            for wanted in (False, True):  # gradients of the input, as inner layers do
                xs = tensor(np.ones((3, 2, size)), dtype=dtype, requires_grad=wanted)
                output, _ = layer(xs, lengths=lengths)
                output.sum().backward()


def _complain(what: str) -> int:
    say(f"minigrad warmup: {what}", file=sys.stderr)
    return 1
