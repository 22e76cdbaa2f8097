"""Higher derivatives: the gradient of a scan is a scan.

The forward step is scanned once more, giving the values that BPTT reads as Tensors on the tape; the
backward step is scanned over them, the other way round; and what BPTT sums over time is summed by
eager ops. All of that is recorded, and each scan can be differentiated in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import ops
from ..tape import Node
from ..tensors import Tensor, as_tensor, in_place_of, wrap
from .call import Kept, zeros_like_y
from .kernel import evaluate
from .node import Pulled
from .program import AFTER, STEP, Program, Value


class _Run:
    """What a scan's node says of the call, and `scan` itself, which runs it again."""

    def __init__(self, scan: Callable[..., Any], node: Node):
        self.scan, self.node = scan, node
        self.compiled, self.steps, self.rows, self.reverse = (
            node.params[k] for k in ("compiled", "steps", "rows", "reverse")
        )
        packing = node.params["packing"]
        self.mask = None if packing is None else packing.mask
        saved: Kept = node._saved.of  # type: ignore[union-attr]
        self.needs, self.outside = saved.needs, saved.outside
        self.raw = saved.tensors
        raw = [  # one that has other values by now is put back to what it was
            t if t._data is array else in_place_of(t, array)
            for t, array in zip(saved.tensors, saved.arrays, strict=True)
        ]
        self.tensors = raw if self.outside is None else self.outside.again(raw)
        self.carries = len(self.compiled.program.carry)
        self.dtype = next(t.dtype for t in self.tensors if t.dtype.kind == "f")


def gradient_as_scan(scan: Callable[..., Any], node: Node, g: dict[int, Tensor]) -> Pulled:
    """BPTT as a scan of its own: (input, its gradient), as Tensors."""
    run = _Run(scan, node)
    forward: Program = run.compiled.program
    wanted = tuple(i for i in run.needs if i >= run.carries)
    backward, _ = run.compiled.bptt(wanted, True, ())
    tensors = dict(zip(forward.inputs, run.tensors, strict=True))
    fixed = {v: t for v, t in tensors.items() if v in forward.weights}
    reads = _read_values(run, forward, backward, tensors, fixed)
    first, kept = _scan_backward(run, forward, backward, reads, fixed, g)
    known = dict(fixed)
    _sum_up(backward, kept, known, run.rows)
    found: dict[Value, Tensor] = {w: known[v] for w, v in backward.sums.items()}
    for x, v in zip(backward.gradients_of, backward.ys, strict=True):
        found[x] = kept[v]
    found |= dict(zip(forward.carry, first, strict=True))
    gradients: Pulled = []
    for i in run.needs:
        v = forward.inputs[i]
        if v in found:
            gradients.append((i, found[v].reshape(run.tensors[i].shape)))
    if run.outside is not None:
        return run.outside.recorded(run.raw, run.tensors, gradients, node.plan.needs)
    return gradients


def _rows_first(t: Tensor, v: Value, rows: int, lead: int = 0) -> Tensor:
    """A Tensor of v's shape, behind `lead` axes, as (B, ...): what a scan takes and gives."""
    if v.batch is None or (v.batch == 0 and v.many == 1):
        return t
    at = v.batch + lead
    apart = t.reshape(*t.shape[:at], rows, v.many, *t.shape[at + 1 :])
    order = [*range(lead), at, *(a for a in range(lead, apart.ndim) if a != at)]
    return ops.transpose(apart, tuple(order))


def _as_in_step(t: Tensor, v: Value, rows: int, lead: int = 0) -> Tensor:
    """The other way round."""
    if v.batch is None or (v.batch == 0 and v.many == 1):
        return t
    at = v.batch + lead
    order = [*range(lead), *range(lead + 1, at + 1), lead, *range(at + 1, t.ndim)]
    moved = ops.transpose(t, tuple(order))
    full = (*v.row[: v.batch], rows * v.many, *v.row[v.batch + 1 :])
    return moved.reshape(*moved.shape[:lead], *full)


def _read_values(
    run: _Run,
    forward: Program,
    backward: Program,
    tensors: dict[Value, Tensor],
    fixed: dict[Value, Tensor],
) -> dict[Value, Tensor]:
    """(T, B, ...) of every value of the forward step that the backward step reads."""
    own = set(forward.inputs) | set(forward.body)
    reads = [v for v in backward.xs if v in own and v not in fixed]
    found = {v: tensors[v] for v in reads if v in forward.xs}
    rest = [v for v in reads if v not in found]
    if not rest:
        return found

    def forward_step(state: Any, x: Any) -> tuple[Any, Any]:
        known = dict(fixed) | dict(zip(forward.carry, state, strict=True))
        for v, t in zip(forward.xs, x, strict=False):  # see _steps
            known[v] = _as_in_step(t, v, run.rows)
        evaluate(forward.body, known, run.rows)
        return tuple(known[v] for v in forward.carry_out), tuple(
            _rows_first(known[v], v, run.rows) for v in rest
        )

    init = tuple(tensors[v] for v in forward.carry)
    xs = tuple(_rows_first(tensors[v], v, run.rows, 1) for v in forward.xs)
    _, ys = run.scan(forward_step, init, xs or _steps(run), reverse=run.reverse, mask=run.mask)
    return found | {v: _as_in_step(t, v, run.rows, 1) for v, t in zip(rest, ys, strict=True)}


def _steps(run: _Run) -> tuple[Tensor, ...]:
    """Something of T steps, for a cell that reads no input."""
    return (as_tensor(np.zeros((run.steps, run.rows, 1), run.dtype)),)


def _scan_backward(
    run: _Run,
    forward: Program,
    backward: Program,
    reads: dict[Value, Tensor],
    fixed: dict[Value, Tensor],
    g: dict[int, Tensor],
) -> tuple[list[Tensor], dict[Value, Tensor]]:
    """BPTT: the gradient of the first carry, and (T, B, ...) of what is needed of every step."""
    c = run.carries
    names = [v for v in backward.xs if v in reads]
    own = set(forward.inputs) | set(forward.body)
    dys = [v for v in backward.xs if v not in own]
    floats = [k for k, v in enumerate(forward.ys, start=c) if v.dtype.kind == "f"]
    given = [g[k] if k in g else wrap(zeros_like_y(run.node, k - c), None, False) for k in floats]
    summed = [
        i
        for v in backward.body
        if v.stage == AFTER
        for i in v.inputs
        if type(i) is Value and i.stage == STEP
    ]
    kept = list(dict.fromkeys([*backward.ys, *summed]))
    body = [v for v in backward.body if v.stage != AFTER]

    def backward_step(state: Any, x: Any) -> tuple[Any, Any]:
        known = dict(fixed) | dict(zip(backward.carry, state, strict=True))
        for v, t in zip([*names, *dys], x, strict=False):  # see _steps
            known[v] = _as_in_step(t, v, run.rows)
        evaluate(body, known, run.rows)
        return tuple(known[v] for v in backward.carry_out), tuple(
            _rows_first(known[v], v, run.rows) for v in kept
        )

    nothing = [wrap(np.zeros(t.shape, t.dtype), None, False) for t in run.tensors[:c]]
    init = tuple(g.get(k, nothing[k]) for k in range(c))
    read = [*(reads[v] for v in names), *given]
    xs = tuple(_rows_first(t, v, run.rows, 1) for t, v in zip(read, [*names, *dys], strict=True))
    first, ys = run.scan(
        backward_step, init, xs or _steps(run), reverse=not run.reverse, mask=run.mask
    )
    found = {v: _as_in_step(t, v, run.rows, 1) for v, t in zip(kept, ys, strict=True)}
    return list(first), found


def _sum_up(
    backward: Program, kept: dict[Value, Tensor], known: dict[Value, Any], rows: int
) -> None:
    """The "after" values, by eager ops on whole sequences."""
    for v in backward.body:
        if v.stage != AFTER:
            continue
        steps = [i for i in v.inputs if type(i) is Value and i.stage == STEP]
        if not steps:
            continue
        assert v.op is not None
        if v.op.kind == "matmul":
            factors = [kept[i] for i in v.inputs]  # (T, K, B) and (T, B, N)
            a, b = (f.detach() if k in v.cut else f for k, f in enumerate(factors))
            known[v] = ops.transpose(a, (1, 0, 2)).reshape(a.shape[1], -1) @ b.reshape(
                -1, b.shape[2]
            )
        elif v.params["axis"] == ():
            known[v] = ops.sum(kept[steps[0]], axis=0)
        else:
            (axis,) = v.params["axis"]
            total = ops.sum(kept[steps[0]], axis=(0, axis + 1), keepdims=True)
            known[v] = total.reshape(total.shape[1:])
    evaluate([v for v in backward.body if v.stage != STEP], known, rows)
