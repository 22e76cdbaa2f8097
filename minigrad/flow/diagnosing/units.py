"""Causes that lie in what units and gates do: NaN and Inf, units that stand still, flat ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..layerflow import LayerFlow
from ..taps import SATURATED
from .cause import Cause
from .reading import counted, inputs, own_values, reads_data, real_steps

Array = np.ndarray
DEAD = 0.1  # share of units from which on they are named
FAINT = 1e-6  # of what the unit of a layer that moves most does
STEEPEST = 0.26  # no sigmoid is steeper
FLAT = 0.6  # share of a layer's gates and candidates


def nonfinite(layers: Sequence[LayerFlow]) -> Iterator[Cause]:
    """The first NaN or Inf: step, tap and row; of the values, else of the gradients."""
    for layer in layers:
        if (found := _first_value(layer)) is not None:
            yield found
            return
    for layer in reversed(layers):
        if (found := _first_gradient(layer)) is not None:
            yield found
            return


class Bad(NamedTuple):
    """The first value of one kind that is NaN or Inf: step in order of computation, row, name."""

    k: int
    row: int
    name: str
    what: str
    order: int


def _first_value(layer: LayerFlow) -> Cause | None:
    found: list[Bad] = []
    x, replay = inputs(layer) if reads_data(layer) else None, layer.replay
    if x is not None and replay is not None and not np.isfinite(x).all():
        real = real_steps(layer)
        x = x[replay.order] if real is None else np.where(real[..., None], x[replay.order], 0.0)
        found += _bad("x", x, 0)
    counts = {name: n.values for name, n in layer.nonfinite.items() if n.values}
    for order, name in enumerate(counts):
        found += _bad(name, layer.values[name], 1 + order)
    if not found:
        return None
    first = min(found, key=lambda bad: (bad.k, bad.order))
    t = int(layer.steps[first.k])
    return Cause(
        "nonfinite",
        layer.path,
        f"{first.what} in {first.name} at t = {t}, row {first.row}, before any other"
        f"{_brought_by(layer)}; {counted(sum(counts.values()), _size(layer), 'tapped values')} of "
        f"the layer are NaN or Inf",
        float(t),
    )


def _bad(name: str, values: Array, order: int) -> Iterator[Bad]:
    bad = ~np.isfinite(values).all(axis=-1)  # (T, B)
    if bad.any():
        k = int(np.argmax(bad.any(axis=1)))
        row = int(np.argmax(bad[k]))
        there = values[k, row]
        what = "NaN" if np.isnan(there).any() else "Inf"
        yield Bad(k, row, name, what, order)


def _brought_by(layer: LayerFlow) -> str:
    """The weights that are NaN or Inf."""
    weights = [] if layer.replay is None else layer.replay.weights
    bad = [w.name or "a weight" for w, then in weights if not np.isfinite(then).all()]
    return f" ({', '.join(bad)} has NaN or Inf)" if bad else ""


def _size(layer: LayerFlow) -> int:
    return sum(np.size(values) for values in layer.values.values())


def _first_gradient(layer: LayerFlow) -> Cause | None:
    """Counted from the loss: the last step in order of computation."""
    for name, norms in layer.per_sample.items():
        bad = ~np.isfinite(norms)
        if bad.any():
            k = len(bad) - 1 - int(np.argmax(bad.any(axis=1)[::-1]))
            t, row = int(layer.steps[k]), int(np.argmax(bad[k]))
            what = "NaN" if np.isnan(norms[k, row]) else "Inf"
            return Cause(
                "nonfinite",
                layer.path,
                f"{what} in dL/d{name} at t = {t}, row {row}, nearest to the loss; all values are "
                f"finite",
                float(t),
            )
    return None


def dead_units(layers: Sequence[LayerFlow]) -> Iterator[Cause]:
    """Units of a state that no step and no row moves, or by next to nothing beside the others."""
    for layer in layers:
        found = {name: _still(layer, name) for name in layer.norms if layer.values[name].size}
        name = max(found, key=lambda n: found[n].mean(), default="")
        if not name or (share := float(found[name].mean())) < DEAD:
            continue
        yield Cause(
            "dead-units",
            layer.path,
            f"{counted(int(found[name].sum()), found[name].size, f'units of {name}')} do not move "
            f"over {len(layer.steps)} steps",
            share,
        )


def _still(layer: LayerFlow, name: str) -> Array:
    dead, y = layer.dead[name], own_values(layer, name)
    if len(y) < 2 or layer.nonfinite[name].values:
        return dead
    moved = y.max(axis=0) - y.min(axis=0)
    return dead | (moved <= max(FAINT * float(moved.max()), float(np.finfo(np.float64).eps)))


def saturated_gates(layers: Sequence[LayerFlow]) -> Iterator[Cause]:
    """Gates and candidates whose function is flat where they are.

    A gate that keeps the state is not held against the net where it keeps; in a loop written by
    hand, where that end is not known, a gate called f, i or z is left out.
    """
    for layer in layers:
        shares = {name: flat for name in layer.activations if (flat := _flat(layer, name)) >= 0}
        share = float(np.mean(list(shares.values()))) if shares else 0.0
        if share < FLAT:
            continue
        each = ", ".join(f"{name} {flat:.0%}" for name, flat in shares.items())
        yield Cause(
            "saturated-gates",
            layer.path,
            f"{share:.0%} of gates and candidates are where their function has less than a tenth "
            f"of its largest slope ({each})",
            share,
        )


def _flat(layer: LayerFlow, name: str) -> float:
    """The share of a gate in its flat ends; -1 of what no sigmoid or tanh made."""
    slope = layer.activations[name].slope
    if not np.isfinite(slope).any() or (layer.replay is None and name in ("f", "i", "z")):
        return -1.0
    y = own_values(layer, name)
    low = -1.0 if (y < 0).any() or np.nanmax(slope) > STEEPEST else 0.0  # a tanh, or a sigmoid
    y = 2 * (y - low) / (1 - low) - 1  # -1 to 1
    sign = getattr(layer.replay.own_cell, "keeps", {}).get(name, 0) if layer.replay else 0
    flat = np.abs(y) > SATURATED if sign == 0 else -sign * y > SATURATED
    return float(flat.mean())
