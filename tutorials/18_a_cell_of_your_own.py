# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # 18 A cell of your own: one step, written once, becomes two loops
#
# Frameworks are fast for the cells that somebody wrote a kernel for. Here nobody did: `mg.scan`
# looks at *one* step of any cell, derives the step of backpropagation through time (BPTT) from it,
# and compiles both. This page watches it do so.
#
# You need tutorials 01, 02 and 05. Time: 35 minutes, and 40 for the exercises. Run it with
# `python tutorials/18_a_cell_of_your_own.py`.

# %%
import time

import numpy as np

import minigrad as mg

T, B, I, H = 100, 16, 8, 32
rng = np.random.default_rng(0)

# %% [markdown]
# ## A cell in ten lines
#
# The leaky RNN: every unit keeps a share $k$ of its state and takes the rest from a tanh RNN. The
# shares are learned.
#
# $$ h_t = k \odot h_{t-1} + (1 - k) \odot \tanh(x_t W + h_{t-1} U + b) \qquad k = \sigma(a) $$


# %%
class LeakyCell(mg.nn.Module):
    def __init__(self, inputs, hidden):
        self.a = mg.nn.Parameter(np.full(hidden, 2.0))
        self.W = mg.nn.Parameter(rng.standard_normal((inputs, hidden)) * 0.3)
        self.U = mg.nn.Parameter(rng.standard_normal((hidden, hidden)) * 0.1)
        self.b = mg.nn.Parameter(np.zeros(hidden))

    def init_state(self, batch):
        return mg.tensor(np.zeros((batch, len(self.b))))

    def forward(self, h, x):
        k = mg.sigmoid(self.a)
        n = mg.tap("n", mg.tanh(x @ self.W + h @ self.U + self.b))
        h = mg.tap("h", k * h + (1.0 - k) * n)
        return h, h


cell = LeakyCell(I, H)
for name, parameter in cell.named_parameters():
    parameter.name = name
xs = mg.tensor(rng.standard_normal((T, B, I)), name="x")
init = cell.init_state(B)

# %% [markdown]
# A cell is `(state, x) -> (state, y)`, nothing more. `mg.tap` gives a value a name.
#
# ## On the tape
#
# `mode="tape"` is the plain loop: step by step, every operation recorded. It is what scan *means*.


# %%
def gradients(mode, **options):
    """A loss that looks at the last step, and its gradients; the result of the scan, too."""
    cell.zero_grad()
    result = mg.scan(cell, init, xs, mode=mode, **options)
    (result.ys[-1] ** 2).sum().backward()
    return {name: p.grad.numpy() for name, p in cell.named_parameters()}, result


with mg.Tape() as tape:
    on_tape, _ = gradients("tape")
print(f"{len(tape)} operations on the tape, {len(tape) / T:.2f} a step")

# %% [markdown]
# ## Compiled
#
# The same call with `mode="fused"`, which is the default. The cell is called once, on values that
# have a shape and no numbers. The first call compiles (a few seconds); the kernels are kept on
# disk, for every `T` and `B`.

# %%
compiled, result = gradients("fused")
for name, g in compiled.items():
    error = np.abs(g - on_tape[name]).max() / np.abs(on_tape[name]).max()
    print(f"dL/d{name}: differs from the tape by {error:.1e}")
    assert error < 1e-12

# %% [markdown]
# Not equal to the bit, as sums are taken in another order, but nearly.
#
# ## The Program of a step
#
# This is all that the compiler knows of the cell:

# %%
print(result.program)
assert [v.name for v in result.program.xs] == ["x"]
assert len([v for v in result.program.body if v.op.name == "matmul"]) == 2

# %% [markdown]
# `carry` is the state, `%0`. Two things are there that the loop will not do step by step:
#
# * `x @ W` needs no state. It will be **hoisted**: done for a chunk of steps by one product of many
#   rows, ahead of them.
# * $k = \sigma(a)$ and $1 - k$ need weights alone. They are computed once, ahead of the loop, and
#   enter the step as weights, like `U`.
#
# ## The Program of BPTT
#
# Every op of minigrad declares its derivative as an expression of other ops. So the reverse of a
# step can be traced like the step itself, and is a Program, too:

# %%
back = result.explain().backward_program
print(back)
after = [v.op.name for v in back.body if v.stage == "after" and v.op.kind != "view"]
assert after.count("matmul") == 2  # dL/dW and dL/dU
assert [v.op.name for v in back.body].count("tanh") == 1
assert "sech2" in [v.op.name for v in back.body]

# %% [markdown]
# Read it as the chain rule. It carries `dL/dh` from step $t$ to $t - 1$; what comes in beside it
# is `dL/dy` and what the forward step kept: what goes into the tanh. From it come $n$ once more,
# and the slope, `sech2`. It equals $1 - n^2$, which would be 0 as soon as $n$ rounds to 1, and a
# small gradient would look like none. Lines `after the loop` are sums over time: $dL/dU = \sum_t
# h_{t-1}^\top \delta_t$ is one product over all $T B$ rows, not 100 small ones. That is called
# **sinking**.
#
# Both programs as a picture; what is stored for BPTT has a red outline:

# %%
mg.flow.show(mg.flow.draw(result, title="A leaky RNN: one step and its BPTT"), "leaky.svg")

# %% [markdown]
# ## What ran
#
# `explain()` says what became of the programs: which ops share a loop, what is stored, in how many
# bytes, and which kernels ran.

# %%
report = result.explain()
print(report)
assert report.kept_floats == H  # what goes into the tanh; h is a result of the scan anyway
assert "stored     add[32]" in str(report)

# %% [markdown]
# Of each row and step BPTT needs what goes into the tanh, from which it computes `n` and the slope
# once more, and the state, which is a result that is kept anyway: so what it costs is 32 floats.
#
# The kernel itself is Python that Numba compiles: `result.source`. Here is what the forward one
# does for one row of the batch at one step. `h_in` and `h_out` are rows of the array of all states,
# `n` is one number. LLVM makes vectors of the loop, and what has a name but no brackets never sees
# memory. The comments are the numbers of the values in the program.

# %%
source = result.source
print(source[source.index("def units") :].split("\n\n")[0])

# %% [markdown]
# And around it, the loop over time, with a product by a packed weight at each step:

# %%
print(source[source.index("    for n in range(T):") :].split("\n\n")[0])

# %% [markdown]
# `minigrad explain lstm --passes --source` prints all of this for the cells that ship.
#
# ## How fast


# %%
def seconds(mode, repeats=5):
    gradients(mode)
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        gradients(mode)
        taken.append(time.perf_counter() - start)
    return min(taken)


slow, fast = seconds("tape"), seconds("fused")
print(f"forward and BPTT, {T} steps: tape {slow * 1e3:.1f} ms, fused {fast * 1e3:.2f} ms")
print(f"{slow / fast:.0f} times as fast")

# %% [markdown]
# ## Gradients at every step
#
# The BPTT loop holds $dL/dh_t$ for every $t$ anyway. `record=` keeps its norm. With $U = 0$ we know
# what it must be: $h_{t-1}$ reaches $h_t$ through $k$ alone, so each step back multiplies the
# gradient by $k = \sigma(2) = 0.88$.

# %%
U = cell.U.numpy().copy()
cell.U.data = np.zeros_like(U)
_, result = gradients("fused", record=["h"])
norms = result.record.norms["h"]  # |dL/dh_t| for every t
k = 1 / (1 + np.exp(-2.0))
assert round(k, 2) == 0.88
print(f"|dL/dh_t| shrinks by {norms[-2] / norms[-1]:.6f} a step; sigmoid(2) = {k:.6f}")
assert np.allclose(norms, norms[-1] * k ** np.arange(T - 1, -1, -1), rtol=1e-12)
cell.U.data = U

# %% [markdown]
# ## Truncated BPTT, and checkpoints
#
# `truncate=25` cuts the gradient at the beginning of each window of 25 steps: cheaper in reach, and
# *another* gradient. `checkpoint=10` gives the *same* gradient in less memory: it keeps the state
# at every tenth step, and computes what lies between once more when BPTT comes by.

# %%
cut, result = gradients("fused", truncate=25, record=["h"])
reached = int((result.record.norms["h"] > 0).sum())
print(f"truncate=25: the gradient reaches {reached} of {T} steps")
assert reached == 25

same, _ = gradients("fused", checkpoint=10)
full, result = gradients("fused")
for name in full:
    assert np.allclose(same[name], full[name], rtol=1e-12, atol=1e-14)
    off = np.linalg.norm(cut[name] - full[name]) / np.linalg.norm(full[name])
    print(f"dL/d{name}: checkpoint gives the same, truncate is off by {off:.1%}")
    assert 0.0 < off < 0.2
assert 0.04 < k**25 < 0.045

# %% [markdown]
# The loss looks at the last step only, so one window of four carries any gradient, and the error is
# what the other three would have added. It is not large, because this cell forgets anyway: of a
# gradient that shrinks by 0.88 a step, 4% is left after 25.
#
# ## What cannot be compiled
#
# A step is traced on values without numbers. A Python `if` on a value has no answer there, and scan
# says so, instead of compiling one branch or falling back in silence:


# %%
def branching(h, x):
    if h.sum(axis=1) > 0.0:
        h = h * 0.5
    return h + x, h


def mixing(h, x):
    return h - h.mean(axis=0) + x, h


ones = mg.tensor(np.ones((T, B, H)))
messages = []
for wrong in (branching, mixing):
    try:
        mg.scan(wrong, init, ones)
    except mg.TraceError as error:
        messages.append(str(error))
        print(f"{wrong.__name__}: {error}\n")
assert "choose with mg.where" in messages[0]
assert "would mix the rows of the batch" in messages[1]

# %% [markdown]
# The rows of a batch are independent in a step: nothing may choose among them or mix them. For
# what differs from row to row there is `mg.where`; what really mixes rows runs with `mode="tape"`.


# %%
def choosing(h, x):
    h = mg.where(h.sum(axis=1, keepdims=True) > 0.0, h * 0.5, h)  # each row by itself
    return h + x, h


final, _ = mg.scan(choosing, init, ones)
reference, _ = mg.scan(choosing, init, ones, mode="tape")
assert np.allclose(final.numpy(), reference.numpy(), rtol=1e-14)
print(f"with mg.where it compiles: {final.numpy().mean():.6f}")

# %% [markdown]
# Random numbers are drawn before the scan and come in as `xs`: a step is traced, not run at every
# step of time, so a mask that it drew would be the same at all of them. A step that is new is
# traced twice, and refused if the second time gives something else:

# %%
generator = np.random.default_rng(0)


def noisy(h, x):
    return h * generator.random((B, H)) + x, h


try:
    mg.scan(noisy, init, ones)
except mg.TraceError as error:
    messages.append(str(error))
    print(error)
assert "traced twice, and what multiply reads was not the same" in messages[-1]

# %% [markdown]
# ## When a cell is traced
#
# At every call of `scan`: only who wrote a function knows what it depends on; nothing is guessed.
# The program is compared with those compiled before, and the kernels of an equal one run.
# Tracing takes a fraction of a millisecond; `mg.pure` is the promise that it is not needed, which
# the cells of `mg.nn` come with. `explain()` says what happened.

# %%
for _ in range(3):
    print(str(mg.scan(choosing, init, ones).explain()).splitlines()[1])
mg.pure(choosing)
for _ in range(3):
    how = str(mg.scan(choosing, init, ones).explain()).splitlines()[1]
    print(how)
assert how.split()[0] == "reused"

# %% [markdown]
# ## Exercises
#
# **1.** Which values of a plain RNN, $h_t = \tanh(x_t + h_{t-1} U)$ with H = 32 units, does BPTT
# store beside the states, which are results anyway? Guess the number of floats for each row and
# step.

# %% Check 1
from minigrad.lab.exercises import close, exercise


def of(step, inputs):
    """The scan of a step, with BPTT."""
    found = mg.scan(step, init, inputs)
    found.ys.sum().backward()
    return found


@exercise("a number of floats")
def check_1(guess):
    stored = of(lambda h, x: (mg.tanh(x + h @ cell.U),) * 2, ones).explain().kept_floats
    close(guess, stored, "floats for each row and step")
    return "One for each unit: what goes into the tanh. 1 - h^2 would be 0 where h rounds to 1."


# %%
check_1(...)

# %% [markdown]
# **2.** In `(h + x) @ U` the product needs the state, so it stays inside the loop. Write the same
# step so that more of it can be hoisted: hand in `step(h, x)` that computes the same numbers, from
# `cell.U`, with x as wide as h.


# %% Check 2
@exercise("a function (h, x) -> (h, h)")
def check_2(step):
    before, after = (of(f, ones) for f in (lambda h, x: (0.1 * ((h + x) @ cell.U),) * 2, step))
    close(after.ys, before.ys, "the states", rtol=1e-9)
    assert "hoisted" not in str(before.explain())
    assert "hoisted" in str(after.explain()), (
        f"nothing of it can be hoisted: every product needs the state.\n{after.program}"
    )
    return "Twice the multiplications, but half of them in one product over all steps."


# %%
check_2(...)

# %% [markdown]
# **3.** Write a cell that forgets nothing: hand in `step(h, x)` whose value depends on
# $h_{t-1} U$ (with `cell.U`), and whose gradient neither vanishes nor explodes, exactly: of any
# loss that reads the last state, $\partial L/\partial h_0$ *equals* $\partial L/\partial h_T$,
# after 1 step as after 100. The gradient of U may not be 0.


# %% Check 3
@exercise("a function (h, x) -> (h, h)")
def check_3(step):
    h_0 = mg.tensor(rng.standard_normal((B, H)), requires_grad=True)
    towards = rng.standard_normal((B, H))
    for steps in (1, 10, T):
        final, _ = mg.scan(step, h_0, 0.1 * ones[:steps])
        g_0, g_W = mg.grad(mg.sum(final * towards), [h_0, cell.U])
        close(g_0, towards, f"dL/dh_0 after {steps} steps, beside dL/dh_T", rtol=1e-9)
        assert np.abs(g_W.numpy()).max() > 0, "U has no gradient: nothing would be learned."
    by_W = mg.scan(step, h_0, ones)[0].numpy()
    cell.U.data, kept = 2.0 * cell.U.numpy(), cell.U.numpy().copy()
    doubled = mg.scan(step, h_0, ones)[0].numpy()
    cell.U.data = kept
    assert np.abs(by_W - doubled).max() > 1e-6, "another U gives the same states."
    return "U is learned, but only from what it does at once: nobody tells it of later."


# %%
check_3(...)

# %% [markdown]
# ## Solutions

# %% Solution 1
# What goes into the tanh, H numbers. The slope is computed from it.
check_1(32)

# %% Solution 2
# (h + x) U = h U + x U. The second needs no state, and is done for a chunk of steps at once.
check_2(lambda h, x: (0.1 * (h @ cell.U + x @ cell.U),) * 2)

# %% Solution 3
# h goes straight on, and the path through U is cut: dL/dh_{t-1} passes along the sum alone. In the
# backward program no product is left inside the loop, only that of dL/dW after it.
check_3(lambda h, x: (h + mg.tanh(x + h.detach() @ cell.U),) * 2)
detached = of(lambda h, x: (h + mg.tanh(x + h.detach() @ cell.U),) * 2, 0.1 * ones)
products = [v for v in detached.explain().backward_program.body if v.op.name == "matmul"]
print("products in the backward step:", ", ".join(f"{v!r} {v.stage} the loop" for v in products))
assert [v.stage for v in products] == ["after"]

# %% [markdown]
# ## Sources
#
# Leaky units: M. Mozer, *Induction of multiscale temporal structure* (1992); [H. Jaeger et
# al.](https://doi.org/10.1016/j.neunet.2007.04.016), *Neural Networks* 20 (2007). Gradients of a
# loop as another loop: A. Griewank and A. Walther, [*Evaluating
# Derivatives*](https://doi.org/10.1137/1.9780898717761) (2008), and the scans of Theano (Bergstra
# et al. 2010) and JAX (Frostig, Johnson and Leary 2018). Checkpoints: [T. Chen et al., *Training
# deep nets with sublinear memory cost*](https://arxiv.org/abs/1604.06174) (2016). Truncated BPTT:
# [R. Williams and J. Peng](https://doi.org/10.1162/neco.1990.2.4.490), *Neural Computation* 2
# (1990).
