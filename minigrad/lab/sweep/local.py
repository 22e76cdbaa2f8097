"""A pool of worker processes on this machine.

Each is a fresh interpreter, as a fork of a process with compiled threads is not safe. One that
dies is replaced; the run it had is tried again, and given up after `retries` more deaths.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...kernels.host import default_threads
from .config import Run
from .errors import SweepError
from .worker import READY

START = "import sys; sys.path[:] = {path!r}; from minigrad.lab.sweep.worker import main; main()"
Outcome = tuple[Run, dict[str, Any], int]  # run, what came of it, how many attempts
STILLBORN = 3  # workers in a row that die before they are ready: that is not the runs' fault
TAIL = 2000  # bytes of the log that are kept with a run that killed its worker
CLOSE_S = 2.0  # for all workers to end by themselves


def shares(workers: int | None = None, most: int | None = None) -> tuple[int, int]:
    """(workers, threads of each) such that workers x threads is the number of CPUs, as near as
    whole numbers come.

    workers: how many are asked for. most: how many runs there are. $MINIGRAD_NUM_THREADS, where it
    is set, says how many threads each has.
    """
    cpus = default_threads()
    text = os.environ.get("MINIGRAD_NUM_THREADS", "").strip()
    asked = int(text) if text.isdecimal() else 0
    workers = workers or max(cpus // max(asked, 1), 1)
    workers = max(min(workers, most or workers), 1)
    return workers, asked or max(cpus // workers, 1)


class Worker:
    """One process, and a thread that puts its answers into `events`."""

    def __init__(self, threads: int, log: Any, events: queue.Queue[Any]):
        share = str(threads)
        environment = {"OPENBLAS_NUM_THREADS": share, "OMP_NUM_THREADS": share, **os.environ}
        environment["MINIGRAD_NUM_THREADS"] = share
        self.process = subprocess.Popen(
            [sys.executable, "-c", START.format(path=[str(p) for p in sys.path])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the coordinator
        )
        self.run: Run | None = None
        self.ready = False
        self._listener = threading.Thread(target=self._listen, args=(events,), daemon=True)
        self._listener.start()

    def _listen(self, events: queue.Queue[Any]) -> None:
        assert self.process.stdout
        with self.process.stdout as answers:
            for line in answers:
                if line.endswith(b"\n"):  # else it died while it answered
                    events.put((self, json.loads(line)))
        self.process.wait()
        events.put((self, None))

    def send(self, run: Run, function: str, parameters: Mapping[str, Any]) -> None:
        self.run = run
        request = json.dumps({"function": function, "parameters": dict(parameters)}) + "\n"
        assert self.process.stdin
        with suppress(OSError):  # it has died; the listener says so
            self.process.stdin.write(request.encode())
            self.process.stdin.flush()

    def hang_up(self) -> None:
        """Closes its input, which ends it."""
        assert self.process.stdin
        with suppress(OSError):
            self.process.stdin.close()

    def stop(self, patience: float = CLOSE_S) -> None:
        """Ends it; kills it if it does not hear."""
        self.hang_up()
        try:
            self.process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._listener.join()

    def death(self) -> str:
        code = self.process.returncode
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = "unknown"
            return f"worker died (signal {-code}, {name})"
        return f"worker died (exit status {code})"


class LocalPool:
    """`outcomes(runs)` yields runs as they finish. Use as a context manager."""

    def __init__(self, function: str, workers: int, threads: int, log: Path, retries: int = 2):
        self.function, self.retries = function, retries
        self.size, self.threads = workers, threads
        self._log = open(log, "ab")  # noqa: SIM115 - closed in __exit__
        self._log_path = log
        self._events: queue.Queue[Any] = queue.Queue()
        self._workers: list[Worker] = []
        self._stillborn = 0

    def __str__(self) -> str:
        s = "s" if self.threads > 1 else ""
        each = f"{self.threads} thread{s}"
        return f"{self.size} workers, {each} each" if self.size > 1 else f"1 worker, {each}"

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self._workers:  # first all, so that none waits for another
            worker.hang_up()
        end = time.monotonic() + CLOSE_S
        for worker in self._workers:
            worker.stop(max(end - time.monotonic(), 0.0))
        self._log.close()

    @property
    def running(self) -> int:
        return sum(worker.run is not None for worker in self._workers)

    def warm_up(self, requests: Sequence[Mapping[str, Any]]) -> None:
        """Runs each on one worker and forgets the results; what fails here will fail again."""
        for request in requests:
            if not self._workers:
                self._start()
            worker = self._workers[0]
            worker.send(Run("", {}, {}), self.function, request)
            while worker.run is not None:
                self._next(timeout=1.0)

    def outcomes(self, runs: Sequence[Run]) -> Iterator[Outcome | None]:
        """Each run with its outcome, in the order they finish; None every second between.

        Raises SweepError if workers die before they can run anything.
        """
        waiting, attempts = deque(runs), dict.fromkeys((run.key for run in runs), 0)
        left = len(waiting)

        def hand_out() -> None:
            while len(self._workers) < min(self.size, left):
                self._start()
            for worker in self._workers:
                if worker.run is None and waiting:
                    run = waiting.popleft()
                    attempts[run.key] += 1
                    worker.send(run, self.function, run.parameters)

        hand_out()
        yield None
        while left:
            event = self._next(timeout=1.0)
            if event is None:
                hand_out()
                yield None
                continue
            worker, run, answer = event
            if answer is None and not worker.ready:
                attempts[run.key] -= 1  # it was not begun
            if answer is None and attempts[run.key] <= self.retries:
                waiting.appendleft(run)
                hand_out()
                continue
            left -= 1
            hand_out()  # no worker waits until the result is written
            answer = answer or {"error": worker.death(), "traceback": self._tail()}
            yield run, answer, attempts[run.key]

    def _next(self, timeout: float) -> tuple[Worker, Run, Any] | None:
        """The next run that ended, with its answer, None if its worker died. None: no news."""
        try:
            worker, answer = self._events.get(timeout=timeout)
        except queue.Empty:
            return None
        if answer == READY:
            worker.ready, self._stillborn = True, 0
            return None
        run, worker.run = worker.run, None
        if answer is None:
            self._workers.remove(worker)
            worker.stop()
            self._stillborn += not worker.ready
            if self._stillborn >= STILLBORN:
                why = (self._tail().strip().splitlines() or ["nothing"])[-1]
                raise SweepError(
                    f"no worker starts: {worker.death()}, it said {why!r}; see {self._log_path}."
                )
        return None if run is None else (worker, run, answer)

    def _start(self) -> None:
        self._workers.append(Worker(self.threads, self._log, self._events))

    def _tail(self) -> str:
        """The end of the log: with faulthandler's word on a crash."""
        with open(self._log_path, "rb") as log:
            log.seek(max(log.seek(0, os.SEEK_END) - TAIL, 0))
            return log.read().decode("utf-8", "replace")
