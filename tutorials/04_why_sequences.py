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
#
# You need tutorials 02 and 03. Time: 20 minutes, and 40 for the exercises. Run it with
# `python tutorials/04_why_sequences.py`.

# %%
import numpy as np

import minigrad as mg
from minigrad import nn, optim

# %% [markdown]
# ## A task whose answer can be anywhere
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
# The RNN reads a symbol at a time, $h_t = \tanh(x_t W + h_{t-1} U + b)$, with one $W$ and one
# $U$ for all positions, and answers from its last state. Beside it stands its big brother: the GRU
# has the same idea, and switches that decide what is kept (tutorial 09).

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
assert accuracy(models["RNN"], UNSEEN) < 0.75  # counting symbols gets 0.45: exercise 2
assert accuracy(models["GRU"], UNSEEN) > 0.95
x, _ = batch(np.random.default_rng(2), 4, LENGTH)
picture = mg.flow.draw(models["GRU"], x, title="One cell, a loop, a head")  # what runs in model(x)
mg.flow.show(picture, "rnn.svg")

# %% [markdown]
# All learn the task at the places where they saw it. (They would learn every place, if every place
# were shown.) At a place it never saw, the MLP is near chance, 25 %: the weights that read it were
# never trained for a marker there. The others have no weights of a place. What the GRU learned is
# *"after a marker, remember"*, and all of it carries over. The plain RNN, built on the same idea,
# does little better than counting symbols would (exercise 2): shared weights make it possible to
# learn the rule, and do not ensure that it is learned.

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
# **1.** How do the numbers of weights grow with the length of the sequence? Hand in a function
# `length -> (weights of the MLP, weights of the RNN)`, for the two nets of this page (32 units,
# 5 input symbols, 4 answers; `nn.RNN` has two biases).

# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise("a function length -> (weights of the MLP, weights of the RNN)")
def check_1(count):
    def size(*modules):
        return sum(p.size for module in modules for p in module.parameters())

    out = nn.Linear(HIDDEN, SYMBOLS)
    for length in (1, 8, 13):
        mlp = size(nn.Linear(length * (SYMBOLS + 1), HIDDEN), out)
        rnn = size(nn.RNN(SYMBOLS + 1, HIDDEN), out)
        found = count(length)
        close(found[0], mlp, f"weights of the MLP at length {length}")
        close(found[1], rnn, f"weights of the RNN at length {length}")


# %%
check_1(...)

# %% [markdown]
# **2.** Throw the order away: of each sequence only the *counts* of the four symbols are left, an
# array (4, B). Nothing that sees only these can be right always. Hand in a rule `counts -> answers`
# that is right as often as possible, and clearly more often than chance.


# %% Check 2
@exercise("a function: counts (4, B) -> answers (B,)")
def check_2(rule):
    x, y = batch(np.random.default_rng(3), 20_000, LENGTH)
    counts = np.stack([(x == s).sum(0) for s in range(SYMBOLS)])
    guess = np.asarray(rule(counts))
    assert guess.shape == y.shape, f"expected {y.shape} answers, got {guess.shape}."
    right = float((guess == y).mean())
    assert right > 0.43, f"right in {right:.0%}; chance is 25%, and 45% can be had."
    return f"Right in {right:.0%}. A net that ends up here has learned nothing about order."


# %%
check_2(...)

# %% [markdown]
# **3.** Solve the task *without training*: hand in `(size, step)`, where `step(h, x)` takes the
# memory `h` (B, size) and one symbol for each row as one-hot vectors `x` (B, 5), both NumPy arrays,
# and returns the next memory. It starts as zeros, and its first four columns are read as scores at
# the end. It has to be right always, at any length, also at lengths of hundreds.


# %% Check 3
@exercise("a pair (size, step), with step(h, x) -> the next h")
def check_3(answer):
    size, step = answer
    for length in (2, 8, 300):
        x, y = batch(np.random.default_rng(length), 200, length)
        h = np.zeros((200, size))
        for symbols in x:
            h = np.asarray(step(h, np.eye(SYMBOLS + 1)[symbols]))
            assert h.shape == (200, size), f"the memory became {h.shape}, not {(200, size)}."
        wrong = np.flatnonzero(h[:, :SYMBOLS].argmax(1) != y)
        if wrong.size:
            row = " ".join("M" if s == MARK else str(s) for s in x[:12, wrong[0]])
            raise AssertionError(f"{wrong.size} of 200 wrong at length {length}; one begins {row}")
    return "A memory with a switch: whether to write is decided by what was just seen."


# %%
check_3(...)

# %% [markdown]
# ## Solutions

# %% Solution 1
# The MLP has 5 * 32 weights more for each position; the RNN none.
check_1(lambda length: (
    32 * 5 * length + 32 + 4 * 32 + 4, 32 * 5 + 32 * 32 + 2 * 32 + 4 * 32 + 4
))  # fmt: skip

# %% Solution 2
# A bag knows which symbols came, not which stood behind the marker. That one is more likely to be
# the most frequent one, as it is one of them for certain.
check_2(lambda counts: counts.argmax(axis=0))


# %% Solution 3
# Four columns hold the answer, the fifth says whether the marker has just been seen. While it has
# not, the answer is kept; when it has, the new symbol is written. Soft versions of this switch,
# learned instead of written, are the gates of tutorials 08 and 09.
def remember(h, x):
    write = h[:, 4:5]
    return np.concatenate([(1 - write) * h[:, :4] + write * x[:, :4], x[:, 4:5]], axis=1)


check_3((5, remember))

# %% [markdown]
# ## Sources
#
# J. Elman, ["Finding structure in time"](https://doi.org/10.1207/s15516709cog1402_1), *Cognitive
# Science* 14 (1990): the recurrent net, and the argument against a fixed window. A. Karpathy, ["The
# unreasonable effectiveness of recurrent neural
# networks"](https://karpathy.github.io/2015/05/21/rnn-effectiveness/) (2015). I. Goodfellow, Y.
# Bengio, A. Courville, [*Deep Learning*](https://www.deeplearningbook.org/contents/rnn.html),
# chapter 10 (2016): parameter sharing.
