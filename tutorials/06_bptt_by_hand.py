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
# Run it with `python tutorials/06_bptt_by_hand.py`.

# %%
import numpy as np

import minigrad as mg
from minigrad import nn

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
print(f"{len(tape)} operations for 3 steps;", "drawn to", mg.flow.draw(tape).save("unrolled.svg"))

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
# For long sequences one stops after $K$ steps back. What is lost is exactly what travelled
# further. With a loss at every step, that is a statement about *lags*: how many steps a gradient
# came from the output that it serves.

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
# ## Exercises
#
# 1. BPTT must keep every $h_t$. How much memory is that for T = 1000, B = 32, H = 512 in float32,
#    and how could one do with less?
# 2. Derive $\partial L/\partial h_0$ and check it with `mg.grad`.
# 3. Write the BPTT of a ReLU RNN. Which line changes?
#
# ## Solutions

# %%
# 1. 1000 * 32 * 512 * 4 bytes = 66 MB (an LSTM keeps about six such arrays). Keep the state at
#    every 31st step only and compute the others again on the way back: scan(..., checkpoint=31).
assert round(1000 * 32 * 512 * 4 / 1e6) == 66

# 2. One more line of the loop: delta after the last turn.
h_0 = mg.tensor(np.zeros((B, H)), requires_grad=True)
final, _ = mg.scan(cell, h_0, mg.tensor(xs))
assert np.allclose(mg.grad(0.5 * mg.sum(final * final), h_0).numpy(), delta, rtol=1e-10)

# 3. Only the slope: da = (h > 0) * delta.
relu = nn.RNN(I, H, nonlinearity="relu", bias=False, dtype=np.float64)
relu.weight_ih_l0.data, relu.weight_hh_l0.data = W.T, U.T
ys, h_n = relu(xs)
(0.5 * mg.sum(h_n * h_n)).backward()
states = np.concatenate([np.zeros((1, B, H)), ys.numpy()])
delta, dU_relu = states[T], np.zeros_like(U)
for t in reversed(range(T)):
    da = delta * (states[t + 1] > 0)
    dU_relu += states[t].T @ da
    delta = da @ U.T
assert np.allclose(relu.weight_hh_l0.grad.numpy().T, dU_relu, rtol=1e-10)

# %% [markdown]
# ## Sources
#
# P. Werbos, "Backpropagation through time: what it does and how to do it", *Proc. IEEE* 78 (1990).
# D. Rumelhart, G. Hinton, R. Williams (1986), section on recurrent nets. R. Williams, J. Peng, "An
# efficient gradient-based algorithm for on-line training of recurrent network trajectories" (1990):
# truncation. A. Griewank (1992): checkpoints.
