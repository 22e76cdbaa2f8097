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
# *when*. A frame-by-frame loss would need to know. Connectionist temporal classification (CTC) sums
# over all the ways to place the labels. This page derives the sum on a case small enough to write
# out, trains with it on real speech features, and decodes.
#
# You need tutorials 05 and 10. Time: 20 minutes, and 60 for the exercises. Run it with
# `python tutorials/16_speech_with_ctc.py`.

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
sizes = [len(x) for x in vowels.xs]
assert (min(sizes), max(sizes), vowels.xs[0].shape[1], len(set(vowels.labels))) == (7, 29, 12, 9)
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
# **1.** How many frames does a labelling need at least? Hand in a function of a list of labels,
# such as `[1, 1, 2]`. With one frame less there is no path, and the loss is infinite.

# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise("a function: labels -> the least number of frames")
def check_1(least):
    for labels in ([1], [1, 2], [1, 1], [2, 2, 2], [1, 2, 2, 1, 1]):
        frames = int(least(labels))
        for extra, possible in ((0, True), (-1, False)):
            if frames + extra < 1:
                continue
            even = np.log(np.full((frames + extra, 1, 3), 1 / 3))
            got = nn.ctc_loss(even, [labels], reduction="sum").item()
            assert np.isfinite(got) == possible, (
                f"{labels} in {frames + extra} frames has a loss of {got:.3g}."
            )


# %%
check_1(...)

# %% [markdown]
# **2.** Greedy decoding takes the best symbol of each frame. Find probabilities p (frames, 3), for
# blank, a and b, up to six frames, for which what greedy reads is *not* the most probable reading.


# %% Check 2
@exercise("an array (frames, 3) of probabilities, whose rows add up to 1")
def check_2(p):
    p = np.asarray(p, dtype=float)
    assert p.ndim == 2 and p.shape[1] == 3 and 1 <= len(p) <= 6, f"its shape is {p.shape}."  # noqa: PT018
    close(p.sum(axis=1), np.ones(len(p)), "the sums of the rows")
    assert p.min() >= 0, f"it has {p.min()}."
    readings = {}
    for path in itertools.product(range(3), repeat=len(p)):
        said = reading("".join("-ab"[k] for k in path))
        readings[said] = readings.get(said, 0.0) + np.prod(p[np.arange(len(p)), path])
    greedy = reading("".join("-ab"[k] for k in p.argmax(axis=1)))
    best = max(readings, key=readings.get)
    both = f"greedy reads {greedy!r}, with a probability of {readings[greedy]:.2f}"
    assert readings[greedy] < readings[best], f"{both}: that is the best."
    return f"{both}; {best!r} has {readings[best]:.2f}."


# %%
check_2(...)

# %% [markdown]
# **3.** The sum over all paths without writing them out: hand in a function `(p, labels)` that
# gives the probability of a labelling for p (frames, symbols) with blank 0, in time proportional to
# frames times labels. (Carry, for each place in "- a - b -", the probability of having got there.)


# %% Check 3
@exercise("a function (p (frames, symbols), labels) -> the probability of the labels")
def check_3(probability):
    draw = np.random.default_rng(0)
    for labels in ([], [1], [1, 2], [1, 1], [2, 1, 2]):
        for frames in (1, 3, 5):
            p = draw.dirichlet(np.ones(3), frames)
            said = "".join("-ab"[k] for k in labels)
            true = sum(
                np.prod(p[np.arange(frames), path])
                for path in itertools.product(range(3), repeat=frames)
                if reading("".join("-ab"[k] for k in path)) == said
            )
            close(probability(p, labels), true, f"p({said!r}) in {frames} frames", atol=1e-15)
    p = draw.dirichlet(np.ones(4), 60)
    true = -nn.ctc_loss(np.log(p)[:, None], [[1, 3, 3, 2]], reduction="sum").item()
    close(np.log(probability(p, [1, 3, 3, 2])), true, "log p(a c c b) in 60 frames")
    return f"{true:.0f} of 60 frames: of {60 * 745 / -true:.0f} the probability would round to 0."


# %%
check_3(...)

# %% [markdown]
# ## Solutions

# %% Solution 1
# One for each label, and a blank between equal neighbours, which would be read as one otherwise.
check_1(lambda labels: len(labels) + sum(a == b for a, b in itertools.pairwise(labels)))

# %% Solution 2
# Blank is best in both frames, so greedy reads nothing, with 0.36; but "a" has three paths, a-, -a
# and aa, and 0.64 together.
check_2([[0.6, 0.4, 0.0], [0.6, 0.4, 0.0]])


# %% Solution 3
# A place is reached by staying, from the place before, or past a blank between different labels.
def probability(p, labels):
    places = [0]
    for k in labels:
        places += [k, 0]
    at = np.zeros(len(places))
    at[0] = 1.0  # before the first frame: it may begin with the first blank or the first label
    for frame in p:
        arrive = at.copy()
        arrive[1:] += at[:-1]
        for s in range(2, len(places)):
            if places[s] and places[s] != places[s - 2]:
                arrive[s] += at[s - 2]
        at = arrive * frame[places]
    return at[-2:].sum()


check_3(probability)

# %% [markdown]
# ## Sources
#
# A. Graves, S. Fernandez, F. Gomez, J. Schmidhuber, ["Connectionist temporal
# classification"](https://doi.org/10.1145/1143844.1143891) (2006). A. Hannun, ["Sequence modeling
# with CTC"](https://distill.pub/2017/ctc/), *Distill* (2017). M. Kudo, J. Toyama, M. Shimbo (1999):
# the recordings; see `minigrad/data/README.md`.
