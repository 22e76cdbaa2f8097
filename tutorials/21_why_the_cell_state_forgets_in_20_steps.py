# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 21 Why does the cell state's gradient vanish in 20 steps?
#
# In 2022 somebody measured the gradient of an LSTM's cell state in Keras, saw it go to nothing
# within 20 steps, and asked the people of Keras why: "By right LSTM should be able to carry
# gradients for a few hundred steps" (keras#16151). Here is an answer, from the posted numbers and
# from a layer with the weights that Keras starts with. No Keras is needed: `mg.flow.replay` takes
# arrays from anywhere.
#
# You need tutorial 08. Time: 20 minutes, and 30 for the exercises. Run it with
# `python tutorials/21_why_the_cell_state_forgets_in_20_steps.py`.

# %%
import numpy as np

import minigrad as mg
from minigrad import interop, nn

# %% [markdown]
# ## The numbers that were posted
#
# $dc_t/dc_0$ for t = 1 ... 20, over the units and the batch. What matters is not how small they
# become but by which factor each step shrinks them:

# %%
posted = np.array([
    0.3665247, 0.26928115, 0.1976515, 0.14535545, 0.10950759, 0.08470534, 0.06685485, 0.05372887,
    0.04372946, 0.03605935, 0.03003456, 0.02522282, 0.0212584, 0.0179563, 0.01519926, 0.01289501,
    0.01096781, 0.00932435, 0.00791104, 0.00670664,
])  # fmt: skip
factors = posted[1:] / posted[:-1]
sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
print("factor per step:", factors.round(3))
print(f"sigmoid(1) = {sigmoid(1.0):.3f}")
assert np.all(np.abs(factors[:3] - sigmoid(1.0)) < 0.005)
assert np.all(np.abs(factors[-8:] - 0.85) < 0.01)

# %% [markdown]
# There are two numbers to explain: 0.735 in the first steps, and 0.85 from the twelfth on. An LSTM
# writes
#
# $$ c_t = f_t \odot c_{t-1} + i_t \odot g_t \qquad
#    \frac{dc_t}{dc_{t-1}} = \operatorname{diag}(f_t) + (\text{by way of } h_{t-1}) $$
#
# and Keras starts with `unit_forget_bias=True`, a bias of 1 for the forget gate. With small inputs
# every $f_t$ is about $\sigma(1) = 0.731$: that is what a step keeps of c, and the first number.
# An LSTM *can* carry a gradient for hundreds of steps, where f is near 1. Nobody had told it to.
#
# ## The same in a layer as Keras makes it
#
# kernel (I, 4H) by Glorot's rule, recurrent_kernel (H, 4H) orthogonal, bias (4H,) zeros and ones:
# this is what `layer.get_weights()` gives after `keras.layers.LSTM(64)` was built.

# %%
I, H, T, B = 8, 64, 100, 16
rng = np.random.default_rng(0)
limit = np.sqrt(6 / (I + 4 * H))
kernel = rng.uniform(-limit, limit, (I, 4 * H))
recurrent_kernel = np.linalg.qr(rng.standard_normal((4 * H, H)))[0].T
bias = np.repeat([0.0, 1.0, 0.0, 0.0], H)  # i f c o, as Keras orders them

keras_lstm = [("LSTM", {"units": H})]  # what the weights are of: Keras's activations by default
cell = nn.LSTMCell(I, H, dtype=np.float64)
interop.load_keras_weights(cell, [kernel, recurrent_kernel, bias], config=keras_lstm)
xs = 0.5 * rng.standard_normal((T, B, I))
towards_c = rng.standard_normal((B, H))  # dL/dc_T, of a loss that reads the last cell state


def recorded(cell):
    """The gradient of every c_t, where the loss reads c_T."""
    return mg.flow.replay(cell, xs, None, grad_final=(None, towards_c), name="lstm")


rec = recorded(cell)
norms = rec["lstm"].norms["c"]  # |dL/dc_t|, (T,)
f = rec["lstm"].activations["f"].mean
print(f"forget gate {np.mean(f):.3f} on average")
print("factor per step back:", (norms[:-1] / norms[1:])[:-20:-1].round(3))
print(rec)
assert abs(np.mean(f) - sigmoid(1.0)) < 0.01

# %% [markdown]
# The factor settles above the forget gate here, too. So remove the other path, the one through h,
# and see what remains:

# %%
alone = nn.LSTMCell(I, H, dtype=np.float64)
interop.load_keras_weights(alone, [kernel, 0 * recurrent_kernel, bias], config=keras_lstm)
without = recorded(alone)["lstm"].norms["c"]
far = {"both ways": norms, "c alone": without}
for name, g in far.items():
    print(f"{name}: x{(g[0] / g[-21]) ** (1 / (T - 21)):.3f} a step, from step 20 on; "
          f"{g[-21] / g[-1]:.1e} left after 20")  # fmt: skip
settled = [(g[0] / g[-21]) ** (1 / (T - 21)) for g in far.values()]
assert abs(settled[1] - sigmoid(1.0)) < 0.01
assert 0.82 < settled[0] < 0.86
assert without[-21] / without[-1] < 0.2 * norms[-21] / norms[-1]

# %% [markdown]
# By c alone the gradient shrinks by the forget gate, 0.731. Through the recurrent weights some
# directions lose less: $h_{t-1}$ feeds back into $g_t$, and what is left after many steps is what
# lies in the slowest direction. In this layer most of what is left after 20 steps has been by way
# of h. Its factors go the same way as the posted ones, from the forget gate to about 0.84. That
# suggests the same cause there, and does not prove it: the net, its data and the norm differ.
#
# ## What makes it last
#
# A gate that keeps the fraction f remembers for about $1 / (1 - f)$ steps: 3.7 at $\sigma(1)$. To
# reach back T steps, f has to be about $1 - 1/T$, a bias of $\log(T - 1)$. One bias for all gives
# all units one memory; drawing it from $\log U(1, T - 1)$ gives them memories of every length up to
# T (Tallec and Ollivier 2018), with $b_i = -b_f$, so that what lasts is written slowly.

# %%
starts = {
    "Keras, b = 1": bias,
    "b = 3": np.repeat([0.0, 3.0, 0.0, 0.0], H),
    "chrono": bias.copy(),
}
drawn = np.log(rng.uniform(1, T - 1, H))
starts["chrono"][: 2 * H] = np.concatenate([-drawn, drawn])
left = {}
for name, start in starts.items():
    interop.load_keras_weights(cell, [kernel, recurrent_kernel, start], config=keras_lstm)
    rec = recorded(cell)
    norms = rec["lstm"].norms["c"]
    left[name] = norms[-21] / norms[-1], norms[0] / norms[-1]
    print(f"{name:13s} after 20 steps {left[name][0]:.1e}, after {T - 1} {left[name][1]:.1e}: "
          f"{rec.verdict.kind}")  # fmt: skip
assert left["Keras, b = 1"][1] < 1e-7
assert min(left["b = 3"][0], left["chrono"][0]) > 0.5
assert 0.15 < left["chrono"][1] < 0.25
assert left["b = 3"][1] > 1
assert round(1 / (1 - sigmoid(1.0)), 1) == 3.7
assert round(sigmoid(3.0), 2) == 0.95

# %% [markdown]
# With the chrono start a fifth is left after 99 steps. With a bias of 3 the gradient even grows:
# f = 0.95 and the way through h together come to more than 1 in some directions.
#
# In Keras the chrono start is one line after building:
# `layer.set_weights([kernel, recurrent_kernel, start])`.
#
# Is a gradient that vanishes in 20 steps a fault, then? Not by itself. It says how far this net
# sees *now*, and training moves the gates. If the task has its answer within 20 steps, that is
# enough.
#
# ## With the model in Keras
#
# Where Keras 3 is installed, the arrays need not be carried by hand. `record_keras` runs the model
# and its loss as they are, takes dL/d(outputs) from Keras's own backend, and gives the same
# Recording for every recurrent layer in it:
#
# ```python
# rec = mg.flow.record_keras(model, x, y, loss)
# rec["lstm"].norms["c"]
# print(rec)
# ```
#
# ## Exercises
#
# **1.** Read a forget bias off a curve: hand in a function that takes numbers like the posted ones,
# $dc_t/dc_0$ for t = 1, 2, ..., and gives the bias of the forget gate from the factor of the first
# steps.

# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise("a function: numbers (T,) -> the forget bias")
def check_1(bias_of):
    for true in (-1.0, 0.0, 2.5):
        close(bias_of(0.7 * sigmoid(true) ** np.arange(1.0, 21.0)), true, "the bias of c alone")
    found = float(bias_of(posted))
    assert abs(found - 1.0) < 0.1, f"of the posted numbers you say {found:.3f}: look at the first."
    return f"Of the posted numbers: {found:.2f}."


# %%
check_1(...)

# %% [markdown]
# **2.** The loss of a classifier reads $h_T$, not $c_T$. By which factor is the gradient
# multiplied, unit by unit, on its way from $h_T$ into $c_T$? Hand in a function of the output gate
# and the cell state, `(o, c) -> factor`.


# %% Check 2
@exercise("a function (o, c) -> the factor")
def check_2(factor):
    o, c = rng.random((2, 5)), 2 * rng.standard_normal((2, 5))
    measured = (o * np.tanh(c + 1e-6) - o * np.tanh(c - 1e-6)) / 2e-6
    close(factor(o, c), measured, "the factor", rtol=1e-6, atol=1e-9)
    interop.load_keras_weights(cell, [kernel, recurrent_kernel, bias], config=keras_lstm)
    rec = mg.flow.replay(cell, xs, None, grad_final=(towards_c, None), name="lstm")
    o, c = (rec["lstm"].values[name][-1] for name in "oc")
    ratio = rec["lstm"].norms["c"][-1] / rec["lstm"].norms["h"][-1]
    close(np.linalg.norm(factor(o, c) * towards_c) / np.linalg.norm(towards_c), ratio, "the whole")
    return f"In this layer {ratio:.2f}: about a half, as o begins at sigmoid(0)."


# %%
check_2(...)

# %% [markdown]
# **3.** Above, the chrono start lost four fifths of the gradient in 99 steps, and a forget bias of
# 3 let it grow. Find a start in between: hand in a bias (4H,), in Keras' order i f c o, with which
# between a half and twice of $|dL/dc_T|$ arrives 99 steps earlier.


# %% Check 3
def left_after_99(start):
    interop.load_keras_weights(cell, [kernel, recurrent_kernel, start], config=keras_lstm)
    norms = recorded(cell)["lstm"].norms["c"]
    return norms[0] / norms[-1]


@exercise("an array (256,), the bias of the four gates")
def check_3(start):
    start = np.asarray(start, dtype=float)
    assert start.shape == (4 * H,), f"expected the shape {(4 * H,)}, got {start.shape}."
    ratio = left_after_99(start)
    assert 0.5 < ratio < 2, f"x{ratio:.3g} of it is left."
    return f"x{ratio:.2f} of it is left, in a layer that has learned nothing yet."


# %%
check_3(...)

# %% [markdown]
# ## Solutions


# %% Solution 1
# The first steps shrink by f alone (what goes by way of h comes in later), and f = sigmoid(bias).
def bias_of(numbers):
    f = numbers[1] / numbers[0]
    return np.log(f / (1 - f))


check_1(bias_of)

# %% Solution 2
# h = o tanh(c), so dh/dc = o (1 - tanh(c)^2).
check_2(lambda o, c: o * (1 - np.tanh(c) ** 2))

# %% Solution 3
# One bias for all forget gates, between 1 and 3: more bias, more is left, so halve the interval.
low, high = 1.0, 3.0
for _ in range(8):
    middle = (low + high) / 2
    ratio = left_after_99(np.repeat([0.0, middle, 0.0, 0.0], H))
    low, high = (middle, high) if ratio < 1 else (low, middle)
print(f"a forget bias of {middle:.2f}")
check_3(np.repeat([0.0, middle, 0.0, 0.0], H))

# %% [markdown]
# ## Sources
#
# [keras-team/keras#16151](https://github.com/keras-team/keras/issues/16151), "Custom LSTMCell has
# cell state gradients being zeros" (2022). S. Hochreiter, J. Schmidhuber, ["Long short-term
# memory"](https://doi.org/10.1162/neco.1997.9.8.1735), *Neural Computation* 9 (1997). F. Gers, J.
# Schmidhuber, F. Cummins, ["Learning to forget"](https://doi.org/10.1162/089976600300015015),
# *Neural Computation* 12 (2000). [R. Jozefowicz, W. Zaremba, I.
# Sutskever](https://proceedings.mlr.press/v37/jozefowicz15.html) (2015): the bias of 1. C. Tallec,
# Y. Ollivier, ["Can recurrent neural networks warp
# time?"](https://arxiv.org/abs/1804.11188) (2018).
