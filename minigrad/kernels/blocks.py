"""The inner loop of the gufunc (m?,k),(k,n?)->(m?,n?): which blocks a product has.

As c = a @ b is also c.T = b.T @ a.T, `matmul` takes the side that costs less: x @ W.T with few
rows packs x, which is small, and reads W as it lies. Then it splits c into parts for the threads.
"""

# mypy: ignore-errors

from __future__ import annotations

from numba import int64, njit

from minigrad.kernels.gemm import (
    BLOCK,
    DEPTH,
    PARALLEL_FOR,
    REGISTER,
    TABLE_WORDS,
    THREAD_COUNT,
    WORDS,
    block,
)
from minigrad.kernels.intrinsics import (
    CHECKED,
    array,
    call,
    forget_flags,
    free,
    inner,
    malloc,
    parallel_for,
    static,
    within,
    words,
)
from minigrad.kernels.microkernel import (
    ROWS,
    VECTORS,
    itemsize,
    least,
    matrix,
    scratch,
    up,
    write,
)

SPLIT = 1 << 20  # multiply-adds worth a second thread: 20 us, some ten times what its start takes
BYTES = 8 * WORDS  # of a description


@within
def matmul(args, dims, steps, real):
    """An inner loop of NumPy's; called once before with its table and without dims."""
    kept = array(static(), 1, int64)
    if dims == 0:
        kept[0] = args
        return
    table = array(kept[0], TABLE_WORDS, int64)
    (a, b, c), (items, m, k, n) = words(args, 3), words(dims, 4)
    a_item, b_item, c_item, a_row, a_col, b_row, b_col, c_row, c_col = words(steps, 9)
    size = itemsize(array(a, 1, real))
    lanes = REGISTER // size
    if m == 1:  # NumPy calls the step of a single row or column 0
        a_row = c_row = size
    if n == 1:
        b_col = c_col = size
    if k == 0:
        for item in range(items):
            to = matrix(c + item * c_item, m, c_row, n, c_col, real)
            for i in range(m):
                for j in range(n):
                    to[i, j] = 0
    if m * n * k == 0:
        return

    # In vector operations: multiply-adds; packing; an a that is read across its lines; results
    # that are stored transposed.
    turns = m * n // 4 * up(k, DEPTH)
    plain, swapped = m * k * up(n, lanes), n * k * up(m, lanes)
    if b_col != size:
        plain += k * n // 4 if b_row == size else k * n
    else:
        swapped += k * n // 4
    if a_row == size:
        plain += m * k // 4
    else:
        swapped += m * k // 4 if a_col == size else m * k
    if c_col != size:
        plain += turns
    if c_row != size:
        swapped += turns
    if swapped < plain:
        a, b, a_item, b_item, m, n = b, a, b_item, a_item, n, m
        a_row, a_col, b_row, b_col, c_row, c_col = b_col, b_row, a_col, a_row, c_col, c_row

    m_part, n_part, parts = m, n, items
    threads = array(table[THREAD_COUNT], 1, int64)[0] if items * m * n * k >= SPLIT else 1
    if (threads > 1) & (items < 4 * threads):
        wanted, width = up(threads, items), VECTORS * lanes
        # Parts of one row strip pack the same a, parts of one column strip the same b.
        if n >= m:
            n_parts = least(wanted, up(n, 8 * lanes))
            m_parts = least(up(wanted, n_parts), up(m, ROWS))
        else:
            m_parts = least(wanted, up(m, 4 * ROWS))
            n_parts = least(up(wanted, m_parts), up(n, width))
        m_part, n_part = up(m, m_parts), up(n, n_parts * width) * width
        parts *= up(m, m_part) * up(n, n_part)

    memory = malloc(parts * BYTES) if threads > 1 else int64(0)
    alone = memory == 0
    d = scratch(BYTES) if alone else memory
    for item in range(items):
        row = int64(0)
        while row < m:
            column = int64(0)
            while column < n:
                write(d, (
                    kept[0], least(m_part, m - row), least(n_part, n - column), k,
                    a + item * a_item + row * a_row, a_row, a_col,
                    b + item * b_item + column * b_col, b_row, b_col,
                    c + item * c_item + row * c_row + column * c_col, c_row, c_col,
                ))  # fmt: skip
                if alone:
                    run_block(table[BLOCK], d, real)
                else:
                    d += BYTES
                column += n_part
            row += m_part
    if not alone:
        run_blocks(table, memory, parts, real)
        free(memory)
    forget_flags()


@njit(**inner)
def run_block(function, d, real):
    """One block."""
    call(function, d, 0)


@njit(**inner)
def run_blocks(table, d, count, real):
    """All blocks, whose descriptions lie one after the other."""
    parallel_for(table[PARALLEL_FOR], table[BLOCK], d, count)


if CHECKED:  # an error in a C function would not reach the caller

    @njit(**inner)
    def run_block(function, d, real):  # noqa: D103
        block(d, real)

    @njit(**inner)
    def run_blocks(table, d, count, real):  # noqa: D103
        for i in range(count):
            block(d + i * BYTES, real)
