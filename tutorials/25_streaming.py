# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 25 Streaming: an answer at every step
#
# A sensor, a keyboard, a microphone: inputs arrive one at a time, and an answer is wanted before
# the next. A recurrent net is made for it, as its state is all that it knows of the past. This page
# feeds one step by step, compares with the whole sequence, measures a step, and shows what cannot
# be streamed.
#
# You need tutorials 05, 09 and 10. Time: 15 minutes, and 40 for the exercises. Run it with
# `python tutorials/25_streaming.py`.

# %%
import time

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim

# %% [markdown]
# ## A forecaster to stream
#
# A year of temperatures, hour by hour, and a GRU that says after each hour what the next will
# be: an output at *every* step. Trained on whole weeks, side by side.

# %%
series = data.temperatures()
values = ((series.values - series.values.mean()) / series.values.std()).astype(np.float32)
values = values.reshape(-1, 1)
WEEK = 168
weeks = values[: len(values) // WEEK * WEEK].reshape(-1, WEEK, 1).swapaxes(0, 1)  # (T, B, 1)
train, test = weeks[:, :-5], weeks[:, -5:]
print(series, "in weeks:", weeks.shape)

generator = np.random.default_rng(0)
gru, head = nn.GRU(1, 24, generator=generator), nn.Linear(24, 1, generator=generator)
adam = optim.Adam([*gru.parameters(), *head.parameters()], lr=1e-2)


@mg.jit
def learn(x):
    adam.zero_grad()
    loss = nn.mse_loss(x[:-1] + head(gru(x[:-1])[0]), x[1:])  # it says by how much it will change
    loss.backward()
    adam.step()
    return loss


for _ in range(80):
    loss = learn(train)
with mg.no_grad():
    error = np.abs(test[:-1] + head(gru(test[:-1])[0]).numpy() - test[1:]).mean()
same = np.abs(test[1:] - test[:-1]).mean()
degrees = series.values.std()
print(f"an hour ahead: off by {error * degrees:.2f}, 'as it is now' by {same * degrees:.2f}")
assert error < same

# %% [markdown]
# ## Hour by hour
#
# `layer.stream(batch)` keeps the state, records nothing, and gives for each step what the layer
# gives for the whole sequence. Not nearly: to the last bit.

# %%
week = test[:, :1]  # (T, 1, 1): one row
with mg.no_grad():
    at_once = gru(week)[0].numpy()

stream = gru.stream(batch=1)
outputs = [stream(x).numpy() for x in week]
assert np.array_equal(np.stack(outputs), at_once)
print(f"{len(outputs)} steps one by one: equal to the sequence, bit for bit")

# %% [markdown]
# Why to the bit? A row is computed in one order of additions, however many steps or rows are asked
# for at once. So what was tested on whole sequences *is* what runs in the stream.
#
# How long does a step take? (The fastest of five runs of a thousand steps, on this machine.)

# %%
x = week[0]
times = []
for _ in range(5):
    began = time.perf_counter()
    for _ in range(1000):
        stream(x)
    times.append((time.perf_counter() - began) / 1000)
print(f"a step of GRU(1, 24): {1e6 * min(times):.0f} us")

# %% [markdown]
# ## The state is yours
#
# It can be looked at, kept, and set: to go on after a restart, or to try what would come next and
# return.

# %%
stream.reset()
for x in week[:100]:
    stream(x)
kept = stream.state

imagined = []
x = week[100]
for _ in range(24):  # a day ahead: what it says is what it reads next
    x = x + head(stream(x)).numpy()
    imagined.append(float(x[0, 0]))
stream.reset(kept)  # back to the present
assert np.array_equal(stream(week[100]).numpy(), at_once[100])
gap = np.abs(np.array(imagined) - week[101:125, 0, 0]) * degrees
print(f"a day imagined: off by {gap[0]:.1f} after an hour, {gap[-1]:.1f} after a day")

# %% [markdown]
# ## What cannot be streamed
#
# Two directions: the second one begins at the *end*, which has not come yet.

# %%
try:
    nn.LSTM(1, 8, bidirectional=True).stream()
except ValueError as error:
    print(error)
else:
    raise AssertionError("the future has not arrived")

# %% [markdown]
# What it needs instead is a part of the sequence: a window, or chunks with some context of the
# future, and an answer that comes so much later.
#
# ## Exercises
#
# **1.** A server keeps a state for each listener. How much is that? Hand in a function `(kind, H,
# layers, listeners)` that gives the bytes of all states in float32; `kind` is "GRU" or "LSTM".

# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise('a function (kind, H, layers, listeners) -> bytes, with kind "GRU" or "LSTM"')
def check_1(count):
    for kind, units, layers, listeners in (
        ("GRU", 24, 1, 1),
        ("LSTM", 64, 2, 1),
        ("LSTM", 8, 3, 50),
    ):
        state = getattr(nn, kind)(1, units, num_layers=layers).stream(listeners).state
        parts = (state.h, state.c) if kind == "LSTM" else (state,)
        true = sum(part.numpy().nbytes for part in parts)
        close(count(kind, units, layers, listeners), true, f"{kind}({units}), {layers} layers")
    return f"Ten thousand LSTMs of 2 x 64: {count('LSTM', 64, 2, 10_000) / 1e6:.0f} megabytes."


# %%
check_1(...)

# %% [markdown]
# **2.** Two series in one stream, and one of them pauses: hand in a function `(stream, x, active)`
# for a stream of a GRU, an input x (B, I) and booleans `active` (B,), that makes a step of the
# active rows and leaves the state of the others as it was. It returns the outputs (B, H); those of
# pausing rows do not matter.


# %% Check 2
@exercise("a function (stream, x, active) -> outputs (B, H)")
def check_2(step):
    both, alone = gru.stream(batch=2), [gru.stream(batch=1) for _ in range(2)]
    draw = np.random.default_rng(0)
    for t in range(30):
        x, active = test[t, :2], draw.random(2) < 0.6
        y = step(both, x, active)
        y = y.numpy() if isinstance(y, mg.Tensor) else np.asarray(y)
        for row in np.flatnonzero(active):
            true = alone[row](x[row : row + 1]).numpy()[0]
            close(y[row], true, f"row {row} at step {t}", rtol=1e-5, atol=1e-7)
    return "Each row goes at its own pace."


# %%
check_2(...)

# %% [markdown]
# **3.** Two directions cannot be streamed, but nearly: work in chunks, each with some steps of its
# future. Hand in a function `(layer, xs, chunk, ahead)` that gives the outputs of a bidirectional
# layer for xs (T, B, I) in chunks of `chunk` steps, using for each nothing beyond `ahead` steps
# after its end, and all of the past that it likes. With `ahead` as long as the rest it has to be
# exact.


# %% Check 3
@exercise("a function (layer, xs, chunk, ahead) -> outputs (T, B, 2H)")
def check_3(chunked):
    layer = nn.LSTM(1, 6, bidirectional=True, generator=np.random.default_rng(0))
    xs = test[:50, :2]
    with mg.no_grad():
        true = layer(xs)[0].numpy()
        exact = chunked(layer, xs, 10, 50)
        close(exact, true, "the outputs, with all of the future", rtol=1e-4, atol=1e-6)
        off = {}
        for ahead in (0, 3, 10):
            mine = np.asarray(chunked(layer, xs, 10, ahead))
            off[ahead] = float(np.abs(mine - true).max())
            changed = xs.copy()
            changed[20 + ahead :] += 1.0
            now = np.asarray(chunked(layer, changed, 10, ahead))
            close(now[:20], mine[:20], f"steps 0 to 19, after step {20 + ahead} was changed")
    assert off[10] < off[3] < off[0], f"off by {off}, for 0, 3 and 10 steps of the future."
    told = ", ".join(f"{a} steps: {e:.1g}" for a, e in off.items())
    return f"Off by at most, with a future of {told}. The answer comes so much later."


# %%
check_3(...)

# %% [markdown]
# ## Solutions

# %% Solution 1
# h, and for an LSTM c; H numbers of four bytes for each layer and listener.
check_1(lambda kind, H, layers, listeners: (1 + (kind == "LSTM")) * H * layers * listeners * 4)


# %% Solution 2
# Keep the state, make the step, and put the rows that pause back. state is (layers, B, H).
def step(stream, x, active):
    before = stream.state.numpy()
    y = stream(x)
    stream.reset(mg.tensor(np.where(active[:, None], stream.state.numpy(), before)))
    return y


check_2(step)


# %% Solution 3
# The simplest way reads the past anew for every chunk; to keep the forward half's state instead
# would be one more line. What is missing is the backward half's state at the end of what it sees.
def chunked(layer, xs, chunk, ahead):
    pieces = []
    for start in range(0, len(xs), chunk):
        seen = layer(xs[: start + chunk + ahead])[0].numpy()
        pieces.append(seen[start : start + chunk])
    return np.concatenate(pieces)


check_3(chunked)

# %% [markdown]
# ## Sources
#
# R. Williams, D. Zipser, ["A learning algorithm for continually running fully recurrent neural
# networks"](https://doi.org/10.1162/neco.1989.1.2.270) (1989): learning without an end of the
# sequence. The temperatures: see `minigrad/data/README.md`.
