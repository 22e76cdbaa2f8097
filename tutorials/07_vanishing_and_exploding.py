# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 07 Vanishing and exploding gradients, measured
#
# Backpropagation through time multiplies the gradient by one matrix a step (tutorial 06). This page
# writes that product down, bounds it in two lines, and measures it: first where the answer is known
# exactly, then in an RNN, an LSTM and a GRU that have read Hamlet. It climbs the cliff that
# exploding gradients make, and at the end it *tries* what is said to help.
#
# You need tutorials 05 and 06. Time: 40 minutes, and 50 for the exercises. Run it with
# `python tutorials/07_vanishing_and_exploding.py`.

# %%
import math

import numpy as np

import minigrad as mg
from minigrad import data, nn
from minigrad.train import fit

T, B, H = 100, 8, 32
rng = np.random.default_rng(0)
xs = mg.tensor(rng.standard_normal((T, B, H)))
Q, _ = np.linalg.qr(rng.standard_normal((H, H)))  # orthogonal: turns, and keeps lengths

# %% [markdown]
# ## The product
#
# For $h_t = \tanh(x_t W + h_{t-1} U + b)$ one step back is one matrix, to the right of the
# gradient:
#
# $$ J_t = \frac{\partial h_t}{\partial h_{t-1}} = \mathrm{diag}(1 - h_t^2)\, U^\top \qquad
#    \frac{\partial L}{\partial h_t} = \frac{\partial L}{\partial h_T}\,
#    J_T J_{T-1} \cdots J_{t+1} $$
#
# if the loss reads $h_T$ alone. (Row i, column j of $J_t$ is $\partial h_{t,i} / \partial
# h_{t-1,j}$, as everywhere in the field.) Multiplied out with NumPy it is what minigrad's recording
# holds:


# %%
def recorded(layer, xs, scale=1.0):
    """Gradients of a loss that reads the last step only."""
    with mg.flow.record() as rec:
        ys, _ = layer(xs)
        (scale * ys[-1]).sum().backward()
    return rec


rnn = nn.RNN(H, H, dtype=np.float64, generator=np.random.default_rng(1))
rnn.weight_hh_l0.data = Q
rec = recorded(rnn, xs)
U, h = rnn.weight_hh_l0.numpy().T, rec["rnn/l0/fwd"].values["h"]  # (T, B, H)

g, norms = np.ones((B, H)), []
for t in reversed(range(T)):
    norms.append(np.sqrt((g**2).sum()))
    g = (g * (1 - h[t] ** 2)) @ U.T  # g J_t, a row for each sample
norms = np.array(norms[::-1])
assert np.allclose(rec["rnn/l0/fwd"].norms["h"], norms, rtol=1e-9)
print(f"|dL/dh_T| = {norms[-1]:.3g}, |dL/dh_1| = {norms[0]:.3g}: the product, and the recording")

# %% [markdown]
# ## A bound in two lines
#
# The length of a vector grows by at most the largest singular value $\sigma$ of the matrix, and the
# slopes of tanh are at most 1:
#
# $$ \Big|\frac{\partial L}{\partial h_{t-1}}\Big| \le \sigma(J_t) \Big|\frac{\partial L}{\partial
#    h_t}\Big|, \qquad \sigma(J_t) \le \max_i (1 - h_{t,i}^2)\; \sigma(U) \le \sigma(U) $$
#
# So $\sigma(U) < 1$ makes vanishing *certain*: after $k$ steps at most $\sigma(U)^k$ is left. And
# exploding *needs* $\sigma(U) > 1$ (Pascanu, Mikolov and Bengio 2013, section 2.1). Neither
# statement can be reversed: the net above has $\sigma(U) = 1$, and its gradient vanishes all the
# same. Here it is beside a $U$ that shrinks, and one that stretches *every* vector by 1.2, and yet
# the slopes eat it up:

# %%
assert np.all(norms[:-1] <= norms[1:] * (1 + 1e-12))  # sigma(Q) = 1: it can only fall
for scale in (0.5, 1.0, 1.2):
    rnn.weight_hh_l0.data = scale * Q
    verdict = recorded(rnn, xs).verdict
    print(f"U = {scale} Q, inputs of size 1: x{verdict.rate:.2f} a step; {verdict.kind}")
    assert verdict.rate < min(scale, 1.0)

# %% [markdown]
# ## Where the answer is known
#
# Without the tanh nothing is eaten. For $h_t = h_{t-1} U + x_t$ and $U = s\,Q$ the length is
# multiplied by $s$ at each step, exactly. A cell is a Module with `init_state` and `forward(state,
# x) -> (state, y)`; `mg.tap` gives a value a name for whoever listens.


# %%
class LinearCell(nn.Module):
    def __init__(self, U):
        self.U = nn.Parameter(U)

    def init_state(self, batch):
        return mg.tensor(np.zeros((batch, len(self.U))))

    def forward(self, h, x):
        h = mg.tap("h", h @ self.U + x)
        return h, h


for scale in (0.9, 1.0, 1.1):
    layer = nn.Recurrent(lambda size, s=scale: LinearCell(s * Q), H)
    rec = recorded(layer, xs)
    norms = next(iter(rec.values())).norms["h"]
    print(f"U = {scale} Q: |dL/dh_1| / |dL/dh_T| = {norms[0] / norms[-1]:.6g}; {rec.verdict.kind}")
    assert np.allclose(norms, norms[-1] * scale ** np.arange(T - 1, -1, -1), rtol=1e-11)

# %% [markdown]
# Vanishing and exploding are one thing, on two sides of 1. Turn the knobs: $\sigma(U)$ of $U =
# \sigma\,Q$, and the number of steps. Without the tanh the line is straight, $\sigma^k$ after $k$
# steps. With it the gradient is less at every step; how much less is a matter of how far from 0 the
# inputs push the units.

# %%
SIGMAS = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.7, 2.0]


def turned(sigma, steps):
    rnn.weight_hh_l0.data = sigma * Q
    linear = nn.Recurrent(lambda size: LinearCell(sigma * Q), H)
    curves, words = {}, []
    for name, layer, inputs in (
        ("no tanh", linear, xs),
        ("tanh, inputs of size 0.01", rnn, 0.01 * xs),
        ("tanh, inputs of size 1", rnn, xs),
    ):
        rec = recorded(layer, mg.tensor(inputs.numpy()[:steps]))
        norms = next(iter(rec.values())).norms["h"][::-1]
        curves[name] = norms / norms[0]
        rate, kind = rec.verdict.rate, rec.verdict.kind
        words.append(f"{name}: {curves[name][-1]:.1e} is left, x{rate:.2f} a step ({kind})")
    ks = np.arange(steps)
    assert np.allclose(curves["no tanh"], sigma**ks, rtol=1e-9)
    assert all(np.all(curve <= sigma**ks * (1 + 1e-9)) for curve in curves.values())
    return curves, f"After {steps - 1} steps back: " + "; ".join(words) + "."


knobs = {"sigma(U)": SIGMAS, "T, the number of steps": [10, 20, 50, 100]}
axes = dict(log=True, x="steps back from the loss", y="gradient that is left")
turning = mg.flow.sliders(turned, knobs, start=[1.2, 50], limits=(1e-12, 1e6), **axes)
mg.flow.show(turning, "turn.html")

# %% [markdown]
# ## Exploding, in an RNN
#
# It takes a $U$ that stretches *and* units that stay where the slope of tanh is near 1. Small
# inputs, here a hundredth of the size, keep them there.

# %%
quiet = mg.tensor(0.01 * xs.numpy())
exploding = {}
for scale in (1.2, 2.0, 4.0):
    rnn.weight_hh_l0.data = scale * Q
    rec = recorded(rnn, quiet)
    exploding[scale] = rec.verdict
    sigma = np.median(rec["rnn/l0/fwd"].jacobians().norms())
    print(f"U = {scale} Q: largest singular value of a step {sigma:.2f}, but "
          f"x{rec.verdict.rate:.2f} a step; {rec.verdict.kind}")  # fmt: skip
assert exploding[2.0].kind == exploding[4.0].kind == "exploding"

# %% [markdown]
# Far less than $\sigma$ promises. A norm follows *one* gradient, and most directions are not the
# one that is stretched most; the singular values of a product tell of all of them:

# %%
rnn.weight_hh_l0.data = Q
J = recorded(rnn, xs)["rnn/l0/fwd"].jacobians()
one, many = J.singular_values()[:, 0], J.log_singular_values(T, 1)[0] / np.log(10)
print(f"one step: from {np.median(one[:, -1]):.2f} to {np.median(one[:, 0]):.2f}")
print(f"99 steps: from 10^{many[-1]:.0f} to 10^{many[0]:.0f}")
assert one.max() <= 1 + 1e-12
assert many[0] < -3 and many[-1] < many[0] - 10  # noqa: PT018

# %% [markdown]
# ## RNN, LSTM and GRU on Hamlet
#
# Three nets read the play for a few seconds and learn to guess its next letter (tutorial 11 does it
# properly). Then: how much of the gradient of *one* loss, at the last of 60 letters, arrives at the
# letters before?

# %%
text = data.shakespeare()
letters = data.Vocabulary(text)
ids = letters.encode(text)
windows = data.spaced_windows(ids[-20_000:], 61, 32)  # (61, 32), not trained on


class Reader(nn.Module):
    def __init__(self, layer, units=64):
        generator = np.random.default_rng(0)
        self.embed = nn.Embedding(len(letters), 32, generator=generator)
        self.layer = layer(32, units, generator=generator)
        self.head = nn.Linear(units, len(letters), generator=generator)

    def forward(self, x, state=None):
        hs, state = self.layer(self.embed(x), state)
        return self.head(hs), state


def step_loss(model, piece, state):
    logits, state = model(piece[0], state)
    return nn.cross_entropy(logits, piece[1]), state


flows = {}
for kind in (nn.RNN, nn.LSTM, nn.GRU):
    net = Reader(kind)
    stream = data.Stream(ids[:-20_000], length=60, batch=32)
    adam = mg.optim.Adam(net.parameters(), lr=3e-3)
    fit(net, step_loss, stream, adam, epochs=2, max_norm=1.0, carry=True, progress=False)
    with mg.flow.record() as flows[kind.__name__]:
        loss = nn.cross_entropy(net(windows[:-1])[0][-1], windows[-1])
        loss.backward()
    verdict = flows[kind.__name__].verdict
    sigma = np.linalg.norm(net.layer.weight_hh_l0.numpy(), 2)
    print(f"{kind.__name__:5s} {loss.item() / math.log(2):.2f} bits; sigma of its weights "
          f"{sigma:.2f}, and yet x{verdict.rate:.3f} a step; {verdict.reach_words}")  # fmt: skip
    assert sigma > 1 > verdict.rate
reach = {name: rec.verdict.reach for name, rec in flows.items()}
assert reach["RNN"] < min(reach["LSTM"], reach["GRU"])

# %% [markdown]
# Each has recurrent weights that could stretch, and in each the gradient vanishes; in the plain RNN
# soonest. Why the gated two keep more is the subject of tutorials 08 and 09. The decay, drawn:


# %%
def left_of_it():
    """|dL/dS_t| of all that is carried, by lag, as a share of what is there at the loss."""
    profiles = {name: rec.cuts[0].profile for name, rec in flows.items()}
    return {name: profile / profile[0] for name, profile in profiles.items()}


mg.flow.show(mg.flow.sliders(left_of_it, {}, **axes), "decay.html")

# %% [markdown]
# The same three, step by step. Choose a net, press play, and watch how far the colour gets; below
# the graph, the letters are coloured by how much each of them would change the loss.

# %%
read = letters.decode(windows[:-1, 0])
shown = mg.flow.report(flows).explore(title="One loss, sixty letters of Hamlet", text=read)
mg.flow.show(shown, "hamlet.html")

# %% [markdown]
# ## The cliff
#
# Where gradients explode, the loss has a cliff: a step of gradient descent from its foot throws the
# weights far away. Clipping keeps the direction and limits the length, $g \leftarrow g \min(1,
# \theta/|g|)$. The smallest such cliff is that of Pascanu et al., figure 6: one unit, 50 steps,
# $x_{t+1} = w\,\sigma(x_t) + b$, and a goal for its last output. One formula serves for numbers,
# for a whole surface, and for Tensors:


# %%
def loss_of(w, b, sigmoid=lambda x: 1 / (1 + np.exp(-x))):
    x = 0.5 + 0 * w
    for _ in range(50):
        x = w * sigmoid(x) + b
    return (sigmoid(x) - 0.7) ** 2


def descend(clip, rate=1.0, updates=100):
    """The path (w, b) of gradient descent, and the largest gradient on it."""
    w, b = (mg.tensor(v, requires_grad=True) for v in (4.0, -2.02))
    path, steepest = [(w.item(), b.item())], 0.0
    for _ in range(updates):
        w.grad = b.grad = None
        loss_of(w, b, mg.sigmoid).backward()
        steepest = max(steepest, mg.optim.clip_grad_norm_([w, b], clip))
        for p in (w, b):
            p.data = p.numpy() - rate * p.grad.numpy()
        path.append((w.item(), b.item()))
    return np.array(path), steepest


paths = {}
for clip in (np.inf, 0.3):
    paths[clip], steepest = descend(clip)
    w, b = paths[clip][-1]
    print(f"clip at {clip}: ends at w {w:.2f}, b {b:.2f}, loss {loss_of(w, b):.1e}; "
          f"steepest gradient {steepest:.1f}")  # fmt: skip
assert loss_of(*paths[np.inf][-1]) > 0.05  # thrown onto a plain from which it does not come back
assert loss_of(*paths[0.3][-1]) < 0.005

# %% [markdown]
# The surface, dark where the loss is high, and the path on it. Turn the threshold up, and one step
# leaps off the cliff.


# %%
def clipped(threshold):
    path, steepest = descend(threshold)
    w, b = path[-1]
    return {"path of (w, b)": tuple(path.T)}, (
        f"Clipped at {threshold}: ends at w {w:.2f}, b {b:.2f} with a loss of "
        f"{loss_of(w, b):.1e}; the steepest gradient on the way was {steepest:.1f}."
    )


around = (3.0, 6.5, -3.0, 2.6)
surface = loss_of(*np.meshgrid(np.linspace(*around[:2], 140), np.linspace(*around[2:], 140)))
thresholds = {"clipping threshold": [0.05, 0.1, 0.3, 1.0, 3.0, np.inf]}
cliff = mg.flow.sliders(
    clipped, thresholds, x="w", y="b", under=(surface, around), start=[0.3],
    title="The cliff of Pascanu et al., figure 6",
)  # fmt: skip
mg.flow.show(cliff, "cliff.html")

# %% [markdown]
# ## What helps, and by how much
#
# Clipping cures exploding only: nothing brings back what has vanished. Against vanishing there are
# weights that turn instead of shrinking (orthogonal), units with slope 1 (ReLU), and a path on
# which the factor is a *gate* that can be 1. That is what is said. `prescribe` *tries* it, on
# copies of a run, with the same batches for each: here a plain RNN that has to add two marked
# numbers over 30 steps, a task that it does not learn as it is.


# %%
def adding(draw, length=30, rows=32):
    x = np.zeros((length, rows, 2), np.float32)
    x[..., 0] = draw.random((length, rows))
    for half in (slice(0, length // 2), slice(length // 2, length)):
        place = draw.integers(half.start, half.stop, rows)
        x[place, np.arange(rows), 1] = 1
    return x, (x[..., 0] * x[..., 1]).sum(0)[:, None]


class Adder(nn.Module):
    def __init__(self, seed):
        generator = np.random.default_rng(seed)
        self.rnn = nn.RNN(2, 32, generator=generator)
        self.head = nn.Linear(32, 1, generator=generator)

    def forward(self, x):
        return self.head(self.rnn(x)[0][-1])


draw = np.random.default_rng(0)
tried = mg.flow.prescribe(
    Adder,
    lambda net, batch: nn.mse_loss(net(batch[0]), batch[1]),
    [adding(draw) for _ in range(420)],
    lambda parameters: mg.optim.Adam(parameters, lr=5e-3),
    remedies=["orthogonal", "gated cell", "clip"],
    updates=400,
    seeds=6,
    seconds=120,
)
print(tried)
best = {t.name: t for t in tried.tried}
assert best["gated cell"].helps
assert not best["clip"].helps
assert not best["orthogonal"].helps

# %% [markdown]
# The gated cell solves the task. Clipping changes nothing: nothing explodes. The orthogonal start
# brings the gradient much further back, as one sees under *reach*, and yet the loss is not lower
# after these updates: that a gradient arrives is needed for learning, and is not enough.

# %% [markdown]
# ## Exercises
#
# **1.** Hand in a function of the factor per step, `rate -> (half-life, reach)`: the numbers of
# steps, not rounded, after which a half and a thousandth of the gradient are left.

# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise("a function rate -> (half-life, reach), in steps")
def check_1(steps):
    for rate in (0.5, 0.9, 0.99):
        half_life, reach = steps(rate)
        close(rate**half_life, 0.5, f"what is left of a rate of {rate} after {half_life:.4g} steps")
        close(rate**reach, 1e-3, f"what is left of a rate of {rate} after {reach:.4g} steps")
        known = mg.flow.fit_decay(rate ** np.arange(T))  # nearest to the loss first
        close(half_life, known.half_life, "the half-life that minigrad finds", rtol=1e-4)


# %%
check_1(...)

# %% [markdown]
# **2.** In the linear cell the gradients stay, shrink or grow by $s$ a step. And the *weights'*
# gradient, $|\partial L/\partial U|$, a sum over T steps? Derive how it grows with T for each
# scale, $s = 0.9$, 1.0 and 1.1, with random inputs at every step. Hand in three functions of T, up
# to a constant factor: `{0.9: lambda T: ..., 1.0: ..., 1.1: ...}`. (It is not T for $s = 1$.)


# %% Check 2
def size_of(scale, steps):
    """The mean of |dL/dU| over some draws of the inputs."""
    sizes = []
    for seed in range(30):
        x = np.random.default_rng(seed).standard_normal((steps, B, H))
        layer = nn.Recurrent(lambda size: LinearCell(scale * Q), H)
        layer(x)[0][-1].sum().backward()
        sizes.append(np.linalg.norm(layer.cells[0].U.grad.numpy()))
    return np.mean(sizes)


@exercise("a dictionary {0.9: a function of T, 1.0: ..., 1.1: ...}")
def check_2(laws):
    for scale in (0.9, 1.0, 1.1):
        grown = size_of(scale, 400) / size_of(scale, 200)
        said = laws[scale](400) / laws[scale](200)
        assert abs(np.log(grown / said)) < 0.25, (
            f"{scale} Q: from 200 to 400 steps it grows x{grown:.3g}, and you say x{said:.3g}."
        )
        print(f"from 200 to 400 steps, {scale} Q: x{grown:.3g}, said x{said:.3g}")


# %%
check_2(...)

# %% [markdown]
# **3.** A bound need not be reached. Find a matrix U (H, H) that stretches some vector by 2 or
# more, $\sigma(U) \ge 2$, and yet in the *linear* cell, where no tanh helps, leaves less than a
# millionth of any gradient after 99 steps.


# %% Check 3
@exercise("an array (H, H)")
def check_3(U):
    U = np.asarray(U, dtype=float)
    assert U.shape == (H, H), f"expected the shape {(H, H)}, got {U.shape}."
    sigma = np.linalg.norm(U, 2)
    assert sigma >= 2, f"its largest singular value is {sigma:.3g}."
    linear = nn.Recurrent(lambda size: LinearCell(U), H)
    left = next(iter(recorded(linear, xs).values())).norms["h"]
    left = left / left[-1]
    power = np.linalg.matrix_power(U, T - 1)
    radius = np.abs(np.linalg.eigvals(U)).max()
    said = f"is left after 99 steps; the largest |eigenvalue| of U is {radius:.2g}."
    assert left[0] < 1e-6, f"x{left[0]:.2g} {said}"
    assert np.linalg.norm(power, 2) < 1e-6, f"of some gradient more than a millionth {said}"
    return f"At most x{left.max():.3g} on the way, and x{left[0]:.1g} in the end."


# %%
check_3(...)

# %% [markdown]
# ## Solutions

# %% Solution 1
# rate^n = 1/2 and rate^n = 1/1000, solved for n.
check_1(lambda rate: (np.log(0.5) / np.log(rate), np.log(1e-3) / np.log(rate)))

# %% Solution 2
# It sums a term h_{t-1} (dL/dh_t) for each step. With 0.9 the far terms have died out and the sum
# settles. With 1.0 the gradients stay, the states grow like sqrt(T) as a random walk does, and a
# sum of T such terms, which point the same way in the end, like T^1.5. With 1.1 every term is the
# product of a power of 1.1 that came forward and one that goes back: T 1.1^T.
check_2({0.9: lambda T: 1.0, 1.0: lambda T: T**1.5, 1.1: lambda T: T * 1.1**T})

# %% Solution 3
# What lasts is decided by the eigenvalues, what a single step can do by the singular values. A
# shift doubles what it moves to the next unit, and after H steps everything has dropped off the
# end: all of its eigenvalues are 0.
check_3(2.0 * np.eye(H, k=1))

# %% [markdown]
# ## Sources
#
# S. Hochreiter, diploma thesis (1991), and [Y. Bengio, P. Simard, P. Frasconi
# (1994)](https://doi.org/10.1109/72.279181): the problem. [R. Pascanu, T. Mikolov, Y. Bengio
# (2013)](https://arxiv.org/abs/1211.5063): the product (equation 5), the bound (section 2.1), the
# cliff (figure 6) and clipping (algorithm 1). [S. Hochreiter, J. Schmidhuber
# (1997)](https://doi.org/10.1162/neco.1997.9.8.1735): the adding problem.
