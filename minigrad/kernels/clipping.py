"""The norm of the arrays of a table as one vector, and their scaling: loops for tables.py.

    clip(table, euclidean)   g *= min(1, limit / |g|); euclidean: |g| is the norm, else the largest

The head's RESULT is the address of LIMIT ... CLIPPING, its PARTIALS that of a number for each
block. A row's arrays are g and its first number there.
"""

# mypy: ignore-errors

from __future__ import annotations

import math

from numba import float64, int64, njit

from minigrad.kernels.intrinsics import absolute, array, inner, largest, plus
from minigrad.kernels.tables import (
    BLOCK,
    HEAD,
    LOOP,
    NUMBERS,
    PARTIALS,
    PHASE,
    RESULT,
    SIZE,
    SUMS,
    drive,
)

SQUARES, PEAKS, SCALED, SCALE, PHASES = range(5)
# In float64: the limit is read, the rest written. TIMES: what every g is multiplied by. PEAK: the
# largest |g|, or 1 where nobody had to look: finite if all are.
LIMIT, NORM, TIMES, PEAK, NUMBER_COUNT = range(5)
LEAST, MOST = 1e-280, 1e280  # a sum of squares between them has lost nothing to the range
helper = njit(**inner)


@helper
def phase(table, which):
    """What a phase left for each block."""
    words = array(table, HEAD, int64)
    words[PHASE] = which
    drive(table)
    return array(words[PARTIALS], words[SUMS], float64)


@helper
def clip(table, euclidean):
    """All phases of it."""
    numbers = array(array(table, HEAD, int64)[RESULT], NUMBER_COUNT, float64)
    total, peak, ratio = 0.0, 1.0, 1.0  # the norm is peak * ratio
    if euclidean:
        for part in phase(table, SQUARES):
            total += part
        ratio = math.sqrt(total)
    if not LEAST <= total <= MOST:
        peak, ratio = 0.0, 1.0
        for part in phase(table, PEAKS):
            peak = part if part > peak or part != part else peak
        numbers[PEAK] = peak
        if euclidean and 0.0 < peak < math.inf:
            total = 0.0
            for part in phase(table, SCALED):
                total += part
            ratio = math.sqrt(total)
    norm = peak * ratio
    # 1e-6 is torch's guard against 0 / 0. In float64: for float32 the factor might be denormal.
    times = numbers[LIMIT] / (norm + 1e-6)
    if norm == math.inf:
        times = numbers[LIMIT] / peak / ratio
    numbers[NORM], numbers[PEAK] = norm, peak
    numbers[TIMES] = times if peak < math.inf and times < 1.0 else 1.0
    if numbers[TIMES] < 1.0:
        phase(table, SCALE)


@helper
def block(row, b, item, dtype):
    """g of one block."""
    words = array(row, LOOP + PHASES + 1, int64)
    start = b * BLOCK
    place = words[LOOP + PHASES] + start * item
    return array(place, min(BLOCK, words[SIZE] - start), dtype)


@helper
def partials(row, last):
    """Where each block of a row leaves a number."""
    return array(array(row, LOOP + PHASES + 2, int64)[LOOP + PHASES + 1], last, float64)


@helper
def number(row, which):
    """One of those that all rows share."""
    return array(array(row, LOOP, int64)[NUMBERS], NUMBER_COUNT, float64)[which]


@helper
def squares(row, first, last, item, dtype):
    """The sum of g^2 of each block."""
    found = partials(row, last)
    for b in range(first, last):
        g, total = block(row, b, item, dtype), 0.0
        for i in range(g.size):
            x = float64(g[i])
            total = plus(total, x * x)
        found[b] = total


@helper
def peaks(row, first, last, item, dtype):
    """The largest |g| of each block; NaN if any is."""
    found = partials(row, last)
    for b in range(first, last):
        g, peak = block(row, b, item, dtype), 0.0
        for i in range(g.size):
            peak = largest(peak, absolute(float64(g[i])))
        found[b] = peak


@helper
def scaled(row, first, last, item, dtype):
    """The sum of (g / peak)^2 of each block."""
    found, peak = partials(row, last), number(row, PEAK)
    for b in range(first, last):
        g, total = block(row, b, item, dtype), 0.0
        for i in range(g.size):
            x = float64(g[i]) / peak
            total = plus(total, x * x)
        found[b] = total


@helper
def scale(row, first, last, item, dtype):
    """g *= times, rounded once."""
    times = number(row, TIMES)
    for b in range(first, last):
        g = block(row, b, item, dtype)
        for i in range(g.size):
            g[i] = float64(g[i]) * times
