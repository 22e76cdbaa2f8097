"""From a value back to the calls by which it was computed."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from ..tape import Node
from ..tensors import Tensor

LAST = "last state"
MOST_WORDS = 3  # of what happens to a value between two calls

Words = tuple[str, ...]


class Timed(Protocol):
    """A call between two times on the tape's clock."""

    began: int
    ended: int


C = TypeVar("C", bound=Timed)


class Behind(Generic[C]):
    """Calls in order, none inside another, and what lies behind the nodes that came later.

    Nodes are looked at when a call has read them, and not kept.
    """

    def __init__(self) -> None:
        self.calls: list[C] = []
        self._begins: list[int] = []
        self._lasts: set[int] = set()  # positions of last states
        self._passed_on: dict[int, C] = {}  # what a call gave back as it came
        self._known: dict[int, dict[C, Words]] = {}  # position -> what is behind it

    def since(self, began: int) -> int:
        """How many calls had begun before."""
        return bisect_left(self._begins, began)

    def forget(self, since: int) -> None:
        """Those from a number on were part of a call."""
        del self.calls[since:], self._begins[since:]

    def add(self, call: C, outputs: Iterable[Node], lasts: Iterable[Node] = ()) -> None:
        """outputs: what it gave, lasts: what of it are last states."""
        self.calls.append(call)
        self._begins.append(call.began)
        self._lasts.update(node.position for node in lasts)
        self._passed_on |= {n.position: call for n in outputs if n.position < call.began}

    def read(self, nodes: Iterable[Node], began: int) -> dict[C, Words]:
        """The calls behind these nodes, with words; nodes since `began` are the reader's own."""
        found: dict[C, Words] = {}
        todo, seen = list(nodes), set()
        while todo:
            node = todo.pop()
            if node.position in seen:
                continue
            seen.add(node.position)
            if node.position < began:
                for source, words in self.of(node).items():
                    found.setdefault(source, words)
            else:
                todo += _inputs(node)
        return dict(sorted(found.items(), key=lambda item: item[0].began))

    def of(self, node: Node) -> dict[C, Words]:
        """The calls by which a value was computed, with words for what happened since."""
        if node.position in self._known and self._at(node.position) is None:
            return self._known[node.position]
        found: dict[C, Words] = {}
        oldest = self._begins[0] if self._begins else node.position + 1
        todo: deque[tuple[Node, Words]] = deque([(node, ())])
        seen: set[int] = set()
        while todo:
            at, words = todo.popleft()
            if at.position in seen or at.position < oldest:
                continue
            seen.add(at.position)
            if (call := self._at(at.position)) is not None:
                last = (LAST,) if at.position in self._lasts else ()
                found.setdefault(call, (*last, *words))
            elif at.position in self._known:
                for call, before in self._known[at.position].items():
                    found.setdefault(call, (*before, *words)[:MOST_WORDS])
            else:
                said = (*_word(at), *words)[:MOST_WORDS]
                todo += [(i, said) for i in _inputs(at)]
        self._known[node.position] = found
        return found

    def _at(self, position: int) -> C | None:
        """The call that made what stands at a position on the tape."""
        if position in self._passed_on:
            return self._passed_on[position]
        k = bisect_right(self._begins, position) - 1
        return self.calls[k] if k >= 0 and position <= self.calls[k].ended else None


def _inputs(node: Node) -> list[Node]:
    made = (i._node if isinstance(i, Tensor) else i for i in node.inputs)
    return [i for i in made if isinstance(i, Node)]


def _word(node: Node) -> Words:
    """What an operation between two calls is called, if it is more than a view or arithmetic."""
    op = node.op
    if op.kind == "matmul":
        return ("@",)
    slopes = op.kind == "elementwise" and len(op.inputs) == 1
    return (op.name,) if slopes or op.kind == "reduce" else ()
