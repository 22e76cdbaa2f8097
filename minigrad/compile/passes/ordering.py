"""order: each product as soon as it can be, so that one loop follows it, not one on each side."""

from __future__ import annotations

import heapq
from dataclasses import replace

from ..program import AFTER, BEFORE, STEP, Program, Value


def order(program: Program) -> Program:
    """The values of a step in the order in which they are computed."""
    body = [v for v in program.body if v.stage == STEP]
    place = {v: k for k, v in enumerate(body)}
    readers: dict[Value, list[Value]] = {}
    waits: dict[Value, int] = {}
    for v in body:
        needed = {i for i in v.inputs if i in place}
        waits[v] = len(needed)
        for i in needed:
            readers.setdefault(i, []).append(v)

    def turn(v: Value) -> tuple[bool, int, Value]:
        return v.kind != "matmul", place[v], v  # products first

    ready = [turn(v) for v in body if not waits[v]]
    heapq.heapify(ready)
    found: list[Value] = []
    while ready:
        *_, v = heapq.heappop(ready)
        found.append(v)
        for reader in readers.get(v, ()):
            waits[reader] -= 1
            if not waits[reader]:
                heapq.heappush(ready, turn(reader))
    before, after = ([v for v in program.body if v.stage == s] for s in (BEFORE, AFTER))
    return replace(program, body=[*before, *found, *after])
