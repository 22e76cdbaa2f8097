"""Remedies that change how a net is trained: gradients, rate, loss, windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .case import Case, cells_of, exchange
from .remedy import Remedy
from .wrappers import Truncated

if TYPE_CHECKING:
    from .fork import Run

MAX_NORM = 1.0
SMALLER, LARGER = 0.1, 3.0  # what is too large is so by much; three times more than enough shows


class Clip(Remedy):
    """Pascanu, Mikolov, Bengio 2013."""

    name = "clip"

    def missing(self, case: Case) -> str:
        if case.run is None:
            return "whether gradients are clipped is not known"
        if case.run.max_norm is not None:
            return f"gradients are clipped already, at {case.run.max_norm:g}"
        return ""

    def apply(self, run: Run, case: Case, rng: np.random.Generator) -> None:
        run.max_norm = MAX_NORM

    def code(self, case: Case) -> str:
        return f"mg.optim.clip_grad_norm_(model.parameters(), {MAX_NORM})"


class Rate(Remedy):
    """Another learning rate."""

    def __init__(self, name: str, times: float):
        self.name, self.times = name, times

    def missing(self, case: Case) -> str:
        return "" if case.run is not None else "the learning rate is not known"

    def apply(self, run: Run, case: Case, rng: np.random.Generator) -> None:
        run.optimizer.lr = run.optimizer.lr * self.times

    def code(self, case: Case) -> str:
        assert case.run is not None
        return f"optimizer.lr = {case.run.optimizer.lr * self.times:.3g}"


class MoreLosses(Remedy):
    """The same target from shorter beginnings of the sequence (target replication: Lipton 2016)."""

    name = "loss at more steps"
    shares: ClassVar[tuple[float, ...]] = (0.25, 0.5, 0.75)

    def missing(self, case: Case) -> str:
        if not case.last_only:
            return "the loss reads many steps already"
        if case.steps < 4:
            return f"{case.steps} steps are too few"
        if case.run is not None and (
            case.run.carry or not is_shortened(case.run.held[0], case.steps)
        ):
            return "the batches are not (sequences, ..., targets), so none can be shortened"
        return ""

    def apply(self, run: Run, case: Case, rng: np.random.Generator) -> None:
        whole = run.loss

        def loss(model: Any, batch: Any) -> Any:
            lasts = self._lasts(len(batch[0]))
            values = [whole(model, beginning(batch, last)) for last in lasts]
            return 0.5 * whole(model, batch) + (0.5 / len(values)) * sum(values)

        run.loss = loss

    def _lasts(self, steps: int) -> list[int]:
        return [max(int(steps * share), 1) for share in self.shares]

    def code(self, case: Case) -> str:
        return "0.5 * loss(model(x)) + 0.5 * the mean of loss(model(x[:t])) for t = " + ", ".join(
            map(str, self._lasts(case.steps))
        )


class Shorter(Remedy):
    """Truncated BPTT (Williams and Peng 1990)."""

    name = "shorter truncation"

    def missing(self, case: Case) -> str:
        return "" if case.steps >= 8 else f"{case.steps} steps are too few"

    def apply(self, run: Run, case: Case, rng: np.random.Generator) -> None:
        cells = list(cells_of(run.model))
        exchange(run.model, {id(cell): Truncated(cell, case.steps // 4) for cell in cells})

    def code(self, case: Case) -> str:
        return f"state.detach() every {case.steps // 4} steps (mg.scan: truncate=)"


class Longer(Remedy):
    """Windows twice as long, where a state is carried from one to the next."""

    name = "longer truncation"

    def missing(self, case: Case) -> str:
        if case.run is None or not case.run.carry:
            return "no state is carried from batch to batch"
        if len(case.run.batches) < 2 or joined(*case.run.batches[:2]) is None:
            return "the batches are not arrays of windows that follow each other"
        return ""

    def apply(self, run: Run, case: Case, rng: np.random.Generator) -> None:
        pairs = zip(run.batches[::2], run.batches[1::2])
        run.batches = [b for b in (joined(*pair) for pair in pairs) if b is not None]
        run.updates = max(run.updates // 2, 1)  # the same data

    def code(self, case: Case) -> str:
        return f"windows of {2 * case.steps} steps"


def is_shortened(batch: Any, steps: int) -> bool:
    """Whether a batch is (xs, ..., targets): xs has a leading axis of T steps, targets have not."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        return False
    return _is_sequence(batch[0], steps) and not _is_sequence(batch[-1], steps)


def beginning(batch: Any, last: int) -> Any:
    """The first `last` of the T steps of a batch (xs, ..., targets).

    What has a leading axis of T steps, and another, is cut; a member called `lengths` is at most
    `last`; the targets stay.
    """
    steps, names = len(batch[0]), getattr(batch, "_fields", ())
    at = names.index("lengths") if "lengths" in names else -1
    parts = [
        np.minimum(part, last) if i == at else part[:last] if _is_sequence(part, steps) else part
        for i, part in enumerate(batch[:-1])
    ]
    parts.append(batch[-1])
    return type(batch)(*parts) if names else type(batch)(parts)


def joined(first: Any, second: Any) -> Any:
    """Two batches of windows (T, B, ...) that follow each other as one, or None."""
    parts = [b if isinstance(b, (tuple, list)) else (b,) for b in (first, second)]
    if len(parts[0]) != len(parts[1]):
        return None
    for a, b in zip(*parts):
        if not isinstance(a, np.ndarray) or a.ndim < 2 or a.shape[1:] != np.asarray(b).shape[1:]:
            return None
    made = [np.concatenate(pair) for pair in zip(*parts)]
    if not isinstance(first, (tuple, list)):
        return made[0]
    return type(first)(*made) if hasattr(first, "_fields") else type(first)(made)


def _is_sequence(part: Any, steps: int) -> bool:
    shape: tuple[int, ...] = getattr(part, "shape", ())
    return len(shape) >= 2 and shape[0] == steps
