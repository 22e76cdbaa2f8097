"""Softmax, its logarithm, logsumexp and cross-entropy of rows: the loops of probabilities.py.

    softmax_rows log_softmax_rows logsumexp_rows(job, index, dtype)    of rows x
    softmax_pull_rows log_softmax_pull_rows                            rows g times their Jacobians
    loss_count loss_rows loss_total loss_pull_rows                     cross-entropy, there and back

Some rows, a block, go through one short loop after another, so that the CPU works on several at
once: in one loop it would wait for each row's largest number, then for its sum. Rows whose width is
no whole number of vectors lie in a room of their own meanwhile, with numbers behind them that
change nothing, so that no exponential is computed by itself. Long rows are their own room.

Where a probability p rounds to 1, what is left, 1 - p, is the sum of the others: no difference is
taken, forward or back. A sum over a long row is made of sums over CHUNK numbers, in order, with the
error of each addition kept (folds.py).
"""

# mypy: ignore-errors

from __future__ import annotations

import math

from numba import int64, njit

from minigrad.kernels.folds import add, whole
from minigrad.kernels.intrinsics import (
    array,
    inner,
    largest,
    plus,
    select,
    stack,
    wide,
    within,
    words,
)
from minigrad.kernels.vectormath import exp, log1p

CHUNK = 4096  # numbers of a block: in L1, twice
VECTORS = 16  # numbers: whole vectors of any CPU, in float32 and float64
FEW = 8  # numbers of a row that are soonest done one by one
MOST = 256  # rows of a block

# The words of a cross-entropy's job; and what its word REDUCTION says.
X, TARGETS, LOSSES, TOTAL, G, DX, ROWS, CLASSES, IGNORED, REDUCTION, AT_ONCE, KEPT, BAD, WORDS = (
    range(14)
)
EACH, SUM, MEAN = range(3)

rowwise = njit(**inner)


# -- a block of rows, z, in its room ---------------------------------------------------------------


@rowwise
def width_of(n):
    """How wide a row of n numbers is made."""
    return n if n < FEW or n > CHUNK else -(-n // VECTORS) * VECTORS


@rowwise
def rows_of(width):
    """How many rows a block has."""
    return max(min(CHUNK // max(width, 1), MOST), 1)


@rowwise
def fill(x_, z_, rows, n, width, dtype):
    """z = x, with -Inf behind each row of n numbers."""
    x, z = array(x_, (rows, n), dtype), array(z_, (rows, width), dtype)
    for row in range(rows):
        for i in range(n):
            z[row, i] = x[row, i]
        for i in range(n, width):
            z[row, i] = dtype(-math.inf)


@rowwise
def give(z_, out_, rows, n, width, dtype):
    """out = z without what is behind each row, if z is a room of its own."""
    if n < width:
        z, out = array(z_, (rows, width), dtype), array(out_, (rows, n), dtype)
        for row in range(rows):
            for i in range(n):
                out[row, i] = z[row, i]


@rowwise
def pad(z_, rows, n, width, numbers, dtype):
    """z[:, n:] = a number for each row."""
    z = array(z_, (rows, width), dtype)
    if n < width:
        for row in range(rows):
            for i in range(n, width):
                z[row, i] = numbers[row]


@rowwise
def line(z_, place, width, start, size, dtype):
    """CHUNK numbers of a row from `start` on, or what is left of it."""
    return array(z_ + (place + start) * size, min(CHUNK, width - start), dtype)


@rowwise
def find_tops(z_, rows, width, tops, dtype):
    """tops = the largest of each row, 0 where it is not finite: a row is moved by it before the
    exponential.
    """
    wide()
    for row in range(rows):
        top = dtype(-math.inf)
        for start in range(0, width, CHUNK):
            z = line(z_, row * width, width, start, tops.itemsize, dtype)
            for i in range(z.size):
                top = largest(top, z[i])
        tops[row] = select(top - top == dtype(0), top, dtype(0))


@rowwise
def find_shifts(z_, rows, n, width, tops, shifts, dtype):
    """shifts = ln sum e**(z - top) of each row; what is behind it is its top.

    One of the largest is left out of the sum: what little the others add to its 1 is not lost.
    """
    wide()
    for row in range(rows):
        top, total, slip, ties = tops[row], dtype(0), dtype(0), dtype(n - width - 1)
        for start in range(0, width, CHUNK):
            z = line(z_, row * width, width, start, tops.itemsize, dtype)
            rest, ones = dtype(0), dtype(0)
            for i in range(z.size):
                moved = z[i] - top
                rest = plus(rest, select(moved == dtype(0), dtype(0), exp(moved)))
                ones = plus(ones, select(moved == dtype(0), dtype(1), dtype(0)))
            total, slip = add(total, slip, rest)
            ties += ones
        shifts[row] = whole(total, slip) + ties
    for row in range(rows):
        shifts[row] = log1p(shifts[row])


@rowwise
def raise_rows(z_, rows, width, tops, dtype):
    """z = e**(z - top)."""
    wide()
    for row in range(rows):
        top = tops[row]
        z = array(z_ + row * width * tops.itemsize, width, dtype)
        for i in range(width):
            z[i] = exp(z[i] - top)


@rowwise
def add_up(z_, rows, width, sums, dtype):
    """sums = the sum of each row."""
    wide()
    for row in range(rows):
        total, slip = dtype(0), dtype(0)
        for start in range(0, width, CHUNK):
            z = line(z_, row * width, width, start, sums.itemsize, dtype)
            part = dtype(0)
            for i in range(z.size):
                part = plus(part, z[i])
            total, slip = add(total, slip, part)
        sums[row] = whole(total, slip)


@within
def powers(x, z_, n, width, rows, tops, zeros, dtype):
    """z = e**(x - top), 0 behind each row."""
    fill(x, z_, rows, n, width, dtype)
    find_tops(z_, rows, width, tops, dtype)
    pad(z_, rows, n, width, tops, dtype)  # e**-Inf would be slow: a denormal on its way
    raise_rows(z_, rows, width, tops, dtype)
    for row in range(rows):
        zeros[row] = dtype(0)
    pad(z_, rows, n, width, zeros, dtype)


@within
def shifts_of(x, room_, n, rows, tops, shifts, dtype):
    """tops and shifts of some rows of x: ln sum e**x is their sum."""
    width = width_of(n)
    z_ = x if width == n else room_
    if width != n:
        fill(x, z_, rows, n, width, dtype)
    find_tops(z_, rows, width, tops, dtype)
    pad(z_, rows, n, width, tops, dtype)
    find_shifts(z_, rows, n, width, tops, shifts, dtype)


# -- softmax and its kin ---------------------------------------------------------------------------


@rowwise
def share(job, index):
    """Of two operands and the result where the index-th part begins, and its width and rows."""
    x, y, out, n, rows, at_once, x_step, y_step, out_step = words(job, 9)
    begin = index * at_once
    count = min(at_once, rows - begin)
    return x + begin * x_step, y + begin * y_step, out + begin * out_step, n, count


@within
def softmax_rows(job, index, dtype):
    """out = e**x / sum e**x."""
    x, _, out, n, rows = share(job, index)
    wide()
    room = array(stack(CHUNK, dtype), CHUNK, dtype)
    tops, sums = array(stack(MOST, dtype), MOST, dtype), array(stack(MOST, dtype), MOST, dtype)
    width, size = width_of(n), room.itemsize
    at_once = rows_of(width)
    for begin in range(0, rows, at_once):
        count, to = min(at_once, rows - begin), out + begin * n * size
        z_ = to if width == n else int64(room.ctypes.data)
        powers(x + begin * n * size, z_, n, width, count, tops, sums, dtype)
        add_up(z_, count, width, sums, dtype)
        for row in range(count):
            total = sums[row]
            z = array(z_ + row * width * size, width, dtype)
            for i in range(width):
                z[i] = z[i] / total
        give(z_, to, count, n, width, dtype)


@within
def log_softmax_rows(job, index, dtype):
    """out = x - ln sum e**x."""
    x_, _, out, n, rows = share(job, index)
    wide()
    room = array(stack(CHUNK, dtype), CHUNK, dtype)
    tops, shifts = array(stack(MOST, dtype), MOST, dtype), array(stack(MOST, dtype), MOST, dtype)
    step, at_once = n * room.itemsize, rows_of(width_of(n))
    for begin in range(0, rows, at_once):
        count = min(at_once, rows - begin)
        shifts_of(x_ + begin * step, int64(room.ctypes.data), n, count, tops, shifts, dtype)
        for row in range(count):
            top, shift, place = tops[row], shifts[row], (begin + row) * step
            x, y = array(x_ + place, n, dtype), array(out + place, n, dtype)
            for i in range(n):
                y[i] = (x[i] - top) - shift


@within
def logsumexp_rows(job, index, dtype):
    """out = ln sum e**x, one number a row."""
    x, _, out, n, rows = share(job, index)
    wide()
    room = array(stack(CHUNK, dtype), CHUNK, dtype)
    tops, shifts = array(stack(MOST, dtype), MOST, dtype), array(stack(MOST, dtype), MOST, dtype)
    y, at_once = array(out, rows, dtype), rows_of(width_of(n))
    for begin in range(0, rows, at_once):
        count, place = min(at_once, rows - begin), begin * n * room.itemsize
        shifts_of(x + place, int64(room.ctypes.data), n, count, tops, shifts, dtype)
        for row in range(count):
            y[begin + row] = shifts[row] + tops[row]


@rowwise
def place_of_largest(y):
    """Where the largest number of a row is, the first of several; 0 where there is a NaN."""
    wide()
    top, place = y[0], int64(0)
    for i in range(1, y.size):
        top = largest(top, y[i])
    while place < y.size and y[place] != top:
        place += 1
    return select(place < y.size, place, int64(0))


@within
def softmax_pull_rows(job, index, dtype):
    """out = y (g sum y - sum g y): with the largest, y[k], y[k] sum (g[k] - g) y of the others."""
    g_, y_, out, n, rows = share(job, index)
    wide()
    zero = dtype(0)
    step = n * array(y_, 1, dtype).itemsize
    for row in range(rows):
        place = row * step
        g, y = array(g_ + place, n, dtype), array(y_ + place, n, dtype)
        dx, k = array(out + place, n, dtype), place_of_largest(y)
        others, slip, weighted, slips = zero, zero, zero, zero
        for start in range(0, n, CHUNK):
            some, more = zero, zero
            for i in range(start, min(n, start + CHUNK)):
                p = select(i == k, zero, y[i])
                some, more = plus(some, p), plus(more, select(i == k, zero, y[i] * g[i]))
            others, slip = add(others, slip, some)
            weighted, slips = add(weighted, slips, more)
        others, weighted = whole(others, slip), whole(weighted, slips)
        total, mean = others + y[k], weighted + y[k] * g[k]
        for i in range(n):
            dx[i] = y[i] * (g[i] * total - mean)
        dx[k] = y[k] * (g[k] * others - weighted)


@within
def log_softmax_pull_rows(job, index, dtype):
    """out = g sum p - p sum g, p = e**y; at the largest, p[k], both sums are of the others."""
    g_, y_, out, n, rows = share(job, index)
    wide()
    room = array(stack(CHUNK, dtype), CHUNK, dtype)
    own, sums = array(stack(MOST, dtype), MOST, dtype), array(stack(MOST, dtype), MOST, dtype)
    places = array(stack(MOST, int64), MOST, int64)
    width, size = width_of(n), room.itemsize
    at_once = rows_of(width)
    for begin in range(0, rows, at_once):
        count, place = min(at_once, rows - begin), begin * n * size
        z_ = out + place if width == n else int64(room.ctypes.data)
        fill(y_ + place, z_, count, n, width, dtype)
        for row in range(count):
            sums[row] = own[row] = dtype(0)
            places[row] = place_of_largest(array(y_ + place + row * n * size, n, dtype))
        pad(z_, count, n, width, own, dtype)
        raise_rows(z_, count, width, sums, dtype)
        pad(z_, count, n, width, sums, dtype)
        for row in range(count):
            z = array(z_ + row * width * size, width, dtype)
            own[row], z[places[row]] = z[places[row]], dtype(0)
        add_up(z_, count, width, sums, dtype)
        for row in range(count):
            k, at = places[row], place + row * n * size
            g, z = array(g_ + at, n, dtype), array(z_ + row * width * size, n, dtype)
            total, slip = dtype(0), dtype(0)
            for start in range(0, n, CHUNK):
                part = dtype(0)
                for i in range(start, min(n, start + CHUNK)):
                    part = plus(part, select(i == k, dtype(0), g[i]))
                total, slip = add(total, slip, part)
            total = whole(total, slip)
            last, one = g[k] * sums[row] - own[row] * total, sums[row] + own[row]
            total += g[k]
            for i in range(n):
                z[i] = g[i] * one - z[i] * total
            z[k] = last
        give(z_, out + place, count, n, width, dtype)


# -- cross-entropy ---------------------------------------------------------------------------------


@within
def loss_count(job_, index, dtype):
    """How many targets are not ignored, and where the first is that names no class (else -1)."""
    job = array(job_, WORDS, int64)
    targets, classes, ignored = array(job[TARGETS], job[ROWS], int64), job[CLASSES], job[IGNORED]
    kept, wrong = int64(0), int64(0)
    for i in range(targets.size):
        target = targets[i]
        counts = target != ignored
        kept += counts
        wrong += counts & ((target < 0) | (target >= classes))
    bad = int64(-1)
    if wrong > 0:
        for i in range(targets.size - 1, -1, -1):
            target = targets[i]
            if target != ignored and (target < 0 or target >= classes):
                bad = i
    job[KEPT], job[BAD] = kept, bad


@rowwise
def counts(target, ignored, classes):
    """Whether a row has a loss; one whose target is wrong has none, that none is read outside."""
    return (target != ignored) & (target >= 0) & (target < classes)


@within
def loss_rows(job_, index, dtype):
    """losses = ln sum e**x - x[target] of some rows; 0 where the target is ignored."""
    wide()
    job = array(job_, WORDS, int64)
    n, first = job[CLASSES], index * job[AT_ONCE]
    targets, losses = array(job[TARGETS], job[ROWS], int64), array(job[LOSSES], job[ROWS], dtype)
    room = array(stack(CHUNK, dtype), CHUNK, dtype)
    tops, shifts = array(stack(MOST, dtype), MOST, dtype), array(stack(MOST, dtype), MOST, dtype)
    end, at_once = min(job[ROWS], first + job[AT_ONCE]), rows_of(width_of(n))
    for begin in range(first, end, at_once):
        count, place = min(at_once, end - begin), job[X] + begin * n * room.itemsize
        shifts_of(place, int64(room.ctypes.data), n, count, tops, shifts, dtype)
        x = array(place, (count, n), dtype)
        for row in range(count):
            target = targets[begin + row]
            losses[begin + row] = dtype(0)
            if counts(target, job[IGNORED], n):
                losses[begin + row] = shifts[row] + (tops[row] - x[row, target])


@within
def loss_total(job_, index, dtype):
    """The sum of all losses, or their mean over the targets that are not ignored."""
    wide()
    job = array(job_, WORDS, int64)
    total = array(job[TOTAL], 1, dtype)
    add_up(job[LOSSES], 1, job[ROWS], total, dtype)
    if job[REDUCTION] == MEAN:
        total[0] = total[0] / dtype(job[KEPT])


@within
def loss_pull_rows(job_, index, dtype):
    """dx = g (softmax(x) - onehot(target)) of some rows: at the target less the sum of the rest."""
    wide()
    job = array(job_, WORDS, int64)
    n, first = job[CLASSES], index * job[AT_ONCE]
    targets, each = array(job[TARGETS], job[ROWS], int64), job[REDUCTION] == EACH
    g = array(job[G], job[ROWS] if each else 1, dtype)
    room = array(stack(CHUNK, dtype), CHUNK, dtype)
    own, others = array(stack(MOST, dtype), MOST, dtype), array(stack(MOST, dtype), MOST, dtype)
    width, size = width_of(n), room.itemsize
    end, at_once = min(job[ROWS], first + job[AT_ONCE]), rows_of(width)
    for begin in range(first, end, at_once):
        count, place = min(at_once, end - begin), begin * n * size
        z_ = job[DX] + place if width == n else int64(room.ctypes.data)
        powers(job[X] + place, z_, n, width, count, own, others, dtype)
        z = array(z_, (count, width), dtype)
        for row in range(count):
            target = targets[begin + row]
            if counts(target, job[IGNORED], n):
                own[row], z[row, target] = z[row, target], dtype(0)
        add_up(z_, count, width, others, dtype)
        for row in range(count):
            target, dx = targets[begin + row], array(z_ + row * width * size, width, dtype)
            if not counts(target, job[IGNORED], n):
                for i in range(width):
                    dx[i] = dtype(0)
                continue
            scale = g[begin + row] if each else g[0]
            if job[REDUCTION] == MEAN:
                scale = scale / dtype(job[KEPT])
            factor = scale / (others[row] + own[row])
            for i in range(width):
                dx[i] = dx[i] * factor
            dx[target] = -others[row] * factor
        give(z_, job[DX] + place, count, n, width, dtype)
