# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 15 Captions: one picture in, a sequence out
#
# A net that looks at a picture and writes, letter by letter. The pictures are handwritten digits of
# 8 by 8 pixels, the captions their names: "seven". One-to-many is the many-to-one of tutorial 13
# turned round: there the last state was read, here the first state is given.
#
# You need tutorial 05. Time: 20 minutes, and 40 for the exercises. Run it with
# `python tutorials/15_captions.py`.

# %%
import numpy as np

import minigrad as mg
from minigrad import data, nn, optim
from minigrad.train import fit

found = data.digits()
images = found.images.reshape(len(found), 64).astype(np.float32) / found.levels
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
parts = data.split_at_random(len(found), (0.7, 0.1, 0.2), seed=0, labels=found.labels)
letters = data.Tokenizer(WORDS)
words = [letters.encode(w, begin=True, end=True) for w in WORDS]


def show(image):
    return ["".join(" .:-=+*#%@"[int(9 * v)] for v in row) for row in image.reshape(8, 8)]


for lines in zip(*(show(images[i]) for i in parts.train[:6]), strict=True):
    print("   ".join(lines))
print("   ".join(f"{WORDS[found.labels[i]]:8s}" for i in parts.train[:6]))

# %% [markdown]
# ## The model
#
# The picture becomes the first hidden state, $h_0 = \tanh(W\,\mathrm{image} + b)$, and nothing else
# of it is ever seen. The GRU then writes: each letter goes in, the next comes out, and the end
# symbol says when to stop. All that the picture shows has to last, in the state, until the last
# letter.


# %%
class Captioner(nn.Module):
    def __init__(self, units, generator):
        self.eye = nn.Linear(64, units, generator=generator)
        self.embed = nn.Embedding(len(letters), 16, generator=generator)
        self.gru = nn.GRU(16, units, generator=generator)
        self.head = nn.Linear(units, len(letters), generator=generator)

    def look(self, image):
        return mg.expand_dims(mg.tanh(self.eye(image)), 0)  # (layers, B, H)

    def forward(self, x, state):
        hs, state = self.gru(self.embed(x), state)
        return self.head(hs), state

    def write(self, image, steps=8):
        """The likeliest letter after the other."""
        with mg.no_grad():
            state, x = self.look(image), np.full((1, len(image)), letters.begin)
            out = []
            for _ in range(steps):
                logits, state = self(x, state)
                x = logits.numpy().argmax(-1)
                out.append(x[0])
        rows = [row.tolist() for row in np.array(out).T]
        return [letters.decode(r[: r.index(letters.end)] if letters.end in r else r) for r in rows]


def loss(model, batch):
    ids, lengths, items = batch
    logits, _ = model(ids[:-1], model.look(images[items]))
    following = np.where(np.arange(1, len(ids))[:, None] < lengths, ids[1:], -100)
    return nn.cross_entropy(logits, following)


model = Captioner(64, np.random.default_rng(0))
batches = data.Batches([words[k] for k in found.labels[parts.train]], parts.train, batch=32, seed=0)
fitted = fit(model, loss, batches, optim.Adam(model.parameters(), 5e-3), epochs=15, max_norm=1.0,
             progress=False)  # fmt: skip
written = model.write(images[parts.test])
truth = [WORDS[k] for k in found.labels[parts.test]]
exact = np.mean([w == t for w, t in zip(written, truth, strict=True)])
largest = max(np.bincount(found.labels[parts.test])) / len(truth)
print(f"{fitted.steps} updates in {fitted.seconds:.0f} s")
print(f"{exact:.1%} of {len(truth)} captions exact (the most frequent word: {largest:.0%})")
assert exact > 0.85
with mg.flow.record() as ran:  # look() and forward(), as the loss calls them
    loss(model, next(iter(batches))).backward()
mg.flow.show(mg.flow.draw(model, recording=ran, title="One-to-many"), "captions.svg")

# %% [markdown]
# ## What it writes when it errs
#
# It never spells wrongly: it sees the wrong digit and spells that. Spelling was learned once for
# all pictures, as the weights are shared.

# %%
wrong = [k for k, (w, t) in enumerate(zip(written, truth, strict=True)) if w != t][:5]
for lines in zip(*(show(images[parts.test[k]]) for k in wrong), strict=True):
    print("   ".join(lines))
print("   ".join(f"{written[k]:8s}" for k in wrong), " written")
print("   ".join(f"{truth[k]:8s}" for k in wrong), " true")
known = sum(w in WORDS for w in written) / len(written)
print(f"captions that are a word at all: {known:.1%}")
assert known > 0.97

# %% [markdown]
# ## How long must the picture last?
#
# What the picture says about the *last* letter has to come through every state in between. How
# strongly does the picture still move each letter's score, its logit beside that of the runner-up?
# (The gradient of the loss would not tell: it is small wherever the net is sure of itself.)

# %%
item = parts.test[[i for i, t in enumerate(truth) if t == "seven"][:16]]
ids = np.tile(words[7][:, None], (1, len(item)))
sizes = []
for t in range(len(ids) - 1):
    picture = mg.tensor(images[item], requires_grad=True)
    scores = model(ids[:-1], model.look(picture))[0][t]  # (B, letters)
    rows, right = np.arange(len(item)), ids[t + 1]
    others = scores.numpy().copy()
    others[rows, right] = -np.inf
    margin = mg.sum(scores[rows, right] - scores[rows, others.argmax(-1)])
    sizes.append(float(np.linalg.norm(mg.grad(margin, picture).numpy())))
for letter, size in zip([*"seven", "end"], sizes, strict=True):
    print(f"{letter:4s} |d score / d picture| = {size:.2f}")
assert sizes == sorted(sizes, reverse=True)
assert 5 < sizes[0] / sizes[-1] < 50

# %% [markdown]
# Less from letter to letter, and yet it is there to the end: the state still holds the picture
# while the word is written.

# %% [markdown]
# ## Exercises
#
# **1.** Another way to show the picture: at *every* step, beside the letter. Hand in a function
# `(x, image)` of the letters' embeddings (T, B, 16) and the pictures (B, 64), both NumPy arrays,
# that gives the inputs (T, B, 80) of such a net. What would its state then no longer have to keep?

# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise("a function (x (T, B, 16), image (B, 64)) -> (T, B, 80)")
def check_1(inputs):
    for steps, rows in ((1, 1), (6, 3)):
        draw = np.random.default_rng(0)
        x, image = draw.random((steps, rows, 16)), draw.random((rows, 64))
        mine = np.asarray(inputs(x, image))
        assert mine.shape == (steps, rows, 80), f"the shape is {mine.shape}."
        for t in range(steps):
            close(mine[t, :, :16], x[t], f"the letters at step {t}")
            close(mine[t, :, 16:], image, f"the pictures at step {t}")
    return "The picture. How far the word has got must still be kept: 'seven' has two letters e."


# %%
check_1(...)

# %% [markdown]
# **2.** How sure is it of a whole word? Hand in a function `(image, word)` that gives the
# probability with which `model` writes exactly this word, and then stops, for one picture (64,).


# %% Check 2
@exercise("a function (image (64,), word) -> the probability of the word")
def check_2(probability):
    sums = []
    for item in parts.test[:5]:
        p = {word: probability(images[item], word) for word in WORDS}
        for k in (0, 3, 7):
            ids = words[k][:, None]
            with mg.no_grad():
                nats = loss(model, (ids, np.array([len(ids)]), [item])).item() * (len(ids) - 1)
            close(p[WORDS[k]], np.exp(-nats), f"p({WORDS[k]})", rtol=1e-3, atol=1e-9)
        sums.append(sum(p.values()))
        assert sums[-1] <= 1 + 1e-4, f"the ten words have {sums[-1]:.3f} together."
    return f"Of five pictures, the ten words have {min(sums):.3f} or more: hardly any misspelling."


# %%
check_2(...)

# %% [markdown]
# **3.** A net that writes can also choose. Hand in a function that takes pictures (B, 64) and says
# for each which of the ten `WORDS` is the most probable one, as numbers (B,). It has to be right as
# often as what the net writes letter by letter, less 1% at most.


# %% Check 3
@exercise("a function: images (B, 64) -> numbers of words (B,)")
def check_3(choose):
    guess = np.asarray(choose(images[parts.test]))
    assert guess.shape == (len(parts.test),), f"expected {len(parts.test)} numbers, {guess.shape}."
    right = (guess == found.labels[parts.test]).mean()
    assert right >= exact - 0.01, f"right in {right:.2%}; letter by letter {exact:.2%} were."
    return f"Right in {right:.2%}; letter by letter {exact:.2%} were."


# %%
check_3(...)

# %% [markdown]
# ## Solutions

# %% Solution 1
# One copy for each step. The input grows by 64 numbers, and the weights with it.
check_1(lambda x, image: np.concatenate([
    x, np.broadcast_to(image, (len(x), *image.shape))
], axis=-1))  # fmt: skip


# %% Solution 2
# The product of the letters' probabilities, each given those before; the end counts, too. As sums
# of logarithms, for many pictures at once:
def log_p(image, k):
    ids = np.tile(words[k][:, None], (1, len(image)))
    with mg.no_grad():
        logits, _ = model(ids[:-1], model.look(image))
        each = mg.log_softmax(logits, axis=-1).numpy()  # (T, B, letters)
    return np.take_along_axis(each, ids[1:, :, None], axis=-1).sum(axis=(0, 2))


check_2(lambda image, word: float(np.exp(log_p(image[None], WORDS.index(word))[0])))

# %% Solution 3
# Letter by letter, a word is begun before it is known how it ends; here whole words compete.
check_3(lambda image: np.argmax([log_p(image, k) for k in range(10)], axis=0))

# %% [markdown]
# ## Sources
#
# O. Vinyals et al., ["Show and tell"](https://arxiv.org/abs/1411.4555) (2015). A. Karpathy, L.
# Fei-Fei, ["Deep visual-semantic alignments"](https://arxiv.org/abs/1412.2306) (2015). With
# attention, which looks at another part of the picture for each word: K. Xu et al., ["Show, attend
# and tell"](https://arxiv.org/abs/1502.03044) (2015). The digits: E. Alpaydin, C. Kaynak (1998), by
# way of scikit-learn.
