"""Recurrent nets of every kind that the cells, tasks, depths and paddings give, before anything is
planted: weights and batch from a seed, a loss, and one recorded step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import nn
from minigrad.lab.tasks import Task, task
from minigrad.tree import map_leaves

from .equations import Weights
from .oracle import Stack

Array = np.ndarray
CELLS: dict[str, type[Any]] = {
    "rnn": nn.RNNCell, "relu": nn.RNNCell, "irnn": nn.IRNNCell, "lstm": nn.LSTMCell,
    "gru": nn.GRUCell, "peephole": nn.PeepholeLSTMCell, "coupled": nn.CoupledLSTMCell,
    "layernorm": nn.LayerNormLSTMCell, "minimal": nn.MinimalGatedCell, "mingru": nn.MinGRUCell,
}  # fmt: skip
COMMON = ("rnn", "relu", "lstm", "gru")  # drawn more often than the others
TASKS = ("plain", "plain", "adding", "copy", "latch", "order")
FEATURES = 3  # of a plain random sequence


@dataclass(frozen=True)
class Spec:
    """What a net is made of, all of it drawn from its seed.

    task: a name of mg.lab.tasks, or "plain": normal numbers. steps: of a batch, all of it. lengths:
    whether rows end early. mode: of the layer. scale: what the loss is multiplied by.
    """

    seed: int
    cell: str
    task: str
    layers: int
    hidden: int
    steps: int
    rows: int
    lengths: bool
    bidirectional: bool
    mode: str
    dtype: str
    scale: float


def draw(seed: int, rng: np.random.Generator, **fixed: Any) -> Spec:
    """A spec from its seed; what is fixed is not drawn."""
    given = dict(fixed)

    def of(name: str, make: Callable[[], Any]) -> Any:
        drawn = make()  # always, so that a seed gives the same numbers whatever is fixed
        return given.get(name, drawn)

    every = list(CELLS)
    cell = of("cell", lambda: str(rng.choice(COMMON if rng.random() < 0.5 else every)))
    what = of("task", lambda: str(rng.choice(TASKS)))
    layers = of("layers", lambda: int(rng.choice([1, 1, 2, 3, 4])))
    hidden = of("hidden", lambda: int(rng.choice([12, 12, 12, 3, 33])))
    steps = of("steps", lambda: int(rng.choice([5, 8, 20, 33, 50, 70])))
    rows = of("rows", lambda: int(rng.choice([1, 4, 7])))
    lengths = of("lengths", lambda: bool(rng.random() < 0.3))
    both = of("bidirectional", lambda: bool(rng.random() < 0.15))
    mode = of("mode", lambda: "fused" if rng.random() < 0.3 else "tape")
    dtype = of("dtype", lambda: "float32" if rng.random() < 0.2 else "float64")
    scale = of("scale", lambda: float(rng.choice([1.0, 1.0, 1e-8, 1e8])))
    if what in ("copy", "order"):
        steps = max(steps, {"copy": 21, "order": 10}[what])
    both = both and layers == 1
    lengths = lengths and rows > 1 and what == "plain"
    if (
        mode == "fused" or layers > 2
    ):  # each size compiles kernels of its own; large stacks are slow
        hidden = 12
    return Spec(seed, cell, what, layers, hidden, steps, rows, lengths, both, mode, dtype, scale)


@dataclass
class Net:
    """A net and its batch.

    xs (T, B, I), like: another batch of the same kind. ends: real steps of each row. told: what the
    layer is told of them, lengths (B,), a mask (T, B), or nothing. read, window: how its loss reads
    it (see `loss`). losses, monitor: of its training. planted: what is true by construction.
    """

    spec: Spec
    layer: Any
    head: Any
    xs: Array
    targets: Array | None
    ends: Array
    told: Array | None
    readout: Array
    read: str = "last"
    window: int = 0
    losses: list[float] | None = None
    monitor: Any = None
    task: Task | None = None
    planted: dict[str, bool | None] = field(default_factory=dict)
    size: float = 1.0  # of x

    def like(self, rng: np.random.Generator) -> Array:
        return self.size * batch(self.spec, rng)[0]

    @property
    def real(self) -> Array:
        """(T, B) of bool, the steps that the layer takes for real."""
        t = np.arange(self.spec.steps)[:, None]
        if self.told is None:
            return np.ones((self.spec.steps, self.spec.rows), dtype=bool)
        return self.told if self.told.ndim == 2 else t < self.told

    def stack(self, direction: int = 0) -> Stack:
        """Its weights as they are, for the oracle."""
        cells = self.layer.cells[direction :: self.layer.num_directions]
        return Stack(self.spec.cell, [weights(cell) for cell in cells], self.spec.hidden)


def weights(cell: Any) -> Weights:
    return {n: np.array(p.numpy(), np.float64) for n, p in cell.named_parameters()}


def made(spec: Spec, rng: np.random.Generator) -> Net:
    """The net as the layer's defaults make it, under a loss at its last step."""
    dtype = np.dtype(spec.dtype)
    xs, targets, work = batch(spec, rng)
    kind, options = CELLS[spec.cell], {"dtype": dtype, "generator": rng}
    if spec.cell == "relu":
        options["nonlinearity"] = "relu"
    layer = nn.Recurrent(
        lambda size: kind(size, spec.hidden, **options), xs.shape[-1], spec.layers,
        bidirectional=spec.bidirectional, mode=spec.mode,
    )  # fmt: skip
    layer.scope_name = spec.cell
    width = spec.hidden * layer.num_directions
    head = None
    if work is not None:
        head = nn.Linear(width, work.outputs, dtype=dtype, generator=rng)
    ends = np.full(spec.rows, spec.steps)
    if spec.lengths:
        least = max(2, spec.steps // 3)
        ends = rng.integers(least, spec.steps + 1, spec.rows)
        ends[rng.permutation(spec.rows)[:2]] = least, spec.steps
        for b, n in enumerate(ends):
            xs[n:, b] = 0.0
    readout = rng.standard_normal(width)
    return Net(
        spec, layer, head, xs.astype(dtype), targets, ends, ends if spec.lengths else None, readout,
        task=work,
    )  # fmt: skip


def batch(spec: Spec, rng: np.random.Generator) -> tuple[Array, Array | None, Task | None]:
    """(xs (T, B, I), targets, the task) of so many steps."""
    if spec.task == "plain":
        return rng.standard_normal((spec.steps, spec.rows, FEATURES)), None, None
    work = task(spec.task, spec.steps - (20 if spec.task == "copy" else 0))
    xs, targets = work.batch(rng, spec.rows)
    return np.asarray(xs, np.float64), targets, work


# -- one recorded step


def recorded(net: Net) -> mg.flow.Recording:
    """What record() heard of one forward and backward pass."""
    with mg.flow.record() as recording, np.errstate(all="ignore"):
        (loss(net) * net.spec.scale).backward()
    return recording


def loss(net: Net) -> Any:
    """A loss that reads as `net.read` says:

    last      the final state of each row              every:n   each n-th output, and the last
    own       ys[t, b] at each row's last real step    all       every real output
    end       ys[-1], whatever the lengths are         padded    every output, padding too
    truncate  scan(truncate=window), the last output   windows   calls of `window` steps, detached
    loop      a loop by hand that detaches `window` steps before the end
    """
    xs = mg.tensor(net.xs)
    if net.read in ("truncate", "windows", "loop"):
        return answer(net, _WINDOWED[net.read](net, xs))
    masked = net.told is not None and net.told.ndim == 2
    ys, final = net.layer(xs, **{"mask" if masked else "lengths": net.told})
    rows = np.arange(net.spec.rows)
    if net.read == "last":
        h = final[0] if isinstance(final, tuple) else final
        return answer(net, mg.concatenate(list(h[-net.layer.num_directions :]), axis=-1))
    if net.read == "own":
        return answer(net, ys[net.ends - 1, rows])
    if net.read == "end":
        return answer(net, ys[-1])
    if net.read.startswith("every:"):
        n = int(net.read[6:])
        return sum((answer(net, ys[t]) for t in range(net.spec.steps - 1, -1, -n)), mg.tensor(0.0))
    real = np.arange(net.spec.steps)[:, None] < net.ends
    if net.read == "padded":
        real = np.ones_like(real)
    y = mg.where(mg.tensor(real[..., None]), ys, 0.0)
    return (y @ mg.tensor(net.readout.astype(y.dtype)[:, None])).sum() / float(real.sum())


def answer(net: Net, y: Any) -> Any:
    """The loss of one output (B, H): a task's, or the mean of <readout, y>."""
    if net.head is not None and net.task is not None and net.task.last:
        return net.task.loss(net.head(y), net.targets)
    return (y @ mg.tensor(net.readout.astype(y.dtype)[:, None])).mean()


def _truncated(net: Net, xs: Any) -> Any:
    cell, init_state = net.layer.cells[0], net.layer.cells[0].init_state(net.spec.rows)
    return mg.scan(cell, init_state, xs, truncate=net.window, mode=net.spec.mode).ys[-1]


def _windows(net: Net, xs: Any) -> Any:
    state, ys = None, None
    for start in range(0, net.spec.steps, net.window):
        if state is not None:
            state = map_leaves(lambda s: s.detach(), state)
        ys, state = net.layer(xs[start : start + net.window], state)
    return ys[-1]


def _loop(net: Net, xs: Any) -> Any:
    cell = net.layer.cells[0]
    state, y = cell.init_state(net.spec.rows), None
    for t in range(net.spec.steps):
        if t == net.spec.steps - net.window:
            state = map_leaves(lambda s: s.detach(), state)
        with mg.scope(f"t={t}"):
            state, y = cell(state, xs[t])
    return y


_WINDOWED = {"truncate": _truncated, "windows": _windows, "loop": _loop}
