# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 14 Translation with attention: dates in words to ISO
#
# "samedi 2 mars 2024" to "2024-03-02": a small language into another one, with another length and
# another order, and one right answer that can be checked. This page builds an encoder and a
# decoder, sees what a single vector between them costs, adds attention, and looks at where it
# looks.
#
# You need tutorials 08 and 10, and `pip install "minigrad-bptt[data]"`. Time: 15 minutes, and 50
# for the exercises. Run it with `python tutorials/14_translation_with_attention.py`.

# %%
import numpy as np

import minigrad as mg
from minigrad import data, nn, optim
from minigrad.tasks.alignments import MissingPlotError, heat_maps
from minigrad.train import fit

found = data.dates(3000, ("en", "de", "fr"))
parts = data.split_by_group(found.iso, seed=0)  # no day is in two parts, in no language
for i in parts.train[:4]:
    print(f"{found.phrases[i]:32s} {found.iso[i]}")
letters = data.Tokenizer(found.phrases[i].lower() for i in parts.train)
digits = data.Tokenizer(["0123456789-"])
sources = [letters.encode(p.lower()) for p in found.phrases]
targets = [digits.encode(t, begin=True, end=True) for t in found.iso]

# %% [markdown]
# ## Encoder and decoder
#
# The encoder, a BiLSTM, reads the phrase. Its last state becomes the first state of the decoder,
# which writes one character at a time and reads what it has just written. In training it is given
# the *right* character instead (teacher forcing): so all steps can be computed in one compiled
# loop.
#
# ## Attention
#
# Without it, all of the phrase has to fit into the decoder's first state. With it, the decoder
# looks back at every step: it scores each position of the encoder against its own state, turns the
# scores into weights that add up to 1, and reads the weighted mean.
#
# $$ e_{tj} = \tanh(h_{t-1} W_q + m_j W_m)\, v^\top \qquad a_{tj} = \mathrm{softmax}_j(e_{tj})
#    \qquad k_t = \sum_j a_{tj} m_j $$
#
# Padding gets a score of $-10^{30}$, and so a weight of exactly 0.

# %%
WIDTH = 40  # all phrases are padded to this, so that one compiled loop serves all batches


def wide(source):
    return np.pad(source, ((0, WIDTH - len(source)), (0, 0)))


def loss(model, batch):
    source, lengths, (target, counts) = batch
    logits = model(wide(source), target[:-1], lengths)
    following = np.where(np.arange(1, len(target))[:, None] < counts, target[1:], -100)
    return nn.cross_entropy(logits, following)  # -100 is not counted


def exact(model, items):
    source, lengths = data.pad([sources[i] for i in items])
    rows = model.greedy(wide(source), digits.begin, digits.end, lengths, max_steps=12)
    return float(
        np.mean([digits.decode(r) == found.iso[i] for r, i in zip(rows, items, strict=True)])
    )


results = {}
for attention in (None, "additive"):
    model = nn.EncoderDecoder(
        len(letters), len(digits), 32, 24, attention=attention, generator=np.random.default_rng(0)
    )
    batches = data.Batches(
        [sources[i] for i in parts.train], [targets[i] for i in parts.train], batch=64, seed=0
    )
    adam = optim.Adam(model.parameters(), lr=1e-2)
    fitted = fit(model, loss, batches, adam, epochs=9, max_norm=1.0, progress=False)
    results[attention] = exact(model, parts.test)
    print(f"attention {attention!s:8s}: {results[attention]:4.0%} of test dates exact, loss "
          f"{fitted.losses[-1]:.3f}, {fitted.seconds:.0f} s")  # fmt: skip
assert results["additive"] > results[None] + 0.1

# %% [markdown]
# With the same units and the same nine epochs. That does not say that a single vector is too small:
# more units and a longer training may get further with it, too. With attention they are not needed.

# %% [markdown]
# ## Where it looks
#
# For each character that is written, the weights over the letters that are read. The year's digits
# look at the year, wherever it stands; the month's at a word.

# %%
phrase = found.phrases[parts.test[0]].lower()
source = letters.encode(phrase)[:, None]
written = digits.decode(model.greedy(wide(source), digits.begin, digits.end, [len(source)], 12)[0])
target = digits.encode(written, begin=True)[:-1, None]
weights = model.alignment(wide(source), target, [len(source)])[:, 0, : len(source)]
assert np.allclose(weights.sum(axis=1), 1, atol=1e-5)
try:  # with the extra: pip install "minigrad-bptt[plot]"
    mg.flow.show(heat_maps([(weights, phrase, written)]), "attention.png")
except MissingPlotError as missing:
    print(missing)
print("     " + phrase)
for character, row in zip(written, weights, strict=True):
    print(f"  {character}  " + "".join(" .:-=+*#%@"[min(int(10 * w), 9)] for w in row))

# %% [markdown]
# ## Searching instead of taking the best letter
#
# Greedy takes the likeliest character at each step; the likeliest *sequence* may begin otherwise. A
# beam keeps several.

# %%
rows = parts.test[:40]
source, lengths = data.pad([sources[i] for i in rows])
beams = model.beam(wide(source), digits.begin, digits.end, lengths, width=4, max_steps=12)
right = np.mean(
    [digits.decode(b[0].symbols) == found.iso[i] for b, i in zip(beams, rows, strict=True)]
)
print(f"exact with a beam of 4: {right:.0%}, greedy: {exact(model, rows):.0%} (of {len(rows)})")
best = beams[0]
print("the beam of one phrase:", [(digits.decode(b.symbols), round(b.log_p, 2)) for b in best[:3]])
assert best[0].log_p >= best[-1].log_p

# %% [markdown]
# ## Exercises
#
# **1.** Teacher forcing, and its classical off-by-one: hand in a function `(target, counts)` that
# makes from padded targets (T, B), whose rows begin with the begin symbol and have `counts` (B,)
# symbols, what the decoder reads and what it is to say: two arrays (T - 1, B), the second with -100
# wherever nothing is to be said.

# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise("a function (target (T, B), counts (B,)) -> (read, say), both (T - 1, B)")
def check_1(shifted):
    for counts in ([6, 4], [2, 6], [3, 3]):
        target = np.arange(12).reshape(6, 2) + 10
        read, say = (np.asarray(a) for a in shifted(target.copy(), np.array(counts)))
        close(read.shape, (5, 2), "the shape of what it reads")
        close(say.shape, (5, 2), "the shape of what it says")
        for row, count in enumerate(counts):
            case = f"of a row with {count} symbols"
            close(read[: count - 1, row], target[: count - 1, row], f"what it reads {case}")
            close(say[: count - 1, row], target[1:count, row], f"what it says {case}")
            close(say[count - 1 :, row], np.full(6 - count, -100), f"the padding {case}")


# %%
check_1(...)

# %% [markdown]
# **2.** Attention itself: hand in a function `(scores, memory, lengths)` for scores (B, J) and a
# memory (J, B, M) that gives the weights (B, J), exactly 0 in the padding, and what is read, (B,
# M). Scores may be large.


# %% Check 2
@exercise("a function (scores (B, J), memory (J, B, M), lengths (B,)) -> (weights, read)")
def check_2(attend):
    draw = np.random.default_rng(0)
    scores, memory, lengths = draw.standard_normal((3, 5)), draw.random((5, 3, 2)), [5, 1, 3]
    a, read = (np.asarray(v) for v in attend(scores.copy(), memory.copy(), np.array(lengths)))
    close(a.sum(axis=1), np.ones(3), "the sum of the weights")
    for row, length in enumerate(lengths):
        assert not a[row, length:].any(), f"row {row} has weights in its padding: {a[row]}."
        odds = scores[row, :length] - scores[row, 0]
        close(np.log(a[row, :length] / a[row, 0]), odds, f"log(a_j / a_0) of row {row}", atol=1e-9)
        close(read[row], sum(a[row, j] * memory[j, row] for j in range(length)), f"read, row {row}")
    close(attend(scores + 1000, memory, np.array(lengths))[0], a, "the weights, with 1000 more")


# %%
check_2(...)

# %% [markdown]
# **3.** A beam search, on a model that is small enough to try everything: hand in a function
# `(log_p, width, length)`, where `log_p(prefix)` gives the log probabilities of the next symbol
# after a tuple of symbols. It returns the best sequence of this length that it finds while it keeps
# `width` prefixes, as a tuple.


# %% Check 3
@exercise("a function (log_p, width, length) -> a tuple of symbols")
def check_3(search):
    import itertools

    better = 0
    for seed in range(20):
        table = {}

        def log_p(prefix, seed=seed, table=table):
            draw = np.random.default_rng([seed, *prefix])
            return table.setdefault(prefix, np.log(draw.dirichlet(np.full(3, 0.7))))

        def total(sequence, log_p=log_p):
            return sum(log_p(sequence[:t])[s] for t, s in enumerate(sequence))

        greedy = ()
        for _ in range(4):
            greedy = (*greedy, int(log_p(greedy).argmax()))
        best = max(itertools.product(range(3), repeat=4), key=total)
        one, three, all_ = (tuple(map(int, search(log_p, w, 4))) for w in (1, 3, 81))
        assert one == greedy, f"with a width of 1 it should be greedy: {greedy}, not {one}."
        assert all_ == best, f"with room for all it should find the best: {best}, not {all_}."
        better += total(three) > total(greedy) + 1e-12
    assert better > 0, "with a width of 3 it is never better than greedy."
    return f"A width of 3 finds something likelier than greedy in {better} of 20 models."


# %%
check_3(...)

# %% [markdown]
# ## Solutions


# %% Solution 1
# What is read at a step is what was to be said at the step before. Where there is no next symbol,
# there is nothing to say.
def shifted(target, counts):
    following = np.where(np.arange(1, len(target))[:, None] < counts, target[1:], -100)
    return target[:-1], following


check_1(shifted)


# %% Solution 2
# The padding's scores become -inf before the softmax, so that the others add up to 1. The gradient
# has a short way, too: from what was read straight into memory[j], past all of the encoder's steps.
def attend(scores, memory, lengths):
    scores = np.where(np.arange(scores.shape[1]) < lengths[:, None], scores, -np.inf)
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    a = e / e.sum(axis=1, keepdims=True)
    return a, np.einsum("bj,jbm->bm", a, memory)


check_2(attend)


# %% Solution 3
# Extend all that were kept by all symbols, and keep the best of those.
def search(log_p, width, length):
    beams = [(0.0, ())]
    for _ in range(length):
        longer = [(p + q, (*s, k)) for p, s in beams for k, q in enumerate(log_p(s))]
        beams = sorted(longer, key=lambda b: -b[0])[:width]
    return beams[0][1]


check_3(search)

# %% [markdown]
# ## Sources
#
# I. Sutskever, O. Vinyals, Q. Le, ["Sequence to sequence
# learning"](https://arxiv.org/abs/1409.3215) (2014). D. Bahdanau, K. Cho, Y. Bengio, ["Neural
# machine translation by jointly learning to align and translate"](https://arxiv.org/abs/1409.0473)
# (2015). [M.-T. Luong et al.](https://arxiv.org/abs/1508.04025) (2015). C. Olah, S. Carter,
# ["Attention and augmented recurrent neural networks"](https://distill.pub/2016/augmented-rnns/),
# *Distill* (2016). In training, the decoder never sees its own mistakes: S. Bengio et al.,
# ["Scheduled sampling"](https://arxiv.org/abs/1506.03099) (2015). The phrases: Unicode CLDR by way
# of Babel.
