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
# and what stopped them, tries the cure in PyTorch, and looks again. It needs PyTorch:
# `pip install "minigrad-bptt[plot]" torch`. Run it with `python
# tutorials/22_my_pytorch_lstm_does_not_learn.py`. You need tutorials 07 and 08.

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
# A verdict is a hypothesis about *why*; that the loss now falls is what tests it. So does the
# other way round: if reach was the trouble, the first net has to learn a task within its reach.

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
# Of a loop that you wrote yourself nobody knows which values are its state. Mark them with
# `tap_torch`, which gives the value back. A minimal gated unit (Zhou et al. 2016),
# $h_t = (1 - f_t) h_{t-1} + f_t n_t$:


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
# 1. Which of the two parts of the state, h or c, carried what arrived at the far end in the net
#    with new biases?
# 2. Would `nn.GRU` have reached further than the first LSTM?
# 3. Record two layers, `nn.LSTM(1, H, 2)`. What does a cut go through?
#
# ## Solutions
#
# 1. c: h passes through weights and gates at every step, c through the forget gate alone.
# 2. Not far enough: its update gate, too, begins at one half.
# 3. Through the states of both layers at once, since a gradient that leaves the upper layer can
#    travel back in the lower one.

# %%
print("carried at the far end:", {k: round(v, 2) for k, v in after.verdict.path.items()})
assert after.verdict.path["c"] > after.verdict.path["h"]

torch.manual_seed(0)
gru = nn.GRU(1, H)
with mg.flow.record_torch(gru) as rec:
    gru(x)[0][-1].sum().backward()
print("a GRU:", rec.cuts[0].verdict)
assert rec.cuts[0].verdict.reach < T / 2

deep = nn.LSTM(1, H, 2)
with mg.flow.record_torch(deep) as rec:
    deep(x)[0][-1].sum().backward()
assert rec.cuts[0].labels == [(f"lstm/l{k}/fwd", s) for k in (0, 1) for s in ("h", "c")]

# %% [markdown]
# ## Sources
#
# - S. Hochreiter and J. Schmidhuber (1997), Long Short-Term Memory. Neural Computation 9(8).
# - C. Tallec and Y. Ollivier (2018), Can recurrent neural networks warp time? ICLR.
# - G.-B. Zhou, J. Wu, C.-L. Zhang and Z.-H. Zhou (2016), Minimal Gated Unit for Recurrent Neural
#   Networks. IJAC 13(3).
