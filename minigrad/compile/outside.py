"""The eager ops of a cell on its weights (W.T, b_ih + b_hh), run again as a part of the scan.

Traced, they are nodes of their own in front of the scan's. In a call that is had again they are
worked off on arrays, there and back, and the scan's node stands on the tape for all of it: its
inputs are the leaves. A recorded backward pass, which wants nodes, runs them as ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..backward import Partial, _pull, walk
from ..op import Op
from ..tape import no_grad
from ..tensors import Tensor, _recorded, apply

Array = np.ndarray
RAW, MADE, NUMBER = "raw", "made", "number"
Slot = tuple[
    str, Any
]  # (RAW, k) for a Tensor that comes in, (MADE, k) for what op k made, a number


class Eager(NamedTuple):
    """One op that ran, on what; quiet if inside of no_grad."""

    op: Op
    slots: list[Slot]
    params: dict[str, Any]
    quiet: bool


class _Step(NamedTuple):
    """The same, its inputs by their place among all values: what comes in, numbers, what is made.

    inverse: of a transpose, the axes that undo it.
    """

    op: Op
    places: list[int]
    params: dict[str, Any]
    quiet: bool
    inverse: tuple[int, ...] | None


class Made(NamedTuple):
    """What one call made of the arrays that came in: all values, the inputs of the program."""

    values: list[Any]
    given: list[Array]


class Outside:
    """eager: the ops, in order, on so many Tensors that come in. slots: what the inputs of the
    program are.
    """

    def __init__(self, eager: Sequence[Eager], slots: Sequence[Slot], incoming: int):
        self.eager, self.slots, self.incoming = eager, slots, incoming
        every = [s for e in eager for s in e.slots] + [*slots]
        self.numbers = [what for kind, what in every if kind == NUMBER]
        numbered = iter(range(incoming, incoming + len(self.numbers)))
        first = incoming + len(self.numbers)

        def place(slot: Slot) -> int:
            kind, what = slot
            return next(numbered) if kind == NUMBER else what + (first if kind == MADE else 0)

        self.first = first  # place of what the first op makes
        self.steps = [
            _Step(op, [place(s) for s in slots], params, quiet, _inverse(op, params))
            for op, slots, params, quiet in eager
        ]
        self.places = [place(s) for s in slots]
        self._needs: dict[tuple[int, ...], tuple[tuple[int, ...], list[int]]] = {}
        self._read: dict[tuple[tuple[int, ...], int], list[int]] = {}

    def again(self, raw: Sequence[Tensor]) -> list[Tensor]:
        """The inputs of the program, by ops on Tensors."""
        values = [*raw, *self.numbers]
        for op, places, params, quiet, _ in self.steps:
            if quiet:
                with no_grad():
                    values.append(apply(op, [values[k] for k in places], params))
            else:
                values.append(apply(op, [values[k] for k in places], params))
        return [values[k] for k in self.places]

    def forward(self, raw: Sequence[Array]) -> Made:
        """The same on arrays."""
        values = [*raw, *self.numbers]
        for op, places, params, _, inverse in self.steps:
            inputs = list(map(values.__getitem__, places))
            values.append(
                inputs[0].transpose(params["axes"]) if inverse else _computed(op, inputs, params)
            )
        return Made(values, list(map(values.__getitem__, self.places)))

    def needs(self, raw: tuple[int, ...]) -> tuple[tuple[int, ...], list[int]]:
        """(which inputs of the program need a gradient, which inputs of each op, as bits)."""
        found = self._needs.get(raw)
        if found is None:
            wanted, masks = set(raw), list[int]()
            for k, step in enumerate(self.steps, self.first):
                bits = sum((place in wanted) << i for i, place in enumerate(step.places))
                masks.append(0 if step.quiet else bits)
                if masks[-1]:
                    wanted.add(k)
            inner = tuple([i for i, place in enumerate(self.places) if place in wanted])
            found = self._needs[raw] = inner, masks
        return found

    def read(self, wanted: tuple[int, ...], first: int) -> list[int]:
        """Which of what comes in, from the first on, is read where a gradient is wanted of these:
        in the order in which `outer.closed_over` meets them on a tape.
        """
        if (wanted, first) not in self._read:
            inner, masks = self.needs(wanted)
            found: dict[int, None] = {}
            todo, seen = [self.places[i] for i in inner], set[int]()
            while todo:
                place = todo.pop()
                if place in seen:
                    continue
                seen.add(place)
                if place >= self.first:
                    step, mask = self.steps[place - self.first], masks[place - self.first]
                    todo += [p for i, p in enumerate(step.places) if mask >> i & 1]
                elif place >= first:
                    found[place] = None
            self._read[wanted, first] = list(found)
        return self._read[wanted, first]

    def saved(self, made: Made, masks: Sequence[int]) -> list[Array]:
        """What the way back reads of these ops."""
        kept: list[Array] = []
        for k, (mask, step) in enumerate(zip(masks, self.steps, strict=True), self.first):
            if mask and not step.inverse:
                for i in step.op.plans[mask].saves:
                    value = made.values[k if i < 0 else step.places[i]]
                    if type(value) is np.ndarray:
                        kept.append(value)
        return kept

    def backward(
        self, made: Made, masks: Sequence[int], gradients: dict[int, Array]
    ) -> dict[int, Array]:
        """Gradients of what came in, from those of the program's inputs by position."""
        totals: dict[int, Array] = {}
        arrived = [(self.places[i], g) for i, g in gradients.items()]
        last = self.first + len(self.steps) - 1
        while True:
            for place, g in arrived:
                totals[place] = totals[place] + g if place in totals else g
            while last >= self.first and last not in totals:
                last -= 1
            if last < self.first:
                return totals
            step, total = self.steps[last - self.first], totals.pop(last)
            inputs = list(map(made.values.__getitem__, step.places))
            mask = masks[last - self.first]
            if step.inverse:
                arrived = [(step.places[0], total.transpose(step.inverse))]
            else:
                pulled = _pulled(step, inputs, made.values[last], mask, total)
                arrived = [(step.places[i], g) for i, g in pulled]

    def recorded(
        self, raw: Sequence[Tensor], given: Sequence[Tensor], gradients: Sequence[tuple[int, Any]],
        needs: tuple[int, ...],
    ) -> list[tuple[int, Any]]:  # fmt: skip
        """The same on Tensors. given: the inputs of the program, as `again` made them of raw."""
        outputs = [given[i] for i, _ in gradients]
        wanted = [raw[i] for i in needs]
        found = walk(
            outputs, [g for _, g in gradients], wanted, retain_graph=True, create_graph=True,
            stop=True,
        )  # fmt: skip
        return [(i, g) for i, g in zip(needs, found, strict=True) if g is not None]


def _inverse(op: Op, params: dict[str, Any]) -> tuple[int, ...] | None:
    return tuple(map(int, np.argsort(params["axes"]))) if op is ops.transpose else None


def _computed(op: Op, inputs: list[Any], params: dict[str, Any]) -> Array:
    if op.plain:
        dtype: Any = getattr(inputs[0], "dtype", None)
        for a in inputs:
            if type(a) is not np.ndarray or a.dtype is not dtype or dtype.kind != "f":
                break
        else:  # nothing to convert
            return np.asarray(op.loops[dtype](*inputs))
    arrays, _ = op.arrays(inputs)
    return op.forward(arrays, params)


def _pulled(
    step: _Step, inputs: list[Any], y: Array, mask: int, g: Array
) -> list[tuple[int, Array]]:
    """(input, its gradient) of one op, as the walk of backward finds them."""
    op = step.op
    plan = op.plans[mask]
    found: list[tuple[int, Any]]
    if plan.calls and op.kind == "elementwise":  # by kernels, which ask no node
        saved = plan.keep(inputs, y)
        found = [(i, g if call is None else call(g, saved, None)) for i, call in plan.calls]
    else:
        arrays, _ = op.arrays(inputs)
        node = _recorded(op, step.params, arrays, y, inputs, mask)._node
        assert node is not None
        found = _pull(node, g)
    for k, (i, gx) in enumerate(found):
        if isinstance(gx, Partial):
            found[k] = i, gx.add_to(None)
        elif gx.shape != inputs[i].shape:
            found[k] = i, ops.sum_to(gx, inputs[i].shape)
    return found
