"""How often does the 95 % interval of the factor per step hold what it is an interval of?

    python tools/intervals.py                    # all of the table: minutes
    python tools/intervals.py "rnn, 8 units"     # some of its rows
    python tools/intervals.py --reach            # the other table, of extrapolated reaches
    python tools/intervals.py --seed 7           # other networks

Random networks with random inputs: RNN, LSTM and GRU as in mg.nn, 200 of each kind. For each the
loss <w, h_T> sends a gradient back over T steps, and `mg.flow.fit_decay` gives an interval for the
factor per step. It should hold e^lambda_1, the factor of an endless sequence of such inputs, in 95
of 100 networks. lambda_1 is measured on 8 sequences of 3000 steps, by a tangent vector sent forward
(Benettin et al. 1980), and what is uncertain about it is taken into account; nothing here is
computed with minigrad but the interval.

--reach: each sequence is cut off after a few lags, and the reach that `mg.flow.judge` extrapolates
from them is held against the one that the whole sequence shows. Prints the tables of
tools/docs/source/verdicts.md.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minigrad.flow import fit_decay, judge

Array = np.ndarray
State = tuple[Array, ...]  # of all networks at once, each (networks, rows, H)
STEPS = (50, 100, 200, 400)
ROWS = (1, 4)
SEEN, WHOLE = (5, 8, 12, 20, 40, 80), 500  # lags to extrapolate from, and to be seen
LONG, WARMUP, MANY = 3000, 300, 8  # steps and sequences by which lambda_1 is measured


def sigmoid(x: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))


@dataclass
class Networks:
    """Many networks of one kind: the step, and products with its Jacobian from both sides.

    weight_ih (networks, I, gates H), weight_hh (networks, H, gates H), biases (networks, 1, gates
    H); gates in the order of torch.nn: i f g o, r z n.
    """

    cell: str
    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array
    inputs: float = 1.0  # standard deviation

    @classmethod
    def drawn(
        cls, rng: np.random.Generator, cell: str, count: int = 200, hidden: int = 16,
        features: int = 4, gain: float = 1.0, bias: float = 0.0, inputs: float = 1.0,
    ) -> Networks:  # fmt: skip
        """As mg.nn begins; gain: of weight_hh; bias: more for the gate that keeps the state."""
        gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
        bound = 1 / math.sqrt(hidden)

        def uniform(*shape: int) -> Array:
            return rng.uniform(-bound, bound, (count, *shape, gates * hidden))

        found = cls(cell, uniform(features), gain * uniform(hidden), uniform(1), uniform(1), inputs)
        if gates > 1:
            found.bias_ih[..., hidden : 2 * hidden] += bias
        return found

    @property
    def hidden(self) -> int:
        return self.weight_hh.shape[1]

    def zeros(self, rows: int) -> State:
        shape = (len(self.weight_hh), rows, self.hidden)
        return tuple(np.zeros(shape) for _ in range(2 if self.cell == "lstm" else 1))

    def draw(self, rng: np.random.Generator, rows: int) -> Array:
        return self.inputs * rng.standard_normal(
            (len(self.weight_ih), rows, self.weight_ih.shape[1])
        )

    def step(self, s: State, x: Array) -> tuple[State, State]:
        """The next state, and what its derivatives are made of."""
        a, u = x @ self.weight_ih + self.bias_ih, s[0] @ self.weight_hh + self.bias_hh
        if self.cell == "rnn":
            h = np.tanh(a + u)
            return (h,), (h,)
        if self.cell == "lstm":
            i, f, g, o = np.split(a + u, 4, axis=-1)
            i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
            c = f * s[1] + i * g
            t = np.tanh(c)
            return (o * t, c), (s[1], i, f, g, o, t)
        (ar, az, an), (ur, uz, un) = np.split(a, 3, axis=-1), np.split(u, 3, axis=-1)
        r, z = sigmoid(ar + ur), sigmoid(az + uz)
        n = np.tanh(an + r * un)
        return (z * s[0] + (1 - z) * n,), (s[0], r, z, un, n)

    def forward(self, v: State, made: State) -> State:
        """J v: a perturbation of the state, a step later."""
        u = v[0] @ self.weight_hh
        if self.cell == "rnn":
            return ((1 - made[0] ** 2) * u,)
        if self.cell == "lstm":
            c, i, f, g, o, t = made
            ui, uf, ug, uo = np.split(u, 4, axis=-1)
            vc = f * v[1] + c * f * (1 - f) * uf + g * i * (1 - i) * ui + i * (1 - g * g) * ug
            return o * (1 - t * t) * vc + t * o * (1 - o) * uo, vc
        h, r, z, hn, n = made
        ur, uz, un = np.split(u, 3, axis=-1)
        vn = (1 - n * n) * (hn * r * (1 - r) * ur + r * un)
        return (z * v[0] + (h - n) * z * (1 - z) * uz + (1 - z) * vn,)

    def back(self, g: State, made: State) -> State:
        """J^T g: a gradient at the state, a step earlier."""
        back = np.swapaxes(self.weight_hh, 1, 2)
        if self.cell == "rnn":
            return ((g[0] * (1 - made[0] ** 2)) @ back,)
        if self.cell == "lstm":
            c, i, f, n, o, t = made
            gc = g[1] + g[0] * o * (1 - t * t)
            parts = [gc * n * i * (1 - i), gc * c * f * (1 - f), gc * i * (1 - n * n)]
            parts.append(g[0] * t * o * (1 - o))
            return np.concatenate(parts, axis=-1) @ back, f * gc
        h, r, z, hn, n = made
        gn = g[0] * (1 - z) * (1 - n * n)
        parts = [gn * hn * r * (1 - r), g[0] * (h - n) * z * (1 - z), gn * r]
        return (np.concatenate(parts, axis=-1) @ back + g[0] * z,)


def size(state: State) -> Array:
    """(networks, rows), the norm over all parts of a state."""
    return np.asarray(np.sqrt(sum((part * part).sum(axis=-1) for part in state)))


def exponents(nets: Networks, rng: np.random.Generator) -> tuple[Array, Array]:
    """lambda_1 of each network, and its standard error."""
    s = nets.zeros(MANY)
    v: State = tuple(rng.standard_normal(part.shape) for part in s)
    logs = []
    for _ in range(LONG):
        s, made = nets.step(s, nets.draw(rng, MANY))
        v = nets.forward(v, made)
        grown = size(v)
        v = tuple(part / grown[..., None] for part in v)
        logs.append(np.log(grown))
    parts = np.array_split(np.array(logs[WARMUP:]), 10)
    means = np.concatenate([part.mean(axis=0) for part in parts], axis=1)  # (networks, 10 MANY)
    return means.mean(axis=1), means.std(axis=1, ddof=1) / math.sqrt(means.shape[1])


def profiles(nets: Networks, rng: np.random.Generator, steps: int, rows: int) -> Array:
    """log |dL/dS_t| of each row by lag, (steps + 1, networks, rows), for L = <w, h_T>."""
    s = nets.zeros(rows)
    taken = []
    for _ in range(steps):
        s, made = nets.step(s, nets.draw(rng, rows))
        taken.append(made)
    loss = rng.standard_normal(s[0].shape)
    g: State = (loss, *(np.zeros_like(part) for part in s[1:]))  # the loss reads h
    logs = [np.log(size(g))]
    for made in reversed(taken):
        scale = size(g)[..., None]
        g = nets.back(tuple(part / scale for part in g), made)
        logs.append(logs[-1] + np.log(size(g)))
    return np.array(logs)


class Row(NamedTuple):
    """covered, of 100; width: the median of log(high / low); changing: of 100, not steady."""

    covered: float
    width: float
    changing: float


def covered(logs: Array, truth: Array, error: Array) -> Row:
    """logs (lags, networks, rows): how many intervals hold the truth."""
    held, widths, changing = [], [], []
    for k in range(logs.shape[1]):
        rows = np.exp(logs[:, k] - logs[0, k].max())
        fit = fit_decay(np.linalg.norm(rows, axis=1), rows=rows)
        assert fit is not None
        below, above = math.log(fit.rate / fit.low), math.log(fit.high / fit.rate)
        off = truth[k] - math.log(fit.rate)
        held.append(-math.hypot(below, 2 * error[k]) <= off <= math.hypot(above, 2 * error[k]))
        widths.append(below + above)
        changing.append(fit.shape != "steady")
    return Row(100 * float(np.mean(held)), float(np.median(widths)), 100 * float(np.mean(changing)))


KINDS: dict[str, dict[str, Any]] = {
    f"{cell}, {n} unit{'s' * (n > 1)}": {"cell": cell, "hidden": n}
    for n in (8, 1, 32)
    for cell in ("rnn", "lstm", "gru")
} | {
    "rnn, 16 units, W x 2": {"cell": "rnn", "gain": 2.0},
    "rnn, 32 units, W x 4: chaos": {"cell": "rnn", "hidden": 32, "gain": 4.0},
    "lstm, 16 units, W x 6": {"cell": "lstm", "gain": 6.0},
    "gru, 16 units, W x 6": {"cell": "gru", "gain": 6.0},
    "lstm, 16 units, forget bias 2": {"cell": "lstm", "bias": 2.0},
    "gru, 16 units, update bias 2": {"cell": "gru", "bias": 2.0},
}


def measured(
    name: str, seed: int = 0, steps: Iterable[int] = STEPS, rows: Iterable[int] = ROWS
) -> Iterator[tuple[float, int, int, Row]]:
    """(mean of lambda_1, steps, rows, what was found) of a kind of network."""
    rng = np.random.default_rng([seed, *name.encode()])
    nets = Networks.drawn(rng, **KINDS[name])
    truth, error = exponents(nets, rng)
    rows = tuple(rows)
    for count in steps:
        logs = profiles(nets, rng, count, max(rows))
        for many in rows:
            yield float(truth.mean()), count, many, covered(logs[..., :many], truth, error)


class Foreseen(NamedTuple):
    """Of so many reaches that were extrapolated, how many of 100 intervals held the later one;
    wrong: how many of 100 verdicts were healthy where it is under 20 steps, or vanishing where it
    is not.
    """

    extrapolated: int
    held: float
    wrong: float


def foreseen(name: str, seed: int = 0, rows: int = 4) -> tuple[float, list[Foreseen]]:
    """The median of the reaches that are seen, and what was told of them after SEEN lags."""
    rng = np.random.default_rng([seed, *name.encode()])
    nets = Networks.drawn(rng, **KINDS[name])
    logs = profiles(nets, rng, WHOLE, rows)
    norms = np.sqrt(np.exp(2 * (logs - logs[0].max(axis=-1, keepdims=True))).sum(axis=-1))
    whole = [judge(column) for column in norms.T]
    seen = [k for k, verdict in enumerate(whole) if not verdict.extrapolated]
    found = []
    for lags in SEEN:
        told = [(judge(norms[: lags + 1, k]), whole[k].reach) for k in seen]
        held = [v.reach_low <= reach <= v.reach_high for v, reach in told if v.extrapolated]
        wrong = [
            v.kind == ("healthy" if reach < 20 else "vanishing") and v.extrapolated
            for v, reach in told
        ]
        share = 100 * float(np.mean(held)) if held else math.nan
        found.append(Foreseen(len(held), share, 100 * float(np.mean(wrong)) if wrong else math.nan))
    return float(np.median([v.reach for v in whole])), found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="kind", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reach", action="store_true", help="the table of extrapolated reaches")
    given = parser.parse_args(arguments)
    if unknown := set(given.kinds) - set(KINDS):
        parser.error(f"no kind {', '.join(unknown)}; there are {', '.join(KINDS)}")
    kinds = given.kinds or list(KINDS)
    if given.reach:
        print("| networks | reach | " + " | ".join(f"from {t} steps" for t in SEEN) + " |")
        print("|---|---|" + "---|" * len(SEEN))
        for name in kinds:
            reach, after = foreseen(name, given.seed)
            held = [f"{f.held:.0f} of {f.extrapolated}" if f.extrapolated else "-" for f in after]
            cells = [f"{told}; {f.wrong:.0f}" for told, f in zip(held, after, strict=True)]
            print(f"| {name} | {reach:.0f} | " + " | ".join(cells) + " |", flush=True)
        return
    heads = [f"T = {t}, B = {b}" for t in STEPS for b in ROWS]
    print("| networks | e^lambda_1 | " + " | ".join(heads) + " |")
    print("|---|---|" + "---|" * len(heads))
    for name in kinds:
        found = list(measured(name, given.seed))
        row = [f"{x.covered:.1f}" for *_, x in found]
        print(f"| {name} | {math.exp(found[0][0]):.3g} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
