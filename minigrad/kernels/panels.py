"""Products by one matrix again and again, as a recurrence makes them: packed once, then multiplied.

    pack_panels(panels, b, b_row, b_col, k, n, vectors)    a C function
        b (k, n), of any steps, as panels of `vectors` vectors' columns, one after the other
    product(table, a, panels, c, vectors, add)             for kernels
        c (+)= a @ b, for b in panels and arrays a (m, k) and c (m, n) whose rows are contiguous,
        such as part(hs, t * B, B, 0, H). table: the address of `matmul.table(dtype)`.

With few rows (a small batch) a tile has few accumulators, too few to keep the CPU's multipliers
busy, unless it is wider: see `panel_vectors`. An element of c is one chain of multiply-adds over
each DEPTH, then their sum in order: its bits depend neither on the number of rows nor on the width.

Under NUMBA_DISABLE_JIT=1 panels are b itself, contiguous.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from numba import int64, njit, types

from minigrad.kernels.gemm import DEPTH, DEPTH_OF_DOUBLES, REGISTER, multiply, pack, tallest
from minigrad.kernels.intrinsics import CHECKED, PLAIN, array, caller, inner
from minigrad.kernels.microkernel import ROWS, VECTORS, itemsize, least, matrix, part, up

COLUMN, BLOCK, PRODUCT, PARALLEL_FOR, THREAD_COUNT, TABLE = range(6)  # words of a table: addresses

run_product = caller(types.void, *[types.int64] * 11)


def panel_vectors(rows):
    """How many vectors wide panels should be for products with so many rows."""
    most = ROWS * VECTORS
    return 8 if rows == 1 else 4 if 4 * rows <= most else VECTORS


@njit(**inner)
def pack_panels(panels, b, b_row, b_col, k, n, vectors, real):
    matrix_ = matrix(b, k, b_row, n, b_col, real)
    row = vectors * REGISTER
    pack(matrix_, panels, k * row, row // itemsize(matrix_), real)


@njit(**inner)
def run(table, a_, a_row, panels, c_, c_row, m, k, n, vectors, add, real):
    """The C function behind `product`."""
    size = itemsize(array(c_, 1, real))
    a, c = matrix(a_, m, a_row, k, size, real), matrix(c_, m, c_row, n, size, real)
    column = array(table, TABLE, int64)[COLUMN]
    row, height = vectors * REGISTER, tallest(a_row)
    for k0 in range(0, k, DEPTH if size == 4 else DEPTH_OF_DOUBLES):
        depth = least(k - k0, DEPTH if size == 4 else DEPTH_OF_DOUBLES)
        multiply(
            column, part(a, 0, m, k0, depth), panels + k0 * row, k * row, row, row // size, c, add,
            height, real,
        )  # fmt: skip
        add = int64(1)


@njit(**inner)
def product(table, a, panels, c, vectors, add):
    (m, k), n = a.shape, c.shape[1]
    size = itemsize(a)
    if CHECKED and panels.size * size < k * vectors * up(n * size, vectors * REGISTER) * REGISTER:
        raise IndexError("product: the panels are smaller than (k, n)")
    run_product(
        array(table, TABLE, int64)[PRODUCT], table, a.ctypes.data, a.strides[0],
        panels.ctypes.data, c.ctypes.data, c.strides[0], m, k, n, vectors, add,
    )  # fmt: skip


if PLAIN:

    def product(table, a, panels, c, vectors, add):
        y = a @ panels[: a.shape[1] * c.shape[1]].reshape(a.shape[1], c.shape[1])
        c[...] = c + y if add else y
