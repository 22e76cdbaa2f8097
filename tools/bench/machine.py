"""Which machine and which versions a result belongs to."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness import ROOT

from minigrad.kernels import host


def describe(torch: str | None, jax: str | None) -> dict[str, object]:
    """A JSON-ready description of the processor, the system and every library that takes part."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": f"{cpu_name()} ({host.cpu()[0]})",
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "numpy": installed("numpy"),
        "numba": installed("numba"),
        "llvmlite": installed("llvmlite"),
        "torch": version_in(torch, "torch"),
        "jax": version_in(jax, "jax"),
        "minigrad": revision(),
    }


def cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def version_in(python: str | None, library: str) -> str | None:
    """The version of a library that this interpreter imports, or None."""
    if python is None:
        return None
    code = f"import {library}; print({library}.__version__)"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def revision() -> str | None:
    """The commit of this checkout, with a + if files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None
