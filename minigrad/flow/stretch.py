"""A stretch of the tape between two places, walked back with gradients of one's own.

What connects one step of a loop written by hand with the next, or the outputs of one layer with the
inputs of another, are ops on the tape. A Stretch holds just these, with what they saved, so that
they can be walked back once more, after `backward` has freed them, and without a hook being called.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..backward import Sums, _pull
from ..tape import Node
from ..tape import state as switches
from ..tensors import Tensor
from .copies import Copies

Array = np.ndarray


class _Op(NamedTuple):
    node: Node
    saved: tuple[Array, ...] | None
    inputs: Any
    wanted: frozenset[int]  # the inputs that lead to an end


class Stretch:
    """The ops by which `starts` were computed from values made at the positions `ends`.

    Nodes older than the position `since` are not looked at: none of the ends is. own: a start may
    be at one of `ends` itself, and is walked through all the same. copies: of the weights, where
    the walk comes later and they may have been edited by then.

    ends: the positions that were found. aside: positions older than `since` that were met.
    opaque: whether a scan lies between that cannot be walked.
    """

    def __init__(
        self,
        starts: Iterable[Node],
        ends: Container[int],
        since: int,
        own: bool = False,
        copies: Copies | None = None,
    ):
        self.starts = {node.position for node in starts}
        self.ends: set[int] = set()
        self.aside: set[int] = set()
        self.opaque = False
        met = self._meet(list(starts), ends, since, own)
        useful = set(self.ends)
        self._ops: list[_Op] = []
        for position in sorted(met):
            node = met[position]
            wanted = frozenset(
                i
                for i in node.plan.needs
                if isinstance(node.inputs[i], Node) and node.inputs[i].position in useful
            )
            if wanted:
                useful.add(position)
                saved = node._saved if copies is None else copies.of_saved(node)
                self._ops.append(_Op(node, saved, node.inputs, wanted))

    def _meet(
        self, todo: list[Node], ends: Container[int], since: int, own: bool
    ) -> dict[int, Node]:
        met: dict[int, Node] = {}
        while todo:
            node = todo.pop()
            at = node.position
            if at in met or at in self.ends:
                continue
            if at in ends and not (own and at in self.starts):
                self.ends.add(at)
            elif at < since:
                self.aside.add(at)
            elif node.op.kind == "scan":
                self.opaque = True
            elif node.inputs:  # none: freed
                met[at] = node
                todo += [x for i in node.plan.needs if isinstance(x := node.inputs[i], Node)]
        return met

    @property
    def direct(self) -> bool:
        """Whether nothing lies between: the starts are the ends."""
        return not self._ops

    def pull(self, seeds: Mapping[int, Array]) -> dict[int, Array]:
        """position of a start -> a gradient; gives position of an end -> what arrives there."""
        sums = Sums()
        for position, g in seeds.items():
            sums.add(position, g)
        before = switches.switch(recording=False, tape=None, anomaly=False)
        try:
            with np.errstate(all="ignore"):  # Inf and NaN are data here
                for op in reversed(self._ops):
                    g = sums.pop(op.node.position, None)
                    if g is not None:
                        for i, part in _pulled(op, g):
                            sums.add(op.inputs[i].position, part)
        finally:
            switches.switch(**before)
        return {p: sums.take(p) for p in self.ends if p in sums}


def _pulled(op: _Op, g: Array) -> list[tuple[int, Any]]:
    node = op.node
    now = node._saved, node.inputs
    node._saved, node.inputs = op.saved, op.inputs
    try:
        return [(i, part) for i, part in _pull(node, g, op.wanted) if i in op.wanted]
    finally:
        node._saved, node.inputs = now


def nodes_of(tensors: Iterable[Tensor]) -> list[Node]:
    """The nodes that made them, of those that need a gradient."""
    return [t._node for t in tensors if t.requires_grad and t._node is not None]
