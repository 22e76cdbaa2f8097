"""Calls joined into one of C: the same bits as one at a time, in their order, and no step more."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from minigrad.kernels import jit, linear, multiplying, threads
from minigrad.kernels.elementwise import loop
from minigrad.kernels.flat import Beside, Check, Joined, Update, all_below, joined
from minigrad.kernels.work import call

pytestmark = pytest.mark.needs_jit
F32, F64 = np.float32, np.float64
Array = np.ndarray


@pytest.fixture(autouse=True)
def native() -> None:
    if jit.mode() != "native":
        pytest.skip("calls are joined only where they are of compiled code")


def all_joined(calls: list[Any]) -> list[Any]:
    """The calls, of which none is left to Python."""
    found = joined(calls)
    assert all(isinstance(f, Joined) for f, _ in found), found
    return found


def run(calls: list[Any]) -> None:
    for f, arguments in calls:
        f(*arguments)


def same(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def laid_out(x: Array) -> list[Array]:
    """The same values in memory of several kinds."""
    rows = np.zeros((*x.shape[:-1], x.shape[-1] * 2), x.dtype)[..., ::2]
    rows[...] = x
    return [x, np.asfortranarray(x), rows, x[::-1].copy()[::-1]]


@pytest.mark.parametrize("dtype", [F32, F64])
def test_an_elementwise_loop_of_any_layout(rng: Any, dtype: Any) -> None:
    f = loop("def element(x, y): return tanh(x) * y + x", "ff->f", dtype)
    for shape in ((), (1,), (7,), (3, 5), (2, 1, 9), (4, 3, 2), (0, 3), (65, 33)):
        wide = rng.normal(size=(*shape, 1)).astype(dtype)[..., 0] if shape else np.ones((), dtype)
        others = [wide, wide[..., :1] if shape else wide, np.array(0.5, dtype)]
        for x, y in itertools.product(laid_out(wide) if shape else [wide], others):
            for out in laid_out(np.empty(shape, dtype)) if shape else [np.empty(shape, dtype)]:
                expected = f(x, y)
                run(all_joined([(f, (x, y, out))]))
                assert same(np.ascontiguousarray(out), np.ascontiguousarray(expected))


def test_an_elementwise_loop_of_masks_with_two_results(rng: Any) -> None:
    f = loop("def element(m, x): return select(m, x, -x), x * x", "bf->ff", F64)
    m, x = rng.random((5, 1)) < 0.5, rng.normal(size=(5, 70))
    outs = np.empty((5, 70)), np.empty((5, 70))
    run(all_joined([(f, (m, x, *outs))]))
    for out, expected in zip(outs, f(m, x), strict=True):
        assert same(out, expected)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (7, 5, 3), (64, 33, 17), (1, 40, 300), (20, 1, 9)])
def test_a_product_and_what_follows_it(rng: Any, dtype: Any, sizes: Any) -> None:
    m, k, n = sizes
    b, bias = rng.normal(size=(n, k)).astype(dtype).T, rng.normal(size=n).astype(dtype)
    a, y, again = rng.normal(size=(m, k)).astype(dtype), *np.empty((2, m, n), dtype)
    work = linear.add_to_rows_work(y, bias)
    f = loop("def element(x): return exp(x)", "f->f", dtype)
    calls = [(multiplying.product(a.dtype), (a, b, y)), call(work), (f, (y, again))]
    found = all_joined(calls)
    assert len(found) == 1
    for _ in range(3):
        a[...] = rng.normal(size=a.shape)
        run(found)
        assert same(y, multiplying.matmul(a, b) + bias)
        assert same(again, f(y))


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.float16, np.int32, F32, F64, np.int64])
def test_copies_of_any_layout(rng: Any, dtype: Any) -> None:
    for shape in ((1,), (6,), (3, 4), (2, 3, 5), (5, 1, 2), (0, 2)):
        x = rng.integers(0, 2, shape).astype(dtype)
        for source, to in itertools.product(laid_out(x), laid_out(np.zeros_like(x))):
            run(all_joined([(to.__setitem__, (..., source))]))
            assert (to == x).all()
    to, row = np.zeros((4, 3), dtype), np.ones(3, dtype)
    column = slice(None), 1
    run(all_joined([(to.__setitem__, (2, row)), (to.__setitem__, (column, np.zeros(1, dtype)))]))
    assert to.tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 1], [0, 0, 0]]


def test_zeros_and_arrays_beside_one_another(rng: Any) -> None:
    parts = [rng.normal(size=(3, n, 2)) for n in (1, 0, 4)]
    to, more = np.empty((3, 5, 2)), np.ones((4, 4), F32)
    run(all_joined([(np.concatenate, (parts, 1, to)), (more[1:3, ::2].fill, (0,))]))
    assert same(to, np.concatenate(parts, 1))
    assert more.sum() == 12
    assert not more[1:3, ::2].any()


@pytest.mark.parametrize("dtype", [F32, F64])
def test_a_sum_over_rows_is_numpys(rng: Any, dtype: Any) -> None:
    for shape in ((1, 2), (3, 7), (64, 1024), (129, 33)):
        x, y = rng.normal(size=shape).astype(dtype), np.empty((1, shape[1]), dtype)
        run(all_joined([(np.add.reduce, (x, 0, None, y, True))]))
        assert same(y, np.add.reduce(x, axis=0, keepdims=True))


def test_what_is_not_known_stays_a_call_between_the_others() -> None:
    x, y, seen = np.zeros(3), np.ones(3), []
    calls: list[Any] = [
        (x.__setitem__, (..., y)),
        (x.fill, (0,)),
        (lambda: seen.append(x.copy()), ()),
        (x.__setitem__, (..., np.ones(3, F32))),  # to be converted
        (x.__setitem__, (slice(0, 2), x[1:])),  # onto itself
        (x.__setitem__, (np.array([0]), y[:1])),  # no view
        (x.__setitem__, (True, np.ones(3))),  # nor this
        (np.add.reduce, (np.ones((4, 1)), 0, None, np.empty((1, 1)), True)),  # NumPy's own order
        (y.fill, (0,)),
    ]
    found = joined(calls)
    assert [isinstance(f, Joined) for f, _ in found] == [True, *[False] * 6, True]
    run(found)
    assert seen[0].tolist() == [0.0, 0.0, 0.0]
    assert (x.tolist(), y.tolist()) == ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0])


class Wrong(Exception):
    pass


def chain(x: Array, y: Array, z: Array) -> list[Any]:
    """y = tanh(x), z = x.T y: each reads what the one before has written."""
    tanh = loop("def element(x): return tanh(x)", "f->f", F64)
    return [(tanh, (x, y)), (multiplying.product(np.dtype(F64)), (x.T, y, z))]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_lists_that_need_nothing_of_one_another_run_at_once(count: int, rng: Any) -> None:
    x = rng.normal(size=(4, 40, 9))
    y, z = np.empty_like(x), np.empty((4, 9, 9))
    lists = [chain(x[k], y[k], z[k]) for k in range(4)]
    before = threads.get_num_threads()
    threads.set_num_threads(count)
    try:
        listed = all_joined([(y.fill, (0,)), (Beside(lists, []), ())])
        assert len(listed) == 1
        for turn in range(3):
            x *= 1.5
            run(listed)
            expected = np.empty_like(z)
            run([call for k in range(4) for call in chain(x[k], y[k], expected[k])])
            assert same(z, expected), turn
    finally:
        threads.set_num_threads(before)


@pytest.mark.parametrize("why", ["Python", "a check"])
def test_lists_of_more_than_calls_of_c_run_as_is_said_otherwise(why: str, rng: Any) -> None:
    x = rng.normal(size=(2, 40, 9))
    y, z = np.empty_like(x), np.empty((2, 9, 9))
    seen: list[str] = []
    first = (seen.append, ("first",))
    if why == "a check":
        first = (Check(np.zeros(1, np.int64), 0, raises), ())
    lists = [[first, *chain(x[0], y[0], z[0])], chain(x[1], y[1], z[1])]
    run(joined([(Beside(lists, [(seen.append, ("otherwise",))]), ())]))
    assert seen == ["otherwise"]


def raises() -> None:
    raise Wrong


@pytest.mark.parametrize("index", [[0, 1, 2], [0, -1], [3], [], [2, 5, 2]])
def test_an_index_out_of_range_ends_the_list_before_what_follows(index: list[int]) -> None:
    given, x, after = np.array(index, np.int64), np.zeros(2), []
    drive, table = numbers_of_a_table()
    update = Update(drive, table, lambda: table, lambda: after.append(1))
    calls = [*all_below(given, 3, raises), (x.__setitem__, (..., np.ones(2))), (update, ())]
    fine = all(0 <= i < 3 for i in index)
    if fine:
        run(all_joined(calls))
    else:
        with pytest.raises(Wrong):
            run(all_joined(calls))
    assert x.tolist() == ([1.0, 1.0] if fine else [0.0, 0.0])
    assert after == [1] * fine
    if index:
        found = all_joined(calls)
        given[:] = 0
        run(found)
        assert x.tolist() == [1.0, 1.0]


def numbers_of_a_table() -> tuple[Callable[..., Any], tuple[int, ...]]:
    """A compiled function and its arguments: y += 1 for three numbers."""
    y, bias = np.zeros((1, 3)), np.ones(3)
    f, arguments = call(linear.add_to_rows_work(y, bias))
    KEPT.append((y, bias, f, arguments))
    return f, arguments


KEPT: list[Any] = []


def test_an_update_has_the_arguments_of_its_own_run() -> None:
    rows, bias, said = [np.zeros((1, 3)) for _ in range(2)], np.ones(3), []
    works = [linear.add_to_rows_work(y, bias) for y in rows]
    given = [call(work)[1] for work in works]
    f = call(works[0])[0]
    turn = itertools.count()
    update = Update(f, given[0], lambda: given[next(turn) % 2], lambda: said.append("done"))
    found = all_joined([(rows[0].fill, (0,)), (update, ())])
    for _ in range(4):
        run(found)
    assert (rows[0].tolist(), rows[1].tolist()) == ([[0.0] * 3], [[2.0] * 3])
    assert said == ["done"] * 4


def test_work_for_the_threads_and_partial_functions(rng: Any) -> None:
    y, bias = np.zeros((5000, 40)), rng.normal(size=40)
    work = linear.add_to_rows_work(y, bias)
    assert work.parts > 1
    f, arguments = call(work)
    expected = np.zeros_like(y) + bias
    for count in (1, 2, 3):
        before = threads.get_num_threads()
        threads.set_num_threads(count)
        try:
            pool = threads.parallel_for, (work.kernel[work.entry], arguments[0], work.parts)
            for calls in ([(f, arguments)], [(partial(f, *arguments), ())], [pool]):
                y[...] = 0
                run(all_joined(calls))
                assert same(y, expected)
        finally:
            threads.set_num_threads(before)


def test_a_check_looks_at_the_last_word() -> None:
    job = np.array([9, 9, 0], np.int64)
    check = Check(job, 0, raises)
    found = all_joined([(check, ())])
    run(found)
    check()
    job[-1] = 1
    for each in (lambda: run(found), check):
        with pytest.raises(Wrong):
            each()


def test_a_check_that_raises_nothing_does_not_pass_in_silence() -> None:
    x, job = np.zeros(2), np.ones(1, np.int64)
    with pytest.raises(jit.KernelError, match="what follows has not run"):
        run(all_joined([(Check(job, 0, lambda: None), ()), (x.__setitem__, (..., np.ones(2)))]))
    assert x.tolist() == [0.0, 0.0]


def test_planted_a_wrong_stride_is_seen(monkeypatch: Any, rng: Any) -> None:
    from minigrad.kernels import flat as module

    merged = module._merged

    def wrong(shape: Any, strides: Any) -> Any:
        sizes, steps = merged(shape, strides)
        return sizes, [[*s[:-1], 0] if k == 0 else s for k, s in enumerate(steps)]

    monkeypatch.setattr(module, "_merged", wrong)
    with pytest.raises(AssertionError):
        test_copies_of_any_layout(rng, F64)
    with pytest.raises(AssertionError):
        test_an_elementwise_loop_of_any_layout(rng, F64)
