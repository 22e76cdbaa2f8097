"""What to call the weights of a step: their own names, or how they were made of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..op import Op
from ..tape import Node
from ..tensors import Tensor
from .program import AFTER, Value

_LONGEST = 60


def made_of(op: Op, inputs: Sequence[Any]) -> str:
    """What to call a value that was made of weights alone."""
    names = [v.name if type(v) is Value else repr(v) for v in inputs]
    if not all(names) or any(type(v) is Value and v.stage == AFTER for v in inputs):
        return ""
    if sum(map(len, names)) > _LONGEST:
        return ""
    return _written(op, names if op.notation else names[:1])


def name_of(tensor: Tensor) -> str:
    """What to call a weight: its name, or how it was made of others that have one."""
    return tensor.name if tensor.name or tensor._node is None else _of_node(tensor._node, 3)


def _of_node(node: Node, depth: int) -> str:
    names = []
    for i in node.inputs if depth else ():
        if isinstance(i, Node):
            name = _of_node(i, depth - 1)
        elif i is None:  # a constant array
            name = "..."
        else:
            name = i.name if isinstance(i, Tensor) else repr(i)
        if not name:
            return ""
        names.append(name)
    return _written(node.op, names) if names else ""


def _written(op: Op, names: Sequence[str]) -> str:
    """`W.T` or `b_ih + b_hh`, where the op says so; else `op(W, b)`."""
    if not op.notation:
        return f"{op.name}({', '.join(names)})"
    return op.notation.format(*names, all=" | ".join(names)).removesuffix(".T.T")
