"""Loops run at once only where nothing of one is read or written by another, and in no other order
than that which gives the same."""

from __future__ import annotations

import random
from typing import Any

import pytest

from minigrad.jitting import beside
from minigrad.jitting.calls import Listed

pytestmark = pytest.mark.needs_jit


class Loop:
    takes_others = True


class Joint:
    """In place of what runs loops at once: keeps who they were."""

    def __init__(self, owners: Any):
        self.owners, self.replayed = owners, []


def part(name: str, reads: str, writes: str, kind: str = "kernel", movable: bool = True) -> Listed:
    owner = Loop() if kind == "loop" else None
    return Listed(name, "", [], kind, [*map(ord, reads)], [*map(ord, writes)], movable, owner)


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: Any) -> None:
    monkeypatch.setattr(beside.threads, "get_num_threads", lambda: 2)
    monkeypatch.setattr(beside.jit, "mode", lambda: "native")
    monkeypatch.setattr(beside, "AtOnce", Joint)


def names(parts: list[Listed]) -> list[str]:
    return [p.says for p in beside.side_by_side(parts)]


def test_what_a_loop_needs_is_moved_before_both() -> None:
    assert names([
        part("A", "x", "a", "loop"), part("p", "y", "q"), part("other", "a", "c"),
        part("B", "q", "b", "loop"), part("end", "ab", "z"),
    ]) == ["p", "at once: A | B", "other", "end"]  # fmt: skip


@pytest.mark.parametrize(
    "between",
    [
        [part("p", "a", "y")],  # B reads what is made of A's result
        [part("p", "x", "y"), part("q", "a", "x"), part("r", "x", "y")],
        [part("p", "", "y", "update", False)],  # what does more than compute
        [part("p", "y", "x")],  # B's input is written over A's, which A reads
        [part("p", "b", "x"), part("q", "x", "y")],
    ],
)
def test_what_depends_on_a_loop_does_not_run_beside_it(between: list[Listed]) -> None:
    reads = "x" if between[0].writes == [ord("x")] and len(between) == 1 else "y"
    parts = [part("A", "x", "a", "loop"), *between, part("B", reads, "b", "loop")]
    assert names(parts) == [p.says for p in parts]


def test_any_order_that_is_chosen_gives_what_the_given_one_gives() -> None:
    """Each part writes a value made of what it reads and of its name: the end is the same."""
    joined = 0
    for seed in range(1000):
        draw = random.Random(seed)
        parts = []
        for k in range(draw.randint(2, 12)):
            kind = draw.choice(["loop", "kernel", "kernel", "update"])
            reads = "".join(draw.sample("abcdef", draw.randint(0, 3)))
            writes = "".join(draw.sample("abcdef", draw.randint(1, 2)))
            parts.append(part(str(k), reads, writes, kind, kind != "update"))
        found = beside.side_by_side(parts)
        joined += len(found) < len(parts)
        flat = [p for whole in found for p in parts_of(whole, parts)]
        assert sorted(p.says for p in flat) == sorted(p.says for p in parts)
        assert run(flat) == run(parts)
        for whole in found:  # those at once in either order
            assert run(parts_of(whole, parts)) == run(parts_of(whole, parts)[::-1])
    assert joined > 50


def parts_of(whole: Listed, parts: list[Listed]) -> list[Listed]:
    owners = whole.owner.owners if isinstance(whole.owner, Joint) else None
    return [whole] if owners is None else [p for p in parts if p.owner in owners]


def run(parts: list[Listed]) -> dict[int, Any]:
    memory: dict[int, Any] = {}
    for p in parts:
        value = p.says, tuple(hash(memory.get(m)) for m in p.reads)
        memory |= dict.fromkeys(p.writes, hash(value))
    return memory
