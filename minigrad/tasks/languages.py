"""Where does a surname come from? Many-to-one: letters in, one of ten countries out.

    letters (T, B)  ->  Embedding  ->  recurrent layer  ->  its last output  ->  Linear  ->  logits

The baseline knows which letters a name has, but not in what order: what it lacks is what the order
is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import data
from ..nn import Embedding, Linear, Module, cross_entropy
from ..ops import softmax
from ..tensors import Tensor
from .base import Settings, Task, output_size, recurrent

Array = np.ndarray


class NameModel(Module):
    """Letters (T, B) with lengths (B,) -> logits (B, classes), from each row's last letter."""

    def __init__(self, settings: Settings, symbols: int, classes: int, generator: Any):
        self.embed = Embedding(symbols, 24, padding_idx=0, generator=generator)
        self.recurrent = recurrent(settings, 24, generator, return_sequences=False)
        self.head = Linear(output_size(settings), classes, generator=generator)

    def forward(self, ids: Array, lengths: Array) -> Tensor:
        last, _ = self.recurrent(self.embed(ids), lengths=lengths)
        return self.head(last)


class Languages(Task):
    """At random, with the same mix in each: 80 % to train, 10 % to validate, 10 % to test."""

    name, kind = "languages", "many-to-one"
    title = "surnames of ten countries: where is one from?"
    cells = ("gru", "lstm", "rnn", "bilstm")
    epochs, hidden = (12, 6), (64, 32)
    metric, unit = "accuracy", "%"
    reads = "a surname"

    def __init__(self, settings: Settings, stored: Mapping[str, Any] | None = None):
        super().__init__(settings, stored)
        self.data = found = data.surnames()
        self.parts = data.split_at_random(len(found), (0.8, 0.1, 0.1), seed=0, labels=found.labels)
        train = self.parts.train
        if stored:  # of what may have been another version of the lists
            self.letters = data.Tokenizer.from_json(stored["letters"])
        else:
            self.letters = data.Tokenizer(found.names[i] for i in train)
        self.names = [self.letters.encode(name) for name in found.names]
        classes = len(found.classes)
        self.model = NameModel(settings, len(self.letters), classes, self.generator)
        self.batches = data.Batches(
            [self.names[i] for i in train], found.labels[train], batch=64, seed=settings.seed
        )

    def extra(self) -> dict[str, Any]:
        return {"letters": self.letters.to_json()}

    def loss(self, model: Any, batch: Any, *state: Any) -> Tensor:
        ids, lengths, labels = batch
        return cross_entropy(model(ids, lengths), labels)

    def validate(self) -> dict[str, float]:
        return self._score(self.parts.valid)

    def test(self) -> dict[str, float]:
        return self._score(self.parts.test)

    def _score(self, items: Array) -> dict[str, float]:
        ids, lengths = data.pad([self.names[i] for i in items])
        logits, labels = self.model(ids, lengths), self.data.labels[items]
        right = logits.numpy().argmax(axis=-1) == labels
        return {self.metric: right.mean(), "loss": cross_entropy(logits, labels).item()}

    def baselines(self) -> dict[str, float]:
        train, test = self.parts.train, self.parts.test
        known, labels = self.data.labels[train], self.data.labels[test]
        n = len(self.letters)
        bags = np.array([np.bincount(ids, minlength=n) for ids in self.names], np.float64)
        bags = np.c_[bags, np.ones(len(bags))]
        wanted = np.eye(len(self.data.classes))[known]
        weights = np.linalg.lstsq(bags[train], wanted, rcond=None)[0]
        guessed = (bags[test] @ weights).argmax(axis=-1)
        return {
            "its letters without their order, least squares": float((guessed == labels).mean()),
            "always the most frequent": float((labels == np.bincount(known).argmax()).mean()),
        }

    def about(self) -> str:
        train, valid, test = map(len, self.parts)
        return (
            f"{len(self.data):,} surnames of {len(self.data.classes)} countries: {train:,} to "
            f"train, {valid} to validate, {test} to test; {self.data.source}."
        )

    def examples(self) -> list[str]:
        found = []
        for i in self.parts.test[:6]:
            (line,) = self.read(self.data.names[i])
            found.append(f"{line}  (listed in {self.data.classes[self.data.labels[i]]})")
        return found

    def read(self, text: str) -> list[str]:
        ids, lengths = data.pad([self.letters.encode(text.lower())])
        p = softmax(self.model(ids, lengths), axis=-1).numpy()[0]
        best = np.argsort(-p)[:3]
        return [f"{text}: " + ", ".join(f"{self.data.classes[k]} {p[k]:.0%}" for k in best)]

    def probed(self) -> tuple[Any, Array]:
        longest = sorted(self.parts.test, key=lambda i: -len(self.names[i]))[:32]
        ids, lengths = data.pad([self.names[i] for i in longest])
        return self.model.embed(ids), lengths  # type: ignore[attr-defined]
