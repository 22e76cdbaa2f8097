"""Reductions of one axis, and the running sum: the inner loops of NumPy's gufuncs.

    along_sum(args, dims, steps, float32)                of (n)->(): over elements, step > 0
    along_extreme(args, dims, steps, float32, 1)  the largest; -1: the smallest
    across_sum, across_extreme                           of (n,i)->(i): over rows
    running(args, dims, steps, float32)                  of (n)->(n): y[k] = x[0] + ... + x[k]

A sum is made of plain partial sums of CHUNK terms an accumulator, added up with the error of each
addition kept (Knuth's two-sum), so it stays accurate for any n. Its order depends on the shape
alone. Inf and NaN pass: where the error is NaN, the sum itself says it all.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from numba import int64, njit

from minigrad.kernels.intrinsics import array, forget_flags, inner, select, stack, wide
from minigrad.kernels.vectormath import maximum

WIDTH = 64  # accumulators under way at once: four registers of the widest CPU
CHUNK = 64
CHUNK_WIDTH = CHUNK * WIDTH
COLUMNS = 1024  # whose sums are under way at once, in L1
fold = njit(**inner)


@fold
def taken(n, start):
    """How many elements to do at once: CHUNK * WIDTH at most, a multiple of WIDTH or the rest."""
    left = n - start
    return left if left < WIDTH else min(left // WIDTH, CHUNK) * WIDTH


@fold
def elements(address, step, count, dtype, room):
    """So many elements, `step` bytes apart, as an array; a rest is followed by zeros."""
    if step == room.itemsize and count >= WIDTH:
        return array(address, count, dtype)
    for i in range(count):
        room[i] = array(address + i * step, 1, dtype)[0]
    for i in range(count, WIDTH):
        room[i] = 0
    return room[: max(count, WIDTH)]


@fold
def add_exactly(totals, slips, terms, count):
    """totals += terms, and the error of each addition to `slips`."""
    for j in range(count):
        total, term = totals[j], terms[j]
        new = total + term
        back = new - total
        slips[j] += (total - (new - back)) + (term - back)
        totals[j] = new


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
    room = array(stack(CHUNK_WIDTH, dtype), CHUNK_WIDTH, dtype)
    parts, totals = (
        array(stack(WIDTH, dtype), WIDTH, dtype),
        array(stack(WIDTH, dtype), WIDTH, dtype),
    )
    slips = array(stack(WIDTH, dtype), WIDTH, dtype)
    stride = step[2] if n > 1 else room.itemsize  # NumPy calls the step of a single element 0
    for item in range(dim[0]):
        first = at[0] + item * step[0]
        for j in range(WIDTH):
            totals[j] = slips[j] = 0
        start = 0
        while start < n:
            count = taken(n, start)
            x = elements(first + start * stride, stride, count, dtype, room)
            for j in range(WIDTH):
                parts[j] = 0
            for i in range(0, x.size, WIDTH):
                for j in range(WIDTH):
                    parts[j] += x[i + j]
            add_exactly(totals, slips, parts, WIDTH)
            start += count
        for j in range(WIDTH):
            totals[j] = whole(totals[j], slips[j])
        half = WIDTH // 2
        while half:
            for j in range(half):
                totals[j] += totals[j + half]
            half //= 2
        array(at[1] + item * step[1], 1, dtype)[0] = totals[0]
    forget_flags()


@fold
def along_extreme(args, dims, steps, dtype, sign):
    """y = the largest of sign * x, and sign times that."""
    wide()
    at, step, dim = array(args, 2, int64), array(steps, 3, int64), array(dims, 2, int64)
    n = dim[1]
    flip = dtype(sign)
    best = array(stack(WIDTH, dtype), WIDTH, dtype)
    for item in range(dim[0]):
        first = at[0] + item * step[0]
        top = flip * array(first, 1, dtype)[0]
        done = 0
        if step[2] == best.itemsize and n >= WIDTH:
            done = n // WIDTH * WIDTH
            x = array(first, done, dtype)
            for j in range(WIDTH):
                best[j] = flip * x[j]
            for i in range(WIDTH, done, WIDTH):
                for j in range(WIDTH):
                    best[j] = maximum(best[j], flip * x[i + j])
            for j in range(WIDTH):
                top = maximum(top, best[j])
        for i in range(done, n):
            top = maximum(top, flip * array(first + i * step[2], 1, dtype)[0])
        array(at[1] + item * step[1], 1, dtype)[0] = flip * top
    forget_flags()


@fold
def columns_of(address, step, count, dtype, room):
    """So many elements of a row, `step` bytes apart, as an array."""
    if step == room.itemsize:
        return array(address, count, dtype)
    for j in range(count):
        room[j] = array(address + j * step, 1, dtype)[0]
    return room[:count]


@fold
def across_sum(args, dims, steps, dtype):
    """y[j] = x[0, j] + ... + x[n - 1, j]."""
    wide()
    at, step, dim = array(args, 2, int64), array(steps, 5, int64), array(dims, 3, int64)
    n, width = dim[1], dim[2]
    room, parts = (
        array(stack(COLUMNS, dtype), COLUMNS, dtype),
        array(stack(COLUMNS, dtype), COLUMNS, dtype),
    )
    totals, slips = (
        array(stack(COLUMNS, dtype), COLUMNS, dtype),
        array(stack(COLUMNS, dtype), COLUMNS, dtype),
    )
    for item in range(dim[0]):
        # Row by row, not column by column: the CPU fetches ahead along a row only.
        for left in range(0, width, COLUMNS):
            count = min(COLUMNS, width - left)
            first = at[0] + item * step[0] + left * step[3]
            for j in range(count):
                totals[j] = slips[j] = 0
            for start in range(0, n, CHUNK):
                for j in range(count):
                    parts[j] = 0
                for k in range(start, min(n, start + CHUNK)):
                    x = columns_of(first + k * step[2], step[3], count, dtype, room)
                    for j in range(count):
                        parts[j] += x[j]
                add_exactly(totals, slips, parts, count)
            for j in range(count):
                totals[j] = whole(totals[j], slips[j])
            give(at[1] + item * step[1] + left * step[4], step[4], totals, count, dtype)
    forget_flags()


@fold
def across_extreme(args, dims, steps, dtype, sign):
    """y[j] = the largest of sign * x[:, j], and sign times that."""
    wide()
    at, step, dim = array(args, 2, int64), array(steps, 5, int64), array(dims, 3, int64)
    n, width, flip = dim[1], dim[2], dtype(sign)
    room, best = (
        array(stack(COLUMNS, dtype), COLUMNS, dtype),
        array(stack(COLUMNS, dtype), COLUMNS, dtype),
    )
    for item in range(dim[0]):
        for left in range(0, width, COLUMNS):
            count = min(COLUMNS, width - left)
            first = at[0] + item * step[0] + left * step[3]
            for k in range(n):
                x = columns_of(first + k * step[2], step[3], count, dtype, room)
                for j in range(count):
                    best[j] = maximum(best[j], flip * x[j]) if k else flip * x[j]
            for j in range(count):
                best[j] = flip * best[j]
            give(at[1] + item * step[1] + left * step[4], step[4], best, count, dtype)
    forget_flags()


@fold
def give(address, step, y, count, dtype):
    """The first elements of y to places `step` bytes apart."""
    for j in range(count):
        array(address + j * step, 1, dtype)[0] = y[j]


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
