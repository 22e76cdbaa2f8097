"""Products by one matrix again and again, as a recurrence makes them: packed once, then multiplied.

    product(table, a, panels, c, vectors, add)    for kernels
        c (+)= a @ b, for arrays a (m, k) and c (m, n) whose rows are contiguous, such as
        part(hs, t * B, B, 0, H). panels: b, as `matmul.packed` makes panels of `vectors` vectors'
        columns of it. table: the address of `matmul.table(dtype)`

With few rows (a small batch) a tile has few accumulators, too few to keep the CPU's multipliers
busy, unless it is wider: see `panel_vectors`. An element of c is one chain of multiply-adds over
each DEPTH, then their sum in order: its bits depend neither on the number of rows nor on the width.

Under NUMBA_DISABLE_JIT=1 panels are b itself, contiguous.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from numba import int64, njit

from minigrad.kernels.gemm import (
    DEPTH,
    DEPTH_OF_DOUBLES,
    PRODUCT,
    REGISTER,
    entry,
    run_multiply,
    tallest,
)
from minigrad.kernels.intrinsics import CHECKED, PLAIN, inner
from minigrad.kernels.microkernel import (
    ROWS,
    VECTORS,
    address,
    itemsize,
    least,
    linked,
    matrix,
    up,
)


def panel_vectors(rows):
    """How many vectors wide panels should be for products with so many rows."""
    if rows == 1:
        return 8
    return 4 if 4 * rows <= ROWS * VECTORS else VECTORS


@entry
def multiply_rows(table, a_, a_row, panels, c, c_row, m, k, n, vectors, add, real):
    """The C function behind `product`."""
    size = itemsize(matrix(a_, m, a_row, k, 1, real))
    row, most_depth = vectors * REGISTER, DEPTH if size == 4 else DEPTH_OF_DOUBLES
    for k0 in range(0, k, most_depth):
        run_multiply(
            table, a_ + k0 * size, a_row, size, panels + k0 * row, k * row, row, c, c_row, size,
            m, least(k - k0, most_depth), n, row // size, tallest(a_row), add, real,
        )  # fmt: skip
        add = int64(1)


run_rows = linked(PRODUCT, multiply_rows)


@njit(**inner)
def product(table, a, panels, c, vectors, add):
    (m, k), n = a.shape, c.shape[1]
    size = itemsize(a)
    if CHECKED and panels.size * size < k * up(n * size, vectors * REGISTER) * vectors * REGISTER:
        raise IndexError("product: the panels are smaller than (k, n)")
    run_rows(
        table, address(a), a.strides[0], address(panels), address(c), c.strides[0], m, k, n,
        vectors, add, a.dtype,
    )  # fmt: skip


if PLAIN:

    def product(table, a, panels, c, vectors, add):
        y = a @ panels[: a.shape[1] * c.shape[1]].reshape(a.shape[1], c.shape[1])
        c[...] = c + y if add else y
