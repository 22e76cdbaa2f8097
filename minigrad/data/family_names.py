"""Surnames and the language they come from: which letters give it away?"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .external import EXTERNAL, installed, missing
from .sources import DataError

Array = np.ndarray

LOCALES = ("de_DE", "en_GB", "es_ES", "et_EE", "fi_FI", "fr_FR", "hr_HR", "it_IT", "nl_NL", "sv_SE")


@dataclass(frozen=True)
class Surnames:
    """names: N different ones, lower case. labels: int64 (N,), the index in `classes`, which are
    the locales asked for.
    """

    names: tuple[str, ...]
    labels: Array
    classes: tuple[str, ...]
    source: str
    licence: str

    def __len__(self) -> int:
        return len(self.names)


def surnames(locales: Sequence[str] = LOCALES) -> Surnames:
    """Frequent surnames of each locale, as Faker lists them: some hundreds to a thousand each.

    locales: as Faker names them ("de_DE"). A name that is in the lists of two of them is left out,
        so that each has one right answer. The classes differ in size: compare a model's accuracy
        with the share of the largest.

    Raises MissingDataError without Faker, DataError for a locale without a list of its own.
    """
    try:
        importlib.import_module("faker")
    except ImportError:
        raise missing("surnames") from None
    lists = [_surnames_of(locale) for locale in locales]
    counts: dict[str, int] = {}
    for names in lists:
        for name in names:
            counts[name] = counts.get(name, 0) + 1
    rows = [(n, i) for i, names in enumerate(lists) for n in sorted(names) if counts[n] == 1]
    return Surnames(
        names=tuple(name for name, _ in rows),
        labels=np.array([i for _, i in rows], np.int64),
        classes=tuple(locales),
        source=installed("surnames"),
        licence=EXTERNAL["surnames"].licence,
    )


def _surnames_of(locale: str) -> set[str]:
    """The names in faker.providers.person.<locale>, without those a locale takes from another."""
    try:
        module = importlib.import_module(f"faker.providers.person.{locale}")
    except ImportError:
        module = None
    found = vars(module.Provider).get("last_names", ()) if module else ()
    if not locale.isidentifier() or not found:
        raise DataError(f"surnames: Faker has no surnames of its own for the locale {locale!r}.")
    return {name.lower() for name in found}
