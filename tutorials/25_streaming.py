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
# be streamed. Run it with `python tutorials/25_streaming.py`. You need tutorials 05 and 12.

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
# How long does a step take? (The fastest thousand of some, on this machine.)

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
# 1. Stream two series at once. What is `batch` then, and may one of them pause?
# 2. How large is the state of a two-layer LSTM with 64 units, in bytes? How much must a server keep
#    for ten thousand listeners?
# 3. Learn while streaming: when would one call `backward`, and through how many steps?
#
# ## Solutions

# %%
# 1. batch=2, and both move on together. To let one pause, keep its row of the state, put it back.
pair = gru.stream(batch=2)
both = np.stack([pair(x).numpy() for x in test[:10, :2]])
with mg.no_grad():
    assert np.array_equal(both, gru(test[:10, :2])[0].numpy())

# 2. h and c, two layers, 64 numbers of 4 bytes: 1 KiB; ten megabytes for all of them.
state = nn.LSTM(1, 64, num_layers=2).stream().state
assert sum(part.numpy().nbytes for part in (state.h, state.c)) == 1024

# 3. A stream records nothing. Collect a window of inputs, run the layer over it from the state that
#    stood at its beginning, and go back through the window: truncated BPTT (tutorial 06).

# %% [markdown]
# ## Sources
#
# R. Williams, D. Zipser, "A learning algorithm for continually running fully recurrent neural
# networks" (1989): learning without an end of the sequence. The temperatures: see
# `minigrad/data/README.md`.
