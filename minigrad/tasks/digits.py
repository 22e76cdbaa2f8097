"""Which digit? One-to-one: an image in, one of ten out; and why a plain net needs no time.

    mlp:       64 pixels       ->  Linear, tanh  ->  Linear  ->  10 logits
    lstm, ...: 8 rows (8, 8)   ->  recurrent     ->  last output  ->  Linear  ->  10 logits

An image has a fixed size, so nothing is gained by reading it as a sequence: the MLP sees all of it
at once. A recurrent layer shares one row's weights among all eight and has to remember the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import data, ops
from ..nn import Linear, Module, Sequential, cross_entropy
from ..tensors import Tensor
from .base import Settings, Task, TaskError, output_size, recurrent

Array = np.ndarray


class RowModel(Module):
    """Images (8, B, 8), row after row -> logits (B, 10)."""

    def __init__(self, settings: Settings, generator: Any):
        self.recurrent = recurrent(settings, 8, generator, return_sequences=False)
        self.head = Linear(output_size(settings), 10, generator=generator)

    def forward(self, xs: Array) -> Tensor:
        return self.head(self.recurrent(xs)[0])


class PixelModel(Module):
    """Images (8, B, 8), all pixels at once -> logits (B, 10)."""

    def __init__(self, settings: Settings, generator: Any):
        self.layers = Sequential(
            Linear(64, settings.hidden, generator=generator),
            ops.tanh,
            Linear(settings.hidden, 10, generator=generator),
        )

    def forward(self, xs: Array) -> Tensor:
        return self.layers(xs.swapaxes(0, 1).reshape(-1, 64))


class Digits(Task):
    """At random, with the same mix in each: 70 % to train, 10 % to validate, 20 % to test."""

    name, kind = "digits", "one-to-one"
    title = "8 x 8 digits: an MLP, or row by row"
    cells = ("mlp", "lstm", "gru", "rnn", "bilstm")
    epochs, hidden = (60, 15), (64, 64)
    metric, unit = "accuracy", "%"
    rate = 3e-3
    reads = "64 numbers from 0 to 16, the pixels row by row"

    def __init__(self, settings: Settings, stored: Mapping[str, Any] | None = None):
        super().__init__(settings, stored)
        self.data = data.digits()
        self.xs = self.data.sequences().astype(np.float32)  # (8, N, 8)
        labels = self.data.labels
        self.parts = data.split_at_random(len(labels), (0.7, 0.1, 0.2), seed=0, labels=labels)
        kind = PixelModel if settings.cell == "mlp" else RowModel
        self.model = kind(settings, self.generator)
        train = self.parts.train
        images = list(self.xs[:, train].swapaxes(0, 1))
        self.batches = data.Batches(images, labels[train], batch=32, seed=settings.seed)

    def loss(self, model: Any, batch: Any, *state: Any) -> Tensor:
        xs, _, labels = batch
        return cross_entropy(model(xs), labels)

    def validate(self) -> dict[str, float]:
        return self._score(self.parts.valid)

    def test(self) -> dict[str, float]:
        return self._score(self.parts.test)

    def _score(self, items: Array) -> dict[str, float]:
        logits, labels = self.model(self.xs[:, items]), self.data.labels[items]
        right = logits.numpy().argmax(axis=-1) == labels
        return {self.metric: right.mean(), "loss": cross_entropy(logits, labels).item()}

    def baselines(self) -> dict[str, float]:
        return simplest(*self._asked())

    def references(self) -> dict[str, float]:
        return neighbours(*self._asked())

    def _asked(self) -> tuple[Array, Array, Array, Array]:
        known = np.concatenate([self.parts.train, self.parts.valid])
        return flat(self.data), self.data.labels, known, self.parts.test

    def about(self) -> str:
        train, valid, test = map(len, self.parts)
        return (
            f"{len(self.data):,} images: {train:,} to train, {valid} to validate, {test} to test."
        )

    def probed(self) -> tuple[Array, None]:
        return self.xs[:, self.parts.test[:64]], None

    def examples(self) -> list[str]:
        """Five images side by side with what each is taken for, wrong ones first."""
        items = self.parts.test
        found = self.model(self.xs[:, items]).numpy().argmax(axis=-1)
        lines = mistakes(
            self.data.images[items], list(map(str, found)), found == self.data.labels[items]
        )
        if self.settings.cell == "mlp":
            lines += ["", "The same images read row by row: --cell lstm."]
        return lines

    def read(self, text: str) -> list[str]:
        """The digit in a picture that is given as numbers."""
        pixels = pixels_of(text, self.name)
        p = ops.softmax(self.model(pixels / np.float32(self.data.levels)), axis=-1).numpy()[0]
        return [f"{p.argmax()} ({100 * p.max():.1f} %)"]


def flat(found: data.Images) -> Array:
    """Images as float32 (N, 64), from 0 to 1."""
    return (found.images.reshape(len(found), -1) / found.levels).astype(np.float32)


def simplest(images: Array, labels: Array, known: Array, asked: Array) -> dict[str, float]:
    """Shares of images that are named right without a net."""
    means = np.array([images[known][labels[known] == k].mean(axis=0) for k in range(10)])
    often = np.bincount(labels[known]).argmax()
    return {
        "nearest mean image": float((_nearest(images[asked], means) == labels[asked]).mean()),
        "always the most frequent": float((labels[asked] == often).mean()),
    }


def neighbours(images: Array, labels: Array, known: Array, asked: Array) -> dict[str, float]:
    """The same of the nearest neighbour: no baseline, as it keeps every image it has seen."""
    found = labels[known][_nearest(images[asked], images[known])]
    name = f"nearest of {len(known):,} images kept"
    return {name: float((found == labels[asked]).mean())}


def _nearest(asked: Array, known: Array) -> Array:
    return np.asarray(((asked[:, None] - known) ** 2).sum(axis=-1).argmin(axis=-1))


def mistakes(images: Array, names: Sequence[str], right: Sequence[bool]) -> list[str]:
    """Five images (8, 8) side by side with what they were called, wrong ones first, as lines."""
    shown = np.argsort(right, kind="stable")[:5]
    ink = " .:-=+*#%@"
    rows = [
        "  ".join("".join(ink[v * 9 // 16] for v in images[i, y].tolist()) for i in shown)
        for y in range(8)
    ]
    wrong = len(right) - int(np.sum(right))
    called = "  ".join(f"{names[i]:<8}" for i in shown)
    lines = [f"{wrong} of {len(right)} are wrong, those first:", "", *rows, called]
    return [line.rstrip() for line in lines]


def pixels_of(text: str, task: str) -> Array:
    """float32 (8, 1, 8) of 64 numbers. Raises TaskError for anything else."""
    try:
        values = np.array([float(word) for word in text.replace(",", " ").split()], np.float32)
    except ValueError as error:
        raise TaskError(f"{task}: --text is numbers with blanks between ({error}).") from None
    if values.shape != (64,) or not ((values >= 0) & (values <= 16)).all():
        raise TaskError(
            f"{task}: --text is 64 numbers from 0 to 16, 8 rows of 8 pixels; got {len(values)} "
            f"numbers{f' from {values.min():g} to {values.max():g}' if len(values) else ''}."
        )
    return values.reshape(8, 1, 8)
