"""What to call the weights of a step: their own names, or how they were made of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..op import Op
from ..tensors import Tensor, wrap
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
    if op.name == "transpose":
        return names[0].removesuffix(".T") if names[0].endswith(".T") else f"{names[0]}.T"
    return f"[{' | '.join(names)}]" if op.name == "concatenate" else f"{op.name}({names[0]})"


def name_of(tensor: Tensor, depth: int = 3) -> str:
    """What to call a weight: its name, or how it was made of others that have one."""
    if tensor.name or tensor._node is None or not depth:
        return tensor.name
    node = tensor._node
    names = [_name_of_input(i, depth - 1) for i in node.inputs]
    if not names or not all(names):
        return ""
    if node.op.name == "transpose":
        return f"{names[0]}.T"
    if node.op.symbol in ("+", "−", "×", "÷") and len(names) == 2:
        return f"{names[0]} {node.op.symbol} {names[1]}"
    return f"{node.op.name}({', '.join(names)})"


def _name_of_input(i: Any, depth: int) -> str:
    if isinstance(i, (int, float)):
        return repr(i)
    if i is None:  # a constant array
        return "..."
    return name_of(i if isinstance(i, Tensor) else wrap(_NOTHING, i, True), depth)
