"""Work for the threads: a kernel, the arrays that it runs on, and in how many parts.

    run(*Work(kernel, "part", job, parts))

Such a kernel is a C function (job, index) that does the index-th part of a job; a job is a block of
words: addresses and sizes. Parts are cut by sizes alone, so results have the same bits for any
number of threads. Work may be prepared once and run many times, as its arrays change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minigrad.kernels import arena, jit, threads
from minigrad.kernels.compiler import Kernel

Array = np.ndarray

ENTRY = "void(int64, int64)"  # the signature of such a kernel


class Work(NamedTuple):
    """A kernel on arrays whose addresses are fixed: `run(*work)` fills its outputs.

    From C it is parallel_for(kernel[entry], address of job, parts), where `threads.links()` says.
    """

    kernel: Kernel
    entry: str
    job: Array  # the words that it reads
    parts: int


def words(*numbers: int) -> Array:
    """A job."""
    return np.array(numbers, np.int64)


def run(kernel: Kernel, entry: str, job: Array, parts: int) -> None:
    """Does all parts of a job, on all threads; in checked code one by one."""
    if jit.mode() == "native":
        threads.parallel_for(kernel[entry], arena.address(job), parts)
        return
    function = kernel.function(entry)
    for index in range(parts):
        function(arena.address(job), index)


def call(work: Work) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """(function, arguments) that do all parts: of C where there is machine code."""
    kernel, entry, job, parts = work
    if jit.mode() != "native":
        return run, work
    if parts == 1:
        return kernel.function(entry), (arena.address(job), 0)
    return threads.function(), (kernel[entry], arena.address(job), parts)
