"""Who speaks in which order? Many-to-many, different lengths, and nobody says where one ends: CTC.

    frames of two to five utterances in a row (T, 12)
        ->  recurrent layer  ->  Linear  ->  log_softmax  (T, B, blank and nine speakers)
        ->  CTC: the speakers in their order, by the sum over all ways to place them

The utterances are real and of one speaker each; that they follow each other without a pause is
made here, and a speaker may follow himself. Measured is the label error rate: insertions, deletions
and substitutions (Levenshtein) over the number of speakers there are. The baseline names every
frame by the nearest of the speakers' means, smooths over frames, and takes out repeats.

Graves, Fernandez, Gomez, Schmidhuber (2006), "Connectionist temporal classification".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import data, ops
from ..nn import Linear, Module, ctc_beam, ctc_greedy, ctc_loss
from ..tensors import Tensor
from .base import Settings, Task, output_size, recurrent

Array = np.ndarray
SPEAKERS = 9


class FrameModel(Module):
    """Frames (T, B, 12) with lengths -> log probabilities (T, B, 10); class 0 is the blank."""

    def __init__(self, settings: Settings, features: int, generator: Any):
        self.recurrent = recurrent(settings, features, generator)
        self.head = Linear(output_size(settings), SPEAKERS + 1, generator=generator)

    def forward(self, xs: Array, lengths: Array) -> Tensor:
        hs, _ = self.recurrent(xs, lengths=lengths)
        return ops.log_softmax(self.head(hs), axis=-1)


class Speech(Task):
    """Rows of utterances: of the published training part to train and validate, of the other to
    test.
    """

    name, kind = "speech", "many-to-many, different lengths"
    title = "JapaneseVowels in a row: who speaks, in which order (CTC)"
    cells = ("bilstm", "lstm", "gru", "rnn")
    epochs, hidden = (12, 8), (64, 32)
    metric, unit, larger_is_better = "label error rate", "%", False

    def __init__(self, settings: Settings, stored: Mapping[str, Any] | None = None):
        super().__init__(settings, stored)
        self.data = found = data.japanese_vowels()
        labels = found.labels[found.train]
        parts = data.split_at_random(len(labels), (0.8, 0.2, 0.0), seed=0, labels=labels)
        train, valid = found.train[parts.train], found.train[parts.valid]
        self.scaler = data.Scaler.fit(np.concatenate([found.xs[i] for i in train]))
        self.utterances = [self.scaler(x).astype(np.float32) for x in found.xs]
        count = 600 if settings.quick else 2000
        self.train = self._rows(train, count, settings.seed + 1)
        self.valid, self.held_out = self._rows(valid, 150, 0), self._rows(found.test, 300, 0)
        self.model = FrameModel(settings, 12, self.generator)
        self.batches = data.Batches(*self.train, batch=32, seed=settings.seed, pool=8)

    def _rows(self, items: Array, count: int, seed: int) -> tuple[list[Array], list[Array]]:
        """`count` rows of two to five utterances drawn from `items`: frames, and labels 1 to 9."""
        rng = np.random.default_rng(seed)
        rows = [rng.choice(items, rng.integers(2, 6)) for _ in range(count)]
        frames = [np.concatenate([self.utterances[i] for i in row]) for row in rows]
        return frames, [self.data.labels[row] + 1 for row in rows]

    def loss(self, model: Any, batch: Any, *state: Any) -> Tensor:
        xs, lengths, (labels, counts) = batch
        return ctc_loss(model(xs, lengths), labels.T, lengths, counts)

    def validate(self) -> dict[str, float]:
        return self._score(*self.valid)

    def test(self) -> dict[str, float]:
        return self._score(*self.held_out)

    def _score(self, frames: Sequence[Array], labels: Sequence[Array]) -> dict[str, float]:
        xs, lengths = data.pad(frames)
        log_probs = self.model(xs, lengths)
        padded, counts = data.pad(labels)
        found = [list(row.labels) for row in ctc_greedy(log_probs, lengths)]
        loss = ctc_loss(log_probs, padded.T, lengths, counts).item()
        return {self.metric: error_rate(found, labels), "loss": loss}

    def baselines(self) -> dict[str, float]:
        """The width of the smoothing is the best on the validation part."""
        known = self.data.labels[self.data.train]
        means = np.array([
            np.concatenate([self.utterances[i] for i in self.data.train[known == k]]).mean(axis=0)
            for k in range(SPEAKERS)
        ])  # fmt: skip
        widths = range(1, 32, 2)
        errors = [error_rate([_smoothed(x, means, w) for x in self.valid[0]], self.valid[1])
                  for w in widths]  # fmt: skip
        best = widths[int(np.argmin(errors))]
        frames, labels = self.held_out
        constant = [[1, 1, 1]] * len(frames)
        return {
            f"nearest mean, smoothed over {best} frames": error_rate(
                [_smoothed(x, means, best) for x in frames], labels
            ),
            "always the same three": error_rate(constant, labels),
        }

    def about(self) -> str:
        steps = [len(x) for x in self.held_out[0]]
        return (
            f"Rows of 2 to 5 utterances, {min(steps)} to {max(steps)} frames: "
            f"{len(self.train[0]):,} to train, {len(self.valid[0])} to validate, "
            f"{len(self.held_out[0])} to test."
        )

    def probed(self) -> tuple[Array, Array]:
        return data.pad(self.held_out[0][:32])

    def examples(self) -> list[str]:
        """A row as the net hears it, frame by frame, and what a beam search reads."""
        frames, labels = self.held_out[0][0], self.held_out[1][0]
        log_probs = self.model(frames[:, None], np.array([len(frames)]))
        best = log_probs.numpy()[:, 0].argmax(axis=-1)
        beam = ctc_beam(log_probs, width=8)[0][0]
        return [
            f"One row, frame by frame ({self.name}: - is no label yet):",
            "".join("-" if k == 0 else str(k) for k in best),
            f"spoken by {' '.join(map(str, labels))}, read {' '.join(map(str, beam.labels))} "
            f"(p = {np.exp(beam.log_p):.2f})",
        ]


def _smoothed(frames: Array, means: Array, width: int) -> list[int]:
    """Each frame's nearest mean, by distances averaged over `width` frames; repeats taken out."""
    distances = ((frames[:, None] - means) ** 2).sum(axis=-1)
    kernel = np.ones(min(width, len(frames)))
    weight = np.convolve(np.ones(len(frames)), kernel, "same")
    smooth = np.array([np.convolve(d, kernel, "same") for d in distances.T]) / weight
    named = smooth.argmin(axis=0) + 1
    return named[np.flatnonzero(np.diff(named, prepend=0))].tolist()


def error_rate(found: Sequence[Sequence[int]], true: Sequence[Any]) -> float:
    """Edits that make what was found true, over the number of true labels.

    >>> error_rate([[1, 2, 2], [3]], [[1, 2], [4]])
    0.6666666666666666
    """
    edits = sum(distance(list(a), list(b)) for a, b in zip(found, true, strict=True))
    return edits / sum(len(b) for b in true)


def distance(a: list[int], b: list[int]) -> int:
    """Levenshtein: the least number of insertions, deletions and substitutions.

    >>> distance(list(map(ord, "kitten")), list(map(ord, "sitting")))
    3
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]
