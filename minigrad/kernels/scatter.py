"""Rows of a table that an index names: read in its order, or added to in its order.

A job is the words TABLE, INDEX, VALUES: addresses of (height, width) and (count, width) of one
element type, and of (count) int64, all contiguous; HEIGHT, COUNT, WIDTH; AT_ONCE, how much is done
in a part; END, what a negative index is counted from; and OUTSIDE, how many of the index name no
row. Zeros are read there, nothing is added.
"""

# mypy: ignore-errors

from __future__ import annotations

from numba import int32, int64, njit

from minigrad.kernels.intrinsics import array, external, inner, row, wide

TABLE, INDEX, VALUES, HEIGHT, COUNT, WIDTH, AT_ONCE, END, OUTSIDE, WORDS = range(10)

copy = external("memcpy", int64, int64, int64, int64)
fill = external("memset", int64, int64, int32, int64)
indexed = njit(**inner)


@indexed
def check(job_, part):
    """Counts what is outside of -end .. height - 1, in one part."""
    job = array(job_, WORDS, int64)
    places, outside = array(job[INDEX], job[COUNT], int64), int64(0)
    height, least = job[HEIGHT], -job[END]
    for i in range(places.size):
        outside += (places[i] < least) | (places[i] >= height)
    job[OUTSIDE] = outside


@indexed
def gather(job_, part):
    """values = table[index], AT_ONCE rows a part, of any type: WIDTH is in bytes."""
    job = array(job_, WORDS, int64)
    height, count, size, end = job[HEIGHT], job[COUNT], job[WIDTH], job[END]
    places, begin = array(job[INDEX], count, int64), part * job[AT_ONCE]
    for i in range(begin, min(count, begin + job[AT_ONCE])):
        place = places[i] + (end if places[i] < 0 else 0)
        to = job[VALUES] + i * size
        if 0 <= place < height:
            copy(to, job[TABLE] + place * size, size)
        else:
            fill(to, int32(0), size)


@indexed
def scatter_add(job_, part, dtype):
    """table[index] += values, AT_ONCE columns a part. A row that is named twice is added to twice,
    in the order of the index.
    """
    wide()
    job = array(job_, WORDS, int64)
    height, count, width = job[HEIGHT], job[COUNT], job[WIDTH]
    table = array(job[TABLE], (height, width), dtype)
    values, places = array(job[VALUES], (count, width), dtype), array(job[INDEX], count, int64)
    begin = part * job[AT_ONCE]
    end = min(width, begin + job[AT_ONCE])
    for i in range(count):
        place = places[i] + (height if places[i] < 0 else 0)
        if 0 <= place < height:
            y, x = row(table, place), row(values, i)
            for j in range(begin, end):
                y[j] += x[j]
