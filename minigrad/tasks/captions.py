"""A picture in words, as few as can be. One-to-many: a digit's image in, "seven" out.

    image (64)  ->  Linear  ->  tanh  ->  h_0
    <begin> s e v e n  ->  recurrent layer  ->  Linear  ->  s e v e n <end>

The image is the first state and nothing else: the layer has to remember what it shows while it
spells. Right is what agrees in every letter and in its length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import data, ops
from ..nn import Linear, cross_entropy
from ..tensors import Tensor
from .base import TWO_SIDED, Settings, Task, first_state
from .digits import flat, mistakes, neighbours, pixels_of, simplest
from .writing import IGNORED, SymbolModel, following, write

Array = np.ndarray
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class CaptionModel(SymbolModel):
    """Letters, after a state that `look` makes of an image."""

    def __init__(self, settings: Settings, symbols: int, generator: Any):
        self.eye = Linear(64, settings.hidden, generator=generator)
        super().__init__(settings, symbols, 16, generator)

    def look(self, images: Array) -> Any:
        return first_state(self.recurrent, ops.tanh(self.eye(images)))


class Captions(Task):
    """At random, with the same mix in each: 70 % to train, 10 % to validate, 20 % to test."""

    name, kind = "captions", "one-to-many"
    title = 'the picture of a digit in, its name out: "seven"'
    cells = ("gru", "lstm", "rnn")
    not_offered = {"bilstm": TWO_SIDED}
    epochs, hidden = (40, 12), (96, 64)
    metric, unit = "exact match", "%"
    rate = 3e-3
    reads = "64 numbers from 0 to 16, the pixels row by row"

    def __init__(self, settings: Settings, stored: Mapping[str, Any] | None = None):
        super().__init__(settings, stored)
        self.data = found = data.digits()
        self.images = flat(found)
        self.parts = data.split_at_random(
            len(found), (0.7, 0.1, 0.2), seed=0, labels=found.labels
        )  # fmt: skip
        self.tokenizer = data.Tokenizer(WORDS)
        self.words = [self.tokenizer.encode(w, begin=True, end=True) for w in WORDS]
        self.model = CaptionModel(settings, len(self.tokenizer), self.generator)
        train = self.parts.train
        words = [self.words[k] for k in found.labels[train]]
        self.batches = data.Batches(words, train, batch=32, seed=settings.seed)

    def loss(self, model: Any, batch: Any, *state: Any) -> Tensor:
        ids, lengths, items = batch
        logits, _ = model(ids[:-1], model.look(self.images[items]))
        return cross_entropy(logits, following(ids, lengths), IGNORED)

    def validate(self) -> dict[str, float]:
        return self._score(self.parts.valid)

    def test(self) -> dict[str, float]:
        return self._score(self.parts.test)

    def _score(self, items: Array) -> dict[str, float]:
        labels = self.data.labels[items]
        ids, lengths = data.pad([self.words[k] for k in labels])
        found = self.captions(self.images[items])
        right = [word == WORDS[k] for word, k in zip(found, labels, strict=True)]
        loss = self.loss(self.model, (ids, lengths, items)).item()
        return {self.metric: float(np.mean(right)), "loss": loss}

    def captions(self, images: Array) -> list[str]:
        """The most probable letter after the other, until the end."""
        begin = np.full(len(images), self.tokenizer.begin)
        state = self.model.look(images)  # type: ignore[attr-defined]
        rows = write(self.model, state, begin, 10, self.tokenizer.end, temperature=0.0)
        return [self.tokenizer.decode(row) for row in rows]

    def baselines(self) -> dict[str, float]:
        known = np.concatenate([self.parts.train, self.parts.valid])
        return simplest(self.images, self.data.labels, known, self.parts.test)

    def references(self) -> dict[str, float]:
        known = np.concatenate([self.parts.train, self.parts.valid])
        return neighbours(self.images, self.data.labels, known, self.parts.test)

    def about(self) -> str:
        train, valid, test = map(len, self.parts)
        return (
            f"{len(self.data):,} images: {train:,} to train, {valid} to validate, {test} to test."
        )

    def examples(self) -> list[str]:
        """Five images side by side with what is written of them, wrong ones first."""
        items = self.parts.test
        words = self.captions(self.images[items])
        right = [w == WORDS[k] for w, k in zip(words, self.data.labels[items], strict=True)]
        return mistakes(self.data.images[items], words, right)

    def read(self, text: str) -> list[str]:
        pixels = pixels_of(text, self.name).reshape(1, 64)
        return self.captions(pixels / np.float32(self.data.levels))
