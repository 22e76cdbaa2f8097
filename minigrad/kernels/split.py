"""Numba side: one long elementwise loop as several short ones on the thread pool.

This text is executed only to be compiled, once for all elementwise kernels; see `elementwise`.
A thread changes nothing about an element: results have the same bits for any number of threads.
"""

# mypy: ignore-errors

from numba import int64

from minigrad.kernels.memory import (
    address,
    address_of,
    extent,
    external,
    invoke,
    load,
    ptr,
    stack,
    store,
)

LOOP, ARGS, STEPS, OPERANDS, TOTAL, SIZE = 0, 8, 16, 24, 32, 40  # the words of a job, in bytes
JOB = 48
DIMS = 8 * 32  # behind the addresses of a part's operands: NumPy has at most 32
OWN = DIMS + 8

parallel_for = external("minigrad_parallel_for", "void(ptr, ptr, i64)")
thread_count = external("minigrad_thread_count", "i64()")


def split(loop, args, dims, steps, operands, most):
    """loop(args, dims, steps), a C function of jit.LOOP, over at most `most` elements at a time."""
    total = dims[0]
    threads = thread_count()
    parts = -(-total // (most * threads)) * threads
    job = stack(JOB)
    store(job, LOOP, address(loop))
    store(job, ARGS, address(args))
    store(job, STEPS, address(steps))
    store(job, OPERANDS, operands)
    store(job, TOTAL, total)
    store(job, SIZE, -(-total // (64 * parts)) * 64)  # whole vectors
    parallel_for(address_of("part"), ptr(job), parts)


def part(job, index):
    """One of them, in a thread."""
    job = extent(job, 0, JOB)
    operands, total, size = (
        load(job, OPERANDS, int64),
        load(job, TOTAL, int64),
        load(job, SIZE, int64),
    )
    args = extent(ptr(load(job, ARGS, int64)), 0, 8 * operands)
    steps = extent(ptr(load(job, STEPS, int64)), 0, 8 * operands)
    begin = index * size
    if begin >= total:
        return
    own = stack(OWN)
    for i in range(operands):
        store(own, 8 * i, load(args, 8 * i, int64) + begin * load(steps, 8 * i, int64))
    store(own, DIMS, min(size, total - begin))
    loop, none = ptr(load(job, LOOP, int64)), ptr(0)
    dims = ptr(address(own) + DIMS)
    invoke(loop, "i32(ptr, ptr, ptr, ptr, ptr)", none, ptr(own), dims, ptr(steps), none)
