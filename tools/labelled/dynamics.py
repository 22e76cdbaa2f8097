"""Weights under which a gradient lives, dies or grows on its way back through time."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad.nn import init

from .equations import KEEPS
from .nets import Net


def alive(net: Net, rng: np.random.Generator) -> None:
    """Weights under which a gradient lives: orthogonal or the identity, gates that keep."""
    spec = net.spec
    for cell in net.layer.cells:
        if spec.cell in KEEPS:
            init.chrono_(cell, float(rng.uniform(4, 40)) * max(spec.steps, 20), rng)
        elif spec.cell == "rnn":
            init.orthogonal_(cell.weight_hh, generator=rng)
            init.normal_(cell.weight_ih, float(rng.uniform(0.02, 0.05)), rng)
            zero_biases(cell)
        else:
            init.identity_(cell.weight_hh)
            init.normal_(cell.weight_ih, float(rng.uniform(0.01, 0.03)), rng)
            zero_biases(cell)
            cell.bias_ih.data = np.full(cell.bias_ih.shape, rng.uniform(0.05, 0.2))


def dying(net: Net, rng: np.random.Generator) -> None:
    """Weights under which it dies: contractions, and gates that let go."""
    for cell in net.layer.cells:
        if net.spec.cell in KEEPS:
            gate, sign = next(iter(KEEPS[net.spec.cell].items()))
            let_go(cell, gate, -sign * float(rng.uniform(0.0, 2.0)))
        else:
            init.orthogonal_(cell.weight_hh, float(rng.uniform(0.3, 0.6)), generator=rng)


def growing(net: Net, rng: np.random.Generator) -> None:
    """Weights under which it grows, as long as the state is small."""
    gain = {"rnn": 1.0, "lstm": 4.0, "peephole": 4.0, "coupled": 4.0, "gru": 3.0, "minimal": 2.0}
    for k, cell in enumerate(net.layer.cells):
        zero_biases(cell)
        if net.spec.cell in ("relu", "irnn"):
            init.identity_(cell.weight_hh, float(rng.uniform(1.6, 2.2)))
            cell.bias_ih.data = np.full(cell.bias_ih.shape, 0.1)
            continue
        scale = gain[net.spec.cell] * float(rng.uniform(1.8, 2.6))
        init.orthogonal_(cell.weight_hh, scale, gates=len(cell.gates), generator=rng)
        init.normal_(cell.weight_ih, 1e-7 if k < net.layer.num_directions else 0.1, rng)


def let_go(cell: Any, gate: str, bias: float) -> None:
    """Sets the bias of one gate."""
    n = cell.hidden_size
    at = slice(cell.gates.index(gate) * n, (cell.gates.index(gate) + 1) * n)
    cell.bias_ih.data[at] = bias
    if getattr(cell, "bias_hh", None) is not None:
        cell.bias_hh.data[at] = 0.0


def zero_biases(cell: Any) -> None:
    for name in ("bias_ih", "bias_hh"):
        if getattr(cell, name, None) is not None:
            init.constant_(getattr(cell, name))
