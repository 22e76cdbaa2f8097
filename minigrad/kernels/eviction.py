"""How large the kernel cache may grow: what was used least recently goes first.

    $MINIGRAD_CACHE_LIMIT    bytes, or with a unit, as 500M or 2 GiB; 0: no limit; unset: 256 MiB

The folder is looked through at a process's first kernel, and then whenever it has stored another
sixteenth of the limit: one process stays below it, several that build at once exceed it by no more
than a sixteenth each.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from minigrad.errors import MinigradError

DEFAULT = 256 << 20
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"(\d{1,15})\s*(?:([kmgt]?)(?:i?b)?)", re.IGNORECASE | re.ASCII)
_ABANDONED = 3600.0  # seconds after which a file without sums is not being written any more


class CacheLimitError(MinigradError, ValueError):
    """A $MINIGRAD_CACHE_LIMIT that is no size."""


def limit() -> int:
    """Bytes that the cache may have; 0 for no limit. Raises CacheLimitError."""
    text = os.environ.get("MINIGRAD_CACHE_LIMIT", "").strip()
    if not text:
        return DEFAULT
    if (match := _SIZE.fullmatch(text)) is None:
        raise CacheLimitError(
            f"$MINIGRAD_CACHE_LIMIT: expected bytes or a size as 500M or 2 GiB (0: no limit), "
            f"came {text!r}; set it right or unset it."
        )
    return int(match[1]) * _UNITS[match[2].lower()]


class Tally:
    """What this process has stored since it last looked through the folder."""

    def __init__(self) -> None:
        self.place: Path | None = None
        self.stored = 0

    def is_due(self, place: Path, size: int) -> bool:
        """Counts `size` bytes stored in `place`; whether it is time to look through it."""
        most = limit()
        first = place != self.place
        self.place, self.stored = place, self.stored + size
        if not most or not (first or self.stored > most // 16):
            return False
        self.stored = 0
        return True


def evict(files: Iterable[tuple[Path, str]]) -> list[str]:
    """Removes kernels until the rest has 7/8 of the limit; returns the stems of those removed.

    files: (path, stem), a kernel's files under one stem. A temporary file, or one without its
    sums, is of a kernel that is being built, unless it is an hour old.
    """
    most = limit()
    used: dict[str, float] = {}
    held: dict[str, list[tuple[Path, int]]] = {}
    whole: set[str] = set()
    for path, stem in files:
        with suppress(OSError):  # another process evicts too
            about = path.lstat()
            if path.name.startswith("."):  # not the kernel's own: its writer may be alive
                stem = path.name
            used[stem] = max(used.get(stem, 0.0), about.st_atime, about.st_mtime)
            held.setdefault(stem, []).append((path, about.st_size))
            if path.suffix == ".sums" and stem != path.name:
                whole.add(stem)
    total = sum(size for parts in held.values() for _, size in parts)
    if not most or total <= most:
        return []
    now, removed = time.time(), []
    for stem in sorted(held, key=lambda stem: used[stem]):
        if total <= most - most // 8:
            break
        if stem not in whole and now - used[stem] < _ABANDONED:
            continue
        for path, size in held[stem]:
            with suppress(OSError):
                path.unlink(missing_ok=True)
                total -= size
        removed.append(stem)
    return removed
