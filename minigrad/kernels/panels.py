"""Numba side: products by one matrix again and again, as a recurrence makes them.

    pack_panels(dst, b, b_row, b_col, k, n, vectors)
        b (k, n), of any steps, as panels of vectors * LANES columns one after the other, each a
        contiguous (k, width); the last is as wide as the others, with zeros in columns past n
    product(a, a_row, panels, c, c_row, m, k, n, vectors, add)
        c (+)= a @ b for rows a (m, k) and c (m, n) whose elements are contiguous

This text is executed only to be compiled, behind ROWS, VECTORS, LANES, ITEMSIZE (the tile) and
DEPTH; it is linked to the micro-kernel and to `move` of gemm.py. Steps are in bytes.

With few rows (a small batch) a tile has few accumulators, too few to keep the CPU's multipliers
busy, unless it is wider: `vectors` is 8 for up to three rows, 4 up to six. An element of c is one
chain of multiply-adds over each DEPTH, then their sum in order: its bits depend neither on the
number of rows nor on the width.
"""

# mypy: ignore-errors

from numba import float32, float64

from minigrad.kernels.integers import least, pick, up
from minigrad.kernels.memory import extent, external, ptr, shift, stack, store

REAL = float32 if ITEMSIZE == 4 else float64
OWN_ROWS = 4 * ROWS
WIDEST = 8 * LANES
OWN_BYTES = OWN_ROWS * WIDEST * ITEMSIZE
PAGE, WAYS = 4096, 8

column_of_c = external(
    "minigrad_column", "void(ptr, i64, i64, ptr, i64, ptr, i64, i64, i64, i64, i64, i64)"
)
run_move = external("minigrad_move", "void(ptr, i64, i64, ptr, i64, i64, i64, i64, i64)")


def pack_panels(dst, b, b_row, b_col, k, n, vectors):
    width = vectors * LANES
    size = k * width * ITEMSIZE
    for panel in range(up(n, width)):
        columns = least(width, n - panel * width)
        to = shift(dst, panel * size)
        source = shift(b, panel * width * b_col)
        if columns < width:
            p = extent(to, 0, size)
            for i in range(k):
                for j in range(columns, width):
                    store(p, (i * width + j) * ITEMSIZE, REAL(0))
        run_move(to, width * ITEMSIZE, ITEMSIZE, source, b_row, b_col, k, columns, 0)


def product(a, a_row, panels, c, c_row, m, k, n, vectors, add):
    width = vectors * LANES
    # Rows a page apart fall on the same lines of an L1 cache, which has room for WAYS of them.
    height = pick(a_row % PAGE == 0, least(ROWS, WAYS), ROWS)
    own = ptr(stack(OWN_BYTES))
    k0 = 0
    while k0 < k:
        depth = least(DEPTH, k - k0)
        adds = pick(k0 > 0, 1, add)
        part = shift(a, k0 * ITEMSIZE)
        for j in range(0, n, width):
            columns = least(width, n - j)
            v = up(columns, LANES)
            v = pick(v == 3, 4, pick(v > 4, 8, v))
            panel = shift(panels, (j * k + k0 * width) * ITEMSIZE)
            place = shift(c, j * ITEMSIZE)
            if columns == v * LANES:
                column_of_c(
                    part, a_row, ITEMSIZE, panel, width * ITEMSIZE, place, c_row,
                    depth, adds, m, v, height,
                )  # fmt: skip
            else:
                row_size = v * LANES * ITEMSIZE
                for i in range(0, m, OWN_ROWS):
                    rows = least(OWN_ROWS, m - i)
                    column_of_c(
                        shift(part, i * a_row), a_row, ITEMSIZE, panel, width * ITEMSIZE, own,
                        row_size, depth, 0, rows, v, height,
                    )  # fmt: skip
                    run_move(
                        shift(place, i * c_row), c_row, ITEMSIZE, own, row_size, ITEMSIZE,
                        rows, columns, adds,
                    )  # fmt: skip
        k0 += depth
