"""What is true of a net, computed in NumPy from its weights and its batch: no minigrad in here.

One direction of a stack: layer 0 reads x, each layer the h of the one below. Jacobians of a step by
complex steps, and their products by the chain rule, give dL/dS_t of every lag, with S the states of
all layers together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .equations import KEEPS, STATES, STEPS, Weights

Array = np.ndarray
H = 1e-30  # of a complex step
FLAT = np.log(0.975 / 0.025)  # of a sigmoid; half of it of a tanh: a tenth of the largest slope


@dataclass
class Stack:
    """cell: a key of STEPS. layers: the weights of each. hidden: size of h."""

    cell: str
    layers: list[Weights]
    hidden: int

    @property
    def size(self) -> int:
        """Of one layer's state."""
        return self.hidden * len(STATES[self.cell])

    def step(self, layer: int, state: Array, x: Array) -> tuple[Array, dict[str, Array]]:
        """(state (..., size), x (..., I)) -> (the next state, what its gates are functions of)."""
        names = STATES[self.cell]
        parts = dict(zip(names, np.split(state, len(names), axis=-1)))
        new, gates = STEPS[self.cell](self.layers[layer], parts, x)
        return np.concatenate([new[name] for name in names], axis=-1), gates

    def forward(self, x: Array) -> tuple[list[Array], list[dict[str, Array]]]:
        """x (T, B, I) -> for each layer the states (T + 1, B, size), and gates (T, B, hidden)."""
        states, gates = [], []
        for layer in range(len(self.layers)):
            s = [np.zeros((x.shape[1], self.size))]
            found: list[dict[str, Array]] = []
            for x_t in x:
                new, g = self.step(layer, s[-1], x_t)
                s.append(new)
                found.append(g)
            states.append(np.stack(s))
            gates.append({n: np.stack([g[n] for g in found]) for n in found[0]})
            x = states[-1][1:, :, : self.hidden]
        return states, gates

    def jacobian(self, layer: int, state: Array, x: Array) -> Array:
        """(B, size), (B, I) -> d(next state) / d(state, x): (B, size, size + I)."""
        n, both = state.shape[1], np.concatenate([state, x], axis=1).astype(complex)
        eye = 1j * H * np.eye(both.shape[1])
        moved = both[:, None, :] + eye
        new, _ = self.step(layer, moved[..., :n], moved[..., n:])
        return np.swapaxes(new.imag / H, 1, 2)


@dataclass
class Flow:
    """share: |dL/dS| k steps back over that at the last step, (lags,), over the rows that are so
    long. depth: what arrives at the h of each layer, lowest first.
    """

    share: Array
    depth: Array


def flow(stack: Stack, x: Array, ends: Array, dy: Array) -> Flow:
    """dy (B, hidden): dL/dh at the last step of each row, after its `ends` steps."""
    states, _ = stack.forward(x)
    n, layers, rows = stack.size, len(stack.layers), x.shape[1]
    below = [x, *(s[1:, :, : stack.hidden] for s in states[:-1])]
    carried = [np.zeros((rows, n)) for _ in range(layers)]
    arrived = np.zeros(layers)
    norms = np.full((int(ends.max()), rows), np.nan)
    norms[0] = np.sqrt(np.sum(np.square(dy), axis=1))
    for t in reversed(range(int(ends.max()))):
        here = (t < ends)[:, None]
        dh = np.where((t == ends - 1)[:, None], dy, 0.0)
        for layer in reversed(range(layers)):
            arrived[layer] += float(np.sum(np.square(dh)))
            g = carried[layer].copy()
            g[:, : stack.hidden] += dh
            jacobian = stack.jacobian(layer, states[layer][t], below[layer][t])
            back = np.einsum("bij,bi->bj", jacobian, g) * here
            carried[layer], dh = back[:, :n], back[:, n:]
        size = np.sqrt(sum(np.sum(np.square(c), axis=1) for c in carried))
        lag = ends - t
        for b in np.flatnonzero((t < ends) & (t > 0)):  # before t = 0 nothing is carried
            norms[lag[b], b] = size[b]
    there = np.isfinite(norms)
    first = np.sqrt(np.sum(np.where(there, norms[0], 0.0) ** 2, axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.sqrt(np.sum(np.where(there, norms, 0.0) ** 2, axis=1)) / first
    return Flow(share, np.sqrt(arrived))


def dead(stack: Stack, x: Array) -> float:
    """The largest share, over layers, of units of h that x moves by less than a thousandth of their
    size, by less than a millionth of what others move, or by less than the rounding of 1.
    """
    found = []
    for s in stack.forward(x)[0]:
        h = s[1:, :, : stack.hidden].reshape(-1, stack.hidden)
        moved = h.max(axis=0) - h.min(axis=0)
        still = (moved <= 1e-3 * np.abs(h).max(axis=0)) | (moved <= 1e-6 * moved.max())
        found.append(np.mean(still | (moved < 2.2e-16)))
    return float(max(found))


def saturated(stack: Stack, x: Array, real: Array) -> float:
    """The largest share, over layers, of gates and candidates in flat ends, but where they keep."""
    found = []
    for gates in stack.forward(x)[1]:
        each = []
        for name, a in gates.items():
            tanh = name in ("h", "g", "n")
            a = a[real] * (2.0 if tanh else 1.0)
            sign = KEEPS.get(stack.cell, {}).get(name, 0)
            each.append(np.mean(np.abs(a) > FLAT if sign == 0 else -sign * a > FLAT))
        found.append(np.mean(each) if each else 0.0)
    return float(max(found))


def first_nonfinite(stack: Stack, x: Array, real: Array) -> tuple[int, int] | None:
    """(t, row) of the first NaN or Inf, of x or of any layer's state or gates; None without one."""
    with np.errstate(all="ignore"):
        states, gates = stack.forward(x)
    every = [x, *(s[1:] for s in states), *(a for layer in gates for a in layer.values())]
    bad = np.any([~np.isfinite(values).all(axis=-1) for values in every], axis=0) & real
    if not bad.any():
        return None
    t = int(np.argmax(bad.any(axis=1)))
    return t, int(np.argmax(bad[t]))
