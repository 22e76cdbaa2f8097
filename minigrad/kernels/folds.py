"""Numba side: reductions of one axis, and the running sum, for one element type.

This text is executed only to be compiled, behind FOLD ("sum", "max", "min"), ITEMSIZE and LANES.

    along(args, dims, steps)     the inner loop of the gufunc (n)->(): over elements, step > 0
    across(args, dims, steps)    ... (n,i)->(i): over rows, as for the gradient of a bias
    running(args, dims, steps)   ... (n)->(n): y[k] = x[0] + ... + x[k]

A sum is made of plain partial sums of CHUNK terms an accumulator, added up with the error of each
addition kept (Knuth's two-sum), so it stays accurate for any n. Its order depends on the shape
alone. Inf and NaN pass: where the error is NaN, the sum itself says it all.
"""

# mypy: ignore-errors

from numba import float32, float64

from minigrad.kernels.lanes import load_lanes, repeated, store_lanes
from minigrad.kernels.memory import address, forget_flags, load, ptr, stack, store, strided
from minigrad.kernels.simd import Vec, constant, isnan, maximum, minimum, select

REAL = float32 if ITEMSIZE == 4 else float64
V = Vec(REAL, LANES)
c = constant(V)
BYTES = LANES * ITEMSIZE
CHUNK = 64
BLOCK = 16 * LANES  # columns whose sums are under way at once, in L1
BLOCK_BYTES = BLOCK * ITEMSIZE


def along(args, dims, steps):
    n = dims[1]
    step = steps[2] if n > 1 else ITEMSIZE  # NumPy calls the step of a single element 0
    for item in range(dims[0]):
        x = strided(ptr(address(args[0]) + item * steps[0]), n, step, ITEMSIZE)
        y = strided(ptr(address(args[1]) + item * steps[1]), 1, ITEMSIZE, ITEMSIZE)
        if FOLD == "sum":
            total, slip = c(0.0), c(0.0)
            for start in range(0, n, CHUNK * LANES):
                part = c(0.0)
                for i in range(start, min(n, start + CHUNK * LANES), LANES):
                    part = part + load_lanes(x, i, step, n - i, V)
                new = total + part
                back = new - total
                slip = slip + ((total - (new - back)) + (part - back))
                total = new
            total = select(isnan(slip), total, total + slip)
            lanes = stack(BYTES)
            store(lanes, 0, total)
            half = LANES // 2
            while half:
                for i in range(half):
                    other = load(lanes, (i + half) * ITEMSIZE, REAL)
                    store(lanes, i * ITEMSIZE, load(lanes, i * ITEMSIZE, REAL) + other)
                half //= 2
            store(y, 0, load(lanes, 0, REAL))
        else:
            best = load(x, 0, REAL)
            whole = n // LANES * LANES if step == ITEMSIZE else 0
            if whole:
                top = load_lanes(x, 0, step, LANES, V)
                for i in range(LANES, whole, LANES):
                    z = load_lanes(x, i, step, LANES, V)
                    top = maximum(top, z) if FOLD == "max" else minimum(top, z)
                lanes = stack(BYTES)
                store(lanes, 0, top)
                for i in range(LANES):
                    z = load(lanes, i * ITEMSIZE, REAL)
                    best = maximum(best, z) if FOLD == "max" else minimum(best, z)
            for i in range(whole, n):
                z = load(x, i * step, REAL)
                best = maximum(best, z) if FOLD == "max" else minimum(best, z)
            store(y, 0, best)
    forget_flags()


def across(args, dims, steps):
    n, width = dims[1], dims[2]
    row_step, step, y_step = steps[2], steps[3], steps[4]
    totals, slips, parts = stack(BLOCK_BYTES), stack(BLOCK_BYTES), stack(BLOCK_BYTES)
    for item in range(dims[0]):
        x = address(args[0]) + item * steps[0]
        y = strided(ptr(address(args[1]) + item * steps[1]), width, y_step, ITEMSIZE)
        # Row by row, not column by column: the CPU fetches ahead along a row only.
        for first in range(0, width, BLOCK):
            columns = min(BLOCK, width - first)
            for j in range(0, columns, LANES):
                store(totals, j * ITEMSIZE, c(0.0))
                store(slips, j * ITEMSIZE, c(0.0))
            for start in range(0, n, CHUNK):
                for k in range(start, min(n, start + CHUNK)):
                    row = repeated(strided(ptr(x + k * row_step), width, step, ITEMSIZE), step, V)
                    for j in range(0, columns, LANES):
                        z = load_lanes(row, first + j, step, width - first - j, V)
                        if k > start:
                            part = load(parts, j * ITEMSIZE, V)
                            if FOLD == "sum":
                                z = part + z
                            else:
                                z = maximum(part, z) if FOLD == "max" else minimum(part, z)
                        store(parts, j * ITEMSIZE, z)
                for j in range(0, columns, LANES):
                    part, total = load(parts, j * ITEMSIZE, V), load(totals, j * ITEMSIZE, V)
                    if FOLD == "sum":
                        new = total + part
                        back = new - total
                        slip = (total - (new - back)) + (part - back)
                        store(slips, j * ITEMSIZE, load(slips, j * ITEMSIZE, V) + slip)
                        store(totals, j * ITEMSIZE, new)
                    else:
                        if start:
                            part = maximum(part, total) if FOLD == "max" else minimum(part, total)
                        store(totals, j * ITEMSIZE, part)
            for j in range(0, columns, LANES):
                total, slip = load(totals, j * ITEMSIZE, V), load(slips, j * ITEMSIZE, V)
                total = select(isnan(slip), total, total + slip)
                store_lanes(y, first + j, y_step, width - first - j, total)
    forget_flags()


def running(args, dims, steps):
    n = dims[1]
    for item in range(dims[0]):
        x = strided(ptr(address(args[0]) + item * steps[0]), n, steps[2], ITEMSIZE)
        y = strided(ptr(address(args[1]) + item * steps[1]), n, steps[3], ITEMSIZE)
        total = REAL(0)
        for k in range(n):
            total = total + load(x, k * steps[2], REAL)
            store(y, k * steps[3], total)
    forget_flags()
