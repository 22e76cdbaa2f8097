"""Matrix products against NumPy in float64, over layouts, sizes, tiles and threads."""

from __future__ import annotations

import itertools
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from minigrad.errors import DTypeError, ShapeError
from minigrad.kernels import jit, threads
from minigrad.kernels import multiplying as module
from minigrad.kernels.compiler import build
from minigrad.kernels.multiplying import matmul

DTYPES = [np.float32, np.float64]

LAYOUTS = {
    "rows": lambda x: x,
    "columns": lambda x: np.asfortranarray(x),
    "every second": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "reversed rows": lambda x: x[::-1].copy()[::-1],
    "reversed columns": lambda x: x[:, ::-1].copy()[:, ::-1],
    "part of a wider matrix": lambda x: np.pad(x, ((1, 2), (3, 1)))[1:-2, 3:-1],
}

# One, odd numbers, and one more or less than the rows, lanes, panels and depths of tiles.
SIZES = [(1, 1, 1), (1, 7, 33), (3, 4, 1), (13, 5, 15), (12, 16, 32), (25, 33, 17), (31, 64, 65)]


def agree(y, a, b):
    """y = a @ b to the rounding errors of a sum of `a.shape[-1]` products."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    size = np.matmul(np.abs(a), np.abs(b))
    assert y.shape == size.shape
    few = 4 + np.sqrt(a.shape[-1])
    assert (np.abs(y - np.matmul(a, b)) <= few * np.finfo(y.dtype).eps * size).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "k", "n"), SIZES)
def test_any_layouts_give_the_product(m, k, n, dtype, rng):
    a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    expected = matmul(a, b)
    agree(expected, a, b)
    for left, right in itertools.product(LAYOUTS.values(), LAYOUTS.values()):
        y = matmul(left(a), right(b))
        assert y.dtype == dtype
        agree(y, a, b)


@pytest.mark.needs_jit
@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_do_not_change_a_bit(dtype, rng):
    a, b = rng.normal(size=(37, 400)).astype(dtype), rng.normal(size=(400, 70)).astype(dtype)
    expected = matmul(a, b)
    for left, right in itertools.product(LAYOUTS.values(), LAYOUTS.values()):
        np.testing.assert_array_equal(matmul(left(a), right(b)), expected)


def test_steps_of_zero_repeat_a_row_or_column(rng):
    row = rng.normal(size=(1, 20)).astype(np.float32)
    a, b = np.broadcast_to(row, (15, 20)), np.broadcast_to(row.T, (20, 40))
    agree(matmul(a, b), a, b)
    agree(matmul(b.T, a.T), b.T, a.T)


@pytest.mark.parametrize("dtype", DTYPES)
def test_wide_and_deep_products_are_packed_right(dtype, rng):
    """Past every block: a that does not fit a cache, b in strips, k in several depths."""
    sizes = [(700, 450, 530), (90, 800, 1100), (40, 1030, 2100), (530, 2050, 129)]
    for (m, k, n), transposed in itertools.product(sizes, range(4)):
        a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        a = np.asfortranarray(a) if transposed & 1 else a
        b = np.asfortranarray(b) if transposed & 2 else b
        agree(matmul(a, b), a, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_few_rows_or_columns(dtype, rng):
    for m, n in [(1, 300), (300, 1), (2, 129), (3, 400), (6, 70), (70, 6), (24, 9)]:
        a, b = rng.normal(size=(m, 50)).astype(dtype), rng.normal(size=(50, n)).astype(dtype)
        for left, right in ((a, b), (np.asfortranarray(a), b), (a, np.asfortranarray(b))):
            agree(matmul(left, right), a, b)


@pytest.mark.parametrize("shapes", [((3, 0), (0, 4)), ((0, 5), (5, 4)), ((3, 5), (5, 0))])
def test_empty_products_are_empty_or_zero(shapes):
    a, b = (np.ones(shape, np.float32) for shape in shapes)
    np.testing.assert_array_equal(matmul(a, b), a @ b)
    stack = np.ones((2, *shapes[0]), np.float32)
    np.testing.assert_array_equal(matmul(stack, b), stack @ b)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((2, 3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (7, 4, 5)),
        ((6, 3, 4), (4, 5)),
        ((3, 4), (6, 4, 5)),
        ((0, 3, 4), (4, 5)),
        ((4,), (4,)),
        ((4,), (2, 4, 5)),
        ((2, 3, 4), (4,)),
    ],
)
def test_stacks_broadcast_and_vectors_are_rows_or_columns(left, right, rng):
    a, b = rng.normal(size=left), rng.normal(size=right)
    y = matmul(a, b)
    np.testing.assert_allclose(y, np.matmul(a, b), rtol=1e-12, atol=1e-12)
    if min(a.ndim, b.ndim) > 1:
        at, bt = np.swapaxes(a, -1, -2).copy(), np.swapaxes(b, -1, -2).copy()
        other = matmul(np.swapaxes(at, -1, -2), np.swapaxes(bt, -1, -2))
        np.testing.assert_allclose(other, y, rtol=1e-12, atol=1e-12)


def test_results_go_where_out_says(rng):
    a, b = rng.normal(size=(13, 9)), rng.normal(size=(9, 21))
    for out in (np.full((13, 21), np.nan), np.full((21, 13), np.nan).T, np.zeros((13, 42))[:, ::2]):
        assert matmul(a, b, out=out) is out
        agree(out, a, b)


def test_out_may_be_one_of_the_factors(rng):
    a, b = rng.normal(size=(2, 20, 20))
    for make in (lambda: (a.copy(), b), lambda: (a, b.copy())):
        left, right = make()
        out = left if left is not a else right
        np.testing.assert_allclose(matmul(left, right, out=out), a @ b, rtol=1e-10)
    square = a.copy()
    np.testing.assert_allclose(matmul(square, square, out=square), a @ a, rtol=1e-10)
    part = a.copy()
    np.testing.assert_allclose(matmul(part[1:], b, out=part[:-1]), a[1:] @ b, rtol=1e-10)


def test_nan_and_inf_go_through_without_a_warning():
    a, b = np.ones((20, 30), np.float32), np.ones((30, 40), np.float32)
    a[3, 5], b[7, 11] = np.nan, np.inf
    y = matmul(a, b)
    assert np.isnan(y[3]).all()
    assert np.isinf(np.delete(y[:, 11], 3)).all()
    assert np.isfinite(np.delete(np.delete(y, 3, 0), 11, 1)).all()
    huge = np.full((3, 3), 1e30, np.float32)
    assert np.isinf(matmul(huge, huge)).all()
    assert np.isnan(matmul(np.full((1, 2), np.inf), np.array([[1.0], [-1.0]]))).all()


@pytest.mark.needs_jit
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_has_the_same_bits_in_a_batch_of_any_size(dtype, rng):
    x, w = rng.normal(size=(40, 500)).astype(dtype), rng.normal(size=(90, 500)).astype(dtype)
    for weights in (w.T, np.ascontiguousarray(w.T)):
        whole = matmul(x, weights)
        for rows in (1, 2, 3, 5, 12, 17, 39):
            np.testing.assert_array_equal(matmul(x[:rows], weights), whole[:rows])
            np.testing.assert_array_equal(matmul(x[-rows:], weights), whole[-rows:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_does_not_change_a_bit(dtype, rng):
    before = threads.get_num_threads()
    for m, k, n in [(257, 130, 129), (64, 100, 513), (1500, 64, 33), (33, 900, 41), (2, 700, 2000)]:
        a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(n, k)).astype(dtype).T
        results = []
        for count in (1, 2, 3, 7):
            threads.set_num_threads(count)
            results.append(matmul(a, b))
        agree(results[0], a, b)
        for result in results[1:]:
            np.testing.assert_array_equal(result, results[0])
    stack = rng.normal(size=(31, 40, 41)).astype(dtype)
    threads.set_num_threads(1)
    expected = matmul(stack, stack[0].T)
    threads.set_num_threads(2)
    np.testing.assert_array_equal(matmul(stack, stack[0].T), expected)
    threads.set_num_threads(before)


PRODUCT = """
from numba import REAL
from minigrad.kernels.microkernel import matrix, part
from minigrad.kernels.steps import product

def run(table, a, rows, k, panels, y, n, vectors, add):
    a, y = matrix(a, rows + 2, 8 * k, k, ITEM, REAL), matrix(y, rows, ITEM * n, n, ITEM, REAL)
    product(table, part(a, 1, rows, 0, k), panels, y, vectors, add)
"""


@pytest.mark.needs_jit
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_packed_matrix_multiplies_as_the_matrix_does(dtype, rng):
    """What a compiled recurrence does: pack W once, then multiply any rows by it."""
    k, n, item = 410, 77, np.dtype(dtype).itemsize
    text = PRODUCT.replace("REAL", np.dtype(dtype).name).replace("ITEM", str(item))
    run = build("test_product", text, {"run": f"void({', '.join(['int64'] * 9)})"}).function("run")
    table = module.table(dtype)
    for m, order in itertools.product((1, 2, 5, 19, 40), "CF"):
        w = np.asarray(rng.normal(size=(k, n)), dtype, order=order)
        x = rng.normal(size=(m + 2, 8 // item * k)).astype(dtype)  # rows of k numbers, and others
        expected = matmul(x[1:-1, :k], w)
        for vectors in {module.panel_vectors(m), 2, 4}:
            pack, _ = module.packing(w.dtype)
            room = module.panels_of((k, n), w.dtype, vectors)
            panels = np.empty(room.nbytes, np.uint8)
            pack(table, panels.ctypes.data, room.step, room.width, w.ctypes.data, *w.strides, k, n)
            y = np.ones((m, n), dtype)
            given = table, x.ctypes.data, m, k, panels.ctypes.data, y.ctypes.data, n, vectors
            run(*given, 0)
            np.testing.assert_array_equal(y, expected)
            run(*given, 1)
            np.testing.assert_allclose(y, 2 * expected, rtol=1e-6)


PART = """
from numba import float64
from minigrad.kernels.microkernel import matrix, part

def run(p, rows, columns):
    x = part(matrix(p, 3, 32, 4, 8, float64), 1, rows, 2, columns)
    x[0, 0] = 1.0
"""


@pytest.mark.needs_jit
@pytest.mark.skipif(jit.mode() != "checked", reason="NUMBA_BOUNDSCHECK=1")
def test_a_part_outside_of_its_matrix_is_an_index_error():
    run = build("test_part", PART, {"run": "void(int64, int64, int64)"}).function("run")
    x = np.zeros((3, 4))
    run(x.ctypes.data, 2, 2)
    assert x[1, 2] == 1
    for rows, columns in ((3, 2), (2, 3)):
        with pytest.raises(IndexError):
            run(x.ctypes.data, rows, columns)


BITS = """
import itertools, hashlib, numpy as np
from minigrad.kernels.multiplying import matmul
r, found = np.random.default_rng(0), hashlib.sha256()
for dtype in "fd":
    for m, k, n in [(1, 3, 5), (13, 33, 17), (37, 400, 70), (300, 420, 520)]:
        a, b = r.normal(size=(m, k)).astype(dtype), r.normal(size=(k, n)).astype(dtype)
        wide = a.astype(float) @ b.astype(float)
        assert np.abs(matmul(a, b) - wide).max() < 1e-5 * k
        for a, b in itertools.product((a, np.asfortranarray(a)), (b, np.asfortranarray(b))):
            found.update(matmul(a, b).tobytes())
print(found.hexdigest())
"""


def bits(cpu: str = "") -> str:
    """A hash of some products, as a process computes them that compiles for this CPU."""
    command = [sys.executable, "-W", "error", "-c", BITS]
    environment = {**os.environ, "MINIGRAD_CPU": cpu}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.needs_jit
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names CPUs of x86")
def test_the_tiles_of_older_cpus_give_the_same_bits():
    assert bits("x86-64-v3") == bits()  # AVX2
    bits("x86-64")  # has no fused multiply-add: right, but rounded twice


def test_wrong_shapes_and_dtypes_say_what_came():
    a = np.ones((3, 4), np.float32)
    with pytest.raises(ShapeError, match=r"float32\[3, 4\] @ float32\[3, 4\] does not fit"):
        matmul(a, a)
    with pytest.raises(DTypeError, match=r"float32\[3, 4\] @ float64\[4, 2\]; convert one"):
        matmul(a, np.ones((4, 2)))
    with pytest.raises(DTypeError, match="expected float32 or float64, came int64"):
        matmul(np.ones((2, 2), int), np.ones((2, 2), int))


@pytest.mark.needs_jit
def test_a_warm_product_needs_no_copy_of_its_arguments(rng):
    """NumPy hands steps to the loop as they are: no temporary of a size of a or b."""
    import tracemalloc

    a = rng.normal(size=(400, 300)).astype(np.float32)
    out = np.empty((400, 400), np.float32)
    matmul(a, a.T, out=out)
    tracemalloc.start()
    matmul(a, a.T, out=out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < a.nbytes / 4


def test_modes_share_one_function():
    assert (module._products.get(np.dtype(np.float32)) is module._plain) is (jit.mode() == "plain")
