# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 11 A character model that writes Shakespeare
#
# One network, one question: *which character comes next?* Asked at every character of Hamlet, with
# the memory carried on from page to page, it learns to spell, to break lines, and who speaks. This
# page trains it (for half a minute; `minigrad train characters` takes longer and gets further),
# measures it honestly, makes it write, and looks at how much of the past it uses.
#
# You need tutorials 05 and 08. Time: 20 minutes, and 50 for the exercises. Run it with
# `python tutorials/11_a_character_model.py`.

# %%
import math

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim
from minigrad.train import fit

text = data.shakespeare()
vocabulary = data.Vocabulary(text)
ids = vocabulary.encode(text)
parts = data.split_in_time(len(ids), (0.9, 0.0, 0.1))
train_ids, test_ids = ids[parts.train], ids[parts.test]
print(f"{len(text):,} characters, {len(vocabulary)} kinds; tested on the last {len(test_ids):,}")
print(repr(text[3000:3120]))

# %% [markdown]
# ## How good is good? Baselines first
#
# The measure is *bits per character*: how many yes-no questions one would still need for each
# character. Without a model $\log_2$ of the number of characters; counting does better, and
# counting pairs better still. A network that does not beat pairs has learned nothing about
# *sequences*.


# %%
def bits_of_counts(order):
    """Counting which character follows the last `order` ones (+0.05 for what never came)."""
    n = len(vocabulary)
    key = np.zeros(len(train_ids) - order, np.int64)
    for k in range(order):
        key = key * n + train_ids[k : len(train_ids) - order + k]
    table = np.full((n**order, n), 0.05)
    np.add.at(table, (key, train_ids[order:]), 1.0)
    test_key = np.zeros(len(test_ids) - order, np.int64)
    for k in range(order):
        test_key = test_key * n + test_ids[k : len(test_ids) - order + k]
    p = table[test_key, test_ids[order:]] / table[test_key].sum(1)
    return float(-np.log2(p).mean())


baselines = {order: bits_of_counts(order) for order in (0, 1, 2)}
print(f"no model {math.log2(len(vocabulary)):.2f}, single characters {baselines[0]:.2f}, "
      f"pairs {baselines[1]:.2f}, triples {baselines[2]:.2f} bits per character")  # fmt: skip

# %% [markdown]
# ## The model, and truncated BPTT
#
# The play is one sequence of 160,000 steps. It is cut into 16 columns that are read side by side,
# in pieces of 50 steps. The state at the end of a piece starts the next, *cut off from the graph*:
# the memory goes on, the gradient stops (tutorial 06).


# %%
class Writer(nn.Module):
    def __init__(self, units, generator):
        n = len(vocabulary)
        self.embed = nn.Embedding(n, 32, generator=generator)
        self.gru = nn.GRU(32, units, generator=generator)
        self.head = nn.Linear(units, n, generator=generator)

    def forward(self, x, state=None):
        hs, state = self.gru(self.embed(x), state)
        return self.head(hs), state


def loss(model, piece, state):
    x, y = piece
    logits, state = model(x, state)
    return nn.cross_entropy(logits, y), state


def bits(model):
    """Bits per character on the end of the play, read once from its beginning."""
    total, count, state = 0.0, 0, None
    with mg.no_grad():
        for x, y in data.Stream(test_ids, 200, 1):
            logits, state = model(x, state)
            total += nn.cross_entropy(logits, y, reduction="sum").item()
            count += y.size
    return total / count / math.log(2)


assert round(len(train_ids), -4) == 160_000
model = Writer(96, np.random.default_rng(0))
adam = optim.Adam(model.parameters(), lr=3e-3)
stream = data.Stream(train_ids, length=50, batch=16)
before = bits(model)
fitted = fit(model, loss, stream, adam, epochs=4, max_norm=1.0, carry=True, progress=False)
after = bits(model)
print(f"{fitted.steps} updates in {fitted.seconds:.0f} s: {before:.2f} -> {after:.2f} bits")
assert after < baselines[1]  # better than counting pairs

# %% [markdown]
# ## Writing
#
# To write, draw a character from the prediction, feed it back, and so on. *Temperature* sharpens
# (below 1) or flattens (above 1) the distribution; `top_k` never takes anything but the k
# likeliest.


# %%
def write(prompt, length, temperature, seed=0):
    draw = np.random.default_rng(seed)
    with mg.no_grad():
        x, state, out = vocabulary.encode(prompt)[:, None], None, []
        for _ in range(length):
            logits, state = model(x, state)
            x = nn.sample(logits[-1:], temperature, top_k=20, generator=draw)
            out.append(int(x[0, 0]))
    return prompt + vocabulary.decode(np.array(out))


for temperature in (0.3, 0.8):
    print(f"--- temperature {temperature}\n{write('HAMLET:', 200, temperature)}")
assert write("HAMLET:", 50, 0.8) == write("HAMLET:", 50, 0.8)

# %% [markdown]
# Inputs that arrive one by one, from a keyboard or a sensor, have a call of their own: a layer's
# `stream` keeps the state, records nothing, and gives for each step what the layer gives for the
# whole sequence, to the last bit.

# %%
typed = model.embed(vocabulary.encode("To be, or not")[:, None]).detach()
keyboard = model.gru.stream(batch=1)
heard = np.stack([keyboard(x).numpy() for x in typed])
assert np.array_equal(heard, model.gru(typed)[0].numpy())

# %% [markdown]
# ## What does it remember?
#
# How many characters back does the loss still send a gradient? And does the *prediction* profit
# from a longer past? Two different questions: the first is about learning, the second about use.

# %%
window = data.spaced_windows(test_ids, 81, 32)
with mg.flow.record() as rec:
    logits, _ = model(window[:-1])
    nn.cross_entropy(logits[-1], window[-1]).backward()
flow = rec["gru/l0/fwd"]
print(f"gradient of the last loss: {flow.verdict}")
many = data.spaced_windows(test_ids, 81, 4000)  # a few dozen could not tell 40 from 80
bits_from = {}
with mg.no_grad():
    for past in (1, 3, 10, 40, 80):
        logits, _ = model(many[-1 - past : -1])
        each = nn.cross_entropy(logits[-1], many[-1], reduction="none").numpy() / math.log(2)
        bits_from[past] = each
        print(f"predicted from {past:2d} characters: {each.mean():.2f} bits")


def gained(more, less):
    """How much is gained by a longer past, and its standard error, over the same characters."""
    gain = bits_from[less] - bits_from[more]
    return gain.mean(), gain.std() / len(gain) ** 0.5


for less, more in ((1, 3), (3, 10), (10, 40), (40, 80)):
    gain, error = gained(more, less)
    print(f"{more} characters instead of {less}: {gain:+.3f} +- {error:.3f} bits")
assert gained(10, 3)[0] > 10 * gained(40, 10)[0] > 0
assert gained(40, 10)[0] < 0.05
assert abs(gained(80, 40)[0]) < 0.01


def profit():
    lengths = list(bits_from)
    found = [bits.mean() for bits in bits_from.values()]
    flat = {f"counting {k} in a row": (lengths, len(lengths) * [baselines[k - 1]]) for k in (2, 3)}
    return {"the model": (lengths, found), **flat}


chart = mg.flow.sliders(profit, {}, x="characters that it may read", y="bits per character")
mg.flow.show(chart, "past.html")

# %% [markdown]
# Nearly all of the profit comes from the last ten characters, some hundredths of a bit at most from
# the thirty before them, and from further back none that four thousand characters could show. That
# a gradient arrives says that something *could* be learned from there; so short a training has not
# done it.
#
# The recording, to walk through. The text at the bottom is coloured by $|\partial L/\partial
# x_t|$, or by the value of any unit. Try a few: does one switch where a word ends, or a line?

# %%
read = vocabulary.decode(window[:-1, 0])
walk = mg.flow.report(rec).explore(title="A character model reads", text=read)
mg.flow.show(walk, "writer.html")

# %% [markdown]
# ## What had each letter to do with it?
#
# The other way round: for *each* prediction, how much would its score move with each letter before
# it? $|\partial y_t/\partial x_s|$ for all $t$ and $s$, drawn on the text ([Madsen
# 2019](https://distill.pub/2019/memorization-in-rnns/) calls it *connectivity*). Point at a letter,
# or use the slider.


# %%
def likeliest(x):
    """(T, B, F) -> (T, B): the score of the likeliest next letter."""
    scores = model.head(model.gru(x)[0])
    best = scores.numpy().argmax(axis=-1)
    return mg.take_along_axis(scores, best[..., None], axis=-1)[..., 0]


passage = test_ids[3000:3201]
with mg.no_grad():
    embedded = model.embed(passage[:-1, None])
    guesses = mg.softmax(model.head(model.gru(embedded)[0])[:, 0], axis=-1).numpy()
said = []
for p, true in zip(guesses, passage[1:], strict=True):
    three = ", ".join(f"{vocabulary.decode([k])!r} {p[k]:.0%}" for k in np.argsort(-p)[:3])
    said.append(f"Next, it thinks: {three}. It was {vocabulary.decode([true])!r} ({p[true]:.0%}).")
read = vocabulary.decode(passage[:-1])
connected = mg.flow.connectivity(likeliest, embedded[:, 0], read, said, start=100)
mg.flow.show(connected, "connectivity.html")
late = [(t, row) for t, row in enumerate(connected.norms) if t > 20]
near = np.mean([row[t - 9 : t + 1].sum() / row.sum() for t, row in late])
print(f"of all that moves a guess, the last ten letters make {near:.0%}")
assert near > 0.5

# %% [markdown]
# ## Exercises
#
# **1.** What does the temperature do? Hand in a function `(logits, temperature)` that gives the
# probabilities to draw from, for logits (n,): the softmax at 1, the likeliest symbol alone towards
# 0, all symbols alike for very high temperatures. It must not overflow.

# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise("a function (logits (n,), temperature) -> probabilities (n,)")
def check_1(probabilities):
    some = np.random.default_rng(0).standard_normal(7)
    for temperature in (0.1, 1.0, 3.0):
        p = np.asarray(probabilities(some, temperature))
        close(p.sum(), 1.0, f"the sum of the probabilities at {temperature}")
        odds = (some[0] - some[1]) / temperature
        close(np.log(p[0] / p[1]), odds, f"the log of p_0 / p_1 at {temperature}", rtol=1e-6)
    close(probabilities(some, 1e6), np.full(7, 1 / 7), "the probabilities at 10^6", rtol=1e-3)
    cold = probabilities(1000 * some, 0.01)
    close(cold, some == some.max(), "the probabilities of large logits at 0.01", atol=1e-6)


# %%
check_1(...)

# %% [markdown]
# **2.** How surprised is the model by a text? Hand in a function `text -> bits`, the sum over the
# text of what each character costs, $-\log_2 p$, given those before it in the text. The first one
# is given, and free. Use `model` and `vocabulary`.


# %% Check 2
@exercise("a function: text -> bits, of all characters but the first")
def check_2(bits_of):
    start = "HAM"
    close(bits_of("H"), 0.0, "the bits of a text of one character, which is given", atol=1e-6)
    next_ones = [bits_of(start + c) - bits_of(start) for c in vocabulary.symbols]
    close(sum(2.0**-b for b in next_ones), 1.0, "the sum of p over all next characters", rtol=1e-4)
    line = "To be, or not to be, that is the question"
    costs = [bits_of(t) / (len(t) - 1) for t in (line, line[::-1])]
    assert costs[0] < costs[1], (
        f"Hamlet's line costs {costs[0]:.2f} a character, backwards {costs[1]:.2f}."
    )
    return f"{costs[0]:.2f} bits a character for Hamlet's line, {costs[1]:.2f} for it backwards."


# %%
check_2(...)

# %% [markdown]
# **3.** The likeliest next character, and again, and again: is that the likeliest *text*? Find a
# continuation of `HAMLET:` by 20 characters that the model thinks more probable than the one that
# is written in this way.


# %% Check 3
@exercise("a text of 20 characters")
def check_3(continuation):
    assert len(continuation) == 20, f"it has {len(continuation)} characters."

    def cost(text):
        ids_ = vocabulary.encode("HAMLET:" + text)[:, None]
        logits, _ = model(ids_[6:-1], model(ids_[:6])[1])
        return nn.cross_entropy(logits, ids_[7:], reduction="sum").item() / math.log(2)

    with mg.no_grad():
        greedy = ""
        for _ in range(20):
            logits, _ = model(vocabulary.encode("HAMLET:" + greedy)[:, None])
            greedy += vocabulary.symbols[int(logits.numpy()[-1, 0].argmax())]
        mine, theirs = cost(continuation), cost(greedy)
    assert mine < theirs, f"yours costs {mine:.2f} bits; greedily, {greedy!r} costs {theirs:.2f}."
    return f"It costs {mine:.2f} bits instead of {theirs:.2f} for {greedy!r}."


# %%
check_3(...)

# %% [markdown]
# ## Solutions


# %% Solution 1
# A softmax of logits / temperature; less their maximum, so that no exponent is positive.
def probabilities(logits, temperature):
    e = np.exp((logits - logits.max()) / temperature)
    return e / e.sum()


check_1(probabilities)


# %% Solution 2
# The cross-entropy of each next character, in nats, added up; log 2 of them are a bit. By the way:
# a model's own samples of a low temperature cost little, whatever it is worth. Only a text that it
# has not written, and not seen, can judge it.
def bits_of(text):
    if len(text) == 1:
        return 0.0
    x = vocabulary.encode(text)[:, None]
    with mg.no_grad():
        return nn.cross_entropy(model(x[:-1])[0], x[1:], reduction="sum").item() / math.log(2)


check_2(bits_of)


# %% Solution 3
# A beam: of all continuations so far, keep the 20 likeliest, not one. (nn.EncoderDecoder has it as
# a method, tutorial 14.)
def beam(prompt, length, width=20):
    logits, state = model(vocabulary.encode(prompt)[:, None])
    total, texts, n = np.zeros(1), [""], len(vocabulary)
    for _ in range(length):
        scores = (total[:, None] + mg.log_softmax(logits[-1], axis=-1).numpy()).ravel()
        best = np.argsort(-scores)[:width]
        rows, symbols = np.divmod(best, n)
        total = scores[best]
        texts = [texts[r] + vocabulary.symbols[s] for r, s in zip(rows, symbols, strict=True)]
        logits, state = model(symbols[None], mg.tensor(state.numpy()[:, rows]))
    return texts[0]


with mg.no_grad():
    found = beam("HAMLET:", 20)
print(repr(found))
check_3(found)

# %% [markdown]
# ## Sources
#
# A. Graves, ["Generating sequences with recurrent neural networks"](https://arxiv.org/abs/1308.0850)
# (2013). I. Sutskever, J. Martens, G. Hinton, "Generating text with recurrent neural networks"
# (2011). A. Karpathy, ["The unreasonable effectiveness of recurrent neural
# networks"](https://karpathy.github.io/2015/05/21/rnn-effectiveness/) (2015). The play: see
# `minigrad/data/README.md`.
