"""A computation that a step of mg.jit runs anew in every replay, as it would run without mg.jit.

    y_0, y_1, ... = run(x_0, x_1, ...)

For what cannot be a list of calls over memory that stays, as the memory is to come and go. It is
one node on the tape; what BPTT reads is kept from a replay's way forward to its way back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..backward import walk
from ..memory import kept
from ..tape import Node, state, tick
from ..tensors import Tensor, wrap
from .node import REPLAYED, Pulled, Saved, output, scan_node
from .outer import Target, closed_over, standing_for

Array = np.ndarray
Run = Callable[[list[Tensor]], list[Tensor]]


class _Replayed:
    """run, its inputs as arrays, and what came out when it ran last."""

    def __init__(self, run: Run, inputs: Sequence[Tensor]):
        self.run, self.arrays = run, [kept(t) for t in inputs]
        self.needs = [t.requires_grad for t in inputs]
        self.recording = state.recording
        self.forward()

    def forward(self) -> list[Array]:
        pairs = zip(self.arrays, self.needs, strict=True)
        self.inputs = [wrap(array, None, needs) for array, needs in pairs]
        with state.switched(tape=None, jit=None, recording=self.recording):
            self.outputs = self.run(self.inputs)
        return [t._array for t in self.outputs]

    def backward(self, g: dict[int, Array], targets: Sequence[Target | int]) -> list[Array | None]:
        """The gradients of targets: inputs by number, and what the computation read besides."""
        reached = [k for k, t in enumerate(self.outputs) if k in g and t.requires_grad]
        with state.switched(tape=None, jit=None):
            found = walk(
                [self.outputs[k] for k in reached], [g[k] for k in reached],
                [self.inputs[t] if isinstance(t, int) else standing_for(t) for t in targets],
                retain_graph=False, create_graph=False, stop=True,
            )  # fmt: skip
        del self.outputs, self.inputs
        return found


def run_anew(run: Run, inputs: Sequence[Tensor], what: str) -> list[Tensor]:
    """run(inputs), noted by mg.jit as something to run again. what: its name there."""
    began = tick()
    of = _Replayed(run, inputs)
    made = of.outputs
    arrays = [t._array for t in made]
    state.jit.runs_again(what, of.arrays, arrays, of.forward)
    if not state.recording or not any(t.requires_grad for t in made):
        return [wrap(array, None, False) for array in arrays]
    outer = closed_over(made, set(map(id, of.inputs)), began)
    reads = [*inputs, *outer]
    needs = tuple(i for i, t in enumerate(reads) if isinstance(t, Node) or t.requires_grad)
    params = {"what": what, "targets": [*range(len(inputs)), *outer]}
    node = scan_node(REPLAYED, reads, params, needs, Saved(of.arrays, of), arrays[-1])
    return [output(node, k, array) for k, array in enumerate(arrays)]


def _pulled(node: Node, g: dict[int, Array]) -> Pulled:
    assert isinstance(node._saved, Saved)
    of: _Replayed = node._saved.of
    targets = [node.params["targets"][i] for i in node.plan.needs]

    def again() -> list[Array | None]:
        return of.backward(g, targets)

    found = again()
    made = [array for array in found if array is not None]
    state.jit.runs_again(f"BPTT of {node.params['what']}", [*of.arrays, *g.values()], made, again)
    return [(i, a) for i, a in zip(node.plan.needs, found, strict=True) if a is not None]


def _recorded(node: Node, g: Any) -> Pulled:
    state.jit.refuse("the gradient of a gradient of a scan with checkpoint=; leave checkpoint= out")
    raise AssertionError


REPLAYED.pulled, REPLAYED.recorded = _pulled, _recorded
