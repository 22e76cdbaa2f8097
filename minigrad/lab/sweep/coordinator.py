"""Runs what a sweep has left to do, and writes each result before the next one counts."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from .cluster import Cluster
from .config import TRIAL, Config, Run, load
from .folder import LOG, Folder, Row
from .local import LocalPool, shares
from .outcome import headline
from .progress import Progress

CSV_EVERY_S = 10.0
TRACEBACK = 8000  # characters of one that are kept


@dataclass
class Report:
    """What a sweep came to. failed: rows whose status is "failed", of this session or an earlier
    one. done: runs of this session.
    """

    total: int
    done: int = 0
    rows: dict[str, Row] = field(default_factory=dict)
    failed: list[Row] = field(default_factory=list)


def run(
    config: Config,
    out: str | os.PathLike[str],
    *,
    text: str = "",
    workers: int | None = None,
    scheduler: str | None = None,
    retries: int = 2,
    retry_failed: bool = False,
    quiet: bool = True,
    stream: TextIO | None = None,
) -> Report:
    """Does all runs of `config` that `out` does not hold yet; returns what it holds then.

    workers: processes on this machine (default: one per core). scheduler: the address of a
    dask.distributed scheduler, instead. retries: how often a run is tried again when its worker
    dies. retry_failed: does those again that an earlier session recorded as failed. text: the TOML
    that config came from, kept in `out`.

    Killed at any moment, even with SIGKILL, it loses no finished run; called again it does the
    rest. Raises SweepError if `out` is another sweep's or in use, ClusterError for a scheduler.

        report = run(read(Path("sweep.toml")), "results")
    """
    load(config.function)
    runs = config.runs()
    with _ended_in_order(), Folder(Path(out), config, text or to_toml(config)) as folder:
        left = [r for r in runs if _is_left(folder.rows.get(r.key), retry_failed)]
        progress = Progress(len(runs), len(runs) - len(left), quiet, stream)
        if folder.added and not quiet:
            progress.say(f"{out}: the grid has grown.")
        report = Report(len(runs))
        try:
            if left:
                if scheduler is None:
                    share = shares(workers, len(left))
                    pool: Any = LocalPool(config.function, *share, folder.path / LOG, retries)
                else:
                    pool = Cluster(config.function, scheduler)
                with pool:
                    report.done = _work(pool, config, left, folder, progress)
        finally:
            progress.close()
            with suppress(OSError):  # a full disk: the JSONL is what counts
                folder.write_csv(runs)
    report.rows = {r.key: folder.rows[r.key] for r in runs if r.key in folder.rows}
    report.failed = [row for row in report.rows.values() if row["status"] != "ok"]
    return report


def _work(pool: Any, config: Config, left: list[Run], folder: Folder, progress: Progress) -> int:
    if not progress.quiet:
        kept = f"; {progress.before} are there already" if progress.before else ""
        progress.say(f"{len(left)} of {progress.total} runs to do{kept}. {pool}.")
    if config.function == TRIAL and len(left) > 1 and isinstance(pool, LocalPool):
        from .trials import warm_ups

        progress.last = "compiling"
        progress.show(0)
        pool.warm_up(warm_ups([r.parameters for r in left]))
        progress.last, progress.started = "", time.monotonic()
    done, written = 0, time.monotonic()
    for outcome in pool.outcomes(left):
        if outcome is None:
            progress.show(pool.running)
            continue
        row = to_row(*outcome)
        folder.add(row)
        done += 1
        progress.finished(
            str(outcome[0]), row.get("error"), headline(config, row["results"]), pool.running
        )
        if time.monotonic() - written > CSV_EVERY_S:
            written = time.monotonic()
            with suppress(OSError):
                folder.write_csv(config.runs())
    return done


def _is_left(row: Row | None, retry_failed: bool) -> bool:
    return row is None or (retry_failed and row["status"] != "ok")


def to_row(run: Run, answer: dict[str, Any], attempts: int) -> Row:
    """The line of results.jsonl for one run."""
    row: Row = {
        "key": run.key,
        "status": "failed" if "error" in answer else "ok",
        "parameters": run.parameters,
        "results": answer.get("results", {}),
        "attempts": attempts,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if "error" in answer:
        row["error"] = answer["error"]
        row["traceback"] = answer.get("traceback", "")[-TRACEBACK:]
    elif "seconds" not in row["results"]:
        row["results"] = {**row["results"], "seconds": answer.get("seconds", 0.0)}
    return row


def to_toml(config: Config) -> str:
    """The TOML of a sweep that was not read from a file."""
    import json

    def section(name: str, values: dict[str, Any]) -> str:
        lines = [f"{json.dumps(k)} = {json.dumps(v)}" for k, v in values.items()]
        return "\n".join([f"[{name}]", *lines, ""])

    grid = {name: list(values) for name, values in config.grid.items()}
    head = f"function = {json.dumps(config.function)}\n"
    return head + section("grid", grid) + section("fixed", config.fixed)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise KeyboardInterrupt once; while the sweep then closes, a second one
    is not heard.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = False

    def stop(*_: object) -> None:
        nonlocal heard
        if not heard:
            heard = True
            raise KeyboardInterrupt

    earlier = {sign: signal.signal(sign, stop) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for sign, handler in earlier.items():
            signal.signal(sign, handler)
