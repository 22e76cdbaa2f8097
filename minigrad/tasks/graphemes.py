"""How is each letter spoken? Many-to-many, same length: a tag, a phoneme, for every letter.

    letters (T, B)  ->  Embedding  ->  BiLSTM  ->  Linear  ->  logits (T, B, phonemes)

English words of as many letters as phonemes ("pet", P EH T), whose letters are taken to stand for
them in order: no alignment has to be guessed, and most of such words are as regular as that. What a
vowel sounds like depends on both sides ("pet", "paten"), so two directions help. The baselines say
for each letter, or for each letter with its neighbours, what it is most often.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import data
from ..nn import Embedding, Linear, Module, cross_entropy
from ..tensors import Tensor
from .base import Settings, Task, TaskError, output_size, recurrent
from .writing import IGNORED

Array = np.ndarray
SHORTEST, LONGEST = 3, 10


class TagModel(Module):
    """Letters (T, B) with lengths (B,) -> logits (T, B, phonemes)."""

    def __init__(self, settings: Settings, letters: int, phonemes: int, generator: Any):
        self.embed = Embedding(letters, 24, padding_idx=0, generator=generator)
        self.recurrent = recurrent(settings, 24, generator)
        self.head = Linear(output_size(settings), phonemes, generator=generator)

    def forward(self, ids: Array, lengths: Array) -> Tensor:
        hs, _ = self.recurrent(self.embed(ids), lengths=lengths)
        return self.head(hs)


class Graphemes(Task):
    """Words at random, each in one part only: 80 % to train, 10 % to validate, 10 % to test."""

    name, kind = "graphemes", "many-to-many, same length"
    title = "English words: which phoneme is each letter?"
    cells = ("bilstm", "lstm", "gru", "rnn")
    epochs, hidden = (10, 4), (64, 32)
    metric, unit = "accuracy", "%"
    reads = "a word"

    def __init__(self, settings: Settings, stored: Mapping[str, Any] | None = None):
        super().__init__(settings, stored)
        found = data.pronunciations(stress=False)
        pairs = [
            (word, phonemes)
            for word, phonemes in zip(found.words, found.phonemes, strict=True)
            if SHORTEST <= len(word) <= LONGEST
            and word.isalpha()
            and len(word) == len(phonemes.split())
        ]
        draw = np.random.default_rng(0)
        count = min(len(pairs), 6000 if settings.quick else 20_000)
        pairs = [pairs[i] for i in sorted(draw.choice(len(pairs), count, replace=False))]
        self.words, self.phonemes = (list(part) for part in zip(*pairs, strict=True))
        self.source = found.source
        self.parts = data.split_by_group(self.words, seed=0)
        train = self.parts.train
        if stored:
            self.letters = data.Tokenizer.from_json(stored["letters"])
            self.tags = data.Tokenizer.from_json(stored["tags"])
        else:
            self.letters = data.Tokenizer(self.words[i] for i in train)
            self.tags = data.Tokenizer((self.phonemes[i] for i in train), unit="symbol")
        self.xs = [self.letters.encode(word) for word in self.words]
        self.ys = [self.tags.encode(phonemes) for phonemes in self.phonemes]
        self.model = TagModel(settings, len(self.letters), len(self.tags), self.generator)
        self.batches = data.Batches(
            [self.xs[i] for i in train],
            [self.ys[i] for i in train],
            batch=64,
            seed=settings.seed,
            pool=8,
            pad_y=IGNORED,
        )

    def extra(self) -> dict[str, Any]:
        return {"letters": self.letters.to_json(), "tags": self.tags.to_json()}

    def loss(self, model: Any, batch: Any, *state: Any) -> Tensor:
        ids, lengths, (tags, _) = batch
        return cross_entropy(model(ids, lengths), tags, IGNORED)

    def validate(self) -> dict[str, float]:
        return self._score(self.parts.valid)

    def test(self) -> dict[str, float]:
        return self._score(self.parts.test)

    def _score(self, items: Array) -> dict[str, float]:
        ids, lengths = data.pad([self.xs[i] for i in items])
        tags, _ = data.pad([self.ys[i] for i in items], IGNORED)
        logits = self.model(ids, lengths)
        real = tags != IGNORED
        right = (logits.numpy().argmax(axis=-1) == tags)[real]
        return {self.metric: right.mean(), "loss": cross_entropy(logits, tags, IGNORED).item()}

    def baselines(self) -> dict[str, float]:
        return {
            "the letter with its neighbours, most often": self._most_often(1),
            "the letter, most often": self._most_often(0),
        }

    def _most_often(self, around: int) -> float:
        """The share that is right if each letter, seen with so many on both sides, gets the
        phoneme it had most often; one that never came so, what the letter alone has most often.
        """
        seen: list[dict[tuple[int, ...], Counter[int]]] = [{}, {}]
        for i in self.parts.train:
            for k, width in enumerate({0, around}):
                for key, tag in zip(_keys(self.xs[i], width), self.ys[i], strict=True):
                    seen[k].setdefault(key, Counter())[int(tag)] += 1
        alone, wide = seen[0], seen[1] or seen[0]
        right = []
        for i in self.parts.test:
            keys = zip(_keys(self.xs[i], 0), _keys(self.xs[i], around), strict=True)
            for (letter, context), tag in zip(keys, self.ys[i], strict=True):
                counts = wide.get(context) or alone.get(letter)
                right.append(counts is not None and counts.most_common(1)[0][0] == tag)
        return float(np.mean(right))

    def about(self) -> str:
        train, valid, test = map(len, self.parts)
        return (
            f"{len(self.words):,} words of as many letters as phonemes: {train:,} to train, "
            f"{valid} to validate, {test} to test; {self.source}."
        )

    def examples(self) -> list[str]:
        found = []
        for i in self.parts.test[:6]:
            (line,) = self.read(self.words[i])
            true = self.phonemes[i]
            found.append(line if line.endswith(true) else f"{line}  (it is {true})")
        return found

    def read(self, text: str) -> list[str]:
        word = text.strip().lower()
        if not word.isalpha():
            raise TaskError(f"graphemes: --text is one word of letters, got {text!r}.")
        ids, lengths = data.pad([self.letters.encode(word)])
        best = self.model(ids, lengths).numpy()[:, 0].argmax(axis=-1)
        return [f"{word}: {self.tags.decode(best)}"]

    def probed(self) -> tuple[Any, Array]:
        longest = sorted(self.parts.test, key=lambda i: -len(self.xs[i]))[:32]
        ids, lengths = data.pad([self.xs[i] for i in longest])
        return self.model.embed(ids), lengths  # type: ignore[attr-defined]


def _keys(ids: Array, around: int) -> list[tuple[int, ...]]:
    """Each symbol with so many on both sides; 0 beyond the ends."""
    wide = np.pad(ids, around)
    return [tuple(wide[k : k + 2 * around + 1].tolist()) for k in range(len(ids))]
