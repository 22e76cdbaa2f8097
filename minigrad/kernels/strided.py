"""The kernel between NumPy and an elementwise loop: operands of any step, by chunks, by threads.

    enter(table, args, dims, steps)    what NumPy calls an inner loop with
    drive(table, args, dims, steps)    the same, for whatever the loop cannot run over as it is

A loop over contiguous arrays of whole blocks has no rest of its own, so LLVM's vectors do it all.
`drive` makes such arrays: operands that are contiguous are used in place, others are copied to
`room`, some elements at a time, and so is the end of an array that is less than a block.
"""

# mypy: ignore-errors

from __future__ import annotations

from numba import int8, int32, int64, njit, types

from minigrad.kernels.intrinsics import array, caller, inner, parallel_for, stack

MOST_OPERANDS = 32
OWN = MOST_OPERANDS + 1  # words: addresses, and a number of elements
ROOM = 2048  # bytes of an operand that are copied at once: all of them stay in L1
ROOMS = MOST_OPERANDS * ROOM // 8  # words
FEW = 8  # elements that are soonest done one by one
PART = 32768  # elements a thread takes: 2 us of the cheapest work, as long as the pool's start

# The words of a loop's table; the size of an element of each operand follows.
ENTER, DRIVE, SHARE, PARALLEL_FOR, THREADS, LOOP, INPUTS, OPERANDS, BLOCK, CHUNK, VECTOR, SIZES = (
    range(12)
)

run = caller(types.int32, *[types.int64] * 5)  # loop(0, places, n, 0, 0), see elementwise.py
run_drive = caller(types.void, *[types.int64] * 4)
helper = njit(**inner)


def enter(table_, args, dims, steps):
    """The elementwise loop of a table over `dims` elements of each operand."""
    n, table = array(dims, 1, int64)[0], array(table_, SIZES, int64)
    operands = table[OPERANDS]
    sizes = array(table_ + 8 * SIZES, operands, int64)
    at, step = array(args, operands, int64), array(steps, operands, int64)
    # A rest of a vector would be done number by number.
    ready = (n < FEW) | ((n <= PART) & (n % table[VECTOR] == 0))
    for k in range(operands):
        ready &= step[k] == sizes[k]
        ready &= (k == 0) | (at[k] != at[0])
    if ready:
        run(table[LOOP], 0, args, n, 0, 0)
    else:
        run_drive(table[DRIVE], table_, args, dims, steps)


@helper
def move(to, to_step, at, step, n, size):
    """n elements of `size` bytes from an address to another, a step of bytes apart each."""
    if size == 1:
        for i in range(n):
            array(to + i * to_step, 1, int8)[0] = array(at + i * step, 1, int8)[0]
    elif to_step == size and step == size:
        n = n * size // 4
        x, y = array(at, n, int32), array(to, n, int32)
        for i in range(n):
            y[i] = x[i]
    elif size == 4:
        for i in range(n):
            array(to + i * to_step, 1, int32)[0] = array(at + i * step, 1, int32)[0]
    else:
        for i in range(n):
            array(to + i * to_step, 1, int64)[0] = array(at + i * step, 1, int64)[0]


def share(job_, index):
    """One thread's part of a long loop. It changes nothing about an element, nor its bits."""
    job = array(job_, 5, int64)
    n, size = job[3], job[4]
    table = array(job[0], SIZES, int64)
    args, steps = array(job[1], table[OPERANDS], int64), array(job[2], table[OPERANDS], int64)
    start = index * size
    if start < n:
        own = array(stack(OWN, int64), OWN, int64)
        for k in range(table[OPERANDS]):
            own[k] = args[k] + start * steps[k]
        own[MOST_OPERANDS] = min(size, n - start)
        run_drive(
            table[DRIVE], job[0], own.ctypes.data, own.ctypes.data + 8 * MOST_OPERANDS, job[2]
        )


def drive(table_, args, dims, steps):
    """By chunks, and by threads."""
    n = array(dims, 1, int64)[0]
    table = array(table_, SIZES, int64)
    operands, block, most = table[OPERANDS], table[BLOCK], table[CHUNK]
    if n > PART:
        threads = array(table[THREADS], 1, int64)[0]
        parts = -(-n // (PART * threads)) * threads
        size = -(-n // (64 * parts)) * 64  # of a part: whole blocks
        job = array(stack(5, int64), 5, int64)
        job[0], job[1], job[2], job[3], job[4] = table_, args, steps, n, size
        parallel_for(table[PARALLEL_FOR], table[SHARE], job.ctypes.data, parts)
        return
    at, step = array(args, operands, int64), array(steps, operands, int64)
    sizes = array(table_ + 8 * SIZES, operands, int64)
    room = array(stack(ROOMS, int64), ROOMS, int64)
    rooms = room.ctypes.data
    places = array(stack(MOST_OPERANDS, int64), MOST_OPERANDS, int64)
    direct = array(stack(MOST_OPERANDS, int64), MOST_OPERANDS, int64)
    whole = True
    for k in range(operands):
        direct[k] = step[k] == sizes[k]
        for i in range(table[INPUTS] if k >= table[INPUTS] else 0):
            if at[i] == at[k]:  # in place: LLVM's vectors want results apart from operands
                direct[k] = False
        whole = whole and direct[k]
    start = 0
    while start < n:
        left = n - start
        m = left if left < block else (left if whole else min(left, most)) // block * block
        for k in range(operands):
            places[k] = at[k] + start * step[k]
            if m < block or not direct[k]:
                places[k] = rooms + k * ROOM
                if k < table[INPUTS] and (step[k] or not start):
                    now = m if step[k] else min(max(n, block), most)
                    move(places[k], sizes[k], at[k] + start * step[k], step[k], now, sizes[k])
                    rest = array(places[k] + now * sizes[k], max(block - now, 0) * sizes[k], int8)
                    for i in range(rest.size):
                        rest[i] = 0
        run(table[LOOP], 0, places.ctypes.data, max(m, block), 0, 0)
        for k in range(table[INPUTS], operands):
            if m < block or not direct[k]:
                move(at[k] + start * step[k], step[k], rooms + k * ROOM, sizes[k], m, sizes[k])
        start += m
