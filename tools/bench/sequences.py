"""What rows about recurrent layers share: the sizes, races between peers, rows of ratios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import oracle
from harness import Options, Peer, Row, Timing, compare
from peers.inputs import Sizes

SIZES = (
    Sizes(1, 100, 32, 32),
    Sizes(16, 50, 64, 64),
    Sizes(32, 100, 128, 128),
    Sizes(64, 100, 256, 256),
    Sizes(32, 50, 512, 512),
)
LARGE = (SIZES[2], SIZES[3])  # where arithmetic takes the time, not its overhead
QUICK_SIZES = (Sizes(3, 7, 5, 9),)
THREADS = 2
STEADY = 1.5  # a median of at most so many times the shortest time


@dataclass
class Entry:
    """A peer in a race, and how it runs the layer; that may name another cell or size."""

    peer: Peer
    how: dict[str, Any]


@dataclass(frozen=True)
class Target:
    """How many times faster than this opponent: at every size, and as their geometric mean."""

    opponent: str
    each: float | None
    mean: float | None
    who: str = "minigrad"

    @property
    def suffix(self) -> str:
        return "" if self.who == "minigrad" else f", {self.who}"


def sizes(options: Options, of: Sequence[Sizes] = SIZES) -> Sequence[Sizes]:
    return QUICK_SIZES if options.quick else of


def enter(
    stack: ExitStack,
    options: Options,
    library: str,
    label: str = "",
    threads: int = THREADS,
    **how: Any,
) -> list[Entry]:
    """The library's peer; nobody where it has no interpreter."""
    python = {"torch": options.torch, "jax": options.jax}
    if library in python and python[library] is None:
        return []
    where = {"python": python[library]} if library in python else {}
    peer = stack.enter_context(Peer(library, threads=threads, label=label, **where))
    return [Entry(peer, how)]


def race(
    entries: Sequence[Entry],
    cell: str,
    size: Sizes,
    options: Options,
    beside: Sequence[Peer] = (),
    case: str = "layer",
) -> dict[str, Timing]:
    """Times of the layer by the names of the peers, each of them found right first.

    Peers `beside` them take turns too, with what they have prepared.
    """
    for entry in entries:
        how = {"cell": cell} | size._asdict() | entry.how
        got = entry.peer.prepare(case, **how)
        about = {key: how[key] for key in ("bidirectional", "forward", "ragged") if key in how}
        problem = Sizes(*(how[field] for field in Sizes._fields))
        oracle.check(entry.peer.name, got, how["cell"], problem, **about)
    return compare([*beside, *(entry.peer for entry in entries)], options)


def standings(
    group: str,
    what: str,
    cell: str,
    entries: Sequence[Entry],
    targets: Sequence[Target],
    options: Options,
) -> Iterator[Row]:
    """How many times faster minigrad is than each opponent, at each size and on average."""
    ratios: dict[Target, list[float]] = {target: [] for target in targets}
    known = {name for target in targets for name in (target.who, target.opponent)}
    extras = {e.peer.name for e in entries} - known
    for size in sizes(options):
        times = race(entries, cell, size, options)
        for target in targets:
            name = f"{what} {tuple(size)}{target.suffix}"
            row = ratio(group, name, times, target.opponent, extras, target.who)
            row.limit = target.each
            if row.value is not None:
                ratios[target].append(row.value)
            yield row
    for target in targets:
        if found := ratios[target]:
            yield mean(group, what + target.suffix, found, target)


def mean(group: str, what: str, found: Sequence[float], target: Target) -> Row:
    """Of how many times faster minigrad is at each size."""
    return Row(
        group,
        f"{what}: geometric mean",
        float(np.exp(np.mean(np.log(found)))),
        f"x {target.opponent}",
        (min(found), max(found)),
        limit=target.mean,
        better=">=",
    )


def ratio(
    group: str,
    name: str,
    times: dict[str, Timing],
    opponent: str,
    extras: set[str],
    who: str = "minigrad",
) -> Row:
    """The opponent's time over minigrad's; all medians in milliseconds beside it."""
    shown = [who, opponent, *sorted(extras - {who, opponent})]
    peers = {f"{who} ms": times[who].median * 1e3 for who in shown if who in times}
    if opponent not in times:
        return Row(group, name, better=">=", peers=peers, note=f"{opponent} is not here to compare")
    value, note = quotient(times, opponent, who)
    spread = times[opponent].ratio(times[who]).spread()
    return Row(group, name, value, f"x {opponent}", spread, better=">=", peers=peers, note=note)


def quotient(times: dict[str, Timing], above: str, below: str) -> tuple[float, str]:
    """(above / below, a note): of the medians where both sides are steady.

    On a busy machine one that is not would decide the row alone: spinning threads that have to
    share a core made a layer take fifty times as long in most rounds. Then the shortest times are
    compared, and the note says so.
    """
    unsteady = [who for who in (above, below) if times[who].median > STEADY * times[who].least]
    if not unsteady:
        return times[above].median / times[below].median, ""
    note = f"unsteady: {', '.join(unsteady)}; compared by the shortest times"
    return times[above].least / times[below].least, note


def cost(
    group: str,
    name: str,
    times: dict[str, Timing],
    dear: str,
    plain: str,
    unit: str,
    limit: float | None,
) -> Row:
    """How many times the plain one's time the dear one takes."""
    value, note = quotient(times, dear, plain)
    return Row(
        group,
        name,
        value,
        unit,
        times[dear].ratio(times[plain]).spread(),
        limit=limit,
        peers={f"{who} ms": times[who].median * 1e3 for who in (dear, plain)},
        note=note,
    )
