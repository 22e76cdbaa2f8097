"""A scan of JAX, recorded by its step and its arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import FlowError
from ..interop.recording_jax import JaxCell
from .given import replay
from .recording import Recording
from .verdict import Thresholds


def record_jax(
    step: Callable[..., Any],
    init: Any,
    xs: Any,
    loss: Callable[[Any, Any], Any] | None = None,
    *,
    params: Any = None,
    grad_ys: Any = None,
    grad_final: Any = None,
    reverse: bool = False,
    names: Sequence[str] | None = None,
    name: str = "",
    thresholds: Thresholds | None = None,
) -> Recording:
    """(step, init, xs, loss) -> Recording of `jax.lax.scan(step, init, xs)` and its way back.

        final, ys = jax.lax.scan(partial(step, params), init, xs)
        rec = mg.flow.record_jax(step, init, xs, lambda final, ys: jnp.sum(ys[-1]), params=params)
        rec[""].norms["h"]          # |dL/dh_t| for every t

    step: (params, carry, x) -> (carry, y), or (carry, x) -> (carry, y) without params: any function
        of JAX on trees of arrays that have a row for each of the batch, (B, ...).
    init, xs: as for lax.scan, (B, ...) and (T, B, ...). params: a tree of arrays whose gradients by
        step and by lag are to be known, named as in the tree: `cell.W` for params["cell"]["W"].
    loss: (final, ys) -> a number; or grad_final and grad_ys, its gradients by these, trees like
        them with None where there is none.
    names: of the leaves of the carry; else as the tree names them, and `h` if there is one.
    name: the path in the recording. reverse: as in lax.scan. thresholds: as in `record`.

    The gradient of a state is what comes to it from later steps, and from a y that is the state as
    it stands. Another y that the same step computes from it is part of the step, which `missing`
    says.
    Step for step the values and the derivatives are those that JAX computes, so no cell has to be
    written twice; everything that works on a Recording works on it, at the pace of a loop on the
    tape. A cell of minigrad with the same weights is faster: see `replay`.
    Raises FlowError unless either a loss or gradients are given; MissingPackageError without JAX.
    """
    if (loss is None) == (grad_ys is None and grad_final is None):
        raise FlowError("record_jax: pass either loss or gradients, grad_ys and grad_final.")
    cell = JaxCell(step, init, xs, params, names)
    jax = cell.jax
    if loss is not None:
        body = step if params is None else lambda carry, x: step(params, carry, x)
        outputs = jax.lax.scan(body, init, xs, reverse=reverse)
        grad_final, grad_ys = jax.grad(loss, argnums=(0, 1), allow_int=True)(*outputs)

    def flat(tree: Any) -> Any:
        if tree is None:
            return None
        found = jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None)
        return tuple(g if g is None or g.dtype.kind == "f" else None for g in found)

    ys, lasts = flat(grad_ys), flat(grad_final)
    found = replay(
        cell, cell.xs, cell.init, ys, lasts, reverse=reverse, name=name, mode="tape",
        states=tuple(cell.names), thresholds=thresholds,
    )  # fmt: skip
    read = [j for j, g in enumerate(ys or ()) if g is not None and np.any(g)]
    if any(j not in cell.aliases for j in read):
        found.gaps.append(
            "the loss reads a y that is no state as it stands: what that brings to the state of "
            "its own step counts as part of the step, and is not in |dL/d(state)|; let the step "
            "give the state, and compute from it outside of the scan"
        )
    return found
