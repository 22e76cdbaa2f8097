"""What the causes look at in a recorded layer, in order of computation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...tree import leaves

if TYPE_CHECKING:
    from ..layerflow import LayerFlow

Array = np.ndarray


def real_steps(layer: LayerFlow) -> Array | None:
    """(T, B) of bool, which steps are no padding; None where nothing is masked."""
    replay = layer.replay
    if replay is None or not replay.padded:
        return None
    found: Array = replay.xs[1].numpy()[replay.order]
    return found


def own_values(layer: LayerFlow, name: str) -> Array:
    """A tapped value at the steps that are no padding, (steps and rows, n), in float64."""
    return np.asarray(layer.own_values(name), np.float64)


def inputs(layer: LayerFlow) -> Array | None:
    """x as it was given to the layer, in time, (T, B, I) of floats, with what is in the padding.

    None where that is not known.
    """
    replay = layer.replay
    if replay is None:
        return None
    xs = (replay.cell.given, replay.xs[1]) if replay.padded else replay.xs
    found = leaves(replay.own_input(xs))
    if len(found) != 1 or found[0].dtype.kind != "f" or found[0].ndim < 3:
        return None
    x: Array = found[0].numpy()
    return x.reshape(*x.shape[:2], -1)


def read_at(layer: LayerFlow) -> Array | None:
    """(T, B) of bool: the steps whose output, or final state, something outside reads."""
    replay = layer.replay
    if replay is None or not replay.arrived:
        return None
    found = np.zeros((replay.steps, replay.rows), dtype=bool)
    for g in replay.y_gradients.values():
        found |= (g[replay.order] != 0).reshape(*found.shape, -1).any(axis=2) & replay.real
    for g in replay.final_gradients.values():
        rows = (g != 0).reshape(replay.rows, -1).any(axis=1) & replay.ends_seen
        found[replay.ends[rows], np.flatnonzero(rows)] = True
    return found


def reads_data(layer: LayerFlow) -> bool:
    """Whether it is the lowest of its stack, which reads what comes from outside."""
    parts = layer.path.split("/")
    return not any(p[:1] == "l" and p[1:].isdecimal() and p != "l0" for p in parts)


def counted(n: int, of: int, what: str) -> str:
    """`3 of 8 rows`."""
    return f"{n:,} of {of:,} {what}"
