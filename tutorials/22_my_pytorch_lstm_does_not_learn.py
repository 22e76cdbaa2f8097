# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 22 My PyTorch LSTM does not learn
#
# A net of yours lives in PyTorch, its loss does not fall, and you wonder why. This page records
# such a net where it is, without changing it, reads from the recording how far its gradients reach
# and what stopped them, tries the cure in PyTorch, and looks again.
#
# You need tutorials 07 and 08, and `pip install "minigrad-bptt[plot]" torch`. Time: 25 minutes, and
# 40 for the exercises. Run it with `python tutorials/22_my_pytorch_lstm_does_not_learn.py`.

# %%
import math

import numpy as np
import torch
from torch import nn

import minigrad as mg

torch.manual_seed(0)
torch.set_num_threads(1)

# %% [markdown]
# ## The net
#
# The task is the smallest one that needs a memory: a sequence of T noisy numbers, of which only the
# first means something. At the end the net says whether that one was positive.

# %%
T, B, H = 60, 32, 32


def batch(generator, steps=T):
    """x (steps, B, 1), and the sign of its first entry, (B,) of 0 and 1."""
    x = torch.randn(steps, B, 1, generator=generator) * 0.3
    label = torch.randint(0, 2, (B,), generator=generator)
    x[0, :, 0] = 2.0 * label - 1.0
    return x, label


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(1, H)
        self.head = nn.Linear(H, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0][-1])


def train(net, updates, seed=1, steps=T):
    """The mean loss of every 50 updates."""
    generator = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(updates):
        x, label = batch(generator, steps)
        loss = nn.functional.cross_entropy(net(x), label)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        losses.append(loss.item())
    return np.array(losses).reshape(-1, 50).mean(axis=1)


net = Net()
losses = train(net, 150)
print("loss:", losses.round(3), " a coin has", round(math.log(2), 3))
assert losses[-1] > 0.68  # it has learned nothing

# %% [markdown]
# ## One recording
#
# `record_torch` goes around a forward and a backward pass of your own. It hangs hooks on every
# `nn.RNN`, `nn.LSTM`, `nn.GRU` and on their cells, and takes them off again. What is read from it
# afterwards is computed by minigrad's own LSTM, from the weights, inputs and gradients that PyTorch
# had.

# %%
x, label = batch(torch.Generator().manual_seed(2))
net = Net()
with mg.flow.record_torch(net) as rec:
    nn.functional.cross_entropy(net(x), label).backward()
print(rec)

cut = rec.cuts[0]
assert rec.missing == []  # all of it was recorded, and its last states are PyTorch's
assert cut.verdict.kind == "vanishing"
assert cut.verdict.reach < T / 2

# %% [markdown]
# That is the answer, in one line. The state of the net is $S_t = (h_t, c_t)$, and $|dL/dS_t|$
# falls by the printed factor at every step back. Its *reach*, the number of steps after which a
# thousandth is left, is far less than the T steps that the task asks for: the first input has no
# say in the gradient. The forget gate stands at one half, so $c_t$ keeps half of itself at every
# step. What the report proposes to try, chrono biases, is done below in PyTorch.
#
# The same by weights. The gradient of $W_{hh}$ is a sum over lags, and nearly all of it comes from
# the last few steps:

# %%
flow = rec["rnn/l0/fwd"]
by_lag = flow.weights["weight_hh_l0"].by_lag
print("|dL/dW_hh| by lag:", {k: float(f"{by_lag[k]:.2g}") for k in (0, 5, 10, 20, 40)})
assert by_lag[40] < 1e-3 * by_lag[0]
assert abs(np.mean(flow.activations["f"].mean) - 0.5) < 0.05

# PyTorch says the same of the sum, and of the first state's gradient
total = flow.weight_terms()["weight_hh_l0"].sum(axis=0)
assert np.allclose(total, net.rnn.weight_hh_l0.grad.numpy(), atol=1e-6)
mg.flow.show(mg.flow.plots.decay(rec), "pytorch.png")

# %% [markdown]
# ## The cure, in PyTorch
#
# Tallec and Ollivier (2018): a unit whose forget gate stands at $f$ remembers for $1/(1 - f)$
# steps. So draw the biases such that these times are spread over what the task may need,
# $1 \dots T$. In `torch.nn` the rows of the gates are i, f, g, o, and the two biases add up.


# %%
def chrono(lstm, longest):
    """Forget and input biases for memories of 1 to `longest` steps."""
    H = lstm.hidden_size
    with torch.no_grad():
        lstm.bias_ih_l0.zero_()
        lstm.bias_hh_l0.zero_()
        b = torch.log(torch.empty(H).uniform_(1, longest - 1))
        lstm.bias_hh_l0[H : 2 * H] = b  # f
        lstm.bias_hh_l0[:H] = -b  # i


torch.manual_seed(0)
net = Net()
chrono(net.rnn, T)
with mg.flow.record_torch(net) as cured:
    nn.functional.cross_entropy(net(x), label).backward()
after = cured.cuts[0]
print(after.verdict)
print(f"left of the gradient at the first step: {cut.profile[-1] / cut.profile[0]:.1e} before, "
      f"{after.profile[-1] / after.profile[0]:.1e} after")  # fmt: skip
assert after.verdict.reach > 2 * cut.verdict.reach
assert after.profile[-1] / after.profile[0] > 100 * cut.profile[-1] / cut.profile[0]

losses = train(net, 300)
print("loss:", losses.round(3))
assert losses[-1] < 0.1

# %% [markdown]
# A verdict is a hypothesis about *why*; that the loss now falls is what tests it. The converse
# tests it, too: if reach was the trouble, the first net has to learn a task within its reach.

# %%
torch.manual_seed(0)
short = train(Net(), 150, steps=5)
print("the first net, where 5 steps are enough:", short.round(3))
assert short[-1] < 0.1

# %% [markdown]
# ## While it trains
#
# `Monitor` takes a model of PyTorch as it is, and records every n-th step.

# %%
torch.manual_seed(0)
net, generator = Net(), torch.Generator().manual_seed(1)
chrono(net.rnn, T)
adam = torch.optim.Adam(net.parameters(), lr=3e-3)
with mg.flow.Monitor(net, every=20) as monitor:
    for _ in range(60):
        x, label = batch(generator)
        with monitor.step():
            loss = nn.functional.cross_entropy(net(x), label)
            adam.zero_grad()
            loss.backward()
            monitor.clip(1.0)  # clip_grad_norm_, and counted
            adam.step()
        monitor.log(loss=loss.item())
print(monitor.report())
assert len(monitor.history.measurements) == 4

# %% [markdown]
# ## A cell of your own
#
# In a loop that you wrote yourself, nobody can know which values are its state. Mark them with
# `tap_torch`, which gives the value back. A minimal gated unit (Zhou et al. 2016), $h_t = (1 - f_t)
# h_{t-1} + f_t n_t$:


# %%
class Minimal(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.n = nn.Linear(1 + H, H), nn.Linear(1 + H, H)
        self.head = nn.Linear(H, 2)

    def forward(self, x):
        h = torch.zeros(x.shape[1], H)
        for x_t in x:
            f = torch.sigmoid(self.f(torch.cat([x_t, h], 1)))
            n = torch.tanh(self.n(torch.cat([x_t, f * h], 1)))
            h = mg.flow.tap_torch("h", (1 - f) * h + f * n)
        return self.head(h)


torch.manual_seed(0)
own = Minimal()
with mg.flow.record_torch(own) as rec:
    nn.functional.cross_entropy(own(x), label).backward()
print(rec)
assert rec.cuts[0].verdict.kind == "vanishing"

# %% [markdown]
# ## Exercises
#
# **1.** Give *every* unit of an `nn.LSTM` the same memory: hand in a function `(lstm, n)` that sets
# biases so that, while the weights add nothing, each forget gate stands at $1 - 1/n$. (There are
# two bias vectors, and PyTorch fills both with random numbers.)

# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise("a function (lstm, n) that sets the biases of an nn.LSTM")
def check_1(remember):
    for units, steps in ((3, 10), (H, 200)):
        lstm = nn.LSTM(1, units)
        remember(lstm, steps)
        total = (lstm.bias_ih_l0 + lstm.bias_hh_l0).detach()
        gate = torch.sigmoid(total)[units : 2 * units]
        what = f"the forget gates of {units} units, for {steps} steps"
        close(gate, np.full(units, 1 - 1 / steps), what, rtol=1e-5)


# %%
check_1(...)

# %% [markdown]
# **2.** Would `nn.GRU` have done better than the first LSTM? No: its update gate begins at one
# half, too. Hand in a function `(gru, steps)` that starts it so that its gradient reaches back half
# of the T steps at least. Its rows are r, z, n, and $h_t = (1 - z_t) n_t + z_t h_{t-1}$.


# %% Check 2
def reach_of(layer):
    with mg.flow.record_torch(layer) as rec:
        layer(x)[0][-1].sum().backward()
    return rec.cuts[0].verdict.reach or np.inf  # None: further than can be told


@exercise("a function (gru, steps) that sets the biases of an nn.GRU")
def check_2(start):
    torch.manual_seed(0)
    gru = nn.GRU(1, H)
    before = reach_of(gru)
    start(gru, T)
    after = reach_of(gru)
    assert after >= T / 2, f"before it reached {before:.0f} steps back, and now {after:.0f}."
    return f"From {before:.0f} steps back to {after:.0f}."


# %%
check_2(...)

# %% [markdown]
# **3.** Le, Jaitly and Hinton (2015) do without gates: $h_t = \mathrm{relu}(x_t W + h_{t-1} U)$,
# with U the identity at the start. Write it as a Module without arguments, with H units and a loop
# of your own: it takes x (T, B, 1) and returns $h_T$ (B, H), and marks its state with
# `tap_torch("h", ...)`. A tenth of the gradient has to arrive at the first step.


# %% Check 3
@exercise("a class: a Module x (T, B, 1) -> h_T (B, H)")
def check_3(Net):
    torch.manual_seed(0)
    net = Net()
    with mg.flow.record_torch(net) as rec:
        last = net(x)
        last.sum().backward()
    close(tuple(last.shape), (B, H), "the shape of h_T")
    assert last.detach().min() >= 0, "a relu gives nothing below 0."
    assert rec.cuts, "no state was recorded: is each new h passed through mg.flow.tap_torch?"
    profile = rec.cuts[0].profile  # by lag, nearest first
    assert len(profile) == T, f"{len(profile)} states are marked, not {T}."
    left = profile[-1] / profile[0]
    assert left > 0.1, f"x{left:.1e} of the gradient arrives at the first step: how does U begin?"
    assert any(p.shape == (H, H) and p.grad is not None for p in net.parameters()), (
        "U (H, H) is no Parameter with a gradient."
    )
    return f"x{left:.2f} of the gradient arrives at the first step."


# %%
check_3(...)

# %% [markdown]
# ## Solutions


# %% Solution 1
# The two biases add up: one of them carries the logit, the other is set to 0.
def remember(lstm, steps):
    H = lstm.hidden_size
    with torch.no_grad():
        lstm.bias_ih_l0[H : 2 * H] = 0.0
        lstm.bias_hh_l0[H : 2 * H] = math.log(steps - 1)


check_1(remember)


# %% Solution 2
# z keeps: for a memory of `steps`, z = 1 - 1/steps, as above.
def start(gru, steps):
    H = gru.hidden_size
    with torch.no_grad():
        gru.bias_ih_l0[H : 2 * H] = 0.0
        gru.bias_hh_l0[H : 2 * H] = math.log(steps - 1)


check_2(start)


# %% Solution 3
# Where a unit is on, its slope is 1, and U hands it straight on. Where it is off, its gradient
# stops: that is what is missing.
class IRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.randn(1, H))
        self.U = nn.Parameter(torch.eye(H))

    def forward(self, x):
        h = torch.zeros(x.shape[1], H)
        for x_t in x:
            h = mg.flow.tap_torch("h", torch.relu(x_t @ self.W + h @ self.U))
        return h


check_3(IRNN)

# %% [markdown]
# ## Sources
#
# S. Hochreiter, J. Schmidhuber, ["Long short-term
# memory"](https://doi.org/10.1162/neco.1997.9.8.1735), *Neural Computation* 9 (1997). C. Tallec, Y.
# Ollivier, ["Can recurrent neural networks warp time?"](https://arxiv.org/abs/1804.11188) (2018).
# G.-B. Zhou et al., ["Minimal gated unit"](https://arxiv.org/abs/1603.09420) (2016). Q. Le, N.
# Jaitly, G. Hinton, ["A simple way to initialize recurrent networks of rectified linear
# units"](https://arxiv.org/abs/1504.00941) (2015).
