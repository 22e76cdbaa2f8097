"""Why a gradient travels as it does, in numbers, and what to try.

The reason names what the factor per step is made of: the mean of the gates that keep the state
(dc_t/dc_{t-1} = f, so a product of f), the slope of the activation (at most 1 for tanh, 1/4 for a
sigmoid), the largest singular value of dS_t/dS_{t-1} (below 1 the gradient must shrink; above 1 it
may grow: Pascanu, Mikolov, Bengio 2013), dead units. The advice follows from the verdict and from
what the layer has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import MinigradError
from ..tree import leaves
from .jacobian import jacobians
from .prescribing.case import Case
from .prescribing.changing import LARGE
from .prescribing.known import helpful

if TYPE_CHECKING:
    from .layerflow import LayerFlow
    from .recording import Recording

Array = np.ndarray
SAMPLED = 8  # steps whose Jacobian is looked at
LARGEST = 512  # components of a state for which that is still quick
MANY = 0.5  # share of dead units, or of saturated gates, from which on they are the cause
SHOWN = 2  # remedies that an advice names
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


def causes_of(recording: Recording) -> list[str]:
    """What a recording's verdict comes from, by name, the first first; [] if nothing is wrong."""
    layers = [layer for layer in recording.values() if layer.arrived]
    named = cause_of(layers, recording.verdict.kind)
    return [named] if named else []


def cause_of(layers: Sequence[LayerFlow], kind: str) -> str:
    """The name of what is behind a verdict of this kind on these layers; "" where nothing is."""
    if kind in ("healthy", "undecided", ""):
        return ""
    if kind in ("cut", "none", "broken"):
        return "dead-units" if kind == "cut" and max(map(_dead, layers), default=0) else kind
    if max(map(_dead, layers), default=0) > MANY:
        return "dead-units"
    case = Case.of(layers)
    if max(map(_saturated, layers), default=0) > MANY:
        return "input-scale" if _size(case) > LARGE else "saturated-gates"
    if kind == "vanishing" and case.last_only and all(_memory_is_open(x) for x in layers):
        return "read-too-rarely"
    return "exploding" if kind == "mixed" else kind


def advice(layers: LayerFlow | Sequence[LayerFlow], kind: str) -> str:
    """What to try, for a verdict of this kind; "" where nothing is wrong.

    Remedies are those that helped nets of this cell with this cause (prescribing/known.py), can be
    tried on this one, and are not in use already.
    """
    layers = [layers] if not isinstance(layers, Sequence) else layers
    cause = cause_of(layers, kind)
    if not cause:
        return ""
    if cause in _LOOK_FOR:
        return _LOOK_FOR[cause]
    case = Case.of(layers)
    words = {
        "dead-units": lambda: f"{max(map(_dead, layers)):.0%} of the units of h never move: ",
        "saturated-gates": lambda: f"{max(map(_saturated, layers)):.0%} of gates are saturated: ",
        "input-scale": lambda: (
            f"inputs of size {_size(case):.3g} saturate {max(map(_saturated, layers)):.0%} of "
            f"gates: "
        ),
        "read-too-rarely": lambda: f"the loss reads one of {case.steps} steps: ",
    }.get(cause, lambda: "")()
    found = helpful(case, cause)[:SHOWN]
    tries = "mg.flow.prescribe(model, loss, batches) tries"
    if not found:
        return f"{words}{tries} on this run what may help"
    each = [
        f"{remedy.code(case)} (lowered the loss in {row.lower} of {row.pairs} small runs of {row.cell})"
        for remedy, row in found
    ]
    return f"{words}{', or '.join(each)}; {tries} it on this run"


_LOOK_FOR = {
    "cut": "look for a detach(), a truncate= window, or a padded end before that step",
    "none": "check that the loss reads this layer's output",
    "broken": "run one step inside `with mg.detect_anomaly()`, which names the op and its scope",
}


def _dead(layer: LayerFlow) -> float:
    """The share of units of h that never move."""
    dead = layer.dead.get("h")
    return 0.0 if dead is None or not dead.size else float(dead.mean())


def _saturated(layer: LayerFlow) -> float:
    """The share of gates in the flat ends of their functions."""
    found = [np.mean(a.saturation) for name, a in layer.activations.items()]
    known = [float(x) for x in found if np.isfinite(x)]
    return max(known, default=0.0) if len(known) < 2 else float(np.mean(known))


def _size(case: Case) -> float:
    """The root mean square of what comes from outside."""
    sizes = [float(np.sqrt(np.mean(case.read[i] ** 2))) for i in case.lowest if case.read[i].size]
    return max(sizes, default=0.0)


def _memory_is_open(layer: LayerFlow) -> bool:
    """Whether a gate keeps the state for as long as the sequence is."""
    constants = layer.time_constants.values()
    return any(float(np.median(c)) >= len(layer.steps) / 4 for c in constants)
