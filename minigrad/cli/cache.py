"""`minigrad cache`: which compiled kernels are kept; with `clear`, none any more."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..kernels import cache, eviction
from ..kernels.cache import Entry
from .output import say

NOWHERE = "no home folder, so kernels are kept for one process; set $MINIGRAD_CACHE_DIR"


def add(commands: Any) -> None:
    """Declares the command and its arguments."""
    parser = commands.add_parser(
        "cache",
        help="list the compiled kernels, or clear them",
        description="Lists the compiled kernels, newest first, each with its size and age; its "
        "source lies beside it, under the same name with .py. `clear` removes them all, those of "
        "other versions of minigrad, Numba and Python too; they are compiled again when needed. "
        "Other files in the folder are left alone. Over $MINIGRAD_CACHE_LIMIT (256 MiB; 0: no "
        "limit) the least recently used are removed.",
        epilog="example: minigrad cache clear",
    )
    parser.set_defaults(run=run)
    parser.add_argument("action", nargs="?", choices=("list", "clear"), default="list")


def run(args: argparse.Namespace) -> int:
    """Lists the kernels, or removes them."""
    place = cache.folder()
    if place is None:
        say(NOWHERE)
        return 0
    if args.action == "clear":
        return _clear()
    entries = cache.kernels()
    for line in table(entries, time.time()):
        say(line)
    say(f"{summary(entries)}, in {place}" if entries else f"no kernels in {place}")
    say(f"at most {size_limit()}")
    return 0


def size_limit() -> str:
    """What `$MINIGRAD_CACHE_LIMIT` says, in words."""
    try:
        most = eviction.limit()
    except eviction.CacheLimitError as error:
        return str(error)
    named = "$MINIGRAD_CACHE_LIMIT"
    return f"{kib(most)}, the least recently used go first ({named})" if most else f"any ({named})"


def _clear() -> int:
    place = cache.folder()
    try:
        done = cache.clear()
    except OSError as error:
        say(f"minigrad cache: {place} can't be read: {error.strerror}", file=sys.stderr)
        return 1
    if done.kernels or done.others:
        rest = f" and {_many(done.others, 'other file')}" if done.others else ""
        say(f"removed {_many(done.kernels, 'kernel')}{rest}, {kib(done.size)}, from {place}")
    elif not done.refused:
        say(f"no kernels in {place}, nothing to remove")
    if done.refused:
        why, left = done.refused[0].strerror, _many(len(done.refused), "file")
        say(f"minigrad cache: {left} in {place} can't be removed: {why}", file=sys.stderr)
    return 1 if done.refused else 0


def table(entries: Sequence[Entry], now: float) -> list[str]:
    """A line for each kernel: name, kind, size, age."""
    width = max((len(entry.stem) for entry in entries), default=0)
    kinds = max((len(entry.kind) for entry in entries), default=0)
    return [
        f"{entry.stem:<{width}}  {entry.kind:<{kinds}}  {kib(entry.size):>9}  "
        f"{age(now - entry.built):>8}"
        for entry in entries
    ]


def summary(entries: Sequence[Entry]) -> str:
    """`31 kernels, 412 KiB: 18 element, 6 scan, 4 gemm, ...`, the most frequent kind first.

    >>> summary([Entry("element-0", 3000, 0.0), Entry("scan_GRUCell_forward-0", 1096, 0.0)])
    '2 kernels, 4 KiB: 1 element, 1 scan'
    """
    counts = Counter(entry.kind for entry in entries)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    kinds = ", ".join(f"{count} {kind}" for kind, count in ordered)
    total = f"{_many(len(entries), 'kernel')}, {kib(sum(entry.size for entry in entries))}"
    return f"{total}: {kinds}" if kinds else total


def kib(size: int) -> str:
    """Bytes in KiB, to the next whole one above.

    >>> kib(1), kib(2048), kib(5_000_000)
    ('1 KiB', '2 KiB', '4,883 KiB')
    """
    return f"{-(-size // 1024):,} KiB"


def age(seconds: float) -> str:
    """A time in its largest whole unit; a file from the future (another clock's) is new.

    >>> age(-3.0), age(59.9), age(3599), age(86_399), age(200_000)
    ('0 s', '59 s', '59 min', '23 h', '2 days')
    """
    whole = max(int(seconds), 0)
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if whole >= 2 * length or (whole >= length and unit != "days"):
            return f"{whole // length} {unit}"
    return f"{whole} s"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
