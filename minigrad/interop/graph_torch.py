"""What lies between two calls in PyTorch's graph, so that it can be walked back once more.

`backward` frees what the nodes of its graph kept. So when a call has read something, the nodes that
lead back to the calls before it are looked at there and then: what a node's rule needs is referred
to (nothing is copied or computed), and the node, which would hold all that lies behind it, let go.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from .base import need
from .rules_torch import MANY, RULES

MOST = 2000  # nodes between two calls
Spot = tuple[Any, int]  # (a node of the graph, which of its outputs)


class End(NamedTuple):
    """What a call gave. leaf: 0 is the output, 1, 2 are those of the last state. t: in a loop."""

    call: Any
    leaf: int
    t: int | None = None


_SAVED: dict[str, list[str]] = {}  # kind of node -> the names of what it keeps
_NOTHING: dict[int, End] = {}  # written on nodes that have no call behind them


class _Op(NamedTuple):
    name: str
    kept: dict[str, Any]
    shapes: list[Any]  # of the inputs
    outputs: list[int]  # the numbers of the gradients that arrive
    inputs: list[int | None]  # and of those that are sent on


class Way:
    """From one tensor, of that shape, back to what calls gave: `ends`.

    opaque: what cannot be walked, "" if all can.
    """

    def __init__(self, ends: dict[Spot, End], opaque: str, shape: tuple[int, ...]):
        self.ends, self.opaque, self.shape = list(ends.values()), opaque, shape
        self._ops: list[_Op] = []
        self._at: list[int] = []

    def lead(self, start: Spot, ends: dict[Spot, End], nodes: dict[Any, list[bool]]) -> None:
        """Through nodes, each before those that it leads to; of each, which inputs lead on."""
        numbers = {start: 0}

        def number(spot: Spot) -> int:
            return numbers.setdefault(spot, len(numbers))

        for node, leads in nodes.items():
            name, below = node.name(), _inputs(node)
            try:
                kept = {k: _apart(getattr(node, f"_saved_{k}")) for k in RULES[name][0]}
            except Exception:  # no rule for it, or what it kept has been edited or freed
                self.opaque = self.opaque or name
                return
            shapes = [None if s is None else s[0]._input_metadata[s[1]].shape for s in below]
            outputs = [number((node, nr)) for nr in range(len(node._input_metadata))]
            sends = zip(below, leads, strict=True)
            inputs = [number(s) if lead and s is not None else None for s, lead in sends]
            self._ops.append(_Op(name, kept, shapes, outputs, inputs))
        self._at = [number(spot) for spot in ends]

    @property
    def direct(self) -> bool:
        """Whether what was read is what a call gave, as it stands."""
        return len(self.ends) == 1 and not self._ops and not self.opaque

    @property
    def nbytes(self) -> int:
        tensors = (v for op in self._ops for v in op.kept.values() if hasattr(v, "element_size"))
        return sum(v.element_size() * v.numel() for v in tensors)

    def pull(self, g: Any) -> list[Any]:
        """The gradients at the ends, of one at the tensor that was read; None where none comes."""
        found: dict[int, Any] = {0: g}
        for op in self._ops:
            arrived = [found.get(i) for i in op.outputs]
            given = next((a for a in arrived if a is not None), None)
            if given is None:
                continue
            kept = {name: _like(given, value) for name, value in op.kept.items()}
            came = arrived if op.name in MANY else arrived[0]
            sent = RULES[op.name][1](came, op.shapes, SimpleNamespace(**kept))
            for i, part in zip(op.inputs, sent, strict=False):
                if i is not None:
                    if part is None:
                        raise LookupError(f"{op.name} is asked for the gradient of a weight")
                    found[i] = found[i] + part if i in found else part
        return [found.get(i) for i in self._at]

    def pull_array(self, g: np.ndarray) -> list[np.ndarray | None]:
        """The same of arrays."""
        torch = need("torch", "bench", "a graph of PyTorch")
        found = self.pull(torch.from_numpy(np.ascontiguousarray(g)))
        return [None if part is None else part.numpy() for part in found]


def mark(key: object, node: Any, nr: int, end: End) -> None:
    """Writes on the graph, for whoever has the key, that a call gave this output of a node."""
    written = node.metadata
    if known := written.get(key):
        known[nr] = end
    else:
        written[key] = {nr: end}


def behind_views(tensor: Any) -> tuple[Any, Any]:
    """(what a tensor is a view of, a gradient there -> that of the tensor): itself, None, if none.

    Where a view is edited in place, its node is passed by afterwards; that of the whole is not.
    """
    whole = tensor._base if tensor._is_view() else None
    if whole is None or whole.grad_fn is None or whole.numel() != tensor.numel():
        return tensor, None
    size, stride, offset = tensor.size(), tensor.stride(), tensor.storage_offset()
    offset -= whole.storage_offset()
    shape, order = whole.size(), whole.stride()

    def back(g: Any) -> Any:
        laid = g.new_empty_strided(shape, order).copy_(g)
        return laid.as_strided(size, stride, offset)

    return whole, back


def spent(node: Any) -> bool:
    """Whether backward has freed what a node, or those right behind it, had kept."""
    for one in [node, *(below for below, _ in node.next_functions if below is not None)]:
        if (kind := one.name()) not in _SAVED:
            _SAVED[kind] = [name for name in dir(one) if name.startswith("_saved_")]
        for name in _SAVED[kind]:
            try:
                if hasattr(getattr(one, name), "is_floating_point"):
                    return False
            except RuntimeError:  # as torch says then
                return True
    return False


def way_to(key: object, tensor: Any) -> Way | None:
    """From a tensor back to what is marked; None if nothing is.

    What cannot be told (opaque) is a way, too, if one that leads nowhere.
    """
    if tensor.grad_fn is None:
        return None
    start = tensor.grad_fn, tensor.output_nr
    order, ends, opaque = _behind(key, start)
    leads: dict[Any, list[bool]] = {}
    for node in order:  # each after those that it leads to
        found = [s is not None and (s in ends or s[0] in leads) for s in _inputs(node)]
        if any(found):
            leads[node] = found
        elif not opaque:
            node.metadata[key] = _NOTHING
    if not ends and not opaque:
        return None
    way = Way(ends, opaque, tuple(tensor.shape))
    way.lead(start, ends, dict(reversed(leads.items())))
    return way


def _behind(key: object, start: Spot) -> tuple[list[Any], dict[Spot, End], str]:
    """(nodes, each after those that it leads to; what is marked; what was not looked at)."""
    order: list[Any] = []
    ends: dict[Spot, End] = {}
    seen: set[Any] = set()
    todo: list[tuple[Spot, bool]] = [(start, False)]
    while todo:
        spot, done = todo.pop()
        node = spot[0]
        if done:
            order.append(node)
        elif spot not in ends:
            marked = node.metadata.get(key) if node.next_functions else _NOTHING
            if marked and spot[1] in marked:
                ends[spot] = marked[spot[1]]
            elif marked is not _NOTHING and node not in seen:
                if len(seen) == MOST:
                    return order, ends, f"more than {MOST} operations"
                seen.add(node)
                todo.append((spot, True))
                todo += [(below, False) for below in _inputs(node) if below is not None]
    return order, ends, ""


def _inputs(node: Any) -> list[Spot | None]:
    return [None if below is None else (below, nr) for below, nr in node.next_functions]


def _apart(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_apart(v) for v in value)
    if isinstance(value, int) and value >= 1 << 63:  # a negative number, as it is shown
        return value - (1 << 64)
    return value.detach() if hasattr(value, "detach") else value


def _like(g: Any, value: Any) -> Any:
    """What was kept, where the gradient is, and in its precision."""
    if isinstance(value, tuple):
        return tuple(_like(g, v) for v in value)
    if not hasattr(value, "is_floating_point"):
        return value
    return value.to(g.device, g.dtype if value.is_floating_point() else value.dtype)
