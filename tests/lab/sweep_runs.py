"""What the sweeps of the tests run: fast, slow, failing, and deadly functions."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def note(run: dict[str, Any]) -> None:
    """Leaves a line for each time that a run is begun; appends of one line do not mix."""
    with open(Path(run["folder"]) / "begun", "a", encoding="utf-8") as file:
        file.write(f"{run['a']} {os.getpid()}\n")


def square(run: dict[str, Any]) -> dict[str, Any]:
    note(run)
    time.sleep(run.get("sleep", 0.0))
    return {"square": run["a"] ** 2, "even": run["a"] % 2 == 0}


def odd_fails(run: dict[str, Any]) -> dict[str, Any]:
    note(run)
    if run["a"] % 2 and not (Path(run["folder"]) / "mended").exists():
        raise ArithmeticError(f"{run['a']} is odd")
    print("a run that prints is no trouble")
    return {"square": run["a"] ** 2}


def one_dies_once(run: dict[str, Any]) -> dict[str, Any]:
    note(run)
    mark = Path(run["folder"]) / "died"
    if run["a"] == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"square": run["a"] ** 2}


def one_always_dies(run: dict[str, Any]) -> dict[str, Any]:
    note(run)
    if run["a"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"square": run["a"] ** 2}


def waits(run: dict[str, Any]) -> dict[str, Any]:
    note(run)
    time.sleep(600)
    return {}


def holds_the_interpreter(run: dict[str, Any]) -> dict[str, Any]:
    note(run)
    return {"sum": sum(itertools.repeat(0))}  # for ever, and no other thread gets a turn


def leaves(run: dict[str, Any]) -> dict[str, Any]:
    sys.exit(7)
