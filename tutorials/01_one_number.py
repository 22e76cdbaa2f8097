# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 01 One number: a tape by hand
#
# A neural network is a long calculation, and training asks one question of it: *if this weight were
# a little larger, how much would the loss change?* This page answers it for single numbers, with a
# record of the calculation, a **tape**, that you could keep with pencil and paper. Everything
# later, arrays, LSTMs, compiled loops, is this page with larger boxes.
#
# You need derivatives and Python. Time: 20 minutes, and 30 for the exercises. Run it with `python
# tutorials/01_one_number.py`.

# %%
import math

# %% [markdown]
# ## A calculation, written down
#
# One step of the smallest recurrent net there is: a hidden state $h$, an input $x$, two weights.
#
# $$ h' = \tanh(w h + u x) \qquad L = (h' - 1)^2 $$
#
# We write every operation on a line of its own, in the order in which it is carried out: which
# operation, on which lines, and what came out. That list is the tape.

# %%
tape = []  # one entry an operation: (name, positions of its inputs, value)


def record(name, inputs, value):
    tape.append((name, inputs, value))
    return len(tape) - 1  # later lines refer to this one by its position


w = record("w", [], 0.5)
h = record("h", [], 0.8)
u = record("u", [], -0.3)
x = record("x", [], 1.0)


def value(i):
    return tape[i][2]


def mul(a, b):
    return record("mul", [a, b], value(a) * value(b))


def add(a, b):
    return record("add", [a, b], value(a) + value(b))


def tanh(a):
    return record("tanh", [a], math.tanh(value(a)))


def loss_to(a, goal):
    return record(f"(. - {goal})^2", [a], (value(a) - goal) ** 2)


new_h = tanh(add(mul(w, h), mul(u, x)))
loss = loss_to(new_h, 1.0)

for i, (name, inputs, out) in enumerate(tape):
    print(f"{i}: {name:12s} {inputs!s:8s} -> {out:+.4f}")

# %% [markdown]
# ## Backwards
#
# Let $g_i$ be $\partial L/\partial(\text{line } i)$. For the last line it is 1. Each operation
# knows its own slopes, and the chain rule hands $g$ from a line to the lines it was made from:
#
# | line | passes to its inputs |
# |---|---|
# | $y = a b$ | $g_a \mathrel{+}= g_y b$, $g_b \mathrel{+}= g_y a$ |
# | $y = a + b$ | $g_a \mathrel{+}= g_y$, $g_b \mathrel{+}= g_y$ |
# | $y = \tanh a$ | $g_a \mathrel{+}= g_y (1 - y^2)$ |
# | $y = (a - k)^2$ | $g_a \mathrel{+}= g_y \, 2 (a - k)$ |
#
# The `+=` matters: a line that was used twice gets a share from both uses. And the order matters: a
# line may pass on its gradient only when it is complete, when everything that used it has been
# visited. Reading the tape **from the end** guarantees that.

# %%
slopes = {
    "mul": lambda a, b, y: (b, a),
    "add": lambda a, b, y: (1.0, 1.0),
    "tanh": lambda a, y: (1.0 - y * y,),
    "(. - 1.0)^2": lambda a, y: (2.0 * (a - 1.0),),
}

g = [0.0] * len(tape)
g[loss] = 1.0
for i in reversed(range(len(tape))):
    name, inputs, out = tape[i]
    if inputs:
        for j, slope in zip(inputs, slopes[name](*map(value, inputs), out), strict=True):
            g[j] += g[i] * slope

print(f"dL/dw = {g[w]:+.6f}   dL/du = {g[u]:+.6f}   dL/dh = {g[h]:+.6f}")

# %% [markdown]
# Do we believe it? Nudge $w$ and look:


# %%
def loss_of(w_value):
    return (math.tanh(w_value * 0.8 - 0.3) - 1.0) ** 2


nudge = 1e-6
measured = (loss_of(0.5 + nudge) - loss_of(0.5 - nudge)) / (2 * nudge)
print(f"measured by nudging: {measured:+.6f}")
assert abs(measured - g[w]) < 1e-8

# %% [markdown]
# Nudging needs two evaluations *for each weight*. The tape gave every derivative in one walk. With
# a million weights, and a second for each evaluation, that is the difference between seconds and
# three weeks.
#
# ## The same with minigrad
#
# minigrad keeps exactly this list. `Tape` lets us look at it.

# %%
import minigrad as mg

w_, h_, u_, x_ = (
    mg.tensor(v, requires_grad=True, name=n)
    for v, n in [(0.5, "w"), (0.8, "h"), (-0.3, "u"), (1.0, "x")]
)
with mg.Tape() as record_of_it:
    loss_ = (mg.tanh(w_ * h_ + u_ * x_) - 1.0) ** 2
loss_.backward()
print(record_of_it)
print(f"dL/dw = {w_.grad.item():+.6f}")
assert abs(w_.grad.item() - g[w]) < 1e-15
assert record_of_it.kept_bytes == 8 * (2 + 2 + 0 + 1 + 0 + 1)  # two products, tanh, a square
assert round(2 * 1e6 / (7 * 24 * 3600)) == 3  # weeks, of two million seconds

# the same as a graph: read `data` from left to right, and `grad` from right to left
mg.flow.show(mg.flow.draw(record_of_it), "one-number.svg")

# %% [markdown]
# The column `kept` is what the way back needs. A product keeps both of its inputs, and tanh one
# number: its slope can be had from its output, as above, or from its input, which minigrad prefers
# (tutorial 17 says why). An addition keeps nothing at all. That is where the memory of training
# goes.
#
# ## Where vanishing begins
#
# Look at dL/dh: it is dL/dh' times $w (1 - h'^2)$. One step back in time multiplies the gradient by
# that factor; after $T$ steps by the product of $T$ of them. If they are below one, little is left.

# %%
state = mg.tensor(0.8, requires_grad=True, name="h_0")
step = state
for _ in range(20):
    step = mg.tanh(0.5 * step - 0.3)
step.backward()
print(f"dh_20/dh_0 = {state.grad.item():.3e}")
assert abs(state.grad.item()) < 0.5**20  # every factor is at most w = 0.5

# %% [markdown]
# Each step keeps less than half, so after twenty less than a millionth is left. That is a vanishing
# gradient. `minigrad flow` measures it for an RNN, an LSTM, a GRU and a BiLSTM on real text.
#
# ## Exercises
#
# Below each exercise is a call with three dots. In the notebook or the script, put your answer in
# their place and run it: the check tries out what your answer does, and says what is wrong with it.
# (It is folded away: look into it later.)
#
# **1.** Add `exp` to the tape. Hand in its rule, a function like those in `slopes`: it gets the
# input $a$ and the output $y = e^a$. What is the least that the tape has to keep? Write the rule so
# that it reads nothing else; the check hides from it what it need not see.

# %% Check 1
from minigrad.lab.exercises import close, exercise


@exercise("a function (a, y) -> (dy/da,)")
def check_1(rule):
    for a in (-1.0, 0.3, 2.0):
        measured = (math.exp(a + nudge) - math.exp(a - nudge)) / (2 * nudge)
        close(rule(a, math.exp(a)), [measured], f"the slope at a = {a}, in a tuple", rtol=1e-5)
        only_y = rule(math.nan, math.exp(a))
        close(only_y, [measured], "the slope, with y known and a hidden", rtol=1e-5)
    return "It keeps its output, and nothing else."


# %%
check_1(...)

# %% [markdown]
# **2.** Twenty steps with $w = 2$ and no input: $h_t = \tanh(2 h_{t-1})$. Near 0 a step doubles
# every small difference, and yet from $h_0 = 0.1$ the gradient $dh_{20}/dh_0$ comes out tiny. Find
# an $h_0$, not 0, from which it explodes: to more than 100,000. Then say why it did not before.


# %% Check 2
@exercise("a number h_0 that is not 0")
def check_2(h_0):
    assert h_0 != 0, "0 stays 0 for ever; a start close by is harder to keep there."
    start = mg.tensor(float(h_0), requires_grad=True)
    states = [start]
    for _ in range(20):
        states.append(mg.tanh(2.0 * states[-1]))
    slope, last = mg.grad(states[-1], start).item(), states[-1].item()
    at = next((t for t, h in enumerate(states) if abs(h.item()) > 0.5), None)
    when = "at no step" if at is None else f"from step {at} on"
    assert slope > 1e5, (
        f"dh_20/dh_0 = {slope:.3g}; |h_t| is above 0.5 {when}: how flat is it there?"
    )
    return f"dh_20/dh_0 = {slope:,.0f}, and h_20 = {last:.2g}: hardly out of the steep part."


# %%
check_2(...)

# %% [markdown]
# **3.** There is a way to get derivatives that needs no walk backwards: carry with each line its
# derivative *by one input*, and go from the front. Write it: `forward(tape, slopes, i)` gives
# $d(\text{last line})/d(\text{line } i)$. How many such walks does a net with a million weights
# need?


# %% Check 3
@exercise("a function (tape, slopes, i) -> d(last line)/d(line i)")
def check_3(forward):
    for i, letter in ((w, "w"), (h, "h"), (u, "u"), (x, "x")):
        close(forward(tape, slopes, i), g[i], f"dL/d{letter}")
    twice = [("a", [], 3.0), ("mul", [0, 0], 9.0), ("add", [1, 0], 12.0)]  # a^2 + a
    close(forward(twice, slopes, 0), 7.0, "the derivative of a a + a at 3, where a is used thrice")
    close(forward(twice, slopes, 2), 1.0, "the derivative of the last line by itself")
    return "It takes a walk for each weight: backwards, one walk does for all of them."


# %%
check_3(...)

# %% [markdown]
# ## Solutions


# %% Solution 1
# y = e^a has the slope e^a, which is y: it keeps its output, and need not keep its input.
slopes["exp"] = lambda a, y: (y,)
check_1(slopes["exp"])

# %% Solution 2
# A step multiplies the gradient by 2 (1 - h^2): 2 near 0, but 0.17 at the fixed point 0.9575, where
# a start of 0.1 arrives after a few steps. From a millionth of that, twenty doublings are not
# enough to leave the steep part: the gradient is nearly 2^20.
check_2(1e-7)
start = mg.tensor(0.1, requires_grad=True)
step = start
for _ in range(20):
    step = mg.tanh(2.0 * step)
assert 0 < mg.grad(step, start).item() < 1e-9


# %% Solution 3
# A line's derivative is the sum, over its inputs, of their slope times their derivative.
def forward(tape, slopes, i):
    d = [0.0] * len(tape)
    for k, (name, inputs, out) in enumerate(tape):
        if inputs:
            values = [tape[j][2] for j in inputs]
            d[k] = sum(s * d[j] for s, j in zip(slopes[name](*values, out), inputs, strict=True))
        if k == i:
            d[k] = 1.0
    return d[-1]


check_3(forward)

# %% [markdown]
# ## Sources
#
# The idea is older than neural networks: [S. Linnainmaa](https://doi.org/10.1007/BF01931367) (1970,
# in English 1976), for rounding errors; B. Speelpenning (1980), as a pass of a compiler. [D.
# Rumelhart, G. Hinton, R. Williams](https://doi.org/10.1038/323533a0), *Nature* 323 (1986), trained
# networks with it. The book is A. Griewank and A. Walther, [*Evaluating
# Derivatives*](https://doi.org/10.1137/1.9780898717761) (2008): chapter 3 has both directions of
# exercise 3. [micrograd](https://github.com/karpathy/micrograd) is this page as a small library.
