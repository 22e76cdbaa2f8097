"""What `minigrad flow` does: train cells on text, measure gradient flow before and
after.

Each cell is a character model: Embedding -> cell over time -> Linear. RNN, LSTM and GRU predict the
next character. A BiLSTM would see the answer in its backward direction, so it fills a gap instead:
character t is predicted from the forward state just before it and the backward state just after it.

Measured is a loss at the last step alone, on text that was not trained on: how much of dL/dh_T
reaches h_1? For the BiLSTM that is the gap in the middle of a window twice as long, the last step
of both directions. (`Settings.every` measures the loss of training in its place, which reads all
steps.) Training runs in float32; the measurement in float64, where 1e-60 is still a number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..data import DataError, Vocabulary, spaced_windows, split, windows
from ..nn.layers import Embedding, Linear
from ..nn.losses import cross_entropy
from ..nn.module import Module
from ..nn.recurrent import DEFAULT_MODE, Recurrent
from ..nn.rnn import GRU, LSTM, RNN
from ..ops import concatenate
from ..optim import Adam, clip_grad_norm_
from ..tape import no_grad
from ..tensors import Tensor
from .probes import Recording, record
from .verdict import Thresholds

Array = np.ndarray
CELLS: dict[str, type[Any]] = {"rnn": RNN, "lstm": LSTM, "gru": GRU, "bilstm": LSTM}
HOLDOUT = 0.1  # share of the text, from its end, that is measured and never trained on
MAX_SYMBOLS = 512  # rarer characters share one symbol
MEASURED = 16  # windows in the measured batch
EVALUATED = 64  # windows for the bits per character


@dataclass(frozen=True)
class Settings:
    """What is trained, and how."""

    cells: tuple[str, ...] = ("rnn", "lstm", "gru", "bilstm")
    steps: int = 100
    hidden: int = 64
    batch: int = 16
    updates: int = 200
    seed: int = 0
    embedding: int = 32
    learning_rate: float = 5e-3
    max_norm: float = 1.0  # of the gradient, by clipping
    every: bool = False  # measure the loss of training, which reads all steps, not one at the last
    mode: str = DEFAULT_MODE  # of the layers
    thresholds: Thresholds = field(default_factory=Thresholds)


@dataclass
class Outcome:
    """What became of one cell. Losses are bits per character on held-out text."""

    cell: str
    before: Recording
    after: Recording
    bits_before: float
    bits: float
    seconds: float
    parameters: int
    curve: list[float]  # training loss in bits per character, one for each update
    context: dict[int, str]  # t -> character, of the first measured window


class CharacterModel(Module):
    """Characters (T, B) -> logits for the characters that `targets` names."""

    def __init__(self, cell: str, symbols: int, settings: Settings, generator: np.random.Generator):
        self.cell, self.hidden = cell, settings.hidden
        self.two_sided = cell == "bilstm"
        options: dict[str, Any] = {"bidirectional": True} if self.two_sided else {}
        self.embed = Embedding(symbols, settings.embedding, generator=generator)
        layer: Recurrent = CELLS[cell](
            settings.embedding, settings.hidden, mode=settings.mode, generator=generator, **options
        )
        layer.scope_name = cell
        self.recurrent = layer
        sides = 2 if self.two_sided else 1
        self.head = Linear(sides * settings.hidden, symbols, generator=generator)

    def forward(self, ids: Array) -> Tensor:
        if not self.two_sided:
            return self.head(self.recurrent(self.embed(ids[:-1]))[0])
        hs, _ = self.recurrent(self.embed(ids))
        before, after = hs[:-2, :, : self.hidden], hs[2:, :, self.hidden :]
        return self.head(concatenate([before, after], axis=-1))

    def targets(self, ids: Array) -> Array:
        """What the logits are for: all characters that have their context in the window."""
        return ids[1:-1] if self.two_sided else ids[1:]

    def loss(self, ids: Array) -> Tensor:
        """Mean cross entropy over all targets, in nats."""
        return cross_entropy(self(ids), self.targets(ids))

    def train_length(self, steps: int) -> int:
        """Length of a window with `steps` targets."""
        return steps + (2 if self.two_sided else 1)

    def measure_length(self, steps: int) -> int:
        """Length of a window in which every direction takes `steps` steps to the measured loss."""
        return 2 * steps + 1 if self.two_sided else steps + 1

    def last_loss(self, ids: Array, steps: int) -> Tensor:
        """The loss of the one target that comes after `steps` steps."""
        logits, targets = self(ids), self.targets(ids)
        return cross_entropy(logits[steps - 1], targets[steps - 1])


def check_text(text: str, settings: Settings) -> None:
    """Raises DataError if the text is too short for its windows, or holds nothing to predict."""
    if len(set(text)) < 2:
        raise DataError("the text has one kind of character only: there is nothing to predict.")
    longest = 2 * settings.steps + 1 if "bilstm" in settings.cells else settings.steps + 2
    needed = math.ceil((longest + 1) / HOLDOUT)
    if len(text) < needed:
        raise DataError(
            f"the text has {len(text):,} characters; {settings.steps} steps need at least "
            f"{needed:,} (a tenth of it is held out): use a longer text or fewer steps."
        )


def run(
    cell: str, text: str, settings: Settings, progress: Callable[[int, float], None] | None = None
) -> Outcome:
    """Trains one cell on the text and measures its gradient flow before and after.

    progress(update, bits) is called after every update with the training loss in bits per
    character.
    """
    started = time.perf_counter()
    check_text(text, settings)
    vocabulary = Vocabulary(text, MAX_SYMBOLS)
    train_ids, held_ids = split(vocabulary.encode(text), HOLDOUT)
    rng = np.random.default_rng(settings.seed)
    model = CharacterModel(cell, len(vocabulary), settings, rng)
    measured = spaced_windows(held_ids, model.measure_length(settings.steps), MEASURED)

    before, bits_before = measure(model, measured, settings), evaluate(model, held_ids, settings)
    optimizer = Adam(model.parameters(), lr=settings.learning_rate)
    curve = []
    for update in range(1, settings.updates + 1):
        ids = windows(train_ids, model.train_length(settings.steps), settings.batch, rng)
        loss = model.loss(ids)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), settings.max_norm)
        optimizer.step()
        curve.append(loss.item() / math.log(2))
        if progress:
            progress(update, curve[-1])
    return Outcome(
        cell=cell,
        before=before,
        after=measure(model, measured, settings),
        bits_before=bits_before,
        bits=evaluate(model, held_ids, settings),
        seconds=time.perf_counter() - started,
        parameters=sum(p.size for p in model.parameters()),
        curve=curve,
        context=dict(enumerate(vocabulary.decode(measured[:, 0]))),
    )


def warm_up(cells: Iterable[str], settings: Settings) -> None:
    """Runs cells very briefly, so that the kernels they need are compiled and cached.

    A compiled loop runs any number of steps, rows and units, which decide how threads divide it.
    """
    brief = replace(settings, steps=3, batch=2, updates=1)
    for cell in cells:
        run(cell, "To be, or not to be. " * 4, brief)


def measure(model: CharacterModel, ids: Array, settings: Settings) -> Recording:
    """Gradient flow from a loss at the last step, or at all, on a float64 copy of the model."""
    generator = np.random.default_rng(0)
    twin = CharacterModel(model.cell, model.embed.num_embeddings, settings, generator)
    twin.to(np.float64).load_state_dict(model.state_dict())
    with record(thresholds=settings.thresholds) as recording:
        loss = twin.loss(ids) if settings.every else twin.last_loss(ids, settings.steps)
        loss.backward()
    return recording


def evaluate(model: CharacterModel, ids: Array, settings: Settings) -> float:
    """Bits per character on evenly spaced windows of held-out text."""
    with no_grad():
        batch = spaced_windows(ids, model.train_length(settings.steps), EVALUATED)
        return float(model.loss(batch).item()) / math.log(2)
