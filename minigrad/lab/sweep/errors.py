"""What goes wrong with a sweep as a whole; what goes wrong with one run is a row of its table."""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import MinigradError, closest


class SweepError(MinigradError, ValueError):
    """A sweep that cannot start or go on, why, and what to do."""


class ClusterError(SweepError, ConnectionError):
    """A scheduler that does not answer, or workers that cannot do the work."""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A name that is not there, the one that was probably meant, and those that are.

    >>> unknown("grid: key", "lenght", ["length", "seed"])
    "grid: key 'lenght' is not known; did you mean 'length'? There are length, seed."
    """
    known = list(known)
    near = "hidden" if name == "size" and "hidden" in known else None
    near = near or closest(name, known)
    hint = f"did you mean {near!r}? There" if near else "there"
    return f"{what} {name!r} is not known; {hint} are {', '.join(known)}."
