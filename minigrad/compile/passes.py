"""Passes: small functions Program -> Program; `minigrad explain CELL --passes` shows their work.

merge_products   h @ W1 and h @ W2 become one product, h @ [W1 | W2]
share            equal computations are done once
push_slices      (a + b)[:, :n] becomes a[:, :n] + b[:, :n], so that gates share one loop
recompute        what is cheap to compute again is not kept for BPTT
prune            what nothing reads is not computed
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from .. import ops
from .batch import indexed
from .program import BEFORE, STEP, Program, Value, freeze, used
from .trace import Trace

Rule = Callable[[Value, tuple[Any, ...]], Value | None]
Mapping = dict[Value, Value]

# Cheap enough to compute a second time rather than to keep for every step. The slopes of tanh and
# sigmoid are computed from what goes in, so that is kept, and what comes out is had from it.
_CHEAP = {
    "add", "subtract", "multiply", "negative", "square", "abs", "sign", "relu", "where", "maximum",
    "minimum", "clip", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
    "logical_and", "logical_or", "logical_not", "leaky_relu", "tanh", "sigmoid",
}  # fmt: skip


def prune(program: Program) -> Program:
    """Without what nothing reads."""
    body = used(program.results, program.inputs)
    read = {i for v in body for i in v.inputs if type(i) is Value} | set(program.results)
    return replace(program, body=body, weights=[w for w in program.weights if w in read])


def rewrite(trace: Trace, program: Program, rule: Rule) -> tuple[Program, Mapping]:
    """The program with rule(value, its new inputs) in place of each value where that is not None;
    and the new value of each old one that changed.
    """
    new: Mapping = {}
    for v in program.body:
        inputs = tuple([new.get(i, i) if type(i) is Value else i for i in v.inputs])
        made = rule(v, inputs)
        if made is None and inputs != v.inputs:
            made = trace.again(v, inputs)
        if made is not None:
            new[v] = made
    back = lambda values: [new.get(v, v) for v in values]  # noqa: E731
    changed = replace(
        program,
        carry_out=back(program.carry_out),
        ys=back(program.ys),
        sums={w: new.get(v, v) for w, v in program.sums.items()},
        taps={name: new.get(v, v) for name, v in program.taps.items()},
    )
    weights = [v for v in used_inputs(changed) if v.stage == BEFORE]
    return prune(replace(changed, weights=_joined(program.weights, weights))), new


def used_inputs(program: Program) -> list[Value]:
    """The inputs that the results depend on."""
    body = used(program.results, program.carry)
    return list(dict.fromkeys(
        i for v in [*body, *program.results] for i in (*v.inputs, v)
        if type(i) is Value and i.role != "op"
    ))  # fmt: skip


def _joined(first: Iterable[Value], second: Iterable[Value]) -> list[Value]:
    return list(dict.fromkeys([*first, *second]))


def share(trace: Trace, program: Program) -> tuple[Program, Mapping]:
    """Equal values become one."""
    known: dict[Any, Value] = {}

    def rule(v: Value, inputs: tuple[Any, ...]) -> Value | None:
        ids = tuple([id(i) if type(i) is Value else ("n", repr(i)) for i in inputs])
        key = (v.op, ids, freeze(v.params), v.cut, v.row, v.batch, v.stage)
        if key in known:
            return known[key]
        known[key] = v if inputs == v.inputs else trace.again(v, inputs)
        return None if known[key] is v else known[key]

    return rewrite(trace, program, rule)


def merge_products(trace: Trace, program: Program) -> tuple[Program, Mapping]:
    """Products of one value with several weights become one."""
    groups: dict[Value, list[Value]] = {}
    for v in program.body:
        product = v.op is ops.matmul and v.stage == STEP and not v.cut
        if product and v.inputs[1].role == "weight":
            groups.setdefault(v.inputs[0], []).append(v)
    groups = {a: vs for a, vs in groups.items() if len({v.inputs[1] for v in vs}) > 1}
    if not groups:
        return program, {}
    parts: dict[Value, Value] = {}

    def rule(v: Value, inputs: tuple[Any, ...]) -> Value | None:
        a = v.inputs[0] if v.op is ops.matmul else None
        if a not in groups or v not in groups[a]:
            return None
        if v not in parts:
            weights = list(dict.fromkeys(p.inputs[1] for p in groups[a]))
            joined = trace.outside(ops.concatenate, weights, {"axis": 1}, BEFORE)
            x, w = trace.tracer(inputs[0]), trace.tracer(joined)
            product = x @ w
            begin = 0
            cuts = {}
            for weight in weights:
                end = begin + weight.shape[1]
                cuts[weight] = product[..., begin:end]._value
                begin = end
            for p in groups[a]:
                parts[p] = cuts[p.inputs[1]]
        return parts[v]

    trace.forward = False
    try:
        return rewrite(trace, program, rule)
    finally:
        trace.forward = True


def push_slices(trace: Trace, program: Program) -> tuple[Program, Mapping]:
    """Slices move ahead of the elementwise ops whose results are only read in slices."""
    readers: dict[Value, list[Value]] = {}
    for v in program.body:
        for i in v.inputs:
            if type(i) is Value:
                readers.setdefault(i, []).append(v)
    results = set(program.results)
    pushed: set[Value] = set()
    for v in reversed(program.body):
        if v.op is None or v.op.kind != "elementwise" or v.stage != STEP or v in results:
            continue
        reads = readers.get(v, [])
        if reads and all(
            _is_slice(r) or (r in pushed and r.row == v.row and r.batch == v.batch) for r in reads
        ):
            pushed.add(v)
    if not pushed:
        return program, {}
    made: dict[Any, Value] = {}

    def cut(v: Value, index: tuple[Any, ...]) -> Value:
        key = (v, freeze(index))
        if key not in made:
            if v in pushed:
                assert v.op is not None
                inputs = [
                    cut(i, _for_operand(index, v, i)) if type(i) is Value else i for i in v.inputs
                ]
                args = [trace.tracer(i) if type(i) is Value else i for i in inputs]
                made[key] = trace.apply(v.op, args, {})._value
                made[key].cut = v.cut
            elif all(item == slice(None) for item in index):
                made[key] = v
            else:
                made[key] = trace.apply(ops.getitem, (trace.tracer(v),), {"index": index})._value
        return made[key]

    def rule(v: Value, inputs: tuple[Any, ...]) -> Value | None:
        if _is_slice(v) and v.inputs[0] in pushed:
            source = v.inputs[0]
            items = indexed(v.params["index"], len(source.shape))
            return cut(source, tuple(item for _, item, _ in items))
        return None

    return rewrite(trace, program, rule)


def _is_slice(v: Value) -> bool:
    if v.op is not ops.getitem or v.stage != STEP:
        return False
    items = indexed(v.params["index"], len(v.inputs[0].shape))
    return all(isinstance(item, slice) for _, item, _ in items)


def _for_operand(index: tuple[Any, ...], v: Value, operand: Value) -> tuple[Any, ...]:
    """The same slices for an operand that is broadcast to v."""
    lead = len(v.shape) - len(operand.shape)
    found = []
    for axis, n in enumerate(operand.shape):
        still = n == 1 and v.shape[axis + lead] != 1
        found.append(slice(None) if still else index[axis + lead])
    return tuple(found)


def recompute(program: Program, forward: Program) -> Program:
    """A backward step that computes again what is cheap, from what it reads anyway."""
    own = set(program.body) | set(program.carry)
    reads = sorted((v for v in program.xs if v not in own), key=lambda v: v.index)
    inside = set(forward.body) | set(forward.inputs)
    again: set[Value] = set()
    known = {v for v in reads if v.role != "op"}

    def ready(i: Any, depth: int = 4) -> bool:
        if type(i) is not Value or i.stage == BEFORE or i in known:
            return True
        if i.role in ("x", "rows") and i.op is None:  # the caller has it anyway
            return True
        return depth > 0 and cheap(i, depth)

    def cheap(v: Value, depth: int = 4) -> bool:
        if v not in inside or v.op is None or not (v.op.name in _CHEAP or v.op.kind == "view"):
            return False
        return all(ready(i, depth - 1) for i in v.inputs)

    for v in reads:
        if v.role == "op" and cheap(v):
            again.add(v)
        known.add(v)
    kept = [v for v in program.xs if v not in again]
    body = used(program.results, [*program.carry, *kept])
    kept += [
        i for i in dict.fromkeys(i for v in body for i in v.inputs if type(i) is Value)
        if i.role in ("x", "rows") and i in inside and i not in kept
    ]  # fmt: skip
    weights = list(dict.fromkeys(
        i for v in [*body, *program.results] for i in (*v.inputs, v)
        if type(i) is Value and i.role == "weight"
    ))  # fmt: skip
    return replace(program, xs=kept, body=body, weights=weights)


def forward(trace: Trace, program: Program, kept: Sequence[Value]) -> tuple[Program, Mapping]:
    """What runs forward, when `kept` values are to be stored; and their new names."""
    held = {f"kept{k}": v for k, v in enumerate(kept)}
    wanted = replace(program, taps=program.taps | held)
    result, new = optimise(trace, wanted)
    return replace(result, taps={n: v for n, v in result.taps.items() if n not in held}), new


def backward(trace: Trace, program: Program) -> Program:
    """What runs backward."""
    return optimise(trace, program)[0]


_KEEP_MEANING = (share, push_slices, share)


def trail(trace: Trace, program: Program) -> list[tuple[str, Program]]:
    """(pass, the program after it) for the passes of `optimise`, in turn: to be shown."""
    found = []
    trace.forward = False
    try:
        for step in _KEEP_MEANING:
            program, _ = step(trace, program)
            found.append((step.__name__, program))
    finally:
        trace.forward = True
    return found


def optimise(trace: Trace, program: Program) -> tuple[Program, Mapping]:
    """The passes that keep what a program means, one after the other."""
    total: Mapping = {}
    trace.forward = False  # what is rewritten is part of the step, whatever it depends on
    try:
        for step in _KEEP_MEANING:
            program, new = step(trace, program)
            total = {v: new.get(t, t) for v, t in total.items()} | {
                v: t for v, t in new.items() if v not in total
            }
    finally:
        trace.forward = True
    return program.check(), total
