# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 08 The LSTM, gate by gate
#
# An LSTM carries two things: a *cell state* $c_t$, which is edited, and a *hidden state* $h_t$,
# which is shown. Three gates decide what is forgotten, written and shown. This page computes the
# six equations one by one, measures *how* they ease vanishing gradients and where they do not, and
# asks by experiment what the cell state remembers and what the hidden state does.
#
# You need tutorials 05 to 07. Time: 30 minutes, and 60 for the exercises. Run it with
# `python tutorials/08_the_lstm.py`.

# %%
import numpy as np

import minigrad as mg
from minigrad import nn, optim

rng = np.random.default_rng(0)
B, I, H = 2, 3, 4


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# %% [markdown]
# ## The six equations
#
# $$
# \begin{aligned}
# f_t &= \sigma(x_t W_f + h_{t-1} U_f + b_f) && \text{forget: how much of the cell state stays} \\
# i_t &= \sigma(x_t W_i + h_{t-1} U_i + b_i) && \text{input: how much may be written} \\
# g_t &= \tanh(x_t W_g + h_{t-1} U_g + b_g) && \text{what would be written} \\
# o_t &= \sigma(x_t W_o + h_{t-1} U_o + b_o) && \text{output: how much is shown} \\
# c_t &= f_t \odot c_{t-1} + i_t \odot g_t && \text{the cell state: forget, then write} \\
# h_t &= o_t \odot \tanh(c_t) && \text{the hidden state: what others see}
# \end{aligned}
# $$
#
# A gate is a number between 0 and 1 for every unit, a soft switch. minigrad stacks the four
# matrices in the order of PyTorch: i f g o.

# %%
cell = nn.LSTMCell(I, H, dtype=np.float64, generator=rng)
x, h, c = rng.standard_normal((B, I)), rng.standard_normal((B, H)), rng.standard_normal((B, H))

W, U = cell.weight_ih.numpy().T, cell.weight_hh.numpy().T  # (I, 4H) and (H, 4H)
a = x @ W + h @ U + cell.bias_ih.numpy() + cell.bias_hh.numpy()
a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)
i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o)  # three gates
g = np.tanh(a_g)
new_c = f * c + i * g
new_h = o * np.tanh(new_c)

(h_1, c_1), y = cell(nn.LSTMState(mg.tensor(h), mg.tensor(c)), mg.tensor(x))
assert np.allclose(c_1.numpy(), new_c, rtol=1e-14)
assert np.allclose(h_1.numpy(), new_h, rtol=1e-14)
print("forget gate of row 0:", f[0].round(2), " input:", i[0].round(2), " output:", o[0].round(2))

# %% [markdown]
# Step by step, for one unit of one row. Turn the knob: what is in colour has been computed.

# %%
f0, i0, g0, o0, c0, h0, old = (v[0, 0] for v in (f, i, g, o, new_c, new_h, c))
STEPS = {
    "0 what comes in": ((), "x is new; the old h was shown, the old c kept, one step ago."),
    "1 forget": ("f", f"f = {f0:.2f}: this share of the old cell state stays."),
    "2 write?": ("fi", f"i = {i0:.2f}: this share of the proposal may be written."),
    "3 propose": ("fig", f"g = {g0:.2f}: what would be written."),
    "4 cell state": ("c", f"c = f c + i g = {f0:.2f} * {old:.2f} + {i0:.2f} * {g0:.2f} = {c0:.2f}"),
    "5 show?": ("co", f"o = {o0:.2f}: this share of it is shown."),
    "6 hidden state": ("h", f"h = o tanh(c) = {o0:.2f} tanh({c0:.2f}) = {h0:.2f}"),
}


def built(step):
    upto, words = STEPS[step]
    return mg.flow.draw(cell, upto=upto), words


steps = {"step": list(STEPS)}
build_up = mg.flow.sliders(built, steps, title="An LSTM, gate by gate", start=["1 forget"])
mg.flow.show(build_up, "lstm-steps.html")

# %% [markdown]
# Many texts write *one* matrix, on $h_{t-1}$ and $x_t$ put side by side. It is the same: a product
# with a matrix of two blocks is the sum of two products,
#
# $$ [h_{t-1},\, x_t] \begin{bmatrix} U \\ W \end{bmatrix} = x_t W + h_{t-1} U $$

# %%
W, U = cell.weight_ih.numpy().T, cell.weight_hh.numpy().T  # (I, 4H), (H, 4H): rows are inputs
side_by_side = np.concatenate([h, x], axis=1) @ np.concatenate([U, W], axis=0)
assert np.allclose(side_by_side, x @ W + h @ U, rtol=1e-13)

# %% [markdown]
# ## A gate at work
#
# The smallest LSTM that *does* something: one unit, and an input of two numbers, a value and a
# command. Biases and weights are set by hand so that a command of 1 writes the value and
# forgets the old one, and a command of 0 keeps it.

# %%
latch = nn.LSTMCell(2, 1, dtype=np.float64)
for p in latch.parameters():
    p.data = np.zeros(p.shape)
latch.weight_ih.data = np.array([[0, 40], [0, -40], [1, 0], [0, 0]])  # rows i f g o; value, command
latch.bias_ih.data = np.array([-20.0, 20, 0, 20])
values = [0.5, -0.9, 0.3, 0.8, 0.1, -0.4]
commands = [1, 0, 0, 1, 0, 0]
state, shown = latch.init_state(1), []
for value, command in zip(values, commands, strict=True):
    state, _ = latch(state, mg.tensor([[value, float(command)]]))
    shown.append(state.c.item())
print("values  ", values, "\ncommands", commands, "\ncell    ", [round(s, 2) for s in shown])
assert np.allclose(shown[:3], np.tanh(0.5), atol=1e-6)
assert np.allclose(shown[3:], np.tanh(0.8), atol=1e-6)

# %% [markdown]
# ## How it addresses vanishing gradients
#
# In a tanh RNN a step multiplies the gradient by $\mathrm{diag}(1 - h_t^2)\, U^\top$. Along the
# cell state of an LSTM, with the gates held fixed, a step multiplies it by
#
# $$ \frac{\partial c_t}{\partial c_{t-1}} = f_t $$
#
# No matrix, no slope of a squashing function: a number the network itself chooses, as near to 1 as
# it likes. (Hochreiter and Schmidhuber called it the *constant error carousel*; they had no forget
# gate at all, $f = 1$.) Is that what happens in a real LSTM, where gates depend on $h$? The
# Jacobian knows: its block $\partial c_t / \partial c_{t-1}$ next to the gate.

# %%
T, H = 60, 16
xs = rng.standard_normal((T, 1, H))
walks = {}
for bias in (0.0, 2.0, 5.0):
    lstm = nn.LSTM(H, H, dtype=np.float64, generator=np.random.default_rng(1))
    nn.init.forget_bias_(lstm, bias)
    walks[f"forget bias {bias:.0f}"] = rec = mg.flow.probe(lstm, xs)
    flow = rec["lstm/l0/fwd"]
    block = flow.jacobians().block("c", "c")[:, 0]  # (T, H, H)
    gates = flow.values["f"][:, 0]  # (T, H)
    assert np.allclose(block, [np.diag(f) for f in gates], atol=1e-12)
    verdict = flow.verdicts["c"]
    print(
        f"forget bias {bias:.0f}: mean gate {gates.mean():.3f}; all of dL/dc_t: "
        f"x{verdict.rate:.3f} a step, half-life {verdict.half_life:.3g} steps"
    )
    assert gates.mean() < verdict.rate < gates.mean() + 0.1
    assert bias or 1 < verdict.half_life < 1.6  # as it begins, little more than a step
assert verdict.rate > 1

# %% [markdown]
# With $h_{t-1}$ held fixed the block is *exactly* diagonal, and its diagonal is the forget gate.
# The whole gradient may also go by way of $h$ and the gates, and each time somewhat more of it is
# left than the mean gate alone would leave; with the gates nearly open it even grows a little.
# All biases in between, to turn:


# %%
def turned(bias):
    nn.init.forget_bias_(lstm, bias)
    flow = mg.flow.probe(lstm, xs)["lstm/l0/fwd"]
    gate, verdict = flow.values["f"].mean(), flow.verdicts["c"]
    profile = flow.profile("c")
    alone = gate ** np.arange(len(profile))
    return {"dL/dc, all paths": profile / profile[0], "the mean gate alone, f^k": alone}, (
        f"Forget gate {gate:.3f} on average: dL/dc goes x{verdict.rate:.3f} a step, "
        f"{verdict.reach_words}."
    )


turning = mg.flow.sliders(
    turned, {"forget bias": [-2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0]},
    log=True, x="steps back from the loss", y="gradient that is left", start=[1.0],
)  # fmt: skip
mg.flow.show(turning, "forget-bias.html")

# %% [markdown]
# And three of them step by step, gates included: choose one, press play, click a node.

# %%
mg.flow.show(mg.flow.report(walks).explore(title="An LSTM at three forget biases"), "lstm.html")

# %% [markdown]
# ## Where it does not
#
# - **At the start.** PyTorch's and minigrad's default bias is near 0: $f \approx 0.5$, and half of
#   the gradient is gone after little more than a step, as above. The bias, not the architecture, is
#   what matters first.
# - **When it forgets on purpose.** A gate that closes cuts the gradient, and should.
# - **Along the hidden state.** From $h_t$ to $h_{t-1}$ there is still a matrix and a squashing
#   function in the way.
# - **Exploding** is not touched: clip.

# %%
lstm = nn.LSTM(H, H, dtype=np.float64, generator=np.random.default_rng(1))
nn.init.forget_bias_(lstm, 5.0)
J = next(iter(mg.flow.probe(lstm, xs).values())).jacobians()
along = {}
for of, wrt in (("c", "c"), ("h", "h")):
    alone = J.block(of, wrt)  # only that path: products of one block, nothing through the other
    log_norm = sum(np.log(np.linalg.norm(step[0], 2)) for step in alone[1:]) / (T - 1)
    through = J.log_singular_values(T, 1, of=of, wrt=wrt)[0, 0] / (T - 1)
    along[of] = through
    print(f"d{of}_T/d{of}_1: all paths x{np.exp(through):.3f} a step; bound on the path through "
          f"{of} alone x{np.exp(log_norm):.3f}")  # fmt: skip
path_h = mg.flow.jacobian.product(J.block("h", "h")[1:], np.eye(H)).log_norm[0] / (T - 1)
print(f"the path through h alone: x{np.exp(path_h):.3f} a step")
assert path_h < -0.3  # it vanishes, as in any RNN
assert along["c"] > -0.1

# %% [markdown]
# ## What the cell state remembers, and what the hidden state does
#
# Train an LSTM to hold on to one bit: the first input is $\pm 1$, then noise; at the end it is
# asked. Then *probe* the states: what can a linear read-out tell from $c_t$, and what from $h_t$?
# The bit, from long ago? The noise that comes in at this very step?


# %%
def batch(draw, rows, length):
    bit = draw.integers(0, 2, rows)
    xs = 0.2 * draw.standard_normal((length, rows, 2)).astype(np.float32)
    xs[0, :, 0] += 2 * bit - 1
    xs[-1, :, 1] += 1.0  # "now"
    return xs, bit


LENGTH, UNITS = 20, 16
draw = np.random.default_rng(0)
net = nn.LSTM(2, UNITS, generator=np.random.default_rng(0))
nn.init.forget_bias_(net, 2.0)
head = nn.Linear(UNITS, 2, generator=np.random.default_rng(1))
adam = optim.Adam([*net.parameters(), *head.parameters()], lr=0.01)
for _ in range(250):
    xs_, bit = batch(draw, 64, LENGTH)
    loss = nn.cross_entropy(head(net(xs_)[0][-1]), bit)
    adam.zero_grad()
    loss.backward()
    optim.clip_grad_norm_(adam.params, 1.0)
    adam.step()
print(f"loss after training: {loss.item():.4f}")
assert loss.item() < 0.05

xs_, bit = batch(np.random.default_rng(5), 400, LENGTH)
with mg.flow.record() as rec:  # values of all states, and gates
    net(xs_)[0].sum().backward()
flow = rec["lstm/l0/fwd"]


def readable(states):
    """Accuracy of the best linear read-out (least squares, half to fit and half to test)."""
    X, y = np.c_[states, np.ones(len(states))], 2 * bit - 1
    w = np.linalg.lstsq(X[:200], y[:200], rcond=None)[0]
    return float((np.sign(X[200:] @ w) == y[200:]).mean())


def explained(states, y):
    """R^2 of the best linear read-out of a number, on the half that it was not fitted to."""
    X = np.c_[states, np.ones(len(states))]
    w = np.linalg.lstsq(X[:200], y[:200], rcond=None)[0]
    return float(1 - np.var(y[200:] - X[200:] @ w) / np.var(y[200:]))


for t in (0, 5, 10, 18):
    c, h = flow.values["c"][t], flow.values["h"][t]
    noise = [explained(states, xs_[t, :, 1]) for states in (c, h)]
    print(
        f"t = {t + 1:2d}: the bit from c {readable(c):4.0%}, from h {readable(h):4.0%}; the noise "
        f"of this step: R2 {noise[0]:.2f} from c, {noise[1]:.2f} from h; "
        f"mean |h| / mean |c| = {np.abs(h).mean() / np.abs(c).mean():.2f}"
    )
    assert min(readable(c), readable(h)) > 0.95
    assert t == 0 or noise[1] > noise[0] + 0.1

# %% [markdown]
# Both tell the bit at every step: the cell state carries it, the hidden state shows it. What sets
# them apart is the present. The hidden state says much more about what has just come in, which in
# the cell state is a small addition to what was there before. And the hidden state is squashed:
# $|h| < |c|$, always within (-1, 1), where $c$ has no bound. So only the cell state can count: a
# unit with $f = i = 1$ adds up.

# %%
counter = nn.LSTM(1, 1, dtype=np.float64)
for p in counter.parameters():
    p.data = np.zeros(p.shape)
counter.weight_ih_l0.data = np.array([[0.0], [0], [0.1], [0]])
counter.bias_ih_l0.data = np.array([30.0, 30, 0, 30])
_, (h_n, c_n) = counter(np.ones((50, 1, 1)))
print(f"after 50 ones: c = {c_n.item():.3f} = 50 tanh(0.1), h = {h_n.item():.5f}")
assert np.isclose(c_n.item(), 50 * np.tanh(0.1))
assert h_n.item() < 1

# %% [markdown]
# ## Exercises
#
# **1.** A unit whose forget gate is $f$ keeps its state for about $1/(1 - f)$ steps. At which
# forget bias should a unit start that has to remember for n steps? Hand in a function `n -> bias`
# (the weights are 0, so the bias alone decides).

# %% Check 1
from minigrad.lab.exercises import close, exercise


def closed_unit(forget_bias, inputs=1):
    """One unit that keeps what it has, by its forget gate, and writes nothing."""
    unit = nn.LSTMCell(inputs, 1, dtype=np.float64)
    for p in unit.parameters():
        p.data = np.zeros(p.shape)
    unit.bias_ih.data = np.array([-50.0, forget_bias, 0.0, 0.0])  # i f g o
    return unit


@exercise("a function n -> the forget bias")
def check_1(bias):
    for n in (2, 10, 100):
        unit = closed_unit(float(bias(n)))
        state = nn.LSTMState(mg.tensor(np.zeros((1, 1))), mg.tensor(np.ones((1, 1))))
        for _ in range(n):
            state, _ = unit(state, mg.tensor(np.zeros((1, 1))))
        close(state.c.item(), (1 - 1 / n) ** n, f"what is left of c = 1 after n = {n} steps")
    return "About 1/e, as of any time constant."


# %%
check_1(...)

# %% [markdown]
# **2.** Set a memory by hand, as the latch above, but one that keeps its counsel: one unit, inputs
# (value, command). Command 1 stores $\tanh(\text{value})$ in c, command 0 keeps it, command -1
# keeps it *and shows it*: only then is $h = \tanh(c)$, otherwise it is 0 (to a thousandth). Hand in
# `(weight_ih (4, 2), bias (4,))` with rows i f g o; the recurrent weights are 0.


# %% Check 2
@exercise("a pair (weight_ih (4, 2), bias (4,))")
def check_2(answer):
    unit = closed_unit(0.0, inputs=2)
    unit.weight_ih.data, unit.bias_ih.data = (np.asarray(a, dtype=float) for a in answer)
    draw = np.random.default_rng(0)
    state, stored = unit.init_state(1), 0.0
    for t in range(60):
        value, command = draw.uniform(-2, 2), float(draw.integers(-1, 2))
        state, _ = unit(state, mg.tensor([[value, command]]))
        stored = np.tanh(value) if command == 1 else stored
        case = f"at step {t}, after the command {command:.0f}"
        close(state.c.item(), stored, f"c {case}", rtol=0, atol=1e-3)
        shown = np.tanh(stored) if command == -1 else 0.0
        close(state.h.item(), shown, f"h {case}", rtol=0, atol=1e-3)


# %%
check_2(...)

# %% [markdown]
# **3.** One step of BPTT through an LSTM, by hand. From the gradients `dh` and `dc` of $h_t$ and
# $c_t$ (what comes from later steps included, B rows each) to those of $h_{t-1}$ and $c_{t-1}$:
# hand in a function `(dh, dc, c_before, c, gates, U)`, where `gates` is the tuple of arrays
# (i, f, g, o) and U (H, 4H) has the columns of i, f, g and o side by side.


# %% Check 3
@exercise("a function (dh, dc, c_before, c, gates, U) -> (dh_before, dc_before)")
def check_3(backward):
    step = nn.LSTMCell(3, 5, dtype=np.float64, generator=np.random.default_rng(0))
    draw = np.random.default_rng(1)
    h_, c_, dh, dc = draw.standard_normal((4, 2, 5))
    x_ = draw.standard_normal((2, 3))
    before = mg.tensor(h_, requires_grad=True), mg.tensor(c_, requires_grad=True)
    with mg.Tape():
        after, _ = step(nn.LSTMState(*before), mg.tensor(x_))
    U = step.weight_hh.numpy().T
    a = x_ @ step.weight_ih.numpy().T + h_ @ U + step.bias_ih.numpy() + step.bias_hh.numpy()
    a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)
    gates = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
    for case, dh_, dc_ in (("only dc", 0 * dh, dc), ("only dh", dh, 0 * dc), ("both", dh, dc)):
        true = mg.grad(mg.sum(after.h * dh_) + mg.sum(after.c * dc_), before, retain_graph=True)
        mine = backward(dh_, dc_, c_, after.c.numpy(), gates, U)
        close(mine[1], true[1], f"dc_before, from {case}")
        close(mine[0], true[0], f"dh_before, from {case}")
    return "That is all that an LSTM's backward pass does, T times."


# %%
check_3(...)

# %% [markdown]
# ## Solutions

# %% Solution 1
# 1/(1 - f) = n, so f = 1 - 1/n, and the bias is its logit, log(f / (1 - f)) = log(n - 1): 4.6 for
# 100 steps. `nn.init.chrono_(layer, 100)` draws such biases for memories of 1 to 100 steps.
check_1(lambda n: np.log(n - 1))

# %% Solution 2
# i opens at 1, f closes at 1, o opens at -1; between two commands a gate is at its bias, +-20.
check_2(([[0, 40], [0, -40], [1, 0], [0, -40]], [-20, 20, 0, -20]))


# %% Solution 3
# c is read by h, through o and tanh, and by the next c, through f. Everything else comes in by way
# of the four sums a, each with the slope of its own squashing function, and from there through U.
def lstm_backward(dh, dc, c_before, c, gates, U):
    i, f, g, o = gates
    shown = np.tanh(c)
    dc = dc + dh * o * (1 - shown**2)
    da = np.concatenate([
        dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g**2),
        dh * shown * o * (1 - o),
    ], axis=1)  # fmt: skip
    return da @ U.T, dc * f


check_3(lstm_backward)

# %% [markdown]
# ## Sources
#
# S. Hochreiter, J. Schmidhuber, ["Long short-term
# memory"](https://doi.org/10.1162/neco.1997.9.8.1735), *Neural Computation* 9 (1997): equations and
# carousel. F. Gers, J. Schmidhuber, F. Cummins, ["Learning to
# forget"](https://doi.org/10.1162/089976600300015015) (2000): the forget gate. [R. Jozefowicz, W.
# Zaremba, I. Sutskever](https://proceedings.mlr.press/v37/jozefowicz15.html) (2015): the bias. K.
# Greff et al., ["LSTM: a search space odyssey"](https://arxiv.org/abs/1503.04069) (2017): which
# parts matter. [G. Weiss, Y. Goldberg, E. Yahav](https://arxiv.org/abs/1805.04908) (2018): LSTMs
# count. In pictures: C. Olah, ["Understanding LSTM
# networks"](https://colah.github.io/posts/2015-08-Understanding-LSTMs/) (2015).
