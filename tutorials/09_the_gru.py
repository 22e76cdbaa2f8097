# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 09 The GRU: two gates, four equations, and why libraries disagree
#
# A gated recurrent unit does with one state and two gates what an LSTM does with two states and
# three. This page computes its equations, watches its gates at work, measures its gradient, and
# settles which of the variants in papers and libraries is which.
# Run it with `python tutorials/09_the_gru.py`. You need tutorial 08.

# %%
import numpy as np

import minigrad as mg
from minigrad import nn, optim

rng = np.random.default_rng(0)
B, I, H = 2, 3, 4


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# %% [markdown]
# ## Four equations
#
# As Chung et al. (2014) wrote them, with a bias in each, which they leave out:
#
# $$
# \begin{aligned}
# r_t &= \sigma(x_t W_r + h_{t-1} U_r + b_r) && \text{reset: how much of the past the proposal
# sees} \\ z_t &= \sigma(x_t W_z + h_{t-1} U_z + b_z) && \text{update: how much is replaced} \\
# \tilde h_t &= \tanh(x_t W_h + (r_t \odot h_{t-1}) U_h + b_h) && \text{the proposal} \\
# h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot \tilde h_t && \text{old and new, mixed}
# \end{aligned}
# $$
#
# minigrad's cell has all variants. This one is `reset_after=False, update="write"`:

# %%
cell = nn.GRUCell(I, H, reset_after=False, update="write", dtype=np.float64, generator=rng)
x, h = rng.standard_normal((B, I)), rng.standard_normal((B, H))
W_r, W_z, W_h = np.split(cell.weight_ih.numpy().T, 3, axis=1)
U_r, U_z, U_h = np.split(cell.weight_hh.numpy().T, 3, axis=1)
b_r, b_z, b_h = np.split(cell.bias_ih.numpy() + cell.bias_hh.numpy(), 3)

r = sigmoid(x @ W_r + h @ U_r + b_r)
z = sigmoid(x @ W_z + h @ U_z + b_z)
proposal = np.tanh(x @ W_h + (r * h) @ U_h + b_h)
new_h = (1 - z) * h + z * proposal

h_1, _ = cell(mg.tensor(h), mg.tensor(x))
assert np.allclose(h_1.numpy(), new_h, rtol=1e-13)
print("drawn to", mg.flow.draw(cell, title="GRU").save("gru-cell.svg"))

# %% [markdown]
# ## Why libraries disagree
#
# Two choices were made differently, and a checkpoint of one loads silently wrong into the other:
#
# | | reset gate acts | h = |
# |---|---|---|
# | Chung et al. 2014 | on the state, before the product | (1-z) h + z h~ |
# | Cho et al. 2014 | before | z h + (1-z) h~ |
# | PyTorch, Keras (default) | on h U, **after** the product | z h + (1-z) h~ |
# | ONNX | `linear_before_reset` 1 after, 0 before | z h + (1-z) h~ |
#
# The second choice is only a name: negating all of the update gate's weights turns $z$ into
# $1 - z$. The first is not: $(r \odot h)\, U \neq r \odot (h U)$, and no change of weights makes up
# for it. (After is faster: one product for all gates.)

# %%
variants = {}
for after in (True, False):
    for update in ("keep", "write"):
        gru = nn.GRU(I, H, reset_after=after, update=update, dtype=np.float64)
        gru.load_state_dict(
            nn.GRU(I, H, dtype=np.float64, generator=np.random.default_rng(1)).state_dict()
        )
        variants[after, update] = gru
xs = rng.standard_normal((20, B, I))
base = variants[True, "keep"](xs)[0].numpy()
for (after, update), gru in variants.items():
    gap = np.abs(gru(xs)[0].numpy() - base).max()
    print(f"reset_after={after!s:5} update={update:5}: differs from PyTorch's by up to {gap:.3f}")

negated = variants[True, "write"]
for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
    p = getattr(negated, name)
    p.data[H : 2 * H] *= -1  # rows are r z n
assert np.allclose(negated(xs)[0].numpy(), base, rtol=1e-12)
print("with the update gate's weights negated, 'write' is 'keep' again")
assert np.abs(variants[False, "keep"](xs)[0].numpy() - base).max() > 1e-2

# %% [markdown]
# ## The gates at work
#
# A sequence of values, some of them marked. Whenever a mark comes, the net has to switch to the
# new value and say it until the next mark. Which gate learns what?


# %%
def batch(draw, rows, length=24):
    values = draw.uniform(-1, 1, (length, rows))
    marks = draw.random((length, rows)) < 0.15
    marks[0] = True
    at = np.maximum.accumulate(np.where(marks, np.arange(length)[:, None], 0))
    xs = np.stack([values, marks], axis=-1).astype(np.float32)
    return xs, np.take_along_axis(values, at, axis=0)[..., None].astype(np.float32), marks


UNITS = 16
gru = nn.GRU(2, UNITS, generator=np.random.default_rng(0))
head = nn.Linear(UNITS, 1, generator=np.random.default_rng(1))
adam = optim.Adam([*gru.parameters(), *head.parameters()], lr=0.01)
draw = np.random.default_rng(2)
for _ in range(500):
    xs_, ys_, _ = batch(draw, 64)
    loss = nn.mse_loss(head(gru(xs_)[0]), ys_)
    adam.zero_grad()
    loss.backward()
    optim.clip_grad_norm_(adam.params, 1.0)
    adam.step()
print(f"mean squared error {loss.item():.4f} (always saying 0 would be {1 / 3:.3f})")
assert loss.item() < 0.02

xs_, _, marks = batch(np.random.default_rng(3), 200)
with mg.flow.record() as rec:
    gru(xs_)[0].sum().backward()
flow = rec["gru/l0/fwd"]
z = flow.values["z"].mean(axis=-1)  # keeps: h = z h + (1 - z) h~
print(
    f"update gate z: {z[~marks].mean():.2f} without a mark (keep), {z[marks].mean():.2f} at a mark"
)
assert z[~marks].mean() > z[marks].mean() + 0.1
row = 0
print("marks  ", "".join("M" if m else "." for m in marks[:, row]))
print("z      ", "".join("0123456789"[min(int(10 * v), 9)] for v in z[:, row]), "(tenths)")
r = flow.values["r"].mean(axis=-1)
print("r      ", "".join("0123456789"[min(int(10 * v), 9)] for v in r[:, row]), "(tenths)")
print(f"reset gate r: {r[~marks].mean():.2f} without a mark, {r[marks].mean():.2f} at a mark")
assert r[~marks].mean() > r[marks].mean() + 0.1  # the proposal sees less of what was there before
keeps = flow.time_constants["z"]
print(f"time constant 1/(1-z): {np.median(keeps):.1f} steps")

# %% [markdown]
# ## Its gradient
#
# By the last equation (in PyTorch's form) $\partial h_t/\partial h_{t-1} = \mathrm{diag}(z_t) +$
# what goes through the proposal and the gates: the same carousel as in the LSTM, on the hidden
# state itself. And like the forget gate, the update gate has a bias:

# %%
T = 100
lives = {}
for bias in (0.0, 2.0, 5.0):
    layer = nn.GRU(UNITS, UNITS, dtype=np.float64, generator=np.random.default_rng(1))
    layer.bias_ih_l0.data[UNITS : 2 * UNITS] = bias
    layer.bias_hh_l0.data[UNITS : 2 * UNITS] = 0.0
    found = mg.flow.probe(layer, rng.standard_normal((T, 4, UNITS)))["gru/l0/fwd"]
    lives[bias] = found.verdict.half_life
    z = found.activations["z"].mean.mean()
    print(
        f"bias {bias:.0f}: z = {z:.3f}, x{found.verdict.rate:.3f} a step, half-life "
        f"{lives[bias]:.3g} steps"
    )
assert lives[5.0] > 10 * lives[0.0]

# %% [markdown]
# ## Exercises
#
# 1. Set $r = 1$ and $z = 0$ (PyTorch's form). Which network is left? And with $z = 1$?
# 2. A *minimal* gated unit uses one gate for both. Which parameters does it save?
# 3. Write the GRU step with `mg.scan` and a function of your own, and compare with `nn.GRU`.
#
# ## Solutions

# %%
# 1. h = h~ = tanh(W x + U h): the RNN of tutorial 05. With z = 1 nothing is ever written: h = h_0.
# 2. A third of them: `nn.MinimalGatedCell` (Zhou et al. 2016). `nn.MinGRUCell` (Feng et al. 2024)
#    goes further: its gate does not read h at all.
count = {
    c.__name__: sum(p.size for p in c(I, H).parameters()) for c in (nn.GRUCell, nn.MinimalGatedCell)
}
assert 3 * count["MinimalGatedCell"] == 2 * count["GRUCell"]

# 3.
ours = nn.GRU(I, H, dtype=np.float64, generator=rng)
W, U = ours.weight_ih_l0, ours.weight_hh_l0
b_i, b_h = ours.bias_ih_l0, ours.bias_hh_l0


def step(h, x):
    a_r, a_z, a_n = mg.split(x @ W.T + b_i, 3, axis=-1)
    u_r, u_z, u_n = mg.split(h @ U.T + b_h, 3, axis=-1)
    z = mg.sigmoid(a_z + u_z)
    n = mg.tanh(a_n + mg.sigmoid(a_r + u_r) * u_n)
    h = z * h + (1 - z) * n
    return h, h


_, ys = mg.scan(step, mg.tensor(np.zeros((B, H))), mg.tensor(xs))
assert np.allclose(ys.numpy(), ours(xs)[0].numpy(), rtol=1e-12)

# %% [markdown]
# ## Sources
#
# K. Cho et al., "Learning phrase representations using RNN encoder-decoder" (2014), equations 5 to
# 8. J. Chung et al., "Empirical evaluation of gated recurrent neural networks" (2014), equations 5
# to 8. G.-B. Zhou et al., "Minimal gated unit" (2016). L. Feng et al., "Were RNNs all we needed?"
# (2024).
