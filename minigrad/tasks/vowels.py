"""Who speaks? Many-to-one on real speech: an utterance of any length in, one of nine men out.

    frames (T, 12)  ->  recurrent layer  ->  its last output  ->  Linear  ->  9 logits

The baseline has no time at all: the mean of an utterance's frames, and the nearest of the nine
speakers' means. What the order of the frames adds is the difference.

Kudo, Toyama & Shimbo (1999), Pattern Recognition Letters 20, 1103-1111.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import data
from ..nn import Linear, Module, cross_entropy
from ..tensors import Tensor
from .base import Settings, Task, output_size, recurrent

Array = np.ndarray


class SpeakerModel(Module):
    """Frames (T, B, 12) with lengths (B,) -> logits (B, classes), from each row's last frame."""

    def __init__(self, settings: Settings, features: int, classes: int, generator: Any):
        self.recurrent = recurrent(settings, features, generator, return_sequences=False)
        self.head = Linear(output_size(settings), classes, generator=generator)

    def forward(self, xs: Array, lengths: Array) -> Tensor:
        last, _ = self.recurrent(xs, lengths=lengths)
        return self.head(last)


class Vowels(Task):
    """Published parts: 270 utterances to train on (54 of them validate), 370 to test."""

    name, kind = "vowels", "many-to-one"
    title = "JapaneseVowels: which of nine men says /ae/?"
    cells = ("gru", "lstm", "rnn", "bilstm")
    epochs, hidden = (40, 25), (48, 32)
    metric, unit = "accuracy", "%"

    def __init__(self, settings: Settings, stored: Mapping[str, Any] | None = None):
        super().__init__(settings, stored)
        self.data = found = data.japanese_vowels()
        labels = found.labels[found.train]
        parts = data.split_at_random(len(labels), (0.8, 0.2, 0.0), seed=0, labels=labels)
        self.train, self.valid = found.train[parts.train], found.train[parts.valid]
        self.scaler = data.Scaler.fit(np.concatenate([found.xs[i] for i in self.train]))
        self.xs = [self.scaler(x).astype(np.float32) for x in found.xs]
        self.model = SpeakerModel(settings, 12, len(found.classes), self.generator)
        self.batches = data.Batches(
            [self.xs[i] for i in self.train],
            found.labels[self.train],
            batch=27,
            seed=settings.seed,
            pool=4,
        )

    def loss(self, model: Any, batch: Any, *state: Any) -> Tensor:
        xs, lengths, labels = batch
        return cross_entropy(model(xs, lengths), labels)

    def validate(self) -> dict[str, float]:
        return self._score(self.valid)

    def test(self) -> dict[str, float]:
        return self._score(self.data.test)

    def _score(self, items: Array) -> dict[str, float]:
        xs, lengths = data.pad([self.xs[i] for i in items])
        logits, labels = self.model(xs, lengths), self.data.labels[items]
        right = logits.numpy().argmax(axis=-1) == labels
        return {"accuracy": right.mean(), "loss": cross_entropy(logits, labels).item()}

    def baselines(self) -> dict[str, float]:
        train, test = self.data.train, self.data.test
        known, labels = self.data.labels[train], self.data.labels[test]
        means = np.array([x.mean(axis=0) for x in self.xs])
        speakers = np.array([means[train][known == k].mean(axis=0) for k in range(9)])
        nearest = ((means[test][:, None] - speakers) ** 2).sum(axis=-1).argmin(axis=-1)
        return {
            "nearest mean of the frames": float((nearest == labels).mean()),
            "always the most frequent": float((labels == np.bincount(known).argmax()).mean()),
        }

    def about(self) -> str:
        steps = [len(x) for x in self.xs]
        return (
            f"{len(self.xs)} utterances of {min(steps)} to {max(steps)} frames: {len(self.train)} "
            f"to train, {len(self.valid)} to validate, {len(self.data.test)} to test."
        )

    def probed(self) -> tuple[Array, Array]:
        longest = sorted(self.data.test, key=lambda i: -len(self.xs[i]))[:32]
        return data.pad([self.xs[i] for i in longest])
