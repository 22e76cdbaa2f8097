"""Sweeps of tests in processes of their own, and what these leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from minigrad.lab.sweep import Config
from minigrad.lab.sweep.coordinator import to_toml

TESTS = Path(__file__).resolve().parent.parent
PATIENCE_S = 60.0
Start = Callable[[list[str]], subprocess.Popen[str]]  # the fixture `start`


def config(folder: Path, function: str, runs: int, **fixed: float) -> Config:
    values = tuple(range(runs))
    return Config({"a": values}, {"folder": str(folder), **fixed}, f"lab.sweep_runs:{function}")


def command(folder: Path, function: str, runs: int, **fixed: float) -> list[str]:
    path = folder / "sweep.toml"
    path.write_text(to_toml(config(folder, function, runs, **fixed)))
    out = ["--out", str(folder / "out"), "--workers", "2"]
    return [sys.executable, "-m", "minigrad", "sweep", str(path), *out]


def popen(words: list[str]) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    return subprocess.Popen(
        words, env={**os.environ, "PYTHONPATH": path}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def begun(folder: Path) -> list[int]:
    path = folder / "begun"
    return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []


def workers(folder: Path) -> set[int]:
    return {int(line.split()[1]) for line in (folder / "begun").read_text().splitlines()}


def finished(folder: Path) -> list[int]:
    path = folder / "out" / "results.jsonl"
    content = path.read_bytes() if path.exists() else b""
    return [json.loads(line)["parameters"]["a"] for line in content.split(b"\n")[:-1]]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
