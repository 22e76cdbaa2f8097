"""A lexicon of words rated by people, and the weak labels that it gives to texts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..untrusted import parse_json, read_text, reading
from .external import EXTERNAL, installed, package_file
from .sources import DataError

Array = np.ndarray

WORD = re.compile(r"[a-z]+(?:['-][a-z]+)*")


@dataclass(frozen=True)
class Lexicon:
    """words: N of them. ratings: int64 (N, 10), by ten people from -4 to 4. valence: float64 (N,),
    their mean; spread: float64 (N,), their standard deviation. labels: int64 (N,), 1 where the
    valence is above 0; classes: ("negative", "positive").
    """

    words: tuple[str, ...]
    ratings: Array
    valence: Array
    spread: Array
    labels: Array
    classes: tuple[str, ...]
    source: str
    licence: str

    def __len__(self) -> int:
        return len(self.words)

    def weak_labels(self, texts: Iterable[str]) -> Array:
        """int64 (N,): 1 where the valences of a text's words add up to more than 0, 0 where to
        less, -1 where to nothing or no word is known.

        Weak: nobody has read these texts. "Not good" is called positive, irony is taken at its
        word, and a model trained on them learns this sum. Test a model of sentiment on labels by
        people.
        """
        table = dict(zip(self.words, self.valence.tolist(), strict=True))
        sums = [sum(table.get(w, 0.0) for w in WORD.findall(text.lower())) for text in texts]
        return np.array([-1 if abs(s) < 1e-9 else int(s > 0) for s in sums], np.int64)


def sentiment_words(letters_only: bool = True) -> Lexicon:
    """The lexicon of VADER: 7,500 words, slang and emoticons, each rated by ten people.

    letters_only: leave out emoticons and what else is not made of letters (and ' and - inside).
    The ratings are of single words by people. As labels of *texts* they are weak: see
    `Lexicon.weak_labels`.

    Raises MissingDataError if vaderSentiment is not installed.

    Hutto & Gilbert (2014), VADER: A Parsimonious Rule-based Model for Sentiment Analysis, ICWSM.
    """
    path = package_file("sentiment", "vader_lexicon.txt")
    with reading(path, DataError, what="lexicon of VADER"):
        return _lexicon(read_text(path), letters_only)


def _lexicon(text: str, letters_only: bool) -> Lexicon:
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    unique = {row[0]: row for row in rows}  # the file has a few words twice; VADER takes the last
    if letters_only:
        unique = {word: row for word, row in unique.items() if WORD.fullmatch(word)}
    ratings = np.array([parse_json(row[3]) for row in unique.values()], np.int64)
    valence = np.array([float(row[1]) for row in unique.values()])
    return Lexicon(
        words=tuple(unique),
        ratings=ratings,
        valence=valence,
        spread=ratings.std(axis=1),
        labels=(valence > 0).astype(np.int64),
        classes=("negative", "positive"),
        source=installed("sentiment"),
        licence=EXTERNAL["sentiment"].licence,
    )
