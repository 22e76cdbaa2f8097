# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 10 Two directions: what a BiLSTM buys, and what it costs
#
# A recurrent net knows what came before. In "the bank was steep" what *comes after* tells which
# bank it is. A bidirectional layer runs a second cell from the end to the beginning and puts both
# outputs together. This page does it by hand, compares the four ways to merge, measures benefit and
# cost, and shows where it must not be used.
#
# You need tutorials 05 and 08. Time: 20 minutes, and 40 for the exercises. Run it with
# `python tutorials/10_two_directions.py`.

# %%
import math
import time

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim

rng = np.random.default_rng(0)
T, B, I, H = 7, 2, 3, 4

# %% [markdown]
# ## Two cells, one sequence
#
# $$ \overrightarrow{h}_t = \mathrm{cell}(\overrightarrow{h}_{t-1}, x_t) \qquad
#    \overleftarrow{h}_t = \mathrm{cell}'(\overleftarrow{h}_{t+1}, x_t) \qquad
#    y_t = \mathrm{merge}(\overrightarrow{h}_t, \overleftarrow{h}_t) $$
#
# The second runs over the reversed sequence, and its outputs are turned back, so that $y_t$ holds
# what both know *at t*.

# %%
bi = nn.LSTM(I, H, bidirectional=True, dtype=np.float64, generator=rng)
xs = rng.standard_normal((T, B, I))
ys, (h_n, c_n) = bi(xs)
forward, _ = mg.scan(bi.cells[0], bi.cells[0].init_state(B), mg.tensor(xs))[::-1]
backward, _ = mg.scan(bi.cells[1], bi.cells[1].init_state(B), mg.tensor(xs[::-1].copy()))[::-1]
by_hand = np.concatenate([forward.numpy(), backward.numpy()[::-1]], axis=-1)
assert np.allclose(ys.numpy(), by_hand, rtol=1e-13)
print("outputs", ys.shape, "(T, B, 2H); states", h_n.shape, "(directions, B, H): never merged")

# %% [markdown]
# The last state of the second direction is at step **0**: it has read everything from the end.
# With padded rows it starts at each row's last *real* step, not in the padding.

# %%
assert np.allclose(h_n.numpy()[1], backward.numpy()[-1])
padded, _ = bi(xs, lengths=[7, 4])
alone, _ = bi(xs[:4, 1:])
assert np.allclose(padded.numpy()[:4, 1], alone.numpy()[:, 0], rtol=1e-12)

# %% [markdown]
# ## Four ways to merge
#
# | merge | y | size | |
# |---|---|---|---|
# | concat | [forward, backward] | 2H | loses nothing; the next layer is wider |
# | sum | forward + backward | H | no more parameters after it; which side said it is lost |
# | mean | their average | H | sum / 2 |
# | mul | forward * backward | H | both must agree; a zero silences the other, gradient too |

# %%
for merge in ("concat", "sum", "mean", "mul"):
    layer = nn.LSTM(I, H, bidirectional=True, merge=merge, dtype=np.float64)
    layer.load_state_dict(bi.state_dict())
    y = layer(xs)[0].numpy()
    f, b = by_hand[..., :H], by_hand[..., H:]
    expected = {"concat": by_hand, "sum": f + b, "mean": (f + b) / 2, "mul": f * b}[merge]
    assert np.allclose(y, expected, rtol=1e-12)
    print(f"{merge:7s} output {y.shape}")

# %% [markdown]
# ## What it buys
#
# A task that needs both sides: for every position, is the symbol the same as the one two steps
# *later*? A forward net cannot know; the bidirectional one can.


# %%
def batch(draw, rows, length=12, symbols=4):
    x = draw.integers(0, symbols, (length + 2, rows))
    return np.eye(symbols, dtype=np.float32)[x], (x[:-2] == x[2:]).astype(int)


class Tagger(nn.Module):
    def __init__(self, units, **options):
        generator = np.random.default_rng(0)
        self.lstm = nn.LSTM(4, units, generator=generator, **options)
        wide = 2 * units if options and options.get("merge", "concat") == "concat" else units
        self.head = nn.Linear(wide, 2, generator=generator)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:-2])


def train(model, updates=250):
    draw = np.random.default_rng(1)
    adam = optim.Adam(model.parameters(), lr=0.01)
    for _ in range(updates):
        x, y = batch(draw, 32)
        loss = nn.cross_entropy(model(x), y)
        adam.zero_grad()
        loss.backward()
        adam.step()
    x, y = batch(np.random.default_rng(2), 500)
    with mg.no_grad():
        return float((model(x).numpy().argmax(-1) == y).mean())


def parameters_of(layer):
    return sum(p.size for p in layer.parameters())


accuracies = {}
for name, model in {
    "LSTM, 24 units": Tagger(24),
    "BiLSTM, 16 units, concat": Tagger(16, bidirectional=True),
    "BiLSTM, 16 units, sum": Tagger(16, bidirectional=True, merge="sum"),
    "BiLSTM, 16 units, mean": Tagger(16, bidirectional=True, merge="mean"),
    "BiLSTM, 16 units, mul": Tagger(16, bidirectional=True, merge="mul"),
}.items():
    accuracies[name] = train(model)
    print(f"{name:25s} {parameters_of(model.lstm):5d} weights, accuracy {accuracies[name]:4.0%}")
assert accuracies["LSTM, 24 units"] < 0.85  # "no" is right three times of four
assert accuracies["BiLSTM, 16 units, concat"] > 0.95

# %% [markdown]
# ## What it costs
#
# - **Twice the work, weights and memory** for the same number of units. On one thread of a quiet
#   machine that is about twice the time; where there are two, minigrad gives each direction one.
# - **The whole sequence must be there** before the first output: no streaming, no next-word
#   prediction (see below).
# - **Gradients** travel in both directions, and vanish in both: each has its own half-life.


# %%
def milliseconds(layers, x, repeat=20):
    """The fastest of some training steps of each layer, which take turns."""
    times = dict.fromkeys(layers, np.inf)
    for _ in range(repeat):
        for layer in layers:
            started = time.perf_counter()
            mg.sum(layer(x)[0] ** 2).backward()
            times[layer] = min(times[layer], 1e3 * (time.perf_counter() - started))
    return times.values()


x = rng.standard_normal((50, 16, 64)).astype(np.float32)
one, two = nn.LSTM(64, 64, generator=rng), nn.LSTM(64, 64, bidirectional=True, generator=rng)
assert parameters_of(two) == 2 * parameters_of(one)
threads = mg.get_num_threads()
mg.set_num_threads(1)
single, double = milliseconds((one, two), x)
mg.set_num_threads(threads)
print(f"a training step on one thread: one direction {single:.1f} ms, two {double:.1f} ms, "
      f"{double / single:.2f} times as long")  # fmt: skip

flows = mg.flow.probe(nn.LSTM(8, 16, bidirectional=True, dtype=np.float64, generator=rng),
                      rng.standard_normal((40, 4, 8)))  # fmt: skip
for path, flow in flows.items():
    print(f"{path}: steps {flow.steps[0]} to {flow.steps[-1]}, {flow.verdict.kind}, "
          f"half-life {flow.verdict.half_life:.2f} steps")  # fmt: skip
assert flows["lstm/l0/rev"].reverse
mg.flow.show(mg.flow.draw(flows, title="A BiLSTM, and a loss at both ends"), "bilstm.svg")

# %% [markdown]
# ## Does it take longer to train?
#
# An update does. But how long until both are *equally good*? Real text: Hamlet without its spaces,
# and for each letter the question whether a word ends there. The net may look at what follows: both
# kinds can do it, one of them has to do it without.

# %%
words = ["".join(filter(str.isalpha, word)) for word in data.shakespeare().lower().split()]
letters = "".join(words)
ends = np.concatenate([np.arange(len(word)) == len(word) - 1 for word in words if word]).astype(int)
vocabulary = data.Vocabulary(letters)
ids, LENGTH, HELD = vocabulary.encode(letters), 40, 13_000  # the last letters are kept for testing
held = len(ids) - HELD + LENGTH * np.arange(120) + np.arange(LENGTH)[:, None]


class Splitter(nn.Module):
    def __init__(self, inputs, outputs, units, **options):
        generator = np.random.default_rng(0)
        self.embed = nn.Embedding(inputs, 16, generator=generator)
        self.lstm = nn.LSTM(16, units, generator=generator, **options)
        wide = 2 * units if options.get("merge") == "concat" else units
        self.head = nn.Linear(wide, outputs, generator=generator)

    def forward(self, x):
        return self.head(self.lstm(self.embed(x))[0])


def updates(model, targets, count, draw):
    """Trains for `count` updates on windows of the letters; the seconds that the fastest took."""
    adam, fastest = optim.Adam(model.parameters(), lr=5e-3), np.inf
    for _ in range(count):
        at = draw.integers(0, len(ids) - HELD - LENGTH - 1, 32) + np.arange(LENGTH)[:, None]
        started = time.perf_counter()
        loss = nn.cross_entropy(model(ids[at]), targets[at])
        adam.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(adam.params, 1.0)
        adam.step()
        fastest = min(fastest, time.perf_counter() - started)
        yield fastest


# %%
GOAL, needed = 0.86, {}
mg.set_num_threads(1)
for name in ("one direction", "concat", "sum", "mean", "mul"):
    options = {} if name == "one direction" else {"bidirectional": True, "merge": name}
    model = Splitter(len(vocabulary), 2, 48, **options)
    trained = updates(model, ends, 1000, np.random.default_rng(1))
    for done, fastest in enumerate(trained, 1):  # noqa: B007, read after the loop
        if done % 20 == 0:
            with mg.no_grad():
                found = (model(ids[held]).numpy().argmax(-1) == ends[held]).mean()
            if found >= GOAL:
                break
    assert found >= GOAL
    needed[name] = done
    print(f"{name:13s} {found:.1%} after {done:3d} updates of {1e3 * fastest:4.1f} ms: "
          f"{done * fastest:.2f} s")  # fmt: skip
mg.set_num_threads(threads)
alone = needed.pop("one direction")
assert all(2 * count <= alone for count in needed.values())

# %% [markdown]
# "Slower" is true of an update, which is twice the work. It need not be true of the way to the same
# accuracy: with both sides to look at, every merge mode needs at most half the updates here.
#
# ## Where it must not be used
#
# Let it guess the *next* letter, as a language model does, and train it for a few seconds. The same
# letters; the target is the letter that follows.


# %%
def bits(model, x, y, steps):
    with mg.no_grad():
        return nn.cross_entropy(model(x)[steps], y[steps]).item() / math.log(2)


following, last = np.roll(ids, -1), {}
for name, options in {"LSTM": {}, "BiLSTM": {"bidirectional": True, "merge": "concat"}}.items():
    model = Splitter(len(vocabulary), len(vocabulary), 64, **options)
    *_, fastest = updates(model, following, 300, np.random.default_rng(1))
    inside = bits(model, ids[held], following[held], slice(None, -1))
    last[name] = bits(model, ids[held], following[held], slice(-1, None))
    print(f"{name:6s} bits a letter: {inside:.2f}; at the last of the window {last[name]:.2f}")
assert inside < 0.2
assert last["BiLSTM"] > last["LSTM"] > 2.5

# %% [markdown]
# Next to nothing: a miracle, and worth nothing. The direction that reads backwards has *read the
# answer* one step ago and hands it over. At the last letter of the window, where nothing follows,
# there is no answer to read, and it does worse than the plain LSTM, which never saw one. A
# language model that is too good to be true has seen the future: look for a second direction, a
# target that is not shifted, a mask that is missing.

# %% [markdown]
# ## Exercises
#
# **1.** Many-to-one with two directions: what does each of them know when it has read *everything*?
# Hand in a function `(ys, lengths)` that picks, from the outputs (T, B, 2H) of a padded batch, the
# forward half and the backward half that have each read the whole row, side by side: (B, 2H).

# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise("a function (ys, lengths) -> (B, 2H)")
def check_1(whole):
    for lengths in ([7, 4], [1, 7], [3, 3]):
        ys, (h_n, _) = bi(xs, lengths=lengths)
        ys, halves = ys.numpy().copy(), h_n.numpy()
        for row, length in enumerate(lengths):
            ys[length:, row] = np.nan
        mine = whole(ys, np.array(lengths))
        close(np.shape(mine), (B, 2 * H), "the shape")
        close(mine[:, :H], halves[0], f"the forward half, lengths {lengths}")
        close(mine[:, H:], halves[1], f"the backward half, lengths {lengths}")


# %%
check_1(...)

# %% [markdown]
# **2.** Read the sequence backwards, and let the two cells change places: the outputs come out
# reversed, and their halves change places. Hand in a function that takes `bi.state_dict()` and
# returns that of the layer with its cells exchanged.


# %% Check 2
@exercise("a function: state_dict -> state_dict")
def check_2(exchanged):
    mirror = nn.LSTM(I, H, bidirectional=True, dtype=np.float64)
    mirror.load_state_dict(exchanged(bi.state_dict()))
    y = mirror(xs[::-1].copy())[0].numpy()[::-1]
    close(np.concatenate([y[..., H:], y[..., :H]], axis=-1), by_hand, "the outputs, turned back")


# %%
check_2(...)

# %% [markdown]
# **3.** A language model with two directions: predict $x_t$ from everything *but* $x_t$. Hand in a
# function of the two halves, `(forward, backward)`, each (T, B, H), as the layer gives them, that
# returns features (T, B, 2H): row t must have read every symbol except the t-th. (Where nothing has
# been read yet, let it be 0.)


# %% Check 3
@exercise("a function (forward (T, B, H), backward (T, B, H)) -> (T, B, 2H)")
def check_3(features):
    def of(x):
        y = bi(x)[0].numpy()
        return np.asarray(features(y[..., :H], y[..., H:]))

    known = of(xs)
    assert known.shape == (T, B, 2 * H), f"expected {(T, B, 2 * H)}, got {known.shape}."
    for s in range(T):
        nudged = xs.copy()
        nudged[s] += 1.0
        for t, moved in enumerate(np.abs(of(nudged) - known).max(axis=(1, 2))):
            assert s != t or moved == 0, f"row {t} has seen x_{t}: the loss would mean nothing."
            assert s == t or moved > 0, f"row {t} has not read x_{s}, which it may."
    return "The loss of a net that reads these means something."


# %%
check_3(...)

# %% [markdown]
# ## Solutions


# %% Solution 1
# Forward: at the last real step. Backward: at step 0, as it began at the end.
def whole(ys, lengths):
    half = ys.shape[-1] // 2
    last = ys[lengths - 1, np.arange(len(lengths)), :half]
    return np.concatenate([last, ys[0, :, half:]], axis=-1)


check_1(whole)

# %% Solution 2
# The names of the backward cell's weights end in _reverse.
check_2(lambda state: {
    name.removesuffix("_reverse") if name.endswith("_reverse") else f"{name}_reverse": weights
    for name, weights in state.items()
})  # fmt: skip


# %% Solution 3
# The forward state *before* t and the backward state *after* t: neither has read x_t. `minigrad
# flow` trains its BiLSTM so. (ELMo used two language models side by side.)
def around(forward, backward):
    nothing = np.zeros_like(forward[:1])
    before, after = [nothing, forward[:-1]], [backward[1:], nothing]
    return np.concatenate([np.concatenate(before), np.concatenate(after)], axis=-1)


check_3(around)

# %% [markdown]
# ## Sources
#
# M. Schuster, K. Paliwal, ["Bidirectional recurrent neural
# networks"](https://doi.org/10.1109/78.650093) (1997). A. Graves, J. Schmidhuber, ["Framewise
# phoneme classification with bidirectional LSTM"](https://doi.org/10.1016/j.neunet.2005.06.042)
# (2005). M. Peters et al., [ELMo](https://arxiv.org/abs/1802.05365) (2018). The merge modes are
# those of Keras' [`Bidirectional`](https://keras.io/api/layers/recurrent_layers/bidirectional/).
