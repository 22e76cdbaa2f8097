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
# Run it with `python tutorials/02_tensors_and_the_tape.py`.

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
# `tanh` keeps its output, `matmul` keeps `x` (the gradient of `W` reads it), `add` nothing.
# `multiply` names its two inputs, which are one array, and the one that `tanh` keeps: in the sum
# below the table each array counts once.
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
# ## Exercises
#
# 1. Give `x` four rows instead of one. Which shapes on the tape change, and which gradients?
# 2. Which of `exp`, `log`, `relu` and `x * x` keep their input, and which their output? Say it
#    before you look.
# 3. Edit `W` in place (`W[0] = 1.0` under `mg.no_grad()`) between the forward and the backward
#    pass. What should happen?
#
# ## Solutions

# %%
# 1. Everything that is computed from x has four rows; the gradients of W and b keep their shapes,
#    as they are sums over the rows.
four = mg.tensor(np.ones((4, 3)))
assert mg.grad(mg.sum(mg.tanh(four @ W + b)), W).shape == W.shape

# 2. exp has the slope y: its output. log has 1/x: its input. relu needs only whether x > 0, which
#    the output tells as well. x * x has 2x: its input.
with mg.Tape() as kept:
    z = mg.tensor([1.0, 2.0], requires_grad=True, name="z")
    for f in (mg.exp, mg.log, mg.relu, lambda v: v * v):
        f(z)
print(kept)

# 3. The gradient of x @ W needs no W here (x needs none), but that of W * W does: minigrad refuses
#    to compute it from a W that has changed.
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
# ## Sources
#
# A. Griewank and A. Walther, *Evaluating Derivatives*, chapters 3 and 4 (2008). A. G. Baydin et
# al., "Automatic differentiation in machine learning: a survey" (2018). The matrix rules: K. B.
# Petersen and M. S. Pedersen, *The Matrix Cookbook*. The projection check is that of HIPS autograd.
