"""Loops of a cell that ran elsewhere: what of a state's gradient no later step brought.

Of each leaf of a state all that came to it is known, G_t. A part of that came within the step (to
c_t by h_t = o_t tanh(c_t), in an LSTM); the rest, g_t, from outside of it: from step t + 1 and from
whoever else has read it. Step t + 1 is computed again, from the states and gradients that were
there, so that no error adds up from step to step:

    from outside of the loop = g_t - (dS_{t+1}/dS_t)^T g_{t+1}

Then no step waits for another, and all of them are the rows of one batch. What is no more than
rounding counts as nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import FlowError, describe
from ..interop.calls_torch import OWN, Call
from ..interop.twins_torch import Arrays
from ..norms import row_norms
from ..tape import tick
from ..tensors import Tensor, wrap
from ..tree import leaves, named_leaves, rebuild
from .comparing import TOLERANCE, apart
from .onestep import pulled
from .steps import unheard

Array = np.ndarray
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
ROUNDING = 16  # of these; RNN, LSTM and GRU of 3 to 512 units differed from PyTorch's by up to 5


def outside(
    call: Call, arrays: Arrays, cell: Any, x: Tensor, init: list[Tensor]
) -> tuple[list[Array], str]:
    """(what came to each leaf of the state from outside, (T, B, ...); what differs, or "").

    Raises FlowError where the cell is a user's own, and a step of it computes something else.
    """
    like, steps = cell.init_state(x.shape[1]), x.shape[0]
    states = _states(arrays, cell, like, x, init)
    total = arrays.totals([s[1:] for s in states])
    arrived, carried = [g.copy() for g in total], [np.zeros_like(g) for g in total]
    own = call.layer.kind == OWN  # whose rows may know of each other
    worst = (0.0, 0)
    for a in range(0, steps, 1 if own else steps):
        b = a + 1 if own else steps
        began = tick()
        before = [wrap(_rows(s[a:b]), None, True) for s in states]
        with unheard(recording=True):
            new, _ = cell(rebuild(like, before), wrap(_rows(x.numpy()[a:b]), None, False))
        for t in range(a, b):
            theirs = [s[t + 1] for s in states]
            worst = max(worst, (_differs(call, arrays, cell, t, new, t - a, theirs), t))
        found = _back(leaves(new), [g[a:b] for g in arrived], before, began)
        for into, g in zip(carried, found, strict=True):
            into[max(a - 1, 0) : b - 1] += g.reshape(b - a, *into.shape[1:])[a == 0 :]
    said = ""
    if not worst[0] <= TOLERANCE[arrays.dtype] and arrays.precision in ("float32", "float64"):
        said = (
            f"{call.layer.name}: step {worst[1]}, run again in minigrad, differs from PyTorch's by "
            f"{worst[0]:.1g} of the largest number; what is told of it is of another run"
        )
    parts = zip(total, arrived, carried, strict=True)
    return [_left(arrays, *of_leaf) for of_leaf in parts], said


def _back(new: list[Tensor], arrived: list[Array], before: list[Tensor], began: int) -> list[Array]:
    """The gradients of the states before some steps, of all that arrived at those after them.

    What arrived by way of another leaf of the same state is taken out of `arrived`, in place.
    """
    carried = [np.zeros_like(s._array) for s in before]
    seeds = [_rows(g).astype(t.dtype) for t, g in zip(new, arrived, strict=True)]
    for t, seed in zip(new, seeds, strict=True):
        others = [other for other in new if other is not t]  # the walk ends there
        found = pulled([(t, seed)], [*before, *others], began, again=True) if _leads(t) else {}
        for s, into in zip(before, carried, strict=True):
            into += found.get(id(s), 0)
        for other, g in zip(new, arrived, strict=True):
            if other is not t and id(other) in found:
                g -= found[id(other)].reshape(g.shape)
    return carried


def _leads(t: Tensor) -> bool:
    return t.requires_grad and t._node is not None


def _states(arrays: Arrays, cell: Any, like: Any, x: Tensor, init: list[Tensor]) -> list[Array]:
    """Each leaf before the first step and after every one, as it was there, (T + 1, B, ...)."""
    found = [[s.numpy() for s in init]]
    for t, known in enumerate(arrays.after_steps):
        if known is None:  # somebody has written into it since
            with unheard():
                new, _ = cell(
                    rebuild(like, [wrap(s, None, False) for s in found[-1]]),
                    wrap(x.numpy()[t], None, False),
                )
            known = [s.numpy() for s in leaves(new)]
        found.append(known)
    return [np.stack(steps) for steps in zip(*found, strict=True)]


def _differs(
    call: Call, arrays: Arrays, cell: Any, t: int, new: Any, k: int, theirs: list[Array]
) -> float:
    """By how much of the largest number step t is another one; k: where its rows are."""
    worst = 0.0
    for (name, ours), s in zip(named_leaves(new), theirs, strict=True):
        rows = ours.numpy()[k * len(s) : (k + 1) * len(s)]
        worst = max(worst, apart(rows, s))
        if call.layer.kind != OWN or worst <= TOLERANCE[arrays.dtype]:
            continue
        who = f"{call.layer.name}: at step {t} its twin {type(cell).__name__} computes"
        which = f"the state{f' {name!r}' if name else ''}"
        if rows.shape != s.shape:
            raise FlowError(f"{who} {which} as {describe(rows)}; PyTorch's is {describe(s)}.")
        at = np.unravel_index(np.argmax(np.abs(rows - s)), s.shape)
        raise FlowError(
            f"{who} {float(rows[at]):.6g} for {which} at {list(map(int, at))}, where PyTorch has "
            f"{float(s[at]):.6g}; a twin computes the same."
        )
    return worst


def _left(arrays: Arrays, total: Array, arrived: Array, carried: Array) -> Array:
    rest = arrived - carried
    sizes = row_norms(total) + row_norms(carried)
    rounding = row_norms(rest) <= ROUNDING * EPSILON[arrays.precision] * sizes
    return np.where(rounding.reshape(*rest.shape[:-1], 1), 0, rest)


def _rows(a: Array) -> Array:
    return a.reshape(-1, *a.shape[2:])
