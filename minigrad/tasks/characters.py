"""The next character of Hamlet. Many-to-many, same length: each character in, the next one out.

    ids (T, B)  ->  Embedding  ->  recurrent layer  ->  Linear  ->  logits (T, B, C)

The play is one sequence of 142,000 steps. It is cut in pieces, and the state at the end of a piece
is where the next one begins, without a gradient: truncated BPTT. Measured are bits per character
on the end of the play, read from its beginning to its end, beside what counting characters, pairs
and triples gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import data
from ..nn import cross_entropy
from .base import TWO_SIDED, Settings, Task, TaskError
from .ngrams import NGram
from .writing import SymbolModel, write

Array = np.ndarray
SAMPLE_LENGTH = 300


class Characters(Task):
    """In order: the first 80 % of the play to train, 10 % to validate, the end to test."""

    name, kind = "characters", "many-to-many, same length"
    title = "Hamlet, character by character; writes more of it"
    cells = ("gru", "lstm", "rnn")
    not_offered = {"bilstm": TWO_SIDED}
    epochs, hidden = (12, 6), (128, 64)
    metric, unit, larger_is_better = "bits per character", "bits", False
    carry = True
    samples, reads = True, "how the text begins"

    def __init__(self, settings: Settings, stored: Mapping[str, Any] | None = None):
        super().__init__(settings, stored)
        text = data.shakespeare()
        self.vocabulary = data.Vocabulary(text)
        ids = self.vocabulary.encode(text)
        parts = data.split_in_time(len(ids))
        self.train, self.valid, self.held_out = (ids[part] for part in parts)
        self.model = SymbolModel(settings, len(self.vocabulary), 32, self.generator)
        self.batches = data.Stream(self.train, length=64, batch=32)

    def loss(self, model: Any, batch: Any, *state: Any) -> Any:
        xs, ys = batch
        logits, carried = model(xs, *state)
        return cross_entropy(logits, ys), carried

    def validate(self) -> dict[str, float]:
        return self._score(self.valid)

    def test(self) -> dict[str, float]:
        return self._score(self.held_out)

    def _score(self, ids: Array) -> dict[str, float]:
        """Read as eight columns side by side, the state carried from piece to piece."""
        state, total, count = None, 0.0, 0
        for xs, ys in data.Stream(ids, length=256, batch=8):
            logits, state = self.model(xs, state)
            total += cross_entropy(logits, ys, reduction="sum").item()
            count += ys.size
        return {self.metric: total / count / np.log(2), "loss": total / count}

    def baselines(self) -> dict[str, float]:
        counted = {"characters": 1, "pairs": 2, "triples": 3}
        return {
            f"counting {what}": NGram([self.train], n, len(self.vocabulary)).bits([self.held_out])
            for what, n in counted.items()
        }

    def about(self) -> str:
        sizes = [f"{len(part):,}" for part in (self.train, self.valid, self.held_out)]
        return (
            f"{len(self.vocabulary)} kinds of characters: {sizes[0]} to train, {sizes[1]} to "
            f"validate, {sizes[2]} to test."
        )

    def probed(self) -> tuple[Any, None]:
        ids = data.spaced_windows(self.held_out, 100, 16)
        return self.model.embed(ids), None  # type: ignore[attr-defined]

    def sample(
        self,
        count: int,
        temperature: float,
        top_k: int | None,
        generator: np.random.Generator,
        begin: str = "",
    ) -> list[str]:
        """Texts of 300 characters behind `begin`, divided by ---, as lines."""
        try:
            ids = self.vocabulary.encode(begin or "\n")
        except data.DataError as error:
            raise TaskError(f"characters: --text cannot be read: {error}") from None
        state = None
        if len(ids) > 1:
            _, state = self.model(np.repeat(ids[:-1, None], count, axis=1))
        last = np.full(count, ids[-1])
        found = write(
            self.model, state, last, SAMPLE_LENGTH, None, temperature, top_k, generator
        )  # fmt: skip
        texts = [begin + self.vocabulary.decode(row) for row in found]
        return "\n\n---\n\n".join(texts).split("\n")

    def read(self, text: str) -> list[str]:
        return self.sample(1, 0.8, None, np.random.default_rng(0), text)

    def examples(self) -> list[str]:
        return ["A sample:", "", *self.sample(1, 0.8, None, np.random.default_rng(0), "HAMLET:\n")]
