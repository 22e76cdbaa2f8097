"""Functions that LLVM does not inline: what each writes stays inside its caller's frame.

In processes of their own, where a crash is a failed test.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from minigrad.kernels.jit import LOOP

pytestmark = pytest.mark.needs_jit

# Small functions are inlined, and a store past a slot vanishes with the slot. Here none is.
APART = """
import ctypes, sys
from minigrad.kernels import compiler, jit
optimise = compiler._optimise
def apart(module, exported):
    for function in module.functions:
        if not function.is_declaration and function.name not in exported:
            function.add_function_attribute("noinline")
    return optimise(module, exported)
compiler._optimise = apart
"""


def run(code: str, folder: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MINIGRAD_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_each_type_of_result_comes_back_from_a_function_that_is_not_inlined(tmp_path):
    code = """
text = '''
from numba import int8, int32
from minigrad.kernels.memory import load, store, extent, ptr
def nothing(p):
    q = extent(p, 0, 8)
    store(q, 0, 2.5)
def byte(x): return int8(x + 1)
def half(x): return int32(x + 1)
def whole(x): return x + 1
def single(x): return x + x
def double(x): return x + x
def place(p): return p
'''
exports = {
    "nothing": "void(ptr)", "byte": "i8(i8)", "half": "i32(i32)", "whole": "i64(i64)",
    "single": "f32(f32)", "double": "f64(f64)", "place": "ptr(ptr)",
}
kernel = jit.build("results", text, exports)
slot = ctypes.c_double(0.0)
for _ in range(3):
    slot.value = 0.0
    assert kernel.function("nothing")(ctypes.addressof(slot)) is None and slot.value == 2.5
    for name in ("byte", "half", "whole"):
        assert [kernel.function(name)(x) for x in (-3, 0, 101)] == [-2, 1, 102], name
    for name in ("single", "double"):
        assert kernel.function(name)(1.25) == 2.5, name
    assert kernel.function("place")(12345) == 12345
"""
    run(APART + code, tmp_path)


def test_a_loop_of_numpy_that_is_not_inlined_says_that_all_is_well(tmp_path):
    code = f"""
import numpy as np
from minigrad.kernels import ufunc
text = '''
from numba import float64
from minigrad.kernels.memory import load, store, strided
def double(args, dims, steps):
    n = dims[0]
    x, y = strided(args[0], n, steps[0], 8), strided(args[1], n, steps[1], 8)
    for i in range(n):
        store(y, i * steps[1], 2.0 * load(x, i * steps[0], float64))
'''
kernel = jit.build("double", text, {{"double": {LOOP!r}}})
double = ufunc.ufunc("double", kernel["double"], "d->d")
for n in (0, 1, 7):
    assert (double(np.arange(float(n))) == 2 * np.arange(n)).all()
"""
    run(APART + code, tmp_path)


@pytest.mark.slow
def test_whatever_a_training_step_compiles_runs_the_same_when_nothing_is_inlined(tmp_path):
    # Equal for any order of sums: the gradients of a step in which the sums are of integers.
    code = """
import numpy as np, minigrad as mg
w = mg.tensor(np.arange(9.0).reshape(3, 3) % 4 - 1, requires_grad=True)
def cell(h, x):
    h = mg.maximum(h @ w + x, 0.0)
    return h, h
for shift in range(3):
    w.grad = None
    xs = np.arange(12.0).reshape(2, 2, 3) + shift
    mg.scan(cell, mg.tensor(np.ones((2, 3))), mg.tensor(xs)).ys.sum().backward()
    v, ones = w.numpy(), np.ones((2, 3))
    a1 = ones @ v + xs[0]; h1 = np.maximum(a1, 0)
    a2 = h1 @ v + xs[1]; g2 = (a2 > 0) * 1.0
    g1 = (1 + g2 @ v.T) * (a1 > 0)
    assert (w.grad.numpy() == h1.T @ g2 + ones.T @ g1).all(), shift
"""
    run(APART + code, tmp_path)
