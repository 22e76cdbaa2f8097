"""Whether a layer that ran again in minigrad computes what the other library did."""

from __future__ import annotations

import numpy as np

from ..interop.calls_torch import Call
from ..interop.twins_torch import Arrays
from ..tensors import Tensor

Array = np.ndarray
TOLERANCE = {np.dtype(np.float64): 1e-9, np.dtype(np.float32): 1e-4}  # of the largest number


def difference(call: Call, arrays: Arrays, final: list[Tensor]) -> str:
    """What is to be said of the twin's last states against those that were computed there."""
    theirs = arrays.after_steps[-1]
    if theirs is None:
        return ""
    off = max(apart(a.numpy(), b) for a, b in zip(final, theirs, strict=True))
    name = call.layer.name
    if arrays.precision not in ("float32", "float64"):
        return (
            f"{name} ran in {arrays.precision} and is run again in {arrays.dtype}; their last "
            f"states differ by {off:.1g} of the largest number"
        )
    if off <= TOLERANCE[arrays.dtype]:
        return ""
    drawn = " (the masks of its dropout may be others)" if call.drawn is not None else ""
    return (
        f"{name}: run again in minigrad, its last state differs from PyTorch's by {off:.1g} of the "
        f"largest number{drawn}; what is told of it is of another run"
    )


def apart(ours: Array, theirs: Array) -> float:
    """The largest difference, as a share of the largest number; NaN is NaN."""
    if ours.shape != theirs.shape:
        return np.inf
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    size = np.abs(theirs[np.isfinite(theirs)]).max(initial=np.finfo(theirs.dtype).tiny)
    off = float(np.where(same, 0, np.abs(ours - theirs)).max(initial=0) / size)
    return np.inf if np.isnan(off) else off
