"""What a computation reads besides the inputs it was given."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from ..tape import Node
from ..tensors import Tensor, wrap

Target = Node | Tensor  # a leaf, or the node that made a value
_EMPTY = np.zeros(())


def standing_for(target: Target) -> Tensor:
    """A Tensor at which the gradient of a target arrives."""
    return target if isinstance(target, Tensor) else wrap(_EMPTY, target, True)


def closed_over(outputs: Iterable[Tensor], given: Collection[int], since: int) -> list[Target]:
    """What needs a gradient and was there before: leaves, and nodes not recorded after `since`.

    given: ids of the Tensors that the computation was called with; they are left out. since: the
    clock (`tape.tick`) when it began.

    >>> from minigrad.tape import tick
    >>> w, x = Tensor([2.0], requires_grad=True), Tensor([3.0], requires_grad=True)
    >>> began = tick()
    >>> closed_over([w * x], {id(x)}, began)[0] is w
    True
    """
    found: dict[int, Target] = {}
    seen: set[int] = set()
    stack: list[Target] = [t._node or t for t in outputs if t.requires_grad]
    while stack:
        t = stack.pop()
        if id(t) in seen or id(t) in given:
            continue
        seen.add(id(t))
        if isinstance(t, Node) and t.position > since:
            stack.extend(t.inputs[i] for i in t.plan.needs)
        else:
            found[id(t)] = t
    return list(found.values())
