# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 17 From a scalar rule to a Numba kernel
#
# Where do the ops of tutorial 02 come from? Each is declared once, as a formula for *one number*
# with the slope beside it. From that one declaration minigrad makes the loop over an array, the
# loop of the gradient, the entry in a compiled network, the label in a drawing, and the second
# derivative. This page follows a formula down to the machine.
# Run it with `python tutorials/17_from_rule_to_kernel.py`.

# %%
import inspect
import time

import numpy as np

import minigrad as mg
from minigrad.op import REGISTRY
from minigrad.ops import activations, gradients

# %% [markdown]
# ## One declaration
#
# This is all there is about `tanh` in minigrad:

# %%
declared = inspect.getsource(activations)
start = declared.rindex("@elementwise", 0, declared.index("def tanh"))
print(declared[start : declared.index("@", start + 1)].rstrip())
rules = inspect.getsource(gradients).splitlines()
print(next(line for line in rules if line.startswith("tanh.vjp")))
print(f"\n{len(REGISTRY)} ops are declared in this way")

# %% [markdown]
# The function is the value, the line below it the **vjp** (vector-Jacobian product): given the
# gradient `g` of the output, what is the gradient of the input? The slope of tanh is `sech2(x)`, an
# op like tanh itself: $1 - y^2$ would be 0 as soon as $y$ rounds to 1.
#
# ## Why Python alone will not do
#
# The same formula as a Python loop, as NumPy expressions, and as minigrad's compiled loop:

# %%
n = 200_000
x = np.random.default_rng(0).standard_normal(n)
g = np.ones(n)


def python_loop(x, g):
    import math

    out = [0.0] * len(x)
    for i in range(len(x)):
        y = math.tanh(x[i])
        out[i] = g[i] * (1 - y * y)
    return np.array(out)


def numpy_expressions(x, g):
    y = np.tanh(x)  # every operation is a pass over memory of its own
    return g * (1 - y * y)


def minigrad_op(x, g):
    t = mg.tensor(x, requires_grad=True)
    return mg.grad(mg.tanh(t), t, grad_output=g).numpy()


def milliseconds(f, *args):
    f(*args)  # compiled and in the cache
    times = []
    for _ in range(5):
        started = time.perf_counter()
        f(*args)
        times.append(time.perf_counter() - started)
    return 1e3 * min(times)


expected = numpy_expressions(x, g)
for f in (python_loop, numpy_expressions, minigrad_op):
    assert np.allclose(f(x, g), expected, rtol=1e-12)
    print(f"{f.__name__:18s} {milliseconds(f, x, g):8.2f} ms")

# %% [markdown]
# The Python loop spends its time on *being Python*: each number is an object. NumPy's passes are
# compiled, but each reads and writes all of memory, and `1 - y * y` alone is two passes.
#
# ## What the compiler sees
#
# Numba turns a Python function on numbers into machine code through LLVM. minigrad writes such a
# function for each op. For a cell it does more: the whole step, dozens of ops, becomes a few loops
# in one function, so that a value is used while it is still in a register. Here is a step that we
# will meet again as the leaky unit of tutorial 18:


# %%
def step(h, x):
    h = 0.9 * h + 0.1 * mg.tanh(x + h)
    return h, h


init, xs = mg.tensor(np.zeros((2, 3))), mg.tensor(np.ones((5, 2, 3)))
result = mg.scan(step, init, xs)
text = result.source
print(text[text.index("def ") :].split('"""scan')[0])
mg.flow.show(mg.flow.draw(result, title="a leaky step"), "leaky-step.svg")

# %% [markdown]
# It is Python that one can read (`mg.flow.draw` shows the same step as a picture): `units` is the
# step, for the units of one row of the batch, all five operations in a line or two; `shard` calls
# it for every step and row. Nothing of it was written by hand. Numba compiles it, and its file is
# kept in a folder (`minigrad cache` lists it), under a name that is a hash of its content, so the
# next process starts with machine code. With `NUMBA_DISABLE_JIT=1` the same file runs as plain
# Python: a debugger steps through it.
#
# ## The price: numbers that are not real numbers
#
# A kernel computes in float32 or float64, and a formula that is right on paper can be wrong there.
# $\tanh x = 1 - 2/(e^{2x} + 1)$ is one of them: near 0 it subtracts two numbers that are almost
# equal.

# %%
tiny = 1e-9
naive = 1 - 2 / (np.exp(2 * tiny) + 1)
print(f"tanh(1e-9): naive {naive:.10e}, minigrad {mg.tanh(tiny).item():.10e}")
assert abs(naive - tiny) / tiny > 1e-8
assert abs(mg.tanh(tiny).item() - tiny) / tiny < 1e-15

# %% [markdown]
# ## Exercises
#
# 1. How many passes over memory does NumPy need for `g * (1 - y * y)`, and how many bytes does it
#    read and write for each element?
# 2. `log(1 + exp(x))` (softplus) overflows for large `x`. Find a formula that does not.
# 3. Declare an op `cube` outside of minigrad, with its vjp, and check its gradient.
#
# ## Solutions

# %%
# 1. Three operations, so three passes: y*y reads 8 bytes (twice the same) and writes 8; 1 - . reads
#    8, writes 8; g * . reads 16, writes 8. Together 56 bytes; one pass would read 16 and write 8.
# 2. log(1 + e^x) = max(x, 0) + log(1 + e^-|x|): the exponent is never positive.
big = 1000.0
stable = max(big, 0.0) + np.log1p(np.exp(-abs(big)))
assert stable == mg.softplus(big).item() == 1000.0

# 3. Tutorial 19 goes through it; the short form:
from minigrad.kinds import elementwise


@elementwise
def cube(x):
    """y = x^3"""
    return x * x * x


@cube.vjp("x")
def _(g, y, x):
    return 3.0 * g * x * x


mg.gradcheck(cube, np.array([0.5, -2.0, 3.0]))
t = mg.tensor(2.0, requires_grad=True)
assert mg.grad(cube(t), t).item() == 12.0
del REGISTRY["cube"]  # so that the page can run twice

# %% [markdown]
# ## Sources
#
# S. K. Lam, A. Pitrou, S. Seibert, "Numba: a LLVM-based Python JIT compiler" (2015). C. Lattner, V.
# Adve, "LLVM" (2004). J.-M. Muller, *Elementary Functions* (2016), for the numerics. N. J. Higham,
# *Accuracy and Stability of Numerical Algorithms* (2002), chapter 1.
