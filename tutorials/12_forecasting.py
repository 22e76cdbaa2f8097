# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 12 Forecasting, and the baselines one has to beat
#
# What will the next value of a series be? This page forecasts sunspots with a GRU, a month and a
# year ahead, and spends most of its care on what makes forecasts go wrong in practice: knowing the
# future by accident, scaling with it, and being proud of what a one-line rule does as well.
#
# You need tutorials 05 and 09. Time: 20 minutes, and 40 for the exercises. Run it with
# `python tutorials/12_forecasting.py`.

# %%
import numpy as np

import minigrad as mg
from minigrad import data, nn, optim
from minigrad.train import fit

series = data.sunspots("month")
print(series)

# %% [markdown]
# ## Splits in time
#
# The past trains, what follows validates, the end tests. A random split would put the
# month before and the month after a test month into training: the test would measure memory.
# The mean and scale come from the training part alone, too: the level of the future is not known.

# %%
PAST, AHEAD = 36, 12
windows = data.forecasting(series, past=PAST, ahead=AHEAD, reach_back=True)
first, last = (windows.parts.test[i] for i in (0, -1))
sizes = [len(part) for part in (windows.train, windows.valid, windows.test)]
print(f"windows to train, validate, test: {sizes}")
print(f"tested from {series.times[first]} to {series.times[last]}")
assert windows.parts.train[-1] < windows.parts.valid[0] < windows.parts.test[0]
assert np.allclose(windows.scaler.mean, series.values[windows.parts.train].mean())

# %% [markdown]
# ## Baselines
#
# *Persistence*: tomorrow is like today. *Seasonal*: like one period ago (11 years, for the sun).
# And *least squares*: a straight line through the same 36 months, which is what any network has to
# beat.


# %%
def error(predicted, true):
    """Mean absolute error one month and 12 months ahead, in sunspots."""
    gap = np.abs(predicted - true)[..., 0] * windows.scaler.std[0]
    return gap[0].mean(), gap[-1].mean()


def design(part):
    x = part.xs[..., 0].T
    return np.c_[x, np.ones(len(x))]


test = windows.test
errors = {
    name: error(windows.scaler(values), test.ys)
    for name, values in data.baselines(series, test, season=132).items()
}
line = np.linalg.lstsq(design(windows.train), windows.train.ys[..., 0].T, rcond=None)[0]
errors["least squares"] = error((design(test) @ line).T[..., None], test.ys)
for name, (one, twelve) in errors.items():
    print(f"{name:14s} 1 month ahead {one:5.1f}, 12 months {twelve:5.1f}")

# %% [markdown]
# ## A recurrent net
#
# It reads 36 months and says by how much each of the next twelve differs from the last one it saw:
# so it *starts* as persistence and has to learn only the change.


# %%
class Forecaster(nn.Module):
    def __init__(self, generator, units=32):
        self.gru = nn.GRU(1, units, return_sequences=False, generator=generator)
        self.head = nn.Linear(units, AHEAD, generator=generator)

    def forward(self, xs):  # (PAST, B, 1) -> (AHEAD, B, 1)
        change = self.head(self.gru(xs)[0])
        return mg.expand_dims(mg.swapaxes(change, 0, 1), 2) + xs[-1:]


def loss(model, batch):
    rows = batch
    xs = windows.train.xs[:, rows].astype(np.float32)
    return nn.huber_loss(model(xs), windows.train.ys[:, rows].astype(np.float32))


def predict(model, part):
    with mg.no_grad():
        return model(part.xs.astype(np.float32)).numpy()


def validate():
    return {"loss": float(np.abs(predict(model, windows.valid) - windows.valid.ys).mean())}


class Rows:
    """Rows of the training part in another order every epoch."""

    def __init__(self, count, batch):
        self.count, self.batch, self.draw = count, batch, np.random.default_rng(0)

    def __iter__(self):
        order = self.draw.permutation(self.count)
        return iter([order[i : i + self.batch] for i in range(0, self.count, self.batch)])


model = Forecaster(np.random.default_rng(0))
adam = optim.Adam(model.parameters(), lr=2e-3)
fitted = fit(model, loss, Rows(len(windows.train), 64), adam, epochs=40, max_norm=1.0,
             validate=validate, patience=8, progress=False)  # fmt: skip
errors["GRU"] = error(predict(model, test), test.ys)
print(f"{fitted.steps} updates in {fitted.seconds:.0f} s, stopped by {fitted.stopped}")
for name, (one, twelve) in errors.items():
    print(f"{name:14s} 1 month ahead {one:5.1f}, 12 months {twelve:5.1f}")
assert errors["GRU"][0] < errors["persistence"][0]
assert errors["GRU"][1] < errors["persistence"][1]
for ahead in (0, 1):  # the line gains more on persistence than the net gains on the line
    straight, net, last = (errors[k][ahead] for k in ("least squares", "GRU", "persistence"))
    assert last - straight > straight - net

# %% [markdown]
# What it forecasts, and what came; turn the knob through the test years. The forecast starts at the
# last month that was seen, and is the smoother the further ahead it looks.

# %%
forecasts = {"GRU": predict(model, test), "least squares": (design(test) @ line).T[..., None]}
starts = test.starts + PAST  # the first month of each forecast
assert np.allclose(windows.scaler.inverse(test.ys[0])[:, 0], series.values[starts])


def seen(month):
    i = months[month]
    ahead = np.arange(1, AHEAD + 1)
    curves = {
        "seen": (np.arange(1 - PAST, 1), windows.scaler.inverse(test.xs[:, i])[:, 0]),
        "came": (ahead, windows.scaler.inverse(test.ys[:, i])[:, 0]),
    }
    for name, values in forecasts.items():
        curves[name] = (ahead, windows.scaler.inverse(values[:, i])[:, 0])
    came = curves["came"][1]
    gaps = [f"{name} {np.abs(curves[name][1] - came).mean():.0f}" for name in forecasts]
    return curves, f"From {month}, mean error over the year: {', '.join(gaps)} sunspots."


months = {str(series.times[starts[i]]): i for i in range(0, len(test), 10)}
turning = mg.flow.sliders(seen, {"first month that was forecast": list(months)},
                          x="months from the last one seen", y="sunspots")  # fmt: skip
mg.flow.show(turning, "forecast.html")

# %% [markdown]
# Is it worth a network? Read the last two lines of the table together. A straight line comes close
# to it, and a paper that compares its network with persistence alone would not show that.
#
# ## How long a window?
#
# Which of the 36 months does the forecast listen to? How far it moves with each of them,
# $|\partial \hat y / \partial x_t|$, answers without training again:

# %%
x = mg.tensor(test.xs[:, ::20].astype(np.float32), requires_grad=True)
last_year = {}
for ahead in (1, 12):
    with mg.flow.record() as rec:
        influence = np.abs(mg.grad(mg.sum(model(x)[ahead - 1]), x).numpy()[..., 0]).mean(axis=1)
    shares = {m: influence[-m:].sum() / influence.sum() for m in (1, 6, 12, 24, 36)}
    print(f"{ahead:2d} months ahead:", ", ".join(f"last {m}: {s:.0%}" for m, s in shares.items()))
    last_year[ahead] = shares[12]
assert last_year[1] > last_year[12]  # further ahead, it looks further back
print("gradient:", rec.verdict)

# %% [markdown]
# ## Exercises
#
# **1.** Scale without looking ahead: hand in a function `(values, train)` that shifts and scales a
# series (N,) so that its first `train` values have mean 0 and standard deviation 1. What comes
# later may change nothing about what came before.

# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise("a function (values (N,), train) -> scaled values (N,)")
def check_1(scale):
    values = series.values[:300].ravel().astype(float)
    scaled = np.asarray(scale(values.copy(), 200))
    assert scaled.shape == values.shape, f"expected {values.shape}, got {scaled.shape}."
    close(scaled[:200].mean(), 0.0, "the mean of the training part", atol=1e-9)
    close(scaled[:200].std(), 1.0, "the deviation of the training part")
    later = values.copy()
    later[200:] += 100.0
    close(scale(later, 200)[:200], scaled[:200], "the training part, after the future has changed")
    slope = np.diff(scaled) / np.diff(values + np.arange(300) * 1e-9)
    close(slope[250], slope[0], "the scale of the later part", rtol=1e-4)


# %%
check_1(...)

# %% [markdown]
# **2.** A model that says one month can say twelve: feed what it says back to it. Hand in a
# function `(one_step, window, n)` that returns n values ahead, as an array (n,). `one_step` takes
# an array of the last values, as long as `window`, and gives the next.


# %% Check 2
@exercise("a function (one_step, window, n) -> an array (n,)")
def check_2(ahead):
    def wave(window):  # exact for every sine of this frequency
        return 2 * np.cos(0.3) * window[-1] - window[-2]

    t = np.arange(60)
    close(ahead(wave, np.sin(0.3 * t[:PAST]), 12), np.sin(0.3 * t[PAST : PAST + 12]), "a sine wave")
    close(ahead(lambda w: w[0] + 1.0, np.arange(3.0), 5), [1, 2, 3, 2, 3], "1 + what was 3 ago")
    mine = np.array([
        ahead(lambda w: float(np.append(w, 1.0) @ line[:, 0]), x, AHEAD)[-1]
        for x in test.xs[..., 0].T
    ])  # fmt: skip
    fed = np.abs(mine - test.ys[-1, :, 0]).mean() * windows.scaler.std[0]
    asked = errors["least squares"][1]
    return f"The line, fed back 12 times, is off by {fed:.1f}; asked at once, by {asked:.1f}."


# %%
check_2(...)

# %% [markdown]
# **3.** Why not split at random? Windows of `span` months that begin at different months overlap.
# Hand in a function `(train, test, span)` of the first months of the windows (two arrays of
# integers) that returns the share of the test windows that have at least one month in common with
# some training window.


# %% Check 3
@exercise("a function (train, test, span) -> the share, from 0 to 1")
def check_3(shared):
    draw = np.random.default_rng(1)
    for count, span in ((10, 1), (40, 3), (200, 12)):
        a, b = draw.integers(0, 1000, count), draw.integers(0, 1000, count)
        months = {int(m) for start in a for m in range(start, start + span)}
        true = np.mean([any(int(m) in months for m in range(s, s + span)) for s in b])
        close(shared(a, b, span), true, f"{count} windows of {span} of 1000 months")
    starts = draw.permutation(len(windows.train))
    half, span = len(starts) // 2, PAST + AHEAD
    at_random = shared(starts[:half], starts[half:], span)
    in_time = shared(np.arange(half - span), np.arange(half, len(starts)), span)
    close(in_time, 0.0, "the share of a split in time, with a gap of a window")
    return f"Split at random {at_random:.0%} share months with training; in time, with a gap, none."


# %%
check_3(...)

# %% [markdown]
# ## Solutions

# %% Solution 1
# Mean and deviation are computed, too: from the training part, like everything that is learned.
check_1(lambda values, train: (values - values[:train].mean()) / values[:train].std())


# %% Solution 2
# The window moves on by what was said. So each step reads the errors of those before it, which
# training on true values never showed to the model. It need not matter: see what the check says.
def ahead(one_step, window, n):
    window, said = list(window), []
    for _ in range(n):
        said.append(one_step(np.array(window)))
        window = window[1:] + [said[-1]]
    return np.array(said)


check_2(ahead)

# %% Solution 3
# Two windows overlap if they begin less than a span apart.
check_3(lambda train, test, span: (
    np.abs(test[:, None] - train[None, :]).min(axis=1) < span
).mean())  # fmt: skip

# %% [markdown]
# ## Sources
#
# R. Hyndman, G. Athanasopoulos, [*Forecasting: principles and practice*](https://otexts.com/fpp3/)
# (baselines, splits in time). S. Makridakis et al., ["Statistical and machine learning forecasting
# methods"](https://doi.org/10.1371/journal.pone.0194889) (2018): simple methods are hard to beat.
# The series: [SILSO](https://www.sidc.be/SILSO/), by way of statsmodels; see
# `minigrad/data/README.md`.
