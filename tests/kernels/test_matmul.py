"""Matmul against NumPy in float64, over sizes, strides and tiles of other CPUs."""

import itertools

import numpy as np
import pytest

from minigrad.errors import DTypeError, ShapeError
from minigrad.kernels import jit
from minigrad.kernels.matmul import Tile, matmul, product

EPS = {np.float32: 1.2e-7, np.float64: 2.3e-16}


def check(got, a, b, dtype):
    """Each element within the rounding of two sums of k products, ours and NumPy's in float64."""
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    expected = wide_a @ wide_b
    size = np.abs(wide_a) @ np.abs(wide_b)
    k = a.shape[-1]
    assert (got.shape, got.dtype) == (expected.shape, dtype)
    assert (np.abs(got - expected) <= EPS[dtype] * (8 + 2 * k) * size).all()


# every way an operand can lie in memory
LAYOUTS = {
    "rows": lambda x: x,
    "columns": lambda x: np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2),
    "every second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "backwards": lambda x: np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1],
    "wide rows": lambda x: np.concatenate([x, x], axis=-1)[..., : x.shape[-1]],
}
SIZES = [(1, 1, 1), (1, 7, 33), (5, 3, 1), (12, 16, 32), (13, 17, 35), (16, 64, 256), (31, 129, 65)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_layout_of_both_sides(size, dtype, rng):
    m, k, n = size
    a = rng.normal(size=(m, k)).astype(dtype)
    b = rng.normal(size=(k, n)).astype(dtype)
    for lay_a, lay_b in itertools.product(LAYOUTS.values(), LAYOUTS.values()):
        check(matmul(lay_a(a), lay_b(b)), a, b, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sizes_around_the_tiles_and_panels(dtype, rng):
    for m, k, n in [(11, 383, 63), (12, 384, 64), (13, 385, 65), (25, 800, 97), (70, 2, 300)]:
        a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        check(matmul(a, b), a, b, dtype)
        check(matmul(np.asfortranarray(a), np.asfortranarray(b)), a, b, dtype)


@pytest.mark.needs_jit
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_large_product_goes_through_packed_strips(dtype, rng):
    a, b = (rng.normal(size=s).astype(dtype) for s in ((515, 401), (401, 1100)))
    check(matmul(a, b), a, b, dtype)
    check(matmul(b.T, a.T), b.T, a.T, dtype)


@pytest.mark.parametrize(
    "shapes",
    [
        ((4,), (4,)),
        ((4,), (4, 3)),
        ((3, 4), (4,)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (7, 4, 5)),
        ((3, 4), (6, 4, 5)),
        ((5, 2, 4), (4,)),
        ((0, 3, 4), (4, 5)),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stacks_of_matrices_broadcast_as_in_numpy(shapes, dtype, rng):
    a, b = (rng.normal(size=s).astype(dtype) for s in shapes)
    expected = np.matmul(a.astype(np.float64), b.astype(np.float64))
    got = matmul(a, b)
    assert np.shape(got) == expected.shape
    np.testing.assert_allclose(
        got, expected, rtol=1e-4 if dtype == np.float32 else 1e-12, atol=1e-5
    )


def test_repeated_rows_and_columns_of_stride_0(rng):
    row, matrix = rng.normal(size=5), rng.normal(size=(5, 7))
    a = np.broadcast_to(row, (9, 5))
    check(matmul(a, matrix), a, matrix, np.float64)
    ones = np.broadcast_to(np.float64(1.0), (7, 6))
    check(matmul(matrix, ones), matrix, ones, np.float64)


def test_empty_sides_give_empty_results_and_k_0_gives_zeros():
    for m, k, n in itertools.product((0, 2), (0, 3), (0, 4)):
        got = matmul(np.ones((m, k)), np.ones((k, n)))
        np.testing.assert_array_equal(got, np.full((m, n), float(k)))


def test_out_receives_the_product(rng):
    a, b = rng.normal(size=(6, 5)), rng.normal(size=(5, 4))
    for out in (np.empty((6, 4)), np.empty((4, 6)).T, np.empty((6, 8))[:, ::2]):
        assert matmul(a, b, out) is out
        np.testing.assert_allclose(out, a @ b, rtol=1e-13)


@pytest.mark.needs_jit
def test_a_row_has_the_same_bits_whatever_comes_with_it(rng):
    a = rng.normal(size=(40, 300)).astype(np.float32)
    w = rng.normal(size=(128, 300)).astype(np.float32)
    whole = matmul(a, w.T)
    for i in (0, 7, 39):
        np.testing.assert_array_equal(matmul(a[i : i + 1], w.T)[0], whole[i])


def test_nan_and_inf_pass_without_a_warning():
    a = np.array([[np.nan, 1.0], [np.inf, 1.0], [np.inf, -np.inf]])
    got = matmul(a, np.ones((2, 3)))
    assert np.isnan(got[0]).all()
    assert np.isposinf(got[1]).all()
    assert np.isnan(got[2]).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match=r"matmul: float64\[2, 3\] @ float64\[4, 2\] does not fit"):
        matmul(np.ones((2, 3)), np.ones((4, 2)))
    with pytest.raises(DTypeError, match=r"came float32\[2, 2\] @ float64\[2, 2\]"):
        matmul(np.ones((2, 2), np.float32), np.ones((2, 2)))
    with pytest.raises(DTypeError, match="expected float32 or float64"):
        matmul(np.ones((2, 2), int), np.ones((2, 2), int))


@pytest.mark.needs_jit
@pytest.mark.parametrize(
    "shape",
    [Tile(6, 2, 8, 4), Tile(6, 2, 4, 8), Tile(6, 2, 4, 4), Tile(6, 2, 2, 8)],
    ids=["AVX2 float32", "AVX2 float64", "128 bit float32", "128 bit float64"],
)
def test_the_tiles_of_other_cpus(shape, rng):
    if jit.mode() == "checked" and shape.itemsize == 8:
        pytest.skip("one element type is enough with bounds checks: they take long to compile")
    multiply = product(shape)
    dtype = {4: np.float32, 8: np.float64}[shape.itemsize]
    for m, k, n in [(1, 1, 1), (5, 9, 7), (6, 16, 16), (13, 33, 41), (64, 70, 130)]:
        a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        check(multiply(a, b), a, b, dtype)
        check(multiply(np.asfortranarray(a), np.asfortranarray(b)), a, b, dtype)
