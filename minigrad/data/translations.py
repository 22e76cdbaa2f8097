"""Interface texts and how people translated them: short pairs of sentences in many languages."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from ..untrusted import MOST_TEXT, read_bytes, reading
from .external import EXTERNAL, installed, package_file
from .sources import DataError

PLACEHOLDER = re.compile(r"%[(sd]|[{}<>\n]")


@dataclass(frozen=True)
class Translations:
    """english, translated: N strings each, no pair twice, sorted. One English text may have several
    translations: group by `english` when you split.
    """

    english: tuple[str, ...]
    translated: tuple[str, ...]
    language: str
    source: str
    licence: str

    def __len__(self) -> int:
        return len(self.english)


def interface_strings(language: str = "de", plain: bool = True) -> Translations:
    """The texts of Django's interface in English and in one of nearly 100 languages.

    language: as Django names it ("de", "pt_BR", "zh_Hans"); `interface_languages()` lists them.
    plain: leave out texts with placeholders, markup or several lines.
    Read from the compiled catalogues (.mo), which hold what translators have finished.

    Raises MissingDataError if Django is not installed, DataError for a language it does not have.
    """
    root = package_file("interface_strings", "conf").parent
    files = sorted(root.glob(f"**/locale/{language}/LC_MESSAGES/*.mo")) if language else []
    if not files or language not in interface_languages():
        raise DataError(
            f"interface_strings: Django has no language {language!r}; it has "
            f"{', '.join(interface_languages())}."
        )
    pairs = set()
    for path in files:
        for text, translation in read_mo(path):
            if text and translation and text != translation:
                pairs.add((text, translation))
    if plain:
        pairs = {pair for pair in pairs if not any(map(PLACEHOLDER.search, pair))}
    if not pairs:
        raise DataError(
            f"interface_strings: none of Django's texts in {language!r} is "
            f"{'plain; try plain=False' if plain else 'translated'}."
        )
    english, translated = zip(*sorted(pairs), strict=True)
    licence = EXTERNAL["interface_strings"].licence
    return Translations(english, translated, language, installed("interface_strings"), licence)


def interface_languages() -> list[str]:
    """The languages that Django's interface is translated into."""
    folder = package_file("interface_strings", "conf/locale")
    return sorted(
        p.parts[-3] for p in folder.glob("*/LC_MESSAGES/django.mo") if p.parts[-3] != "en"
    )


def read_mo(path: Path) -> list[tuple[str, str]]:
    """(text, translation) of each entry of a GNU .mo file; of plurals, the singular only.

    Two tables of (length, offset) point to the texts. A context ends with byte 4, a singular with
    byte 0.
    https://www.gnu.org/software/gettext/manual/html_node/MO-Files.html
    """
    with reading(path, DataError, what=".mo file"):
        raw = read_bytes(path, MOST_TEXT)
    order = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}.get(raw[:4])
    if order is None:
        raise DataError(f"{path}: expected a GNU .mo file, it begins with {raw[:4]!r}.")
    try:
        count, *tables = struct.unpack_from(f"{order}3I", raw, 8)
        columns = [_texts(raw, order, at, count) for at in tables]
    except (struct.error, ValueError) as error:
        raise DataError(f"{path}: this .mo file is damaged ({error}).") from None
    return [
        (text.split("\4")[-1].split("\0")[0], translation.split("\0")[0])
        for text, translation in zip(*columns, strict=True)
    ]


def _texts(raw: bytes, order: str, at: int, count: int) -> list[str]:
    """The texts of one table. Together they are no longer than the file: they do not overlap."""
    entries = list(struct.iter_unpack(f"{order}2I", raw[at : at + 8 * count]))
    if len(entries) != count or sum(length for length, _ in entries) > len(raw):
        raise ValueError("its table says more than the file holds")
    return [raw[offset : offset + length].decode("utf-8") for length, offset in entries]
