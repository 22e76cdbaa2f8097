"""Who listens to a truncated scan hears one scan of the whole sequence, not its windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from ..tape import state as switches
from ..tensors import Tensor
from .node import JoinedRecord
from .result import Call, Record


class Whole:
    """Stands between a listener and the windows of one scan, and tells it of them as one.

    begin: the first t of the window that runs. The taps of a step are passed on at once, with the
    t they have in the sequence; what is told of a window as a whole waits for `end`.
    """

    def __init__(self, listener: Any):
        self.listener, self.scope, self.begin = listener, switches.scope, 0
        self.states = getattr(listener, "states", ())
        self._records: list[tuple[int, Record]] = []
        self._made_by: dict[str, str] = {}
        self._passes: Counter[int] = Counter()  # of the window that begins there
        self._wants = False
        self._tell: Callable[[], None] | None = None
        self.weights: dict[int, Tensor] = {}
        # a listener that lacks one of these is told step by step, see node.Run.tell
        if hasattr(listener, "sequence"):
            self.sequence = self._sequence
        if hasattr(listener, "ran"):
            self.ran = self._ran
        if hasattr(listener, "entered"):
            self.entered = listener.entered

    def __call__(self, name: str, tensor: Tensor, scope: str) -> None:
        around = f"{self.scope}/" if self.scope else ""
        head, below, rest = scope[len(around) :].partition("/")
        if scope.startswith(around) and head.startswith("t="):
            scope = f"{around}t={int(head[2:]) + self.begin}{below}{rest}"
        self.listener(name, tensor, scope)

    def _sequence(
        self, path: str, order: range, record: Record, made_by: dict[str, str], wants: bool
    ) -> Callable[[], None]:
        if path != self.scope:  # a scan inside the cell
            tell: Callable[[], None] = self.listener.sequence(path, order, record, made_by, wants)
            return tell
        self._records.append((self.begin, record))
        self._made_by, self._wants = made_by, self._wants or wants
        return partial(self._arrived, self.begin)

    def _ran(self, path: str, call: Call) -> None:
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
        if hasattr(self.listener, "ran"):
            self.listener.ran(self.scope, call)
