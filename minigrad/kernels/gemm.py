"""c (+)= a @ b for blocks of rows and columns, over the tiles of microkernel.py.

    block(d, real)          the product that the words d[M], d[N], ... describe; real: float32
    multiply(...)           c (+)= a @ b where b is there as panels
    pack(b, p, step, width) b as panels at addresses p, p + step, ...: each a contiguous (k, width) of
                            the next columns of b, zeros past the last
    move(y, x, add)         y (+)= x, matrices with any steps

How a block goes. k is cut every DEPTH, so that a panel of b (DEPTH x WIDTH) stays close. Panels
with contiguous rows are read where they lie; others are packed first, one at a time. Numbers of a
are read one by one, so its steps may be anything. Where the rows of a don't fit in L2 any more
(`large`), or those of b lie too far apart to be read over and over in narrow panels (`far`), a wide
strip of b is packed first, and each tile of a, packed too, meets all of its panels.

An element of c is one chain of multiply-adds over each DEPTH, then the sum over these, in order.
Tiles, packing, parts and the number of rows change speed, but not a single bit: x[:1] @ w equals
(x @ w)[:1].

The tiles are in a kernel of their own, called by address: compiled once, not in every caller.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from numba import int64, njit, types

from minigrad.kernels import host
from minigrad.kernels.intrinsics import caller, external, inner, prefetch
from minigrad.kernels.microkernel import (
    LEFT,
    ROWS,
    VECTORS,
    itemsize,
    least,
    matrix,
    part,
    scratch,
    separate,
    square,
    up,
    vector,
)

# The words of a description; all steps are in bytes.
M, N, K, A, A_ROW, A_COL, B, B_ROW, B_COL, C, C_ROW, C_COL = range(12)
COLUMN = 12  # the address of the compiled `column` of microkernel.py
WORDS = 13

REGISTER = host.vector_bits() // 8  # bytes
DEPTH, DEPTH_OF_DOUBLES = 384, 256  # of a panel: the sum over k is cut there, so bits depend on it
STRIP = 1024  # columns of b packed at once
LARGE = 512 * 1024  # bytes of a: half of an L2 of 1 MB
FAR = 4 << 20  # bytes of b: more comes from RAM, single lines of it slowly
OWN_ROWS = 4 * ROWS  # what moves at once to a c that is transposed: long runs there
WIDEST = 8  # vectors of a tile
PAGE, WAYS = 4096, 8
AHEAD = 4  # rows of b to prefetch ahead: they lie in pages of their own
PANEL_BYTES = DEPTH * VECTORS * REGISTER
OWN_BYTES = OWN_ROWS * WIDEST * REGISTER
A_BYTES = DEPTH * max(ROWS * 8, REGISTER)

malloc = external("malloc", types.int64, types.int64)
free = external("free", types.void, types.int64)
run_column = caller(types.void, *[types.int64] * 12)


@njit(**inner)
def move(y, x, add):
    """y (+)= x."""
    separate()
    size = itemsize(y)
    if y.strides[1] != size or x.strides[1] == size:
        y, x = y.T, x.T
    rows, columns = y.shape
    squares = 4 if (y.strides[1] == size) & (x.strides[0] == size) else 0
    whole_rows, whole_columns = rows // 4 * squares, columns // 4 * squares
    for i in range(0, whole_rows, 4):
        for j in range(0, whole_columns, 4):
            square(y, x.T, j, i, add)
    for i in range(rows):
        for j in range(whole_columns if i < whole_rows else 0, columns):
            y[i, j] = y[i, j] + x[i, j] if add else x[i, j]


@njit(**inner)
def pack(b, p, step, width, real):
    """b as panels."""
    separate()
    k, n = b.shape
    size, set_it = itemsize(b), int64(0)
    if b.strides[1] == size:
        for r in range(k):
            prefetch(b, (r + AHEAD) * b.strides[0] // size)
            source, to = b.ctypes.data + r * b.strides[0], p + r * width * size
            for j in range(0, n, width):
                for v in range(0, width * size, REGISTER):
                    vector(to + v, source + j * size + v, n - j - v // size, real)
                to += step
        return
    for j in range(0, n, width):
        columns = least(width, n - j)
        panel = matrix(p, k, width * size, width, size, real)
        move(part(panel, 0, k, 0, columns), part(b, 0, k, j, columns), set_it)
        for r in range(k):
            for q in range(columns, width):
                panel[r, q] = 0
        p += step


@njit(**inner)
def multiply(column, a, first, step, row, width, c, add, height, real):
    """c (+)= a @ b: panels of b `step` bytes apart, the first at an address, with rows `row` apart.

    height: the most rows of a tile.
    """
    separate()
    m, n = c.shape
    size, own = itemsize(a), scratch(OWN_BYTES)
    for j in range(0, n, width):
        columns = least(width, n - j)
        vectors = up(columns * size, REGISTER)
        if vectors > 2:
            vectors = 8 if vectors > 4 else 4
        direct = (c.strides[1] == size) & (columns * size == vectors * REGISTER)
        at_once = m if direct else OWN_ROWS
        for i in range(0, m, at_once):
            rows = least(at_once, m - i)
            left, place = part(a, i, rows, 0, a.shape[1]), part(c, i, rows, j, columns)
            to = place if direct else matrix(own, rows, vectors * REGISTER, columns, size, real)
            run_column(
                column, left.ctypes.data, a.strides[0], a.strides[1], first, row,
                to.ctypes.data, to.strides[0], a.shape[1], rows, vectors, height, add * direct,
            )  # fmt: skip
            if not direct:
                move(place, to, add)
        first += step


@njit(**inner)
def block(d, real):
    """c = a @ b."""
    m, n, k, b_row, b_col = d[M], d[N], d[K], d[B_ROW], d[B_COL]
    a = matrix(d[A], m, d[A_ROW], k, d[A_COL], real)
    c = matrix(d[C], m, d[C_ROW], n, d[C_COL], real)
    size = itemsize(a)
    lanes, most_depth = REGISTER // size, DEPTH if size == 4 else DEPTH_OF_DOUBLES

    # A panel is as wide as the registers allow when all rows of c go in one tile.
    across = b_col == size  # rows of b are contiguous
    vectors = VECTORS
    if across & (4 * m <= ROWS * VECTORS):
        vectors = 8 if m == 1 else 4
    while (vectors > 1) & (vectors * lanes >= 2 * n):
        vectors //= 2
    width, packed_width = vectors * lanes, least(vectors, VECTORS) * lanes
    height = tallest(d[A_ROW])

    large, few = m * least(k, most_depth) * size > LARGE, m <= 64
    far = across & (k * n * size > (FAR if few else LARGE)) & (vectors <= VECTORS)
    flat = d[A_ROW] == size  # a is k-major: read from afar, its tiles are but pieces of lines
    wide = (large | far) & (n >= (2 if flat else 8) * width)
    strip, rest, memory, own = width, packed_width, scratch(PANEL_BYTES), scratch(A_BYTES)
    at_once = m  # rows
    if wide:
        strip = rest = STRIP // 4 if few else STRIP
        at_once = up(m, up(m, ROWS))
        height = ROWS
        memory = malloc(most_depth * STRIP * size)

    for k0 in range(0, k, most_depth):
        depth = least(most_depth, k - k0)
        n0 = int64(0)
        while n0 < n:
            columns = strip if strip <= n - n0 else least(rest, n - n0)
            first, row, here = d[B] + k0 * b_row + n0 * b_col, b_row, width
            if wide | (not across) | (columns % lanes != 0):
                here, row = packed_width, packed_width * size
                b = matrix(first, depth, b_row, columns, b_col, real)
                first = memory
                pack(b, first, depth * row, here, real)
            for i in range(0, m, at_once):
                rows = least(at_once, m - i)
                left = part(a, i, rows, k0, depth)
                if wide:
                    tall = up(rows, lanes) * lanes
                    pack(left.T, own, int64(0), tall, real)
                    left = matrix(own, rows, size, depth, tall * size, real)
                place = part(c, i, rows, n0, columns)
                multiply(
                    d[COLUMN],
                    left,
                    first,
                    depth * row,
                    row,
                    here,
                    place,
                    least(k0, 1),
                    height,
                    real,
                )
            n0 += columns
    if wide:
        free(memory)


@njit(**inner)
def tallest(a_row):
    """Rows of a tile at most: those a page apart fall on the same lines of an L1 cache, which has
    room for WAYS of them.
    """
    return WAYS if a_row % PAGE == 0 else LEFT
