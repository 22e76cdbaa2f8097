"""What is kept of every step of a scan: by a compiled one, by one on the tape, or by several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..backward import Look
from ..errors import describe
from ..norms import row_norms
from ..tape import listen, state
from ..tensors import Tensor
from ..versions import owner
from .taps import StepTaps

Array = np.ndarray


class Record:
    """What `scan(..., record=...)` kept of every step, in order of time.

    values: name -> (T, B, ...), what `mg.tap(name, ...)` marked in the cell. gradients: name ->
    |dL/d(value_t)| for each row, (T, B), once backward has passed the scan; norms: the same over
    the whole batch, (T,), in float64. carried: number of a leaf of the state -> |gradient at what
    step t leaves, from the steps behind it and what reads the last state|, (T, B), where somebody
    listens.
    """

    def __init__(self) -> None:
        self.values: dict[str, Array] = {}
        self.gradients: dict[str, Array] = {}
        self.carried: dict[int, Array] = {}

    @property
    def norms(self) -> dict[str, Array]:
        return {name: row_norms(rows) for name, rows in self.gradients.items()}

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that its values keep alive."""
        roots = map(owner, self.values.values())
        return sum({id(r): r.nbytes for r in roots}.values())

    def __repr__(self) -> str:
        read = ", ".join(self.values) or "nothing"
        return f"<Record of {read}; gradients of {', '.join(self.gradients) or 'nothing yet'}>"


class JoinedRecord(Record):
    """The records of windows, one after the other."""

    def __init__(self, parts: Sequence[Record]):
        self.parts = list(parts)

    @property
    def values(self) -> dict[str, Array]:  # type: ignore[override]
        return {n: np.concatenate([p.values[n] for p in self.parts]) for n in self.parts[0].values}

    @property
    def gradients(self) -> dict[str, Array]:  # type: ignore[override]
        return self._whole([p.gradients for p in self.parts])

    @property
    def carried(self) -> dict[int, Array]:  # type: ignore[override]
        return self._whole([p.carried for p in self.parts])

    def _whole(self, tables: Sequence[dict[Any, Array]]) -> dict[Any, Array]:
        """The tables of the parts, one after the other, with zeros where one has none."""
        found = {}
        for n in sorted({n for table in tables for n in table}):
            known = next(table[n] for table in tables if n in table)
            found[n] = np.concatenate([
                table[n] if n in table
                else np.zeros((len(next(iter(p.values.values()))), known.shape[1]), known.dtype)
                for p, table in zip(self.parts, tables, strict=True)
            ])  # fmt: skip
        return found

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)


class TapeRecord:
    """record= with mode="tape": the same arrays, put together from every step's taps."""

    def __init__(self, names: Any, reverse: bool, steps: int, rows: int):
        self.names = None if names is True else {names} if isinstance(names, str) else set(names)
        self.reverse, self.steps, self.rows = reverse, steps, rows
        self.values: dict[str, list[Array]] = {}
        self.record = Record()
        self.made_by: dict[str, str] = {}  # name -> the op that made it
        self.wants = False  # whether any of them needs a gradient
        self._steps: dict[str, StepTaps] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        self._around = f"{state.scope}/" if state.scope else ""
        with listen(self._hear):
            yield
        for step in self._steps.values():
            for name, tensor in step.named().items():
                if self.names is None or name in self.names:
                    self._keep(name, tensor)
        self._steps.clear()
        for name, steps in self.values.items():
            if len(steps) != self.steps:
                raise ValueError(
                    f"scan: record={name!r}, but it is tapped in {len(steps)} of {self.steps} "
                    f"steps; tap it in every one."
                )
            ordered = steps[::-1] if self.reverse else steps
            self.record.values[name] = np.stack(ordered)

    def _hear(self, name: str, tensor: Tensor, scope: str) -> None:
        step = self._around + scope[len(self._around) :].partition("/")[0]
        self._steps.setdefault(step, StepTaps(step)).tap(name, tensor, scope)

    def _keep(self, name: str, tensor: Tensor) -> None:
        if tensor.ndim == 0 or tensor.shape[0] != self.rows:
            if self.names is None:
                return
            raise ValueError(
                f"scan: record={name!r}, but it is {describe(tensor)}, without a row (axis 0) for "
                f"each of the batch."
            )
        steps = self.values.setdefault(name, [])
        k = len(steps)
        steps.append(tensor.numpy())
        self.made_by.setdefault(name, tensor._node.op.name if tensor._node is not None else "")
        self.wants = self.wants or tensor.requires_grad
        if tensor.requires_grad:
            t = self.steps - 1 - k if self.reverse else k
            tensor.register_hook(Look(self._arrival(name, t)))

    def _arrival(self, name: str, t: int) -> Callable[[Array], None]:
        """What notes the norms of the gradient at one step."""

        def arrived(g: Array) -> None:
            shape = self.steps, self.rows
            table = self.record.gradients.setdefault(name, np.zeros(shape, g.dtype))
            table[t] = row_norms(g.reshape(self.rows, -1), g.dtype)

        return arrived
