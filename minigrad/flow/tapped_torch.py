"""Loops that are written by hand in PyTorch: their states are marked, as `mg.tap` does here.

    for t in range(len(x)):
        c = mg.flow.tap_torch("c", f * c + i * g)
        h = mg.flow.tap_torch("h", o * torch.tanh(c))

A tapped value is the same value behind one more node of PyTorch's graph, which sees the gradient
that arrives. By then the graph behind it still stands, so the part of the gradient that comes from
the last output alone is taken one step further back by itself (apart.py).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ..interop.base import need
from ..tape import tick
from .apart import Apart
from .heard import Place
from .probes import _active
from .taps import Step

Array = np.ndarray
MOST = 2000  # nodes of the graph between two taps
MADE_BY = {"TanhBackward0": "tanh", "SigmoidBackward0": "sigmoid"}


def tap_torch(name: str, tensor: Any, where: str = "") -> Any:
    """Marks a state of a PyTorch loop by name, inside `with mg.flow.record_torch(...)`.

    name: "h", "c", ... as in `mg.tap`; of other names than those of states (gates) the values are
    kept, not the gradients. tensor: (B, n). where: the path in the recording, to tell loops apart.
    Returns the tensor to go on with: the same values, and the same gradient. A value that was not
    computed from the loop's last states begins a new loop, and a name that comes again a new step.
    Outside of record_torch, and under no_grad, it returns the tensor itself.
    """
    taps = getattr(_active, "taps", None)
    if taps is None:
        return tensor
    return taps.tap(name, tensor, where or "loop")


class Loop:
    """One run of a loop: values and gradients of its taps by step."""

    def __init__(self, where: str):
        self.where = where
        self.began = tick()
        self.series: dict[Place, dict[int, Step]] = {}
        self.apart = _Apart()
        self.t = -1
        self.begun: list[int] = []  # the number, in PyTorch's order, of each step's first tap
        self.here: set[str] = set()  # what this step has tapped


class Taps:
    """Everything that is tapped while somebody records. states: the names of states."""

    def __init__(self, states: tuple[str, ...], changed: Any):
        self.states, self.changed = states, changed
        self.loops: list[Loop] = []
        self.gaps: dict[str, None] = {}
        self._current: dict[str, Loop] = {}

    def tap(self, name: str, tensor: Any, where: str) -> Any:
        if not tensor.requires_grad:
            self.gaps[f"{where}: what it tapped under no_grad, or from constants, is left out"] = (
                None
            )
            return tensor
        loop = self._current.get(where)
        ends: list[Any] = []
        if name in self.states:
            ends, aside = _taps_behind(tensor, loop)
            if loop is not None and aside:
                loop.apart.untapped = True
        if loop is None or (
            name in loop.here and name in self.states and not any(e.loop is loop for e, _ in ends)
        ):
            loop = self._current[where] = Loop(where)
            self.loops.append(loop)
            loop.t = 0
        elif name in loop.here:
            loop.t += 1
            loop.here.clear()
        loop.here.add(name)
        made_by = MADE_BY.get(tensor.grad_fn.name(), "") if tensor.grad_fn is not None else ""
        place: Place = ("", name)
        step = Step(_array(tensor), made_by, True)
        loop.series.setdefault(place, {})[loop.t] = step
        self.changed()
        if name not in self.states:
            return tensor
        alias = _function().apply(tensor, self, loop, (place, loop.t), step, ends)
        if len(loop.begun) <= loop.t:
            loop.begun.append(alias.grad_fn._sequence_nr())
        return alias


@cache
def _function() -> Any:
    function: Any = need("torch", "bench", "mg.flow.tap_torch").autograd.Function

    class Tapped(function):
        """y = x; its gradient is told, or, while a part of it is walked alone, goes no further."""

        @staticmethod
        def forward(ctx: Any, x: Any, taps: Any, loop: Any, tap: Any, step: Any, ends: Any) -> Any:
            ctx.taps, ctx.loop, ctx.tap, ctx.step, ctx.ends = taps, loop, tap, step, ends
            return x.view_as(x)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            if ctx.loop.apart.walking:
                return (None,) * 6
            array = _array(g)
            ctx.step.add_gradient(array)
            ctx.loop.apart.arrived(ctx.tap, ctx, array)
            ctx.taps.changed()
            return (g, *(None,) * 5)

    return Tapped


class _Apart(Apart):
    """What is known of a loop in PyTorch: its graph is walked by autograd itself."""

    walking = False

    def _pass_on(self, tap: Any, node: Any, seed: Array) -> None:
        torch = need("torch", "bench", "mg.flow.tap_torch")
        edges = [torch.autograd.graph.GradientEdge(end, nr) for end, nr in node.ends]
        if not edges:
            return
        start = torch.autograd.graph.GradientEdge(*node.next_functions[0])
        self.walking = True
        try:
            found = torch.autograd.grad(
                [start], edges, [torch.from_numpy(seed)], retain_graph=True, allow_unused=True
            )
        finally:
            self.walking = False
        for (end, _), g in zip(node.ends, found, strict=True):
            if g is not None:
                self.comes(end.tap, _array(g), end.tap[1] != tap[1])


def _taps_behind(tensor: Any, loop: Loop | None) -> tuple[list[tuple[Any, int]], bool]:
    """The taps that a value was computed from, and whether another way leads past those of the
    step before.
    """
    oldest = loop.begun[0] if loop is not None and loop.begun else None
    since = loop.begun[max(len(loop.begun) - 2, 0)] if loop is not None and loop.begun else None
    ends: dict[tuple[Any, int], None] = {}
    aside, seen = False, set()
    todo = [(tensor.grad_fn, tensor.output_nr)]
    while todo:
        node, nr = todo.pop()
        if node is None or node in seen:
            continue
        if hasattr(node, "tap"):
            ends[node, nr] = None
            continue
        seen.add(node)
        number = node._sequence_nr()
        if oldest is None or since is None or number < oldest or not node.next_functions:
            continue
        if number < since or len(seen) > MOST:
            aside = True
            continue
        todo += node.next_functions
    return list(ends), aside


def _array(t: Any) -> Array:
    t = t.detach()
    return np.array((t.float() if t.element_size() < 4 else t).cpu().numpy())
