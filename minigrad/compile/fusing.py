"""mode="fused": the step of a cell, compiled or found again, on the Tensors of one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..tape import state as switches
from ..tape import tick
from ..tensors import Tensor, wrap
from ..tree import emptied, leaves, map_leaves, rebuild
from . import recall, remember
from .call import Run, wanted_by
from .checks import check_repeats, warn_of_numbers
from .compiled import Compiled
from .eager import leaves_behind
from .packing import Packing, packs
from .padding import Padded, cell_name, cleaned, unwrapped, with_held
from .program import Value
from .promise import code_of
from .result import Call, ScanResult
from .traced import Traced, listed
from .unrolling import Cell, unroll

_COMPILED: dict[Any, Compiled] = {}
_MOST = 512  # programs; each holds its kernels


def fused(cell: Cell, init: Any, xs: Any, rows: int, reverse: bool, record: Any) -> ScanResult:
    """scan(cell, init, xs) as compiled loops; rows is B."""
    began = tick()
    listeners = switches.listeners
    packing = None
    if type(cell) is Padded and cell.packed:
        (xs, real), cell = xs, cell.cell
        if packs(real._array, reverse):  # a segment may have no padding
            packing = Packing(real._array, reverse)
    mask = None if packing is None else packing.mask
    given = [*leaves(init), *leaves(xs)]
    wanted: Any = True if record is True or listeners else listed(record)
    heard = bool(listeners) and not record
    step = _step(cell, init, xs, given, rows, wanted, record, heard, mask)
    states = set(step.taps) if record is True else set(listed(record))
    states |= wanted_by(listeners, step.compiled, step.taps)
    for name in step.taps if record is True else listed(record):
        if why := step.compiled.refused.get(name):
            raise ValueError(f"scan: record={name!r}, but it {why}.")
    tensors = step.compiled.tensors(step.tensors, rows, mask)
    steps = given[-1].shape[0]
    run = Run(step.compiled, tensors, steps, rows, reverse, step.taps, states, packing=packing)
    finals, ys = run.run()
    if switches.anomaly and not all(_finite(t) for t in (*finals, *ys)):
        if mask is not None:
            xs = map_leaves(lambda x: cleaned(mask, x), xs)
        unroll(cell, init, xs, None, reverse, mask)  # which names the op and the step
    final, y = rebuild(step.final, finals), rebuild(step.ys, ys)
    if listeners:
        run.tell(listeners, switches.scope)
    if any(listener.whole_scans for listener in listeners):
        weights = leaves_behind(tensors, given, began)
        for listener in listeners:
            listener.ran(switches.scope, Call(cell, init, xs, reverse, final, y, weights, began))
    explanation = run.explanation(step.came)
    explanation.padded = type(cell) is Padded
    return ScanResult(final, y, run.heard.record if record else None, explanation)


def ready(cell: Cell, init: Any, xs: Any, reverse: bool) -> tuple[Run, Callable[..., ScanResult]]:
    """fused(cell, init, xs, reverse), where nobody listens, before it runs; and what makes its
    result of the last carry and the ys.
    """
    given = [*leaves(init), *leaves(xs)]
    steps, rows = given[-1].shape[:2]
    step = _step(cell, init, xs, given, rows, [], None, False, None)
    run = Run(step.compiled, step.compiled.tensors(step.tensors, rows), steps, rows, reverse)

    def result(finals: list[Tensor], ys: list[Tensor]) -> ScanResult:
        final, y = rebuild(step.final, finals), rebuild(step.ys, ys)
        return ScanResult(final, y, None, run.explanation(step.came))

    return run, result


class _Step(NamedTuple):
    """A step as one call runs it."""

    compiled: Compiled
    tensors: list[Tensor]  # the inputs of its program
    final: Any  # trees that stand for what it returns
    ys: Any
    taps: dict[str, Value]
    came: str  # from where: traced or remembered, and why


def _step(
    cell: Cell, init: Any, xs: Any, given: list[Tensor], rows: int, wanted: Any, record: Any,
    heard: bool, mask: Any,
) -> _Step:  # fmt: skip
    """The step of a cell, compiled: traced now, or remembered where that is promised to be safe."""
    own, kinds, held = unwrapped(cell)
    given = [*given, *leaves(held)]
    asked = wanted, record is True
    memory = remember.Memory(own, kinds, init, xs, given, asked)
    if memory.found is not None:
        known = memory.found
        if own is cell and (heard or not asked[0]):
            recall.note(cell, init, xs, known, heard)
        return _Step(known.compiled, known.again(given), *known.outputs, known.taps, recall.REUSED)
    first = _traced(cell, init, xs, rows, bool(wanted), memory.wanted, mask)
    taps = first.chosen(wanted, record)
    tensors = first.tensors()
    code, content = code_of(own), first.known_by(taps)
    compiled = _COMPILED.get(content)
    if memory.wanted or compiled is None or code not in compiled.checked:
        apart = [wrap(t._array, None, t.requires_grad) for t in given]  # each a Tensor of its own
        n, m = len(leaves(init)), len(leaves(init)) + len(leaves(xs))
        again = rebuild(init, apart[:n]), rebuild(xs, apart[n:m])
        same = with_held(cell, rebuild(held, apart[m:]))
        second = _traced(same, *again, rows, bool(wanted), True, mask)
        check_repeats(first, second, taps)
        if compiled is None:
            warn_of_numbers(cell_name(cell), own, code, first.trace.values)
            if len(_COMPILED) >= _MOST:
                _COMPILED.clear()
            program = replace(first.program, taps=dict(taps))
            compiled = _COMPILED[content] = Compiled(first.trace, program, cell_name(cell))
        compiled.checked.add(code)
        if memory.wanted:
            outputs = emptied(first.final), emptied(first.ys)
            runs = (first, tensors, given), (second, second.tensors(), apart)
            memory.learn(compiled, runs, outputs, taps)
    return _Step(compiled, tensors, first.final, first.ys, taps, f"traced: {memory.why}")


def _traced(
    cell: Cell, init: Any, xs: Any, rows: int, tapped: bool, noted: bool, mask: Any
) -> Traced:
    """A trace; tapped: of which taps are kept; noted: with the eager ops that the cell ran."""
    if not noted:
        return Traced(cell, init, xs, rows, tapped, mask)
    recorder = remember.Recorder()
    with switches.switched(tape=recorder):
        traced = Traced(cell, init, xs, rows, tapped, mask)
    traced.eager = recorder.nodes
    return traced


def _finite(t: Tensor) -> bool:
    return t.dtype.kind != "f" or bool(np.isfinite(t._array).all())
