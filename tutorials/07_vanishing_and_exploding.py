# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 02 Gradient flow: what is left of a loss after 100 steps
#
# Backpropagation through time multiplies the gradient by one factor a step. This page measures that
# product: first where the answer is known exactly, then for an RNN and an LSTM. You need
# tutorial 01. Run it with `python tutorials/02_gradient_flow.py`.

# %%
import numpy as np

import minigrad as mg

T, B, H = 100, 8, 32
rng = np.random.default_rng(0)

# %% [markdown]
# ## A cell of our own, so that nothing is hidden
#
# A linear recurrence, $h_t = h_{t-1} W + x_t$. A cell is a Module with `init_state` and
# `forward(state, x) -> (state, y)`. `mg.tap` gives a value a name for whoever listens.


# %%
class LinearCell(mg.nn.Module):
    def __init__(self, W):
        self.W = mg.nn.Parameter(W)

    def init_state(self, batch):
        return mg.tensor(np.zeros((batch, len(self.W))))

    def forward(self, h, x):
        h = mg.tap("h", h @ self.W + x)
        return h, h


xs = mg.tensor(rng.standard_normal((T, B, H)))


def gradient_norms(layer, state="h"):
    """|dL/dh_t| for t = 0 .. T-1, for a loss that looks at the last step only."""
    with mg.flow.record() as rec:
        ys, _ = layer(xs)
        ys[-1].sum().backward()
    return rec, next(iter(rec.values())).norms[state]


# %% [markdown]
# The factor of a step is $W$ itself. If $W$ is orthogonal, it turns the gradient and leaves its
# length alone. If $W$ is $0.9$ times that, the length is $0.9^k$ after $k$ steps, exactly.

# %%
Q, _ = np.linalg.qr(rng.standard_normal((H, H)))
for scale in (0.9, 1.0, 1.1):
    layer = mg.nn.Recurrent(lambda size, s=scale: LinearCell(s * Q), H)
    rec, norms = gradient_norms(layer)
    print(f"W = {scale} Q: |dL/dh_1| / |dL/dh_T| = {norms[0] / norms[-1]:.6g}   {rec.verdict}")
    expected = norms[-1] * scale ** np.arange(T - 1, -1, -1)
    assert np.allclose(norms, expected, rtol=1e-11)

# %% [markdown]
# Vanishing and exploding are one phenomenon, on two sides of 1. That $\sigma_{max}(W) < 1$ makes
# vanishing certain for tanh, and $\sigma_{max}(W) > 1$ is needed for exploding, is in Pascanu,
# Mikolov and Bengio (2013), section 2.1.
#
# ## A tanh RNN
#
# The factor is now $W \,\mathrm{diag}(1 - h_t^2)$. The slopes are at most 1, so the RNN loses more
# than the linear cell with the same $W$.

# %%
mg.seed(0)
rnn = mg.nn.RNN(H, H, dtype=np.float64)
rnn.weight_hh_l0.data = Q
rec, rnn_norms = gradient_norms(rnn)
print(rec)
assert rnn_norms[0] < 1e-3 * rnn_norms[-1]  # an orthogonal W is not enough

# %% [markdown]
# ## Why the LSTM eases it, and by how much
#
# Along the cell state, $c_t = f_t c_{t-1} + i_t g_t$, the factor is $f_t$: a gate, not a matrix
# and a slope. Switch everything else off (all weights 0) and the forget gate is $\sigma(b)$ at
# every step, so that $dc_T/dc_0 = \sigma(b)^{100}$.

# %%
for bias in (0.0, 1.0, 2.0, 5.0):
    cell = mg.nn.LSTMCell(1, 1, dtype=np.float64)
    for p in cell.parameters():
        p.data *= 0.0
    cell.bias_ih.data[1] = bias  # rows are i f g o
    c0 = mg.tensor([[1.0]], requires_grad=True)
    state = mg.nn.LSTMState(mg.tensor([[0.0]]), c0)
    for _ in range(T):
        state, _ = cell(state, mg.tensor([[0.0]]))
    measured = mg.grad(state.c.sum(), c0).item()
    exact = (1 / (1 + np.exp(-bias))) ** T
    print(f"forget bias {bias:.0f}: dc_T/dc_0 = {measured:.2g}")
    assert np.isclose(measured, exact, rtol=1e-12)

# %% [markdown]
# With a bias of 0 the LSTM forgets half of its cell state at every step and its gradient vanishes
# like anybody's. The gate *can* keep it; it has to be told to, by training or by the first bias
# (Gers, Schmidhuber and Cummins 2000; Jozefowicz, Zaremba and Sutskever 2015 put it at 1). In a
# real LSTM:

# %%
for bias in (0.0, 5.0):
    mg.seed(0)
    lstm = mg.nn.LSTM(H, H, dtype=np.float64)
    lstm.bias_ih_l0.data[H : 2 * H] = bias
    lstm.bias_hh_l0.data[H : 2 * H] = 0.0
    rec, c_norms = gradient_norms(lstm, "c")
    print(f"forget bias {bias:.0f}: {rec['lstm/l0/fwd'].verdicts['c']}")
    if bias:
        assert c_norms[0] > 0.1 * c_norms[-1]

# %% [markdown]
# ## See it
#
# The unrolled network, each node coloured by the norm of the gradient that reaches it:

# %%
picture = mg.flow.draw(rec, title="LSTM, forget bias 5").save("lstm.svg")
print(f"drawn to {picture}")

# %% [markdown]
# ## Exercises
#
# 1. For the linear cell, what does the norm of $dL/dW$ do as $T$ grows, for the three scales?
# 2. Clip the gradient (`mg.optim.clip_grad_norm_`). Which of vanishing and exploding does it cure?
# 3. What is the half-life, in steps, of a gradient that shrinks by 0.9 a step?
#
# ## Solutions

# %%
# 1. dL/dW sums one term for each step, h_{t-1}^T dL/dh_t. With 0.9 the terms die out and the sum
#    settles; with 1.0 it grows with T; with 1.1 it grows like 1.1^T.
# 2. Exploding only: clipping shortens what is too long. Nothing brings back what has vanished: all
#    steps are scaled alike, so the far ones stay as small beside the near ones as they were.
# 3. ln 0.5 / ln 0.9:
half_life = np.log(0.5) / np.log(0.9)
print(f"half-life of 0.9 a step: {half_life:.1f} steps")
fit = mg.flow.fit_decay(0.9 ** np.arange(T))  # nearest to the loss first
assert np.isclose(fit.half_life, half_life)

# %% [markdown]
# ## Sources
#
# S. Hochreiter, diploma thesis (1991), and Y. Bengio, P. Simard, P. Frasconi (1994): the problem.
# S. Hochreiter, J. Schmidhuber (1997): the LSTM. F. Gers, J. Schmidhuber, F. Cummins (2000): the
# forget gate. R. Pascanu, T. Mikolov, Y. Bengio (2013): singular values and clipping.
