"""`minigrad info`: versions, machine, kernel cache, drawing engine. The first thing to put in an
issue. Below a fact that is in the way stands what to do about it; `minigrad doctor` tries it all.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__
from ..errors import MinigradError
from ..flow.engines import INSTALL, RenderError, find_engine
from ..kernels import cache, eviction, host, jit
from .cache import NOWHERE, size_limit, summary
from .output import say

QUOTA = Path("/sys/fs/cgroup/cpu.max")


class Fact(NamedTuple):
    """A line of the table; `do` is what to do where something is wrong, "" where nothing is."""

    name: str
    value: str
    do: str = ""


def add(commands: Any) -> None:
    """Declares the command and its arguments."""
    parser = commands.add_parser(
        "info",
        help="versions, machine, kernel cache, drawing engine",
        epilog="example: minigrad info",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints a line for each fact."""
    for line in table(facts()):
        say(line)
    return 0


def table(rows: Sequence[Fact]) -> list[str]:
    """The lines of a table of facts."""
    width = max(len(row.name) for row in rows)
    lines = []
    for name, value, do in rows:
        lines.append(f"{name:<{width}}  {value}")
        if do:
            lines.append(f"{'':<{width}}  what to do: {do}")
    return lines


def facts() -> list[Fact]:
    """What there is, found without compiling or drawing anything."""
    return [
        Fact("minigrad", __version__),
        Fact("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *map(_version, ("numpy", "numba", "llvmlite", "graphviz")),
        _cpu(),
        _threads(),
        _jit(),
        _cache(),
        Fact("kernels kept", summary(cache.kernels())),
        _limit(),
        _engine(),
    ]


def _version(package: str) -> Fact:
    try:
        return Fact(package, metadata.version(package))
    except metadata.PackageNotFoundError:
        return Fact(package, "not installed", f"pip install {package}")


def _cpu() -> Fact:
    try:
        return Fact("CPU", f"{host.cpu()[0]}, vectors of {host.vector_bits()} bits")
    except (ImportError, OSError) as error:  # the one that says so must not fail by it
        return Fact(
            "CPU",
            f"unknown: llvmlite does not load: {error}",
            "pip install --force-reinstall numba llvmlite",
        )


def _threads() -> Fact:
    from ..kernels import threads

    usable = host.default_threads()
    try:
        count = threads.get_num_threads()
    except MinigradError as error:
        return Fact("threads", str(error), f"set $MINIGRAD_NUM_THREADS to {usable}, or unset it")
    quota = _quota()
    allowed = usable if quota is None else min(usable, max(1, round(quota)))
    if count <= allowed:
        return Fact("threads", f"{threads.describe()} ({os.cpu_count()} CPUs)")
    share = f", {quota:g} of them at a time" if quota is not None and quota < usable else ""
    return Fact(
        "threads",
        f"{count}, and this process may use {usable} CPUs{share}: threads wait for each other",
        f"set $MINIGRAD_NUM_THREADS to {allowed}",
    )


def _quota() -> float | None:
    """How many CPUs' time a container grants, by Linux' cgroup v2; None for all."""
    try:
        time, period = QUOTA.read_text(encoding="ascii").split()
        return None if time == "max" else int(time) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # another system, or cgroup v1
        return None


def _jit() -> Fact:
    return {
        "native": Fact("JIT", "on"),
        "checked": Fact(
            "JIT",
            "on, and every index is checked (NUMBA_BOUNDSCHECK), which costs time",
            "unset NUMBA_BOUNDSCHECK, unless a fault is being looked for",
        ),
        "plain": Fact(
            "JIT",
            "off (NUMBA_DISABLE_JIT): kernels run as Python, which is slow",
            "unset NUMBA_DISABLE_JIT, unless a kernel is being debugged",
        ),
    }[jit.mode()]


def _cache() -> Fact:
    place = cache.folder()
    if place is None:
        return Fact("kernel cache", NOWHERE, "set $MINIGRAD_CACHE_DIR to a folder of your own")
    if why := cache.obstacle():
        return Fact(
            "kernel cache",
            f"{place}, can't be written ({why}): new kernels are kept for one process",
            "set $MINIGRAD_CACHE_DIR to a folder of your own that only you can write to",
        )
    state = "can be written" if place.is_dir() else "made with the first kernel"
    return Fact("kernel cache", f"{place}, {state}")


def _limit() -> Fact:
    try:
        eviction.limit()
    except eviction.CacheLimitError:
        do = f"set $MINIGRAD_CACHE_LIMIT to {eviction.DEFAULT >> 20}M, or unset it"
        return Fact("kernels at most", size_limit(), do)
    return Fact("kernels at most", size_limit())


def _engine() -> Fact:
    name = "drawing engine"
    try:
        engine = find_engine()
    except RenderError as error:
        return Fact(name, str(error), "set $MINIGRAD_DOT to a Graphviz `dot`, or unset it")
    if engine is None:
        return Fact(name, "none: drawings are written as DOT text", INSTALL)
    where = f"{engine.path} (from {engine.found})"
    try:
        return Fact(name, f"{where}: {engine.version()}")
    except (OSError, IndexError, subprocess.SubprocessError) as error:
        return Fact(name, f"{where} does not say its version: {error}", INSTALL)
