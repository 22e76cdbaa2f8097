# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 23 The notes, measured
#
# Most people meet recurrent nets in notes of two pages: what a feedforward net cannot do, the RNN
# step, vanishing gradients, the LSTM's six equations, the GRU's four, two directions. This page
# goes through such notes sentence by sentence (they are set in *italics*), computes what supports
# each, corrects four of them, and says which tutorial shows the rest.
# Run it with `python tutorials/23_the_notes_measured.py`. You need tutorials 05 to 10.

# %%
import time

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim

rng = np.random.default_rng(0)
T, B, I, H = 30, 4, 3, 5
xs = rng.standard_normal((T, B, I))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# %% [markdown]
# ## Why not an MLP?
#
# *MLPs cannot handle inputs of different lengths.* Its matrix has one row for each input number:

# %%
mlp = nn.Linear(8 * I, H, dtype=np.float64, generator=rng)
mlp(xs[:8, 0].reshape(1, -1))
try:
    mlp(xs[:9, 0].reshape(1, -1))
except mg.ShapeError as error:
    print("9 steps:", error)
rnn = nn.RNN(I, H, bias=False, dtype=np.float64, generator=rng)
print("an RNN takes", [rnn(xs[:length])[0].shape[0] for length in (1, 8, 9, 30)], "steps")

# %% [markdown]
# *They do not share features over positions.* If a symbol never stood at the third place in
# training, the weights that would read it there have never had a gradient, exactly. The RNN's
# weight for that symbol has, from wherever it stood (tutorial 04 trains both).

# %%
symbols = np.zeros((8, 1, I))
symbols[5, 0, 0] = 1.0  # the symbol stands at place 5, never at place 2
mg.tanh(mlp(symbols.reshape(1, -1))).sum().backward()
rnn(symbols)[0][-1].sum().backward()
at_two, at_five = (mlp.weight.grad.numpy()[:, place * I] for place in (2, 5))
shared = rnn.weight_ih_l0.grad.numpy()[:, 0]
print(f"MLP, place 2: {np.abs(at_two).max()}, place 5: {np.abs(at_five).max():.2f}; "
      f"RNN, any place: {np.abs(shared).max():.1e}")  # fmt: skip
assert not at_two.any()
assert at_five.any()
assert shared.any()

# %% [markdown]
# ## The RNN
#
# *With `return_sequences=True` the output is (batch, timesteps, units), else (batch, units).*

# %%
for whole in (True, False):
    layer = nn.RNN(I, H, batch_first=True, return_sequences=whole, dtype=np.float64)
    y, _ = layer(np.swapaxes(xs, 0, 1))
    print(f"return_sequences={whole}: {y.shape}")
    assert y.shape == ((B, T, H) if whole else (B, H))

# %% [markdown]
# *Four types: one to one, one to many, many to one, many to many.* One cell makes them all
# (tutorial 05); on real data: captions (15), sentiment (13), translation (14), speech (16).
#
# *Issues: vanishing and exploding gradients.* The same net, with weights that shrink or stretch:

# %%
Q, _ = np.linalg.qr(rng.standard_normal((H, H)))
for scale in (0.5, 2.0):
    rnn.weight_hh_l0.data = scale * Q
    found = mg.flow.probe(rnn, 1e-9 * xs).verdict
    print(f"U = {scale} Q, tiny inputs: {found.kind}, x{found.rate:.2f} a step")
    assert (found.kind == "exploding") == (scale > 1)

# %% [markdown]
# ## The LSTM
#
# *Concat the hidden state of the previous step and the input:* $W \cdot [h_{t-1}, x_t]$ is the same
# as $W_x x_t + W_h h_{t-1}$, with the two halves of $W$ side by side. The six equations:

# %%
cell = nn.LSTMCell(I, H, dtype=np.float64, generator=rng)
h, c, x = rng.standard_normal((B, H)), rng.standard_normal((B, H)), xs[0]
W = np.concatenate([cell.weight_hh.numpy(), cell.weight_ih.numpy()], axis=1)  # (4H, H + I)
W_i, W_f, W_C, W_o = np.split(W, 4)
b_i, b_f, b_C, b_o = np.split(cell.bias_ih.numpy() + cell.bias_hh.numpy(), 4)
both = np.concatenate([h, x], axis=1)

f = sigmoid(both @ W_f.T + b_f)
i = sigmoid(both @ W_i.T + b_i)
candidate = np.tanh(both @ W_C.T + b_C)
new_c = f * c + i * candidate
o = sigmoid(both @ W_o.T + b_o)
new_h = o * np.tanh(new_c)

(h_1, c_1), _ = cell(nn.LSTMState(mg.tensor(h), mg.tensor(c)), mg.tensor(x))
assert np.allclose(c_1.numpy(), new_c, rtol=1e-13)
assert np.allclose(h_1.numpy(), new_h, rtol=1e-13)
assert 0 < min(f.min(), i.min(), o.min()) < max(f.max(), i.max(), o.max()) < 1
print("six equations, and the cell of minigrad: the same numbers")

# %% [markdown]
# *LSTMs were developed to resolve the long-term dependency problem that results from vanishing and
# exploding gradients.* **Half of it.** Vanishing they ease, if the forget gate is open (tutorial
# 08). Exploding they do not touch: with large recurrent weights an LSTM explodes like any other
# net, and what helps is clipping (tutorial 07).

# %%
long, kinds = rng.standard_normal((60, B, 16)), []
for name, bias, stretch in (("as it begins", 0, 1), ("forget bias 5", 5, 1), ("... U x 25", 5, 25)):
    lstm = nn.LSTM(16, 16, dtype=np.float64, generator=np.random.default_rng(1))
    nn.init.forget_bias_(lstm, float(bias))
    lstm.weight_hh_l0.data = stretch * lstm.weight_hh_l0.numpy()
    found = mg.flow.probe(lstm, 0.1 * long).verdict
    print(f"{name:14s} {found.kind:10s} x{found.rate:.2f} a step; {found.reach_words}")
    kinds.append(found.kind)
assert kinds == ["vanishing", "healthy", "exploding"]

# %% [markdown]
# *The cell state encodes the information from all previous time steps, the hidden state that of the
# most recent one.* **Not as it stands:** what $h_t$ shows it takes from $c_t$, so both know of
# both, one more of this, the other more of that. How well can an input be read from either?


# %%
def readable(states, y):
    """R^2 of the best linear read-out, on the half that it was not fitted to."""
    X, half = np.c_[states, np.ones(len(states))], len(states) // 2
    w = np.linalg.lstsq(X[:half], y[:half], rcond=None)[0]
    return float(1 - np.var(y[half:] - X[half:] @ w) / np.var(y[half:]))


lstm = nn.LSTM(1, 16, dtype=np.float64, generator=np.random.default_rng(3))
nn.init.forget_bias_(lstm, 4.0)
heard = rng.standard_normal((12, 2000, 1))
flow = mg.flow.probe(lstm, heard)["lstm/l0/fwd"]
told = {}
for ago in (0, 5, 10):
    told[ago] = [readable(flow.values[s][-1], heard[-1 - ago, :, 0]) for s in ("c", "h")]
    print(
        f"the input of {ago:2d} steps ago: R2 {told[ago][0]:.2f} from c, {told[ago][1]:.2f} from h"
    )
assert told[0][1] > told[0][0]  # what comes in now: more of it in h
assert min(told[10]) > 0.1  # and of long ago there is something in both

# %% [markdown]
# ## The GRU
#
# *It combines the forget and input gates into an update gate and merges cell and hidden state:*
# three quarters of an LSTM's weights. The four equations, as notes have them: without biases, the
# reset gate before the product. In minigrad that is `reset_after=False, update="write"`:

# %%
gru = nn.GRUCell(I, H, bias=False, reset_after=False, update="write", dtype=np.float64,
                 generator=rng)  # fmt: skip
W_r, W_z, W_n = np.split(np.concatenate([gru.weight_hh.numpy(), gru.weight_ih.numpy()], axis=1), 3)
z = sigmoid(both @ W_z.T)
r = sigmoid(both @ W_r.T)
proposal = np.tanh(np.concatenate([r * h, x], axis=1) @ W_n.T)
new_h = (1 - z) * h + z * proposal
assert np.allclose(gru(mg.tensor(h), mg.tensor(x))[0].numpy(), new_h, rtol=1e-13)
weights = {c: sum(p.size for p in getattr(nn, c)(I, H).parameters()) for c in ("GRU", "LSTM")}
assert 4 * weights["GRU"] == 3 * weights["LSTM"]

# %% [markdown]
# *The update gate decides how much of the past is passed along; the reset gate, how much to
# forget.* **With these equations it is the other way round, and less simple:** a $z$ near 1 passes
# *nothing* along (in PyTorch and Keras, which mix the other way, all of it), and the reset gate
# forgets only for the proposal: where $z$ is small the past stays, whatever $r$ says.

# %%
for gate, value in (("z", 0.99), ("z", 0.01)):
    kept = (1 - value) * h
    print(f"{gate} = {value}: {np.linalg.norm(kept) / np.linalg.norm(h):.0%} of h is passed along")
forgotten = np.tanh(np.concatenate([0 * h, x], axis=1) @ W_n.T)  # r = 0
mixed = 0.99 * h + 0.01 * forgotten  # z = 0.01
print(f"z = 0.01 and r = 0: the state moves by {np.abs(mixed - h).max():.3f} at most")
assert np.abs(mixed - h).max() < 0.05

# %% [markdown]
# ## Two directions
#
# *A BiLSTM captures past and future; outputs are combined by average, sum, product or
# concatenation.* Output 10 depends on step 20, which for one direction is still to come:

# %%
for two in (False, True):
    layer = nn.LSTM(I, H, bidirectional=two, dtype=np.float64, generator=rng)
    x = mg.tensor(xs, requires_grad=True)
    ahead = mg.grad(layer(x)[0][10].sum(), x).numpy()[20]
    print(f"bidirectional={two}: |d y_10 / d x_20| = {np.linalg.norm(ahead):.1e}")
    assert ahead.any() == two
for merge, expected in (("concat", 2 * H), ("sum", H), ("mean", H), ("mul", H)):
    layer = nn.LSTM(I, H, bidirectional=True, merge=merge, dtype=np.float64)
    assert layer(xs)[0].shape == (T, B, expected)

# %% [markdown]
# *It is slower and requires more time for training.* A step is, having twice the work. Whether it
# needs more *steps* is another question, and depends on what there is to learn. Who is speaking, by
# twelve numbers a frame: updates and seconds until nine of ten test recordings are right.

# %%
vowels = data.japanese_vowels()
sizes = np.array([len(x) for x in vowels.xs])
padded = np.stack([np.pad(x, ((0, 29 - len(x)), (0, 0))) for x in vowels.xs], 1).astype(np.float32)


def until_right(seed, goal=0.9, **options):
    generator, draw = np.random.default_rng(seed), np.random.default_rng(seed)
    net = nn.LSTM(12, 24, return_sequences=False, generator=generator, **options)
    head = nn.Linear(48 if options else 24, 9, generator=generator)
    adam = optim.Adam([*net.parameters(), *head.parameters()], lr=5e-3)
    began = time.process_time()
    updates, right = 0, 0.0
    while right < goal and updates < 400:
        updates += 1
        rows = draw.choice(vowels.train, 32)
        loss = nn.cross_entropy(head(net(padded[:, rows], lengths=sizes[rows])[0]),
                                vowels.labels[rows])  # fmt: skip
        adam.zero_grad()
        loss.backward()
        adam.step()
        with mg.no_grad():
            guess = head(net(padded[:, vowels.test], lengths=sizes[vowels.test])[0]).numpy()
        right = (guess.argmax(-1) == vowels.labels[vowels.test]).mean()
    return updates, time.process_time() - began


needed = {}
for name, options in (("LSTM", {}), ("BiLSTM", {"bidirectional": True})):
    runs = [until_right(seed, **options) for seed in range(4)]
    updates = [u for u, _ in runs]
    needed[name] = np.median(updates)
    print(f"{name:6s} {np.median(updates):5.0f} updates ({min(updates)} to {max(updates)}), "
          f"{np.median([s for _, s in runs]):.2f} s of CPU")  # fmt: skip

assert needed["BiLSTM"] < needed["LSTM"]

# %% [markdown]
# **Fewer**, here: with twice the weights and two ends to read from, a speaker is told sooner.
#
# ## Exercises
#
# 1. Which of the sentences above is wrong for PyTorch's GRU, and right for Chung's?
# 2. "An RNN has a memory." Of how many numbers?
# 3. Find a sentence about recurrent nets elsewhere, and a number that would correct it.
#
# ## Solutions

# %%
# 1. "z near 1 passes nothing along": PyTorch has h = (1 - z) n + z h, and z near 1 keeps it all.
torch_like = nn.GRUCell(I, H, bias=False, dtype=np.float64)
torch_like.weight_hh.data = 0.0 * torch_like.weight_hh.numpy()
torch_like.weight_ih.data = np.repeat([0.0, 50, 1], H)[:, None] * np.ones((3 * H, I))  # r z n
kept = torch_like(mg.tensor(h), mg.tensor(np.ones((B, I))))[0].numpy()  # z = 1
assert np.allclose(kept, h)
# 2. As many as it has units: H for an RNN and a GRU, 2 H for an LSTM, for each layer and direction.
# 3. Yours.

# %% [markdown]
# ## Sources
#
# The notes are those that this project grew from; of their kind, A. Karpathy, ["The unreasonable
# effectiveness of recurrent neural networks"](https://karpathy.github.io/2015/05/21/rnn-effectiveness/)
# (2015), and C. Olah, ["Understanding LSTM
# networks"](https://colah.github.io/posts/2015-08-Understanding-LSTMs/) (2015), are the best. The
# equations: tutorials 08 and 09.
