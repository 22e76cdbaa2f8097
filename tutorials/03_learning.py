# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 03 Learning: down a slope, a step at a time
#
# The tape says how much a loss would change if a weight were a little larger. To *learn* is to act
# on it: move every weight a little against its slope, and do it again. This page says what a loss
# is and which one suits guesses, how long a step may be, what it costs to look at a part of
# the data only, and what Adam makes of a slope before it takes a step. In the end a table of
# numbers knows all that one letter of Hamlet tells about the next.
#
# You need tutorial 02. Time: 30 minutes, and 40 for the exercises. Run it with
# `python tutorials/03_learning.py`.

# %%
import math

import numpy as np

import minigrad as mg
from minigrad import data, nn, optim

# %% [markdown]
# ## A loss
#
# Thirty points lie near a line, and we look for that line. Two weights, $\theta = (w, b)$, give a
# guess $\hat y = w x + b$ for every $x$. A **loss** is one number that says how wrong the guesses
# are, all in all; here it is the mean of the squared errors. Its **slope**, the gradient, has a
# number for each weight:
#
# $$ L(\theta) = \frac1N \sum_n (w x_n + b - y_n)^2 \qquad
#    \frac{\partial L}{\partial \theta} = \Big(\frac{\partial L}{\partial w},
#    \frac{\partial L}{\partial b}\Big) $$

# %%
rng = np.random.default_rng(0)
xs = rng.uniform(0, 3, 30)
ys = 1.5 * xs - 1.0 + 0.3 * rng.standard_normal(30)


def loss_of(theta):
    """The mean squared error of the line theta = (w, b)."""
    return mg.mean((theta[0] * xs + theta[1] - ys) ** 2)


theta = mg.tensor([0.0, 0.0], requires_grad=True)
loss = loss_of(theta)
slope = mg.grad(loss, theta).numpy()
print(f"w = 0, b = 0: loss {loss.item():.3f}, slope {slope.round(3)}")
for step in (0.01, -0.01):
    moved = loss_of(mg.tensor(theta.numpy() + step * slope)).item()
    print(f"moved by {step:+.2f} times the slope: {moved:.3f}")
    assert (moved > loss.item()) == (step > 0)

# %% [markdown]
# ## Downhill
#
# The slope points to where the loss grows fastest. **Gradient descent** goes the other way, by the
# slope times a **learning rate** $\eta$, and repeats:
#
# $$ \theta \leftarrow \theta - \eta \frac{\partial L}{\partial \theta} $$
#
# For a line, and for few other models, the lowest point is known in closed form (least squares). So
# it can be seen whether descent finds it.


# %%
def descend(rate, updates):
    """The path of theta, (updates + 1, 2), from (0, 0)."""
    path = [np.zeros(2)]
    for _ in range(updates):
        theta = mg.tensor(path[-1], requires_grad=True)
        path.append(path[-1] - rate * mg.grad(loss_of(theta), theta).numpy())
    return np.array(path)


best = np.linalg.lstsq(np.c_[xs, np.ones(30)], ys, rcond=None)[0]
path = descend(0.1, 300)
for k in (0, 1, 10, 100, 300):
    print(f"after {k:3d} steps: w {path[k, 0]:.4f}, b {path[k, 1]:+.4f}")
print(f"least squares:   w {best[0]:.4f}, b {best[1]:+.4f}")
assert np.allclose(path[-1], best, atol=1e-4)

# %% [markdown]
# ## How long a step?
#
# Take a valley with one weight, $L = \tfrac12 k w^2$. Its slope is $k w$, so a step is
# $w \leftarrow (1 - \eta k)\, w$: the way to the lowest point is *multiplied* by the same factor at
# each step. A short step has a factor just below 1 and creeps. Beyond $\eta = 1/k$ the step goes
# too far and comes down on the other side. Beyond $2/k$ it lands higher than it began.
#
# With more weights, the Hessian (the matrix of second derivatives) has a $k$ for each direction:
# its eigenvalues. The *steepest* direction limits the rate, at $2/k_{\max}$, and the flattest one
# is left to creep.

# %%
curvatures = np.linalg.eigvalsh(mg.hessian(loss_of, best).numpy())
limit = 2 / curvatures.max()
print(f"curvatures {curvatures.round(3)}: the rate must stay below {limit:.3f}")
for part in (0.1, 0.9, 1.1):
    away = np.linalg.norm(descend(part * limit, 40) - best, axis=1)
    factors = np.abs(1 - part * limit * curvatures)
    print(f"rate {part * limit:.3f}: the distance x{away[-1] / away[-2]:.3f} a step; "
          f"largest factor {factors.max():.3f}")  # fmt: skip
    assert np.isclose(away[-1] / away[-2], factors.max(), rtol=0.02)
    assert (away[-1] > away[0]) == (part > 1)

# %% [markdown]
# Remember that product of one factor a step: what it does to an error here, it does to a gradient
# in a recurrent net (tutorial 07). The valley from above, dark where the loss is high: turn the
# rate up, and see the steps grow, then cross the valley, then climb out of it.


# %%
def walked(rate):
    path = descend(rate, 25)
    left = np.linalg.norm(path[-1] - best) / np.linalg.norm(best)
    worst = np.abs(1 - rate * curvatures).max()
    return {"path of (w, b)": tuple(path.T), "lowest point": ([best[0]], [best[1]])}, (
        f"Rate {rate}: {left:.3g} of the distance is left after 25 steps; the largest factor of a "
        f"step is {worst:.3f}."
    )


around = (-1.0, 3.0, -3.0, 2.0)
ws, bs = np.meshgrid(np.linspace(*around[:2], 100), np.linspace(*around[2:], 100))
heights = ((ws[..., None] * xs + bs[..., None] - ys) ** 2).mean(axis=-1)
rates = [0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.22, 0.23, 0.24, 0.26]
valley = mg.flow.sliders(
    walked, {"learning rate": rates}, x="w", y="b", under=(np.sqrt(heights), around), start=[0.05],
    title="Twenty-five steps in the valley",
)  # fmt: skip
mg.flow.show(valley, "valley.html")

# %% [markdown]
# ## A loss for guesses
#
# Which letter comes next? The answer is one of $K$ kinds, so a net gives a score for each, a row
# $z$ of $K$ numbers (**logits**), and the softmax turns scores into probabilities that add up to 1.
# The loss is the surprise at what really came, $y$:
#
# $$ p_k = \frac{e^{z_k}}{\sum_j e^{z_j}} \qquad L = -\log p_y $$
#
# This is the **cross-entropy**. Divided by $\log 2$ it counts bits: who gave the right answer a
# half is surprised by 1 bit; who gave it a quarter, by 2 bits. Equal scores for 64 kinds cost
# 6 bits. Its slope is as simple as can be, what was guessed minus what was right,
# $\partial L/\partial z_k = p_k - [k = y]$.

# %%
z = mg.tensor([[2.0, 0.5, -1.0, 0.0]], requires_grad=True)  # (B, K) = (1, 4)
slope = mg.grad(nn.cross_entropy(z, np.array([1])), z).numpy()[0]
p = np.exp(z.numpy()[0]) / np.exp(z.numpy()).sum()
print("probabilities", p.round(3), " slope where kind 1 is right", slope.round(3))
assert np.allclose(slope, p - [0, 1, 0, 0], rtol=1e-12)
even = nn.cross_entropy(mg.tensor(np.zeros((1, 64))), np.array([17])).item() / math.log(2)
print(f"equal scores for 64 kinds: {even:.1f} bits")
assert np.isclose(even, 6)

# %% [markdown]
# Why not the squared error of the probabilities? Because its slope vanishes where it is needed
# most. The softmax is flat where it is sure, right or wrong. The logarithm undoes exactly that.

# %%
margins = np.linspace(-8, 8, 33)  # the right kind's score minus the other's
scores = mg.tensor(np.c_[margins, np.zeros(33)], requires_grad=True)
losses = {
    "cross-entropy": nn.cross_entropy(scores, np.zeros(33, int), reduction="none"),
    "squared error": mg.sum((mg.softmax(scores, axis=-1) - [1.0, 0.0]) ** 2, axis=-1),
}
slopes = {name: mg.grad(mg.sum(y), scores).numpy()[:, 0] for name, y in losses.items()}
for name, found in slopes.items():
    print(f"{name}: slope {found[0]:+.5f} where it is surely wrong, {found[16]:+.2f} undecided")
assert slopes["cross-entropy"][0] < -0.99
assert abs(slopes["squared error"][0]) < 0.01 * abs(slopes["squared error"][16])

# %%
curves = {name: (margins, -found) for name, found in slopes.items()}
surprise = mg.flow.sliders(
    lambda: curves, {}, x="score of the right kind minus the other", y="slope, downhill"
)
mg.flow.show(surprise, "surprise.html")

# %% [markdown]
# ## A part of the data
#
# Hamlet has 160,000 pairs of neighbours to learn from. The slope of the loss over all of them is
# exact, and slow. The slope over some, drawn at random (a **batch**), is the same on average, and
# off by chance: four times as many pairs halve that. But the pairs of one exact slope make 312
# batches of 512.
#
# The model is a table $W$, (K, K): row $x$ holds the scores of what may follow letter $x$. (As a
# product: $z = x W$ with $x$ as a row that has a 1 in one place.)

# %%
text = data.shakespeare()
letters = data.Vocabulary(text)
ids, K = letters.encode(text), len(letters)
known, later = ids[:160_000], ids[160_000:]  # learned from, and kept for the test
draw = np.random.default_rng(0)


def batch(size):
    """(B,) letters and what followed each."""
    at = draw.integers(0, len(known) - 1, size)
    return known[at], known[at + 1]


def table_slope(x, y):
    W = mg.tensor(np.zeros((K, K)), requires_grad=True)
    return mg.grad(nn.cross_entropy(W[x], y), W).numpy()


assert (len(known) - 1) // 512 == 312
assert [text[:160_000].count(letter) for letter in "ez"] == [12_965, 45]
exact = table_slope(known[:-1], known[1:])
off = {}
for size in (16, 64, 256, 1024):
    errors = [np.linalg.norm(table_slope(*batch(size)) - exact) for _ in range(40)]
    off[size] = math.sqrt(np.mean(np.square(errors))) / np.linalg.norm(exact)
    print(f"batches of {size:4d}: off by {off[size]:.0%} of the length of the exact slope")
for size in (16, 64, 256):
    assert 1.8 < off[size] / off[4 * size] < 2.2

# %% [markdown]
# ## Adam
#
# In those pairs an "e" comes 12,965 times, a "z" 45 times. A rate that is right for the row of the
# one is far too small for that of the other. **Adam** (Kingma and Ba 2015) has a rate for each
# weight: it divides a running mean of slopes, $m$, by the running size of slopes, $\sqrt v$.
#
# $$ m \leftarrow \beta_1 m + (1 - \beta_1) g \qquad v \leftarrow \beta_2 v + (1 - \beta_2) g^2
#    \qquad \theta \leftarrow \theta - \eta\, \frac{\hat m}{\sqrt{\hat v} + \epsilon} $$
#
# with $\hat m = m/(1 - \beta_1^t)$ and $\hat v = v/(1 - \beta_2^t)$, as both begin at 0. By hand on
# the line, beside minigrad's; and the loss times 1000, which changes nothing: only the ratio of
# slopes counts. The first step moves every weight by $\eta$, whatever its slope is.


# %%
def adam_by_hand(theta, slope_at, rate, updates, beta1=0.9, beta2=0.999, eps=1e-8):
    m = v = np.zeros_like(theta)
    for t in range(1, updates + 1):
        g = slope_at(theta)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        theta = theta - rate * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return theta


def slope_at(theta):
    return np.array([2 * np.mean((theta[0] * xs + theta[1] - ys) * f) for f in (xs, 1.0)])


# %%
assert np.allclose(np.abs(adam_by_hand(np.zeros(2), slope_at, 0.05, 1)), 0.05)
by_hand = adam_by_hand(np.zeros(2), slope_at, 0.05, 100)
for scale in (1, 1000):
    theta = mg.tensor([0.0, 0.0], requires_grad=True)
    adam = optim.Adam([theta], lr=0.05)
    for _ in range(100):
        adam.zero_grad()
        (scale * loss_of(theta)).backward()
        adam.step()
    print(f"loss times {scale:4d}: theta {theta.numpy().round(6)}; by hand {by_hand.round(6)}")
    assert np.allclose(theta.numpy(), by_hand, atol=1e-6)

# %% [markdown]
# ## The letters of Hamlet
#
# How low can the loss of the table go? As low as counting does: for each letter, the shares of what
# followed it are the best probabilities there are. That is a floor which no optimiser breaks, and
# by which each can be judged.

# %%
counts = np.zeros((K, K))
np.add.at(counts, (known[:-1], known[1:]), 1)


def bits(table, counts):
    """The mean cross-entropy of a table of scores, over pairs of which there are so many."""
    shifted = table - table.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -float((counts * log_p).sum() / counts.sum()) / math.log(2)


floor = bits(np.log(np.maximum(counts, 1e-9)), counts)
rare = counts.sum(axis=1) < 300
print(f"counting: {floor:.3f} bits; after {rare.sum()} rare letters, "
      f"{bits(np.log(np.maximum(counts[rare], 1e-9)), counts[rare]):.3f}")  # fmt: skip

# %% [markdown]
# Now by slopes, in batches of 512. The lines `zero_grad`, `backward` and `step` are the loop that
# later pages repeat, or leave to `fit`.


# %%
def trained(make, rate, falling, updates=600):
    """The table, and its bits on all pairs after every 10 updates."""
    W = mg.tensor(np.zeros((K, K)), requires_grad=True)
    optimizer = make([W], lr=rate)
    schedule = optim.CosineAnnealingLR(optimizer, updates) if falling else None
    curve = [bits(W.numpy(), counts)]
    for k in range(updates):
        x, y = batch(512)
        optimizer.zero_grad()
        nn.cross_entropy(W[x], y).backward()
        optimizer.step()
        if schedule:
            schedule.step()
        if k % 10 == 9:
            curve.append(bits(W.numpy(), counts))
    return W.numpy(), curve


# %%
tables, curves, after_rare = {}, {}, {}
for name, make, rate, falling in (
    ("descent, rate 6", optim.SGD, 6.0, False),
    ("descent, rate 60", optim.SGD, 60.0, False),
    ("descent, rate 600", optim.SGD, 600.0, False),
    ("Adam, rate 0.1", optim.Adam, 0.1, False),
    ("Adam, from 0.1 to 0", optim.Adam, 0.1, True),
):
    tables[name], curves[name] = trained(make, rate, falling)
    after_rare[name] = bits(tables[name][rare], counts[rare])
    print(f"{name:19s} {curves[name][-1]:.3f} bits; after rare letters {after_rare[name]:.3f}")
slow, best_rate, wild, adam, settled = (curve[-1] for curve in curves.values())
assert floor < settled < adam < best_rate < min(slow, wild)
assert settled < floor + 0.02
assert np.ptp(curves["Adam, rate 0.1"][30:]) < 0.02 < adam - floor
assert after_rare["Adam, rate 0.1"] < after_rare["descent, rate 60"] - 0.2

# %%
curves = {
    name: (10 * np.arange(len(curve)), np.where(np.array(curve) < 4.4, curve, np.nan))
    for name, curve in curves.items()
}
curves["counting: the floor"] = ([0, 600], [floor, floor])
mg.flow.show(mg.flow.sliders(lambda: curves, {}, x="steps", y="bits a letter"), "letters.html")

# %% [markdown]
# Descent is best at 60 of the three rates: at 6 it creeps, at 600 it is thrown off the picture. And
# at 60 it is still slow on rare letters, where Adam is far ahead. Adam's curve is flat long before
# the end: at a constant rate the noise of the batches keeps it above the floor. A rate that falls
# to 0 lets the table settle.
#
# What counts, though, is text that was not learned from:

# %%
table = tables["Adam, from 0.1 to 0"]
counts_later = np.zeros((K, K))
np.add.at(counts_later, (later[:-1], later[1:]), 1)
unseen = bits(table, counts_later)
print(f"learned from: {settled:.2f} bits; not seen before: {unseen:.2f}")
assert settled < unseen < 3.8
for letter in "qt.":
    row = table[letters.encode(letter)[0]]
    p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
    likely = [(letters.decode([k]), p[k]) for k in np.argsort(row)[::-1][:4]]
    print(f"after {letter!r}:", ", ".join(f"{kind!r} {share:.0%}" for kind, share in likely))

# %% [markdown]
# A loss, its slope, Adam: so much for learning. What changes from here on is the model. To a table
# that looks one letter back, the "h" in "the" and the "h" in "with" are the same. Tutorial 04 asks
# what a net needs to look further.
#
# ## Exercises
#
# Put your answer in place of the dots. The check tries out what it does.
#
# **1.** Write the slope of the cross-entropy by the scores, for a whole batch: $z$ is (B, K), $y$
# is (B,) with the numbers of the right kinds, and the loss is the mean over rows. Let it survive
# scores of 1000.


# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise("a function (z, y) -> dL/dz, of z's shape")
def check_1(slope):
    random = np.random.default_rng(1)
    for shape in ((1, 2), (3, 5)):
        z, y = random.standard_normal(shape), random.integers(0, shape[1], shape[0])
        nudged = np.zeros(shape)
        for place in np.ndindex(shape):
            up, down = z.copy(), z.copy()
            up[place], down[place] = z[place] + 1e-5, z[place] - 1e-5
            losses = [nn.cross_entropy(mg.tensor(moved), y).item() for moved in (up, down)]
            nudged[place] = (losses[0] - losses[1]) / 2e-5
        close(slope(z, y), nudged, f"z {shape}, y {y}", rtol=1e-5, atol=1e-8)
    with np.errstate(all="ignore"):
        found = slope(np.array([[1000.0, 0.0]]), np.array([1]))
    close(found, [[1.0, -1.0]], "scores 1000 and 0, where the second is right")
    return "What was guessed minus what was right, shared by the rows."


# %%
check_1(...)

# %% [markdown]
# **2.** How long may a step be on a line through *other* points? Write a function of their $x$ that
# gives the rate from which on gradient descent no longer comes down. (It does not depend on $y$.
# Why not?)


# %% Check 2
@exercise("a function xs -> the largest rate at which descent comes down")
def check_2(limit_of):
    def away_after(points, rate, updates=400):
        """The distance from the lowest point in the end; y = 0, so that is at (0, 0)."""
        theta, A = np.array([1.0, -2.0]), np.c_[points, np.ones(len(points))]
        for _ in range(updates):
            theta = theta - rate * 2 * A.T @ (A @ theta) / len(points)
            if np.abs(theta).max() > 1e6:
                break
        return np.linalg.norm(theta)

    for points in ([1.0, 2.0], [-3.0, 0.5, 4.0], np.linspace(0, 9, 20)):
        rate = float(limit_of(np.array(points)))
        said = f"for the points {np.round(points, 1).tolist()[:3]} ... you say {rate:.4g}"
        assert 0 < rate < np.inf, f"{said}; a rate is positive."
        assert away_after(points, 0.98 * rate) < 3, f"{said}, and 0.98 of that already diverges."
        assert away_after(points, 1.02 * rate) > 3, f"{said}, and 1.02 of that still comes down."
    return "The curvature depends on where the points stand, not on how high."


# %%
check_2(...)

# %% [markdown]
# **3.** A valley with curvatures from 1 to 100: at the best rate there is, plain descent shrinks
# the distance by 99/101 a step, and a thousandth is left after 346 steps. Do it with 120 slopes, in
# any way you like. (A ball that rolls does not stop at each step: remember the last move, and add a
# part of it to the next.)


# %% Check 3
@exercise("a function (slope_at, theta, updates) -> the lowest point, nearly")
def check_3(descent):
    random = np.random.default_rng(2)
    for size in (2, 5):
        turn = np.linalg.qr(random.standard_normal((size, size)))[0]
        hessian = turn @ np.diag(np.linspace(1, 100, size)) @ turn.T
        lowest, asked = random.standard_normal(size), []

        def slope_at(theta, lowest=lowest, hessian=hessian, asked=asked):
            asked.append(1)
            return hessian @ (theta - lowest)

        start = lowest + turn.sum(axis=1)
        end = np.asarray(descent(slope_at, start.copy(), 120), dtype=float)
        left = np.linalg.norm(end - lowest) / np.linalg.norm(start - lowest)
        assert len(asked) <= 120, f"you asked for {len(asked)} slopes; 120 are allowed."
        assert left < 1e-3, f"with {size} weights {left:.2g} of the distance is left, not 0.001."
    return f"{left:.1g} of the distance is left."


# %%
check_3(...)

# %% [markdown]
# ## Solutions


# %% Solution 1
def slope_by_scores(z, y):
    p = np.exp(z - z.max(axis=1, keepdims=True))  # the same softmax, and nothing overflows
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    return p / len(y)


check_1(slope_by_scores)


# %% Solution 2
# The Hessian of the mean of (A theta - y)^2 is 2 A^T A / N: y is in the slope, but not in the slope
# of the slope.
def limit_of(xs):
    A = np.c_[xs, np.ones(len(xs))]
    return 2 / np.linalg.eigvalsh(2 * A.T @ A / len(xs)).max()


check_2(limit_of)
assert np.isclose(limit_of(xs), limit)


# %% Solution 3
# Momentum (Polyak 1964). For curvatures from a to b his rate and his share of the last move shrink
# every direction by (sqrt(b) - sqrt(a)) / (sqrt(b) + sqrt(a)) a step in the long run: 9/11 here.
def heavy_ball(slope_at, theta, updates):
    rate, share, move = 4 / 11**2, (9 / 11) ** 2, 0.0
    for _ in range(updates):
        move = share * move - rate * slope_at(theta)
        theta = theta + move
    return theta


check_3(heavy_ball)
assert math.ceil(math.log(1e-3) / math.log(99 / 101)) == 346

# %% [markdown]
# ## Sources
#
# L. Bottou, F. Curtis, J. Nocedal, ["Optimization methods for large-scale machine
# learning"](https://arxiv.org/abs/1606.04838) (2018): steps, noise, rates. D. Kingma, J. Ba,
# ["Adam: a method for stochastic optimization"](https://arxiv.org/abs/1412.6980) (2015), algorithm
# 1. G. Goh, ["Why momentum really works"](https://distill.pub/2017/momentum/), *Distill* (2017):
# the valley and the ball, to play with. B. Polyak, "Some methods of speeding up the convergence of
# iteration methods" (1964). I. Goodfellow, Y. Bengio, A. Courville, [*Deep
# Learning*](https://www.deeplearningbook.org), chapters 6.2 (cross-entropy) and 8 (2016).
