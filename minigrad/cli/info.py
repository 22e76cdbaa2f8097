"""`minigrad info`: versions, machine, kernel cache, drawing engine. The first thing to put in an
issue.
"""

from __future__ import annotations

import argparse
import os
import platform
from importlib import metadata
from typing import Any

from .. import __version__
from ..errors import MinigradError
from ..flow.engines import INSTALL, RenderError, find_engine
from ..kernels import cache, host
from .cache import NOWHERE, size_limit, summary
from .output import say


def add(commands: Any) -> None:
    """Declares the command and its arguments."""
    parser = commands.add_parser("info", help="versions, machine, kernel cache, drawing engine")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints a line for each fact."""
    rows = facts()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"{name:<{width}}  {value}")
    return 0


def facts() -> list[tuple[str, str]]:
    """(name, value) of each line."""
    return [
        ("minigrad", __version__),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *((name, _version(name)) for name in ("numpy", "numba", "llvmlite", "graphviz")),
        ("CPU", _cpu()),
        ("threads", _threads()),
        ("JIT", "off (NUMBA_DISABLE_JIT): kernels run as Python" if _jit_disabled() else "on"),
        ("kernel cache", _cache()),
        ("kernels kept", summary(cache.kernels())),
        ("kernels at most", size_limit()),
        ("drawing engine", _engine()),
    ]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        return f"{host.cpu()[0]}, vectors of {host.vector_bits()} bits"
    except (ImportError, OSError) as error:  # the one that says so must not fail by it
        return f"unknown: llvmlite does not load: {error}"


def _threads() -> str:
    from ..kernels import threads

    try:
        return f"{threads.get_num_threads()} of {os.cpu_count()} CPUs"
    except MinigradError as error:
        return str(error)


def _cache() -> str:
    place = cache.folder()
    if place is None:
        return NOWHERE
    if why := cache.obstacle():
        return f"{place}, can't be written ({why}): new kernels are kept for one process"
    return f"{place}, {'can be written' if place.is_dir() else 'made with the first kernel'}"


def _jit_disabled() -> bool:
    return os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")


def _engine() -> str:
    try:
        engine = find_engine()
    except RenderError as error:
        return str(error)
    if engine is None:
        return f"none: {INSTALL}"
    return f"{engine.path} (from {engine.found}): {engine.version()}"
