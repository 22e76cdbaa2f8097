"""One step of a cell, run by itself: what a gradient does there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..backward import Look, walk
from ..compile.outer import Target, closed_over
from ..compile.taps import StepTaps
from ..ops.on_gradients import GRADIENT_OPS
from ..tape import Node, tick
from ..tape import state as switches
from ..tensors import Tensor, wrap
from ..tree import leaves, map_leaves, named_leaves

Array = np.ndarray
_EMPTY = np.zeros(())


class OneStep:
    """One step of a cell on leaves of its own, with a gradient for everything it reads."""

    def __init__(self, cell: Any, state: Any, x: Any):
        began = tick()
        self.state = map_leaves(_own, state)
        self.x = map_leaves(_own, x)
        heard = StepTaps(switches.scope)
        before = switches.switch(recording=True)
        switches.listeners = (heard,)
        try:
            new, y = cell(self.state, self.x)
        finally:
            switches.listeners = ()
            switches.switch(**before)
        self._tapped: dict[str, Tensor] = heard.named()
        self.taps: dict[str, Array] = {}
        for name, tensor in self._tapped.items():
            self._listen(name, tensor)
        self.outputs = [*leaves(new), *leaves(y)]
        self.carries = len(leaves(new))
        self.own = [t for t in (*leaves(self.state), *leaves(self.x)) if t.requires_grad]
        self.targets = closed_over(self.outputs, {id(t) for t in self.own}, began)
        self._found: dict[int, Any] = {}

    def _listen(self, name: str, tensor: Tensor) -> None:
        self.taps[name] = np.zeros_like(tensor._array)
        if tensor.requires_grad and tensor._node is not None:
            tensor.register_hook(Look(lambda g: self.taps.__setitem__(name, g.copy())))

    def back(self, seeds: list[Any]) -> list[Any]:
        """Gradients of the state before the step; seeds are those of the state after, and of y."""
        pairs = [
            (t, np.asarray(g, t.dtype))
            for t, g in zip(self.outputs, seeds, strict=False)
            if g is not None and t.requires_grad
        ]
        if pairs:
            outer = [t if isinstance(t, Tensor) else wrap(_EMPTY, t, True) for t in self.targets]
            outputs, given = zip(*pairs, strict=True)
            found = walk(
                list(outputs), list(given), [*self.own, *outer],
                retain_graph=False, create_graph=False, stop=True,
            )  # fmt: skip
            wanted = [*self.own, *self.targets]
            self._found = {id(t): g for t, g in zip(wanted, found, strict=True)}
        for name, t in self._tapped.items():
            if id(t) in self._found and self._found[id(t)] is not None:
                self.taps[name] = self._found[id(t)]
        return [self._found.get(id(t)) for t in leaves(self.state)]

    def states_given_out(self) -> list[tuple[int, int]]:
        """(i, j): leaf i of the new state is leaf j of y as it stands."""
        new, ys = self.outputs[: self.carries], self.outputs[self.carries :]
        return [(i, j) for i, s in enumerate(new) for j, y in enumerate(ys) if _same(s, y)]

    def tapped_as(self, k: int) -> str:
        """The tap of leaf k of the new state; "" if there is none."""
        named = (name for name, t in self._tapped.items() if _same(t, self.outputs[k]))
        return next(named, "")

    def of_inputs(self) -> Iterator[tuple[int, Array]]:
        """(j, gradient of leaf j of x), of those that one arrived at."""
        for j, t in enumerate(leaves(self.x)):
            if (g := self._found.get(id(t))) is not None:
                yield j, g

    def inputs(self, own: Any) -> dict[str, Array]:
        """Leaf of `own`, a part of x -> its gradient."""
        return {
            name: np.zeros_like(t._array) if (g := self._found.get(id(t))) is None else g
            for name, t in named_leaves(own)
            if t.requires_grad
        }

    def outer(self) -> Iterator[tuple[Target, Array]]:
        for t in self.targets:
            g = self._found.get(id(t))
            if g is not None:
                yield t, g


def pulled(
    pairs: Iterable[tuple[Tensor, Array]],
    wanted: Sequence[Tensor],
    began: int,
    again: bool = False,
) -> dict[int, Array]:
    """id of a wanted Tensor -> the gradient that arrived there, from (output, its gradient).

    Nothing behind what the computation read, which began then, is visited. again: whether that is
    to be walked once more.
    """
    outputs, arriving = map(list, zip(*pairs, strict=True))
    outer = closed_over(outputs, set(map(id, wanted)), began)
    wanted = [*wanted, *(t if isinstance(t, Tensor) else wrap(_EMPTY, t, True) for t in outer)]
    known = walk(outputs, arriving, wanted, retain_graph=again, create_graph=False, stop=True)
    return {id(t): g for t, g in zip(wanted, known, strict=True) if g is not None}


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether b is a as it stands, or with its gradient changed on the way back to it."""
    node = b._node
    while node is not None and node.op in GRADIENT_OPS and node is not a._node:
        node = node.inputs[0] if isinstance(node.inputs[0], Node) else None
    return a is b or (a._node is not None and a._node is node)


def leaf(array: Array) -> Tensor:
    """A Tensor to differentiate by, if it holds floats."""
    return wrap(np.ascontiguousarray(array), None, array.dtype.kind == "f")


def _own(t: Any) -> Tensor:
    return leaf(t._array)
