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
# decoder, sees what a single vector between them costs, adds attention, and looks at where
# it looks. Run it with `python tutorials/14_translation_with_attention.py`. You need tutorials 08
# and 10, and `pip install "minigrad-bptt[data]"`.

# %%
from pathlib import Path

import numpy as np

from minigrad import data, nn, optim
from minigrad.tasks.alignments import MissingPlotError, picture
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
# more units and a longer training may get further with it, too. Attention spares them.

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
    print("drawn to", picture(Path("attention.png"), [(weights, phrase, written)]))
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
# 1. Feed the decoder its own output in training. Why is that slower, and what might be better?
# 2. How does the gradient get from the decoder to the first letter without passing all of the
#    encoder's steps?
# 3. Ask for a phrase in a language it never saw ("2 marzo 2024").
#
# ## Solutions

# %%
# 1. Each step needs the step before: no loop can be compiled ahead of the choice. It sees its own
#    mistakes, though, which teacher forcing never shows it (scheduled sampling mixes both).
# 2. Along the attention weights: m_j is read directly, one step away from everywhere.
# 3. It has no Italian, but a day and a year:
strange = letters.encode("2 marzo 2024")[:, None]
guess = digits.decode(model.greedy(wide(strange), digits.begin, digits.end, [len(strange)], 12)[0])
print("2 marzo 2024 ->", guess)

# %% [markdown]
# ## Sources
#
# I. Sutskever, O. Vinyals, Q. Le, "Sequence to sequence learning" (2014). D. Bahdanau, K. Cho, Y.
# Bengio, "Neural machine translation by jointly learning to align and translate" (2015). M.-T.
# Luong et al. (2015). S. Bengio et al., "Scheduled sampling" (2015). The phrases: Unicode CLDR by
# way of Babel.
