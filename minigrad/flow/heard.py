"""What a recording keeps of one run of one layer, while it goes on."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backward import Look
from ..compile.taps import label, labels
from ..tape import tick
from ..tensors import Tensor
from .apart import Apart
from .places import descends
from .replaying import Replay
from .stretch import Stretch
from .taps import SequenceTaps, Series, Step, stacked_norms

Array = np.ndarray
Place = tuple[str, str]  # (scope below the step's, name)


@dataclass(eq=False)
class Run:
    """One run of one layer: a scan, or a loop written by hand that taps its steps.

    name: its path in the recording. scope: where it ran, without numbers of calls, and place: with
    them. owner: the module without a name that ran it, if any. began: when, on the tape's clock.
    counted: no scope `t=...` names its steps, they are counted. closed: nothing more can belong to
    it. told: how often BPTT has passed the compiled scan. apart: of a loop written by hand.
    by_init, by_xs: what leads from other runs to its first state and to its inputs, whose
    positions are `inputs`. continues: the runs whose last state it begins from, by its values.
    """

    name: str
    scope: str
    owner: Any
    place: str
    series: dict[Place, Series] = field(default_factory=dict)
    whole: SequenceTaps | None = None
    replay: Replay | None = None
    began: int = field(default_factory=tick)
    closed: bool = False
    counted: bool = False
    told: int = 0
    nbytes: int = 0
    t: int = -1
    marks: dict[Place, int | None] = field(default_factory=dict)  # the nodes of the latest taps
    apart: Apart = field(default_factory=Apart)
    by_init: Stretch | None = None
    by_xs: Stretch | None = None
    inputs: dict[int, list[tuple[str, int]]] = field(default_factory=dict)
    continues: list[weakref.ref[Run]] = field(default_factory=list)
    _taken: Counter[Place] = field(default_factory=Counter)  # in this step

    # -- listening

    def takes(self, place: Place, t: int, tensor: Tensor, numbered: str) -> bool:
        """Whether a tap in a scope `t=...` is of this run, rather than the first of another."""
        if self.closed:
            return False
        if t in self.series.get(place, ()):
            again = t == self.t and numbered == self.place
            return again and descends(tensor, {place: self.marks[place]}) is True
        return numbered == self.place or descends(tensor, self.marks) is True

    def follows(self, name: str, tensor: Tensor) -> bool | None:
        """Whether a state tapped outside of any `t=...` goes on with this run; None: unknown."""
        longest = max(map(len, self.series.values()), default=0)
        if len(self.series.get(("", name), ())) < longest:
            return True  # the step has begun, and this is another of its states
        return descends(tensor, self.marks)

    def heard_already(self, place: Place, tensor: Tensor) -> bool:
        """Whether it is the very value that was tapped last under this name."""
        position = _position(tensor)
        return position is not None and self.marks.get(place) == position

    def add(self, place: Place, t: int | None, tensor: Tensor, step: Step) -> tuple[Place, int]:
        """A tap, and where it is kept; t is counted where the scope does not tell."""
        if t is not None and t != self.t:
            self.t = t
            self._taken.clear()
        self.marks[place] = _position(tensor)
        if t is not None:
            place = label(*place, self._taken)
        series = self.series.setdefault(place, {})
        t = len(series) if t is None else t
        series[t] = step
        self.nbytes += step.values.nbytes
        return place, t

    # -- reading

    def taps(self) -> dict[str, Series]:
        """What each tap is called -> its steps, in order of computation."""
        if self.whole is not None:
            return self.whole.steps()
        return dict(zip(labels(list(self.series)), self.series.values(), strict=True))

    def per_sample(self, name: str, series: Series, steps: Sequence[int]) -> Array:
        """|dL/d(value)| at these steps, (T, B) float64: of a compiled scan as the loop gave it."""
        if self.whole is None:
            return stacked_norms(series, steps)
        found: Array | None = self.whole.record.gradients.get(name)
        rows = next(iter(series.values())).values.shape[0]
        return np.zeros((len(steps), rows)) if found is None else found[steps].astype(np.float64)

    def apart_norms(self, norms: Mapping[Any, Array], like: Any) -> dict[str, Array]:
        """name -> (T, B), of what is known of each tap of a loop written by hand.

        like: a LayerFlow, for the steps and rows.
        """
        places = dict(zip(labels(list(self.series)), self.series, strict=True))
        found = {}
        for name, rows in like.per_sample.items():
            table = found[name] = np.zeros(rows.shape)
            for i, t in enumerate(like.steps):
                if (known := norms.get((places[name], int(t)))) is not None:
                    table[i, : known.size] = known
        return found

    @property
    def norms_known(self) -> bool:
        """Whether the norms that came with BPTT are those of all backward passes together."""
        if self.whole is None or self.replay is None:
            return True
        return self.told == self.replay.passes <= 1

    def gaps(self) -> Iterator[str]:
        """What is not known of it."""
        if self.whole is not None and self.replay is None and self.told > 1:
            yield (
                f"its norms are those of the last of {self.told} backward passes, as record() was "
                f"told replay=False"
            )


def listen_to(
    run: Run, tap: tuple[Place, int], step: Step, tensor: Tensor, arrived: Callable[[], None]
) -> None:
    """Adds up what comes back to a tapped value, over all backward passes."""
    node = tensor._node
    made_by = None if node is None else weakref.ref(node)  # which holds the hook
    if node is not None:
        run.apart.tapped(tap, node.position)

    def see(g: Array) -> None:
        own = g.copy()
        step.add_gradient(own)
        if run.replay is None and made_by is not None and (node := made_by()) is not None:
            run.apart.arrived(tap, node, own)
        arrived()

    tensor.register_hook(Look(see))


def _position(tensor: Tensor) -> int | None:
    return tensor._node.position if tensor._node is not None else None
