"""One call for the arrays of many tensors: loops over the blocks of a table's rows, on all threads.

    drive(table)          every block of every row, once
    share(table, index)   one thread's part of that

A table is words: a head, then a row for each tensor with what a loop needs, its size and the
addresses of its numbers, loops and arrays. foreach.py writes them. Blocks do not depend on the
number of threads: where each leaves a partial sum, its bits do not either.
"""

# mypy: ignore-errors

from __future__ import annotations

from numba import int64, njit, types

from minigrad.kernels.intrinsics import array, caller, inner, parallel_for, prefetch

# The words of the head, those at RESULT for who uses the table, ...
SHARE, PARALLEL_FOR, THREADS, ROWS, WIDTH, PHASE, TOTAL, PART, RESULT, PARTIALS, SUMS = range(11)
HEAD = 11
# ... and of a row. TALL: the height of a matrix whose gradient lies transposed, else 0. At LOOP are
# the loops, one for each phase, then the arrays.
BLOCKS, SIZE, TALL, NUMBERS, LOOP = range(5)

BLOCK = 4096  # elements
# A block of a matrix whose gradient lies transposed: whole cache lines of what is read, and rows
# that do not meet in the same places of the cache.
LINES, COLUMNS, STEP = 16, 256, 256 + 16
ROOM = LINES * STEP
ALONE = 4 * BLOCK  # elements that are done before another thread is awake

run_blocks = caller(types.void, *[types.int64] * 3)
helper = njit(**inner)


@helper
def run(table, first, last):
    """Blocks `first` to `last - 1`, counted through all rows."""
    words = array(table, HEAD, int64)
    loop, start = LOOP + words[PHASE], 0
    for i in range(words[ROWS]):
        place = table + 8 * (HEAD + i * words[WIDTH])
        row = array(place, loop + 1, int64)
        stop = start + row[BLOCKS]
        begin, end = max(first, start), min(last, stop)
        if begin < end:
            run_blocks(row[loop], place, begin - start, end - start)
        start = stop


@helper
def share(table, index):
    """One thread's part."""
    words = array(table, HEAD, int64)
    first = index * words[PART]
    run(table, first, min(first + words[PART], words[TOTAL]))


@helper
def drive(table):
    """Every block of every row."""
    words = array(table, HEAD, int64)
    blocks, size = 0, 0
    for i in range(words[ROWS]):
        row = array(table + 8 * (HEAD + i * words[WIDTH]), LOOP, int64)
        blocks += row[BLOCKS]
        size += row[SIZE] if row[BLOCKS] else 0
    threads = array(words[THREADS], 1, int64)[0]
    if size <= ALONE or threads == 1:
        run(table, 0, blocks)
        return
    words[TOTAL], words[PART] = blocks, -(-blocks // (4 * threads))
    parallel_for(words[PARALLEL_FOR], words[SHARE], table, -(-blocks // words[PART]))


def count(size, tall):
    """The blocks of a row."""
    if not tall:
        return -(-size // BLOCK)
    return -(-tall // LINES) * -(-size // (tall * COLUMNS))


@helper
def turn(room, gradient, size, tall, block, item, dtype):
    """One block of a gradient that lies transposed, row by row of its matrix, into `room`.

    gradient: the address of (wide, tall); the matrix is (tall, wide). Returns the block's first
    element in the matrix, its rows, its columns, and the matrix's width.
    """
    wide = size // tall
    across = -(-wide // COLUMNS)
    top, left = block // across * LINES, block % across * COLUMNS
    rows, columns = min(LINES, tall - top), min(COLUMNS, wide - left)
    to = array(room, (LINES, STEP), dtype)
    for j in range(columns):
        line = array(gradient + ((left + j) * tall + top) * item, LINES, dtype)
        prefetch(line, 16 * tall)  # what no CPU foresees: lines that lie a column apart
        if rows == LINES:
            for i in range(LINES):
                to[i, j] = line[i]
        else:
            for i in range(rows):
                to[i, j] = line[i]
    return top * wide + left, rows, columns, wide
