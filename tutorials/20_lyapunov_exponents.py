# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 20 Lyapunov exponents: when can a net be trained at all?
#
# Tutorial 07 measured by how much *one* gradient shrinks. A Lyapunov exponent is the same number
# for *every* direction and for ever: the average logarithm of the factor per step. This page
# computes the spectrum of a random network, finds the edge of chaos, sees that the largest exponent
# is the rate at which gradients vanish or explode, and asks whether it predicts what can be
# learned.
#
# You need tutorial 07. Time: 20 minutes, and 40 for the exercises. Run it with
# `python tutorials/20_lyapunov_exponents.py`.

# %%
import numpy as np

import minigrad as mg
from minigrad import nn, optim

# %% [markdown]
# ## From products of Jacobians to exponents
#
# Two states that start a little apart, $\delta_0$, are $\delta_T = J_T \cdots J_1 \delta_0$ apart
# after T steps. (Differences, which go forward, stand to the right of $J$ as columns; gradients,
# which come back, to its left as rows.) The product overflows or underflows long before its growth
# rate has settled. QR keeps it in hand: carry an orthonormal frame $Q$ along and read the growth
# off the triangle,
#
# $$ J_t Q_{t-1} = Q_t R_t \qquad \lambda_i = \frac1T \sum_t \log |(R_t)_{ii}| $$
#
# In three lines of NumPy, for a linear step whose exponents are known:

# %%
J = np.diag([2.0, 0.9, 0.25])
Q, logs = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0], np.zeros(3)
for _ in range(500):
    Q, R = np.linalg.qr(J @ Q)
    logs += np.log(np.abs(np.diag(R))) / 500
print("by QR:", logs.round(3), " exact:", np.log([2.0, 0.9, 0.25]).round(3))
assert np.allclose(logs, np.log([2.0, 0.9, 0.25]), atol=0.01)

U = np.diag([2.0, 0.9, 0.25])
found = mg.flow.lyapunov(lambda h, x: (h @ U, h), mg.tensor(np.zeros((1, 3))), steps=500)
assert np.allclose(found.exponents, np.log([2.0, 0.9, 0.25]), atol=0.01)

# %% [markdown]
# ## The edge of chaos
#
# The network of Sompolinsky, Crisanti and Sommers (1988): $h_{t+1} = g \tanh(h_t)\, U$, with random
# $U_{ij} \sim N(0, 1/N)$ and a gain $g$. Below $g = 1$ it falls silent. Above, it never
# rests again: neighbouring states part at the rate of the largest exponent.

# %%
N, STEPS = 100, 400
rng = np.random.default_rng(0)
W = rng.standard_normal((N, N)) / np.sqrt(N)  # as `weight_hh` has it: U transposed
U = W.T
start = mg.tensor(rng.standard_normal((1, N)))
largest = {}
for g in (0.5, 0.9, 1.0, 1.1, 1.5, 2.0, 3.0):

    def step(h, x, g=g):
        h = g * (mg.tanh(h) @ U)
        return h, h

    spectrum = mg.flow.lyapunov(step, start, steps=STEPS, k=1)
    largest[g] = spectrum.largest
    print(f"g = {g:3.1f}: largest exponent {spectrum.largest:+.3f}, a factor "
          f"{np.exp(spectrum.largest):.3f} a step")  # fmt: skip
assert largest[0.9] < 0 < largest[1.5]
assert abs(largest[1.1]) < 0.02
assert largest[0.5] < -0.5
assert largest[3.0] > 0.2

# %% [markdown]
# (That the edge is at 1 is the theory of infinitely many units. With these 100 it is near 1.1.)
#
# All of the spectrum says more: how many directions grow, and how much is forgotten. The
# Kaplan-Yorke dimension estimates on how large a set the network's activity lives.


# %%
def chaotic(h, x):
    h = 3.0 * (mg.tanh(h) @ U)
    return h, h


spectrum = mg.flow.lyapunov(chaotic, start, steps=STEPS)
print(spectrum)
growing = int((spectrum.exponents > 0).sum())
print(f"{growing} of {N} directions grow; dimension / N = {spectrum.dimension / N:.2f}")
assert 0.2 < spectrum.dimension / N < 0.35
try:  # with the extra: pip install "minigrad-bptt[plot]"
    mg.flow.show(mg.flow.plots.lyapunov(spectrum), "spectrum.svg")
except mg.flow.plots.PlotError as missing:
    print(missing)

# %% [markdown]
# ## It is the rate of the gradient
#
# A difference goes forward as $J_t \delta$, the gradient comes back as $g J_t$. The
# same product, the same singular values: $|\partial L / \partial h_t|$ goes like $e^{\lambda_1 (T
# - t)}$.

# %%
T, H = 300, 48
xs = 0.5 * np.random.default_rng(1).standard_normal((T, 1, H))
for gain in (0.5, 1.0, 2.0):
    rnn = nn.RNN(H, H, dtype=np.float64, generator=np.random.default_rng(2))
    rnn.weight_hh_l0.data = gain * np.random.default_rng(3).standard_normal((H, H)) / np.sqrt(H)
    exponent = mg.flow.lyapunov(rnn, xs=xs, k=1).largest
    flow = mg.flow.probe(rnn, xs)["rnn/l0/fwd"]
    slope = np.log(flow.verdict.rate)
    print(f"gain {gain}: Lyapunov {exponent:+.3f}, slope of log |dL/dh_t| {slope:+.3f}, "
          f"{flow.verdict.kind}")  # fmt: skip
    assert abs(exponent - slope) < 0.05

# %% [markdown]
# ## Does it predict what can be learned?
#
# To bridge a delay of $D$ steps, a gradient must survive it: $e^{\lambda_1 D}$ may be neither
# $10^{-6}$ nor $10^{6}$. So nets that start near $\lambda_1 = 0$ should learn a task with a delay,
# and others should not (Vogt et al. 2020). We try: remember a sign for 30 steps, with orthogonal
# weights of different gains.


# %%
def batch(draw, rows, length=30):
    sign = draw.integers(0, 2, rows)
    x = 0.1 * draw.standard_normal((length, rows, 1)).astype(np.float32)
    x[0, :, 0] += 2 * sign - 1
    return x, sign


UNITS = 32
results = []
for gain in (0.5, 0.8, 1.0, 1.5, 2.5, 4.0):
    generator = np.random.default_rng(0)
    net = nn.RNN(1, UNITS, generator=generator)
    nn.init.orthogonal_(net.weight_hh_l0, gain, generator=generator)
    head = nn.Linear(UNITS, 2, generator=generator)
    x, _ = batch(np.random.default_rng(9), 4, 200)
    exponent = mg.flow.lyapunov(net, xs=x, k=1).largest
    adam = optim.Adam([*net.parameters(), *head.parameters()], lr=2e-3)
    draw, losses = np.random.default_rng(1), []
    for _ in range(200):
        x, sign = batch(draw, 32)
        loss = nn.cross_entropy(head(net(x)[0][-1]), sign)
        adam.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(adam.params, 1.0)
        adam.step()
        losses.append(loss.item())
    results.append((gain, exponent, float(np.mean(losses[-20:]))))
    print(f"gain {gain}: largest exponent {exponent:+.3f}, loss after 200 updates "
          f"{results[-1][2]:.3f} (guessing: {np.log(2):.3f})")  # fmt: skip
learned = [exponent for _, exponent, loss in results if loss < 0.1]
print(f"learned with exponents from {min(learned):+.3f} to {max(learned):+.3f}")
print(f"over 30 steps: x{np.exp(30 * min(learned)):.1g} to x{np.exp(30 * max(learned)):.0f}")
assert len(learned) == len(results) - 2  # all but the outermost two
assert results[0][1] < min(learned)
assert results[-1][1] > max(learned)
assert min(results[0][2], results[-1][2]) > 0.4  # hardly better than guessing

# %% [markdown]
# Far below 0 nothing arrives and nothing is learned. In between the task is learned, and "near 0"
# turns out to be wide: a net that starts in chaos, with gradients that grow hundreds of times over
# the delay, learns all the same if they are clipped. Far above 0 nothing is learned. (`minigrad
# experiment trainability` does this with more nets and seeds, and says whether the claim holds up.)
#
# ## Exercises
#
# **1.** An LSTM with weights of 0 is easy to understand: its cell state is multiplied by the forget
# gate, and that is all. Hand in a function `exponent -> bias_ih` (12 numbers, rows i f g o, of 3
# units each) that gives every unit the same exponent, -0.1 or -1, say.

# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise("a function: exponent -> bias (12,)")
def check_1(bias):
    for exponent in (-0.1, -1.0, 0.0):
        lstm = nn.LSTMCell(1, 3, dtype=np.float64)
        for p in lstm.parameters():
            p.data = np.zeros(p.shape)
        wide_open = np.repeat([0.0, 50.0, 0.0, 0.0], 3)  # of an exponent of 0
        lstm.bias_ih.data = np.asarray(bias(exponent) if exponent else wide_open, dtype=float)
        found = mg.flow.lyapunov(lstm, xs=np.zeros((60, 1, 1)), k=3)
        close(found.exponents, np.full(3, exponent), "the three largest exponents", rtol=1e-6)
    return "And with f = 1, gates saturated open, all of them are 0."


# %%
check_1(...)

# %% [markdown]
# **2.** One step can say very little about a thousand. Find a matrix J (3, 3) that stretches some
# vector more than tenfold in one step, $\sigma(J) > 10$, while no exponent of $h_{t+1} = h_t J$ is
# above 0 and the largest one *is* 0.


# %% Check 2
@exercise("an array (3, 3)")
def check_2(J):
    J = np.asarray(J, dtype=float)
    sigma = np.linalg.norm(J, 2)
    assert sigma > 10, f"its largest singular value is {sigma:.3g}."

    def linear(h, x):
        return h @ J, h

    exponents = mg.flow.lyapunov(linear, mg.tensor(np.zeros((1, 3))), steps=3000).exponents
    close(exponents[0], 0.0, "the largest exponent", atol=0.01)
    close(exponents.sum(), np.linalg.slogdet(J)[1], "the sum of all, beside log |det J|", atol=0.03)
    return f"The exponents are {exponents.round(2)}; their sum is log |det J|, as always."


# %%
check_2(...)

# %% [markdown]
# **3.** Input calms. A net with gain 1.5 is chaotic by itself; driven by noise of size s it may not
# be. Find the size at which it stands on the edge: a largest exponent within 0.01 of 0.


# %% Check 3
noisy = nn.RNN(N, N, bias=False, dtype=np.float64)
noisy.weight_hh_l0.data, noisy.weight_ih_l0.data = 1.5 * W, np.eye(N)
noise = np.random.default_rng(6).standard_normal((300, 1, N))


@exercise("a number: the size of the noise")
def check_3(size):
    exponent = mg.flow.lyapunov(noisy, xs=float(size) * noise, k=1).largest
    assert abs(exponent) < 0.01, f"with noise of size {size:.4g} it is {exponent:+.3f}."
    return f"{exponent:+.4f}: noise drives units to where tanh is flat, and the Jacobians shrink."


# %%
check_3(...)

# %% [markdown]
# ## Solutions

# %% Solution 1
# f = e^exponent, and the bias is its logit. Nothing may be written: g = tanh(0) = 0 sees to it.
check_1(lambda exponent: np.repeat([0.0, exponent - np.log(1 - np.exp(exponent)), 0.0, 0.0], 3))

# %% Solution 2
# Of a constant matrix the exponents are the logarithms of its |eigenvalues|. Those of a triangle
# stand in its diagonal, and what stands beside it may be as large as you like.
check_2([[1.0, 20.0, 0.0], [0.0, 0.5, 20.0], [0.0, 0.0, 0.25]])

# %% Solution 3
# Between weak noise, where it is chaotic, and strong noise: halve the interval.
low, high = 0.01, 2.0
for _ in range(9):
    middle = (low + high) / 2
    exponent = mg.flow.lyapunov(noisy, xs=middle * noise, k=1).largest
    low, high = (middle, high) if exponent > 0 else (low, middle)
print(f"noise of size {middle:.3f}")
check_3(middle)

# %% [markdown]
# ## Sources
#
# H. Sompolinsky, A. Crisanti, H. J. Sommers, ["Chaos in random neural
# networks"](https://doi.org/10.1103/PhysRevLett.61.259), *PRL* 61 (1988). R. Engelken, F. Wolf, L.
# F. Abbott, ["Lyapunov spectra of chaotic recurrent neural
# networks"](https://arxiv.org/abs/2006.02427) (2023). R. Vogt et al., ["On Lyapunov exponents for
# RNNs"](https://arxiv.org/abs/2006.14123) (2020). [G. Benettin et
# al.](https://doi.org/10.1007/BF02128236) (1980): QR. J. Kaplan, J. Yorke (1979): the dimension.
# [L. Molgedey, J. Schuchhardt, H. Schuster](https://doi.org/10.1103/PhysRevLett.69.3717) (1992):
# noise against chaos.
