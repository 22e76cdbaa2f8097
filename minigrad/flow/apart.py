"""The last output that a loss reads, by itself, along a loop that was written by hand.

Of such a loop there is a tape, and no cell that could be run again. But when the gradient of a
tapped state is complete, the ops between it and the states of the step before are still there. So
it is taken one step further by itself, without what else comes in there,

    a_t = (dS_{t+1}/dS_t)^T a_{t+1}        a_T = dL/dS_T, where the loss reads a row last

which is dL/dS_t as if the loss read nothing but its last output. Where dL/dS_t itself is another,
more came in: the loss reads that step, too; or the loop has a state that is not tapped, if a way
leads past the tapped ones. Then what the steps carry cannot be told.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..norms import row_norms
from .stretch import Stretch

Array = np.ndarray
ROUNDING = 1e3  # epsilons by which sums of the same gradients in another order may differ
HOW_TO_TELL = "use mg.scan or a layer of mg.nn for the loop, or a loss at the last step alone"
Tap = tuple[Any, int]  # (place of a state, t)


class Apart:
    """What is known of one loop.

    carried: (place, t) -> |gradient that comes to the state from later steps|, and from the loss at
    a row's last output, (B,). alone: |a_t|, which has what comes at the same step, too. many:
    whether a gradient comes in at earlier steps as well. untapped: whether a state that is not
    tapped leads from step to step. again: whether another backward pass has added to it.
    """

    def __init__(self) -> None:
        self.carried: dict[Tap, Array] = {}
        self.alone: dict[Tap, Array] = {}
        self.many = self.untapped = self.again = False
        self._taps: dict[int, Tap] = {}  # position on the tape -> which state that is
        self._steps: dict[int, int] = {}  # t -> how many came before
        self._begun: list[int] = []  # of each step, the position of its first tap
        self._arriving: dict[Tap, Array] = {}  # from later taps
        self._later: dict[Tap, Array] = {}  # the part of it that is from later steps
        self._entry: Array | None = None  # (B,): t of a row's last output, -1 before it is met
        self._told: set[Tap] = set()

    @property
    def untold(self) -> str:
        """Why `carried` may not be all that the steps carry; "" if it is."""
        if self.again:
            return f"several backward passes came to a loop written by hand; {HOW_TO_TELL}"
        if self.many and self.untapped:
            return (
                f"gradient enters at many steps of a loop written by hand, which carries more than "
                f"its tapped states; tap them all, or {HOW_TO_TELL}"
            )
        return ""

    def tapped(self, tap: Tap, position: int) -> None:
        if tap[1] not in self._steps:
            self._steps[tap[1]] = len(self._begun)
            self._begun.append(position)
        self._taps[position] = tap

    def arrived(self, tap: Tap, node: Any, g: Array) -> None:
        """The gradient of a tapped state is complete."""
        if tap in self._told:
            self.again = True
            return
        self._told.add(tap)
        rows = math.prod(g.shape[:-1])  # as taps are: what is before the last axis
        here = self._arriving.pop(tap, None)
        later = self._later.pop(tap, None)
        whole = np.asarray(g).reshape(rows, -1)
        rest = whole if here is None else whole - here.reshape(rows, -1)
        size = row_norms(whole) + (0 if here is None else row_norms(here.reshape(rows, -1)))
        entering = row_norms(rest) > ROUNDING * np.finfo(g.dtype).eps * size
        if self._entry is None or len(self._entry) != rows:
            self._entry = np.full(rows, -1)
        self._entry[entering & (self._entry < 0)] = tap[1]
        last = self._entry == tap[1]
        seed = whole
        if (entering & ~last).any():
            self.many = True
            before = np.zeros_like(whole) if here is None else here.reshape(rows, -1)
            seed = np.where((entering & ~last)[:, None], before, whole)
        brought = np.zeros_like(whole) if later is None else later.reshape(rows, -1)
        if (entering & last).any():
            brought = brought + np.where((entering & last)[:, None], rest, 0)
        self.carried[tap], self.alone[tap] = row_norms(brought), row_norms(seed)
        self._pass_on(tap, node, seed.reshape(g.shape))

    def _pass_on(self, tap: Tap, node: Any, seed: Array) -> None:
        since = self._begun[max(self._steps[tap[1]] - 2, 0)]
        way = Stretch([node], self._taps, since, own=True)
        if way.opaque or any(p > self._begun[0] for p in way.aside):
            self.untapped = True
        for position, part in way.pull({node.position: seed}).items():
            earlier = self._taps[position]
            self.comes(earlier, part, earlier[1] != tap[1])

    def comes(self, tap: Tap, part: Array, later: bool) -> None:
        """A part that was passed on to a tap; later: from a later step."""
        _add(self._arriving, tap, part)
        if later:
            _add(self._later, tap, part)


def _add(found: dict[Tap, Array], tap: Tap, part: Array) -> None:
    found[tap] = found[tap] + part if tap in found else part
