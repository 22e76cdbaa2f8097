"""`minigrad doctor`: what is wrong on this machine, and what to do about it.

The facts of `minigrad info`, and two trials: a kernel is compiled and run, in a process of its own
that may crash, and a picture is drawn. Advice for a kernel that fails is tried before it is given.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..flow.engines import INSTALL, RenderError, find_engine, render
from .info import Fact, facts, table
from .output import say

TIMEOUT_S = 300
TRIAL = """
import math, numpy as np, minigrad as mg
x = np.linspace(-3, 3, 37)
y = mg.tanh(mg.tensor(x)).numpy()
z = mg.matmul(mg.tensor(x[None]), mg.tensor(x[:, None])).item()
far = max(abs(y - [math.tanh(v) for v in x]).max(), abs(z - math.fsum(x * x)) / math.fsum(x * x))
if not far < 1e-14: raise SystemExit(f"tanh and matmul are {far:g} off")
"""


def add(commands: Any) -> None:
    """Declares the command and its arguments."""
    parser = commands.add_parser(
        "doctor",
        help="what is wrong on this machine, and what to do",
        description="Looks at CPU, threads, Numba, kernel cache and drawing engine, compiles and "
        "runs a kernel, draws a picture, and says what is wrong and what to do about it. Exit "
        "status 1 if anything is.",
        epilog="example: minigrad doctor",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints all facts and trials, and how many of them are wrong."""
    rows = [*facts(), _kernel(), _picture()]
    for line in table(rows):
        say(line)
    wrong = [row.name for row in rows if row.do]
    say()
    say(f"to be mended: {', '.join(wrong)}" if wrong else "nothing is wrong")
    return 1 if wrong else 0


def _kernel() -> Fact:
    """A product and a tanh against Python's own; where they fail, what makes them succeed."""
    name = "trial of a kernel"
    why = _fails(dict(os.environ))
    if not why:
        return Fact(name, "tanh and matmul run, and are right")
    with tempfile.TemporaryDirectory() as empty:
        for remedy, environment in _remedies(empty):
            if not _fails(environment):
                return Fact(name, why, f"{remedy}: with that the trial succeeds")
    return Fact(
        name,
        why,
        "pip install --upgrade --force-reinstall numba llvmlite numpy; no setting of minigrad or "
        "Numba is the cause, nor the kernel cache",
    )


def _remedies(empty: str) -> Iterator[tuple[str, dict[str, str]]]:
    """What might help, and the environment in which that can be tried."""
    ours = [name for name in os.environ if name.startswith(("MINIGRAD_", "NUMBA_"))]
    for name in ours:
        if name != "MINIGRAD_CACHE_DIR":
            yield f"unset ${name}", {k: v for k, v in os.environ.items() if k != name}
    yield (
        "run `minigrad cache clear`, or set $MINIGRAD_CACHE_DIR to another folder",
        os.environ | {"MINIGRAD_CACHE_DIR": empty},
    )
    fresh = {name: value for name, value in os.environ.items() if name not in ours}
    if ours:
        yield (
            f"unset {', '.join(f'${name}' for name in ours)}",
            fresh | {"MINIGRAD_CACHE_DIR": empty},
        )


def _fails(environment: dict[str, str]) -> str:
    """Why the trial fails in this environment, in one line; "" where it succeeds."""
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [environment.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-c", TRIAL],
            env=environment | {"PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {TIMEOUT_S} s"
    if done.returncode < 0:
        return f"crashed: {signal.Signals(-done.returncode).name}"
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return f"failed: {said[-1]}"
    return ""


def _picture() -> Fact:
    name = "trial of a drawing"
    try:
        if find_engine() is None:
            return Fact(name, "none without an engine")
        size = len(render("digraph { a -> b }", "svg"))
    except RenderError as error:
        return Fact(name, str(error), INSTALL)
    return Fact(name, f"an SVG of {size} bytes")
