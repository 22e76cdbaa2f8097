"""Validate, warm up, then time: peers in processes of their own, taking turns.

A comparison runs A B A B ..., so that a slow moment of the machine hits both sides; it reports
medians and the middle half of the samples.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from peers.worker import MARK

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).resolve().parent / "peers"


class BenchError(Exception):
    """A peer failed or computed something wrong; its row says so and the bench goes on."""


@dataclass
class Options:
    """How a run was asked for."""

    quick: bool = False
    torch: str | None = None  # an interpreter that imports torch
    jax: str | None = None  # one that imports jax

    @property
    def rounds(self) -> int:
        return 2 if self.quick else 15

    @property
    def batch_seconds(self) -> float:
        return 0.002 if self.quick else 0.02

    @property
    def run_in_seconds(self) -> float:
        """At least so long a peer runs before it is timed."""
        return 0.0 if self.quick else 0.05


@dataclass
class Row:
    """One line of the table. Its target is `value <= limit`, or `>=` as `better` says."""

    group: str
    name: str
    value: float | None = None
    unit: str = ""
    spread: tuple[float, float] | None = None  # the quartiles of the samples
    limit: float | None = None
    better: str = "<="
    peers: dict[str, float] = field(default_factory=dict)
    details: dict[str, float] = field(default_factory=dict)  # for the JSON only
    note: str = ""
    error: str = ""

    @property
    def target(self) -> str:
        return "" if self.limit is None else f"{self.better} {self.limit:.4g}"

    @property
    def verdict(self) -> str:
        if self.error:
            return "ERROR"
        if self.limit is None or self.value is None:
            return ""
        met = self.value <= self.limit if self.better == "<=" else self.value >= self.limit
        return "pass" if met else "MISS"


@dataclass
class Timing:
    """Seconds per call over the rounds, or ratios of two such."""

    samples: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def least(self) -> float:
        return min(self.samples)

    def ratio(self, other: Timing) -> Timing:
        """How many times `other`'s time this one's is, round by round: a slow moment hits both."""
        return Timing([a / b for a, b in zip(self.samples, other.samples, strict=True)])

    def spread(self, scale: float = 1.0) -> tuple[float, float]:
        if len(self.samples) < 2:
            return (self.samples[0] * scale,) * 2
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return low * scale, high * scale


def environment(threads: int, **more: str) -> dict[str, str]:
    """A child's environment: minigrad from this checkout, every thread pool limited.

    Python keeps its bytecode, as it does for a user: without it every import compiles the sources.
    """
    pools = ("OPENBLAS", "OMP", "MKL", "NUMBA", "VECLIB_MAXIMUM")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    limits = {f"{pool}_NUM_THREADS": str(threads) for pool in pools}
    ours = {"PYTHONPATH": path, "MINIGRAD_BENCH_THREADS": str(threads)}
    theirs = {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return theirs | limits | ours | more


class Peer:
    """One side of a comparison: a process that answers the requests of peers/worker.py."""

    def __init__(self, name: str, python: str = sys.executable, threads: int = 1, label: str = ""):
        self.name = label or name
        self.calls = 1
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [python, str(PEERS / f"{name}_peer.py")],
            env=environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()
        self.errors.close()

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(MARK):
                answer = json.loads(line.removeprefix(MARK))
                if "error" in answer:
                    raise BenchError(f"{self.name}: {answer['error']}")
                return answer
        self.process.wait()
        self.errors.seek(0)
        last = self.errors.read().strip().splitlines()[-1:] or ["it said nothing"]
        raise BenchError(f"{self.name} stopped: {last[0]}")

    def prepare(self, case: str, **args: Any) -> dict[str, np.ndarray]:
        """Runs the case once and returns what it computed."""
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "result.npz")
            self.ask(prepare=case, args=args, save=path)
            with np.load(path) as arrays:
                return dict(arrays)


def compare(peers: Sequence[Peer], options: Options) -> dict[str, Timing]:
    """Times what the peers have prepared, in turns."""
    for peer in peers:
        peer.calls = peer.ask(calibrate=options.batch_seconds)["calls"]
    samples: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for _ in range(options.rounds):
        for peer in peers:
            at_rest(peers)
            answer = peer.ask(time=peer.calls, after=options.run_in_seconds)
            samples[peer.name].append(answer["seconds"])
    return {name: Timing(values) for name, values in samples.items()}


def at_rest(peers: Sequence[Peer], longest: float = 0.5) -> None:
    """Waits for the threads of every peer to sleep: those of OpenMP spin for up to 0.2 s after a
    call, on the cores that the next peer is measured on.
    """
    end, before = time.perf_counter() + longest, -1.0
    while time.perf_counter() < end:
        now = sum(cpu_ticks(peer.process.pid) for peer in peers)
        if now == before:
            return
        before = now
        time.sleep(0.03)


def cpu_ticks(process: int) -> float:
    """The CPU time of a process so far, in hundredths of a second; where no file says it, NaN."""
    try:
        fields = (
            Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        )
    except OSError:
        return math.nan
    return int(fields[11]) + int(fields[12])


def run_process(command: Sequence[str], threads: int = 1, **more: str) -> tuple[float, str]:
    """(seconds, stdout) of a whole process, from its start to its end."""
    start = time.perf_counter()
    done = subprocess.run(
        command, env=environment(threads, **more), capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise BenchError(f"{Path(command[-1]).name}: {last[0]}")
    return seconds, done.stdout


def must_agree(
    who: str, got: dict[str, np.ndarray], want: dict[str, np.ndarray], tolerance: float
) -> None:
    """Raises BenchError unless every wanted array came, within `tolerance` of its largest entry."""
    for name, expected in want.items():
        scale = np.abs(expected).max()
        error = np.abs(got[name] - expected).max() / scale if name in got else np.inf
        if not error <= tolerance:  # also for NaN
            raise BenchError(f"{who}: {name} is off by {error:.2g}, allowed {tolerance:.2g}")
