"""What the tasks have in common: settings, the layer that is compared, and what a task offers.

A task is a class with data, a model, a loss, a metric and the baselines it must beat. How one is
trained, stored and evaluated again is in running.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .. import ops
from ..errors import MinigradError
from ..nn.cells import LSTMState
from ..nn.module import Module
from ..nn.recurrent import Recurrent
from ..nn.rnn import GRU, LSTM, RNN
from ..tensors import Tensor
from ..tree import map_leaves
from ..untrusted import shortly

Array = np.ndarray
TWO_SIDED = "its backward direction would see the symbol it is to predict"
# What a stored setting may be: a file must not ask for more memory than anybody trains with.
WHOLE = {"hidden": (1, 10_000), "epochs": (1, 2**31), "seed": (0, 2**63)}
CELLS: dict[str, type[Any]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU, "bilstm": LSTM}


class TaskError(MinigradError, ValueError):
    """A task that is unknown, cannot do what is asked, or a result that cannot be used."""


@dataclass(frozen=True)
class Settings:
    """All that decides what a task computes; stored beside the parameters.

    cell: "rnn", "lstm", "gru", "bilstm", or what else the task offers. hidden: units in each
    direction. merge: how a BiLSTM's directions become one. series: of tasks that have several.
    """

    cell: str
    hidden: int
    epochs: int
    seed: int = 0
    quick: bool = False
    merge: str = "concat"
    series: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Any) -> Settings:
        """What to_dict gave and a file kept. Raises ValueError, TypeError for anything else.

        >>> Settings.from_dict({"cell": "gru", "hidden": 10**9, "epochs": 1})
        Traceback (most recent call last):
        ValueError: hidden is 1000000000; expected a whole number from 1 to 10000
        """
        if not isinstance(stored, Mapping):
            raise TypeError(f"settings are {type(stored).__name__}; expected names and values")
        found = cls(**stored)
        for name, (least, most) in WHOLE.items():
            value = getattr(found, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                said = f"{name} is {shortly(value)}; expected a whole number from {least} to {most}"
                raise ValueError(said)
        for name, kind in (("cell", str), ("quick", bool), ("merge", str), ("series", str)):
            if not isinstance(getattr(found, name), kind):
                said = f"{name} is {shortly(getattr(found, name))}; expected {kind.__name__}"
                raise TypeError(said)
        return found


class Task(ABC):
    """One of minigrad's tasks. Making one reads its data and draws the model's first weights.

    stored: what `extra` gave when the model was stored, where the model depends on more than
    settings.
    """

    name: ClassVar[str]
    kind: ClassVar[str]  # "many-to-one", ...
    title: ClassVar[str]
    cells: ClassVar[tuple[str, ...]]  # the first is the default
    series: ClassVar[tuple[str, ...]] = ()
    not_offered: ClassVar[dict[str, str]] = {}  # cell -> why it makes no sense here
    epochs: ClassVar[tuple[int, int]]  # default, quick
    hidden: ClassVar[tuple[int, int]]
    metric: ClassVar[str]  # its name in what `test` returns
    unit: ClassVar[str] = ""  # "%": the value is a share
    larger_is_better: ClassVar[bool] = True
    rate: ClassVar[float] = 5e-3  # of Adam
    max_norm: ClassVar[float] = 1.0
    patience: ClassVar[int | None] = None
    carry: ClassVar[bool] = False  # truncated BPTT: loss(model, batch, state) -> (loss, state)
    reads: ClassVar[str] = ""  # what --text is
    samples: ClassVar[bool] = False

    model: Module
    batches: Iterable[Any]

    def __init__(self, settings: Settings, stored: Mapping[str, Any] | None = None):
        self.settings = settings
        self.generator = np.random.default_rng(settings.seed)  # of the first weights

    # -- what each task says for itself

    @abstractmethod
    def loss(self, model: Any, batch: Any, *state: Any) -> Any:
        """The loss of a batch, a scalar Tensor; with `carry` also the state after it."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Numbers of the validation part; the parameters with the least "loss" are kept."""

    @abstractmethod
    def test(self) -> dict[str, float]:
        """Numbers of the test part; `metric` is among them."""

    @abstractmethod
    def baselines(self) -> dict[str, float]:
        """`metric` on the test part for what needs no network, by name."""

    @abstractmethod
    def about(self) -> str:
        """One line: the data, and how it is split."""

    # -- what some have besides

    @property
    def recurrent(self) -> Recurrent:
        """The layer whose cell is chosen."""
        return self.model.recurrent  # type: ignore[attr-defined]

    def probed(self) -> tuple[Any, Any]:
        """(xs, lengths) of unseen data for the recurrent layer, to measure its gradient flow."""
        raise TaskError(f"{self.name}: there is nothing to compare the cells by.")

    def references(self) -> dict[str, float]:
        """Like baselines, of what is shown beside them but is not simpler than the net."""
        return {}

    def extra(self) -> dict[str, Any]:
        """What to store with the parameters, beyond settings."""
        return {}

    def examples(self) -> list[str]:
        """Lines that show the trained model at work on the test part."""
        return []

    def draw(self, folder: Path) -> list[str]:
        """Writes pictures; returns their names. Raises MissingPlotError without matplotlib."""
        return []

    def read(self, text: str) -> list[str]:
        """The model's answer to the user's own text, as lines."""
        raise TaskError(f"{self.name}: it does not read --text.")

    def sample(
        self,
        count: int,
        temperature: float,
        top_k: int | None,
        generator: np.random.Generator,
        begin: str = "",
    ) -> list[str]:
        """Texts drawn from the model, each going on from `begin`."""
        raise TaskError(f"{self.name}: it writes nothing, so there are no samples.")

    # -- the same for all

    @classmethod
    def choose(
        cls,
        cell: str | None = None,
        hidden: int | None = None,
        epochs: int | None = None,
        seed: int | None = None,
        quick: bool = False,
        merge: str | None = None,
        series: str | None = None,
    ) -> Settings:
        """Settings, with the task's own for what is None. Raises TaskError for those it lacks."""
        if cell is not None and cell not in cls.cells:
            why = cls.not_offered.get(cell) or f"expected one of {', '.join(cls.cells)}"
            raise TaskError(f"{cls.name}: no --cell {cell}: {why}.")
        if series is not None and series not in cls.series:
            offered = ", ".join(cls.series)
            what = f"expected one of {offered}" if offered else "this task has no --series"
            raise TaskError(f"{cls.name}: no --series {series}: {what}.")
        cell = cell or cls.cells[0]
        if merge is not None and cell != "bilstm":
            raise TaskError(f"{cls.name}: --merge is for two directions; add --cell bilstm.")
        return Settings(
            cell=cell,
            hidden=hidden or cls.hidden[quick],
            epochs=epochs or cls.epochs[quick],
            seed=seed or 0,
            quick=quick,
            merge=merge or "concat",
            series=series or (cls.series[0] if cls.series else ""),
        )

    @classmethod
    def check(cls, settings: Settings) -> Settings:
        """Settings that a file kept, if the task offers them; else TaskError."""
        merge = settings.merge if settings.merge != "concat" else None
        if merge not in (None, "sum", "mean", "mul"):
            raise TaskError(f"{cls.name}: merge is one of concat, sum, mean, mul, got {merge!r}.")
        cls.choose(cell=settings.cell, series=settings.series or None, merge=merge)
        return settings

    @classmethod
    def shown(cls, value: float) -> str:
        """A value of the metric with its unit."""
        return f"{100 * value:.1f} %" if cls.unit == "%" else f"{value:.3f} {cls.unit}".rstrip()

    def parameters(self) -> int:
        """How many numbers are learned."""
        return sum(p.size for p in self.model.parameters())


def recurrent(settings: Settings, input_size: int, generator: Any, **options: Any) -> Recurrent:
    """The layer that `settings` names."""
    if settings.cell == "bilstm":
        options |= {"bidirectional": True, "merge": settings.merge}
    layer: Recurrent = CELLS[settings.cell](
        input_size, settings.hidden, generator=generator, **options
    )
    layer.scope_name = settings.cell
    return layer


def output_size(settings: Settings) -> int:
    """Features of what that layer puts out."""
    twice = settings.cell == "bilstm" and settings.merge == "concat"
    return settings.hidden * (2 if twice else 1)


def first_state(layer: Recurrent, h: Tensor) -> Any:
    """The state (1, B, H) of a layer of one direction that begins with h (B, H); an LSTM's c is 0.

    >>> first_state(LSTM(2, 3), Tensor(np.ones((5, 3), np.float32))).h.shape
    (1, 5, 3)
    """
    zero = layer.cells[0].init_state(h.shape[0])
    state = LSTMState(h, zero.c) if isinstance(zero, LSTMState) else h
    return map_leaves(lambda part: ops.expand_dims(part, 0), state)
