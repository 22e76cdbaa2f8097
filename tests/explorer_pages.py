"""Recordings made up for tests of the explorer: any shape, no training, no compiled layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minigrad.flow import Activation, LayerFlow, Verdict, judge
from minigrad.flow.cuts import Cut, Depth

Array = np.ndarray
GATES = {"rnn": (), "lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n")}
STATES = {"rnn": ("h",), "lstm": ("h", "c"), "gru": ("h",)}


class Shown(dict[str, LayerFlow]):
    """path -> layer, with |dL/dx|, cuts and depth as a Recording has them.

    A cut for each direction, of all states of all layers: the gradients that the layers hold, put
    together. summed: what its sum is, times the profile. judged: a verdict in place of its own.
    """

    inputs: Array | None = None
    depth: Sequence[Depth] = ()
    summed = 1.0
    judged: Verdict | None = None

    @property
    def cuts(self) -> list[Cut]:
        found = []
        for reverse in (False, True):
            layers = [layer for layer in self.values() if layer.reverse == reverse]
            if any((n != 0).any() for layer in layers for n in layer.norms.values()):
                found.append(self._cut(layers))
        return found

    def _cut(self, layers: Sequence[LayerFlow]) -> Cut:
        labels = [(layer.path, name) for layer in layers for name in layer.norms]
        rows = np.stack([layer.per_sample[name] for layer in layers for name in layer.norms])
        reached = int(np.flatnonzero((rows != 0).any(axis=(0, 2)))[-1])
        by_lag = rows[:, : reached + 1][:, ::-1]  # (labels, lags, B)
        per_sample = norm(np.moveaxis(by_lag, 0, -1))  # (lags, B)
        profile = norm(per_sample)
        with np.errstate(invalid="ignore"):
            shares = (norm(by_lag) / profile).T ** 2
        side = "rev" if layers[0].reverse else "fwd"
        return Cut(
            name=side,
            paths=[layer.path for layer in layers],
            labels=labels,
            profile=profile,
            summed=self.summed * profile,
            per_sample=per_sample,
            shares=shares,
            judged=self.judged or judge(profile),
        )


def layer(
    path: str,
    steps: Sequence[int],
    states: Sequence[str] = ("h",),
    gates: Sequence[str] = (),
    units: int = 5,
    batch: int = 2,
    decay: float = 0.5,
    source: int | None = None,
    seed: int = 0,
) -> LayerFlow:
    """A layer whose gradient enters at entry `source` (the last) and decays by a factor a step."""
    rng = np.random.default_rng(seed)
    count = len(steps)
    source = count - 1 if source is None else source
    lags = source - np.arange(count)
    size = np.where(lags >= 0, decay ** np.maximum(lags, 0).astype(float), 0.0)
    shape = (count, batch, units)
    gradients = {name: size[:, None, None] * rng.standard_normal(shape) for name in states}
    values = {name: rng.random(shape) for name in gates}
    values |= {name: np.tanh(rng.standard_normal(shape)) for name in states}
    return of_arrays(path, steps, values, gradients)


def of_arrays(
    path: str, steps: Sequence[int], values: dict[str, Array], gradients: dict[str, Array]
) -> LayerFlow:
    """A layer that holds these values and gradients, (T, B, n) each."""
    with np.errstate(invalid="ignore"):
        per_sample = {name: norm(g) for name, g in gradients.items()}
        norms = {name: norm(x) for name, x in per_sample.items()}
        flat = np.full(len(steps), np.nan)
        activations = {n: Activation(v.mean(axis=(1, 2)), flat, flat) for n, v in values.items()}
    return LayerFlow(
        path=path,
        steps=np.array(steps, dtype=np.int64),
        norms=norms,
        per_sample=per_sample,
        activations=activations,
        values=values,
        heard=gradients,
    )


def norm(x: Array) -> Array:
    """Over the last axis; hypot neither underflows nor overflows."""
    return np.hypot.reduce(x, axis=-1)


def network(kind: str, steps: int = 9, units: int = 5, batch: int = 2, **more: float) -> Shown:
    """An "rnn", "lstm" or "gru" of that many steps, or the two directions of a "bilstm" around a
    gap.
    """
    decay = more.get("decay", 0.6)
    if kind == "bilstm":
        width = 2 * steps + 1
        options = dict(units=units, batch=batch, source=steps - 1, decay=decay)
        parts = {"states": STATES["lstm"], "gates": GATES["lstm"]}
        forth = layer("bilstm/l0/fwd", range(width), **parts, **options, seed=1)
        back = layer("bilstm/l0/rev", range(width)[::-1], **parts, **options, seed=2)
        found = Shown({forth.path: forth, back.path: back})
        found.inputs = np.tile(np.geomspace(1e-6, 1.0, width)[:, None], (1, batch))
        return found
    options = dict(units=units, batch=batch, decay=decay)
    only = layer(f"{kind}/l0/fwd", range(steps), STATES[kind], GATES[kind], **options, seed=3)
    found = Shown({only.path: only})
    found.inputs = np.tile(np.geomspace(1e-6, 1.0, steps)[:, None], (1, batch))
    return found


def default_run(steps: int = 100, units: int = 64, batch: int = 16) -> dict[str, dict[str, Shown]]:
    """What `minigrad flow` records by default: four cells, before and after training."""
    cells = {"RNN": "rnn", "LSTM": "lstm", "GRU": "gru", "BiLSTM": "bilstm"}
    moments = {"before training": 0.5, "after 200 updates": 0.8}
    return {
        name: {
            when: network(kind, steps, units, batch, decay=decay) for when, decay in moments.items()
        }
        for name, kind in cells.items()
    }
