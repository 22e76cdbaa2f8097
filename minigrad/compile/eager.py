"""mode="tape": every step as eager operations, heard by those who listen to whole scans."""

from __future__ import annotations

from typing import Any

from .. import ops
from ..tape import state as switches
from ..tape import tick
from ..tensors import Tensor
from ..tree import leaves, map_leaves
from .outer import closed_over
from .records import TapeRecord
from .result import Call, ScanResult
from .unrolling import Cell, sizes, unroll


def on_tape(
    cell: Cell, init: Any, xs: Any, reverse: bool, record: Any, specified: tuple[Any, ...]
) -> ScanResult:
    """unroll(*specified), which is what `cell` does over xs; with what record= asks for."""
    if not record:
        return ScanResult(*_heard(cell, init, xs, reverse, specified))
    kept = TapeRecord(record, reverse, *sizes("scan", xs))
    with kept.listening():
        final, ys = _heard(cell, init, xs, reverse, specified)
    return ScanResult(final, ys, kept.record)


def _heard(
    cell: Cell, init: Any, xs: Any, reverse: bool, specified: tuple[Any, ...]
) -> tuple[Any, Any]:
    hearing = [who for who in switches.listeners if who.whole_scans]
    began = tick() if hearing else 0
    final, ys = unroll(*specified)
    if hearing:
        # ys read the last state too; apart from it, `final` gets only the gradient that is its own
        final = map_leaves(lambda t: ops.reshape(t, t.shape), final)
        given = [*leaves(init), *leaves(xs)]
        weights = leaves_behind([*leaves(final), *leaves(ys)], given, began)
        for who in hearing:
            who.ran(switches.scope, Call(cell, init, xs, reverse, final, ys, weights, began))
    return final, ys


def leaves_behind(outputs: list[Tensor], given: list[Tensor], began: int) -> list[Tensor]:
    """The leaves, other than `given`, from which they were computed since `began`."""
    reads = closed_over(outputs, set(map(id, given)), began)
    return [t for t in reads if isinstance(t, Tensor)]
