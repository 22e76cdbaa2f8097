# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 19 Adding an op
#
# Everything minigrad can differentiate is made of ops, and an op is declared in one place. This
# page adds one that the package does not have, and then looks for it everywhere: on arrays, on the
# tape, in second derivatives, in a compiled cell, in a drawing. Then it shows what a *wrong* rule
# looks like, since that is what one has to be able to find.
#
# You need tutorials 17 and 18. Time: 20 minutes, and 50 for the exercises. Run it with
# `python tutorials/19_adding_an_op.py`.

# %%
import numpy as np

import minigrad as mg
from minigrad import scalar
from minigrad.kinds import elementwise
from minigrad.op import REGISTRY

# %% [markdown]
# ## One declaration
#
# `softsign(x) = x / (1 + |x|)` looks like tanh, but its ends are flat only like $1/x^2$, where
# tanh's are flat like $e^{-2x}$: a unit that is saturated enough passes more gradient. Its slope is
# $1/(1 + |x|)^2 = (1 - |y|)^2$, which needs the output only.
#
# The body is a formula for *one number*, from Python's operators and the functions of
# `minigrad.scalar`. The names of the rule's arguments say what it wants kept: `g` is the gradient
# of the output, `y` the output, and the inputs go by their own names.


# %%
@elementwise
def softsign(x):
    """y = x / (1 + |x|), from -1 to 1."""
    return x / (1.0 + scalar.abs(x))


@softsign.vjp("x")
def _(g, y):
    slope = 1.0 - mg.abs(y)
    return g * slope * slope


# %% [markdown]
# That was all. What came of it:

# %%
# on NumPy arrays and numbers
print("numbers and arrays:", softsign(1.0), softsign(np.array([-3.0, 0.5])))

# on Tensors, compiled, with a gradient, checked against central differences
mg.gradcheck(softsign, np.array([-2.0, -0.1, 0.3, 5.0]))
x = mg.tensor([-2.0, 0.3], requires_grad=True, name="x")
with mg.Tape() as tape:
    y = mg.sum(softsign(x))
y.backward()
print(tape)
mg.flow.show(mg.flow.draw(tape), "softsign.svg")
assert np.allclose(x.grad.numpy(), 1 / (1 + np.abs(x.numpy())) ** 2)

# twice: the rule is made of ops itself, so it can be differentiated
first = mg.grad(mg.sum(softsign(x)), x, create_graph=True)
second = mg.grad(mg.sum(first), x)
exact = -2 * np.sign(x.numpy()) / (1 + np.abs(x.numpy())) ** 3
assert np.allclose(second.numpy(), exact, rtol=1e-12)
print("second derivative:", second.numpy().round(4))

# %% [markdown]
# ## In a compiled cell
#
# `scan` knows nothing of softsign, and need not: it sees the formula. The loop forward holds it as
# a line, and the loop of BPTT its slope.

# %%
H = 8
rng = np.random.default_rng(0)
U = mg.tensor(rng.standard_normal((H, H)) / np.sqrt(H), requires_grad=True, name="U")


def cell(h, x, f=softsign):
    h = mg.tap("h", f(h @ U + x))
    return h, h


xs, init = mg.tensor(rng.standard_normal((60, 4, H))), mg.tensor(np.zeros((4, H)))
fused, tape_ = (mg.scan(cell, init, xs, mode=mode) for mode in ("fused", "tape"))
assert np.allclose(fused.ys.numpy(), tape_.ys.numpy(), rtol=1e-12)
formula = [line.strip() for line in fused.source.splitlines() if "abs(" in line and "=" in line]
assert formula
print("in the compiled loop:", *formula, sep="\n    ")

# %% [markdown]
# And does it do what we hoped for? Its slope has the longer tail, but near 0 it falls like
# $1 - 2|x|$, where tanh's falls like $1 - x^2$. Which of the two counts depends on how far out the
# units are pushed, so we push them, with inputs of 1 to 16 times the size:

# %%
rates = {}
for size in (1, 4, 16):
    for name, f in (("tanh", mg.tanh), ("softsign", softsign)):
        with mg.flow.record() as rec:
            final, _ = mg.scan(lambda h, x, f=f: cell(h, x, f), init, size * xs)
            mg.sum(final).backward()
        rates[name, size] = rec[""].verdict.rate
    print(f"inputs x{size:<2d} tanh keeps x{rates['tanh', size]:.3f} a step back, "
          f"softsign x{rates['softsign', size]:.3f}")  # fmt: skip
assert rates["softsign", 1] < rates["tanh", 1]
assert rates["softsign", 4] < rates["tanh", 4]
assert rates["softsign", 16] > rates["tanh", 16]

# %% [markdown]
# With inputs of ordinary size, and still with four times that, tanh loses *less*: most units are
# near enough to 0 for its flat top to count. Only where nearly all are pushed far out does the
# longer tail win. Measuring beats hoping.
#
# ## A wrong rule, and who finds it
#
# A rule with a small mistake trains, a little worse, and nobody notices. Two checks do:


# %%
@elementwise
def wrong(x):
    """y = x / (1 + |x|), with a slope that is wrong."""
    return x / (1.0 + scalar.abs(x))


@wrong.vjp("x")
def _(g, y):
    return g * (1.0 - mg.abs(y))  # the square is missing


try:
    mg.gradcheck(wrong, np.array([0.3, -2.0]))
except Exception as error:
    print("gradcheck:", str(error).splitlines()[0][:90])
else:
    raise AssertionError("gradcheck did not notice")

# a random projection needs two evaluations, whatever the size: <v, J u> by differences
point, u = rng.standard_normal(1000), rng.standard_normal(1000)
eps = 1e-6
measured = (wrong(point + eps * u) - wrong(point - eps * u)).sum() / (2 * eps)
t = mg.tensor(point, requires_grad=True)
claimed = float((mg.grad(mg.sum(wrong(t)), t).numpy() * u).sum())
print(f"along a random direction: measured {measured:.3f}, the rule says {claimed:.3f}")
assert abs(measured - claimed) > 1e-3

for name in ("softsign", "wrong"):
    del REGISTRY[name]  # the page leaves the package as it was

# %% [markdown]
# ## Inside the package
#
# The same declaration, put into a file of `minigrad/ops/`, its name into `ops/__init__.py` and its
# rule into the table of `ops/gradients.py`, as `softsign.vjp(x=lambda g, y: ...)`, is a public
# function with a Tensor method, and the tests find it by themselves: every op in the registry is
# checked against finite differences in both dtypes, twice differentiated, broadcast, with the
# sample inputs and the domain that ride on its declaration
# (`@elementwise(domain=(0.1, 5.0))`). Reductions, products and views are declared alike; see
# `CONTRIBUTING.md`.
#
# ## Exercises
#
# Hand in the declared op. To declare one once more, take the old one away first:
# `REGISTRY.pop("hardtanh", None)`.
#
# **1.** `hardtanh(x) = min(max(x, -1), 1)`: a tanh made of three lines. What is its slope at 1? Let
# it be 0 from there on.

# %% Check 1
from minigrad.lab.exercises import close, exercise


def slopes_of(op, *points):
    inputs = [mg.tensor(p, requires_grad=True) for p in points]
    found = mg.grad(mg.sum(op(*inputs)), inputs)
    return [g.numpy() for g in found]


@exercise("an op of one input")
def check_1(op):
    points = np.array([-3.0, -1.0, -0.9, 0.2, 1.0, 1.5])
    close(op(points), np.clip(points, -1, 1), "its values")
    close(slopes_of(op, points)[0], np.abs(points) < 1, "its slopes at -3, -1, -0.9, 0.2, 1, 1.5")
    g = mg.tensor(np.full(6, 3.0))
    z = mg.tensor(points, requires_grad=True)
    close(mg.grad(op(z), z, grad_output=g), 3.0 * (np.abs(points) < 1), "3 times the slopes")


# %%
check_1(...)

# %% [markdown]
# **2.** Two inputs, two rules: `hypot(a, b)` is $\sqrt{a^2 + b^2}$. Both rules may read the output.
# What should they say at (0, 0), where there is no slope? Let it be 0, as PyTorch has it.


# %% Check 2
@exercise("an op of two inputs")
def check_2(op):
    a, b = np.array([3.0, -1.0, 0.0]), np.array([4.0, 0.5, -2.0])
    close(op(a, b), np.sqrt(a * a + b * b), "its values")
    mg.gradcheck(op, a, b, full=True)
    zero = np.zeros(1)
    for name, slope in zip("ab", slopes_of(op, zero, zero), strict=True):
        close(slope, [0.0], f"its slope by {name} at (0, 0)")
    close(slopes_of(op, np.ones((2, 1)), np.ones(3))[1], np.full(3, 2 / np.sqrt(2)),
          "the gradient of b (3,), beside a (2, 1)")  # fmt: skip


# %%
check_2(...)

# %% [markdown]
# **3.** A formula that is right on paper: `log1mexp(x)` is $\log(1 - e^{-x})$ for x > 0, the log
# probability of "not". Written like this, it loses all digits for small x, and says 0 too soon for
# large x. Declare it to twelve digits at both ends, value *and* slope, $1/(e^x - 1)$. `scalar` has
# `log1p`, `expm1` and `where(condition, x, y)`; a rule is written with `mg.`


# %% Check 3
@exercise("an op of one input x > 0")
def check_3(op):
    import decimal

    with decimal.localcontext(prec=200):
        for x in (1e-15, 1e-6, 0.3, 1.0, 40.0, 300.0):
            e = (-decimal.Decimal(x)).exp()
            value, slope = float((1 - e).ln()), float(e / (1 - e))
            close(op(np.array([x])), [value], f"log(1 - e^-x) at {x}", rtol=1e-12, atol=0.0)
            mine = slopes_of(op, np.array([x]))[0]
            close(mine, [slope], f"its slope at {x}", rtol=1e-12, atol=0.0)
    mg.gradcheck(op, np.array([0.1, 0.9, 3.0]))


# %%
check_3(...)

# %% [markdown]
# ## Solutions


# %% Solution 1
# At 1 it has no slope: 1 from one side and 0 from the other. A rule has to choose.
@elementwise
def hardtanh(x):
    """y = min(max(x, -1), 1)"""
    return scalar.minimum(scalar.maximum(x, -1.0), 1.0)


@hardtanh.vjp("x")
def _(g, y):
    return mg.where(mg.abs(y) < 1.0, g, 0.0)


check_1(hardtanh)


# %% Solution 2
# a / y is 0 / 0 at the origin. `where` alone would not do: its other branch is computed as well,
# and 0 times NaN is NaN, so the divisor is made harmless first.
@elementwise
def hypot(a, b):
    """y = sqrt(a^2 + b^2)"""
    return scalar.sqrt(a * a + b * b)


@hypot.vjp("a")
def _(g, y, a):
    return g * a / mg.where(y > 0.0, y, 1.0)


@hypot.vjp("b")
def _(g, y, b):
    return g * b / mg.where(y > 0.0, y, 1.0)


check_2(hypot)


# %% Solution 3
# Small x: 1 - e^-x is -expm1(-x), with all of its digits. Large x: e^-x is tiny, and log1p keeps
# it. The body is about numbers and becomes machine code, so it uses `scalar`; the rule is about
# Tensors and is recorded, so that it has a derivative of its own: it uses `mg`.
@elementwise(domain=(0.01, 5.0))
def log1mexp(x):
    """y = log(1 - e^-x)"""
    large = scalar.log1p(-scalar.exp(-x))
    return scalar.where(x < 0.7, scalar.log(-scalar.expm1(-x)), large)


@log1mexp.vjp("x")
def _(g, x):
    return g / mg.expm1(x)


check_3(log1mexp)
for name in ("hardtanh", "hypot", "log1mexp"):
    del REGISTRY[name]

# %% [markdown]
# ## Sources
#
# X. Glorot, Y. Bengio, ["Understanding the difficulty of training deep feedforward neural
# networks"](https://proceedings.mlr.press/v9/glorot10a.html) (2010), for softsign. Declaring
# gradients in terms of outputs: PyTorch's
# [`derivatives.yaml`](https://github.com/pytorch/pytorch/blob/main/tools/autograd/derivatives.yaml).
# The projection check: [HIPS autograd](https://github.com/HIPS/autograd). Exercise 3: M. Mächler,
# ["Accurately computing log(1 - exp(-|a|))"](https://cran.r-project.org/package=Rmpfr) (2012), a
# vignette of the R package Rmpfr.
