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
# year ahead, and spends most of its care on what makes forecasts go wrong in practice: knowing
# the future by accident, scaling with it, and being proud of what a one-line rule does as well.
# Run it with `python tutorials/12_forecasting.py`. You need tutorials 05 and 09.

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
# 1. Scale with the mean and deviation of the *whole* series. Is the difference visible?
# 2. Forecast 12 months by feeding the one-month forecast back 12 times. What piles up?
# 3. What would a random split have reported?
#
# ## Solutions

# %%
# 1. A little, here: the whole mean differs from that of the training part by
whole = series.values.mean() - windows.scaler.mean[0]
print(f"mean of the whole series minus that of the training part: {whole:+.1f} sunspots")
#    For a series with a trend (CO2) it would be most of the error.
# 2. Errors: each step reads the mistakes of the one before, which training never showed it.
# 3. Windows overlap by up to 47 of 48 months, so nearly every test window is in training, shifted.
rng = np.random.default_rng(1)
order = rng.permutation(len(windows.train))
inside, outside = order[: len(order) // 2], order[len(order) // 2 :]
nearest = np.abs(outside[:, None] - inside[None, :]).min(axis=1)
print(f"random split: the next training window is {np.median(nearest):.0f} month away")
assert np.median(nearest) == 1

# %% [markdown]
# ## Sources
#
# R. Hyndman, G. Athanasopoulos, *Forecasting: principles and practice* (baselines, splits in time).
# S. Makridakis et al., "Statistical and machine learning forecasting methods" (2018): simple
# methods are hard to beat. The series: SILSO, by way of statsmodels; see `minigrad/data/README.md`.
