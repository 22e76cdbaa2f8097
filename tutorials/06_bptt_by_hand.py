# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 06 Backpropagation through time, by hand and on the graph
#
# A recurrent net unrolled over T steps is an ordinary, deep net whose layers share their weights.
# Backpropagation through it is called *backpropagation through time* (BPTT). This page derives it
# on paper, runs it in ten lines of NumPy, finds every number again on minigrad's tape and in its
# compiled loop, and takes $\partial L/\partial W$ apart: by step, and by how far it came.
#
# You need tutorials 01 and 05. Time: 20 minutes, and 45 for the exercises. Run it with
# `python tutorials/06_bptt_by_hand.py`.

# %%
import numpy as np

import minigrad as mg

rng = np.random.default_rng(0)
T, B, I, H = 12, 1, 2, 3
xs = rng.standard_normal((T, B, I))
W = rng.standard_normal((I, H)) * 0.5
U = rng.standard_normal((H, H)) * 0.5

# %% [markdown]
# ## On paper
#
# $$ a_t = x_t W + h_{t-1} U, \qquad h_t = \tanh a_t, \qquad L = \tfrac12 |h_T|^2 $$
#
# Let $\delta_t = \partial L / \partial h_t$, with everything that happens later included, a row
# like $h_t$. The loss reads $h_T$, so $\delta_T = h_T$. A state $h_{t-1}$ is read in one place,
# $a_t$, so
#
# $$ \delta_{t-1} = \big( \delta_t \odot (1 - h_t^2) \big)\, U^\top $$
#
# and as *every* step used the same $U$, its gradient is a sum over steps:
#
# $$ \frac{\partial L}{\partial U} = \sum_t h_{t-1}^\top \big( \delta_t \odot (1 - h_t^2) \big)
#   \qquad
#   \frac{\partial L}{\partial W} = \sum_t x_t^\top \big( \delta_t \odot (1 - h_t^2) \big) $$
#
# ## In ten lines

# %%
hs = [np.zeros((B, H))]
for t in range(T):
    hs.append(np.tanh(xs[t] @ W + hs[-1] @ U))

delta, deltas = hs[T], [None] * T
dU, dW = np.zeros_like(U), np.zeros_like(W)
for t in reversed(range(T)):
    deltas[t] = delta
    da = delta * (1 - hs[t + 1] ** 2)  # through tanh
    dU += hs[t].T @ da
    dW += xs[t].T @ da
    delta = da @ U.T  # to the step before
norms = np.array([np.linalg.norm(d) for d in deltas])
print("|delta_t|:", " ".join(f"{n:.0e}" for n in norms))

# %% [markdown]
# ## On the tape
#
# The same network as eager operations. The tape is the unrolled graph; the walk backwards is BPTT;
# nothing in minigrad knows that this is a *recurrent* net.

# %%
U_, W_ = mg.tensor(U, requires_grad=True, name="U"), mg.tensor(W, requires_grad=True, name="W")
with mg.Tape() as tape:
    h = mg.tensor(np.zeros((B, H)), name="h_0")
    for t in range(3):  # three steps are enough to look at
        with mg.scope(f"t={t}"):
            h = mg.tap("h", mg.tanh(mg.tensor(xs[t], name=f"x_{t + 1}") @ W_ + h @ U_))
    with mg.scope("loss"):
        loss = 0.5 * mg.sum(h * h)
loss.backward()
print(f"{len(tape)} operations for 3 steps")
mg.flow.show(mg.flow.draw(tape), "unrolled.svg")

# %% [markdown]
# ## Compiled, and recorded
#
# `mg.scan` compiles one step and *its* gradient into two loops. `record` listens: it gives back
# $|\delta_t|$, which the loop holds anyway.


# %%
def cell(h, x):
    h = mg.tap("h", mg.tanh(x @ W_ + h @ U_))
    return h, h


U_.grad = W_.grad = None
with mg.flow.record() as rec:
    final, _ = mg.scan(cell, mg.tensor(np.zeros((B, H))), mg.tensor(xs))
    (0.5 * mg.sum(final * final)).backward()
flow = rec[""]
assert np.allclose(flow.norms["h"], norms, rtol=1e-12)
assert np.allclose(U_.grad.numpy(), dU, rtol=1e-12)
assert np.allclose(W_.grad.numpy(), dW, rtol=1e-12)
print("compiled BPTT gives the same delta_t, dL/dU and dL/dW")

# %% [markdown]
# What was recorded can be walked through, one step after the other. Press play, or drag the slider,
# and watch $\delta_t$ go back from the loss at $t = 12$; a click on a node shows its numbers.

# %%
mg.flow.show(mg.flow.report({"RNN": rec}).explore(title="BPTT through 12 steps"), "bptt.html")

# %% [markdown]
# ## Which step taught the weights?
#
# The sum over $t$ hides who contributed. `weight_terms` gives every term:

# %%
terms = flow.weight_terms("step")["U"]  # (T, H, H)
assert np.allclose(terms.sum(axis=0), dU)
sizes = np.linalg.norm(terms.reshape(T, -1), axis=1)
for t in range(T):
    bar = "#" * round(60 * sizes[t] / sizes.max())
    print(f"t = {t + 1:2d}  |term of dL/dU| = {sizes[t]:.1e}  {bar}")
share = sizes[-4:].sum() / sizes.sum()
print(f"the last 4 of {T} steps: {share:.0%} of it")
assert share > 0.5

# %% [markdown]
# The early steps hardly count: what they would have to teach has vanished on the way. That is the
# subject of tutorial 07.
#
# ## Truncated BPTT
#
# For long sequences one stops after $K$ steps back. What is lost is exactly what travelled further.
# With a loss at every step, that is a statement about *lags*: how many steps a gradient has
# travelled from the output that it serves.

# %%
with mg.flow.record() as rec:
    _, ys = mg.scan(cell, mg.tensor(np.zeros((B, H))), mg.tensor(xs))
    loss = 0.5 * mg.sum(ys * ys)
    loss.backward()
by_lag = rec[""].weight_terms("lag")["U"]


def truncated(K):
    """dL/dU where each output's gradient goes K steps back: a short graph for each output."""
    total = np.zeros_like(U)
    with mg.no_grad():
        _, states = mg.scan(cell, mg.tensor(np.zeros((B, H))), mg.tensor(xs))
    for s in range(T):
        start = max(0, s + 1 - K)
        h = mg.tensor(states.numpy()[start - 1] if start else np.zeros((B, H)))
        for t in range(start, s + 1):
            h, _ = cell(h, mg.tensor(xs[t]))
        total += mg.grad(0.5 * mg.sum(h * h), U_).numpy()
    return total


whole = np.linalg.norm(by_lag.sum(axis=0))
for K in (1, 2, 4, T):
    kept = by_lag[:K].sum(axis=0)
    assert np.allclose(kept, truncated(K), rtol=1e-10)
    error = np.linalg.norm(kept - by_lag.sum(axis=0)) / whole
    print(f"BPTT truncated to {K:2d} steps: relative error of the gradient {error:.2%}")

# %% [markdown]
# ## What it keeps
#
# BPTT reads every $h_t$ on its way back, so all of them are kept: for 1000 steps, 32 rows and 512
# units in float32 that is 66 MB. `scan(..., checkpoint=31)` keeps every 31st state only, and
# computes the others once more as BPTT comes by.

# %%
megabytes = 1000 * 32 * 512 * 4 / 1e6
print(f"{megabytes:.0f} MB; with checkpoints {megabytes / 31 + 31 * megabytes / 1000:.0f}")
assert round(megabytes) == 66

# %% [markdown]
# ## Exercises
#
# **1.** The last line of the loop hands $\delta$ to the step before. What does it hand on at the
# very end? Hand in a function `(hs, U)` that gives $\partial L/\partial h_0$, (B, H), from the
# states `hs` (a list of T + 1 arrays, as above) and U (H, H), for $L = \frac12 |h_T|^2$. In these
# exercises a step is $h_t = \tanh(x_t W + h_{t-1} U)$, with rows for $x_t$ and $h_t$.

# %% Check 1
from minigrad.lab.exercises import close, exercise

W_x, U_h = rng.standard_normal((I, H)) / 2, rng.standard_normal((H, H)) / 2


def states_of(h_0, xs, W, U):
    states = [h_0]
    for x in xs:
        states.append(np.tanh(x @ W + states[-1] @ U))
    return states


def nudged(f, array, eps=1e-5):
    """df/d(array), entry by entry, by central differences."""
    g = np.zeros(array.shape)
    for place in np.ndindex(array.shape):
        up, down = array.copy(), array.copy()
        up[place], down[place] = up[place] + eps, down[place] - eps
        g[place] = (f(up) - f(down)) / (2 * eps)
    return g


@exercise("a function (hs, U) -> dL/dh_0, (B, H)")
def check_1(gradient):
    h_0 = 0.3 * np.ones((B, H))
    for steps in (1, 3):
        some = xs[:steps]
        measured = nudged(lambda h, x=some: 0.5 * (states_of(h, x, W_x, U_h)[-1] ** 2).sum(), h_0)
        mine = gradient(states_of(h_0, some, W_x, U_h), U_h)
        close(mine, measured, f"dL/dh_0 after {steps} step(s)", rtol=1e-5, atol=1e-9)


# %%
check_1(...)

# %% [markdown]
# **2.** Let the loss read *every* step, $L = \frac12 \sum_t |h_t|^2$, as the loss of a language
# model does. Hand in a function `(hs, xs, W, U)` that gives $\partial L/\partial U$. Where does the
# new term come in?


# %% Check 2
@exercise("a function (hs, xs, W, U) -> dL/dU, (H, H)")
def check_2(gradient):
    h_0 = np.zeros((B, H))
    for steps in (1, 2, T):

        def loss(U, steps=steps):
            return 0.5 * sum((h**2).sum() for h in states_of(h_0, xs[:steps], W_x, U)[1:])

        mine = gradient(states_of(h_0, xs[:steps], W_x, U_h), xs[:steps], W_x, U_h)
        close(mine, nudged(loss, U_h), f"dL/dU for {steps} step(s)", rtol=1e-4, atol=1e-8)


# %%
check_2(...)

# %% [markdown]
# **3.** A leaky unit keeps nine tenths of its state: $h_t = 0.9\,h_{t-1} + 0.1\,\tanh(a_t)$, with
# the same $a_t$. Now two paths lead from $h_{t-1}$ to $h_t$. Hand in a function `(hs, xs, W, U)`
# that gives the list of all $\delta_t$, t = 1 ... T, for $L = \frac12 |h_T|^2$.


# %% Check 3
@exercise("a function (hs, xs, W, U) -> [delta_1, ..., delta_T]")
def check_3(gradients):
    def run(h, xs):
        states = [h]
        for x in xs:
            states.append(0.9 * states[-1] + 0.1 * np.tanh(x @ W_x + states[-1] @ U_h))
        return states

    hs_ = run(0.5 * np.ones((B, H)), xs)
    mine = gradients(hs_, xs, W_x, U_h)
    assert len(mine) == T, f"expected {T} deltas, got {len(mine)}."
    for t in (T, T - 1, 1):
        measured = nudged(lambda h, x=xs[t:]: 0.5 * (run(h, x)[-1] ** 2).sum(), hs_[t])
        close(mine[t - 1], measured, f"delta_{t}, T = {T}", rtol=1e-5, atol=1e-9)
    left = np.linalg.norm(mine[0]) / np.linalg.norm(mine[-1])
    return (
        f"{left:.2f} of it arrives at step 1; in the plain net it was {norms[0] / norms[-1]:.0e}."
    )


# %%
check_3(...)

# %% [markdown]
# ## Solutions


# %% Solution 1
# One turn of the loop for each step, and what `delta` is after the last.
def first_state(hs, U):
    delta = hs[-1]
    for h in reversed(hs[1:]):
        delta = ((1 - h**2) * delta) @ U.T
    return delta


check_1(first_state)


# %% Solution 2
# Each h_t is now read by the loss, too: its own h_t is added to what comes from later.
def every_step(hs, xs, W, U):
    delta, dU = np.zeros_like(hs[0]), np.zeros_like(U)
    for t in reversed(range(len(xs))):
        delta = delta + hs[t + 1]
        da = (1 - hs[t + 1] ** 2) * delta
        dU += hs[t].T @ da
        delta = da @ U.T
    return dU


check_2(every_step)


# %% Solution 3
# delta_{t-1} is what comes straight, times 0.9, plus what comes through the tanh, times 0.1. The
# slope is that of the tanh, not of h_t: it needs a_t once more. The straight path is what an LSTM
# is built around (tutorial 08).
def leaky(hs, xs, W, U):
    deltas = [hs[-1]]
    for t in reversed(range(1, len(xs))):
        n = np.tanh(xs[t] @ W + hs[t] @ U)
        deltas.append(0.9 * deltas[-1] + 0.1 * ((1 - n**2) * deltas[-1]) @ U.T)
    return deltas[::-1]


check_3(leaky)

# %% [markdown]
# ## Sources
#
# P. Werbos, ["Backpropagation through time: what it does and how to do
# it"](https://doi.org/10.1109/5.58337), *Proc. IEEE* 78 (1990). [D. Rumelhart, G. Hinton, R.
# Williams](https://doi.org/10.1038/323533a0) (1986). R. Williams, J. Peng, ["An efficient
# gradient-based algorithm for on-line training of recurrent network
# trajectories"](https://doi.org/10.1162/neco.1990.2.4.490) (1990): truncation. [A. Griewank
# (1992)](https://doi.org/10.1080/10556789208805505): checkpoints. Explained elsewhere: [*Dive into
# Deep Learning*, section 9.7](https://d2l.ai/chapter_recurrent-neural-networks/bptt.html).
