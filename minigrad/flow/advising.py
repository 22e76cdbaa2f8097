"""Why a gradient travels as it does, in numbers, and what to try.

The reason names what the factor per step is made of: the mean of the gates that keep the state
(dc_t/dc_{t-1} = f, so a product of f), the slope of the activation (at most 1 for tanh, 1/4 for a
sigmoid), the largest singular value of dS_t/dS_{t-1} (below 1 the gradient must shrink; above 1 it
may grow: Pascanu, Mikolov, Bengio 2013), dead units. The advice follows from the verdict and from
what the layer has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ..errors import MinigradError
from ..tree import leaves
from .diagnosing.cause import Cause
from .diagnosing.inputs import input_scale
from .diagnosing.units import dead_units, saturated_gates
from .jacobian import jacobians
from .prescribing.case import Case
from .prescribing.known import helpful

if TYPE_CHECKING:
    from .layerflow import LayerFlow

SAMPLED = 8  # steps whose Jacobian is looked at
LARGEST = 512  # components of a state for which that is still quick
SHOWN = 2  # remedies that an advice names
_GATES = {"f": "forget gate", "z": "update gate"}


def reason(layer: LayerFlow) -> str:
    """What the gates, the activation and the Jacobian say about the factor per step."""
    parts = [
        f"{words} {np.mean(layer.own_steps(layer.activations[name].mean)):.2f} on average"
        for name, words in _GATES.items()
        if name in layer.activations and layer.taking_part.any()
    ]
    h = layer.activations.get("h")
    slope = np.zeros(0) if h is None else layer.own_steps(h.slope)
    if slope.size and np.isfinite(slope).all():
        parts.append(f"slope of the activation {np.mean(slope):.2f}")
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


def advice(layers: LayerFlow | Sequence[LayerFlow], kind: str) -> str:
    """What to try, for a verdict of this kind on these layers; "" where nothing is wrong.

    Remedies are those that helped nets of this cell with this cause (prescribing/known.py), can be
    tried on this one, and are not in use already; for a net that lives elsewhere they are named by
    what they are, as it takes no code of minigrad's. Of several causes the first is named, and the
    first counts for which there is any.
    """
    layers = [layers] if not isinstance(layers, Sequence) else layers
    if kind in ("healthy", "undecided"):
        return ""
    causes = {cause.name: cause.evidence for cause in _behind(layers)}
    if kind in _LOOK_FOR:
        return "; ".join([*causes.values()][:1] + [_LOOK_FOR[kind]])
    case, elsewhere = Case.of(layers), layers[0].elsewhere
    if kind == "vanishing" and _is_read_too_rarely(layers, case):
        causes["read-too-rarely"] = f"the loss reads one of {case.steps} steps"
    names = [*causes, "exploding" if kind == "mixed" else kind]
    if "input-scale" in causes:  # no other remedy is one against that
        names = ["input-scale"]
    found = next((f for name in names if (f := helpful(case, name)[:SHOWN])), [])
    parts = [causes[names[0]]] if causes else []
    if found:
        each = [
            f"{remedy.name if elsewhere else remedy.code(case)} (lowered the loss in {row.lower} "
            f"of {row.pairs} small runs of {row.cell})"
            for remedy, row in found
        ]
        parts.append(", or ".join(each))
    if elsewhere:
        return "; ".join([*parts, "mg.flow.prescribe tries what may help, on nets of mg.nn"])
    on = "it on this run" if found else "on this run what may help"
    return "; ".join([*parts, f"mg.flow.prescribe(model, loss, batches) tries {on}"])


def _behind(layers: Sequence[LayerFlow]) -> Iterator[Cause]:
    """What may be behind a gradient that does not arrive: inputs, units, gates."""
    for found in (input_scale(layers), dead_units(layers), saturated_gates(layers)):
        yield from islice(found, 1)


_LOOK_FOR = {
    "cut": "look for a detach(), a truncate= window, or a padded end before that step",
    "none": "check that the loss reads this layer's output",
    "broken": "run one step inside `with mg.detect_anomaly()`, which names the op and its scope",
}


def _is_read_too_rarely(layers: Sequence[LayerFlow], case: Case) -> bool:
    """Whether one step alone is read, though the gates keep the state for as long as it takes."""
    return case.last_only and all(
        any(
            float(np.median(layer.own_steps(c))) >= case.steps / 4
            for c in layer.time_constants.values()
        )
        for layer in layers
    )
