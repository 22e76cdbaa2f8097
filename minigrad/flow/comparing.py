"""Whether a layer that ran again in minigrad computes what the other library did."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import FlowError, describe
from ..interop.calls_torch import Call
from ..interop.twins_torch import Arrays
from ..tape import no_grad
from ..tensors import Tensor, wrap
from ..tree import named_leaves, rebuild
from .steps import unheard

Array = np.ndarray
TOLERANCE = {np.dtype(np.float64): 1e-9, np.dtype(np.float32): 1e-4}  # of the largest number


def difference(call: Call, arrays: Arrays, final: list[Tensor]) -> str:
    """What is to be said of the twin's last states against those that were computed there."""
    theirs = arrays.finals
    if theirs is None:
        return ""
    off = max(_apart(a.numpy(), b) for a, b in zip(final, theirs, strict=True))
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


def check_twin(call: Call, arrays: Arrays, cell: Any, x: Tensor, init: list[Tensor]) -> None:
    """Each step of a cell from the state that PyTorch had. Raises FlowError where it differs."""
    like, state = cell.init_state(x.shape[1]), init
    with no_grad(), unheard():
        for t, theirs in enumerate(call.states):
            new, _ = cell(rebuild(like, state), wrap(x.numpy()[t], None, False))
            state = [wrap(arrays.state(arrays.of(s)), None, False) for s in theirs]
            for (name, ours), s in zip(named_leaves(new), state, strict=True):
                who = f"{call.layer.name}: at step {t} its twin {type(cell).__name__} computes"
                which = f"the state{f' {name!r}' if name else ''}"
                if ours.shape != s.shape:
                    raise FlowError(
                        f"{who} {which} as {describe(ours)}; PyTorch's is {describe(s)}."
                    )
                if not _apart(ours.numpy(), s.numpy()) <= TOLERANCE[arrays.dtype]:
                    at = np.unravel_index(np.argmax(np.abs(ours.numpy() - s.numpy())), s.shape)
                    raise FlowError(
                        f"{who} {float(ours.numpy()[at]):.6g} for {which} at {list(map(int, at))}, "
                        f"where PyTorch has {float(s.numpy()[at]):.6g}; a twin computes the same."
                    )


def _apart(ours: Array, theirs: Array) -> float:
    """The largest difference, as a share of the largest number; NaN is NaN."""
    if ours.shape != theirs.shape:
        return np.inf
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    size = np.abs(theirs[np.isfinite(theirs)]).max(initial=np.finfo(theirs.dtype).tiny)
    off = float(np.where(same, 0, np.abs(ours - theirs)).max(initial=0) / size)
    return np.inf if np.isnan(off) else off
