"""Which machine kernels are built for: CPU, vector width, threads.

`$MINIGRAD_CPU` names another target in LLVM's words (`x86-64-v3`, `generic`, ...), to build and try
the narrower kernels on a wide machine. The first question imports llvmlite (50 ms).
"""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

MOST_THREADS = 512

# Register width in bits by LLVM feature; 128 (SSE2, NEON) is what every 64-bit CPU has.
_WIDTHS = (("avx512f", 512), ("avx", 256))
_NAMED = {"x86-64-v4": 512, "x86-64-v3": 256}


@cache
def cpu() -> tuple[str, str]:
    """(name, features) in LLVM's words: `("znver4", "+avx512f,+fma,...")`."""
    chosen = os.environ.get("MINIGRAD_CPU")
    if chosen:
        return chosen, ""
    import llvmlite.binding as llvm

    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@cache
def vector_bits() -> int:
    """Width of a vector register: 512, 256 or 128."""
    name, features = cpu()
    if not features:
        return _NAMED.get(name, 128)
    on = set(features.split(","))
    return next((bits for feature, bits in _WIDTHS if f"+{feature}" in on), 128)


def lanes(itemsize: int) -> int:
    """How many numbers of `itemsize` bytes one vector register holds."""
    return vector_bits() // (8 * itemsize)


@cache
def shared_cache() -> float:
    """Bytes of the cache that all cores share; infinity where the system does not say."""
    path = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
    try:
        return int(path.read_text().removesuffix("K\n")) << 10
    except (OSError, ValueError):
        return math.inf


def default_threads() -> int:
    """CPUs this process may run on (a container's or taskset's share, not the whole machine)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
