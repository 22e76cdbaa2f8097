"""c (+)= a @ b for blocks of rows and columns, over the tiles of microkernel.py.

    block(d, real)       c = a @ b, as the words at an address describe it
    multiply(table, a, .., first, step, row, c, .., m, k, n, width, height, add, real)
        c (+)= a @ b where b is there as panels of `width` columns: the first at an address, each
        `step` after the one before, with rows `row` apart. height: the most rows of a tile
    pack(table, p, step, width, b, .., k, n, real)
        b as such panels, each a contiguous (k, width), with zeros past the last column
    move(table, y, .., x, .., rows, columns, add, real)
        y (+)= x

A matrix is an address and the steps of its two axes in bytes, any steps; real is its element type.
Each of these is compiled once, as a C function, and called by its address in a table (`linked`);
with NUMBA_BOUNDSCHECK=1 they are plain calls, so that an IndexError reaches the caller.

How a block goes. k is cut every DEPTH, so that a panel of b (DEPTH x WIDTH) stays close. Panels
with contiguous rows are read where they lie; others are packed first, one at a time. Numbers of a
are read one by one, so its steps may be anything. Where the rows of a don't fit in L2 any more
(`large`), or those of b lie too far apart to be read over and over in narrow panels (`far`), a wide
strip of b is packed first, and each tile of a, packed too, meets all of its panels.

An element of c is one chain of multiply-adds over each DEPTH, then the sum over these, in order.
Tiles, packing, parts and the number of rows change speed, but not a single bit: x[:1] @ w equals
(x @ w)[:1].
"""

# mypy: ignore-errors

from __future__ import annotations

from numba import int64, njit

from minigrad.kernels import host
from minigrad.kernels.intrinsics import free, inner, malloc, prefetch, within, words
from minigrad.kernels.microkernel import (
    ACCUMULATORS,
    LEFT,
    ROWS,
    VECTORS,
    address,
    itemsize,
    least,
    linked,
    matrix,
    part,
    scratch,
    square,
    tiles,
    up,
    vector,
)

# The words of a table: addresses of what is compiled for an element type.
COLUMN, MOVE, PACK, MULTIPLY, BLOCK, PRODUCT, PARALLEL_FOR, THREAD_COUNT, TABLE_WORDS = range(9)

WORDS = 13  # of what a block is told; see there

REGISTER = host.vector_bits() // 8  # bytes
DEPTH, DEPTH_OF_DOUBLES = 384, 256  # of a panel: the sum over k is cut there, so bits depend on it
STRIP = 1024  # columns of b packed at once
LARGE = 512 * 1024  # bytes of a: half of an L2 of 1 MB
FAR = 4 << 20  # bytes of b: more comes from RAM, single lines of it slowly
OWN_ROWS = 4 * ROWS  # what moves at once to a c that is transposed: long runs there
WIDEST = 8  # vectors of a tile
PAGE, WAYS = 4096, 8
TALLEST = ACCUMULATORS // VECTORS  # rows of a whole tile
AHEAD = 4  # rows of b to prefetch ahead: they lie in pages of their own
PANEL_BYTES = DEPTH * VECTORS * REGISTER
OWN_BYTES = OWN_ROWS * WIDEST * REGISTER
A_BYTES = DEPTH * max(ROWS * 8, REGISTER)


# The C functions. Their first word is the table; `tiles` has the order of those of `column`.


@within
def column(table, a, a_row, a_col, b, b_row, c, c_row, k, m, vectors, height, add, ahead, real):
    tiles(a, a_row, a_col, b, b_row, c, c_row, k, m, vectors, height, add, ahead, real)


@within
def move(table, y_, y_row, y_col, x_, x_row, x_col, rows, columns, add, real):
    y = matrix(y_, rows, y_row, columns, y_col, real)
    x = matrix(x_, rows, x_row, columns, x_col, real)
    size = itemsize(y)
    if (y_row == size) & (x_col == size):
        y, x, rows, columns = y.T, x.T, columns, rows
    squares = 4 if (y.strides[1] == size) & (x.strides[0] == size) else 0
    whole_rows, whole_columns = rows // 4 * squares, columns // 4 * squares
    for i in range(0, whole_rows, 4):
        for j in range(0, whole_columns, 4):
            square(y, x.T, j, i, add)
    for i in range(rows):
        for j in range(whole_columns if i < whole_rows else 0, columns):
            y[i, j] = y[i, j] + x[i, j] if add else x[i, j]


@within
def pack(table, p, step, width, b_, b_row, b_col, k, n, real):
    b = matrix(b_, k, b_row, n, b_col, real)
    size = itemsize(b)
    row = width * size
    if b_col == size:
        for r in range(k):
            prefetch(b, (r + AHEAD) * b_row // size)
            source, to, left = b_ + r * b_row, p + r * row, n
            while left > 0:
                for v in range(0, row, REGISTER):
                    vector(to + v, source + v, left, real)
                    left -= REGISTER // size
                to += step
                source += row
        return
    for j in range(0, n, width):
        columns = least(width, n - j)
        part(b, 0, k, j, columns)
        if columns < width:
            for r in range(0, k * row, REGISTER):
                vector(p + r, p, 0, real)
        run_move(table, p, row, size, b_ + j * b_col, b_row, b_col, k, columns, 0, real)
        p += step


@within
def multiply(
    table, a_, a_row, a_col, first, step, row, c_, c_row, c_col, m, k, n, width, height, add, real
):
    a, c = matrix(a_, m, a_row, k, a_col, real), matrix(c_, m, c_row, n, c_col, real)
    size, own, j = itemsize(a), scratch(OWN_BYTES), int64(0)
    while j < n:  # range would divide, as Numba counts its turns
        columns = least(width, n - j)
        vectors = up(columns * size, REGISTER)
        if vectors > 2:
            vectors = 8 if vectors > 4 else 4
        direct = (c_col == size) & (columns * size == vectors * REGISTER)
        at_once = m if direct else OWN_ROWS
        to_row, i = c_row if direct else vectors * REGISTER, int64(0)
        while i < m:
            rows = least(at_once, m - i)
            left, place = address(part(a, i, rows, 0, k)), address(part(c, i, rows, j, columns))
            to = place if direct else own
            # Nothing is brought from ahead: packed panels are in L2, others no row of lines.
            run_column(
                table, left, a_row, a_col, first, row, to, to_row, k, rows, vectors, height,
                add * direct, 0, real,
            )  # fmt: skip
            if not direct:
                run_move(table, place, c_row, c_col, own, to_row, size, rows, columns, add, real)
            i += at_once
        j += width
        first += step


run_column, run_move = linked(COLUMN, column), linked(MOVE, move)
run_pack, run_multiply = linked(PACK, pack), linked(MULTIPLY, multiply)


@within
def block(d, real):
    table, m, n, k, a_, a_row, a_col, b_, b_row, b_col, c_, c_row, c_col = words(d, WORDS)
    a = matrix(a_, m, a_row, k, a_col, real)
    b = matrix(b_, k, b_row, n, b_col, real)
    c = matrix(c_, m, c_row, n, c_col, real)
    size = itemsize(a)
    lanes, most_depth = REGISTER // size, DEPTH if size == 4 else DEPTH_OF_DOUBLES

    # A panel is as wide as the registers allow when all rows of c go in one tile.
    across = b_col == size  # rows of b are contiguous
    vectors, slim = VECTORS, across & (4 * m <= ACCUMULATORS)
    if across & (m <= ROWS):
        vectors = (8 if m == 1 else 4) if slim else 2
    while (vectors > 1) & (vectors * lanes >= 2 * n):
        vectors //= 2
    width, packed_width = vectors * lanes, least(vectors, VECTORS) * lanes

    large, few = m * least(k, most_depth) * size > LARGE, m <= 64
    far = across & (k * n * size > (FAR if few else LARGE)) & (not slim)
    flat = a_row == size  # a is k-major: read from afar, its tiles are but pieces of lines
    wide = (large | far) & (n >= (4 if flat else 16) * lanes)
    strip, rest, at_once, height = width, packed_width, m, tallest(a_row)
    if across & (not slim) & (n > width):
        strip = rest = n // lanes * lanes  # read in place, all panels one after the other
    memory, own = scratch(PANEL_BYTES), scratch(A_BYTES)
    spare = malloc(most_depth * STRIP * size) if wide else int64(0)
    wide = spare != 0
    packs = wide & ((a_col != size) | (height < ROWS))  # else its rows come as fast as they lie
    if wide:
        strip = rest = STRIP // 4 if few else STRIP
        at_once = up(m, up(m, ROWS))
        height = ROWS
        memory = spare

    for k0 in range(0, k, most_depth):
        depth, n0 = least(most_depth, k - k0), int64(0)
        while n0 < n:
            columns = strip if strip <= n - n0 else least(rest, n - n0)
            first, row, here = address(part(b, k0, depth, n0, columns)), b_row, width
            step = here * size
            if wide | (not across) | (columns % lanes != 0):
                here, row = packed_width, packed_width * size
                step = depth * row
                run_pack(table, memory, step, here, first, b_row, b_col, depth, columns, real)
                first = memory
            i = int64(0)
            while i < m:
                rows = least(at_once, m - i)
                left, left_row, left_col = address(part(a, i, rows, k0, depth)), a_row, a_col
                if packs:  # densely, or a vector of it a step of k would take the place of b in L1
                    run_pack(table, own, 0, rows, left, a_col, a_row, depth, rows, real)
                    left, left_row, left_col = own, size, rows * size
                place = address(part(c, i, rows, n0, columns))
                run_multiply(
                    table, left, left_row, left_col, first, step, row, place, c_row, c_col,
                    rows, depth, columns, here, height, least(k0, 1), real,
                )  # fmt: skip
                i += at_once
            n0 += columns
    if wide:
        free(spare)


@njit(**inner)
def tallest(a_row):
    """Rows of a tile at most: those a page apart fall on the same lines of an L1 cache, which has
    room for WAYS of them.
    """
    return WAYS if TALLEST > WAYS and a_row % PAGE == 0 else LEFT
