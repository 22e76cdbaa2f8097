"""checkpoint=: at which steps the state is kept, and which steps are computed again.

A sequence is cut into segments. Before a segment the state is kept (a snapshot), and when the
gradient comes back to it the segment is computed once more, now with all that BPTT reads. Where
there is no room for a snapshot before each segment, several of them become a part: kept is the
state before the part, and when its turn comes it is computed again, with snapshots before its own
segments, in the room that the parts behind it have left. The last segment of the sequence, or of a
part, is not computed again: it is the first that the gradient comes to. With c snapshots and r
rounds that reaches over C(c + r, r) segments, and nothing reaches further: the binomial schedule of
Griewank and Walther (2000), "Algorithm 799: revolve", ACM TOMS 26(1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import comb
from typing import Any, NamedTuple

import numpy as np

AUTO = 64 << 20  # bytes: what "auto" takes before it makes segments shorter than they could be
ROUNDS = 10  # times that a step is computed again, at most: more rounds save next to nothing

_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_UNITS |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_SIZE = re.compile(rf"\s*(\d+(?:\.\d+)?)\s*({'|'.join(_UNITS)})\s*")


class Part(NamedTuple):
    """Steps begin to end - 1, counted in the order of computation; a segment has no parts."""

    begin: int
    end: int
    parts: tuple[Part, ...] = ()

    @property
    def segments(self) -> Iterator[Part]:
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.segments


@dataclass(frozen=True)
class Schedule:
    """How a scan of `steps` steps is cut up.

    snapshots: the states kept at one time, at most, beside the first. budget: the bytes it was made
    for, state: those of one state, step: those that BPTT needs for one step; 0 where nobody asked.
    """

    steps: int
    parts: tuple[Part, ...]
    snapshots: int
    asked: Any
    budget: int = 0
    state: int = 0
    step: int = 0

    @property
    def segments(self) -> list[Part]:
        return [s for part in self.parts for s in part.segments]

    @property
    def longest(self) -> int:
        return max(s.end - s.begin for s in self.segments)

    @property
    def computed(self) -> int:
        """Steps computed in all, forward: once, and again with every part but the last of some."""

        def again(parts: tuple[Part, ...]) -> int:
            return sum(p.end - p.begin + again(p.parts) for p in parts[:-1])

        return self.steps + again(self.parts)

    @property
    def nbytes(self) -> int:
        """What snapshots and the longest segment take together."""
        return self.snapshots * self.state + self.longest * self.step


def asked_for(checkpoint: Any, who: str = "scan") -> int | str | None:
    """checkpoint= as a number of steps, "auto", or a size such as "64 MiB". Raises ValueError."""
    if checkpoint is None:
        return None
    if isinstance(checkpoint, str) and (checkpoint == "auto" or budget_of(checkpoint)):
        return checkpoint
    whole = isinstance(checkpoint, (int, np.integer)) and not isinstance(checkpoint, bool)
    if whole and checkpoint >= 1:
        return int(checkpoint)
    raise ValueError(
        f"{who}: checkpoint is 'auto', a size with its unit ('64 MiB', '1.5 GB'), or a number of "
        f"steps, an integer >= 1; got {checkpoint!r}."
    )


def budget_of(size: str) -> int:
    """Bytes of "64 MiB"; 0 for what is none.

    >>> budget_of("64 MiB"), budget_of("1.5kB"), budget_of("64")
    (67108864, 1500, 0)
    """
    found = _SIZE.fullmatch(size)
    return int(float(found[1]) * _UNITS[found[2]]) if found else 0


def every(n: int, steps: int, state: int) -> Schedule:
    """The state, of so many bytes, kept at every n-th step."""
    parts = tuple([Part(b, min(b + n, steps)) for b in range(0, steps, n)])
    return Schedule(steps, parts, len(parts) - 1, n, state=state)


def within(asked: str, steps: int, state: int, step: int) -> Schedule | None:
    """The schedule with the fewest rounds, and of those the longest segments, that fits.

    asked: "auto" or a size. state, step: bytes of one state, and of what BPTT needs for one step.
    None if it needs no schedule: all steps fit. Raises ValueError if nothing fits.
    """
    if asked == "auto":
        least = [k * step + (n - 1) * state for n, k in _cuts(steps, steps)]
        budget = max(AUTO, min(least, default=step))
    else:
        budget = budget_of(asked)
    if steps * step <= budget:
        return None
    for rounds in range(1, ROUNDS + 1):
        for n, k in _cuts(steps, (budget - state) // max(step, 1)):
            free = min((budget - k * step) // max(state, 1), n - 1)
            if free >= 1 and comb(free + rounds, rounds) >= n:
                cuts = [i * steps // n for i in range(n + 1)]  # lengths that differ by one at most
                parts = _parts(0, n, free, cuts)
                return Schedule(steps, parts, free, asked, budget, state, step)
    less = [k * step + _fewest(n) * state for n, k in _cuts(steps, steps)]
    will_do = min(less, default=step)
    raise ValueError(
        f"scan: checkpoint={asked!r} is too little for {steps} steps: a state takes "
        f"{readable(state)} and what BPTT reads of a step {readable(step)}. Give it "
        f"{readable(will_do)} or more: with that, steps are computed up to {ROUNDS + 1} times."
    )


def _cuts(steps: int, most: int) -> Iterator[tuple[int, int]]:
    """(number of segments, length of the longest) for each length from `most` down."""
    k = min(most, steps)
    while k >= 1:
        n = -(-steps // k)
        k = -(-steps // n)
        if n > 1:
            yield n, k
        k -= 1


def _fewest(n: int) -> int:
    """The fewest snapshots for n segments."""
    return next(c for c in range(1, n) if comb(c + ROUNDS, ROUNDS) >= n)


def _parts(first: int, last: int, free: int, cuts: list[int]) -> tuple[Part, ...]:
    """Segments first to last - 1, with `free` snapshots beside the state before them."""
    found = []
    while last - first > 1:
        n = last - first
        rounds = next(r for r in range(1, n + 1) if comb(free + r, r) >= n)
        less = comb(free + rounds - 2, rounds - 2) if rounds > 1 else 1
        size = max(less, n - comb(free - 1 + rounds, rounds))
        inside = _parts(first, first + size, free, cuts) if size > 1 else ()
        found.append(Part(cuts[first], cuts[first + size], inside))
        first, free = first + size, free - 1  # the part that comes next has one snapshot less
    return (*found, Part(cuts[first], cuts[last]))


def readable(n: float) -> str:
    """A number of bytes as it is asked for."""
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.4g} {unit}"
        n /= 1024
    return f"{n:.4g} GiB"
