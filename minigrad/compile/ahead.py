"""What a loop reads that has no time: weights, views of them, and what is computed of them.

A view costs nothing: it lies where its input does, with other strides. What is computed is computed
again in every call, into memory of the call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels.arena import address
from ..op import Op
from .frame import Room, Span
from .kernel import evaluate
from .program import Value, computed, params_for

Array = np.ndarray
Call = tuple[Callable[..., Any], tuple[Any, ...]]


@dataclass
class Source:
    """Where a value lies, and how to come by it as an array: a root, and views one of another."""

    span: Span
    root: int | Span  # a piece of memory that is an array of its own, or an array in one
    views: tuple[tuple[Op, dict[str, Any]], ...] = ()
    contiguous: bool = True

    def of(self, pieces: Sequence[Any]) -> Array:
        array = self.root.of(pieces) if isinstance(self.root, Span) else pieces[self.root]
        for op, params in self.views:
            array = op.forward([array], params)
        return array


class Ahead:
    """The values ahead of a loop. inputs: weight -> (its piece of memory, its array now).

    room: for what is computed. Strides of the arrays have to be the same in every call.
    """

    def __init__(
        self, values: Sequence[Value], inputs: Mapping[Value, tuple[int, Array]], rows: int,
        room: Room,
    ):  # fmt: skip
        self.rows = rows
        self.sources: dict[Value, Source] = {}
        self.computed: list[tuple[Value, Span]] = []
        self.copied: list[tuple[Source, Span]] = []
        known: dict[Value, Any] = {}
        for v, (piece, array) in inputs.items():
            known[v] = array
            span = Span(piece, 0, array.shape, array.dtype, array.strides)
            self.sources[v] = Source(span, piece, (), array.flags.c_contiguous)
        for v in values:
            if v not in known:
                evaluate([v], known, rows)
                self.sources[v] = self._view(v, known) or self._own(v, known, room)

    def _view(self, v: Value, known: dict[Value, Any]) -> Source | None:
        """Where v lies if it is a view."""
        if v.op is None or not v.is_view:
            return None
        of, y, x = self.sources[v.inputs[0]], known[v], known[v.inputs[0]]
        if not np.may_share_memory(x, y):  # the reshape of a transpose is new memory
            return None
        offset = of.span.offset + address(y) - address(x)
        span = Span(of.span.piece, offset, y.shape, y.dtype, y.strides)
        views = (*of.views, (v.op, params_for(v, self.rows)))
        return Source(span, of.root, views, y.flags.c_contiguous)

    def _own(self, v: Value, known: dict[Value, Any], room: Room) -> Source:
        y = known[v] = np.ascontiguousarray(known[v])  # NumPy may have made it by columns
        span = room.add(y.shape, y.dtype)
        self.computed.append((v, span))
        return Source(span, span)

    def contiguous(self, v: Value, room: Room) -> Span:
        """Where v lies without gaps: a copy if need be."""
        source = self.sources[v]
        if source.contiguous:
            return source.span
        span = room.add(source.span.shape, source.span.dtype)
        self.copied.append((source, span))
        return span

    def calls(self, pieces: Sequence[Any]) -> list[Call]:
        """What computes and copies in one call, whose memory is `pieces`."""
        found: list[Call] = []
        for v, span in self.computed:
            inputs = [self.sources[i].of(pieces) if type(i) is Value else i for i in v.inputs]
            found.append(computing(v, inputs, span.of(pieces), self.rows))
        for source, span in self.copied:
            found.append((span.of(pieces).__setitem__, (..., source.of(pieces))))
        return found


def computing(v: Value, inputs: Sequence[Any], y: Array, rows: int) -> Call:
    """The call that computes the op of v into y."""
    alike = all(isinstance(i, np.ndarray) and i.dtype == y.dtype for i in inputs)
    if v.op is not None and v.kind == "elementwise" and alike:
        return v.op.loops[y.dtype], (*inputs, y)
    return _compute, (v, inputs, y, rows)


def _compute(v: Value, inputs: Sequence[Any], y: Array, rows: int) -> None:
    y[...] = computed(v, inputs, rows)
