# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 13 Sentiment and names: a sequence in, one answer out
#
# Many-to-one is the most used kind of recurrent net: read something, decide. This page guesses the
# language of a surname from its letters, and the sentiment of lines of Hamlet from their words,
# with labels that nobody gave. The first shows what order is worth. The second shows what a model
# learns when its labels come from a rule: the rule.
#
# You need tutorials 05 and 10, and `pip install "minigrad-bptt[data]"`. Time: 20 minutes, and 40
# for the exercises. Run it with `python tutorials/13_sentiment_and_names.py`.

# %%
import numpy as np

import minigrad as mg
from minigrad import data, nn, optim
from minigrad.train import fit

# %% [markdown]
# ## Names: which language?
#
# Surnames of ten countries. A name that is in two lists is left out, so each has one answer. Split
# at random, with the same mix of countries in each part.

# %%
found = data.surnames()
parts = data.split_at_random(len(found), (0.8, 0.1, 0.1), seed=0, labels=found.labels)
letters = data.Tokenizer(found.names[i] for i in parts.train)
print(f"{len(found):,} names of {len(found.classes)} countries, {len(letters)} kinds of letters")
for label in range(0, 10, 3):
    mine = [n for n, k in zip(found.names, found.labels, strict=True) if k == label]
    print(f"  {found.classes[label]}: {', '.join(mine[:6])}")


class Reader(nn.Module):
    """Symbols (T, B) with lengths -> scores (B, classes): what is left after the last real step."""

    def __init__(self, symbols, classes, units, cell, generator, **options):
        self.embed = nn.Embedding(symbols, 24, padding_idx=0, generator=generator)
        self.recurrent = cell(24, units, return_sequences=False, generator=generator, **options)
        self.head = nn.Linear(units * (2 if options else 1), classes, generator=generator)

    def forward(self, x, lengths):
        return self.head(self.recurrent(self.embed(x), lengths=lengths)[0])


def loss(model, batch):
    x, lengths, y = batch
    return nn.cross_entropy(model(x, lengths), y)


def accuracy(model, sequences, labels):
    x, lengths = data.pad(sequences)
    with mg.no_grad():
        return float((model(x, lengths).numpy().argmax(-1) == labels).mean())


coded = [letters.encode(name) for name in found.names]
train, test = parts.train, np.concatenate([parts.valid, parts.test])
majority = np.bincount(found.labels[train]).argmax()
print(f"always the largest: {(found.labels[test] == majority).mean():.0%}")

# a bag of letters: which, but not in what order
bags = np.stack([np.bincount(c, minlength=len(letters)) for c in coded]).astype(np.float64)
bags = np.c_[bags, np.ones(len(bags))]
one_hot = np.eye(len(found.classes))[found.labels]
weights = np.linalg.lstsq(bags[train], one_hot[train], rcond=None)[0]
bag = float(((bags[test] @ weights).argmax(1) == found.labels[test]).mean())
print(f"a bag of letters, least squares: {bag:.0%}")

scores = {}
for name, cell, options in (
    ("GRU", nn.GRU, {}),
    ("BiLSTM", nn.LSTM, dict(bidirectional=True)),
):
    model = Reader(len(letters), len(found.classes), 48, cell, np.random.default_rng(0), **options)
    batches = data.Batches([coded[i] for i in train], found.labels[train], batch=64, seed=0)
    adam = optim.Adam(model.parameters(), lr=5e-3)
    fitted = fit(model, loss, batches, adam, epochs=8, max_norm=1.0, progress=False)
    scores[name] = accuracy(model, [coded[i] for i in test], found.labels[test])
    print(f"{name}: {scores[name]:.0%} in {fitted.seconds:.0f} s")
assert min(scores.values()) > bag > (found.labels[test] == majority).mean()
x, lengths = data.pad(coded[:4])
names = model
mg.flow.show(mg.flow.draw(names, x, lengths, title="Many-to-one"), "names.svg")

# %% [markdown]
# The same letters in their order are worth the difference to the bag. Which letters decided? The
# gradient of the score with respect to each letter's embedding says so:

# %%
for name in ("schneider", "lefebvre", "kowalczyk"):
    ids = letters.encode(name)[:, None]
    with mg.flow.record() as rec:
        scored = model(ids, [len(ids)])
        mg.max(scored, axis=-1).sum().backward()
    shares = rec.inputs[:, 0] / rec.inputs.max()
    guess = found.classes[int(scored.numpy().argmax())]
    print(
        f"{name} -> {guess}:  " + " ".join(f"{c}{'#' * round(4 * s)}" for c, s in zip(name, shares))
    )

# %% [markdown]
# ## Sentiment, with weak labels
#
# Nobody has rated the lines of Hamlet. A lexicon (VADER) has ratings of single *words* by ten
# people, and the sum over a line is a label of sorts: a **weak** one. We train on it and then ask
# what was learned.

# %%
lexicon = data.sentiment_words()
lines = [s.strip() for s in data.shakespeare().split("\n") if len(s.split()) > 4]
labels = lexicon.weak_labels(lines)
kept = np.flatnonzero(labels >= 0)
lines, labels = [lines[i] for i in kept], labels[kept]
parts = data.split_at_random(len(lines), (0.8, 0.0, 0.2), seed=0, labels=labels)
words = data.Tokenizer((lines[i].lower() for i in parts.train), unit="word", min_count=2)
coded = [words.encode(line.lower()) for line in lines]
print(f"{len(lines):,} lines, {labels.mean():.0%} called positive, {len(words):,} words")

model = Reader(len(words), 2, 48, nn.GRU, np.random.default_rng(0))
batches = data.Batches([coded[i] for i in parts.train], labels[parts.train], batch=32, seed=0)
fit(model, loss, batches, optim.Adam(model.parameters(), lr=3e-3), epochs=8, max_norm=1.0,
    progress=False)  # fmt: skip
reached = accuracy(model, [coded[i] for i in parts.test], labels[parts.test])
guessing = max(labels[parts.test].mean(), 1 - labels[parts.test].mean())
print(f"agreement with the weak labels: {reached:.0%} (always the larger class: {guessing:.0%})")
assert reached > guessing

# %% [markdown]
# Is that sentiment? Ask about lines whose meaning turns on a *not*. The rule that made the labels
# does not see it, and so nothing in training could teach it:

# %%
for line in (
    "my good lord, this is sweet",
    "this is not good, nor sweet",
    "never was so dear a love",
):
    x, lengths = data.pad([words.encode(line)])
    with mg.no_grad():
        p = mg.softmax(model(x, lengths), axis=-1).numpy()[0, 1]
    print(f"{p:4.0%} positive, the rule says {lexicon.weak_labels([line])[0]}: {line}")

# %% [markdown]
# A model is as good as what it was asked to agree with. Test on labels by people, always; weak
# labels are for training at most.
#
# ## Exercises
#
# **1.** What can order tell? Find two words of the same letters, in another order, to which the
# BiLSTM `names` gives different countries. (To a bag of letters they are one and the same.)

# %% Check 1
from minigrad.lab.exercises import close, exercise


def scores_of(words):
    x, lengths = data.pad([letters.encode(word) for word in words])
    with mg.no_grad():
        return mg.softmax(names(x, lengths), axis=-1).numpy()


@exercise("a pair of words of the same letters")
def check_1(pair):
    one, other = pair
    assert sorted(one) == sorted(other), f"{one} and {other} have different letters."
    guesses = [found.classes[k] for k in scores_of(pair).argmax(1)]
    assert guesses[0] != guesses[1], f"to both of {one} and {other} it says {guesses[0]}."
    return f"{one}: {guesses[0]}; {other}: {guesses[1]}."


# %%
check_1(...)

# %% [markdown]
# **2.** Where there are ten times as many German names as Finnish ones, the Finnish ones hardly
# count. Hand in a function `(guessed, true)` of two arrays of labels, the *balanced* accuracy: the
# share of right answers for each class that occurs in `true`, averaged over classes.


# %% Check 2
@exercise("a function (guessed, true) -> balanced accuracy")
def check_2(balanced):
    true = np.array([0] * 90 + [1] * 9 + [5])
    close(balanced(true, true), 1.0, "it, if all is right")
    for k in (0, 1, 5):
        close(balanced(np.full(100, k), true), 1 / 3, f"it, if the answer is always class {k}")
    close(balanced(np.full(100, 7), true), 0.0, "it, if the answer never occurs")
    right = true.copy()
    right[90:95] = 0
    close(balanced(right, true), (1 + 4 / 9 + 1) / 3, "it, with five of nine wrong in a class")
    guess = scores_of([found.names[i] for i in test]).argmax(1)
    plain, mean = (guess == found.labels[test]).mean(), balanced(guess, found.labels[test])
    return f"Of the names {plain:.1%} are right; balanced, {mean:.1%}."


# %%
check_2(...)

# %% [markdown]
# **3.** "I do not know" is an answer, too. Hand in a function from the probabilities (B, classes)
# to labels (B,), with -1 for "none of these", that answers at least half of the test names, and is
# wrong in its answers at most half as often as the net that always answers.


# %% Check 3
@exercise("a function: probabilities (B, classes) -> labels (B,), or -1")
def check_3(careful):
    p, true = scores_of([found.names[i] for i in test]), found.labels[test]
    said = np.asarray(careful(p))
    answered = said >= 0
    assert answered.mean() >= 0.5, f"it answers {answered.mean():.0%} of them."
    always, mine = (p.argmax(1) != true).mean(), (said != true)[answered].mean()
    assert mine <= always / 2, (
        f"wrong in {mine:.1%} of its answers; always answering: {always:.1%}."
    )
    stranger = scores_of(["shostakovich"])
    told = int(careful(stranger)[0])
    name = "none of these" if told < 0 else found.classes[told]
    print(f"shostakovich, of a country it never saw: {name}, p = {stranger.max():.2f}")
    return f"{answered.mean():.0%} answered, {mine:.1%} of them wrong instead of {always:.1%}."


# %%
check_3(...)

# %% [markdown]
# ## Solutions

# %% Solution 1
# Endings tell much, and backwards an ending is a beginning. Any name may do; look for one.
turned = [found.names[i][::-1] for i in test]
differ = scores_of([found.names[i] for i in test]).argmax(1) != scores_of(turned).argmax(1)
print(f"of the test names {differ.mean():.0%} change their country when they are read backwards")
k = int(np.flatnonzero(differ)[0])
check_1((turned[k][::-1], turned[k]))


# %% Solution 2
# Each class has the same weight, however many of it there are.
def balanced(guessed, true):
    return np.mean([(guessed[true == k] == k).mean() for k in np.unique(true)])


check_2(balanced)

# %% Solution 3
# Answer where the largest probability is large: among the surer half, few are wrong. (A threshold
# that is used in earnest is chosen on other names than those it is judged by.) Without a threshold
# a softmax has no word for "none of these": its ten numbers add up to 1, whatever comes.
threshold = np.quantile(scores_of([found.names[i] for i in test]).max(1), 0.49)
check_3(lambda p: np.where(p.max(1) >= threshold, p.argmax(1), -1))

# %% [markdown]
# ## Sources
#
# C. Hutto, E. Gilbert, ["VADER"](https://doi.org/10.1609/icwsm.v8i1.14550) (2014). A. Ratner et
# al., ["Snorkel: rapid training data creation with weak
# supervision"](https://arxiv.org/abs/1711.10160) (2017). The names: Faker's lists; see
# `minigrad/data/README.md`.
