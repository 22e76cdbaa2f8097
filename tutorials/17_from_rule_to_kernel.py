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
#
# You need tutorial 02. Time: 15 minutes, and 40 for the exercises. Run it with
# `python tutorials/17_from_rule_to_kernel.py`.

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
# it for every step and row. `H`, the number of units, is a word that the loop is called with, as
# `T` and `B` are: one kernel does for all sizes. Nothing of it was written by hand. Numba compiles
# it, and its file is kept in a folder (`minigrad cache` lists it), under a name that is a hash of
# its content, so the next process starts with machine code. With `NUMBA_DISABLE_JIT=1` the same
# file runs as plain Python: a debugger steps through it.
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
# **1.** How many bytes does NumPy read and write, for each element of float64, to compute
# `g * (1 - y * y)`? Each operation is a pass of its own; an array that it reads twice is counted
# once, and numbers like 1 not at all. (One pass for all of it would read 16 and write 8.)

# %% Check 1
from minigrad.lab.exercises import close, exercise


class Counted(np.ndarray):
    """An array that counts the bytes of what NumPy's operations read and write."""

    moved = 0

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        plain = [i.view(np.ndarray) if isinstance(i, Counted) else i for i in inputs]
        result = np.asarray(getattr(ufunc, method)(*plain, **options))
        read = {id(i): i.nbytes for i in inputs if isinstance(i, np.ndarray)}
        Counted.moved += sum(read.values()) + result.nbytes
        return result.view(Counted)


@exercise("a number of bytes")
def check_1(count):
    gs, ys = (np.ones(1000).view(Counted) for _ in range(2))
    Counted.moved = 0
    gs * (1 - ys * ys)
    close(count, Counted.moved / 1000, "bytes for each element")
    return "More than twice as many as it takes."


# %%
check_1(...)

# %% [markdown]
# **2.** `log(1 + exp(x))`, called softplus, overflows for large x, and for very negative x it says
# 0 too soon. Hand in a function of one number that gets it right to twelve digits everywhere, with
# Python's `math` alone.


# %% Check 2
@exercise("a function: a float x -> log(1 + e^x)")
def check_2(softplus):
    import decimal

    with decimal.localcontext(prec=400):
        for x in (0.0, 1.0, -1.0, 36.0, -40.0, 700.0, -700.0, 5000.0):
            true = float((decimal.Decimal(x).exp() + 1).ln())
            close(softplus(x), true, f"softplus({x})", rtol=1e-12, atol=0.0)
            close(mg.softplus(x).item(), true, f"minigrad's softplus({x})", rtol=1e-12, atol=0.0)
    return "And so does minigrad's."


# %%
check_2(...)

# %% [markdown]
# **3.** Declare an op of your own: `bump(x)` is $e^{-x^2}$. Hand in the declared op, with its vjp.
# Which is cheaper to keep, the input, the output, or both? (To declare it once more, take the old
# one away first: `REGISTRY.pop("bump", None)`. `scalar.exp` of `minigrad` is the exponential of one
# number.)


# %% Check 3
@exercise("an op: a function under @elementwise, with a vjp")
def check_3(bump):
    points = np.array([0.5, -2.0, 0.0, 3.0])
    close(bump(points), np.exp(-(points**2)), "its values")
    mg.gradcheck(bump, points)
    z = mg.tensor(points, requires_grad=True)
    slope = mg.grad(mg.sum(bump(z)), z, create_graph=True)
    curvature = mg.grad(mg.sum(slope), z)
    close(curvature, (4 * points**2 - 2) * np.exp(-(points**2)), "its second derivative")
    start, steps = mg.tensor(np.zeros((2, 3))), mg.tensor(np.ones((5, 2, 3)))
    ends = [mg.scan(lambda h, x: (bump(h + x),) * 2, start, steps, mode=m)[0].numpy()
            for m in ("fused", "tape")]  # fmt: skip
    close(ends[0], ends[1], "a compiled loop that uses it")


# %%
check_3(...)

# %% [markdown]
# ## Solutions

# %% Solution 1
# Three passes: y * y reads 8 bytes and writes 8, 1 - . reads 8 and writes 8, g * . reads 16 and
# writes 8.
check_1(16 + 16 + 24)


# %% Solution 2
# log(1 + e^x) = max(x, 0) + log(1 + e^-|x|): the exponent is never positive, and log1p keeps what
# 1 + e^-|x| would round away.
def softplus(x):
    import math

    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


check_2(softplus)

# %% Solution 3
# The slope is -2 x e^(-x^2) = -2 x y: it reads both. Computing y once more from x would save
# memory, and cost an exponential.
from minigrad import scalar
from minigrad.kinds import elementwise


@elementwise
def bump(x):
    """y = e^(-x^2)"""
    return scalar.exp(-x * x)


@bump.vjp("x")
def _(g, y, x):
    return -2.0 * g * x * y


check_3(bump)
del REGISTRY["bump"]  # so that the page can run twice

# %% [markdown]
# ## Sources
#
# S. K. Lam, A. Pitrou, S. Seibert, ["Numba: a LLVM-based Python JIT
# compiler"](https://doi.org/10.1145/2833157.2833162) (2015). C. Lattner, V. Adve,
# ["LLVM"](https://doi.org/10.1109/CGO.2004.1281665) (2004). J.-M. Muller, *Elementary Functions*
# (2016), for the numerics. N. J. Higham, [*Accuracy and Stability of Numerical
# Algorithms*](https://doi.org/10.1137/1.9780898718027) (2002), chapter 1.
