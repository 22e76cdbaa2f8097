"""Work for the threads: a kernel, the arrays that it runs on, and in how many parts.

    run(*Work(kernel, "part", job, parts))

Such a kernel is a C function (job, index) that does the index-th part of a job; a job is a block of
words: addresses and sizes. Parts are cut by sizes alone, so results have the same bits for any
number of threads. Work may be prepared once and run many times, as its arrays change.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from minigrad.kernels import arena, jit, threads
from minigrad.kernels.compiler import Kernel

Array = np.ndarray

ENTRY = "void(int64, int64)"  # the signature of such a kernel


class Work(NamedTuple):
    """A kernel on arrays whose addresses are fixed: `run(*work)` fills its outputs.

    From C that is parallel_for(kernel[entry], address of the job, parts); see threads.links.
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
    launcher(kernel, entry)(arena.address(job), parts)


@cache
def launcher(kernel: Kernel, entry: str) -> Callable[[int, int], None]:
    """(address of a job, parts) -> all of them done; compiled code is called by C alone."""
    if jit.mode() == "native":
        pool = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)
        return partial(pool(threads.links()["minigrad_parallel_for"]), kernel[entry])
    function = kernel.function(entry)

    def one_by_one(job: int, parts: int) -> None:
        for index in range(parts):
            function(job, index)

    return one_by_one


def call(work: Work) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """(function, arguments) that do all of it, as often as wanted."""
    kernel, entry, job, parts = work
    return launcher(kernel, entry), (arena.address(job), parts)
