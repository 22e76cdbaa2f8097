"""The most that the arithmetic units do: independent fused multiply-adds, and nothing else."""

import ctypes
from pathlib import Path

import numpy as np

from minigrad.kernels import host, jit, threads

CHAINS = 12  # a unit starts one a cycle or two, and each takes about four
TURNS = 100_000
PARTS = 1  # for each thread: all start together and take as long


def peak():
    """run() does `flops` operations on all threads; x <- x / 2 + 1 / 2 ends at 1 in every lane."""
    lanes = host.lanes(4)
    text = jit.source(
        Path(__file__).with_name("fma_kernel.py"), CHAINS=CHAINS, TURNS=TURNS, LANES=lanes
    )
    kernel = jit.build("fma_peak", text, {"spin": "void(ptr, i64)"})
    start = threads.links()["minigrad_parallel_for"]
    pointer = ctypes.c_void_p
    parallel_for = ctypes.CFUNCTYPE(None, pointer, pointer, ctypes.c_int64)(start)
    parts = PARTS * threads.get_num_threads()
    out = np.zeros((parts, CHAINS * lanes), np.float32)
    flops = 2.0 * TURNS * out.size

    def run():
        parallel_for(kernel["spin"], out.ctypes.data, parts)

    return run, lambda _: {"y": out, "flops": np.asarray(flops)}
