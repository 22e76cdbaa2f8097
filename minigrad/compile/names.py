"""What to call the weights of a step: their own names, or how they were made of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..op import Op
from ..tensor import Tensor, wrap
from .program import AFTER, Value

_NOTHING = np.zeros(())
_LONGEST = 60


def made_of(op: Op, inputs: Sequence[Any]) -> str:
    """What to call a value that was made of weights alone."""
    names = [v.name if type(v) is Value else repr(v) for v in inputs]
    if not all(names) or any(type(v) is Value and v.stage == AFTER for v in inputs):
        return ""
    if sum(map(len, names)) > _LONGEST:
        return ""
    return _written(op, names if op.notation else names[:1])


def name_of(tensor: Tensor, depth: int = 3) -> str:
    """What to call a weight: its name, or how it was made of others that have one."""
    if tensor.name or tensor._node is None or not depth:
        return tensor.name
    node = tensor._node
    names = [_name_of_input(i, depth - 1) for i in node.inputs]
    return _written(node.op, names) if names and all(names) else ""


def _written(op: Op, names: Sequence[str]) -> str:
    """`W.T` or `b_ih + b_hh`, where the op says so; else `op(W, b)`."""
    if not op.notation:
        return f"{op.name}({', '.join(names)})"
    return op.notation.format(*names, all=" | ".join(names)).removesuffix(".T.T")


def _name_of_input(i: Any, depth: int) -> str:
    if isinstance(i, (int, float)):
        return repr(i)
    if i is None:  # a constant array
        return "..."
    return name_of(i if isinstance(i, Tensor) else wrap(_NOTHING, i, True), depth)
