"""`minigrad warmup`: compile now what a first run of `minigrad flow` or of a layer would."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import MinigradError
from ..flow import comparison
from ..flow.comparison import CELLS, Settings
from ..kernels import cache, compiler, jit
from ..kernels.host import default_threads
from ..tensors import tensor
from .arguments import integer, size
from .cache import summary
from .draw import CELLS as LAYERS
from .output import say

if TYPE_CHECKING:
    from concurrent.futures import Future

DEFAULT = Settings()
Part = tuple[str, str]  # of a cell
# What is run of a cell, each in a process where several are to compile at once, and the cell whose
# loops another one shares.
LAYERS_OF, TRAINING = {"float32": np.float32, "float64": np.float64}, "training"
PARTS = (*LAYERS_OF, TRAINING)
SHARES = {"bilstm": "lstm"}


def add(commands: Any) -> None:
    """Declares the command and its arguments."""
    parser = commands.add_parser(
        "warmup",
        help="compile the kernels that the cells need",
        description="Runs every cell briefly, in float32 and float64, with and without padding, "
        "so that its kernels are compiled and kept in the cache. A loop runs any number of steps, "
        "rows and units; sizes only decide how threads divide it. Several processes compile at "
        "once.",
        epilog="example: minigrad warmup --cells lstm gru --hidden 128",
    )
    parser.set_defaults(run=run)
    # fmt: off
    parser.add_argument("--cells", nargs="+", type=str.lower, choices=list(CELLS), metavar="CELL",
                        default=list(CELLS), help=f"any of {', '.join(CELLS)} (default: all)")
    parser.add_argument("--input", type=size(), default=DEFAULT.embedding,
                        help="features of the input (default: %(default)s, as in minigrad flow)")
    parser.add_argument("--hidden", type=size(), default=DEFAULT.hidden,
                        help="units of each cell (default: %(default)s, as in minigrad flow)")
    parser.add_argument("--jobs", type=integer(1), default=None, metavar="N",
                        help="processes that compile at once (default: one for each CPU)")
    # fmt: on


def run(args: argparse.Namespace) -> int:
    """Runs every cell, very small; status 1 where a kernel is not kept."""
    if jit.mode() == "plain":
        return _complain("NUMBA_DISABLE_JIT=1: nothing is compiled; unset it")
    if why := cache.obstacle():
        return _complain(f"kernels can't be kept in {cache.folder() or 'a folder'}: {why}")
    settings = replace(DEFAULT, embedding=args.input, hidden=args.hidden)
    started, done = time.perf_counter(), []
    cells, jobs = list(dict.fromkeys(args.cells)), args.jobs or default_threads()
    several = jobs > 1 and len(cells) > 1
    try:
        each = _side_by_side(cells, settings, jobs) if several else _in_turn(cells, settings)
        for warmed in each:
            _tell(warmed)
            done.append(warmed)
    except KeyboardInterrupt:  # each kernel is kept as soon as it is compiled
        say(file=sys.stderr)
        _complain(f"stopped; in {cache.folder()} are {summary(cache.kernels())}")
        return 130
    say(f"{time.perf_counter() - started:.1f} s; in {cache.folder()} are ", end="")
    say(summary(cache.kernels()))
    if any(warmed.spilled for warmed in done):  # no room any more, say
        return _complain(f"not all kernels could be kept in {cache.folder()}")
    return 1 if any(warmed.error for warmed in done) else 0


class Warmed(NamedTuple):
    """What became of one cell. error: why it failed. spilled: whether kernels found no room."""

    cell: str
    seconds: float = 0.0
    compiled: int = 0
    error: str = ""
    spilled: bool = False

    def __add__(self, other: Any) -> Warmed:
        """Of two parts of a cell."""
        return Warmed(
            self.cell, self.seconds + other.seconds, self.compiled + other.compiled,
            self.error or other.error, self.spilled or other.spilled,
        )  # fmt: skip


def _in_turn(cells: Sequence[str], settings: Settings) -> Iterator[Warmed]:
    """Runs one cell after the other."""
    for cell in cells:
        before = {entry.stem for entry in cache.kernels()}
        warmed = _warm(cell, settings, ())
        yield warmed._replace(compiled=len({entry.stem for entry in cache.kernels()} - before))


def _warm(cell: str, settings: Settings, parts: Sequence[str]) -> Warmed:
    """Runs some parts of a cell, or all of it."""
    started, error = time.perf_counter(), ""
    try:
        if not parts or TRAINING in parts:
            comparison.warm_up([cell], settings)
        if not parts:
            _run_layer(cell, settings)
        for part in LAYERS_OF.keys() & parts:
            _run_layer(cell, settings, [LAYERS_OF[part]])
    except (MinigradError, OSError) as why:  # the other cells may do
        error = " ".join(str(why).split())
    return Warmed(cell, time.perf_counter() - started, 0, error, bool(cache.spilled()))


def _tell(warmed: Warmed) -> None:
    """Says how long a cell took, or why it failed."""
    if warmed.error:
        _complain(f"{warmed.cell}: {warmed.error}")
        return
    took = f"{warmed.seconds:5.1f} s  {warmed.compiled:3d} kernels compiled"
    say(f"{warmed.cell:<7} {took}", flush=True)


def _run_layer(
    cell: str, settings: Settings, dtypes: Iterable[Any] = tuple(LAYERS_OF.values())
) -> None:
    """The compiled loops of a layer and of its BPTT, for every kind of input."""
    _, layer_type, bidirectional = LAYERS[cell]
    size, hidden = settings.embedding, settings.hidden
    for dtype in dtypes:
        layer = layer_type(size, hidden, bidirectional=bidirectional, dtype=dtype)
        for lengths in (None, np.array([3, 2])):
            for wanted in (False, True):  # gradients of the input, as inner layers do
                xs = tensor(np.ones((3, 2, size)), dtype=dtype, requires_grad=wanted)
                output, _ = layer(xs, lengths=lengths)
                output.sum().backward()


def _complain(what: str) -> int:
    say(f"minigrad warmup: {what}", file=sys.stderr)
    return 1


# -- several at once


def _side_by_side(cells: Sequence[str], settings: Settings, jobs: int) -> Iterator[Warmed]:
    """Runs the parts of cells in processes of their own, so many at once; cells as they finish."""
    from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import active_children, get_context

    context, others = get_context("spawn"), set(active_children())
    stopped = context.Event()
    running: dict[Future[Warmed | None], Part] = {}
    waiting = [(cell, part) for cell in cells for part in PARTS]
    pool = ProcessPoolExecutor(min(jobs, len(waiting)), context, _begin_work, (stopped,))
    found = {cell: Warmed(cell) for cell in cells}
    try:
        while waiting or running:
            open_ = {*waiting, *running.values()}
            for cell, part in [p for p in waiting if not _before(p, cells[0]) & open_]:
                with _deaf():  # a process that is started now hears Ctrl-C in its work alone
                    running[pool.submit(_work, cell, settings, part)] = cell, part
                waiting.remove((cell, part))
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                warmed = future.result()
                cell, _ = running.pop(future)
                if warmed is None:
                    raise KeyboardInterrupt
                found[cell] += warmed
                if all(cell != c for c, _ in (*waiting, *running.values())):
                    yield found.pop(cell)
    except BrokenProcessPool:
        for cell in found:
            yield Warmed(cell, error="a process that compiles was killed; try --jobs 1")
    except BaseException:
        stopped.set()
        for child in set(active_children()) - others:
            if os.name == "posix" and child.pid is not None:
                with suppress(OSError):  # it has ended
                    os.kill(child.pid, signal.SIGINT)
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _before(part: Part, first: str) -> set[Part]:
    """What compiles kernels that a part of a cell needs too: none is to be compiled twice."""
    cell, what = part
    found = set() if cell == first else {(first, what), (SHARES.get(cell, first), what)}
    if what == TRAINING:
        found |= {(cell, dtype) for dtype in LAYERS_OF}
    return found


@contextmanager
def _deaf() -> Iterator[None]:
    """Ctrl-C is not heard, nor by a process that is started meanwhile."""
    if threading.current_thread() is not threading.main_thread():  # which hears no signals
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_stopped: Any = None  # in a process that compiles: the event that tells it to begin nothing more


def _begin_work(stopped: Any) -> None:
    global _stopped
    _stopped = stopped
    os.environ.setdefault("MINIGRAD_PROGRESS", "0")  # one line for each cell is enough


def _work(cell: str, settings: Settings, part: str) -> Warmed | None:
    """Runs a part of a cell in a process of its own; None after Ctrl-C."""
    known, heard = compiler.compiled(), signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if _stopped.is_set():
            return None
        warmed = _warm(cell, settings, [part])  # others keep kernels meanwhile, too
        return warmed._replace(compiled=len(compiler.compiled() - known))
    except KeyboardInterrupt:
        return None
    finally:
        signal.signal(signal.SIGINT, heard)
