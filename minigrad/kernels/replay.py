"""A list of calls run by one: the compiled part of flat.py.

    run(list, progress)      runs the calls of a list, until one says that something is wrong
    nest(job, part)          an elementwise loop over arrays of several axes
    copy(job, part)          an array copied into another of its shape, with any strides
    add_rows(job, part, T)   y = x[0] + x[1] + ..., row by row, as NumPy adds over the first axis

A call is WIDTH words: its KIND, the address of a C function, and what that gets. The kind is the
number of its arguments, LOOP for an inner loop of NumPy's kind, or CHECK: then the word at the
address must not be above the first argument.
"""

# mypy: ignore-errors

from __future__ import annotations

from numba import int8, int16, int32, int64, njit, types

from minigrad.kernels.intrinsics import array, caller, inner, stack, wide

KIND, FUNCTION, ARGUMENTS = range(3)
MOST = 9  # arguments
WIDTH = ARGUMENTS + MOST
LOOP, CHECK = 0, -1
CALLS = (1, 2, 3, 4, MOST)  # how many arguments a function may have

# The words of a job of `nest`; then the addresses of the operands, their steps along the last axis,
# the sizes of the axes before it, and the steps along each of these.
INNER_LOOP, OPERANDS, AXES, SIZE, PLACES = range(5)
# ... of `copy`; then the sizes of the axes, the steps of `to`, and those of `at`.
TO, AT, ITEM, RANK, SIZES = range(5)
MOST_OPERANDS = 32

call1 = caller(types.void, int64)
call2 = caller(types.void, int64, int64)
call3 = caller(types.void, int64, int64, int64)
call4 = caller(types.void, int64, int64, int64, int64)
call9 = caller(types.void, *[int64] * MOST)
loop = caller(types.int32, *[int64] * 5)
helper = njit(**inner)


@helper
def run(calls, progress_):
    """progress: how many calls there are, and how many of them have run, which is written."""
    progress = array(progress_, 2, int64)
    progress[1] = 0
    for k in range(progress[0]):
        w = array(calls + 8 * WIDTH * k, WIDTH, int64)
        kind, f = w[KIND], w[FUNCTION]
        if kind == 3:
            call3(f, w[2], w[3], w[4])
        elif kind == LOOP:
            loop(f, w[2], w[3], w[4], w[5], w[6])
        elif kind == CHECK:
            if array(f, 1, int64)[0] > w[2]:
                return
        elif kind == 2:
            call2(f, w[2], w[3])
        elif kind == MOST:
            call9(f, w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10])
        elif kind == 4:
            call4(f, w[2], w[3], w[4], w[5])
        else:
            call1(f, w[2])
        progress[1] = k + 1


@helper
def offset(index, sizes, steps, axes):
    """Where the index-th element of so many axes lies, in C order."""
    found = int64(0)
    for axis in range(axes - 1, -1, -1):
        found += index % sizes[axis] * steps[axis]
        index //= sizes[axis]
    return found


@helper
def nest(job_, part):
    """The loop along the last axis, for each index of those before it."""
    job = array(job_, PLACES, int64)
    operands, axes = job[OPERANDS], job[AXES]
    places = array(job_ + 8 * PLACES, operands, int64)
    steps = job_ + 8 * (PLACES + operands)
    sizes = array(steps + 8 * operands, axes, int64)
    own = array(stack(MOST_OPERANDS, int64), MOST_OPERANDS, int64)
    count = int64(1)
    for axis in range(axes):
        count *= sizes[axis]
    for index in range(count):
        for k in range(operands):
            outer = array(steps + 8 * (operands + axes + k * axes), axes, int64)
            own[k] = places[k] + offset(index, sizes, outer, axes)
        loop(job[INNER_LOOP], 0, own.ctypes.data, job_ + 8 * SIZE, steps, 0)


@helper
def move(to, to_step, at, step, n, kind, item):
    """n elements, a step of bytes apart each; of a broadcast array one is written n times."""
    if step == item and to_step == item:
        x, y = array(at, n, kind), array(to, n, kind)
        for i in range(n):
            y[i] = x[i]
    elif step == 0 and to_step == item:
        y, value = array(to, n, kind), array(at, 1, kind)[0]
        for i in range(n):
            y[i] = value
    else:
        for i in range(n):
            array(to + i * to_step, 1, kind)[0] = array(at + i * step, 1, kind)[0]


@helper
def copy(job_, part):
    """Along the last axis, for each index of those before it."""
    job = array(job_, SIZES, int64)
    item, axes = job[ITEM], job[RANK] - 1
    sizes = array(job_ + 8 * SIZES, job[RANK], int64)
    to_steps = array(job_ + 8 * (SIZES + job[RANK]), job[RANK], int64)
    steps = array(job_ + 8 * (SIZES + 2 * job[RANK]), job[RANK], int64)
    n, to_step, step = sizes[axes], to_steps[axes], steps[axes]
    count = int64(1)
    for axis in range(axes):
        count *= sizes[axis]
    for index in range(count):
        to = job[TO] + offset(index, sizes, to_steps, axes)
        at = job[AT] + offset(index, sizes, steps, axes)
        if item == 4:
            move(to, to_step, at, step, n, int32, 4)
        elif item == 8:
            move(to, to_step, at, step, n, int64, 8)
        elif item == 1:
            move(to, to_step, at, step, n, int8, 1)
        else:
            move(to, to_step, at, step, n, int16, 2)


@helper
def add_rows(job_, part, dtype):
    """job: the addresses of y (n,) and x (rows, n), and rows and n."""
    wide()
    job = array(job_, 4, int64)
    y, x = array(job[0], job[3], dtype), array(job[1], (job[2], job[3]), dtype)
    for i in range(job[3]):
        y[i] = x[0, i]
    for k in range(1, job[2]):
        for i in range(job[3]):
            y[i] += x[k, i]
