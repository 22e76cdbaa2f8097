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
#
# You need tutorial 08. Time: 20 minutes, and 60 for the exercises. Run it with
# `python tutorials/09_the_gru.py`.

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

# %% [markdown]
# Step by step, for one unit of one row. (In the drawing n is the proposal $\tilde h$.)

# %%
r0, z0, n0, h0, old = (v[0, 0] for v in (r, z, proposal, new_h, h))
STEPS = {
    "0 what comes in": ((), "x is new; the old h is all that was kept, and was shown as well."),
    "1 reset": ("r", f"r = {r0:.2f}: this share of the old h = {old:.2f} goes into the proposal."),
    "2 propose": ("n", f"n = {n0:.2f}: what could take its place."),
    "3 update": ("nz", f"z = {z0:.2f}: this share is replaced."),
    "4 mix": ("h", f"(1 - z) h + z n = {1 - z0:.2f} * {old:.2f} + {z0:.2f} * {n0:.2f} = {h0:.2f}"),
}


def built(step):
    upto, words = STEPS[step]
    return mg.flow.draw(cell, upto=upto), words


steps = {"step": list(STEPS)}
build_up = mg.flow.sliders(built, steps, title="A GRU, gate by gate", start=["1 reset"])
mg.flow.show(build_up, "gru-steps.html")

# %% [markdown]
# As in tutorial 08, one matrix on $[h, x]$ is two matrices: $x W + h U$ for the gates. Not so for
# the proposal: there $r \odot h$ stands in place of $h$, $[r \odot h, x]$.

# %%
one = np.concatenate([cell.weight_hh.numpy()[-H:], cell.weight_ih.numpy()[-H:]], axis=1).T
side_by_side = np.concatenate([r * h, x], axis=1) @ one  # (B, H + I) times (H + I, H)
assert np.allclose(np.tanh(side_by_side + b_h), proposal, rtol=1e-13)

# %% [markdown]
# ## Why libraries disagree
#
# Two choices were made differently. A checkpoint written for one kind loads into another without
# complaint, and computes something else:
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
# **1.** Inside a GRU there is an RNN. Which values of $r$ and $z$ make it one, in PyTorch's form?
# Hand in a function that is given an `nn.GRUCell` and sets its *biases* (`bias_ih`, rows r z n)
# such that it computes $h_t = \tanh(x_t W_n + h_{t-1} U_n + b_n)$.

# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise("a function (cell) that sets cell.bias_ih.data")
def check_1(into_rnn):
    for seed in (0, 1):
        c = nn.GRUCell(I, H, dtype=np.float64, generator=np.random.default_rng(seed))
        was = {name: p.numpy().copy() for name, p in c.named_parameters()}
        into_rnn(c)
        for name in ("weight_ih", "weight_hh", "bias_hh"):
            close(getattr(c, name), was[name], f"{name}, which was to stay")
        close(c.bias_ih.numpy()[2 * H :], was["bias_ih"][2 * H :], "b_n, which was to stay")
        W_n, U_n = was["weight_ih"][2 * H :].T, was["weight_hh"][2 * H :].T
        b_n = (was["bias_ih"] + was["bias_hh"])[2 * H :]
        mine, _ = c(mg.tensor(h), mg.tensor(x))
        close(mine, np.tanh(x @ W_n + h @ U_n + b_n), "the next state", rtol=1e-5)


# %%
check_1(...)

# %% [markdown]
# **2.** Can one gate do both jobs? The *minimal gated unit* (Zhou et al. 2016) thinks so:
#
# $$ f_t = \sigma(x_t W_f + h_{t-1} U_f + b_f) \qquad
#    \tilde h_t = \tanh(x_t W_h + (f_t \odot h_{t-1}) U_h + b_h) $$
# $$ h_t = (1 - f_t) \odot h_{t-1} + f_t \odot \tilde h_t $$
#
# Hand in a function `(W, U, b)` that returns a step for `mg.scan`, `step(h, x) -> (h, h)`. The
# arguments are Tensors, W (I, 2H), U (H, 2H) and b (2H,), with the columns of f first, then those
# of h.


# %% Check 2
@exercise("a function (W, U, b) -> a function (h, x) -> (h, h)")
def check_2(make_step):
    ours = nn.MinimalGatedCell(I, H, dtype=np.float64, generator=np.random.default_rng(0))
    step = make_step(ours.weight_ih.T, ours.weight_hh.T, ours.bias_ih + ours.bias_hh)
    (last, all_), (true, every) = (
        mg.scan(f, mg.tensor(np.zeros((B, H))), mg.tensor(xs), mode="tape") for f in (step, ours)
    )
    close(all_, every, "the states")
    for name in ("weight_ih", "weight_hh", "bias_ih"):
        p = getattr(ours, name)
        close(mg.grad(last.sum(), p, retain_graph=True), mg.grad(true.sum(), p, retain_graph=True),
              f"the gradient of {name}")  # fmt: skip
    sizes = [sum(p.size for p in c(I, H).parameters()) for c in (nn.MinimalGatedCell, nn.GRUCell)]
    return f"{sizes[0]} parameters instead of a GRU's {sizes[1]}: a third is saved."


# %%
check_2(...)

# %% [markdown]
# **3.** Somebody sends you a GRU's weights and does not say which of the four variants they are of.
# Find out: hand in a function `(weights, cell)` that returns `(reset_after, update)`, say
# `(True, "keep")`. `weights` has the arrays weight_ih (3H, I), weight_hh (3H, H), bias_ih and
# bias_hh, all with rows r z n; `cell(h, x)` gives the next state of rows `h` (B, H) for inputs `x`
# (B, I), as NumPy arrays. One call is enough.


# %% Check 3
@exercise('a function (weights, cell) -> (True or False, "keep" or "write")')
def check_3(which):
    for number, (after, update) in enumerate(variants):
        hidden = nn.GRUCell(I, H, reset_after=after, update=update, dtype=np.float64,
                            generator=np.random.default_rng(number))  # fmt: skip
        weights = {name: p.numpy().copy() for name, p in hidden.named_parameters()}
        found = which(weights, lambda h, x, g=hidden: g(mg.tensor(h), mg.tensor(x))[0].numpy())
        assert tuple(found) == (after, update), (
            f"of cell {number} you say {tuple(found)}; on random h and x its states are not those."
        )
    return "Worth doing with any checkpoint, before it is trusted."


# %%
check_3(...)

# %% [markdown]
# ## Solutions


# %% Solution 1
# r = 1, so that the proposal sees all of h, and z = 0, so that nothing of h is kept. (z = 1 would
# keep everything: a cell that never changes.)
def into_rnn(cell):
    cell.bias_ih.data[:H], cell.bias_ih.data[H : 2 * H] = 50.0, -50.0


check_1(into_rnn)


# %% Solution 2
# The second product needs f first, so the two cannot be one product, as they are in PyTorch's GRU.
def minimal(W, U, b):
    def step(h, x):
        a_f, a_h = mg.split(x @ W + b, 2, axis=-1)
        U_f, U_h = mg.split(U, 2, axis=-1)
        f = mg.sigmoid(a_f + h @ U_f)
        h = (1 - f) * h + f * mg.tanh(a_h + (f * h) @ U_h)
        return h, h

    return step


check_2(minimal)


# %% Solution 3
# Compute all four, and see which one it is.
def which(weights, cell):
    h, x = np.random.default_rng(5).standard_normal((2, 3, 9))
    h, x = h[:, : weights["weight_hh"].shape[1]], x[:, : weights["weight_ih"].shape[1]]
    a_r, a_z, a_n = np.split(x @ weights["weight_ih"].T + weights["bias_ih"], 3, axis=1)
    U_r, U_z, U_n = (part.T for part in np.split(weights["weight_hh"], 3))
    c_r, c_z, c_n = np.split(weights["bias_hh"], 3)
    r, z = sigmoid(a_r + h @ U_r + c_r), sigmoid(a_z + h @ U_z + c_z)
    gaps = {}
    for after in (True, False):
        n = np.tanh(a_n + (r * (h @ U_n + c_n) if after else (r * h) @ U_n + c_n))
        gaps[after, "keep"] = np.abs(cell(h, x) - (z * h + (1 - z) * n)).max()
        gaps[after, "write"] = np.abs(cell(h, x) - ((1 - z) * h + z * n)).max()
    return min(gaps, key=gaps.get)


check_3(which)

# %% [markdown]
# ## Sources
#
# K. Cho et al., ["Learning phrase representations using RNN
# encoder-decoder"](https://arxiv.org/abs/1406.1078) (2014), equations 5 to 8. J. Chung et al.,
# ["Empirical evaluation of gated recurrent neural networks"](https://arxiv.org/abs/1412.3555)
# (2014), equations 5 to 8. G.-B. Zhou et al., ["Minimal gated
# unit"](https://arxiv.org/abs/1603.09420) (2016). And further still: L. Feng et al., ["Were RNNs
# all we needed?"](https://arxiv.org/abs/2410.01201) (2024), where the gate does not read h at all
# (`nn.MinGRUCell`).
