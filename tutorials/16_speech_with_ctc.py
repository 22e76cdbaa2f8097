# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 16 Speech with CTC: labels, but nobody says when
#
# Several people speak one after the other, and we are told who spoke and in which order, not
# *when*. A frame-by-frame loss would need to know. Connectionist temporal classification (CTC)
# sums over all the ways to place the labels. This page derives the sum on a case small enough to
# write out, trains with it on real speech features, and decodes.
# Run it with `python tutorials/16_speech_with_ctc.py`. You need tutorials 05 and 10.

# %%
import itertools
import math

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim
from minigrad.train import fit

# %% [markdown]
# ## All the ways, written out
#
# Each frame gets a label or a *blank* (-). To read a path, take out repeats, then blanks: a a - a b
# is "a a b". With three frames and the labels a, b, which paths say "a b"?

# %%
p = np.array([[0.5, 0.4, 0.1], [0.3, 0.5, 0.2], [0.2, 0.1, 0.7]])  # frames x (blank, a, b)


def reading(path):
    return "".join(k for k, _ in itertools.groupby(path) if k != "-")


total = 0.0
for path in itertools.product("-ab", repeat=3):
    if reading(path) == "ab":
        probability = np.prod([p[t, "-ab".index(c)] for t, c in enumerate(path)])
        total += probability
        print(" ".join(path), f"{probability:.3f}")
loss = nn.ctc_loss(np.log(p)[:, None], [[1, 2]], reduction="sum").item()
print(f"together {total:.3f}; the loss is -log of that, {loss:.4f}")
assert np.isclose(loss, -np.log(total))


def paths(frames, labels):
    """How many paths say so many labels, no two neighbours alike."""
    return math.comb(frames + labels, 2 * labels)


said = sum(reading(path) == "ab" for path in itertools.product("-ab", repeat=3))
assert paths(3, 2) == said
print(f"{said} paths; with 100 frames and 5 labels, {paths(100, 5):.1e}")

# %% [markdown]
# With 100 frames nobody writes them out. The sum is done step by step, like the forward
# pass of a recurrent net: the state is the log probability of having got so far in the labels, and
# in minigrad it *is* a cell that `scan` compiles, with its gradient for free.
#
# ## Real features: Japanese vowels
#
# Nine men say /ae/; each utterance is 7 to 29 frames of 12 cepstral coefficients. We put two to
# five utterances in a row and ask: who spoke, in which order?

# %%
vowels = data.japanese_vowels()
train, test = vowels.train, vowels.test
scaler = data.Scaler.fit(np.concatenate([vowels.xs[i] for i in train]))
utterances = [scaler(x).astype(np.float32) for x in vowels.xs]


def rows(items, count, seed):
    draw = np.random.default_rng(seed)
    chosen = [draw.choice(items, draw.integers(2, 6)) for _ in range(count)]
    frames = [np.concatenate([utterances[i] for i in row]) for row in chosen]
    return frames, [vowels.labels[row] + 1 for row in chosen]  # 0 is the blank


training, testing = rows(train, 600, 1), rows(test, 150, 2)
steps = [len(f) for f in training[0]]
print(f"{len(training[0])} rows to train, {min(steps)} to {max(steps)} frames, 2 to 5 speakers")


class Listener(nn.Module):
    def __init__(self, units, generator):
        self.lstm = nn.LSTM(12, units, bidirectional=True, generator=generator)
        self.head = nn.Linear(2 * units, 10, generator=generator)

    def forward(self, xs, lengths):
        return mg.log_softmax(self.head(self.lstm(xs, lengths=lengths)[0]), axis=-1)


def ctc(model, batch):
    xs, lengths, (labels, counts) = batch
    return nn.ctc_loss(model(xs, lengths), labels.T, lengths, counts)


def distance(a, b):
    """Insertions, deletions and substitutions from a to b (Levenshtein)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, before = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (x != y)))
    return row[-1]


def error_rate(found, labels):
    wrong = sum(distance(f, list(l)) for f, l in zip(found, labels, strict=True))
    return wrong / sum(map(len, labels))


model = Listener(32, np.random.default_rng(0))
batches = data.Batches(*training, batch=32, seed=0, pool=8)
fitted = fit(model, ctc, batches, optim.Adam(model.parameters(), 1e-2), epochs=12, max_norm=1.0,
             progress=False)  # fmt: skip
xs, lengths = data.pad(testing[0])
with mg.no_grad():
    log_p = model(xs, lengths)
greedy = [row.labels for row in nn.ctc_greedy(log_p, lengths)]
beams = [row[0].labels for row in nn.ctc_beam(log_p.numpy()[:, :40], lengths[:40], width=8)]
errors = error_rate(greedy, testing[1])
print(f"loss {fitted.losses[0]:.2f} -> {fitted.losses[-1]:.2f} in {fitted.seconds:.0f} s")
some = error_rate(greedy[:40], testing[1][:40]), error_rate(beams, testing[1][:40])
print(f"label error rate on other recordings: {errors:.1%}")
print(f"of 40 rows: greedy {some[0]:.1%}, beam {some[1]:.1%}")
baseline = error_rate([[1, 1, 1]] * len(testing[1]), testing[1])
print(f"always the same three speakers: {baseline:.0%}")
assert errors < 0.4 * baseline
picture = mg.flow.draw(model, xs, lengths, title="Frames in, labels out")
mg.flow.show(picture, "speech.svg")

# %% [markdown]
# ## What it learned to do
#
# Nobody told it where a speaker begins. It says the blank nearly everywhere, and each label in a
# short spike: that is enough for CTC, and typical of it.

# %%
k = 0
best = log_p.numpy()[: lengths[k], k].argmax(-1)
print("frames ", "".join("-123456789"[c] for c in best))
print("reads  ", greedy[k], " true", testing[1][k].tolist())
blank = float((best == 0).mean())
print(f"blank in {blank:.0%} of the frames")

# %% [markdown]
# ## Exercises
#
# 1. Why does "a a" need at least three frames, and what is the loss if there are only two?
# 2. Greedy takes the best label of each frame. Give a case where that is not the best labelling.
# 3. Why must the log-probabilities be computed in logarithms throughout?
#
# ## Solutions

# %%
# 1. Between equal labels a blank has to stand, or they would be read as one. With two there is no
#    path: the probability is 0 and the loss infinite (zero_infinity=True leaves such rows out).
two = np.log(np.full((2, 1, 3), 1 / 3))
assert nn.ctc_loss(two, [[1, 1]], reduction="sum").item() == np.inf
# 2. Blank is best in both frames (0.6), so greedy reads "", with a probability of 0.36; but "a" has
#    the three paths a-, -a, aa: 0.64.
q = np.log([[[0.6, 0.4]], [[0.6, 0.4]]])
assert nn.ctc_greedy(q)[0].labels == []
assert nn.ctc_beam(q)[0][0].labels == [1]
# 3. A path of 100 frames has a probability of about 10^-50, and the sum is over very many of those.

# %% [markdown]
# ## Sources
#
# A. Graves, S. Fernandez, F. Gomez, J. Schmidhuber, "Connectionist temporal classification"
# (2006). A. Hannun, "Sequence modeling with CTC", *Distill* (2017). M. Kudo, J. Toyama, M. Shimbo
# (1999): the recordings; see `minigrad/data/README.md`.
