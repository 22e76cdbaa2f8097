# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 07 Vanishing and exploding gradients, measured
#
# Backpropagation through time multiplies the gradient by one matrix a step (tutorial 06). This page
# measures that product: first where the answer is known exactly, then for an RNN, by its singular
# values; it clips what explodes, and shows what orthogonal weights can do and what they cannot.
# Run it with `python tutorials/07_vanishing_and_exploding.py`.

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
# ## Singular values: what a norm does not show
#
# A norm follows *one* gradient. The Jacobian $J_t = \partial h_t/\partial h_{t-1}$ says what
# happens to every direction: its largest singular value is the most that a step can stretch a
# gradient, its smallest the least. For a product of 99 steps the spread is enormous.

# %%
J = rec["rnn/l0/fwd"].jacobians()
per_step = J.singular_values()[:, 0]  # (T, H), of the first row
print(
    f"one step: largest {np.median(per_step[:, 0]):.2f}, smallest {np.median(per_step[:, -1]):.2f}"
)
assert per_step.max() <= 1 + 1e-12  # sigma_max(Q) = 1, and slopes of tanh are at most 1
product = J.log_singular_values(T, 1)[0] / np.log(10)
print(f"99 steps: largest 10^{product[0]:.0f}, smallest 10^{product[-1]:.0f}")
assert product[0] < -3
assert product[-1] < product[0] - 10

# %% [markdown]
# That is the certain case of Pascanu, Mikolov and Bengio (2013): all factors are at most 1, so the
# gradient can only shrink. Exploding *needs* a largest singular value above 1, but does not follow
# from it: the slopes may eat it up.

# %%
scaled = {}
for scale in (0.5, 1.0, 2.0, 4.0):
    rnn.weight_hh_l0.data = scale * Q
    quiet = mg.tensor(0.01 * rng.standard_normal((T, B, H)))
    with mg.flow.record() as rec:
        rnn(quiet)[0][-1].sum().backward()
    flow = rec["rnn/l0/fwd"]
    sigma = float(np.median(flow.jacobians().norms()))
    scaled[scale] = flow.verdict
    print(f"W = {scale} Q: largest singular value of a step {sigma:.2f}; {flow.verdict.kind}, "
          f"x{flow.verdict.rate:.2f} a step")  # fmt: skip
assert scaled[0.5].kind == "vanishing"
assert scaled[2.0].rate > 1

# %% [markdown]
# ## Clipping, and the cliff
#
# Where gradients explode, the loss has a cliff: a step of gradient descent from its foot throws the
# weights far away. Clipping keeps the direction and limits the length, $g \leftarrow g \min(1,
# \theta/|g|)$. The smallest such cliff is that of Pascanu et al., figure 6: one unit, 50 steps,
# $x_{t+1} = w\,\sigma(x_t) + b$, and a goal for its last output.


# %%
def loss_of(w, b):
    x = mg.tensor(0.5)
    for _ in range(50):
        x = w * mg.sigmoid(x) + b
    return (mg.sigmoid(x) - 0.7) ** 2


def descend(clip, rate=1.0, updates=100):
    w, b = (mg.tensor(v, requires_grad=True) for v in (4.0, -2.02))
    steepest = 0.0
    for _ in range(updates):
        w.grad = b.grad = None
        loss = loss_of(w, b)
        loss.backward()
        steepest = max(steepest, mg.optim.clip_grad_norm_([w, b], clip))
        for p in (w, b):
            p.data = p.numpy() - rate * p.grad.numpy()
    return loss.item(), w.item(), b.item(), steepest


ends = {}
for clip in (np.inf, 0.3):
    loss, w, b, steepest = descend(clip)
    ends[clip] = loss
    print(
        f"clip at {clip}: w {w:.2f}, b {b:.2f}, loss {loss:.1e}; steepest gradient {steepest:.1f}"
    )
assert ends[np.inf] > 0.05  # thrown onto a plain where no gradient leads back
assert ends[0.3] < 0.002

# %% [markdown]
# ## What helps against vanishing
#
# Clipping cures exploding only. Against vanishing there are: weights that neither shrink nor
# stretch (orthogonal, at least at the start), activations with slope 1 (ReLU), and a path on which
# the factor is a *gate* that can be 1: the LSTM, tutorial 08. How long does each keep a gradient at
# the start of training?

# %%
half_lives = {}
for name, make in {
    "tanh, default": lambda g: mg.nn.RNN(H, H, dtype=np.float64, generator=g),
    "tanh, orthogonal": lambda g: orthogonal(mg.nn.RNN(H, H, dtype=np.float64, generator=g), g),
    "GRU": lambda g: mg.nn.GRU(H, H, dtype=np.float64, generator=g),
    "LSTM": lambda g: mg.nn.LSTM(H, H, dtype=np.float64, generator=g),
    "LSTM, forget bias 5": lambda g: forgetting(mg.nn.LSTM(H, H, dtype=np.float64, generator=g)),
}.items():

    def orthogonal(layer, generator):
        mg.nn.init.each_gate_(layer, "weight_hh", mg.nn.init.orthogonal_, generator=generator)
        return layer

    def forgetting(layer):
        mg.nn.init.forget_bias_(layer, 5.0)
        return layer

    layer = make(np.random.default_rng(1))
    recording = mg.flow.probe(layer, 0.1 * xs)
    flow = next(iter(recording.values()))
    state = "c" if "c" in flow.norms else "h"
    half_lives[name] = flow.verdicts[state].half_life
    print(f"{name:20s} half-life of |dL/d{state}_t|: {half_lives[name]:8.3g} steps")
assert half_lives["tanh, orthogonal"] > 2 * half_lives["tanh, default"]
assert half_lives["LSTM, forget bias 5"] > 5 * half_lives["LSTM"]

# %% [markdown]
# ## See it
#
# The unrolled network. Each node is coloured by the norm of the gradient that reaches it; the
# arrows point the way it goes, from the loss back, and are as wide as it is large:

# %%
picture = mg.flow.draw(recording, title="LSTM, forget bias 5").save("lstm.svg")
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
