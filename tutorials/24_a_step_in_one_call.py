# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 24 A training step in one call
#
# A training step of a small net is a little arithmetic with hundreds of calls around it. `mg.jit`
# writes down what a step did and replays it. This page counts the calls, looks at the list that is
# left, checks that not a bit changes, and finds out what cannot be replayed.
#
# You need tutorials 11 and 17. Time: 20 minutes, and 30 for the exercises. Run it with
# `python tutorials/24_a_step_in_one_call.py`.

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
assert counted["plain"] > 200

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
# **1.** Batches arrive with these lengths: 20, 30, 20, 20, 25, 30, 20, 30, 25, 20. How many of
# the ten calls are recorded, and how many replayed? Hand in a function: lengths -> (recorded,
# replayed).

# %% Check 1
from minigrad.lab.exercises import close, exercise


def small():
    """A step that is quick to record, as `mg.jit` gives it."""
    scale = mg.tensor(np.ones(3))
    return mg.jit(lambda x: mg.sum(mg.tanh(x * scale)))


@exercise("a function: a list of lengths -> (recorded, replayed)")
def check_1(count):
    for lengths in ([5], [5, 5, 5], [20, 30, 20, 20, 25, 30, 20, 30, 25, 20], [1, 2, 3, 4]):
        f = small()
        for length in lengths:
            f(np.ones((length, 3)))
        close(count(lengths), (f.recorded, f.replayed), f"(recorded, replayed) of {lengths}")


# %%
check_1(...)

# %% [markdown]
# **2.** Lengths from 20 to 40 would be 21 programs, each with memory of its own. Hand in a function
# that takes an array of lengths and returns to which each of them is to be padded: at most three
# different lengths, none shorter than the sequence, and less than a fifth of all steps padding.


# %% Check 2
@exercise("a function: lengths (N,) -> padded lengths (N,)")
def check_2(padded):
    for seed in range(5):
        lengths = np.random.default_rng(seed).integers(20, 41, 500)
        to = np.asarray(padded(lengths))
        assert to.shape == lengths.shape, f"expected {lengths.shape} lengths, got {to.shape}."
        assert (to >= lengths).all(), "a sequence is longer than what it is padded to."
        kinds = np.unique(to)
        assert len(kinds) <= 3, f"{len(kinds)} different lengths: {kinds}."
        waste = 1 - lengths.sum() / to.sum()
        assert waste < 0.2, f"{waste:.0%} of the steps are padding."
    return f"The lengths {kinds}, and {waste:.0%} of the steps are padding."


# %%
check_2(...)

# %% [markdown]
# **3.** Mend `impatient`: hand in a function `(fast, adam, x, y)` that calls `fast(x, y)`, a jitted
# step as above that returns (loss, norm), once, returns the loss as a number, and sets `adam.lr` to
# 1e-3 as soon as the loss has been below 0.8. Nothing may be recorded anew for it.


# %% Check 3
@exercise("a function (fast, adam, x, y) -> the loss, a number")
def check_3(patient):
    function, _, adam = make()
    fast, seen = mg.jit(function), []
    for x, y in batches(60):
        loss = patient(fast, adam, x, y)
        assert isinstance(loss, float), f"expected the loss as a float, got {type(loss).__name__}."
        seen.append(loss)
        expected = 1e-3 if min(seen) < 0.8 else 1e-2
        close(adam.lr, expected, f"the rate after losses down to {min(seen):.2f}")
    close(fast.recorded + fast.replayed, 60, "calls of the step")
    close(fast.recorded, 2, "recordings")
    return f"{fast.replayed} of 60 steps were replayed; the rate is {adam.lr}."


# %%
check_3(...)

# %% [markdown]
# ## Solutions


# %% Solution 1
# Each length is recorded twice, the second time to compare; from its third time on it is replayed.
def count(lengths):
    recorded = sum(min(2, lengths.count(length)) for length in set(lengths))
    return recorded, len(lengths) - recorded


check_1(count)

# %% Solution 2
# Three steps of seven. The padding is left out of the loss: targets of -100 do not count. (As many
# sequences in each class as in any other, by quantiles, would do as well.)
check_2(lambda lengths: np.array([26, 33, 40])[np.searchsorted([26, 33, 40], lengths)])


# %% Solution 3
# Decide outside, with what the step has returned. The rate is read where it is: no recording.
def patient(fast, adam, x, y):
    loss = fast(x, y)[0].item()
    if loss < 0.8:
        adam.lr = 1e-3
    return loss


check_3(patient)

# %% [markdown]
# ## Sources
#
# Recording a program and replaying it: A. Griewank, A. Walther, [*Evaluating
# Derivatives*](https://doi.org/10.1137/1.9780898717761) (2008), chapter 6, and JAX's
# [`jit`](https://docs.jax.dev/en/latest/jit-compilation.html), which traces what it compiles. The
# documentation's page "One call a step" has the rules in full.
