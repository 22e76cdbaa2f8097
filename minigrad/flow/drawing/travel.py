"""How much gradient travels along each arrow of an unrolled network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..layerflow import LayerFlow
from ..places import both_directions

Series = dict[int, float]  # t -> norm
State = tuple[str, str]  # (path of a layer and direction, name of a state)
_NUMBERED = re.compile(r"(.*/)?l(\d+)")


@dataclass
class Strand:
    """One layer and direction, or all layers of one together, whose one state is S.

    carried: name of a state -> |gradient| that comes to it from the step after, or from the loss
    where that reads the last one; h first. gates: their means. begins: the column of its first
    step.
    """

    path: str
    reverse: bool
    carried: dict[str, Series]
    gates: dict[str, Series]
    begins: int = 0

    @property
    def steps(self) -> set[int]:
        """The columns where it has a step."""
        return {t for at in self.carried.values() for t in at}


@dataclass
class Travel:
    """|gradient| by column, which is t where the net has but one time axis from 0 on.

    strands: lowest first. whole: the profiles that were judged, where they are of more than one
    state. entering: at a state, straight from the loss. received: at the outputs of
    a layer, from the layers that read it. sent: by a layer's direction to what it reads. within: in
    a step, to a state from the one above it. beneath: what a layer (both directions) reads step by
    step, as a pair (upper, lower). behind: (later, earlier) -> from the first state of one layer to
    the last one of another, whose end it begins from.
    """

    strands: list[Strand]
    entering: dict[State, Series] = field(default_factory=dict)
    received: dict[str, Series] = field(default_factory=dict)
    sent: dict[str, Series] = field(default_factory=dict)
    within: dict[State, Series] = field(default_factory=dict)
    beneath: list[tuple[str, str]] = field(default_factory=list)
    behind: dict[tuple[str, str], float | None] = field(default_factory=dict)
    whole: list[Strand] = field(default_factory=list)

    @property
    def norms(self) -> np.ndarray:
        """All of them, for a scale."""
        every = [x for strand in self.strands for x in strand.carried.values()]
        every += [*self.entering.values(), *self.received.values()]
        return np.array([norm for series in every for norm in series.values()])


def of_norms(layers: Sequence[LayerFlow]) -> Travel:
    """From what arrived at the states alone.

    The loss is taken to be where the hidden states of the last layer got their last gradient, and
    layers to be stacked as they are numbered.
    """
    there = [x for x in layers if not x.forward_only] or list(layers)
    top = both_directions(there[-1].path)
    strands = [strand(layer) for layer in layers]
    entering: dict[State, Series] = {}
    for made, layer in zip(strands, layers, strict=True):
        name, at = next(iter(made.carried.items()))
        reached = [t for t, norm in at.items() if norm != 0]
        if layer in there and both_directions(layer.path) == top and reached:
            entering[layer.path, name] = {reached[-1]: at[reached[-1]]}
    return Travel(strands, entering, beneath=stacked(x.path for x in layers))


def strand(layer: LayerFlow) -> Strand:
    """A layer by itself: the norms of all that arrived at its states, by t."""
    states = sorted(layer.norms, key=lambda name: name != "h")
    carried = {name: series(layer.steps, layer.norms[name]) for name in states}
    return Strand(layer.path, layer.reverse, carried, gates_of(layer))


def gates_of(layer: LayerFlow) -> dict[str, Series]:
    """name -> its mean by t, of all that is tapped beside the states, where a row takes part."""
    gates = {name: x.mean for name, x in layer.activations.items() if name not in layer.norms}
    steps = layer.own_steps(layer.steps)
    return {name: series(steps, layer.own_steps(mean)) for name, mean in gates.items()}


def stacked(paths: Iterable[str]) -> list[tuple[str, str]]:
    """(upper, lower) of layers that are numbered, both directions as one.

    >>> stacked(["lstm/l0/fwd", "lstm/l0/rev", "lstm/l1/fwd", "gru/l1/fwd"])
    [('lstm/l1', 'lstm/l0')]
    """
    stems = dict.fromkeys(map(both_directions, paths))
    found = []
    for stem in stems:
        if numbered := _NUMBERED.fullmatch(stem):
            above = f"{numbered[1] or ''}l{int(numbered[2]) + 1}"
            found += [(above, stem)] if above in stems else []
    return found


def series(steps: Iterable[int], norms: Iterable[float]) -> Series:
    """t -> norm."""
    return {int(t): float(norm) for t, norm in zip(steps, norms, strict=False)}


def largest(values: Mapping[int, float], steps: Iterable[int]) -> float:
    """The largest of some steps; 0 where there is none."""
    return max((values[t] for t in steps if t in values), default=0.0)
