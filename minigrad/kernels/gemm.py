"""Numba side: c (+)= a @ b for one element type, over the tiles of microkernel.py.

This text is executed only to be compiled, behind ROWS, VECTORS, LANES, ITEMSIZE (the tile) and
DEPTH (below), with product.py behind it; it is linked to the micro-kernel. Steps are in bytes.

    block(d, index)        part `index` of the product that the words d[M], d[N], ... describe
    pack(panels, step, b, b_row, b_col, k, n)
        b into panels: panel j, `step` bytes after the one before, holds columns j * WIDTH ... as a
        contiguous (k, width), zeros in columns past n. The width is WIDTH; in the last panel as
        many whole vectors as its columns need.
    move(dst, dst_row, dst_col, src, src_row, src_col, rows, cols, add)
        dst (+)= src, matrices with any steps

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

from numba import float32, float64

from minigrad.kernels.integers import least, pick, up
from minigrad.kernels.memory import (
    address,
    extent,
    external,
    load,
    matrix,
    ptr,
    shift,
    stack,
    store,
)

REAL = float32 if ITEMSIZE == 4 else float64
WIDTH = VECTORS * LANES
STRIP = 1024  # columns of b packed at once
LARGE = 512 * 1024  # bytes of a: half of an L2 of 1 MB
FAR = 4 << 20  # bytes of b: more comes from RAM, single lines of it slowly
OWN_ROWS = 4 * ROWS  # what moves at once to a c that is transposed: long runs there
WIDEST = 8  # vectors of a tile
PAGE, WAYS = 4096, 8
AHEAD = 4  # rows of b to prefetch ahead: they lie in pages of their own

# The words of a description.
M, N, K, A, A_ROW, A_COL, B, B_ROW, B_COL, C, C_ROW, C_COL = range(12)
PACKED = 12  # 0; or b is what `pack` made of the whole of it, and this its step
ADD = 13  # 1: add to c; 0: set it
A_ITEM, B_ITEM, C_ITEM = 14, 15, 16  # steps from one product of a stack to the next
M_PART, N_PART = 17, 18  # rows and columns of a part; the columns a multiple of WIDTH
M_PARTS, N_PARTS = 19, 20  # how many of these one product has

PANEL_BYTES = DEPTH * WIDTH * ITEMSIZE
STRIP_BYTES = DEPTH * STRIP * ITEMSIZE
OWN_BYTES = OWN_ROWS * WIDTH * ITEMSIZE
A_BYTES = DEPTH * ((ROWS + LANES - 1) // LANES * LANES) * ITEMSIZE

column_of_c = external(
    "minigrad_column", "void(ptr, i64, i64, ptr, i64, ptr, i64, i64, i64, i64, i64, i64)"
)
transpose4 = external("minigrad_transpose4", "void(ptr, i64, i64, ptr, i64, i64, i64, i64)")
transpose = external("minigrad_transpose", "void(ptr, i64, i64, ptr, i64, i64, i64, i64)")
spread = external("minigrad_spread", "void(ptr, i64, ptr, i64, i64)")
take = external("minigrad_take", "void(ptr, ptr, i64, i64, i64)")
malloc = external("malloc", "ptr(i64)")
free = external("free", "void(ptr)")
run_move = external("minigrad_move", "void(ptr, i64, i64, ptr, i64, i64, i64, i64, i64)")
run_pack = external("minigrad_pack", "void(ptr, i64, ptr, i64, i64, i64, i64)")


def move(dst, dst_row, dst_col, src, src_row, src_col, rows, cols, add):
    if dst_col == ITEMSIZE and src_row == ITEMSIZE:
        dst_row, dst_col, src_row, src_col = dst_col, dst_row, src_col, src_row
        rows, cols = cols, rows
    to = matrix(dst, rows, dst_row, cols, dst_col, ITEMSIZE)
    of = matrix(src, rows, src_row, cols, src_col, ITEMSIZE)
    i_squares, j_squares = rows // 4, cols // 4
    if dst_row != ITEMSIZE or src_col != ITEMSIZE or min(i_squares, j_squares) == 0:
        i_squares, j_squares = 0, 0
    elif abs(dst_col) > abs(src_row):  # walk along the side whose rows are further apart
        for j in range(0, 4 * j_squares, 4):
            square, source = ptr(shift(to, j * dst_col)), ptr(shift(of, j * src_col))
            transpose4(square, dst_col, 4 * dst_row, source, src_row, 4 * src_row, i_squares, add)
    else:
        i = 0
        while LANES > 4 and i + LANES <= rows:
            strip, source = ptr(shift(to, i * dst_row)), ptr(shift(of, i * src_row))
            transpose(strip, dst_col, 4 * dst_col, source, src_row, 4 * src_col, j_squares, add)
            i += LANES
        while i < 4 * i_squares:
            strip, source = ptr(shift(to, i * dst_row)), ptr(shift(of, i * src_row))
            transpose4(strip, dst_col, 4 * dst_col, source, src_row, 4 * src_col, j_squares, add)
            i += 4
    for i in range(rows):
        for j in range(4 * j_squares if i < 4 * i_squares else 0, cols):
            value = load(of, i * src_row + j * src_col, REAL)
            place = i * dst_row + j * dst_col
            store(to, place, load(to, place, REAL) + value if add else value)


def pack(panels, step, b, b_row, b_col, k, n):
    whole = n // WIDTH if b_col == ITEMSIZE else 0
    if whole:
        for p in range(k):
            row = shift(panels, p * WIDTH * ITEMSIZE)
            spread(row, step, shift(b, p * b_row), whole, AHEAD * b_row)
    for panel in range(whole, up(n, WIDTH)):
        columns = min(WIDTH, n - panel * WIDTH)
        width = up(columns, LANES) * LANES
        dst = ptr(address(panels) + panel * step)
        src = ptr(address(b) + panel * WIDTH * b_col)
        if b_col == ITEMSIZE:
            take(dst, src, b_row, k, columns)
        else:
            run_move(dst, width * ITEMSIZE, ITEMSIZE, src, b_row, b_col, k, columns, 0)
            if columns < width:
                to = extent(dst, 0, k * width * ITEMSIZE)
                for p in range(k):
                    for j in range(columns, width):
                        store(to, (p * width + j) * ITEMSIZE, REAL(0))


def block(d, index):
    parts = d[M_PARTS] * d[N_PARTS]
    item, row, column = index, 0, 0
    if parts > 1:  # divisions take time
        item, part = index // parts, index % parts
        row, column = part // d[N_PARTS] * d[M_PART], part % d[N_PARTS] * d[N_PART]
    m, n, k = least(d[M_PART], d[M] - row), least(d[N_PART], d[N] - column), d[K]
    a_row, a_col, b_row, b_col = d[A_ROW], d[A_COL], d[B_ROW], d[B_COL]
    c_row, c_col, packed = d[C_ROW], d[C_COL], d[PACKED] != 0
    a = matrix(ptr(d[A] + item * d[A_ITEM] + row * a_row), m, a_row, k, a_col, ITEMSIZE)
    c = matrix(
        ptr(d[C] + item * d[C_ITEM] + row * c_row + column * c_col), m, c_row, n, c_col, ITEMSIZE
    )
    strips = column // WIDTH * d[PACKED]
    b_ = ptr(d[B] + item * d[B_ITEM] + pick(packed, strips, column * b_col))
    b = matrix(b_, k, b_row, n, b_col, ITEMSIZE)  # unless packed

    # A panel is as wide as the registers allow when all rows of c go in one tile.
    vectors = pick(n > LANES, VECTORS, 1)
    across = (b_col == ITEMSIZE) & (not packed)  # rows of b are contiguous
    if across:
        most = least(least(WIDEST, up(n, LANES)), ROWS * VECTORS // m)
        while 2 * vectors <= most:
            vectors *= 2
    strip, rest = (
        vectors * LANES,
        least(vectors, VECTORS) * LANES,
    )  # rest: what is less than a strip
    # Rows a page apart fall on the same lines of an L1 cache, which has room for WAYS of them.
    height = pick(a_row % PAGE == 0, least(ROWS, WAYS), ROWS)
    near, own, own_a = stack(PANEL_BYTES), stack(OWN_BYTES), stack(A_BYTES)
    panels, depth = ptr(near), least(k, DEPTH)
    large, few = m * depth * ITEMSIZE > LARGE, m <= 64
    far = (k * n * ITEMSIZE > pick(few, FAR, LARGE)) & across & (vectors <= VECTORS)
    flat = a_row == ITEMSIZE  # a is k-major: read from afar, its tiles are but pieces of lines
    wide = (large | far) & (n >= pick(flat, 2, 8) * WIDTH) & (not packed)
    if wide:
        panels = malloc(STRIP_BYTES)
        wide = address(panels) != 0
    if wide:
        strip = pick(few, STRIP // 4, STRIP)
        rest = strip
        height = ROWS  # of a tile that is packed
    else:
        panels = ptr(near)

    for k0 in range(0, k, DEPTH):
        depth = least(DEPTH, k - k0)
        add = pick(k0 > 0, 1, d[ADD])
        step = depth * WIDTH * ITEMSIZE
        n0 = 0
        while n0 < n:
            columns = pick(strip <= n - n0, strip, least(rest, n - n0))
            width = pick(wide, WIDTH, columns)
            whole = columns % LANES == 0
            in_place = across & whole & (not wide)
            b_here = shift(b, k0 * b_row + n0 * b_col)
            if not (in_place | packed):
                run_pack(panels, step, ptr(b_here), b_row, b_col, depth, columns)
            # Rows at once: of a packed tile; all; or as many as fit `own`, on a detour to c.
            at_once = pick(wide, up(m, up(m, ROWS)), pick(whole & (c_col == ITEMSIZE), m, OWN_ROWS))
            i = 0
            while i < m:
                rows = least(at_once, m - i)
                part = shift(a, i * a_row + k0 * a_col)
                part = ptr(matrix(part, rows, a_row, depth, a_col, ITEMSIZE))
                part_row, part_col = a_row, a_col
                if wide & flat:
                    take(ptr(own_a), part, a_col, depth, rows)
                    part_row, part_col = ITEMSIZE, up(rows, LANES) * LANES * ITEMSIZE
                    part = ptr(own_a)
                elif wide & (a_col == ITEMSIZE):
                    part_row, part_col = ITEMSIZE, rows * ITEMSIZE
                    run_move(ptr(own_a), part_row, part_col, part, a_row, a_col, rows, depth, 0)
                    part = ptr(own_a)
                j, offset = 0, 0
                while j < columns:
                    here = least(width, columns - j)
                    v = up(here, LANES)
                    row_size = v * LANES * ITEMSIZE
                    panel, panel_row = shift(panels, offset), row_size
                    if packed:
                        panel = shift(b_, n0 // WIDTH * d[PACKED] + k0 * row_size)
                    elif in_place:
                        panel_row = b_row
                        panel = ptr(matrix(b_here, depth, b_row, columns, b_col, ITEMSIZE))
                    place = shift(c, i * c_row + (n0 + j) * c_col)
                    place = ptr(matrix(place, rows, c_row, here, c_col, ITEMSIZE))
                    if (c_col == ITEMSIZE) & (here == v * LANES):
                        column_of_c(
                            part, part_row, part_col, panel, panel_row, place, c_row,
                            depth, add, rows, v, height,
                        )  # fmt: skip
                    else:
                        result = ptr(matrix(own, rows, row_size, 1, 0, row_size))
                        column_of_c(
                            part, part_row, part_col, panel, panel_row, result, row_size,
                            depth, 0, rows, v, height,
                        )  # fmt: skip
                        run_move(place, c_row, c_col, result, row_size, ITEMSIZE, rows, here, add)
                    j += width
                    offset += step
                i += rows
            n0 += columns
    if wide:
        free(panels)
