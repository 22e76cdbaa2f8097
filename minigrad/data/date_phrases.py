"""Dates in words, in many languages, and in ISO 8601: the smallest translation with a right answer.

found = mg.data.dates(5000, locales=["en", "fr", "ru"])
found.phrases[0], found.iso[0]                      # e.g. ('samedi 2 mars 2024', '2024-03-02')
parts = mg.data.split_by_group(found.iso)           # no day is in two parts, in no language
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .external import EXTERNAL, installed, missing
from .sources import DataError

LOCALES = ("en", "de", "fr", "es", "it", "pt", "nl", "sv", "pl", "ru", "tr", "el", "ja")
FORMATS = ("full", "long", "medium")


@dataclass(frozen=True)
class Dates:
    """phrases, iso, locales, formats: N strings each. Group by `iso` when you split."""

    phrases: tuple[str, ...]
    iso: tuple[str, ...]
    locales: tuple[str, ...]
    formats: tuple[str, ...]
    source: str
    licence: str

    def __len__(self) -> int:
        return len(self.phrases)


def dates(
    count: int = 5000,
    locales: Sequence[str] = LOCALES,
    formats: Sequence[str] = FORMATS,
    first: str = "1950-01-01",
    last: str = "2049-12-31",
    seed: int = 0,
) -> Dates:
    """`count` days drawn from first to last, each as one of the locales writes it.

    locales: as CLDR names them ("en", "en_GB", "pt_BR"). formats: of "full", "long", "medium" and
        "short". "short" is not among those by default: 02/03/24 is February in one locale and March
        in another, in any of three centuries.
    The words come from the Unicode CLDR by way of Babel and may change with its version. A phrase
    that means two of the days drawn is left out, so that each has one right answer; the result can
    then be shorter than `count`.

    Raises MissingDataError without Babel, DataError for a locale or format that it does not know.
    """
    try:
        from babel.core import Locale, UnknownLocaleError
        from babel.dates import format_date
    except ImportError:
        raise missing("dates") from None
    if count < 1 or not locales or not formats:
        raise DataError("dates: count is 1 or more, and there is at least one locale and format.")
    if unknown := [f for f in formats if f not in (*FORMATS, "short")]:
        raise DataError(f"dates: formats are full, long, medium and short, got {unknown[0]!r}.")
    parsed = {}
    for name in locales:
        try:
            parsed[name] = Locale.parse(name)
        except (UnknownLocaleError, ValueError):
            raise DataError(
                f"dates: Babel knows no locale {name!r}; they are named as 'en' or 'pt_BR'."
            ) from None
    start, span = _span(first, last)
    # Raw bits, so that the same seed draws the same days under every NumPy; see splits.shuffled.
    bits = np.random.PCG64(np.random.SeedSequence(seed)).random_raw((count, 3))
    rows = []
    for day, where, how in np.asarray(bits, np.uint64).tolist():
        date = start + datetime.timedelta(days=day % span)
        name, form = locales[where % len(locales)], formats[how % len(formats)]
        # CLDR sets a narrow no-break space before "г."; it is a blank to a reader.
        phrase = format_date(date, format=form, locale=parsed[name]).replace("\u202f", " ")
        rows.append((phrase, date.isoformat(), name, form))
    meanings: dict[str, set[str]] = {}
    for phrase, iso, _, _ in rows:
        meanings.setdefault(phrase, set()).add(iso)
    phrases, isos, names, forms = zip(*(row for row in rows if len(meanings[row[0]]) == 1))
    licence = EXTERNAL["dates"].licence
    return Dates(phrases, isos, names, forms, f"{installed('dates')} (Unicode CLDR)", licence)


def _span(first: str, last: str) -> tuple[datetime.date, int]:
    try:
        start, end = datetime.date.fromisoformat(first), datetime.date.fromisoformat(last)
    except ValueError:
        raise DataError(
            f"dates: first and last are days such as 2024-03-02, got {first!r} and {last!r}."
        ) from None
    if end < start:
        raise DataError(f"dates: last ({last}) lies before first ({first}).")
    return start, (end - start).days + 1
