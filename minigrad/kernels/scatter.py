"""Numba side: rows added to the rows of a table that an index names, in the order of the index.

    scatter_add(table, height, index, values, count, width)
        1 when done, 0 with nothing done if an index is outside -height .. height - 1

This text is executed only to be compiled, behind ITEMSIZE and LANES.
"""

# mypy: ignore-errors

from numba import float32, float64, int64

from minigrad.kernels.lanes import load_lanes, store_lanes
from minigrad.kernels.memory import extent, load
from minigrad.kernels.simd import Vec

REAL = float32 if ITEMSIZE == 4 else float64
V = Vec(REAL, LANES)


def scatter_add(table, height, index, values, count, width):
    to = extent(table, 0, height * width * ITEMSIZE)
    places = extent(index, 0, count * 8)
    rows = extent(values, 0, count * width * ITEMSIZE)
    for i in range(count):
        place = load(places, 8 * i, int64)
        if place < -height or place >= height:
            return 0
    for i in range(count):
        place = load(places, 8 * i, int64)
        row = (place + height if place < 0 else place) * width
        for j in range(0, width, LANES):
            old = load_lanes(to, row + j, ITEMSIZE, width - j, V)
            new = old + load_lanes(rows, i * width + j, ITEMSIZE, width - j, V)
            store_lanes(to, row + j, ITEMSIZE, width - j, new)
    return 1
