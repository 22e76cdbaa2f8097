"""One function for each cause that is planted, and for the kinds of healthy nets: seed -> Net.

What a function writes into `planted` is true by construction; the rest is for the oracle to say.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minigrad.nn import init

from .dynamics import alive, dying, growing, let_go
from .equations import KEEPS
from .nets import CELLS, Net, draw, made
from .training import rate_all_right, rate_too_large, solved

Rng = np.random.Generator
GATED = [name for name in CELLS if name in KEEPS]


def vanishing(seed: int, rng: Rng) -> Net:
    net = made(draw(seed, rng), rng)
    dying(net, rng)
    return reading(net, rng)


def exploding(seed: int, rng: Rng) -> Net:
    able = [name for name in CELLS if name not in ("mingru", "layernorm")]
    net = made(draw(seed, rng, cell=str(rng.choice(able)), dtype="float64"), rng)
    growing(net, rng)
    return reading(net, rng)


def reading(net: Net, rng: Rng) -> Net:
    """Read at the last step, or at all of them."""
    many = net.spec.task == "plain" and rng.random() < 0.3 and not net.spec.bidirectional
    if many or net.spec.task == "copy":
        net.read = "all"
    return net


def dead_units(seed: int, rng: Rng) -> Net:
    """Some units of each layer get a bias that nothing can outweigh, and so stand still."""
    able = [name for name in CELLS if name not in ("layernorm", "mingru", "coupled", "minimal")]
    net = made(draw(seed, rng, cell=str(rng.choice(able)), hidden=12), rng)
    alive(net, rng)
    share, size = rng.uniform(0.3, 1.0), float(rng.choice([50.0, 300.0, 3000.0]))
    for cell in net.layer.cells:
        off = rng.permutation(12)[: int(np.ceil(share * 12))]
        gate, sign = {"gru": ("z", 1), "lstm": ("i", -1), "peephole": ("i", -1)}.get(
            net.spec.cell, ("h", -1)
        )
        cell.bias_ih.data[12 * cell.gates.index(gate) + off] = sign * size
    return net


def saturated_gates(seed: int, rng: Rng) -> Net:
    """Weights, or biases of any sign, so large that gates are at their ends."""
    able = [name for name in CELLS if name not in ("relu", "irnn", "mingru")]
    net = made(draw(seed, rng, cell=str(rng.choice(able))), rng)
    weights = rng.random() < 0.5
    for cell in net.layer.cells:
        if weights:
            factor = float(rng.uniform(30, 200))
            for p in (cell.weight_ih, cell.weight_hh, cell.bias_ih):
                p.data = factor * p.numpy()
        else:
            signs = rng.choice([-1.0, 1.0], cell.bias_ih.shape)
            if net.spec.cell in KEEPS:  # at the end where nothing is kept
                for gate, keep in KEEPS[net.spec.cell].items():
                    n, k = net.spec.hidden, cell.gates.index(gate)
                    signs[k * n : (k + 1) * n] = -keep
            cell.bias_ih.data = float(rng.uniform(8, 20)) * signs
    return net


def detached(seed: int, rng: Rng) -> Net:
    """scan(truncate=), calls of a layer in windows, a loop by hand that detaches its state."""
    read = str(rng.choice(["truncate", "windows", "loop"]))
    net = made(
        draw(
            seed, rng, task="plain", lengths=False, bidirectional=False,
            steps=int(rng.choice([20, 33, 50])),
            **({"layers": 1} if read != "windows" else {}),
        ),
        rng,
    )  # fmt: skip
    alive(net, rng)
    net.read, net.window = read, int(rng.integers(5, 11))
    net.planted["detached"] = True
    return net


def wrong_mask(seed: int, rng: Rng) -> Net:
    """Padding that the layer is not told of, lengths that are not the rows', outputs of padding."""
    net = made(
        draw(
            seed, rng, task="plain", lengths=True, rows=int(rng.choice([4, 7, 16])), layers=int(
                rng.choice([1, 1, 2])), steps=int(rng.choice([20, 33, 50])), bidirectional=False,
        ),
        rng,
    )  # fmt: skip
    alive(net, rng)
    net.planted["wrong-mask"] = True
    kind = str(rng.choice(["untold", "end", "padded", "shuffled", "short", "inverted"]))
    if kind in ("end", "padded"):
        net.read = kind
    elif kind == "untold":
        net.told = None
        value = rng.choice([0.0, -1.0])
        for b, n in enumerate(net.ends):
            net.xs[n:, b] = value
    elif kind == "shuffled":
        net.told = np.roll(net.ends, 1)
    elif kind == "short":
        net.told = np.maximum(net.ends - int(rng.integers(1, 4)), 1)
    else:
        net.told = ~net.real
        net.planted |= dict.fromkeys(
            ("vanishing", "exploding", "read-too-rarely", "dead-units", "lost-in-depth")
        )
    return net


def lost_in_depth(seed: int, rng: Rng) -> Net:
    """What a layer reads of the one below is multiplied by next to nothing."""
    net = made(draw(seed, rng, layers=int(rng.integers(2, 5)), bidirectional=False,
                    cell=str(rng.choice([c for c in CELLS if c != "layernorm"]))), rng)  # fmt: skip
    alive(net, rng)
    cell = net.layer.cells[int(rng.integers(1, net.spec.layers))]
    cell.weight_ih.data = 10.0 ** rng.uniform(-9, -6) * cell.weight_ih.numpy()
    return net


def nonfinite(seed: int, rng: Rng) -> Net:
    """NaN or Inf in one number of the batch, or of the weights."""
    net = made(draw(seed, rng), rng)
    (alive if rng.random() < 0.5 else dying)(net, rng)
    value = float(rng.choice([np.nan, np.inf, -np.inf]))
    if rng.random() < 0.75:
        b = int(rng.integers(net.spec.rows))
        net.xs[int(rng.integers(net.ends[b])), b, int(rng.integers(net.xs.shape[-1]))] = value
    else:
        cell = net.layer.cells[0]
        cell.weight_ih.data[int(rng.integers(net.spec.hidden)), 0] = np.nan
    return net


def input_scale(seed: int, rng: Rng) -> Net:
    """The batch in other units: 30 to 3,000 times larger, or 1,000 to 100,000 times smaller."""
    net = made(draw(seed, rng), rng)
    (alive if rng.random() < 0.5 else dying)(net, rng)
    net.size = float(10 ** (rng.uniform(1.6, 3.5) if rng.random() < 0.6 else rng.uniform(-5, -3)))
    net.xs = (net.size * net.xs).astype(net.xs.dtype)
    net.planted["input-scale"] = True
    return net


def read_too_rarely(seed: int, rng: Rng) -> Net:
    """A gradient that reaches some steps, under a loss that reads one of very many."""
    net = made(draw(seed, rng, task="plain", steps=int(rng.choice([70, 100, 140])),
                    cell=str(rng.choice(["rnn", "irnn", *GATED])), lengths=False,
                    bidirectional=False, layers=int(rng.choice([1, 2]))), rng)  # fmt: skip
    for cell in net.layer.cells:
        if net.spec.cell in KEEPS:
            gate, sign = next(iter(KEEPS[net.spec.cell].items()))
            let_go(cell, gate, sign * float(rng.uniform(-0.5, 1.0)))
        else:
            init.orthogonal_(cell.weight_hh, float(rng.uniform(0.5, 0.75)), generator=rng)
    net.read = str(rng.choice(["last", "every:70", "all", "every:5"]))
    return net


# -- healthy


def healthy(seed: int, rng: Rng) -> Net:
    net = made(draw(seed, rng), rng)
    alive(net, rng)
    return reading(net, rng)


def healthy_padded(seed: int, rng: Rng) -> Net:
    """Rows of many lengths, told, or each read at its own last step; padding of any value."""
    net = made(draw(seed, rng, task="plain", lengths=True, rows=int(rng.choice([4, 7, 16]))), rng)
    alive(net, rng)
    value = str(rng.choice(["zero", "one value", "noise", "NaN"]))
    if rng.random() < 0.4 and not net.spec.bidirectional:
        net.read = "own"
        if value != "NaN":
            net.told = None if rng.random() < 0.5 else net.told
    elif rng.random() < 0.4 and not net.spec.bidirectional:
        net.read = "all"
    pad = {"zero": 0.0, "one value": -1.0, "NaN": np.nan}
    for b, n in enumerate(net.ends):
        net.xs[n:, b] = pad.get(value, rng.standard_normal(net.xs[n:, b].shape))
    return net


def healthy_inputs(seed: int, rng: Rng) -> Net:
    """Sizes, means and patterns of x that are nothing to worry about."""
    net = made(draw(seed, rng, task="plain", lengths=False, rows=int(rng.choice([4, 7, 16]))), rng)
    alive(net, rng)
    kind = str(rng.choice(["smaller", "larger", "mean", "events", "one-hot", "silence", "sorted"]))
    x, (time, rows) = net.xs, net.xs.shape[:2]
    if kind == "smaller":
        net.xs = 0.2 * x
    elif kind == "larger":
        net.xs = 4.0 * x
    elif kind == "mean":
        net.xs = x + 3.0
    elif kind == "events":  # most steps are zeros, and rows end in zeros of different lengths
        net.xs = np.where(rng.random((time, rows, 1)) < 0.15, x, 0.0)
    elif kind == "one-hot":
        net.xs = np.eye(x.shape[-1])[rng.integers(0, x.shape[-1], (time, rows))]
    elif kind == "silence":  # the end of every row, as long in each
        x[-max(2, time // 4) :] = 0.0
    else:
        net.xs = np.sort(x, axis=0)
    net.xs = np.asarray(net.xs, net.spec.dtype)
    return net


def untrained(seed: int, rng: Rng) -> Net:
    """As the layers' defaults make them."""
    return reading(made(draw(seed, rng), rng), rng)


PLANTS: dict[str, Callable[[int, Rng], Net]] = {
    "vanishing": vanishing, "exploding": exploding, "dead-units": dead_units,
    "saturated-gates": saturated_gates, "detached": detached, "wrong-mask": wrong_mask,
    "lost-in-depth": lost_in_depth, "nonfinite": nonfinite, "rate-too-large": rate_too_large,
    "input-scale": input_scale, "read-too-rarely": read_too_rarely, "healthy": healthy,
    "healthy, padded": healthy_padded, "healthy, other inputs": healthy_inputs,
    "healthy, trained": solved,
    "healthy, small rate": rate_all_right, "untrained": untrained,
}  # fmt: skip
