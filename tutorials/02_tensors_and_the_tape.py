# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 02 Tensors and the tape, printed and drawn
#
# Tutorial 01 kept a tape for single numbers. An array is many numbers that are treated alike, so
# one line of the tape now stands for thousands of them. This page shows what a `Tensor` is, what
# minigrad writes down about it, how that record runs backwards, and what it costs.
#
# You need tutorial 01. Time: 15 minutes, and 30 for the exercises. Run it with
# `python tutorials/02_tensors_and_the_tape.py`.

# %%
import numpy as np

import minigrad as mg

# %% [markdown]
# ## A Tensor is an array that remembers where it came from
#
# `requires_grad=True` marks what we want derivatives for. What is computed from it has a node: the
# op that made it, and what it was made from.

# %%
x = mg.tensor([[1.0, -2.0, 0.5]], name="x")  # (B, I) = (1, 3)
W = mg.tensor(np.linspace(-0.5, 0.5, 6).reshape(3, 2), requires_grad=True, name="W")
b = mg.tensor([0.1, -0.1], requires_grad=True, name="b")

with mg.Tape() as tape, mg.scope("layer"):
    h = mg.tanh(x @ W + b)
    loss = mg.sum(h * h)

print(tape)

# %% [markdown]
# Read it like the list of tutorial 01: a line has a number, an op, the lines it reads, and the
# shape of what came out. `layer` is the scope it ran in. `kept` is what the way back will need:
# `matmul` keeps `x` (the gradient of `W` reads it), `add` nothing, `tanh` its input. `multiply`
# names its two inputs, 32 bytes, but they are one array: in the sum below the table it counts once.
#
# ## Backwards, with matrices
#
# For single numbers the rule of a product was $g_a = g_y b$. For $Y = XW$ it is the same with the
# shapes put right, and there is only one way to put them right:
#
# $$ \frac{\partial L}{\partial X} = G W^\top \qquad \frac{\partial L}{\partial W} = X^\top G
#   \qquad G = \frac{\partial L}{\partial Y} $$
#
# An added bias was *repeated* for every row of the batch, so its gradient is the *sum* over rows.
# We do it by hand, then ask the tape.

# %%
y = h.numpy()
g_h = 2 * y  # of sum(h * h)
g_a = g_h * (1 - y**2)  # of tanh
by_hand = {"W": x.numpy().T @ g_a, "b": g_a.sum(axis=0)}

loss.backward()
for name, leaf in (("W", W), ("b", b)):
    print(f"d loss / d {name} =", np.array2string(leaf.grad.numpy(), precision=4).replace("\n", ""))
    assert np.allclose(leaf.grad.numpy(), by_hand[name], rtol=1e-14)

# %% [markdown]
# ## Drawn
#
# The same record as a graph, every node with its value and its gradient. It reads
# from left to right, and each arrow is one number in one column of the table above.

# %%
mg.flow.show(mg.flow.draw(tape), "tape.svg")

# %% [markdown]
# ## A check that needs no calculus
#
# A gradient says how the loss moves if an input moves: $L(W + \epsilon D) - L(W - \epsilon D)
# \approx 2 \epsilon \langle \nabla L, D\rangle$ for any direction $D$. Two evaluations check a
# million derivatives at once, along one direction. `mg.gradcheck` does it, too, for a direction of
# its own; with `full=True` it goes through the derivatives one by one.

# %%
rng = np.random.default_rng(0)
D = rng.standard_normal(W.shape)


def loss_at(weights):
    return float((np.tanh(x.numpy() @ weights + b.numpy()) ** 2).sum())


eps = 1e-6
measured = (loss_at(W.numpy() + eps * D) - loss_at(W.numpy() - eps * D)) / (2 * eps)
predicted = float((W.grad.numpy() * D).sum())
print(f"along a random direction: measured {measured:.8f}, predicted {predicted:.8f}")
assert abs(measured - predicted) < 1e-8
for full in (False, True):
    mg.gradcheck(lambda w: mg.sum(mg.tanh(x @ w + b) ** 2), W.numpy(), full=full)

# %% [markdown]
# ## What a backward pass leaves behind
#
# By default the tape is used up: what was kept is freed as the walk passes it. Gradients *add up*
# in `.grad`, since a weight may serve in two losses; `zero_grad` of an optimiser empties it.

# %%
before = W.grad.numpy().copy()
mg.sum(mg.tanh(x @ W + b) ** 2).backward()
assert np.allclose(W.grad.numpy(), 2 * before)
print("after a second backward pass the gradient has doubled")

# Derivatives as values, with .grad left alone; and of the derivative once more:
slope = mg.grad(mg.sum(mg.tanh(W) ** 2), W, create_graph=True)
curvature = mg.grad(mg.sum(slope), W)
t = np.tanh(W.numpy())
assert np.allclose(curvature.numpy(), 2 * (1 - t**2) * (1 - 3 * t**2))

# %% [markdown]
# What was kept must still be what it was. An array that the way back will read, edited between the
# forward and the backward pass, would give a wrong gradient; minigrad refuses instead:

# %%
squares = mg.sum(W * W)
with mg.no_grad():
    W[0] = 1.0
try:
    squares.backward()
except mg.GradientError as error:
    print("refused:", str(error).splitlines()[0][:80], "...")
else:
    raise AssertionError("the edit went unnoticed")

# %% [markdown]
# ## Exercises
#
# Put your answers in place of the dots (tutorial 01 says how).
#
# **1.** The backward pass of a layer, $Y = XW + b$: hand in a function `(X, W, G)` that gives the
# three gradients $(\partial L/\partial X, \partial L/\partial W, \partial L/\partial b)$ for
# $G = \partial L/\partial Y$, as NumPy arrays, for any number of rows.

# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise("a function (X, W, G) -> (dX, dW, db)")
def check_1(backward):
    for rows in (1, 4):
        X, G = rng.standard_normal((rows, 3)), rng.standard_normal((rows, 2))
        found = backward(X, W.numpy(), G)

        def loss(X, W, b, G=G):
            return float(((X @ W + b) * G).sum())

        at = [X, W.numpy().copy(), b.numpy().copy()]
        for k, name in enumerate(("dX", "dW", "db")):
            measured = np.zeros(at[k].shape)
            for place in np.ndindex(measured.shape):
                up, down = ([a.copy() for a in at] for _ in range(2))
                up[k][place], down[k][place] = at[k][place] + 1e-3, at[k][place] - 1e-3
                measured[place] = (loss(*up) - loss(*down)) / 2e-3
            close(found[k], measured, f"{name} for {rows} rows", rtol=1e-6, atol=1e-9)


# %%
check_1(...)

# %% [markdown]
# **2.** Say it before you look: which of `exp`, `log`, `relu` and the square `x * x` keep their
# input for the way back, which their output? Hand in a dictionary such as `{"exp": "input", ...}`
# with the keys exp, log, relu, square. (What can be told from the output need not be kept twice.)


# %% Check 2
@exercise('a dictionary {"exp": "input" or "output", "log": ..., "relu": ..., "square": ...}')
def check_2(guess):
    ops = {"exp": mg.exp, "log": mg.log, "relu": mg.relu, "square": lambda v: v * v}
    for name, op in ops.items():
        assert name in guess, f"{name} is missing."
        z = mg.tensor([2.0, 3.0] if name == "log" else [-1.0, 2.0], requires_grad=True)
        with mg.Tape() as seen:
            op(z)
        saved = [np.array(a) for a in seen.nodes[-1].saved]
        kept = "input" if any(np.array_equal(a, z.numpy()) for a in saved) else "output"
        assert guess[name] == kept, f"{name}: what is its slope, and what is the least it takes?"


# %%
check_2(...)

# %% [markdown]
# **3.** Write a checker of gradients: `is_gradient(f, x, g)` says whether `g` is the gradient of
# the function `f` at the array `x`, from two or three calls of `f`, whatever the size of `x`. It
# will be given right gradients, and some with a mistake: one entry in a thousand, a factor of 1.01,
# a transposed matrix.


# %% Check 3
@exercise("a function (f, x, g) -> True or False")
def check_3(is_gradient):
    x = rng.standard_normal((30, 30))
    calls = []

    def f(x):
        calls.append(1)
        return float(np.sum(np.tanh(x) ** 2) + 0.1 * np.sum(x @ x))

    t = np.tanh(x)
    g = 2 * t * (1 - t**2) + 0.1 * (x.sum(axis=1)[None, :] + x.sum(axis=0)[:, None])
    one_off = g.copy()
    one_off[3, 4] += 0.5
    for name, claimed, right in [
        ("the right gradient", g, True), ("the right one", g.copy(), True),
        ("1.01 times the gradient", 1.01 * g, False), ("its transpose", g.T, False),
        ("one with one wrong entry", one_off, False), ("zeros", 0 * g, False),
    ]:  # fmt: skip
        calls.clear()
        assert bool(is_gradient(f, x, claimed)) == right, f"it says {not right} of {name}."
        assert len(calls) <= 3, f"it called f {len(calls)} times; three should do."
    return f"{len(calls)} calls for {x.size} derivatives at once."


# %%
check_3(...)

# %% [markdown]
# ## Solutions


# %% Solution 1
# The shapes leave no choice. A bias serves every row, so its gradient sums over them.
def layer_backward(X, W, G):
    return G @ W.T, X.T @ G, G.sum(axis=0)


check_1(layer_backward)

# %% Solution 2
# exp has the slope y: its output. log has 1/x: its input. relu needs only whether x > 0, which the
# output tells as well. x * x has 2x: its input.
check_2({"exp": "output", "log": "input", "relu": "output", "square": "input"})


# %% Solution 3
# Along a random direction D the loss moves by eps <g, D>: a wrong entry shows wherever it is. The
# tolerance lies between the error of the difference and the least mistake that is to be found.
def is_gradient(f, x, g, eps=1e-5):
    D = np.random.default_rng(1).standard_normal(x.shape)
    measured = (f(x + eps * D) - f(x - eps * D)) / (2 * eps)
    return abs(measured - (g * D).sum()) < 1e-6 * np.linalg.norm(g)


check_3(is_gradient)

# %% [markdown]
# ## Sources
#
# A. Griewank and A. Walther, [*Evaluating Derivatives*](https://doi.org/10.1137/1.9780898717761),
# chapters 3 and 4 (2008). A. G. Baydin et al., ["Automatic differentiation in machine learning: a
# survey"](https://arxiv.org/abs/1502.05767) (2018). The matrix rules: K. B. Petersen and M. S.
# Pedersen, *The Matrix Cookbook*. The projection check is that of [HIPS
# autograd](https://github.com/HIPS/autograd).
