"""What a scan gives back beside its values: what ran, and what was recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..tensors import Tensor
from ..tree import leaves
from .records import Record


@dataclass
class Call:
    """One scan that ran, for listeners of whole scans: enough to run it again.

    cell, xs: as they ran; with a mask or resets see `padding.unwrapped`. final, ys: what came out,
    apart: the gradient of `final` has no part that came by `ys`. weights: leaves that the cell
    reads and that need a gradient. truncate: as given to scan. began: the time on the tape's clock,
    before the first step.
    """

    cell: Any
    init: Any
    xs: Any
    reverse: bool
    final: Any
    ys: Any
    weights: list[Tensor]
    began: int
    truncate: int | None = None

    @property
    def steps(self) -> int:
        return int(leaves(self.xs)[0].shape[0])


class ScanResult(tuple):
    """(final, ys), as `final, ys = scan(...)` takes them apart; and what ran to compute them.

    record: what record= asked for, else None. explain(): what the compiler did, to print. source:
    the text of the kernels that ran ("" where there are none, with mode="tape"). program: the
    traced step.
    """

    record: Record | None
    explanation: Any

    def __new__(
        cls, final: Any, ys: Any, record: Record | None = None, explanation: Any = None
    ) -> ScanResult:
        self = super().__new__(cls, (final, ys))
        self.record, self.explanation = record, explanation or Eager()
        return self

    @property
    def final(self) -> Any:
        return self[0]

    @property
    def ys(self) -> Any:
        return self[1]

    def explain(self) -> Any:
        """What was hoisted, fused, stored and recomputed, and from where the kernels came."""
        return self.explanation

    @property
    def source(self) -> str:
        return str(self.explanation.source)

    @property
    def program(self) -> Any:
        return self.explanation.program


class Eager:
    """What explain() says with mode="tape"."""

    source = ""
    program = None
    backward_program = None

    def __str__(self) -> str:
        return "mode='tape': every step ran as eager operations, recorded one by one"

    __repr__ = __str__
