# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 08 The LSTM, gate by gate
#
# An LSTM carries two things: a *cell state* $c_t$, which is edited, and a *hidden state* $h_t$,
# which is shown. Three gates decide what is forgotten, written and shown. This page computes the
# six equations one by one, measures *how* they ease vanishing gradients and where they do not, and
# asks by experiment what the cell state remembers and what the hidden state does.
# Run it with `python tutorials/08_the_lstm.py`. You need tutorials 05 to 07.

# %%
import numpy as np

import minigrad as mg
from minigrad import nn, optim

rng = np.random.default_rng(0)
B, I, H = 2, 3, 4


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# %% [markdown]
# ## The six equations
#
# $$
# \begin{aligned}
# f_t &= \sigma(x_t W_f + h_{t-1} U_f + b_f) && \text{forget: how much of the cell state stays} \\
# i_t &= \sigma(x_t W_i + h_{t-1} U_i + b_i) && \text{input: how much may be written} \\
# g_t &= \tanh(x_t W_g + h_{t-1} U_g + b_g) && \text{what would be written} \\
# o_t &= \sigma(x_t W_o + h_{t-1} U_o + b_o) && \text{output: how much is shown} \\
# c_t &= f_t \odot c_{t-1} + i_t \odot g_t && \text{the cell state: forget, then write} \\
# h_t &= o_t \odot \tanh(c_t) && \text{the hidden state: what others see}
# \end{aligned}
# $$
#
# A gate is a number between 0 and 1 for every unit, a soft switch. minigrad stacks the four
# matrices in the order of PyTorch: i f g o.

# %%
cell = nn.LSTMCell(I, H, dtype=np.float64, generator=rng)
x, h, c = rng.standard_normal((B, I)), rng.standard_normal((B, H)), rng.standard_normal((B, H))

W, U = cell.weight_ih.numpy().T, cell.weight_hh.numpy().T  # (I, 4H) and (H, 4H)
a = x @ W + h @ U + cell.bias_ih.numpy() + cell.bias_hh.numpy()
a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)
i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o)  # three gates
g = np.tanh(a_g)
new_c = f * c + i * g
new_h = o * np.tanh(new_c)

(h_1, c_1), y = cell(nn.LSTMState(mg.tensor(h), mg.tensor(c)), mg.tensor(x))
assert np.allclose(c_1.numpy(), new_c, rtol=1e-14)
assert np.allclose(h_1.numpy(), new_h, rtol=1e-14)
print("forget gate of row 0:", f[0].round(2), " input:", i[0].round(2), " output:", o[0].round(2))
print("drawn to", mg.flow.draw(cell, title="LSTM").save("lstm-cell.svg"))

# %% [markdown]
# ## A gate at work
#
# The smallest LSTM that *does* something: one unit, and an input of two numbers, a value and a
# command. Biases and weights are set by hand so that a command of 1 writes the value and
# forgets the old one, and a command of 0 keeps it.

# %%
latch = nn.LSTMCell(2, 1, dtype=np.float64)
for p in latch.parameters():
    p.data = np.zeros(p.shape)
latch.weight_ih.data = np.array([[0, 40], [0, -40], [1, 0], [0, 0]])  # rows i f g o; value, command
latch.bias_ih.data = np.array([-20.0, 20, 0, 20])
values = [0.5, -0.9, 0.3, 0.8, 0.1, -0.4]
commands = [1, 0, 0, 1, 0, 0]
state, shown = latch.init_state(1), []
for value, command in zip(values, commands, strict=True):
    state, _ = latch(state, mg.tensor([[value, float(command)]]))
    shown.append(state.c.item())
print("values  ", values, "\ncommands", commands, "\ncell    ", [round(s, 2) for s in shown])
assert np.allclose(shown[:3], np.tanh(0.5), atol=1e-6)
assert np.allclose(shown[3:], np.tanh(0.8), atol=1e-6)

# %% [markdown]
# ## How it addresses vanishing gradients
#
# In a tanh RNN a step multiplies the gradient by $\mathrm{diag}(1 - h_t^2)\, U^\top$. Along the
# cell state of an LSTM, with the gates held fixed, a step multiplies it by
#
# $$ \frac{\partial c_t}{\partial c_{t-1}} = f_t $$
#
# No matrix, no slope of a squashing function: a number the network itself chooses, as near to 1 as
# it likes. (Hochreiter and Schmidhuber called it the *constant error carousel*; they had no forget
# gate at all, $f = 1$.) Is that what happens in a real LSTM, where gates depend on $h$? The
# Jacobian knows: its block $\partial c_t / \partial c_{t-1}$ next to the gate.

# %%
T, H = 60, 16
xs = rng.standard_normal((T, 1, H))
for bias in (0.0, 2.0, 5.0):
    lstm = nn.LSTM(H, H, dtype=np.float64, generator=np.random.default_rng(1))
    nn.init.forget_bias_(lstm, bias)
    flow = next(iter(mg.flow.probe(lstm, xs).values()))
    block = flow.jacobians().block("c", "c")[:, 0]  # (T, H, H)
    gates = flow.values["f"][:, 0]  # (T, H)
    assert np.allclose(block, [np.diag(f) for f in gates], atol=1e-12)
    verdict = flow.verdicts["c"]
    print(
        f"forget bias {bias:.0f}: mean gate {gates.mean():.3f}; all of dL/dc_t: "
        f"x{verdict.rate:.3f} a step, half-life {verdict.half_life:.3g} steps"
    )
    assert gates.mean() < verdict.rate < gates.mean() + 0.1
assert verdict.rate > 1

# %% [markdown]
# With $h_{t-1}$ held fixed the block is *exactly* diagonal, and its diagonal is the forget gate.
# The whole gradient may also go by way of $h$ and the gates, and each time somewhat more of it is
# left than the mean gate alone would leave; with the gates nearly open it even grows a little.
#
# ## Where it does not
#
# - **At the start.** PyTorch's and minigrad's default bias is near 0: $f \approx 0.5$, and half of
#   the gradient is gone after little more than a step, as above. The bias, not the architecture, is
#   what matters first.
# - **When it forgets on purpose.** A gate that closes cuts the gradient, and should.
# - **Along the hidden state.** From $h_t$ to $h_{t-1}$ there is still a matrix and a squashing
#   function in the way.
# - **Exploding** is not touched: clip.

# %%
lstm = nn.LSTM(H, H, dtype=np.float64, generator=np.random.default_rng(1))
nn.init.forget_bias_(lstm, 5.0)
J = next(iter(mg.flow.probe(lstm, xs).values())).jacobians()
along = {}
for of, wrt in (("c", "c"), ("h", "h")):
    alone = J.block(of, wrt)  # only that path: products of one block, nothing through the other
    log_norm = sum(np.log(np.linalg.norm(step[0], 2)) for step in alone[1:]) / (T - 1)
    through = J.log_singular_values(T, 1, of=of, wrt=wrt)[0, 0] / (T - 1)
    along[of] = through
    print(f"d{of}_T/d{of}_1: all paths x{np.exp(through):.3f} a step; bound on the path through "
          f"{of} alone x{np.exp(log_norm):.3f}")  # fmt: skip
path_h = mg.flow.jacobian.product(J.block("h", "h")[1:], np.eye(H)).log_norm[0] / (T - 1)
print(f"the path through h alone: x{np.exp(path_h):.3f} a step")
assert path_h < -0.3  # it vanishes, as in any RNN
assert along["c"] > -0.1

# %% [markdown]
# ## What the cell state remembers, and what the hidden state does
#
# Train an LSTM to hold on to one bit: the first input is $\pm 1$, then noise; at the end it is
# asked. Then *probe* the states: what can a linear read-out tell from $c_t$, and what from $h_t$?
# The bit, from long ago? The noise that comes in at this very step?


# %%
def batch(draw, rows, length):
    bit = draw.integers(0, 2, rows)
    xs = 0.2 * draw.standard_normal((length, rows, 2)).astype(np.float32)
    xs[0, :, 0] += 2 * bit - 1
    xs[-1, :, 1] += 1.0  # "now"
    return xs, bit


LENGTH, UNITS = 20, 16
draw = np.random.default_rng(0)
net = nn.LSTM(2, UNITS, generator=np.random.default_rng(0))
nn.init.forget_bias_(net, 2.0)
head = nn.Linear(UNITS, 2, generator=np.random.default_rng(1))
adam = optim.Adam([*net.parameters(), *head.parameters()], lr=0.01)
for _ in range(250):
    xs_, bit = batch(draw, 64, LENGTH)
    loss = nn.cross_entropy(head(net(xs_)[0][-1]), bit)
    adam.zero_grad()
    loss.backward()
    optim.clip_grad_norm_(adam.params, 1.0)
    adam.step()
print(f"loss after training: {loss.item():.4f}")
assert loss.item() < 0.05

xs_, bit = batch(np.random.default_rng(5), 400, LENGTH)
with mg.flow.record() as rec:  # values of all states, and gates
    net(xs_)[0].sum().backward()
flow = rec["lstm/l0/fwd"]


def readable(states):
    """Accuracy of the best linear read-out (least squares, half to fit and half to test)."""
    X, y = np.c_[states, np.ones(len(states))], 2 * bit - 1
    w = np.linalg.lstsq(X[:200], y[:200], rcond=None)[0]
    return float((np.sign(X[200:] @ w) == y[200:]).mean())


def explained(states, y):
    """R^2 of the best linear read-out of a number, on the half that it was not fitted to."""
    X = np.c_[states, np.ones(len(states))]
    w = np.linalg.lstsq(X[:200], y[:200], rcond=None)[0]
    return float(1 - np.var(y[200:] - X[200:] @ w) / np.var(y[200:]))


for t in (0, 5, 10, 18):
    c, h = flow.values["c"][t], flow.values["h"][t]
    noise = [explained(states, xs_[t, :, 1]) for states in (c, h)]
    print(
        f"t = {t + 1:2d}: the bit from c {readable(c):4.0%}, from h {readable(h):4.0%}; the noise "
        f"of this step: R2 {noise[0]:.2f} from c, {noise[1]:.2f} from h; "
        f"mean |h| / mean |c| = {np.abs(h).mean() / np.abs(c).mean():.2f}"
    )
    assert min(readable(c), readable(h)) > 0.95
    assert t == 0 or noise[1] > noise[0] + 0.1

# %% [markdown]
# Both tell the bit at every step: the cell state carries it, the hidden state shows it. What sets
# them apart is the present. The hidden state says much more of what came in just now, which
# in the cell state is a small addition to what was there before.
# And the hidden state is squashed: $|h| < |c|$, always within (-1, 1), where $c$ has no bound. So
# only the cell state can count: a unit with $f = i = 1$ adds up.

# %%
counter = nn.LSTM(1, 1, dtype=np.float64)
for p in counter.parameters():
    p.data = np.zeros(p.shape)
counter.weight_ih_l0.data = np.array([[0.0], [0], [0.1], [0]])
counter.bias_ih_l0.data = np.array([30.0, 30, 0, 30])
_, (h_n, c_n) = counter(np.ones((50, 1, 1)))
print(f"after 50 ones: c = {c_n.item():.3f} = 50 tanh(0.1), h = {h_n.item():.5f}")
assert np.isclose(c_n.item(), 50 * np.tanh(0.1))
assert h_n.item() < 1

# %% [markdown]
# ## Exercises
#
# 1. How many parameters has an LSTM with I inputs and H units, beside an RNN and a GRU?
# 2. For a memory of about 100 steps, at which forget bias should a unit start?
# 3. What happens to the gradient if the output gate is 0 at every step but the last?
#
# ## Solutions

# %%
# 1. Four times an RNN's, H (I + H + 2) each; a GRU's are three times.
sizes = {k: sum(p.size for p in getattr(nn, k)(I, H).parameters()) for k in ("RNN", "GRU", "LSTM")}
assert sizes["LSTM"] == 4 * sizes["RNN"]
assert sizes["GRU"] == 3 * sizes["RNN"]
assert sizes["RNN"] == H * (I + H + 2)

# 2. A gate f keeps the state for about 1/(1 - f) steps: f = 0.99, and the bias is its logit, 4.6.
#    `nn.init.chrono_(layer, 100)` draws such biases, for memories from 1 to 100 steps.
assert np.isclose(np.log(0.99 / 0.01), 4.595, atol=1e-3)

# 3. It passes along c undisturbed: the output gate is not on that path. Nothing of c is seen
#    meanwhile, so no other gate can react to it either.

# %% [markdown]
# ## Sources
#
# S. Hochreiter, J. Schmidhuber, "Long short-term memory", *Neural Computation* 9 (1997): equations
# and carousel. F. Gers, J. Schmidhuber, F. Cummins, "Learning to forget" (2000): the forget gate.
# R. Jozefowicz, W. Zaremba, I. Sutskever (2015): the bias. K. Greff et al., "LSTM: a search space
# odyssey" (2017): which parts matter. G. Weiss, Y. Goldberg, E. Yahav (2018): LSTMs count.
