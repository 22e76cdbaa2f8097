"""Many short texts as numbers: characters, words or symbols, with pad, unknown, begin and end.

    tokenizer = mg.data.Tokenizer([texts[i] for i in parts.train], unit="word", limit=5000)
    ids = tokenizer.encode("To be, or not to be", begin=True, end=True)
    tokenizer.decode(ids)

It is built from the training part: what occurs only in the others becomes `unknown` there, as it
will in a text that nobody has seen. For one long text of known characters, `Vocabulary` is simpler.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..untrusted import parse_json
from .sources import DataError

Array = np.ndarray

SPECIAL = ("<pad>", "<unknown>", "<begin>", "<end>")
OTHER = "\ufffd"
UNITS = ("character", "word", "symbol")
WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w]")


class Tokenizer:
    """Texts <-> int64 arrays. Numbers 0 to 3 are pad, unknown, begin and end in this order.

    texts: what the tokens are taken from, the most frequent first; if equally frequent, sorted.
    unit: "character"; "word" (words, and each mark and blank between them; the single blank between
        two words is understood, and put back by `decode`); or "symbol" (divided by blanks already,
        as the phonemes "HH AH0 L OW1").
    limit: no more than this many numbers, the four special ones among them.
    min_count: tokens seen less often are left out.

    decode(encode(text)) == text if all its tokens are known (and, for symbols, divided by single
    blanks); an unknown one comes back as U+FFFD.

    >>> words = Tokenizer(["to be, or not to be"], unit="word")
    >>> words.encode("to be, to see", end=True).tolist()
    [5, 4, 7, 6, 5, 1, 3]
    >>> words.decode([5, 4, 7, 6, 5, 1, 3])
    'to be, to �'
    """

    pad, unknown, begin, end = range(4)

    def __init__(
        self,
        texts: Iterable[str],
        unit: str = "character",
        limit: int | None = None,
        min_count: int = 1,
    ):
        if unit not in UNITS:
            raise DataError(f"Tokenizer: unit is one of {', '.join(UNITS)}, got {unit!r}.")
        if limit is not None and limit <= len(SPECIAL):
            raise DataError(
                f"Tokenizer: a limit of {limit} leaves no place beside the {len(SPECIAL)} special "
                f"numbers."
            )
        if isinstance(texts, str):
            texts = [texts]  # a text is an iterable of texts, too: of its characters
        self.unit = unit
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(self.split(text))
        ranked = sorted((-n, token) for token, n in counts.items() if n >= min_count)
        kept = ranked if limit is None else ranked[: limit - len(SPECIAL)]
        if not kept:
            raise DataError("Tokenizer: the texts have no token that is to be kept.")
        self._set([token for _, token in kept])

    def _set(self, tokens: Sequence[str]) -> None:
        self.tokens = SPECIAL + tuple(tokens)
        self._numbers = {token: i for i, token in enumerate(tokens, len(SPECIAL))}

    def __len__(self) -> int:
        """How many numbers there are, the special ones included."""
        return len(self.tokens)

    def __repr__(self) -> str:
        first = " ".join(map(repr, self.tokens[4:10]))
        return f"Tokenizer({len(self)} {self.unit}s: {first}{' ...' * (len(self) > 10)})"

    def split(self, text: str) -> list[str]:
        """The tokens of a text.

        >>> Tokenizer("a", unit="word").split("Don't  go. ")
        ["Don't", ' ', ' ', 'go', '.', ' ']
        """
        if self.unit == "character":
            return list(text)
        if self.unit == "symbol":
            return text.split()
        tokens = WORD.findall(text)
        # Two words never touch, so one blank between them says nothing.
        return [
            token
            for i, token in enumerate(tokens)
            if not (
                token == " "
                and 0 < i < len(tokens) - 1
                and _is_word(tokens[i - 1])
                and _is_word(tokens[i + 1])
            )
        ]

    def encode(self, text: str, begin: bool = False, end: bool = False) -> Array:
        """int64 (T,), with `begin` in front and `end` behind if asked for."""
        ids = [self._numbers.get(token, self.unknown) for token in self.split(text)]
        return np.array([self.begin] * begin + ids + [self.end] * end, np.int64)

    def decode(self, ids: Iterable[int] | Array) -> str:
        """The text of a sequence of numbers up to the first `end`; pad and begin are left out."""
        tokens: list[str] = []
        wordlike: list[bool] = []
        for i in np.asarray(ids, np.int64).ravel().tolist():
            if i == self.end:
                break
            if not 0 <= i < len(self):
                raise DataError(f"Tokenizer.decode: numbers are 0 to {len(self) - 1}, got {i}.")
            if i not in (self.pad, self.begin):
                tokens.append(OTHER if i == self.unknown else self.tokens[i])
                # What is unknown is a word most often.
                wordlike.append(i == self.unknown or _is_word(self.tokens[i]))
        if self.unit == "symbol":
            return " ".join(tokens)
        if self.unit == "character":
            return "".join(tokens)
        blanks = [" " * (left and right) for left, right in pairwise(wordlike)]
        return "".join(token + blank for token, blank in zip(tokens, [*blanks, ""]))

    def unknown_share(self, texts: Iterable[str]) -> float:
        """Of the tokens of these texts, how many are unknown; 0 to 1."""
        ids = np.concatenate([self.encode(text) for text in texts] or [np.zeros(0, np.int64)])
        return float((ids == self.unknown).mean()) if len(ids) else 0.0

    def to_json(self) -> str:
        """For a file beside the weights; `from_json` reads it."""
        return json.dumps({"unit": self.unit, "tokens": self.tokens[len(SPECIAL) :]})

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """Raises DataError if it is not what `to_json` writes."""
        try:
            found: Any = parse_json(text)
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"Tokenizer.from_json: this is no JSON ({error}).") from None
        tokens = found.get("tokens") if isinstance(found, dict) else None
        if (
            not isinstance(tokens, list)
            or not all(isinstance(token, str) and token for token in tokens)
            or len(set(tokens)) != len(tokens)
            or not isinstance(found.get("unit"), str)
            or found["unit"] not in UNITS
        ):
            raise DataError(
                'Tokenizer.from_json: expected {"unit": ..., "tokens": [...]} as to_json writes it.'
            )
        made = cls.__new__(cls)
        made.unit = found["unit"]
        made._set(tokens)
        return made


def _is_word(token: str) -> bool:
    return token[0].isalnum() or token[0] == "_"
