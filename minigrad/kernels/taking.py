"""Rows copied from where an index says; see rows.py."""

# mypy: ignore-errors

from __future__ import annotations

from numba import int32, int64, njit

from minigrad.kernels.intrinsics import array, external, inner, words

copy = external("memcpy", int64, int64, int64, int64)
fill = external("memset", int64, int64, int32, int64)


@njit(**inner)
def take_rows(d, part):
    """One part of y = x[index], zeros where the index is -1."""
    x, index, y, count, size, share = words(d, 6)
    places = array(index, count, int64)
    for i in range(part * share, min((part + 1) * share, count)):
        if places[i] < 0:
            fill(y + i * size, int32(0), size)
        else:
            copy(y + i * size, x + places[i] * size, size)
