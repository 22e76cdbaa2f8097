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
from ..flow.render import INSTALL, RenderError, find_engine
from ..kernels import cache, host


def add(commands: Any) -> None:
    """Declares the command and its arguments."""
    parser = commands.add_parser("info", help="versions, machine, kernel cache, drawing engine")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints a line for each fact."""
    rows = facts()
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")
    return 0


def facts() -> list[tuple[str, str]]:
    """(name, value) of each line."""
    kernels = cache.kernels()
    size = sum(size for _, size in kernels)
    cpu, _ = host.cpu()
    return [
        ("minigrad", __version__),
        ("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *((name, _version(name)) for name in ("numpy", "numba", "llvmlite", "graphviz")),
        ("CPU", f"{cpu}, vectors of {host.vector_bits()} bits"),
        ("threads", _threads()),
        ("JIT", "off (NUMBA_DISABLE_JIT): NumPy twins" if _jit_disabled() else "on"),
        ("kernel cache", f"{cache.folder()}: {len(kernels)} kernels, {size / 1024:.0f} KiB"),
        ("drawing engine", _engine()),
    ]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _threads() -> str:
    from ..kernels import threads

    return f"{threads.get_num_threads()} of {os.cpu_count()} CPUs"


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
