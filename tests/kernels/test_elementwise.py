"""Elementwise kernels against NumPy, over shapes, strides, outputs and threads."""

from __future__ import annotations

import numpy as np
import pytest

from minigrad.kernels import threads
from minigrad.kernels.elementwise import loop

DTYPES = (np.float32, np.float64)
# Around one and two vector registers of every width, and more than one step of the loop.
SIZES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 257)

MADD = "def element(x, y):\n    t0 = x * y\n    return t0 + c(0.5)\n"
CHOICE = "def element(p, x, y): return select(p & (x < y) | isnan(y), x - y, -x)"
BOTH = "def element(x, y): return x + y, x <= y, maximum(x, y)"


def madd(x, y):
    return x * y + x.dtype.type(0.5)


def random(rng, dtype, *shape):
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_length_gives_what_numpy_gives(dtype, rng):
    f = loop(MADD, "ff->f", dtype)
    for n in SIZES:
        x, y = random(rng, dtype, n), random(rng, dtype, n)
        got = f(x, y)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, madd(x, y))


@pytest.mark.parametrize("dtype", DTYPES)
def test_strides_of_all_kinds_give_what_contiguous_copies_give(dtype, rng):
    f = loop(MADD, "ff->f", dtype)
    a, b = random(rng, dtype, 33, 35), random(rng, dtype, 35, 33)
    row, column, number = a[:1], a[:, :1], a[0, 0]
    views = [
        (a, b.T),
        (a.T, b),
        (a[:, ::2], b.T[:, ::2]),
        (a[::-1], b.T[:, ::-1]),
        (a[::-3, 5:30:4], b.T[::-3, 5:30:4]),
        (a, row),
        (column, a),
        (row, column),
        (a, number),
        (number, a[:, 3]),
        (np.broadcast_to(number, (3, 70)), np.broadcast_to(a[0, :2, None, None], (2, 3, 70))),
        (a[:, :0], column),
        (a[0, 0], b[0, 0]),
    ]
    for x, y in views:
        np.testing.assert_array_equal(f(x, y), madd(x.copy(), y.copy()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_bools_go_in_and_out(dtype, rng):
    f = loop(CHOICE, "bff->f", dtype)
    greater = loop("def element(x, y): return (x >= y) & ~(x != y)", "ff->b", dtype)
    for n in SIZES:
        x, y = random(rng, dtype, n), random(rng, dtype, n)
        y[::3] = x[::3]
        y[1::5] = np.nan
        p = rng.random(n) < 0.5
        for step in (1, -1, 2):
            x_, y_, p_ = x[::step], y[::step], p[::step]
            expected = np.where(p_ & (x_ < y_) | np.isnan(y_), x_ - y_, -x_)
            np.testing.assert_array_equal(f(p_, x_, y_), expected)
            got = greater(x_, y_)
            assert got.dtype == np.bool_
            np.testing.assert_array_equal(got, x_ == y_)
    np.testing.assert_array_equal(
        f(np.True_, x[0], y[:, None]), f(np.full((n, 1), True), x[0], y[:, None])
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_several_results(dtype, rng):
    f = loop(BOTH, "ff->fbf", dtype)
    x, y = random(rng, dtype, 3, 37), random(rng, dtype, 37)
    total, below, larger = f(x, y)
    np.testing.assert_array_equal(total, x + y)
    np.testing.assert_array_equal(below, x <= y)
    np.testing.assert_array_equal(larger, np.maximum(x, y))
    assert below.dtype == np.bool_


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_is_filled_and_returned_also_where_it_is_an_input(dtype, rng):
    f = loop(MADD, "ff->f", dtype)
    for n in (5, 64, 100):
        x, y = random(rng, dtype, n), random(rng, dtype, n)
        expected = madd(x, y)
        for target in (np.empty_like(x), np.empty((n, 2), dtype)[:, 1], x.copy()):
            source = target if np.array_equal(target, x) else x
            assert f(source, y, out=target) is target
            np.testing.assert_array_equal(target, expected)
    both = loop(BOTH, "ff->fbf", dtype)
    total, below, larger = np.empty(n, dtype), np.empty(n, bool), np.empty(n, dtype)
    both(x, y, out=(total, below, larger))
    np.testing.assert_array_equal(larger, np.maximum(x, y))


@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_follow_numpy_at_nan_zero_and_infinity(dtype):
    values = np.array([-np.inf, -2.5, -1.0, -0.0, 0.0, 0.5, 3.0, np.inf, np.nan], dtype)
    x, y = (a.ravel() for a in np.meshgrid(values, values))
    source = "def element(x, y): return minimum(x, y), maximum(x, y), sign(x), abs(x), floor(x), -x"
    with np.errstate(all="ignore"):
        expected = np.minimum(x, y), np.maximum(x, y), np.sign(x), np.abs(x), np.floor(x), -x
        quotient = x / y
    for got, want in zip(loop(source, "ff->ffffff", dtype)(x, y), expected):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(
        loop("def element(x, y): return x / y", "ff->f", dtype)(x, y), quotient
    )
    compare = "def element(x, y): return x < y, x <= y, x > y, x >= y, x == y, x != y"
    expected = x < y, x <= y, x > y, x >= y, x == y, x != y
    for got, want in zip(loop(compare, "ff->bbbbbb", dtype)(x, y), expected):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_literals_take_the_dtype_of_the_kernel(dtype):
    x = np.zeros(3, dtype)
    tenth = loop("def element(x): return x + c(0.1)", "f->f", dtype)(x)
    assert tenth.dtype == dtype
    np.testing.assert_array_equal(tenth, np.full(3, 0.1, dtype))
    special = (
        'def element(x): return x + c("inf"), x + c("-inf"), select(x < c(1.0), c("nan"), c(2.0))'
    )
    high, low, nan = loop(special, "f->fff", dtype)(x)
    assert np.isposinf(high).all()
    assert np.isneginf(low).all()
    assert np.isnan(nan).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_fused_kernel_gives_the_bits_of_its_operations_one_at_a_time(dtype, rng):
    fused = loop(
        "def element(c, i, f, g):\n"
        "    t0 = sigmoid(f) * c\n"
        "    t1 = sigmoid(i) * tanh(g)\n"
        "    t2 = t0 + t1\n"
        "    return t2, tanh(t2), log1p(exp(-abs(t2)))\n",
        "ffff->fff",
        dtype,
    )
    names = ("sigmoid", "tanh", "exp", "log1p")
    one = {name: loop(f"def element(x): return {name}(x)", "f->f", dtype) for name in names}
    c0, i, f, g = random(rng, dtype, 4, 101)
    cell = one["sigmoid"](f) * c0 + one["sigmoid"](i) * one["tanh"](g)
    expected = cell, one["tanh"](cell), one["log1p"](one["exp"](-np.abs(cell)))
    for got, want in zip(fused(c0, i, f, g), expected):
        np.testing.assert_array_equal(got, want)


def test_inf_and_nan_pass_without_a_warning():
    f = loop("def element(x, y): return exp(x) / y, log(y)", "ff->ff", np.float32)
    with np.errstate(all="raise"):
        big, low = f(np.float32(1000.0), np.zeros(5, np.float32))
    assert np.isposinf(big).all()
    assert np.isneginf(low).all()


def test_other_dtypes_are_refused():
    f = loop(MADD, "ff->f", np.float32)
    x = np.ones(3, np.float32)
    for other in (np.ones(3), np.ones(3, np.int64), np.ones(3, bool)):
        with pytest.raises(TypeError):
            f(x, other)


def test_equal_arguments_give_the_same_function():
    assert loop(MADD, "ff->f", np.float32) is loop(MADD, "ff->f", np.dtype("f4"))
    assert loop(MADD, "ff->f", np.float32) is not loop(MADD, "ff->f", np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
def test_long_arrays_have_the_same_bits_on_any_number_of_threads(dtype, rng):
    f = loop("def element(x, y): return tanh(x) * y, x < y", "ff->fb", dtype)
    before = threads.get_num_threads()
    most = 32768  # elements that are not split
    for n in (most, most + 1, 3 * most - 5):
        x, y = random(rng, dtype, n), random(rng, dtype, n)
        pieces = [f(x[i : i + 1000], y[i : i + 1000]) for i in range(0, n, 1000)]
        expected = [np.concatenate(parts) for parts in zip(*pieces)]
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            for args in ((x, y), (x[::-1][::-1], y)):
                for got, want in zip(f(*args), expected):
                    np.testing.assert_array_equal(got, want)
            got, _ = f(x[::-1], np.broadcast_to(y[:1], n))
            np.testing.assert_array_equal(got, f(x[::-1].copy(), y[0])[0])
    threads.set_num_threads(before)


@pytest.mark.needs_jit
def test_the_text_of_a_kernel_is_kept_and_reads_as_the_source(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path))
    loop("def element(x, weight): return x * weight + c(0.123)", "ff->f", np.float32)
    (path,) = tmp_path.glob("element-*.py")
    text = path.read_text()
    assert "x * weight + c(0.123)" in text
    assert "from numba import float32" in text


def test_inputs_may_have_any_name(rng):
    source = "def element(n, args, c, i, exp): return n + args * c(2.0) - exp(i) / c * exp"
    f = loop(source, "fffff->f", np.float64)
    n, args, c, i, exp = rng.standard_normal((5, 9))
    np.testing.assert_allclose(
        f(n, args, c, i, exp), n + args * 2 - np.exp(i) / c * exp, rtol=1e-14
    )
