"""One step after the other back through a scan: whole gradients of what it taps, reads and uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..compile.outer import Target
from ..norms import row_norms
from ..tensors import Tensor
from ..tree import leaves

if TYPE_CHECKING:
    from .replaying import Replay

Array = np.ndarray


@dataclass
class Detail:
    """What one pass back found, in order of computation.

    gradients: name -> dL/d(tapped value), (T, B, n). inputs: leaf of xs -> dL/dx, (T, B, ...).
    norms: name of a weight -> |the term of each step|, (T,); totals: their sum, (*shape).
    """

    gradients: dict[str, Array] = field(default_factory=dict)
    inputs: dict[str, Array] = field(default_factory=dict)
    norms: dict[str, Array] = field(default_factory=dict)
    totals: dict[str, Array] = field(default_factory=dict)


def back(replay: Replay, keep: Callable[[str, int, Array], None] | None = None) -> Detail:
    """One pass back; keep(name, k, g) is told the term of a weight at each step."""
    replay.check()
    found, names = Detail(), Names(replay.weights)
    carried = [replay.final_gradients.get(k) for k in range(len(leaves(replay.init)))]
    with replay.restored():
        for k in reversed(range(replay.steps)):
            t = replay.order[k]
            seeds = [*carried, *replay.ys_at(t)]
            step = replay.step(k)
            carried = step.back(seeds)
            if replay.cut_before(k):
                carried = [None] * len(carried)
            for name, g in step.taps.items():
                _put(found.gradients, name, replay.steps, k, g)
            for name, g in step.inputs(replay.own_input(step.x)).items():
                _put(found.inputs, name, replay.steps, k, g)
            for target, g in step.outer():
                name = names.of(target)
                found.totals[name] = found.totals[name] + g if name in found.totals else g
                _put(found.norms, name, replay.steps, k, np.asarray(norm(g)))
                if keep:
                    keep(name, k, g)
    return found


class Names:
    """What weights are called: their own name, or weight0, weight1, ... in order of appearance."""

    def __init__(self, weights: list[tuple[Tensor, Array]]):
        self.names: dict[int, str] = {}
        for w, _ in weights:
            self.of(w)

    def of(self, target: Target) -> str:
        if id(target) not in self.names:
            named = getattr(target, "name", "") or f"weight{len(self.names)}"
            taken = self.names.values()
            self.names[id(target)] = named if named not in taken else f"{named}.{len(self.names)}"
        return self.names[id(target)]


def norm(g: Array) -> float:
    """Euclidean norm of a whole array; neither underflows nor overflows on the way."""
    return float(row_norms(np.ravel(g)[None])[0])


def _put(found: dict[str, Array], name: str, steps: int, k: int, g: Array) -> None:
    if name not in found:
        found[name] = np.zeros((steps, *g.shape), g.dtype if g.ndim else np.float64)
    if found[name].shape[1:] == g.shape:
        found[name][k] = g
