# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 05 The RNN step, its states and outputs, and the four kinds of net
#
# This page takes one step of a recurrent net apart, runs it over a sequence by hand and by layer,
# and sorts out what beginners stumble over: which axis is time, what is an *output* and what a
# *hidden state*, what `return_sequences` leaves out, and how one cell makes four kinds of net.
#
# You need tutorial 04. Time: 20 minutes, and 30 for the exercises. Run it with
# `python tutorials/05_the_rnn_step.py`.

# %%
from dataclasses import replace

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.flow.drawing import draw_network, panel

rng = np.random.default_rng(0)
T, B, I, H = 6, 2, 3, 4  # steps, rows of the batch, features of the input, hidden units

# %% [markdown]
# ## One step
#
# $$ h_t = \tanh(x_t W + h_{t-1} U + b) $$
#
# $x_t$ is what comes in at step $t$, a row of $I$ numbers, $h_{t-1}$ what is remembered, a row of
# $H$. So a batch is rows under each other, $W$ is (I, H), $U$ is (H, H), and on all pages a formula
# reads like its code. Parameters have PyTorch's names and shapes, so that its checkpoints load as
# they are: `weight_ih` is $W$ transposed, `weight_hh` is $U$ transposed, and two biases do the work
# of one.

# %%
cell = nn.RNNCell(I, H, dtype=np.float64, generator=rng)
for name, p in cell.named_parameters():
    print(f"{name:10s} {p.shape}")

xs = rng.standard_normal((T, B, I))
W, U = cell.weight_ih.numpy().T, cell.weight_hh.numpy().T
b = cell.bias_ih.numpy() + cell.bias_hh.numpy()

h = np.zeros((B, H))
by_hand = []
for t in range(T):
    h = np.tanh(xs[t] @ W + h @ U + b)
    by_hand.append(h)
by_hand = np.stack(by_hand)  # (T, B, H)

# %% [markdown]
# A cell in minigrad is a function `(state, x) -> (state, y)`. For an RNN the output $y_t$ *is* the
# state $h_t$; for an LSTM the state is a pair, and the output one of the two (tutorial 08).

# %%
state = cell.init_state(B)
for t in range(T):
    state, y = cell(state, mg.tensor(xs[t]))
assert np.allclose(state.numpy(), by_hand[-1], rtol=1e-14)

# %% [markdown]
# ## The layer: all steps, in one compiled loop

# %%
layer = nn.RNN(I, H, dtype=np.float64)
for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
    setattr(layer, f"{name}_l0", getattr(cell, name))
ys, h_n = layer(xs)
print("outputs    ys ", ys.shape, " (T, B, H): one for every step")
print("last state h_n", h_n.shape, " (layers * directions, B, H)")
assert np.allclose(ys.numpy(), by_hand, rtol=1e-14)
assert np.array_equal(ys.numpy()[-1], h_n.numpy()[0])

# %% [markdown]
# Arrays are (time, batch, features) inside, always. `batch_first=True` takes and gives (batch,
# time, features) at the edge; states never change their layout.
#
# ## `return_sequences`: every output, or the last
#
# A classifier of whole sequences needs the last output only. With padding, "the last" is the last
# *real* step of each row; taking `ys[-1]` would read the padding.

# %%
last_only = nn.RNN(I, H, return_sequences=False, dtype=np.float64)
last_only.load_state_dict(layer.state_dict())
y, _ = last_only(xs, lengths=[6, 4])
print("return_sequences=False:", y.shape, "(B, H)")
assert np.allclose(y.numpy()[0], by_hand[5, 0])
assert np.allclose(y.numpy()[1], by_hand[3, 1])  # row 1 ended after 4 steps

# %% [markdown]
# | | `ys` | `final` |
# |---|---|---|
# | RNN, GRU | (T, B, H) | h_n (layers * directions, B, H) |
# | LSTM | (T, B, H) | (h_n, c_n), each (layers * directions, B, H) |
# | bidirectional, concat | (T, B, 2 H) | layer 0 forward, layer 0 reverse, layer 1 forward, ... |
# | return_sequences=False | (B, H) or (B, 2 H) | the same |
#
# ## Four kinds of net from one cell
#
# | kind | in | out | example |
# |---|---|---|---|
# | one-to-one | a vector | a vector | digits: no time, an MLP does |
# | one-to-many | a vector | a sequence | captions, sampling names |
# | many-to-one | a sequence | a vector | sentiment, who is speaking, tomorrow's value |
# | many-to-many | a sequence | a sequence | tags for each word; translation, other lengths |
#
# What differs is only *where inputs go in and where outputs are read*:

# %%
gru = nn.GRU(I, H, generator=rng)
head = nn.Linear(H, 5, generator=rng)
x32 = xs.astype(np.float32)

# many-to-one: read the last output
scores = head(gru(x32)[0][-1])
print("many-to-one  ", x32.shape, "->", scores.shape)

# many-to-many, same length: read every output
tags = head(gru(x32)[0])
print("many-to-many ", x32.shape, "->", tags.shape)

# one-to-many: the vector is the first state, and each output is the next input
feed = nn.Linear(5, I, generator=rng)
state, produced = mg.tensor(rng.standard_normal((B, H)), dtype=np.float32), []
x = mg.tensor(np.zeros((B, I), np.float32))
for _ in range(4):
    state, y = gru.cells[0](state, x)
    produced.append(head(y))
    x = feed(mg.softmax(produced[-1], axis=-1))
print("one-to-many  ", (B, H), "->", (len(produced), *produced[0].shape))

# many-to-many, other length: one net reads, its last state is the other's first
writer = nn.GRU(I, H, generator=rng)
_, summary = gru(x32)
written, _ = writer(np.zeros((9, B, I), np.float32), summary)
print("many-to-many ", x32.shape, "->", head(written).shape, "(encoder and decoder)")

# %% [markdown]
# The four as pictures, drawn from a run of each: a round box is an input, a square one a hidden
# state, and L stands wherever a loss reads an output. (The colours and numbers are the gradient,
# which pages 06 and 07 are about.)

# %%
kinds = {}
with mg.flow.record() as kinds["many-to-one: the last output is read"]:
    mg.sum(head(gru(x32)[0][-1]) ** 2).backward()
with mg.flow.record() as kinds["many-to-many: every output is read"]:
    mg.sum(head(gru(x32)[0]) ** 2).backward()
with mg.flow.record() as kinds[
    "one-to-many: a vector is the first state, an output the next input"
]:
    state, x, loss = produced[0][:, :H][None], x32[:1] * 0, 0.0
    for _ in range(4):
        y, state = gru(x, state)
        loss, x = loss + mg.sum(head(y) ** 2), feed(mg.softmax(head(y), axis=-1))
    loss.backward()
with mg.flow.record() as kinds["many-to-many, other length: the last state is another's first"]:
    written, _ = writer(np.zeros((4, B, I), np.float32), gru(x32)[1])
    mg.sum(head(written) ** 2).backward()
panels = [replace(panel(kind, rec, summed=True), note="", inputs={}) for kind, rec in kinds.items()]
mg.flow.show(draw_network(panels, way="forward"), "four-kinds.svg")

# %% [markdown]
# ## tanh or ReLU?
#
# $\tanh$ keeps the state within (-1, 1) and has a slope of at most 1. ReLU has the slope 1 where it
# is on, so a gradient can pass undiminished, and no bound, so a state can run away. Le, Jaitly and
# Hinton (2015) start a ReLU RNN at $U = \mathbb 1$: it then copies its state until told
# otherwise.

# %%
growth = {}
for nonlinearity in ("tanh", "relu"):
    net = nn.RNN(I, H, nonlinearity=nonlinearity, dtype=np.float64)
    for p in net.parameters():
        p.data = np.zeros(p.shape)
    net.weight_hh_l0.data = 1.1 * np.eye(H)
    net.bias_ih_l0.data = np.full(H, 0.1)
    hs, _ = net(np.zeros((40, 1, I)))
    growth[nonlinearity] = float(hs.numpy()[-1, 0, 0])
    print(f"U = 1.1 I, {nonlinearity}: h_40 = {growth[nonlinearity]:.3g}")
assert growth["tanh"] < 1
assert np.isclose(growth["relu"], 0.1 * (1.1**40 - 1) / 0.1)  # a geometric series

# %% [markdown]
# ## Exercises
#
# **1.** Count: hand in a function `(I, H, layers, directions)` that gives the number of parameters
# of an `nn.RNN`. (The second layer reads the outputs of the first.)

# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise("a function (I, H, layers, directions) -> the number of parameters")
def check_1(count):
    for inputs, units, layers, directions in (
        (3, 4, 1, 1),
        (1, 1, 3, 1),
        (3, 4, 1, 2),
        (5, 2, 3, 2),
    ):
        net = nn.RNN(inputs, units, num_layers=layers, bidirectional=directions == 2)
        case = f"I={inputs}, H={units}, {layers} layer(s), {directions} direction(s)"
        true = sum(p.size for p in net.parameters())
        close(count(inputs, units, layers, directions), true, case)


# %%
check_1(...)

# %% [markdown]
# **2.** Padded rows: hand in a function `(ys, lengths)` that picks, from all outputs (T, B, H), the
# output at the last *real* step of each row, (B, H). It may not be disturbed by what stands in the
# padding.


# %% Check 2
@exercise("a function (ys, lengths) -> (B, H)")
def check_2(last):
    for lengths in ([6, 4], [1, 6], [2, 2]):
        expected, _ = last_only(xs, lengths=lengths)
        ys_ = layer(xs)[0].numpy().copy()
        for row, length in enumerate(lengths):
            ys_[length:, row] = np.nan
        close(last(ys_, np.array(lengths)), expected, f"the last outputs for lengths {lengths}")


# %%
check_2(...)

# %% [markdown]
# **3.** The units of a layer have no order: renaming them gives the same network. Hand in a
# function `(W_ih, W_hh, b, order)` that returns the three for a layer whose unit $k$ is unit
# `order[k]` of the old one, for weights as the layer stores them, (H, I) and (H, H). (In how many
# ways can one write down the same network of 64 units?)


# %% Check 3
@exercise("a function (W_ih, W_hh, b, order) -> (W_ih, W_hh, b) of the renamed layer")
def check_3(renamed):
    order = np.array([2, 0, 3, 1])
    other = nn.RNN(I, H, dtype=np.float64)
    old = [layer.weight_ih_l0.numpy(), layer.weight_hh_l0.numpy(), b]
    new = [np.asarray(a) for a in renamed(*old, order)]
    for name, was, now in zip(("W_ih", "W_hh", "b"), old, new, strict=True):
        assert was.shape == now.shape, f"{name} became {now.shape}; it was {was.shape}."
    other.weight_ih_l0.data, other.weight_hh_l0.data, other.bias_ih_l0.data = new
    other.bias_hh_l0.data = np.zeros(H)
    close(other(xs)[0], by_hand[:, :, order], "the outputs, renamed")
    digits = np.log10(np.arange(1.0, 65.0)).sum()
    return f"In 64! ways, about 10^{digits:.0f}: a loss surface has that many copies of a minimum."


# %%
check_3(...)

# %% [markdown]
# ## Solutions


# %% Solution 1
# A cell has H (in + H + 2) parameters; `in` is I in the first layer, then H for each direction.
def count(I, H, layers, directions):
    first = directions * H * (I + H + 2)
    return first + (layers - 1) * directions * H * (directions * H + H + 2)


check_1(count)

# %% Solution 2
# One index for the step and one for the row, together. `ys[lengths - 1]` alone would be (B, B, H).
check_2(lambda ys, lengths: ys[lengths - 1, np.arange(len(lengths))])

# %% Solution 3
# Every unit has a row in W_ih and b, and in W_hh a row *and* a column: it is also read.
check_3(lambda W_ih, W_hh, b, order: (W_ih[order], W_hh[order][:, order], b[order]))

# %% [markdown]
# ## Sources
#
# J. Elman, ["Finding structure in time"](https://doi.org/10.1207/s15516709cog1402_1) (1990): the
# context units. Q. Le, N. Jaitly, G. Hinton, ["A simple way to initialize recurrent networks of
# rectified linear units"](https://arxiv.org/abs/1504.00941) (2015). The shapes and names are those
# of [`torch.nn.RNN`](https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html);
# `return_sequences` is Keras' word. [A. Karpathy
# (2015)](https://karpathy.github.io/2015/05/21/rnn-effectiveness/) drew the kinds of net.
