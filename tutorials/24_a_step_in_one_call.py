# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 24 A training step in one call
#
# A training step of a small net is some microseconds of arithmetic and a thousand calls around it.
# `mg.jit` writes down what a step did and replays it. This page counts the calls, looks at the list
# that is left, checks that not a bit changes, and finds out what cannot be replayed.
# Run it with `python tutorials/24_a_step_in_one_call.py`. You need tutorials 17 and 11.

# %%
import cProfile
import time

import numpy as np

import minigrad as mg
from minigrad import nn, optim

# %% [markdown]
# ## A step, written as usual
#
# Symbols in, the next symbols to be guessed. Everything is here: gradients cleared, forward,
# backward, clipping, Adam.

# %%
SYMBOLS, T, B = 20, 30, 8


def make():
    generator = np.random.default_rng(0)
    embed = nn.Embedding(SYMBOLS, 16, generator=generator)
    lstm = nn.LSTM(16, 32, generator=generator)
    head = nn.Linear(32, SYMBOLS, generator=generator)
    parameters = [p for part in (embed, lstm, head) for p in part.parameters()]
    adam = optim.Adam(parameters, lr=1e-2)

    def step(x, y):
        adam.zero_grad()
        loss = nn.cross_entropy(head(lstm(embed(x))[0]), y)
        loss.backward()
        norm = optim.clip_grad_norm_(parameters, 1.0)
        adam.step()
        return loss, norm

    return step, parameters, adam


def batches(count):
    """Each symbol is the one before plus 1 or 2, modulo 20."""
    draw = np.random.default_rng(1)
    for _ in range(count):
        text = draw.integers(1, 3, (T + 1, B)).cumsum(axis=0) % SYMBOLS
        yield text[:-1], text[1:]


# %% [markdown]
# ## Recorded, compared, replayed
#
# The first call runs as ever, and every operation is noted. So does the second, and both notes must
# agree: what Python decided differently would show. From the third call on the list is run.

# %%
step, plain, _ = make()
function, replayed, adam = make()
fast = mg.jit(function)
for x, y in batches(60):
    expected, loss = step(x, y), fast(x, y)
    assert np.array_equal(loss[0].numpy(), expected[0].numpy())
assert all(np.array_equal(p.numpy(), q.numpy()) for p, q in zip(plain, replayed, strict=True))
print(f"recorded {fast.recorded}, replayed {fast.replayed} times; loss {loss[0].item():.3f}")
print("60 steps, and no bit of the loss or of a weight differs")

# %% [markdown]
# The gain is what is *around* the arithmetic. The calls of Python and C functions in one step,
# counted by the profiler, and the time, which depends on your machine (the fastest of many, in
# turn):


# %%
def calls(f, *arguments):
    profile = cProfile.Profile()
    profile.runcall(f, *arguments)
    return sum(entry.callcount for entry in profile.getstats())


x, y = next(batches(1))
counted, fastest = {}, {}
for name, f in (("plain", step), ("replayed", fast)):
    counted[name], fastest[name] = calls(f, x, y), np.inf
for _ in range(200):
    for name, f in (("plain", step), ("replayed", fast)):
        began = time.perf_counter()
        f(x, y)
        fastest[name] = min(fastest[name], time.perf_counter() - began)
for name in counted:
    print(f"{name:9s} {counted[name]:4d} calls, {1e3 * fastest[name]:.2f} ms")
assert counted["replayed"] < counted["plain"] / 5

# %% [markdown]
# ## What is left
#
# A flat list of calls of compiled kernels, each with the line that it came from. The two loops of
# the LSTM are two of them:

# %%
listed = str(fast).splitlines()
print("\n".join(line[:110] for line in listed[:12]), "...", sep="\n")
loops = [line for line in listed if "lstm" in line.lower()]
assert any("BPTT" in line for line in loops)
mg.flow.show(mg.flow.draw(fast), "step.svg")

# %% [markdown]
# ## What may change, and what may not
#
# Arrays and floats may be others at each call, a learning rate too. Another *shape* is another
# program, recorded by itself and kept beside the first.

# %%
adam.lr = 5e-3  # read where it is
before = fast.recorded
for _ in range(3):
    fast(x[:20], y[:20])
print(f"another length: {fast.recorded - before} more recordings")
assert fast.recorded - before == 2

# %% [markdown]
# A value that Python reads in the middle cannot be replayed: the list has no place for an `if`. It
# says so, at recording, with the line. Return the value and decide outside.


# %%
def impatient(x, y):
    loss, _ = function(x, y)
    if loss.item() < 0.1:
        adam.lr = 1e-3
    return loss


try:
    mg.jit(impatient)(x, y)
except mg.JitError as error:
    print(error)
else:
    raise AssertionError("a value was read, and nobody said so")

# %% [markdown]
# What it may *not* do is change the meaning: like `mg.pure`, `mg.jit` is a promise of yours that
# nothing but the arguments and the weights decides what the step does.
#
# ## Exercises
#
# 1. A schedule changes the rate at every step. Does it need a new recording each time?
# 2. Batches come in lengths from 20 to 40. How many programs is that, and what would you do?
# 3. Where does the time go that is left in a replayed step?
#
# ## Solutions

# %%
# 1. No: the rate is a number that the optimiser's kernel is given.
before = fast.recorded
for k in range(3):
    adam.lr = 1e-2 * 0.5**k
    fast(x, y)
assert fast.recorded == before
# 2. 21, each with memory of its own. Pad to two or three lengths, and leave the padding out of the
#    loss (targets of -100 do not count).
# 3. In the loops and products themselves: larger nets gain less, as there the arithmetic is most of
#    the step. README has a table by size.

# %% [markdown]
# ## Sources
#
# Recording a program and replaying it: A. Griewank, A. Walther, *Evaluating Derivatives* (2008),
# chapter 6, and JAX's [`jit`](https://docs.jax.dev/en/latest/jit-compilation.html), which traces
# what it compiles. The documentation's page "One call a step" has the rules in full.
