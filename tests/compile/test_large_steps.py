"""Steps of hundreds of ops and deep cells: in processes of their own, where a crash is a failure.

Each prints a gradient; it is compared with a closed form or with central differences of the loss.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.needs_jit, pytest.mark.slow]

START = """
import sys
import numpy as np, minigrad as mg
from minigrad import nn
rng = np.random.default_rng(0)

def parameter(*shape):
    return mg.tensor(rng.normal(size=shape) * 0.4, requires_grad=True)

def close_to_differences(value, ps, gradients, eps=1e-5):
    '''Along one direction through all of ps at once.'''
    ways = [rng.normal(size=p.shape) for p in ps]
    def moved(far):
        return value([mg.tensor(p.numpy() + far * w, requires_grad=True)
                      for p, w in zip(ps, ways)])
    numeric = (8 * (moved(eps) - moved(-eps)) - moved(2 * eps) + moved(-2 * eps)) / (12 * eps)
    exact = sum((g.numpy() * w).sum() for g, w in zip(gradients, ways))
    assert abs(numeric - exact) <= 1e-6 * max(1.0, abs(exact)), (numeric, exact)
"""


def run(code: str, *arguments: object, prelude: str = "") -> None:
    done = subprocess.run(
        [sys.executable, "-c", START + prelude + code, *map(str, arguments)],
        env={**os.environ},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


CHAIN = """
n = int(sys.argv[1])
def cell(h, x):
    for _ in range(n):
        h = h * 0.75 + w * x
    return h, h
for shift in range(3):
    w = mg.tensor(np.array([0.5, -1.25, 2.0]), requires_grad=True)
    xs = rng.normal(size=(2, 1, 3))
    init = mg.tensor(np.ones((1, 3)), requires_grad=True)
    mg.scan(cell, init, mg.tensor(xs)).ys.sum().backward()
    part = sum(0.75**k for k in range(n))  # h becomes 0.75^n h + part w x
    expected = part * (xs[0] * (1 + 0.75**n) + xs[1])[0]
    np.testing.assert_allclose(w.grad.numpy(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(init.grad.numpy(), 0.75**n + 0.75 ** (2 * n), rtol=1e-12, atol=1e-12)
"""


@pytest.mark.parametrize("ops", [51, pytest.param(200, marks=pytest.mark.long)])
def test_a_step_may_be_a_long_chain_of_ops(ops):
    run(CHAIN, ops)


DEEP = """
depth = int(sys.argv[1])
W, init, xs = parameter(5, 3), parameter(2, 3), parameter(2, 2, 3)
def value(ps, mode="tape"):
    W, init, xs = ps
    def cell(h, x):
        for k in range(depth):
            g = mg.sigmoid(h * W[k % 5] + x)
            h = g * h + (1 - g) * mg.tanh(h - mg.mean(h, axis=-1, keepdims=True))
            h = h / mg.sqrt(mg.mean(h * h, axis=-1, keepdims=True) + 0.1)
        return h, h
    return mg.scan(cell, init, xs).ys.sum()
ps = [W, init, xs]
gradients = mg.grad(value(ps), ps)
close_to_differences(lambda ps: value(ps).item(), ps, gradients)
"""


@pytest.mark.parametrize("depth", [3, pytest.param(10, marks=pytest.mark.long)])
def test_a_step_may_have_sub_steps(depth):
    run(DEEP, depth)


STACKED = """
depth = int(sys.argv[1])
cells = [nn.LSTMCell(3, 3, generator=rng) for _ in range(depth)]
for cell in cells:
    cell.to("float64")
def step(states, x):
    new = []
    for cell, state in zip(cells, states):
        state, x = cell(state, x)
        new.append(state)
    return tuple(new), x
init, xs = parameter(2, 3), parameter(2, 2, 3)
def value(ps):
    h, xs = ps
    return mg.scan(step, tuple(nn.LSTMState(h, h) for _ in cells), xs).ys.sum()
ps = [init, xs]
close_to_differences(lambda ps: value(ps).item(), ps, mg.grad(value(ps), ps))
"""


@pytest.mark.parametrize("depth", [3, pytest.param(6, marks=pytest.mark.long)])
def test_lstm_cells_may_be_stacked_in_one_step(depth):
    run(STACKED, depth)


MEMORY = """
B, T, m, n, H = 2, 2, 3, 2, 3
shapes = [(T, B, 3), (B, H), (B, m, n), (B, m), (H, n), (H, n), (3, H), (H, H), (H, 1), (n, H)]
ps = [parameter(*shape) for shape in shapes]
def gradients(ps):
    x, h0, M0, u0, K, A, U, V, G, R = ps
    def read(M, p):
        return mg.sum(p[:, :, None] * M, axis=1)
    def step(state, x):
        h, M, u = state
        h = mg.tanh(x @ U + h @ V + read(M, u) @ R)
        q = mg.tanh(h @ K)
        size = mg.sum(M * M, axis=2) * mg.sum(q * q, axis=1, keepdims=True)
        score = mg.sum(M * q[:, None, :], axis=2) / mg.sqrt(size + 1e-2)
        p, g = mg.softmax(mg.softplus(h @ G) * score, axis=-1), mg.sigmoid(h @ G)
        p = g * p + (1 - g) * u
        outer = lambda a, b: a[:, :, None] * b[:, None, :]
        M = M * (1 - outer(p, mg.sigmoid(h @ A))) + outer(p, mg.tanh(h @ A))
        return (h, M, p), mg.concatenate([h, read(M, p)], axis=-1)
    loss = (mg.scan(step, (h0, M0, u0), x).ys ** 2).sum()
    return mg.grad(loss, ps, create_graph=True)
def value(ps):
    return sum(float(g.numpy().sum()) for g in gradients(ps))
second = mg.grad(sum((g.sum() for g in gradients(ps)), mg.tensor(0.0)), ps)
close_to_differences(value, ps, second)
"""


@pytest.mark.long
def test_the_second_derivative_of_a_cell_with_a_memory_is_right():
    run(MEMORY)


# A kernel runs on the stack of the thread that calls it, and Numba compiles on that stack too.
SMALL_STACK = """
import threading
threading.stack_size(256 * 1024)
failed = []
def work():
    try:
        exec(compile(TEXT, "step", "exec"), globals())
    except BaseException as error:
        failed.append(error)
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert not failed, failed
"""


def test_a_large_step_runs_in_a_thread_with_a_small_stack():
    run(CHAIN, 101)  # compiled here
    run(SMALL_STACK, 101, prelude=f"TEXT = {CHAIN!r}\n")
