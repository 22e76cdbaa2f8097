"""Products by one matrix again and again, as a recurrence makes them: packed once, then multiplied.

What a kernel calls is `product` of steps.py; panels are what `matmul.packing` fills.

With few rows (a small batch) a tile has few accumulators, too few to keep the CPU's multipliers
busy, unless it is wider: see `panel_vectors`. An element of c is one chain of multiply-adds over
each DEPTH, then their sum in order: its bits depend neither on the number of rows nor on the width.
"""

# mypy: ignore-errors

from __future__ import annotations

from numba import int64

from minigrad.kernels.gemm import (
    DEPTH,
    DEPTH_OF_DOUBLES,
    REGISTER,
    run_column,
    run_multiply,
    tallest,
)
from minigrad.kernels.intrinsics import within
from minigrad.kernels.microkernel import ACCUMULATORS, VECTORS, itemsize, least, matrix


def panel_vectors(rows):
    """How many vectors wide panels should be for products with so many rows."""
    if rows == 1:
        return 8
    return 4 if 4 * rows <= ACCUMULATORS else VECTORS


@within
def product(table, a_, a_row, panels, c, c_row, m, k, n, vectors, add, real):
    """c (+)= a @ b, b in panels of `vectors` vectors; rows of a and c are contiguous."""
    size = itemsize(matrix(a_, m, a_row, k, 1, real))
    row, most_depth = vectors * REGISTER, DEPTH if size == 4 else DEPTH_OF_DOUBLES
    width, height = row // size, tallest(a_row)
    for k0 in range(0, k, most_depth):
        depth, left, panel, place = least(k - k0, most_depth), a_ + k0 * size, panels + k0 * row, c
        more = n
        while more >= width:  # a step of a small batch is over before two calls more are made
            # Behind the last one comes the first again. What lies past the end may be no memory,
            # and to ask for that costs a walk through the tables of pages, 80 ns on a Zen 1.
            ahead = k * row if more > width else panels - panel
            run_column(
                table, left, a_row, size, panel, row, place, c_row, depth, m, vectors, height, add,
                ahead, real,
            )  # fmt: skip
            panel, place, more = panel + k * row, place + row, more - width
        if more > 0:
            run_multiply(
                table, left, a_row, size, panel, k * row, row, place, c_row, size,
                m, depth, more, width, height, add, real,
            )  # fmt: skip
        add = int64(1)
