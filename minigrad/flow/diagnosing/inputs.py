"""Causes that lie in what a net reads: the size of its inputs, and padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..layerflow import LayerFlow
from ..places import both_directions
from .cause import Cause
from .padding import padding_of, wrong_mask_of
from .reading import inputs, reads_data, real_steps

Array = np.ndarray
LARGE, SMALL = 12.0, 0.03  # of inputs whose size should be about 1


def _lowest(layers: Sequence[LayerFlow]) -> Iterator[tuple[LayerFlow, Array]]:
    """Each layer that reads what comes from outside, one direction of it, and what it reads."""
    seen = set()
    for layer in layers:
        place = both_directions(layer.path)
        if place in seen or not reads_data(layer) or (x := inputs(layer)) is None:
            continue
        seen.add(place)
        yield layer, x


def input_scale(layers: Sequence[LayerFlow]) -> Iterator[Cause]:
    """Inputs of a size far from 1: the largest feature's, or all that varies in a step."""
    for layer, x in _lowest(layers):
        real = real_steps(layer)
        rows = (x.reshape(-1, x.shape[-1]) if real is None else x[real]).astype(np.float64)
        rows = rows[np.isfinite(rows).all(axis=1)]
        if len(rows) < 2:
            continue
        with np.errstate(over="ignore"):
            sizes = np.sqrt(np.mean(rows**2, axis=0))
            spread = float(np.sqrt(np.sum(rows.var(axis=0))))
        i = int(np.argmax(sizes))
        if sizes[i] > LARGE:
            yield Cause(
                "input-scale",
                layer.path,
                f"x has feature {i} of size {sizes[i]:.3g} (root mean square over steps and rows); "
                f"weights and gates are made for inputs of about 1",
                float(sizes[i]),
            )
        elif 0 < spread < SMALL:
            yield Cause(
                "input-scale",
                layer.path,
                f"x varies by {spread:.2g} about its mean (all features together); weights and "
                f"gates are made for inputs of about 1",
                spread,
            )


def wrong_mask(layers: Sequence[LayerFlow]) -> Iterator[Cause]:
    """Padding that is read as if it were data, or data that a mask leaves out."""
    named = set()
    for layer in layers:
        if (found := _read_in_the_padding(layer)) is not None and layer.scope not in named:
            named.add(layer.scope)
            yield found
    for layer, x in _lowest(layers):
        if layer.scope not in named and (found := wrong_mask_of(layer, padding_of(x))) is not None:
            yield found


def _read_in_the_padding(layer: LayerFlow) -> Cause | None:
    """The loss reads outputs of steps that are masked out; they are 0 whatever the weights are."""
    real, replay = real_steps(layer), layer.replay
    if real is None or replay is None:
        return None
    came = np.zeros(real.shape, dtype=bool)
    for g in replay.y_gradients.values():
        came |= (g[replay.order] != 0).reshape(*real.shape, -1).any(axis=2)
    wrong = came & ~real
    if not wrong.any():
        return None
    rows = int(wrong.any(axis=0).sum())
    return Cause(
        "wrong-mask",
        layer.path,
        f"the loss reads {int(wrong.sum()):,} outputs of masked steps, in {rows} of "
        f"{real.shape[1]} rows; they are 0 whatever the weights are, so read the final state, or "
        f"leave them out of the loss",
        rows / real.shape[1],
    )
