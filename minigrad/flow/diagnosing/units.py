"""Causes that lie in what units and gates do: NaN and Inf, units that stand still, flat ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..taps import SATURATED
from .cause import Cause
from .reading import counted, inputs, own_values, reads_data

if TYPE_CHECKING:
    from ..layerflow import LayerFlow
    from ..nonfinite import First
    from ..recording import Recording

Array = np.ndarray
DEAD = 0.1  # share of units from which on they are named
FAINT = 1e-6  # of what the unit of a layer that moves most does
STEEPEST = 0.26  # no sigmoid is steeper
FLAT = 0.6  # share of a layer's gates and candidates


def nonfinite(recording: Recording, layers: Sequence[LayerFlow]) -> Iterator[Cause]:
    """The first NaN or Inf: of x, of a state, or else of a gradient; its step, tap and row."""
    began, read = recording.nonfinite, _in_inputs(layers)
    if began is None and read is None:
        return
    if read is not None and (began is None or read[0] <= _when(recording, began)):
        _, layer, row = read
        t, name = int(layer.steps[read[0]]), "x"
        x = inputs(layer)
        assert x is not None
        what = "NaN" if np.isnan(x[t, row]).any() else "Inf"
    else:
        assert began is not None
        layer, t, row, what = recording[began.path], began.t, began.row, began.what
        name = began.tap or f"dL/d{began.state}"
    order = "nearest to the loss" if name[:2] == "dL" else "before any other"
    bad = sum(counts.values for counts in layer.nonfinite.values())
    every = sum(np.size(values) for values in layer.values.values())
    yield Cause(
        "nonfinite",
        layer.path,
        f"{what} in {name} at t = {t}, row {row}, {order}{_weights(layer)}; "
        f"{counted(bad, every, 'tapped values')} of the layer are NaN or Inf",
        float(t),
    )


def _when(recording: Recording, began: First) -> int:
    """The step in order of computation; that of a gradient is after all."""
    steps = recording[began.path].steps.tolist()
    return int(steps.index(began.t)) if began.tap else len(steps)


def _in_inputs(layers: Sequence[LayerFlow]) -> tuple[int, LayerFlow, int] | None:
    """(step in order of computation, layer, row) of the first NaN or Inf that x holds."""
    found = []
    for layer in layers:
        x = inputs(layer) if reads_data(layer) else None
        if x is None or layer.replay is None or np.isfinite(x).all():
            continue
        bad = ~np.isfinite(x).all(axis=2)[layer.replay.order] & layer.replay.real
        if bad.any():
            k = int(np.argmax(bad.any(axis=1)))
            found.append((k, layer, int(np.argmax(bad[k]))))
    return min(found, key=lambda one: one[0], default=None)


def _weights(layer: LayerFlow) -> str:
    """Those that are NaN or Inf themselves."""
    weights = [] if layer.replay is None else layer.replay.weights
    bad = [w.name or "a weight" for w, then in weights if not np.isfinite(then).all()]
    return f" ({', '.join(bad)} has NaN or Inf)" if bad else ""


def dead_units(layers: Sequence[LayerFlow]) -> Iterator[Cause]:
    """Units of a state that no step and no row moves, or by next to nothing beside the others."""
    for layer in layers:
        found = {
            name: _still(layer, name) for name in layer.norms if np.size(layer.values.get(name, ()))
        }
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
    dead, y, bad = layer.dead[name], own_values(layer, name), layer.nonfinite.get(name)
    if len(y) < 2 or not np.isfinite(y).all() or (bad is not None and bad.values):
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
    if not y.size:
        return -1.0
    low = -1.0 if (y < 0).any() or np.nanmax(slope) > STEEPEST else 0.0  # a tanh, or a sigmoid
    y = 2 * (y - low) / (1 - low) - 1  # -1 to 1
    sign = getattr(layer.replay.own_cell, "keeps", {}).get(name, 0) if layer.replay else 0
    flat = np.abs(y) > SATURATED if sign == 0 else -sign * y > SATURATED
    return float(flat.mean())
