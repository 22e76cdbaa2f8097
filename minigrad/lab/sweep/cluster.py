"""Runs on a dask.distributed cluster: a scheduler and workers that are there already.

    dask scheduler                                   # prints its address
    dask worker tcp://HOST:8786 --nworkers 8 --nthreads 1
    minigrad sweep CONFIG.toml --scheduler tcp://HOST:8786

The workers must be able to import this version of minigrad, and the function of the sweep. Results
travel back and are written here. A run whose worker dies goes to another one; that is the
scheduler's doing, as often as its setting distributed.scheduler.allowed-failures says (3), and
`--retries` is for local workers only. A run given up for that is tried once more, alone.
"""

from __future__ import annotations

import logging
import queue
import sys
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from .config import Run
from .errors import ClusterError
from .local import Outcome
from .worker import call

INSTALL = 'pip install "minigrad-bptt[cluster]"'
TIMEOUT_S = 10.0
# As text, for a function of ours would ask the worker for the very import that may fail. An error
# is an answer: what client.run() returns as one then says that the worker could not be asked.
LOOK = """
import importlib
try:
    importlib.import_module({module!r})
    answer = importlib.import_module("minigrad").__version__, ""
except Exception as error:
    answer = "", " ".join(f"{{type(error).__name__}}: {{error}}".split())
"""
ANSWER = "[space := {{}}, exec({source!r}, space), space['answer']][-1]"


class Cluster:
    """`outcomes(runs)` yields runs as they finish. Use as a context manager.

    Raises ClusterError if no scheduler answers within `timeout` seconds, or a worker cannot import
    what it needs.
    """

    def __init__(self, function: str, address: str, timeout: float = 0.0):
        timeout = timeout or TIMEOUT_S
        try:
            import distributed
        except ImportError:
            raise ClusterError(f"--scheduler needs dask.distributed: {INSTALL}.") from None
        self.function, self.address = function, address
        self.running = 0
        self._done: queue.Queue[Any] = queue.Queue()
        self._futures: dict[Any, tuple[Run, int]] = {}  # with the deaths it is suspected of
        try:
            distributed.comm.get_address_host_port(address)
        except ValueError as error:
            raise ClusterError(
                f"scheduler {address!r}: is no address ({error}); expected tcp://HOST:8786, as "
                "`dask scheduler` prints it."
            ) from None
        for name in ("batched", "client", "comm", "core"):  # what happens is said here, in one line
            logging.getLogger(f"distributed.{name}").setLevel(logging.CRITICAL)
        try:
            self._client = distributed.Client(
                address, timeout=timeout, set_as_default=False, name="minigrad-sweep"
            )
        except (OSError, TimeoutError, ValueError, TypeError) as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise ClusterError(
                f"scheduler {address}: no answer within {timeout:g} s ({why[:120]}); is it "
                "running, and is this the address that `dask scheduler` printed?"
            ) from None
        self._threads: dict[str, int] = {}  # of each worker that was looked at
        try:
            self._look_at_workers()
        except BaseException:
            self.__exit__()
            raise

    def _look_at_workers(self) -> None:
        """Counts their threads. Raises ClusterError for one that cannot do the work.

        Workers join at any time, so this is asked before every run that is handed out: what a
        worker lacks must never be told of a run.
        """
        module, here = self.function.partition(":")[0], _version()
        threads = self._client.nthreads()
        new = [worker for worker in threads if worker not in self._threads]
        source = LOOK.format(module=module)
        found: dict[str, Any] = {}
        if new:
            found = self._client.run(
                eval, ANSWER.format(source=source), workers=new, on_error="return"
            )
        for worker, answer in found.items():
            if isinstance(answer, Exception):  # it has left, or is too busy: not now
                del threads[worker]
                continue
            version, why = answer
            if why:
                raise ClusterError(
                    f"worker {worker}: cannot import {module} ({why}); install it where the worker "
                    "runs, and start the worker again."
                )
            if version != here:
                raise ClusterError(
                    f"worker {worker}: has minigrad {version}, here it is {here}; install "
                    "the same version where the worker runs."
                )
        self._threads = threads

    def __str__(self) -> str:
        workers = len(self._threads)
        if not workers:
            return f"{self.address}, no workers yet: start some with `dask worker {self.address}`"
        return f"{self.address}, {workers} worker{'s' if workers != 1 else ''}"

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError, TimeoutError):  # the scheduler has gone first
            self._client.close(timeout=5)

    def warm_up(self, requests: Sequence[Any]) -> None:
        """Nothing: workers may not share a disk, and each keeps what it compiles."""

    def outcomes(self, runs: Sequence[Run]) -> Iterator[Outcome | None]:
        """Each run with its outcome, in the order they finish; None every second between.

        The scheduler blames a death on every run that the worker had been given. So no worker is
        given more than it has threads, and who is blamed is tried once more at the end, alone.
        Raises ClusterError if the scheduler is lost.
        """
        waiting, suspects = deque(runs), deque[tuple[Run, int]]()
        self._submit(waiting)
        self.running = len(self._futures)
        yield None
        while self.running or waiting or suspects:
            ended = None
            with suppress(queue.Empty):
                ended = self._done.get(timeout=1.0)
            lost = ended is not None and ended.status in ("cancelled", "lost")
            if lost or self._client.status != "running":
                raise ClusterError(
                    f"scheduler {self.address}: the connection was lost; what is finished is "
                    "safe, and the same command goes on once it is back."
                )
            outcome: Outcome | None = None
            if ended is not None:
                run, deaths = self._futures.pop(ended)
                killed = _deaths(ended)
                if killed and not deaths:
                    suspects.append((run, killed))
                else:
                    outcome = run, _answer(ended, deaths), 1 + (deaths > 0)
            self._submit(waiting)
            if suspects and not waiting and not self._futures:
                alone = deque([suspects[0][0]])
                self._submit(alone, suspects[0][1])
                if not alone:
                    suspects.popleft()
            self.running = len(self._futures)
            yield outcome

    def _submit(self, waiting: deque[Run], deaths: int = 0) -> None:
        """As many as the workers have threads; with `deaths`, one that is suspected of them."""
        if not waiting:
            return
        try:
            self._look_at_workers()
            free = sum(self._threads.values()) - len(self._futures)
            for run in [waiting.popleft() for _ in range(min(max(free, 0), len(waiting)))]:
                # Never a key that the scheduler may remember.
                key = f"minigrad-sweep-{run.key}-{uuid.uuid4().hex[:8]}"
                future = self._client.submit(
                    call, self.function, run.parameters, key=key, pure=False
                )
                self._futures[future] = run, deaths
                future.add_done_callback(self._done.put)
        except ClusterError:
            raise
        except (OSError, TimeoutError):  # the scheduler is lost; `outcomes` says so
            return


def _version() -> str:
    return str(sys.modules[__name__.partition(".")[0]].__version__)


def _deaths(future: Any) -> int:
    """How many workers died with this run, where it was given up for that."""
    error: Any = future.exception() if future.status == "error" else None
    return error.allowed_failures + 1 if type(error).__name__ == "KilledWorker" else 0


def _answer(future: Any, deaths: int) -> dict[str, Any]:
    """What the run gave, or what kept it from giving anything."""
    if future.status == "finished":
        return dict(future.result())
    error = future.exception()
    if killed := _deaths(future):
        return {"error": f"worker died ({deaths + killed} times)", "traceback": str(error)}
    text = " ".join(str(error).split())
    return {"error": f"{type(error).__name__}: {text}", "traceback": ""}
