"""The compiler behind all kernels: any C signature, calls by address, errors, bounds checks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from minigrad.kernels import jit
from minigrad.kernels.ufunc import ufunc

pytestmark = pytest.mark.needs_jit
needs_native = pytest.mark.skipif(jit.mode() != "native", reason="of no use in checked kernels")

TOTALS = """
from numba import float64
from minigrad.kernels.memory import address_of, extent, external, invoke, load, ptr, stack, store

cosh = external("cosh", "f64(f64)")

def total(p, n):
    x = extent(p, 0, 8 * n)
    s = 0.0
    for i in range(n):
        s += load(x, 8 * i, float64)
    return s

def squares(p, n):
    x = extent(p, 0, 8 * n)
    y = stack(64)
    for i in range(n):
        store(y, 8 * i, load(x, 8 * i, float64) ** 2)
    return invoke(address_of("total"), "f64(ptr, i64)", ptr(y), n)

def each(p, n, f):
    x = extent(p, 0, 8 * n)
    for i in range(n):
        store(x, 8 * i, invoke(f, "f64(f64)", load(x, 8 * i, float64)))

def catenary(x):
    return cosh(x) + OFFSET

def weight(a, b, c):
    return a * b + c
"""
EXPORTS = {
    "total": "f64(ptr, i64)",
    "squares": "f64(ptr, i64)",
    "each": "void(ptr, i64, ptr)",
    "catenary": "f64(f64)",
    "weight": "f32(f32, i32, i8)",
}


def run(code: str, **environment: str) -> str:
    """What a fresh Python prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def totals() -> jit.Kernel:
    return jit.build("totals", "OFFSET = 1.0\n" + TOTALS, EXPORTS)


def test_exports_take_and_return_numbers_and_addresses(totals):
    x = np.arange(1.0, 6.0)
    assert totals.function("total")(x.ctypes.data, 5) == 15.0
    assert totals.function("weight")(0.5, 6, -3) == 0.0


def test_a_kernel_calls_its_own_exports_other_kernels_and_the_c_library(totals):
    x = np.arange(1.0, 6.0)
    assert totals.function("squares")(x.ctypes.data, 5) == 55.0
    totals.function("each")(x.ctypes.data, 5, totals["catenary"])
    np.testing.assert_allclose(x, np.cosh(np.arange(1.0, 6.0)) + 1.0, rtol=1e-15)


def test_links_resolve_symbols_of_other_kernels(totals):
    text = (
        "from minigrad.kernels.memory import external\n"
        'total = external("test_total", "f64(ptr, i64)")\n'
        "def mean(p, n):\n"
        "    return total(p, n) / n\n"
    )
    kernel = jit.build("mean", text, {"mean": "f64(ptr, i64)"}, {"test_total": totals["total"]})
    x = np.arange(4.0)
    assert kernel.function("mean")(x.ctypes.data, 4) == 1.5
    with pytest.raises(jit.KernelError, match=r"refers to test_total; expected only"):
        jit.build("mean", text, {"mean": "f64(ptr, i64)"})


def test_a_python_function_is_a_source():
    def scaled(x):
        return x * FACTOR  # noqa: F821

    kernel = jit.build("scaled", jit.source(scaled, FACTOR=3.0), {"scaled": "f64(f64)"})
    assert kernel.function("scaled")(2.0) == 6.0


def test_a_gufunc_loops_over_any_strides(rng):
    text = (
        "from numba import float64\n"
        "from minigrad.kernels.memory import load, shift, store, strided\n"
        "def dot(args, dims, steps):\n"
        "    for j in range(dims[0]):\n"
        "        x = strided(shift(args[0], j * steps[0]), dims[1], steps[3], 8)\n"
        "        y = strided(shift(args[1], j * steps[1]), dims[1], steps[4], 8)\n"
        "        s = 0.0\n"
        "        for i in range(dims[1]):\n"
        "            s += load(x, i * steps[3], float64) * load(y, i * steps[4], float64)\n"
        "        store(strided(shift(args[2], j * steps[2]), 1, 0, 8), 0, s)\n"
    )
    kernel = jit.build("dot", text, {"dot": jit.LOOP})
    dot = ufunc("dot", kernel["dot"], "dd->d", "(k),(k)->()")
    x, y = rng.standard_normal((4, 7)), rng.standard_normal((7, 4))
    for a, b in [(x, y.T), (x[:, ::-2], y.T[::-1, :4]), (x[0], y.T), (x[:, :0], x[:, :0])]:
        np.testing.assert_allclose(dot(a, b), (a * b).sum(-1), rtol=1e-12, atol=1e-12)


def test_a_kernel_that_several_threads_ask_for_is_built_once(monkeypatch, tmp_path):
    from minigrad.kernels import compiler

    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path))
    original, built = compiler.compile_source, []

    def count(name: str, *rest: object) -> object:
        built.append(name)
        return original(name, *rest)

    monkeypatch.setattr(compiler, "compile_source", count)
    start, found = threading.Barrier(4), []

    def ask() -> None:
        start.wait()
        found.append(jit.build("twice", "def twice(x): return x + x", {"twice": "f64(f64)"}))

    workers = [threading.Thread(target=ask) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert built == ["twice"]
    assert len(set(map(id, found))) == 1
    assert found[0].function("twice")(1.5) == 3.0


def test_what_numba_refuses_is_reported_with_the_place_of_the_source():
    with pytest.raises(
        jit.KernelError, match=r"Numba refuses 'f' of kernel 'wrong' \(.*wrong-.*py"
    ):
        jit.build("wrong", "def f(x):\n    return x + undefined\n", {"f": "f64(f64)"})


@pytest.mark.parametrize("signature", ["f64", "void(float)", "string(ptr)", "void(ptr i64)"])
def test_a_bad_signature_is_refused(signature):
    with pytest.raises(jit.KernelError, match="expected a C signature like"):
        jit.parse_signature(signature)


def test_an_exception_in_a_kernel_is_raised_by_checked_kernels():
    text = (
        "def root(x):\n    if x < 0:\n        raise ValueError('negative')\n    return x ** 0.5\n"
    )
    root = jit.checked(jit.build("root", text, {"root": "f64(f64)"}).function("root"))
    assert root(4.0) == 2.0
    with pytest.raises(jit.KernelError, match=r"kernel root\.root: stopped by an exception"):
        root(-1.0)
    assert root(9.0) == 3.0


OUTSIDE = """
import numpy as np
from minigrad.kernels import jit
from minigrad.kernels.ufunc import ufunc

text = '''
from numba import float32
from minigrad.kernels.memory import extent, load, store, strided
from minigrad.kernels.lanes import load_lanes, store_lanes
from minigrad.kernels.simd import Vec

V = Vec(float32, 8)

def scalars(args, dims, steps):
    n = dims[0]
    x, y = strided(args[0], n, steps[0], 4), strided(args[1], n, steps[1], 4)
    for i in range(FIRST, n + MORE):
        store(y, i * steps[1], load(x, i * steps[0], float32))

def vectors(args, dims, steps):
    n = dims[0]
    x, y = strided(args[0], n, steps[0], 4), strided(args[1], n, steps[1], 4)
    for i in range(FIRST, n, 8):
        store_lanes(y, i, steps[1], n - i, load_lanes(x, i, steps[0], n + MORE - i, V))
'''
exports = {"scalars": jit.LOOP, "vectors": jit.LOOP}
x = np.arange(20, dtype=np.float32)
y = np.zeros(24, np.float32)
for first, more in ((0, 0), (0, 1), (-1, 0)):
    kernel = jit.build("copy", f"FIRST, MORE = {first}, {more}\\n" + text, exports)
    for name in exports:
        for step in (1, -1):
            copy = ufunc(name, kernel[name], "f->f")
            y[:] = 0
            try:
                copy(x[2:19][::step], y[2:19])
                print(name, first, more, "ran", np.array_equal(y[2:19], x[2:19][::step]))
            except IndexError as error:
                print(name, first, more, "refused", y[19] == 0 and y[1] == 0)
                message = error
print(message)
"""


@needs_native
def test_checked_kernels_stop_before_an_access_outside_of_an_extent():
    lines = run(OUTSIDE, NUMBA_BOUNDSCHECK="1").splitlines()
    ran = [f"{name} 0 0 ran True" for name in ("scalars",) * 2 + ("vectors",) * 2]
    after = [f"{name} 0 1 refused True" for name in ("scalars",) * 2 + ("vectors",) * 2]
    before = [f"{name} -1 0 refused True" for name in ("scalars",) * 2 + ("vectors",) * 2]
    assert lines[:-1] == ran + after + before
    assert lines[-1].startswith("kernel copy.vectors: expected accesses inside bytes [")


@needs_native
def test_without_jit_nothing_is_compiled_or_imported():
    code = """
import sys
import numpy as np
from minigrad.kernels import elementwise, jit
f = elementwise.loop("def element(x): return tanh(x)", "f->f", np.float64)
assert f(np.zeros(3)).tolist() == [0, 0, 0]
try:
    jit.build("k", "def f(x): return x", {"f": "f64(f64)"})
except jit.KernelError as error:
    print(error)
print("numba" in sys.modules, "llvmlite" in sys.modules)
"""
    message, imported = run(code, NUMBA_DISABLE_JIT="1").splitlines()
    assert "was asked for under NUMBA_DISABLE_JIT=1" in message
    assert imported == "False False"


def test_the_source_of_a_kernel_is_kept_to_read(totals):
    assert totals.path.read_text() == "OFFSET = 1.0\n" + TOTALS
    assert "totals" in repr(totals)
