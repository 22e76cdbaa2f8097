"""Rows added to the rows of a table that an index names, in the order of the index."""

# mypy: ignore-errors

from __future__ import annotations

from numba import int64, njit

from minigrad.kernels.intrinsics import array, inner, row


@njit(**inner)
def scatter_add(table, height, index, values, count, width, dtype):
    """table[index] += values; 1 when done, 0 with nothing done if an index is outside.

    table, index, values: addresses of (height, width) and (count, width) of `dtype`, and of (count)
    int64; contiguous. A row that is named twice is added to twice.
    """
    to, rows = array(table, (height, width), dtype), array(values, (count, width), dtype)
    places = array(index, count, int64)
    for i in range(count):
        if places[i] < -height or places[i] >= height:
            return 0
    for i in range(count):
        place = places[i]
        y, x = row(to, place + height if place < 0 else place), row(rows, i)
        for j in range(width):
            y[j] += x[j]
    return 1
