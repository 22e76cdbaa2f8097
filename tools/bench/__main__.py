"""Measures minigrad against its targets and its peers.

    python tools/bench [group ...] [--quick] [--torch PYTHON] [--jax PYTHON] [--json FILE]
                       [--page FILE]

Groups; all of them by default:

    vectormath      exp, log, tanh, sigmoid: nanoseconds an element
    matmul          products of recurrent shapes beside NumPy's
    imports         import minigrad
    eager           a recorded operation, forward and backward
    first_gradient  a whole process up to its first gradient
    layers          a training step of LSTM, GRU and RNN beside PyTorch's
    forward         their forward pass alone
    training        a whole training step of a character model beside PyTorch's and JAX's
    cells           cells of a user's own beside the same in PyTorch and JAX
    peak            how much of the machine's arithmetic a training step uses
    costs           what directions, steps and recording add to a training step
    compile         a cell nobody compiled before, and one that is in the cache
    memory          what an LSTM keeps for its backward pass
    laboratory      Jacobians of every step, and Lyapunov exponents
    monitoring      what a Monitor adds to training
    record_torch    what recording adds to a training step of PyTorch

Every result is validated before it is timed. PyTorch and JAX take part where an interpreter that
imports them is known: --torch, else $MINIGRAD_BENCH_TORCH, else this one; --jax and
$MINIGRAD_BENCH_JAX likewise. Exit status 1 if a result is wrong or a target is missed; --quick, a
smoke run of seconds, judges results only.
"""

from __future__ import annotations

import os

# This process only computes what is expected; its threads must not disturb the peers.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import importlib
import json
import re
import sys
import time
from dataclasses import asdict
from pathlib import Path

import machine
import page
import table
from harness import BenchError, Options, Row

GROUPS = (
    "vectormath",
    "matmul",
    "imports",
    "eager",
    "first_gradient",
    "layers",
    "forward",
    "training",
    "cells",
    "peak",
    "costs",
    "compile",
    "memory",
    "laboratory",
    "monitoring",
    "record_torch",
)
LIBRARIES = ("torch", "jax")  # peers that may live in another environment


def main() -> int:
    args = parse()
    found = {library: find(library, getattr(args, library)) for library in LIBRARIES}
    options = Options(quick=args.quick, **found)
    about = machine.describe(**found)
    print(headline(about), flush=True)
    rows: list[Row] = []
    for group in args.groups or GROUPS:
        start = time.perf_counter()
        print(f"{group} ...", end=" ", file=sys.stderr, flush=True)
        rows += measure(group, options)
        print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    print(f"\n{table.render(rows)}\n\n{table.summary(rows)}")
    if options.quick:
        print("A quick run judges results only; its timings say little.")
    if args.json:
        save(args.json, about, options, rows)
    if args.page:
        Path(args.page).write_text(page.write(rows, about, titles()), encoding="utf-8")
    failing = {"ERROR"} if options.quick else {"ERROR", "MISS"}
    return int(any(row.verdict in failing for row in rows))


def parse() -> argparse.Namespace:
    head, _, text = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="tools/bench",
        description=head,
        epilog=text.partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("groups", nargs="*", metavar="group", help="see below")
    parser.add_argument("--quick", action="store_true", help="a smoke run: small and not judged")
    for library in LIBRARIES:
        what = f"an interpreter that imports {library}"
        parser.add_argument(f"--{library}", metavar="PYTHON", help=what)
    parser.add_argument("--json", metavar="FILE", help="where to write the results")
    parser.add_argument("--page", metavar="FILE", help="where to write them as a page of the docs")
    args = parser.parse_args()
    if unknown := [group for group in args.groups if group not in GROUPS]:
        parser.error(f"unknown group {unknown[0]!r}; there are {', '.join(GROUPS)}")
    for library in LIBRARIES:
        python = getattr(args, library)
        if python and machine.version_in(python, library) is None:
            parser.error(f"--{library}: {python} does not import {library}")
    return args


def titles() -> dict[str, str]:
    """What each group measures, as the help says."""
    found = re.findall(r"^    (\w+)  +(.+)$", __doc__ or "", re.MULTILINE)
    return {group: what for group, what in found if group in GROUPS}


def find(library: str, asked: str | None) -> str | None:
    """An interpreter that imports the library."""
    known = [os.environ.get(f"MINIGRAD_BENCH_{library.upper()}"), sys.executable]
    candidates = [asked] if asked else known
    return next((python for python in candidates if machine.version_in(python, library)), None)


def measure(group: str, options: Options) -> list[Row]:
    rows: list[Row] = []
    try:
        for row in importlib.import_module(f"rows.{group}").rows(options):
            rows.append(row)
    except BenchError as error:
        rows.append(Row(group, "stopped", error=str(error)))
    return rows


def headline(about: dict[str, object]) -> str:
    versions = ", ".join(
        f"{name} {about[name] or '-'}"
        for name in ("python", "numpy", "numba", *LIBRARIES, "minigrad")
    )
    lines = ["{cpu}, {cores} cores, {system}; {date}".format(**about), versions]
    if isinstance(about["load"], float) and about["load"] > 0.5:
        lines.append(f"The machine is busy (load {about['load']}): take the figures as indicative.")
    return "\n".join(lines)


def save(path: str, about: dict[str, object], options: Options, rows: list[Row]) -> None:
    results = [asdict(row) | {"target": row.target, "verdict": row.verdict} for row in rows]
    document = {"format": 1, "quick": options.quick, "machine": about, "rows": results}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    sys.exit(main())
