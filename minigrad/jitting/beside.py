"""Loops of a step that need nothing of one another, run at once: towers, members of an ensemble.

A loop that is divided among the threads has them all. One that is not, as a single row of a small
layer, takes others beside it, whose inputs do not depend on what it computes.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..compile.prepared import AtOnce
from ..kernels import jit, threads
from .calls import Listed


def side_by_side(parts: Sequence[Listed]) -> list[Listed]:
    """The parts, in another order where that lets loops run at once, and these as one."""
    if jit.mode() != "native" or threads.get_num_threads() == 1:
        return list(parts)
    found: list[Listed] = []
    rest = list(parts)
    while rest:
        group = [rest.pop(0)]
        k = 0 if _takes_others(group[0]) else len(rest)
        while k < len(rest):
            moved = _before(rest, k, group) if _takes_others(rest[k]) else None
            if moved is None:
                k += 1
                continue
            found += [rest[i] for i in moved]
            group.append(rest[k])
            rest = [part for i, part in enumerate(rest) if i != k and i not in moved]
            k -= len(moved)
        found.append(_joined(group) if len(group) > 1 else group[0])
    return found


def _takes_others(part: Listed) -> bool:
    return part.kind == "loop" and getattr(part.owner, "takes_others", False)


def _before(parts: Sequence[Listed], k: int, group: Sequence[Listed]) -> list[int] | None:
    """Those before the k-th that have to come before it does; None where it cannot join the group,
    or something that may not be moved is among them.
    """
    moved, later = [], [parts[k]]
    for i in range(k - 1, -1, -1):
        if any(_conflict(parts[i], other) for other in later):
            if not parts[i].movable:
                return None
            moved.append(i)
            later.append(parts[i])
    if any(_conflict(a, b) for a in later for b in group):
        return None
    return moved[::-1]


def _conflict(a: Listed, b: Listed) -> bool:
    """Whether their order matters."""
    return not (
        set(a.writes).isdisjoint((*b.reads, *b.writes)) and set(b.writes).isdisjoint(a.reads)
    )


def _joined(group: Sequence[Listed]) -> Listed:
    joint = AtOnce([part.owner for part in group])
    reads = [x for part in group for x in part.reads]
    writes = [x for part in group for x in part.writes]
    says = f"at once: {' | '.join(part.says for part in group)}"
    return Listed(says, group[0].where, joint.replayed, "loop", reads, writes, True, joint)
