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
from .forward import full_shape, is_by_row
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
            t if t._array is array else in_place_of(t, array)
            for t, array in zip(saved.tensors, saved.arrays, strict=True)
        ]
        self.tensors = raw if self.outside is None else self.outside.again(raw)
        self.forward: Program = self.compiled.program
        self.of = dict(zip(self.forward.inputs, self.tensors, strict=True))
        self.fixed = {v: t for v, t in self.of.items() if v in self.forward.weights}
        self.dtype = next(t.dtype for t in self.tensors if t.dtype.kind == "f")


def gradient_as_scan(scan: Callable[..., Any], node: Node, g: dict[int, Tensor]) -> Pulled:
    """BPTT as a scan of its own: (input, its gradient), as Tensors."""
    run = _Run(scan, node)
    forward = run.forward
    wanted = tuple(i for i in run.needs if i >= len(forward.carry))
    backward, _ = run.compiled.bptt(wanted, True, ())
    first, kept = _scan_backward(run, backward, _read_values(run, backward), g)
    known: dict[Value, Any] = dict(run.fixed)
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
    if v.batch is None or is_by_row(v):
        return t
    at = v.batch + lead
    apart = t.reshape(*t.shape[:at], rows, v.many, *t.shape[at + 1 :])
    order = [*range(lead), at, *(a for a in range(lead, apart.ndim) if a != at)]
    return ops.transpose(apart, tuple(order))


def _as_in_step(t: Tensor, v: Value, rows: int, lead: int = 0) -> Tensor:
    """The other way round."""
    if v.batch is None or is_by_row(v):
        return t
    at = v.batch + lead
    order = [*range(lead), *range(lead + 1, at + 1), lead, *range(at + 1, t.ndim)]
    moved = ops.transpose(t, tuple(order))
    return moved.reshape(*moved.shape[:lead], *full_shape(v, rows))


def _read_values(run: _Run, backward: Program) -> dict[Value, Tensor]:
    """(T, B, ...) of every value of the forward step that the backward step reads."""
    forward = run.forward
    own = set(forward.inputs) | set(forward.body)
    reads = [v for v in backward.xs if v in own and v not in run.fixed]
    found = {v: run.of[v] for v in reads if v in forward.xs}
    rest = [v for v in reads if v not in found]
    if not rest:
        return found
    first = [run.of[v] for v in forward.carry]
    xs = {v: run.of[v] for v in forward.xs}
    return found | _scanned(run, forward, first, xs, rest, run.reverse)[1]


def _scan_backward(
    run: _Run, backward: Program, reads: dict[Value, Tensor], g: dict[int, Tensor]
) -> tuple[list[Tensor], dict[Value, Tensor]]:
    """BPTT: the gradient of the first carry, and (T, B, ...) of what is needed of every step."""
    forward = run.forward
    c, own = len(forward.carry), set(forward.inputs) | set(forward.body)
    dys = [v for v in backward.xs if v not in own]
    floats = [k for k, v in enumerate(forward.ys, start=c) if v.dtype.kind == "f"]
    given = [g[k] if k in g else wrap(zeros_like_y(run.node, k - c), None, False) for k in floats]
    after = [i for v in backward.body if v.stage == AFTER for i in v.inputs]
    summed = [i for i in after if type(i) is Value and i.stage == STEP]
    kept = list(dict.fromkeys([*backward.ys, *summed]))
    nothing = [wrap(np.zeros(t.shape, t.dtype), None, False) for t in run.tensors[:c]]
    last = [g.get(k, nothing[k]) for k in range(c)]
    xs = {v: reads[v] for v in backward.xs if v in reads} | dict(zip(dys, given, strict=True))
    return _scanned(run, backward, last, xs, kept, not run.reverse)


def _scanned(
    run: _Run, program: Program, init: list[Tensor], xs: dict[Value, Tensor], wanted: list[Value],
    reverse: bool,
) -> tuple[list[Tensor], dict[Value, Tensor]]:  # fmt: skip
    """A step of the program, scanned: the last carry, and (T, B, ...) of what is wanted."""
    body = [v for v in program.body if v.stage != AFTER]

    def step(state: Any, x: Any) -> tuple[Any, Any]:
        known = dict(run.fixed) | dict(zip(program.carry, state, strict=True))
        for v, t in zip(xs, x, strict=False):
            known[v] = _as_in_step(t, v, run.rows)
        evaluate(body, known, run.rows)
        ys = tuple(_rows_first(known[v], v, run.rows) for v in wanted)
        return tuple(known[v] for v in program.carry_out), ys

    step.__name__ = "forward_step" if program is run.forward else "backward_step"
    given = tuple(_rows_first(t, v, run.rows, 1) for v, t in xs.items())
    if not given:  # something of T steps, for a cell that reads no input
        given = (as_tensor(np.zeros((run.steps, run.rows, 1), run.dtype)),)
    last, ys = run.scan(step, tuple(init), given, reverse=reverse, mask=run.mask)
    return list(last), {v: _as_in_step(t, v, run.rows, 1) for v, t in zip(wanted, ys, strict=True)}


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
        if v.kind == "matmul":
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
