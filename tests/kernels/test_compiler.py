"""From the text of a kernel to its address: entries, calls by address, errors, bounds checks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from minigrad.kernels import compiler, jit
from minigrad.kernels.ufuncs import LOOP, ufunc

pytestmark = pytest.mark.needs_jit
needs_native = pytest.mark.skipif(jit.mode() != "native", reason="of no use in checked kernels")

TOTALS = """\
import numpy as np
from numba import float64, int64, types

from minigrad.kernels.intrinsics import array, call, caller, row, stack

ask = caller(types.int64, types.int64, types.int64)


def total(p, n):
    x = array(p, n, float64)
    s = 0.0
    for i in range(n):
        s += x[i]
    return s


def squares(p, i):
    x = array(p, i + 1, float64)
    x[i] = x[i] ** 2


def each(f, p, n):
    for i in range(n):
        call(f, p, i)


def twice(f, n):
    return ask(f, n, 2)


def times(n, k):
    return n * k


def rows(p, m, n):
    a, sums = array(p, (m, n), np.float64), array(stack(16, np.float64), 16, np.float64)
    for i in range(m):
        x = row(a, i)
        sums[i] = 0.0
        for j in range(x.size):
            sums[i] += x[j]
    best = sums[0]
    for i in range(m):
        best = max(best, sums[i])
    return best
"""
ENTRIES = {
    "total": "float64(int64, int64)",
    "squares": "void(int64, int64)",
    "each": "void(int64, int64, int64)",
    "twice": "int64(int64, int64)",
    "times": "int64(int64, int64)",
    "rows": "float64(int64, int64, int64)",
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
def totals() -> compiler.Kernel:
    return compiler.build("totals", TOTALS, ENTRIES)


def test_entries_take_and_return_numbers_and_addresses(totals, rng):
    x = np.arange(1.0, 6.0)
    for n in (0, 1, 5):
        assert totals.function("total")(x.ctypes.data, n) == x[:n].sum()
    a = rng.standard_normal((3, 7))
    assert totals.function("rows")(a.ctypes.data, 3, 7) == pytest.approx(a.sum(1).max(), rel=1e-14)


def test_a_kernel_calls_others_by_address(totals):
    x = np.arange(1.0, 6.0)
    totals.function("each")(totals["squares"], x.ctypes.data, 5)
    np.testing.assert_array_equal(x, np.arange(1.0, 6.0) ** 2)
    assert totals.function("twice")(totals["times"], 21) == 42


def test_a_kernel_that_several_threads_ask_for_is_built_once(builds):
    start, found = threading.Barrier(4), []

    def ask() -> None:
        start.wait()
        text = "def twice(x):\n    return x + x\n"
        found.append(compiler.build("twice", text, {"twice": "float64(float64)"}))

    workers = [threading.Thread(target=ask) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(set(map(id, found))) == 1
    assert found[0].function("twice")(1.5) == 3.0


def test_what_numba_refuses_is_reported_with_the_place_of_the_text():
    text = "def f(x):\n    return x + undefined\n"
    with pytest.raises(jit.KernelError, match=r"refuses 'f' of kernel 'wrong' \(.*wrong-.*py"):
        compiler.build("wrong", text, {"f": "float64(float64)"})


def test_a_gufunc_loops_over_any_strides(rng):
    text = """\
from numba import float64, int64
from minigrad.kernels.intrinsics import array

def dot(context, args, dims, steps, auxiliary):
    at, n, step = array(args, 3, int64), array(dims, 2, int64), array(steps, 5, int64)
    for i in range(n[0]):
        s = 0.0
        for j in range(n[1]):
            x = array(at[0] + i * step[0] + j * step[3], 1, float64)[0]
            s += x * array(at[1] + i * step[1] + j * step[4], 1, float64)[0]
        array(at[2] + i * step[2], 1, float64)[0] = s
    return 0
"""
    if jit.mode() != "native":
        pytest.skip("NumPy calls C functions")
    dot = ufunc("dot", compiler.build("dot", text, {"dot": LOOP})["dot"], "dd->d", "(k),(k)->()")
    x, y = rng.standard_normal((4, 7)), rng.standard_normal((7, 4))
    for a, b in [(x, y.T), (x[:, ::-2], y.T[::-1, :4]), (x[0], y.T), (x[:, :0], x[:, :0])]:
        np.testing.assert_allclose(dot(a, b), (a * b).sum(-1), rtol=1e-12, atol=1e-12)


COPY = """
import numpy as np
from minigrad.kernels.compiler import build

text = '''
import numpy as np
from minigrad.kernels.intrinsics import array, row

def copy(p, q, m, n, more):
    x, y = array(p, (m, n), np.float32), array(q, (m, n), np.float32)
    for i in range(m):
        for j in range(n + more):
            row(y, i)[j] = row(x, i)[j]
'''
kernel = build("copy", text, {"copy": "void(int64, int64, int64, int64, int64)"})
x, y = np.arange(20, dtype=np.float32), np.zeros(24, np.float32)
for more in (0, 1):
    try:
        kernel.function("copy")(x.ctypes.data, y.ctypes.data, 4, 5, more)
        print(more, "ran", np.array_equal(y[:20], x))
    except IndexError as error:
        print(more, "refused", y[20:].any())
"""


@needs_native
@pytest.mark.parametrize("mode", ["NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"])
def test_an_access_outside_of_an_array_is_an_index_error_where_it_is_checked(mode):
    assert run(COPY, **{mode: "1"}).splitlines() == ["0 ran True", "1 refused False"]


@needs_native
def test_without_jit_the_text_runs_as_python_and_nothing_is_compiled():
    code = """
import numpy as np
from minigrad.kernels import compiler, elementwise
f = elementwise.loop("def element(x): return tanh(x)", "f->f", np.float64)
assert f(np.zeros(3)).tolist() == [0, 0, 0]
text = "def f(x):\\n    return x + type(x)(1)\\n"
kernel = compiler.build("f", text, {"f": "float64(float64)"})
print(kernel.function("f") is kernel.module.f, kernel.function("f")("x") if 0 else "")
"""
    assert run(code, NUMBA_DISABLE_JIT="1") == "True"


@needs_native
def test_a_build_that_has_a_title_is_told_of_where_somebody_reads_it(builds, monkeypatch, capsys):
    for factor, asked in ((3, "1"), (5, "0"), (7, "")):
        monkeypatch.setenv("MINIGRAD_PROGRESS", asked)
        text = f"def f(x):\n    return {factor} * x\n"
        for _ in range(2):  # what is found is not compiled
            compiler._kernels.clear()
            compiler.build("f", text, {"f": "int64(int64)"}, title=f"times {factor}")
    assert capsys.readouterr().err.startswith("compiling times 3, once: ")
    assert capsys.readouterr().err == ""


def test_the_text_of_a_kernel_is_kept_to_read(totals):
    assert totals.path.read_text() == TOTALS
    assert "totals" in repr(totals)
