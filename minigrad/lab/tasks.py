"""Tasks on which recurrent nets are compared: long delays, and a baseline one can compute.

| task | sequence | to be said | without a memory |
|---|---|---|---|
| adding | numbers, two of them marked | their sum, at the end | 1/6 (mean squared error) |
| copy | ten symbols, a delay, a signal | the ten symbols again | 10 ln 8 / (T + 20) (nats a step) |
| latch | a sign, then noise | the sign, at the end | ln 2 |
| order | two of A, B among distractors | which came in which order | ln 4 |

S. Hochreiter, J. Schmidhuber, "Long short-term memory", 1997 (adding: 5.4; order: 5.6, task 6a); Q.
Le et al. 2015 (adding, markers in both halves); M. Arjovsky et al., "Unitary evolution recurrent
neural networks", 2016 (copy, section 4.1); Y. Bengio, P. Simard, P. Frasconi, 1994 (latch).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..errors import MinigradError
from ..nn.losses import cross_entropy, mse_loss
from ..tensors import Tensor

Array = np.ndarray
Batch = tuple[Array, Array]  # xs (T, B, I) float32, targets


class TaskError(MinigradError, ValueError):
    """A task that does not exist, or a length it cannot have."""


@dataclass(frozen=True)
class Task(ABC):
    """A task with a delay: `length` says how long.

    inputs: features of x. outputs: what a head has to give. last: whether it is asked at the end
    only (B, ...), or at every step (T, B, ...). baseline: the least loss without a memory.
    """

    length: int
    name: ClassVar[str]
    inputs: ClassVar[int]
    outputs: ClassVar[int]
    last: ClassVar[bool] = True
    shortest: ClassVar[int]

    def __post_init__(self) -> None:
        if self.length < self.shortest:
            raise TaskError(
                f"{self.name}: length {self.length} is too short; at least {self.shortest}."
            )

    @property
    def steps(self) -> int:
        """T of a sequence."""
        return self.length

    @property
    @abstractmethod
    def baseline(self) -> float:
        """The least loss without a memory."""

    def solved(self, loss: float) -> bool:
        """Whether a loss is a tenth of the baseline, or less."""
        return loss <= 0.1 * self.baseline

    @abstractmethod
    def batch(self, rng: np.random.Generator, rows: int) -> Batch:
        """(xs, targets) of so many sequences."""

    def loss(self, output: Tensor, targets: Array) -> Tensor:
        """Cross entropy in nats."""
        return cross_entropy(output, targets)


class Adding(Task):
    """x_t = (a number from [0, 1), a mark); two are marked, one in each half. Say their sum."""

    name, inputs, outputs, shortest = "adding", 2, 1, 2

    @property
    def baseline(self) -> float:
        """The variance of a sum of two: always saying 1 is best."""
        return 1 / 6

    def batch(self, rng: np.random.Generator, rows: int) -> Batch:
        T, row = self.steps, np.arange(rows)
        xs = np.zeros((T, rows, 2), np.float32)
        xs[..., 0] = rng.random((T, rows))
        marked = rng.integers(0, T // 2, rows), rng.integers(T // 2, T, rows)
        for t in marked:
            xs[t, row, 1] = 1.0
        total = sum(xs[t, row, 0] for t in marked)
        return xs, np.asarray(total)[:, None]

    def loss(self, output: Tensor, targets: Array) -> Tensor:
        return mse_loss(output, targets.astype(output.dtype))


class Copy(Task):
    """Ten of eight symbols, `length` blanks of which the last is the signal, ten blanks."""

    name, inputs, outputs, last, shortest = "copy", 10, 9, False, 1
    SYMBOLS, ITEMS, BLANK, SIGNAL = 8, 10, 8, 9

    @property
    def steps(self) -> int:
        return self.length + 2 * self.ITEMS

    @property
    def baseline(self) -> float:
        """Blanks are certain, each of the ten symbols a guess among eight."""
        return self.ITEMS * math.log(self.SYMBOLS) / self.steps

    def batch(self, rng: np.random.Generator, rows: int) -> Batch:
        symbols = rng.integers(0, self.SYMBOLS, (self.ITEMS, rows))
        x = np.full((self.steps, rows), self.BLANK)
        x[: self.ITEMS] = symbols
        x[self.ITEMS + self.length - 1] = self.SIGNAL
        y = np.full((self.steps, rows), self.BLANK)
        y[-self.ITEMS :] = symbols
        return np.eye(self.inputs, dtype=np.float32)[x], y


class Latch(Task):
    """x_1 = +1 or -1, then noise of standard deviation 0.2. Say the sign at the end."""

    name, inputs, outputs, shortest = "latch", 1, 2, 1
    NOISE = 0.2

    @property
    def baseline(self) -> float:
        return math.log(2)

    def batch(self, rng: np.random.Generator, rows: int) -> Batch:
        y = rng.integers(0, 2, rows)
        xs = self.NOISE * rng.standard_normal((self.steps, rows, 1)).astype(np.float32)
        xs[0, :, 0] += 2 * y - 1
        return xs, y


class Order(Task):
    """Distractors a .. d, and A or B at two places: in the second tenth, and in the fifth."""

    name, inputs, outputs, shortest = "order", 6, 4, 10

    @property
    def baseline(self) -> float:
        return math.log(4)

    def batch(self, rng: np.random.Generator, rows: int) -> Batch:
        T, row = self.steps, np.arange(rows)
        x = rng.integers(0, 4, (T, rows))
        first, second = rng.integers(0, 2, rows), rng.integers(0, 2, rows)
        tenth = T / 10
        for symbol, start in ((first, 1), (second, 4)):
            low, high = int(start * tenth), max(int((start + 1) * tenth), int(start * tenth) + 1)
            x[rng.integers(low, high, rows), row] = 4 + symbol
        return np.eye(self.inputs, dtype=np.float32)[x], 2 * first + second


TASKS: dict[str, type[Task]] = {kind.name: kind for kind in (Adding, Copy, Latch, Order)}


def task(name: str, length: int) -> Any:
    """The task of that name. Raises TaskError with the names there are.

    >>> round(task("copy", 100).baseline, 4)
    0.1733
    """
    if name not in TASKS:
        raise TaskError(f"task {name!r} is not known; there are {', '.join(TASKS)}.")
    return TASKS[name](length)
