"""Reductions and scatter against NumPy in float64, over axes, strides, odd sizes and specials."""

import itertools

import numpy as np
import pytest

from minigrad.errors import ShapeError
from minigrad.kernels import reduce, threads
from minigrad.kernels.index import scatter_add

SHAPES = [
    (),
    (1,),
    (7,),
    (1000,),
    (3, 5),
    (65, 257),
    (100, 1),
    (1, 33),
    (2, 3, 5, 7),
    (0, 3),
    (2, 1, 3, 2, 5),
]
LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.T,
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: x[..., ::-1],
    "broadcast": lambda x: np.broadcast_to(x[..., :1], x.shape),
    "broadcast rows": lambda x: np.broadcast_to(x[:1], x.shape),
}


def all_axes(ndim):
    return [a for k in range(ndim + 1) for a in itertools.combinations(range(ndim), k)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_reductions_agree_with_numpy_for_all_axes_and_strides(shape, dtype, rng):
    base = rng.normal(size=shape).astype(dtype)
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    layouts = LAYOUTS if shape else {"contiguous": LAYOUTS["contiguous"]}
    for x in (make(base) for make in layouts.values()):
        for axis, keepdims in itertools.product(all_axes(x.ndim), (False, True)):
            wide = x.astype(np.float64)
            expected = wide.sum(axis, keepdims=keepdims)
            got = reduce.sum(x, axis, keepdims)
            assert (got.shape, got.dtype) == (expected.shape, dtype)
            size = np.abs(wide).sum(axis, keepdims=keepdims)
            assert (np.abs(got - expected) <= tolerance * size).all()
            if all(x.shape[i] for i in axis):
                for fold, numpy_fold in ((reduce.max, np.max), (reduce.min, np.min)):
                    got = fold(x, axis, keepdims)
                    np.testing.assert_array_equal(got, numpy_fold(x, axis, keepdims=keepdims))
        for axis in range(x.ndim):
            expected = np.cumsum(x.astype(np.float64), axis)
            np.testing.assert_allclose(
                reduce.cumsum(x, axis),
                expected,
                rtol=2e-4 if dtype == np.float32 else 1e-12,
                atol=1e-4,
            )


def test_a_reduction_over_no_axis_is_a_copy(rng):
    x = rng.normal(size=(2, 3))
    y = reduce.sum(x, ())
    np.testing.assert_array_equal(x, y)
    assert not np.shares_memory(x, y)


def test_nan_and_inf_pass_without_a_warning():
    x = np.array([[1.0, np.nan, 3.0], [np.inf, 2.0, -np.inf], [np.inf, np.inf, 0.0]])
    for axis in ((0,), (1,)):
        for fold, numpy_fold in ((reduce.max, np.max), (reduce.min, np.min)):
            np.testing.assert_array_equal(fold(x, axis), numpy_fold(x, axis))
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(reduce.sum(x, axis), x.sum(axis))


@pytest.mark.needs_jit
@pytest.mark.parametrize("shape", [(1_000_003,), (1_000_003, 1)])
def test_long_sums_stay_accurate(shape, rng):
    x = rng.random(shape, np.float32)
    exact = np.sum(x, dtype=np.float64)
    got = reduce.sum(x, tuple(range(x.ndim)))
    assert abs(float(got) - exact) <= 2e-7 * exact  # one chain of additions would be off by 1e-4


LARGE = [  # each way to divide the work, with a rest
    ((1_000_003,), (0,)),
    ((100_003, 7), (0,)),
    ((7, 100_003), (0,)),
    ((7, 100_003), (1,)),
    ((2, 50_001, 3), (1,)),
    ((33, 1, 5001), (0, 2)),
]


@pytest.fixture
def any_threads():
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


@pytest.mark.needs_jit
@pytest.mark.usefixtures("any_threads")
@pytest.mark.parametrize(("shape", "axis"), LARGE, ids=str)
def test_large_reductions_have_the_same_bits_for_any_number_of_threads(shape, axis, rng):
    x = rng.normal(size=shape).astype(np.float32)
    for view in (x, x[::-1], x[..., ::-1]):
        for fold, numpy_fold in ((reduce.sum, np.sum), (reduce.max, np.max), (reduce.min, np.min)):
            threads.set_num_threads(1)
            one = fold(view, axis)
            for count in (2, 3):
                threads.set_num_threads(count)
                np.testing.assert_array_equal(fold(view, axis), one)
            expected = numpy_fold(view.astype(np.float64), axis)
            size = np.abs(view).sum(axis, dtype=np.float64) if fold is reduce.sum else 0.0
            assert (np.abs(one - expected) <= 1e-6 * size).all()


def test_an_empty_axis_has_a_sum_and_no_extremum():
    x = np.zeros((0, 3), np.float32)
    np.testing.assert_array_equal(reduce.sum(x, (0,)), [0, 0, 0])
    with pytest.raises(ValueError, match=r"max: \[0, 3\] has an empty axis"):
        reduce.max(x, (0,))


def test_integers_and_masks_are_counted():
    mask = np.array([[True, False], [True, True]])
    np.testing.assert_array_equal(reduce.sum(mask, (0,)), [2, 1])
    assert reduce.max(np.arange(6).reshape(2, 3), (0, 1)) == 5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [(), (1,), (5,), (3, 7), (33,)], ids=str)
def test_scatter_add_adds_in_order_and_counts_duplicates(dtype, width, rng):
    index = rng.integers(-6, 6, (4, 3))
    values = rng.normal(size=(4, 3, *width)).astype(dtype)
    out = rng.normal(size=(6, *width)).astype(dtype)
    expected = out.copy()
    np.add.at(expected, index, values)
    scatter_add(out, index, values)
    np.testing.assert_array_equal(out, expected)


def test_scatter_add_takes_broadcast_values_and_strided_tables(rng):
    for out in (np.zeros((5, 3)), np.zeros((3, 5)).T):
        scatter_add(out, np.array([0, 4, 0], np.int32), np.float64(2.0))
        np.testing.assert_array_equal(out[:, 1], [4, 0, 0, 0, 2])


def test_scatter_add_refuses_rows_that_are_not_there():
    for bad in (3, -4):
        out = np.zeros((3, 2))
        with pytest.raises(ShapeError, match="there are 3 rows, expected -3 to 2"):
            scatter_add(out, np.array([0, bad]), np.ones((2, 2)))
        assert not out.any()
