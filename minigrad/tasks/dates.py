"""Dates in words, in eight languages, to ISO 8601. Many-to-many, different lengths: attention.

    "samedi 2 mars 2024"  ->  BiLSTM encoder  ->  memory (S, 2H)
    <begin> 2 0 2 4 - ... ->  LSTM decoder that looks back at the memory  ->  "2024-03-02" <end>

Which letters a digit was read from shows in the attention: the year's four digits look at the
year, the month's at a word of some language. Right is what agrees in every character, on days
that are in no other part, in no language.

Bahdanau, Cho, Bengio (2015), "Neural machine translation by jointly learning to align and
translate".
"""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import data
from ..nn import EncoderDecoder, cross_entropy
from ..tensors import Tensor
from .alignments import picture, shaded
from .base import Settings, Task, TaskError
from .writing import IGNORED, following

Array = np.ndarray
LOCALES = ("en", "de", "fr", "es", "it", "pt", "nl", "sv")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
PICTURE = "attention.png"
# Letters that sources are padded to: a step with attention is traced for its memory's size.
WIDTH = 40


class Dates(Task):
    """Days at random: 80 % to train, 10 % to validate, 10 % to test."""

    name, kind = "dates", "many-to-many, different lengths"
    title = "dates in words, in eight languages, to ISO 8601, with attention"
    cells = ("lstm",)
    epochs, hidden = (8, 10), (64, 32)
    metric, unit = "exact match", "%"
    rate = 5e-3
    reads = "a date in words"

    def __init__(self, settings: Settings, stored: Mapping[str, Any] | None = None):
        super().__init__(settings, stored)
        count, locales = (3000, LOCALES[:3]) if settings.quick else (8000, LOCALES)
        self.data = found = data.dates(count, locales)
        self.parts = data.split_by_group(found.iso, seed=0)
        if stored:  # of what may have been another version of Babel
            self.words = data.Tokenizer.from_json(stored["words"])
        else:
            self.words = data.Tokenizer(found.phrases[i].lower() for i in self.parts.train)
        self.digits = data.Tokenizer(["0123456789-"])
        self.sources = [self.words.encode(text.lower()) for text in found.phrases]
        self.targets = [self.digits.encode(text, begin=True, end=True) for text in found.iso]
        self.model = EncoderDecoder(
            len(self.words), len(self.digits), settings.hidden, 32, generator=self.generator
        )
        train = self.parts.train
        self.batches = data.Batches(
            [self.sources[i] for i in train],
            [self.targets[i] for i in train],
            batch=64,
            seed=settings.seed,
        )

    def extra(self) -> dict[str, Any]:
        return {"words": self.words.to_json()}

    def loss(self, model: Any, batch: Any, *state: Any) -> Tensor:
        source, lengths, (target, counts) = batch
        logits = model(_wide(source), target[:-1], lengths)
        return cross_entropy(logits, following(target, counts), IGNORED)

    def validate(self) -> dict[str, float]:
        return self._score(self.parts.valid)

    def test(self) -> dict[str, float]:
        return self._score(self.parts.test)

    def _score(self, items: Array) -> dict[str, float]:
        source, lengths = data.pad([self.sources[i] for i in items])
        target, counts = data.pad([self.targets[i] for i in items])
        loss = self.loss(self.model, (source, lengths, (target, counts))).item()
        written = self.translated([self.data.phrases[i] for i in items])
        right = [text == self.data.iso[i] for text, i in zip(written, items, strict=True)]
        return {self.metric: float(np.mean(right)), "loss": loss}

    def translated(self, phrases: Sequence[str]) -> list[str]:
        """The most probable character after the other, until the end."""
        source, lengths = data.pad([self.words.encode(text.lower()) for text in phrases])
        rows = self.model.greedy(  # type: ignore[attr-defined]
            _wide(source), self.digits.begin, self.digits.end, lengths, max_steps=12
        )
        return [self.digits.decode(row) for row in rows]

    def baselines(self) -> dict[str, float]:
        test = self.parts.test
        ruled = [_by_rule(self.data.phrases[i]) == self.data.iso[i] for i in test]
        often = Counter(self.data.iso[i] for i in self.parts.train).most_common(1)[0][0]
        return {
            "a rule that knows English months": float(np.mean(ruled)),
            "always the most frequent": float(np.mean([self.data.iso[i] == often for i in test])),
        }

    def about(self) -> str:
        train, valid, test = map(len, self.parts)
        languages = len(set(self.data.locales))
        return (
            f"{len(self.data):,} dates in {languages} languages: {train:,} to train, {valid} to "
            f"validate, {test} to test; {self.data.source}."
        )

    def aligned(self, phrase: str) -> tuple[Array, str, str]:
        """(attention (T, S), the phrase as it was read, what was written)."""
        written = self.translated([phrase])[0]
        if not written:
            return np.zeros((0, len(phrase))), phrase, ""
        source = self.words.encode(phrase.lower())[:, None]
        target = self.digits.encode(written, begin=True)[:-1, None]
        model: Any = self.model
        weights = model.alignment(_wide(source), target, [len(source)])
        return weights[:, 0, : len(source)], phrase.lower(), written

    def examples(self) -> list[str]:
        phrase, read, written = self.data.phrases[self.parts.test[0]], *self._read_test(0)
        return [f"Where it looked: {phrase!r} -> {written}", "", *read]

    def _read_test(self, k: int) -> tuple[list[str], str]:
        weights, read, written = self.aligned(self.data.phrases[self.parts.test[k]])
        return shaded(weights, read, written), written

    def draw(self, folder: Path) -> list[str]:
        """A heat-map of one date of each of three languages. Needs matplotlib."""
        chosen: dict[str, str] = {}
        for i in self.parts.test:
            if self.data.formats[i] == "full":
                chosen.setdefault(self.data.locales[i], self.data.phrases[i])
        panels = [self.aligned(phrase) for phrase in list(chosen.values())[:3]]
        picture(folder / PICTURE, [panel for panel in panels if panel[2]])
        return [PICTURE]

    def read(self, text: str) -> list[str]:
        if not text.strip():
            raise TaskError('dates: --text is a date in words, such as "3. März 2021".')
        weights, read, written = self.aligned(text)
        try:
            datetime.date.fromisoformat(written)
            said = written
        except ValueError:
            said = f"{written} (no date: the phrase is unlike those that were trained on)"
        return [said, "", *shaded(weights, read, written)]


def _wide(source: Array) -> Array:
    """(S, B) padded to WIDTH steps."""
    return np.pad(source, ((0, max(WIDTH - len(source), 0)), (0, 0)))


def _by_rule(phrase: str) -> str:
    """Four digits are the year, one or two the day, and the months begin as in English.

    >>> _by_rule("Saturday, March 2, 2024"), _by_rule("samedi 2 mars 2024"), _by_rule("2 août 2024")
    ('2024-03-02', '2024-03-02', '')
    """
    year = re.search(r"\b\d{4}\b", phrase)
    day = re.search(r"\b\d{1,2}\b", phrase)
    words = re.findall(r"[a-z]+", phrase.lower())
    month = next((MONTHS.index(w[:3]) + 1 for w in words if w[:3] in MONTHS), None)
    if year is None or day is None or month is None:
        return ""
    return f"{year[0]}-{month:02}-{int(day[0]):02}"
