"""`minigrad sweep`: a grid of trials, on all cores or a cluster, that can be killed and goes on."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from ..escapes import printable
from ..files import is_empty
from .arguments import integer
from .output import say


def add(commands: Any) -> None:
    """Declares the command and its arguments."""
    parser = commands.add_parser(
        "sweep",
        help="run a grid of trials; resumes where it was stopped",
        description="Runs every combination of the lists in CONFIG's [grid] and keeps one table of "
        "the results, DIR/results.jsonl and DIR/results.csv. Stopped or killed at any moment, the "
        "same command goes on and loses nothing. Exit status 1 if a run failed.",
        epilog="example: minigrad sweep --example > grid.toml; minigrad sweep grid.toml",
    )
    parser.set_defaults(run=run)
    option = parser.add_argument
    # fmt: off
    option("config", nargs="?", type=Path, metavar="CONFIG.toml",
           help="the grid; --example prints one")
    option("--out", type=Path, metavar="DIR",
           help="folder for the results, new or of this sweep (default: CONFIG-results)")
    option("--workers", type=integer(1), metavar="N",
           help="processes on this machine (default: one per core)")
    option("--scheduler", metavar="ADDRESS",
           help="run on the dask.distributed cluster of this scheduler, e.g. tcp://host:8786")
    option("--retries", type=integer(0), default=2, metavar="N",
           help="how often a run is tried again when its worker on this machine dies (default: "
           "%(default)s)")
    option("--retry-failed", action="store_true", help="do those runs again that failed")
    option("--quiet", action="store_true", help="no progress: only what failed, and the summary")
    option("--dry-run", action="store_true", help="list the runs, done or to do; run none")
    option("--show", type=Path, metavar="DIR", help="print the summary of a sweep again")
    option("--example", action="store_true", help="print a CONFIG.toml to start from")
    # fmt: on


def run(args: argparse.Namespace) -> int:
    """Does what is left of a sweep, prints the summary."""
    from ..lab import sweep
    from ..lab.sweep.config import EXAMPLE
    from ..lab.sweep.folder import CONFIG

    if args.example:
        say(EXAMPLE.read_text("utf-8"), end="")
        return 0
    if args.show is not None:
        config, rows = sweep.open_for_reading(args.show)
        _print_table(sweep.summary(config, rows))
        return _failures([r for r in rows.values() if r["status"] != "ok"], args.show)
    if args.config is None:
        raise sweep.SweepError("expected a CONFIG.toml; `minigrad sweep --example` prints one.")
    if args.scheduler and args.workers:
        raise sweep.SweepError(
            "--workers is for processes on this machine; with --scheduler the cluster has its own."
        )
    config = sweep.read(args.config)
    if os.getcwd() not in sys.path:  # a function of one's own, next to the configuration
        sys.path.append(os.getcwd())
    out = args.out or Path(f"{args.config.stem}-results")
    if args.dry_run:
        return _dry_run(config, out)
    try:
        report = sweep.run(
            config,
            out,
            text=args.config.read_text("utf-8"),
            workers=args.workers,
            scheduler=args.scheduler,
            retries=args.retries,
            retry_failed=args.retry_failed,
            quiet=args.quiet,
        )
    except KeyboardInterrupt:
        rows = sweep.open_for_reading(out)[1] if (out / CONFIG).is_file() else {}
        total = len(config.runs())
        say(
            f"\nminigrad sweep: stopped with {len(rows)} of {total} runs in {out}; go on with\n"
            f"  {_again(args, out)}",
            file=sys.stderr,
        )
        return 130
    _print_table(sweep.summary(config, report.rows))
    s = "s" if report.total > 1 else ""
    say(f"\n{report.total} run{s} in {out}: results.csv, results.jsonl.")
    return _failures(report.failed, out)


def _print_table(text: str) -> None:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = text.replace(" ± ", " +- ")
    say(text)


def _dry_run(config: Any, out: Path) -> int:
    from ..lab import sweep
    from ..lab.sweep.folder import check_continues

    done: dict[str, Any] = {}
    if out.exists() and not (out.is_dir() and is_empty(out)):
        earlier, done = sweep.open_for_reading(out)
        check_continues(out, earlier, config)
    runs = config.runs()
    for run in runs:
        status = done[run.key]["status"] if run.key in done else "to do"
        say(f"{printable(status):<7} {printable(run)}")
    left = sum(run.key not in done for run in runs)
    say(f"{len(runs)} runs, {left} to do. Fixed: {_fixed(config)}.")
    return 0


def _fixed(config: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in config.fixed.items()) or "nothing"


def _failures(failed: list[dict[str, Any]], out: Path) -> int:
    if not failed:
        return 0
    sys.stdout.flush()
    say(f"\n{len(failed)} failed; tracebacks are in {out / 'results.jsonl'}:", file=sys.stderr)
    config_grid = _grid(out)
    for row in failed:
        point = " ".join(f"{name}={row['parameters'].get(name)}" for name in config_grid)
        why = row.get("error", row["status"])
        say(f"  {printable(point)}: {printable(why)}", file=sys.stderr)
    say("--retry-failed does them again.", file=sys.stderr)
    return 1


def _grid(out: Path) -> list[str]:
    from ..lab import sweep

    return list(sweep.open_for_reading(out)[0].grid)


def _again(args: argparse.Namespace, out: Path) -> str:
    words = ["minigrad", "sweep", str(args.config), "--out", str(out)]
    if args.workers:
        words += ["--workers", str(args.workers)]
    if args.scheduler:
        words += ["--scheduler", args.scheduler]
    return shlex.join(words)
