"""Reductions of one axis, and the running sum: the inner loops of NumPy's gufuncs.

    along_sum(args, dims, steps, float32)                of (n)->(): over elements, step > 0
    along_extreme(args, dims, steps, float32, 1)  the largest; -1: the smallest
    across_sum, across_extreme                           of (n,i)->(i): over rows
    running(args, dims, steps, float32)                  of (n)->(n): y[k] = x[0] + ... + x[k]

A large reduction is divided among threads (`divided`): by items, by columns, or along the axis that
goes, which is then folded group by group, and the results of the groups once more. How depends on
the shape alone, so the bits do too.

A sum is made of plain partial sums of some 64 terms an accumulator, added up with the error of each
addition kept (Knuth's two-sum), so it stays accurate for any n. Its order depends on the shape
alone. Inf and NaN pass: where the error is NaN, the sum itself says it all.
"""

# mypy: ignore-errors

from __future__ import annotations

from numba import int64, njit

from minigrad.kernels.intrinsics import (
    array,
    call,
    forget_flags,
    free,
    inner,
    largest,
    malloc,
    parallel_for,
    plus,
    select,
    stack,
    wide,
    within,
)

CHUNK = 4096  # terms of a partial sum along an axis, in dozens of accumulators at once
ROWS = 64  # ... and across one
COLUMNS = 1024  # whose sums are under way at once, in L1
PART = 1 << 15  # numbers that a thread takes at once: 3 us or more
NARROW = 256  # columns: fewer are not divided, as the CPU fetches ahead along a row

# The words of a loop's table, and of a divided job.
SHARE, PARALLEL_FOR = range(2)
ARGS, DIMS, STEPS, WAY, AT_ONCE, SIZE, GROUPS, JOB = range(8)
BY_ITEM, BY_COLUMN, BY_GROUP = range(3)
OWN = 10  # words: args, dims and steps of an inner loop, at 0, 2 and 5

fold = njit(**inner)


@within
def divided(table_, args, dims, steps, columns, size):
    """Runs a reduction in parts if it is large; whether it did.

    args, dims, steps: what NumPy gives an inner loop, of (n)->(), or of (n,i)->(i) if `columns`.
    """
    table, dim = array(table_, 2, int64), array(dims, 2 + columns, int64)
    items, n, width = dim[0], dim[1], dim[2] if columns else int64(1)
    if items * n * width < 2 * PART:
        return False
    job = array(stack(JOB, int64), JOB, int64)
    job_, share = int64(job.ctypes.data), table[SHARE]
    job[ARGS], job[DIMS], job[STEPS], job[SIZE], job[GROUPS] = args, dims, steps, size, 0
    group = max(PART // width, 1)
    if items > 1:
        job[WAY], job[AT_ONCE], count = BY_ITEM, max(PART // (n * width), 1), items
    elif width >= NARROW:
        job[WAY], job[AT_ONCE], count = BY_COLUMN, max(PART // n // 64, 1) * 64, width
    elif n >= 2 * group:
        job[WAY], job[AT_ONCE], count = BY_GROUP, group, n
        job[GROUPS] = malloc(-(-n // group) * width * size)
    else:
        return False
    parts = -(-count // job[AT_ONCE])
    if job[WAY] == BY_GROUP and job[GROUPS] == 0:
        return False
    parallel_for(table[PARALLEL_FOR], share, job_, parts)
    if job[WAY] == BY_GROUP:
        fold_groups(share, job_, parts, columns, width)
        free(job[GROUPS])
    return True


@fold
def fold_groups(share, job_, groups, columns, width):
    """What is left of each group, one after the other in memory, folded to the result."""
    job, size = array(job_, JOB, int64), array(job_, JOB, int64)[SIZE]
    own = array(stack(OWN, int64), OWN, int64)
    steps = array(job[STEPS], 3 + 2 * columns, int64)
    own[0], own[1] = job[GROUPS], array(job[ARGS], 2, int64)[1]
    own[2], own[3], own[4] = 1, groups, width
    own[5], own[6], own[7], own[8] = 0, 0, width * size, size
    own[9] = steps[4] if columns else 0
    first = int64(own.ctypes.data)
    job[ARGS], job[DIMS], job[STEPS] = first, first + 16, first + 40
    job[WAY], job[AT_ONCE] = BY_ITEM, 1
    call(share, job_, 0)


@within
def own_part(job_, index, own, columns):
    """args, dims and steps of the index-th part of a job, into `own`."""
    job = array(job_, JOB, int64)
    args, dim = array(job[ARGS], 2, int64), array(job[DIMS], 2 + columns, int64)
    steps, begin, axis = array(job[STEPS], 3 + 2 * columns, int64), index * job[AT_ONCE], int64(0)
    own[0], own[1] = args[0], args[1]
    for i in range(2 + columns):
        own[2 + i] = dim[i]
    for i in range(3 + 2 * columns):
        own[5 + i] = steps[i]
    if job[WAY] == BY_ITEM:
        own[0] += begin * steps[0]
        own[1] += begin * steps[1]
    elif job[WAY] == BY_GROUP:
        axis = 1
        own[0] += begin * steps[2]
        own[1] = job[GROUPS] + index * job[SIZE] * (dim[2] if columns else 1)
        if columns:
            own[9] = job[SIZE]
    else:
        axis = 2
        own[0] += begin * steps[3]
        own[1] += begin * steps[4]
    own[2 + axis] = min(job[AT_ONCE], dim[axis] - begin)


@fold
def elements(address, step, count, dtype, room):
    """So many elements, `step` bytes apart, as an array."""
    if step == room.itemsize:
        return array(address, count, dtype)
    for i in range(count):
        room[i] = array(address + i * step, 1, dtype)[0]
    return room[:count]


@fold
def partial(x, zero):
    """The sum of some elements, in whatever order makes whole vectors: one for each length."""
    total = zero
    for i in range(x.size):
        total = plus(total, x[i])
    return total


@fold
def add(total, slip, term):
    """A sum and the error that its additions made, with one term more."""
    new = total + term
    back = new - total
    return new, slip + ((total - (new - back)) + (term - back))


@fold
def whole(total, slip):
    """A sum with its error; of Inf and NaN, which have none, itself."""
    return select(slip != slip, total, total + slip)


@fold
def along_sum(args, dims, steps, dtype):
    """y = x[0] + ... + x[n - 1]."""
    wide()
    at, step, dim = array(args, 2, int64), array(steps, 3, int64), array(dims, 2, int64)
    n = dim[1]
    room = array(stack(CHUNK, dtype), CHUNK, dtype)
    stride = step[2] if n > 1 else room.itemsize  # NumPy calls the step of a single element 0
    for item in range(dim[0]):
        total = slip = dtype(0)
        for start in range(0, n, CHUNK):
            first = at[0] + item * step[0] + start * stride
            part = partial(elements(first, stride, min(CHUNK, n - start), dtype, room), dtype(0))
            total, slip = add(total, slip, part)
        array(at[1] + item * step[1], 1, dtype)[0] = whole(total, slip)
    forget_flags()


@fold
def along_extreme(args, dims, steps, dtype, sign):
    """y = the largest of sign * x, and sign times that."""
    wide()
    at, step, dim = array(args, 2, int64), array(steps, 3, int64), array(dims, 2, int64)
    flip, room = dtype(sign), array(stack(CHUNK, dtype), CHUNK, dtype)
    for item in range(dim[0]):
        first = at[0] + item * step[0]
        top = flip * array(first, 1, dtype)[0]
        for start in range(0, dim[1], CHUNK):
            count = min(CHUNK, dim[1] - start)
            x = elements(first + start * step[2], step[2], count, dtype, room)
            for i in range(count):
                top = largest(top, flip * x[i])
        array(at[1] + item * step[1], 1, dtype)[0] = flip * top
    forget_flags()


@fold
def across_sum(args, dims, steps, dtype):
    """y[j] = x[0, j] + ... + x[n - 1, j]."""
    wide()
    at, step, dim = array(args, 2, int64), array(steps, 5, int64), array(dims, 3, int64)
    n, width = dim[1], dim[2]
    room = array(stack(COLUMNS, dtype), COLUMNS, dtype)
    parts = array(stack(COLUMNS, dtype), COLUMNS, dtype)
    totals = array(stack(COLUMNS, dtype), COLUMNS, dtype)
    slips = array(stack(COLUMNS, dtype), COLUMNS, dtype)
    for item in range(dim[0]):
        # Row by row, not column by column: the CPU fetches ahead along a row only.
        for left in range(0, width, COLUMNS):
            count = min(COLUMNS, width - left)
            first = at[0] + item * step[0] + left * step[3]
            for j in range(count):
                totals[j] = slips[j] = 0
            for start in range(0, n, ROWS):
                for j in range(count):
                    parts[j] = 0
                for k in range(start, min(n, start + ROWS)):
                    x = elements(first + k * step[2], step[3], count, dtype, room)
                    for j in range(count):
                        parts[j] += x[j]
                for j in range(count):
                    totals[j], slips[j] = add(totals[j], slips[j], parts[j])
            for j in range(count):
                at_j = at[1] + item * step[1] + (left + j) * step[4]
                array(at_j, 1, dtype)[0] = whole(totals[j], slips[j])
    forget_flags()


@fold
def across_extreme(args, dims, steps, dtype, sign):
    """y[j] = the largest of sign * x[:, j], and sign times that."""
    wide()
    at, step, dim = array(args, 2, int64), array(steps, 5, int64), array(dims, 3, int64)
    n, width, flip = dim[1], dim[2], dtype(sign)
    room = array(stack(COLUMNS, dtype), COLUMNS, dtype)
    best = array(stack(COLUMNS, dtype), COLUMNS, dtype)
    for item in range(dim[0]):
        for left in range(0, width, COLUMNS):
            count = min(COLUMNS, width - left)
            first = at[0] + item * step[0] + left * step[3]
            for k in range(n):
                x = elements(first + k * step[2], step[3], count, dtype, room)
                for j in range(count):
                    best[j] = largest(best[j], flip * x[j]) if k else flip * x[j]
            for j in range(count):
                at_j = at[1] + item * step[1] + (left + j) * step[4]
                array(at_j, 1, dtype)[0] = flip * best[j]
    forget_flags()


@fold
def running(args, dims, steps, dtype):
    """y[k] = x[0] + ... + x[k]."""
    at, step, dim = array(args, 2, int64), array(steps, 4, int64), array(dims, 2, int64)
    for item in range(dim[0]):
        x, y = at[0] + item * step[0], at[1] + item * step[1]
        total = dtype(0)
        for k in range(dim[1]):
            total += array(x + k * step[2], 1, dtype)[0]
            array(y + k * step[3], 1, dtype)[0] = total
    forget_flags()
