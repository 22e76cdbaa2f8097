"""truncate=: one scan a window, the state cut off in between; who listens hears one scan of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from .. import ops
from ..listener import Listener
from ..tape import state as switches
from ..tape import tick
from ..tensors import Tensor
from ..tree import map_leaves
from .records import JoinedRecord, Record
from .result import Call, ScanResult


def in_windows(
    scan: Callable[..., ScanResult], cell: Any, init: Any, xs: Any, reverse: bool, window: int,
    time: int, options: dict[str, Any],
) -> ScanResult:  # fmt: skip
    """Truncated BPTT: scan(cell, state, xs of a window, **options), one window after the other."""
    parts: list[Any] = []
    records: list[Record] = []
    state, result = init, None
    began = tick()
    hearing = [Whole(listener) for listener in switches.listeners]
    with switches.switched(listeners=tuple(hearing)):
        for start in range(0, time, window):
            end = min(start + window, time)
            begin, end = (time - end, time - start) if reverse else (start, end)
            if start:
                state = map_leaves(lambda s: s.detach(), state)
            for who in hearing:
                who.begin = begin
            piece = map_leaves(lambda x, b=begin, e=end: x[b:e], xs)
            result = scan(cell, state, piece, None, reverse, **options)
            state, ys = result
            parts.append(ys)
            if result.record is not None:
                records.append(result.record)
    if reverse:
        parts.reverse()
        records.reverse()
    ys = map_leaves(lambda *p: ops.concatenate(p) if len(p) > 1 else p[0], *parts)
    assert result is not None
    for who in hearing:
        weights = list(who.weights.values())
        who.end(Call(cell, init, xs, reverse, state, ys, weights, began, window))
    return ScanResult(state, ys, JoinedRecord(records) if records else None, result.explanation)


class Whole(Listener):
    """Stands between a listener and the windows of one scan, and tells it of them as one.

    begin: the first t of the window that runs. The taps of a step are passed on at once, with the
    t they have in the sequence; what is told of a window as a whole waits for `end`.
    """

    def __init__(self, listener: Listener):
        self.listener, self.scope, self.begin = listener, switches.scope, 0
        self.states, self.whole_scans = listener.states, listener.whole_scans
        self.sums = listener.sums
        self._records: list[tuple[int, Record]] = []
        self._made_by: dict[str, str] = {}
        self._passes: Counter[int] = Counter()  # of the window that begins there
        self._wants = False
        self._tell: Callable[[], None] | None = None
        self.weights: dict[int, Tensor] = {}

    def tap(self, name: str, tensor: Tensor, scope: str) -> None:
        around = f"{self.scope}/" if self.scope else ""
        head, below, rest = scope[len(around) :].partition("/")
        if scope.startswith(around) and head.startswith("t="):
            scope = f"{around}t={int(head[2:]) + self.begin}{below}{rest}"
        self.listener.tap(name, tensor, scope)

    def entered(self, module: Any, name: str) -> AbstractContextManager[str]:
        return self.listener.entered(module, name)

    def returned(self, module: Any, args: Any, kwargs: Any, result: Any) -> None:
        self.listener.returned(module, args, kwargs, result)

    def sequence(
        self, path: str, order: range, record: Record, made_by: dict[str, str], wants: bool
    ) -> Callable[[], None]:
        if path != self.scope:  # a scan inside the cell
            return self.listener.sequence(path, order, record, made_by, wants)
        self._records.append((self.begin, record))
        self._made_by, self._wants = made_by, self._wants or wants
        return partial(self._arrived, self.begin)

    def ran(self, path: str, call: Call) -> None:
        if path != self.scope:
            self.listener.ran(path, call)
            return
        self.weights |= {id(w): w for w in call.weights}

    def _arrived(self, begin: int) -> None:
        """BPTT has passed a window: it is told once for each backward pass."""
        before = max(self._passes.values(), default=0)
        self._passes[begin] += 1
        if self._tell is not None and self._passes[begin] > before:
            self._tell()

    def end(self, call: Call) -> None:
        """All windows have run: call is the scan that they were."""
        if self._records:
            in_time = [record for _, record in sorted(self._records, key=lambda part: part[0])]
            steps = call.steps
            order = range(steps - 1, -1, -1) if call.reverse else range(steps)
            joined = JoinedRecord(in_time)
            self._tell = self.listener.sequence(
                self.scope, order, joined, self._made_by, self._wants
            )
        self.listener.ran(self.scope, call)
