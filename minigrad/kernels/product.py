"""Numba side: the inner loop of the gufunc (m?,k),(k,n?)->(m?,n?), over the blocks of gemm.py.

This text is executed only to be compiled, behind that of gemm.py; its links are the thread pool.

As c = a @ b is also c.T = b.T @ a.T, `matmul` takes the side that costs less: x @ W.T with few
rows packs x, which is small, and reads W as it lies. Then it splits c into parts for the threads.
"""

# mypy: ignore-errors

from minigrad.kernels.integers import least, pick, up, write_words
from minigrad.kernels.memory import (
    address,
    address_of,
    external,
    forget_flags,
    matrix,
    ptr,
    stack,
    store,
)

SPLIT = 1 << 20  # multiply-adds worth a second thread: 20 us, some ten times what its start takes
D_BYTES = 8 * 21  # of a description

thread_count = external("minigrad_thread_count", "i64()")
parallel_for = external("minigrad_parallel_for", "void(ptr, ptr, i64)")
run_block = external("minigrad_block", "void(ptr, i64)")


def matmul(args, dims, steps):
    items, m, k, n = dims[0], dims[1], dims[2], dims[3]
    a, b, c = address(args[0]), address(args[1]), address(args[2])
    a_item, b_item, c_item = steps[0], steps[1], steps[2]
    a_row, a_col, b_row, b_col = steps[3], steps[4], steps[5], steps[6]
    c_row, c_col = steps[7], steps[8]
    if m == 1:  # NumPy calls the step of a single row or column 0
        a_row = c_row = ITEMSIZE
    if n == 1:
        b_col = c_col = ITEMSIZE
    if k == 0:
        for item in range(items):
            to = matrix(ptr(c + item * c_item), m, c_row, n, c_col, ITEMSIZE)
            for i in range(m):
                for j in range(n):
                    store(to, i * c_row + j * c_col, REAL(0))
        return
    if m * n == 0:
        return

    # In vector operations: multiply-adds; packing; an a that is read across its lines; results
    # that are stored transposed.
    turns = m * n // 4 * up(k, DEPTH)
    plain = m * k * up(n, LANES)
    if b_col != ITEMSIZE:
        plain += pick(b_row == ITEMSIZE, k * n // 4, k * n)
    if a_row == ITEMSIZE:
        plain += m * k // 4
    if c_col != ITEMSIZE:
        plain += turns
    swapped = n * k * up(m, LANES)
    if a_row != ITEMSIZE:
        swapped += pick(a_col == ITEMSIZE, m * k // 4, m * k)
    if b_col == ITEMSIZE:
        swapped += k * n // 4
    if c_row != ITEMSIZE:
        swapped += turns
    if swapped < plain:
        a, b, a_item, b_item, m, n = b, a, b_item, a_item, n, m
        a_row, a_col, b_row, b_col, c_row, c_col = b_col, b_row, a_col, a_row, c_col, c_row

    m_part, n_part, m_parts, n_parts = m, n, 1, 1
    threads = pick(items * m * n * k >= SPLIT, thread_count(), 1)
    if (threads > 1) & (items < 4 * threads):
        wanted = up(threads, items)
        # Parts of one row strip pack the same a, parts of one column strip the same b.
        if n >= m:
            n_parts = least(wanted, up(n, 4 * WIDTH))
            m_parts = least(up(wanted, n_parts), up(m, ROWS))
        else:
            m_parts = least(wanted, up(m, 4 * ROWS))
            n_parts = least(up(wanted, m_parts), up(n, WIDTH))
        m_part, n_part = up(m, m_parts), up(n, n_parts * WIDTH) * WIDTH
        m_parts, n_parts = up(m, m_part), up(n, n_part)

    d = ptr(stack(D_BYTES))
    write_words(
        d, m, n, k, a, a_row, a_col, b, b_row, b_col, c, c_row, c_col, 0, 0, a_item, b_item, c_item,
        m_part, n_part, m_parts, n_parts,
    )  # fmt: skip
    parts = items * m_parts * n_parts
    if threads > 1:
        parallel_for(address_of("block"), d, parts)
    else:
        for index in range(parts):
            run_block(d, index)
    forget_flags()
