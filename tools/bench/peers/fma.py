"""The most that the arithmetic units do: independent fused multiply-adds, and nothing else."""

from pathlib import Path

import numpy as np

from minigrad.kernels import compiler, threads

PARTS = 1  # for each thread: all start together and take as long


def peak():
    """run() does `flops` operations on all threads; x <- x / 2 + 1 / 2 ends at 1 in every lane."""
    text = Path(__file__).with_name("fma_kernel.py").read_text(encoding="utf-8")
    kernel = compiler.build("fma_peak", text, {"spin": "void(int64, int64)"})
    chains, lanes = kernel.module.CHAINS, kernel.module.LANES
    parts = PARTS * threads.get_num_threads()
    out = np.zeros((parts, chains * lanes), np.float32)
    flops = 2.0 * kernel.module.TURNS * out.size

    def run():
        threads.parallel_for(kernel["spin"], out.ctypes.data, parts)

    return run, lambda _: {"y": out, "flops": np.asarray(flops)}
