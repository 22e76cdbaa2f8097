# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 04 Why sequences need a network of their own
#
# A plain network (a multilayer perceptron, MLP) takes a vector of fixed length. Sentences, melodies
# and measurements have any length, and what matters in them may stand anywhere. This page shows
# what an MLP cannot learn of a sequence, and the one idea that mends it: **use the same weights at
# every position, and carry a memory from one to the next.**
# Run it with `python tutorials/04_why_sequences.py`.

# %%
import numpy as np

import minigrad as mg
from minigrad import nn, optim

# %% [markdown]
# ## A task of which the answer is not at a fixed place
#
# A sequence of symbols 0 .. 4. Somewhere in it stands a 4, the marker, and the answer is the symbol
# *after* the marker. Nothing else counts.

# %%
MARK, SYMBOLS = 4, 4


def batch(rng, rows, length, places=None):
    """(T, B) symbols, (B,) answers; the marker stands at one of `places`, by default anywhere."""
    x = rng.integers(0, SYMBOLS, (length, rows))
    place = rng.choice(range(length - 1) if places is None else places, rows)
    x[place, np.arange(rows)] = MARK
    return x, x[place + 1, np.arange(rows)]


rng = np.random.default_rng(0)
x, y = batch(rng, 3, 8)
for row in range(3):
    print(" ".join("M" if s == MARK else str(s) for s in x[:, row]), " -> ", y[row])

# %% [markdown]
# ## An MLP and two recurrent nets
#
# The MLP sees the whole sequence as one long vector: one weight for each symbol *at each position*.
# The RNN reads a symbol at a time, $h_t = \tanh(W x_t + U h_{t-1} + b)$, with one $W$ and one
# $U$ for all positions, and answers from its last state. Beside it its big brother, the GRU, which
# has the same idea and switches to decide what is kept (tutorial 09).

# %%
LENGTH, HIDDEN = 8, 32
one_hot = np.eye(SYMBOLS + 1, dtype=np.float32)


class MLP(nn.Module):
    def __init__(self, generator):
        wide = LENGTH * (SYMBOLS + 1)
        self.hidden = nn.Linear(wide, HIDDEN, generator=generator)
        self.out = nn.Linear(HIDDEN, SYMBOLS, generator=generator)

    def forward(self, x):
        return self.out(mg.tanh(self.hidden(np.concatenate(list(one_hot[x]), axis=-1))))


class Recurrent(nn.Module):
    def __init__(self, generator):
        self.rnn = self.layer(SYMBOLS + 1, HIDDEN, generator=generator)
        self.out = nn.Linear(HIDDEN, SYMBOLS, generator=generator)

    def forward(self, x):
        hs, _ = self.rnn(one_hot[x])
        return self.out(hs[-1])


class RNN(Recurrent):
    layer = nn.RNN


class GRU(Recurrent):
    layer = nn.GRU


def train(model, updates, places):
    """Trains with the marker at these places only."""
    draw = np.random.default_rng(1)
    adam = optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(updates):
        x, y = batch(draw, 64, LENGTH, places)
        loss = nn.cross_entropy(model(x), y)
        adam.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
    return model


def accuracy(model, places=None, length=LENGTH):
    x, y = batch(np.random.default_rng(2), 2000, length, places)
    with mg.no_grad():
        return float((model(x).numpy().argmax(-1) == y).mean())


SEEN, UNSEEN = [0, 1, 3, 4, 6], [2, 5]
models = {}
for kind in (MLP, RNN, GRU):
    model = models[kind.__name__] = train(kind(np.random.default_rng(0)), 1000, SEEN)
    weights = sum(p.size for p in model.parameters())
    print(
        f"{kind.__name__}: {weights} weights; marker where it was in training: "
        f"{accuracy(model, SEEN):4.0%}, elsewhere: {accuracy(model, UNSEEN):4.0%}"
    )
assert accuracy(models["MLP"], SEEN) > 0.95
assert accuracy(models["RNN"], SEEN) > 0.95
assert accuracy(models["MLP"], UNSEEN) < 0.35
assert accuracy(models["RNN"], UNSEEN) > accuracy(models["MLP"], UNSEEN) + 0.1
assert accuracy(models["GRU"], UNSEEN) > 0.95
x, _ = batch(np.random.default_rng(2), 4, LENGTH)
picture = mg.flow.draw(models["GRU"], x, title="One cell, a loop, a head")  # what runs in model(x)
print("drawn to", picture.save("rnn.svg"))

# %% [markdown]
# All learn the task at the places where they saw it. (They would learn every place, if every place
# were shown.) At a place it never saw, the MLP is near chance, 25 %: the weights that read it were
# never trained for a marker there. The others have no weights of a place. What the GRU learned is
# *"after a marker, remember"*, and all of it carries over. The plain RNN, with the same idea, gets
# not much further than counting symbols would (exercise 2): sharing weights makes it possible to
# learn the rule, and does not see to it that it is learned.

# %% [markdown]
# ## Another length
#
# The MLP cannot even be *called* with a sequence of 9: its matrix has the wrong shape. The GRU does
# not mind; the same matrices are used once more.

# %%
for length in (4, 8, 12):
    print(f"GRU, trained at length 8, asked at length {length:2d}: "
          f"{accuracy(models['GRU'], length=length):4.0%}")  # fmt: skip
    assert accuracy(models["GRU"], length=length) > 0.9
try:
    MLP(np.random.default_rng(0))(batch(rng, 1, 9)[0])
except mg.ShapeError as error:
    print("MLP at length 9:", error)

# %% [markdown]
# Sequences of different lengths go into *one* batch by padding; `lengths` says what counts. The
# padding changes nothing, whatever stands there:

# %%
x, _ = batch(rng, 2, 8)
padded = one_hot[x].copy()
padded[5:, 1] = np.nan  # row 1 ends after 5 steps
hs, h_n = models["GRU"].rnn(padded, lengths=[8, 5])
alone, _ = models["GRU"].rnn(one_hot[x][:5, 1:])
assert np.allclose(h_n.numpy()[0, 1], alone.numpy()[-1, 0], atol=1e-6)
print("row 1 in the batch and alone: the same final state")

# %% [markdown]
# ## Exercises
#
# 1. How do the numbers of weights of the two models grow with the length of the sequence?
# 2. Average the one-hot vectors over time and feed them to an MLP (a "bag of words"). How well can
#    it do on this task at best, and why?
# 3. An MLP over a *window* of 2 symbols, slid along the sequence, with the maximum over positions:
#    could that solve the task? What is that network called?
#
# ## Solutions

# %%
# 1. The MLP's grows linearly (32 times 5 weights for each position more); the RNN's not at all.
assert sum(p.size for p in RNN(rng).parameters()) == 32 * 5 + 32 * 32 + 2 * 32 + 4 * 32 + 4

# 2. A bag knows which symbols came, not which stood behind the marker. The best it can do is the
#    most frequent symbol of the sequence: better than chance, far from right.
x, y = batch(np.random.default_rng(3), 20_000, LENGTH)
counts = np.stack([(x == s).sum(0) for s in range(SYMBOLS)])
print(f"best bag of symbols: {float((counts.argmax(0) == y).mean()):.0%}")

# 3. Yes: "marker, then s" is a pattern of two neighbours, and shared weights find it anywhere. It
#    is a convolutional network. What it cannot do is to connect symbols further apart than its
#    window, for which a state that is carried along has no limit in principle. (In practice it has:
#    tutorial 07.)

# %% [markdown]
# ## Sources
#
# J. Elman, "Finding structure in time", *Cognitive Science* 14 (1990): the recurrent net, and the
# argument against a fixed window. A. Karpathy, "The unreasonable effectiveness of recurrent neural
# networks" (2015). I. Goodfellow, Y. Bengio, A. Courville, *Deep Learning*, section 10 (2016):
# parameter sharing.
