"""The program of a jitted step: when it fits, and how it is replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import versions
from ..errors import describe
from ..kernels.flat import joined
from ..switches import edits
from ..tensors import Tensor, wrap
from .arguments import Number
from .beside import side_by_side
from .calls import listed
from .modules import changed, settings
from .running import Run, rebuilt, same_number

Array = np.ndarray


class Program:
    """What two recordings that agree became: calls over memory that stays.

    fixed: the float arguments that were the same in both, by their place among the arguments. What
    Python may have made of them is known for these values alone.
    """

    def __init__(self, run: Run, fixed: Mapping[int, float]):
        recording = run.recording
        self.fixed, self.of = fixed, run if fixed else None
        self.parts = side_by_side(listed(run.steps[1], run.results))
        self.calls = [call for part in self.parts for call in part.calls]
        self.run = joined(self.calls)
        self.buffers, self.numbers = run.buffers, recording.numbers
        self.held = [(t, array, t.requires_grad) for t, array in recording.held.values()]
        self.modules, self._edits, self.outside = run.modules, edits.count, run.outside
        self.gradients = run.gradients
        self.entries = [(leaf, g) for leaf, g, _ in run.gradients if isinstance(g, np.ndarray)]
        self.must_be_none = [leaf for leaf, g, _ in run.gradients if g is None]
        self.outputs, self.returned = run.outputs, run.returned
        leaves = run.returned if type(run.returned) in (tuple, list) else (run.returned,)
        plain = all(isinstance(x, (Tensor, Number)) for x in leaves)
        self.flat: Any = type(run.returned) if plain and len(leaves) == len(run.outputs) else None
        if self.flat is not None and self.flat not in (tuple, list):
            self.flat = Tensor
        self.tensors = [k for k, x in enumerate(leaves) if isinstance(x, Tensor)]
        self.memory = _memory(run)
        # Calls know memory by its address: what owns it has to live as long as they do.
        self._alive = recording.roots, [step.owner for step in run.steps[1]]

    def knows(self, given: Sequence[Any]) -> bool:
        """Whether float arguments that were never others are what they were."""
        return all(same_number(given[i], value) for i, value in self.fixed.items())

    def misfit(self) -> str:
        """What it reads from outside and is not as it was met, as the end of a sentence; or ""."""
        for t, array, needs in self.held:
            if t._array is not array:
                return f"{_named(t)} lies in other memory (a read of p.data moves it: p.numpy())"
            if t.requires_grad is not needs:
                return f"requires_grad of {_named(t)} is another"
        if edits.count != self._edits:
            for module, known in self.modules:
                name = changed(known, settings(module))
                if name:
                    return f".{name} of a {type(module).__name__} is another"
            self._edits = edits.count
        name = self.outside.changed()
        if name:
            return f"{name} is another"
        for leaf, _ in self.entries:
            if leaf._grad is None:
                return f"{_named(leaf)} has no gradient to add to"
        for leaf in self.must_be_none:
            if leaf._grad is not None:
                return f"{_named(leaf)} has a gradient already"
        return ""

    def is_lost(self) -> bool:
        """Whether it will never fit again: what it reads has moved to other memory for good."""
        return any(t._array is not array for t, array, _ in self.held)

    def replay(self, given: list[Any]) -> Any:
        """Runs the calls on these arguments; returns results in memory of their own."""
        for buffer, value in zip(self.buffers, given, strict=True):
            if type(buffer) is list:
                buffer[0] = value
            else:
                buffer[...] = value._array if isinstance(value, Tensor) else value
        for number, array in self.numbers:
            array[...] = number.now()
        for leaf, own in self.entries:
            own[...] = leaf._grad._array
        try:
            for function, arguments in self.run:
                function(*arguments)
        except BaseException:  # a wrong index, Ctrl-C: no gradient is better than half of one
            for leaf, _, left in self.gradients:
                leaf._grad = None if left is not None else leaf._grad
            raise
        for leaf, _, left in self.gradients:
            leaf._grad = left
        found: list[Any] = []
        for x in self.outputs:
            found.append(x.copy() if type(x) is np.ndarray else x.now())
        if self.flat is None:
            return rebuilt(self.returned, found)
        for k in self.tensors:
            found[k] = wrap(found[k], None, False)
        return found[0] if self.flat is Tensor else self.flat(found)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that stay."""
        return sum(a.nbytes for a in self.memory)

    def explain(self) -> str:
        """Its calls, one a line."""
        lines = [
            f"  {len(self.calls)} calls, {len(self.run)} from Python; {len(self.memory)} arrays, "
            f"{self.nbytes / 2**20:.2f} MiB, stay; {len(self.held)} Tensors are read where they are"
        ]
        width = max((len(part.where) for part in self.parts), default=0)
        lines += [f"    {part.where:<{width}}  {part.says}" for part in self.parts]
        return "\n".join(lines)


def _named(t: Tensor) -> str:
    return f"the Tensor {t.name!r}" if t.name else f"a Tensor, {describe(t)},"


def _memory(run: Run) -> list[Array]:
    """The memory that the program keeps, each piece once."""
    roots = run.recording.roots.values()
    arrays = [root.owner for root in roots if root.kind in ("made", "argument")]
    for step in run.steps[1]:  # what loops keep for BPTT, among what they read
        arrays += [a for a in getattr(step.owner, "pieces", ()) if isinstance(a, np.ndarray)]
    others = {id(root.owner) for root in roots if root.kind not in ("made", "argument")}
    owners = {id(whole): whole for whole in map(versions.owner, arrays)}
    return [whole for key, whole in owners.items() if key not in others]
