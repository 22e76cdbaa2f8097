"""Why a gradient travels as it does, in numbers, and what to try.

The reason names what the factor per step is made of: the mean of the gates that keep the state
(dc_t/dc_{t-1} = f, so a product of f), the slope of the activation (at most 1 for tanh, 1/4 for a
sigmoid), the largest singular value of dS_t/dS_{t-1} (below 1 the gradient must shrink; above 1 it
may grow: Pascanu, Mikolov, Bengio 2013), dead units. The advice follows from the verdict and from
what the layer has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import MinigradError
from ..tree import leaves
from .jacobian import jacobians

if TYPE_CHECKING:
    from .layerflow import LayerFlow

Array = np.ndarray
SAMPLED = 8  # steps whose Jacobian is looked at
LARGEST = 512  # components of a state for which that is still quick
OPEN = 0.9  # a gate that keeps less than this of the state is the first thing to change
_GATES = {"f": "forget gate", "z": "update gate"}


def reason(layer: LayerFlow) -> str:
    """What the gates, the activation and the Jacobian say about the factor per step."""
    parts = [
        f"{words} {np.mean(layer.activations[name].mean):.2f} on average"
        for name, words in _GATES.items()
        if name in layer.activations
    ]
    if "h" in layer.activations and np.isfinite(layer.activations["h"].slope).all():
        parts.append(f"slope of the activation {np.mean(layer.activations['h'].slope):.2f}")
    if (sigma := stretch(layer)) is not None:
        parts.append(f"largest singular value of a step's Jacobian {sigma:.3g}")
    if layer.read_at_many_steps:
        parts.append("of the last output alone, as many are read")
    return ", ".join(parts)


def stretch(layer: LayerFlow) -> float | None:
    """The largest singular value of dS_t/dS_{t-1}: the median of some steps of some rows.

    None where the layer cannot be run again, or where its state is too large to do that in passing.
    """
    replay = layer.replay
    if replay is None or not replay.arrived:
        return None
    size = sum(s[0].size for s in leaves(replay.init))
    if size > LARGEST:
        return None
    places = replay.real_places(SAMPLED, min(SAMPLED, (LARGEST // size) ** 2))
    if not places:
        return None
    init, xs = replay.side_by_side(places)
    try:
        with replay.restored():
            found = jacobians(replay.cell, init, xs).norms()[0]
    except MinigradError:  # a cell that takes no other batch than its own
        return None
    return float(np.median(found[good])) if (good := np.isfinite(found)).any() else None


def advice(layer: LayerFlow, kind: str) -> str:
    """What to try, for a verdict of this kind; "" where nothing is wrong."""
    if kind == "vanishing":
        return _against_vanishing(layer)
    if kind == "exploding":
        more = "" if _gated(layer) else ", an orthogonal weight_hh (mg.nn.init.orthogonal_)"
        return f"clip the gradient (mg.optim.clip_grad_norm_(params, 1.0)){more}, a smaller rate"
    if kind == "mixed":
        return "clip the gradient; normalise inside the cell (mg.nn.LayerNormLSTMCell)"
    if kind == "cut":
        dead = layer.dead.get("h")
        if dead is not None and dead.any():
            return (
                f"{int(dead.sum())} of {dead.size} units of h never move: smaller weights or rate"
            )
        return "look for a detach(), a truncate= window, or a padded end before that step"
    if kind == "broken":
        return "run one step inside `with mg.detect_anomaly()`, which names the op and its scope"
    if kind == "none":
        return "check that the loss reads this layer's output"
    return ""


def _against_vanishing(layer: LayerFlow) -> str:
    steps = len(layer.steps)
    if "f" in layer.keeps and np.mean(layer.activations["f"].mean) < OPEN:
        return (
            f"open the forget gate: mg.nn.init.forget_bias_(layer, 1.0), or chrono_(layer, {steps})"
            f" for memories of up to {steps} steps"
        )
    if "z" in layer.keeps:
        return f"let the update gate keep more: mg.nn.init.chrono_(layer, {steps})"
    if _gated(layer):
        return "a loss at more steps than the last, attention over them, or shorter sequences"
    return (
        "a gated cell (mg.nn.LSTM, mg.nn.GRU), or an orthogonal weight_hh (mg.nn.init.orthogonal_)"
    )


def _gated(layer: LayerFlow) -> bool:
    return any(name in layer.activations for name in _GATES)
