# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 01 One number: a tape by hand
#
# A neural network is a long calculation, and training asks one question of it: *if this weight
# were a little larger, how much would the loss change?* This page answers it for single numbers,
# with a record of the calculation, a **tape**, that you could keep with pencil and paper.
# Everything later, arrays, LSTMs, compiled loops, is this page with larger boxes.
#
# You need derivatives and Python. Run it with `python tutorials/01_one_number.py`.

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
# a million weights that is the difference between a second and two weeks.
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

# the same as a graph: read `data` from left to right, and `grad` from right to left
mg.flow.show(mg.flow.draw(record_of_it), "one-number.svg")

# %% [markdown]
# The column `kept` is what the way back needs: tanh keeps its output, because its slope is $1 -
# y^2$; an addition keeps nothing at all. That is where the memory of training goes.
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
# 1. Add a line `exp` to the hand-made tape and to `slopes`. What does it have to keep?
# 2. With $w = 2$ and no input, $h_0 = 0.001$: does $dh_{20}/dh_0$ vanish or explode? Why does it
#    not grow for ever?
# 3. What goes wrong if the walk visits lines in the order in which they were recorded?
#
# ## Solutions

# %%
# 1. y = e^a has the slope y: it keeps its output, like tanh.
slopes["exp"] = lambda a, y: (y,)

# 2. At first it grows by a factor of about 2 a step: tanh is linear near 0. Once h is near its
# fixed point 0.9575, the factor is 2 (1 - 0.9575^2) = 0.17, and the gradient shrinks again.
start = mg.tensor(0.001, requires_grad=True)
step = start
sizes = []
for _ in range(20):
    step = mg.tanh(2.0 * step)
    sizes.append(mg.grad(step, start, retain_graph=True).item())
print("dh_t/dh_0:", " ".join(f"{s:.2g}" for s in sizes))
assert max(sizes) > 100 > sizes[-1]

# 3. Most lines would pass on a gradient of 0, as nothing has arrived yet: only the inputs of the
# last line would get anything.

# %% [markdown]
# ## Sources
#
# The idea is older than neural networks: S. Linnainmaa, 1970 (accumulated rounding error of an
# algorithm); B. Speelpenning, 1980 (the tape as a compiler pass); D. Rumelhart, G. Hinton, R.
# Williams, *Nature* 323 (1986). A. Griewank and A. Walther, *Evaluating Derivatives* (2008), is
# the book.
