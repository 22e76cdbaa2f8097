"""One run of a function under a Recording: its arguments in memory of our own, its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import JitError, describe
from ..kernels import arena
from ..tape import state
from ..tensors import Pending, Tensor, wrap
from .arguments import Argument, Number, memory_of
from .calls import needed
from .modules import changed, settings
from .outside import Outside
from .recording import Recording
from .steps import Step


class Run:
    """function(*args, **kwargs) recorded.

    buffers: for each array among the arguments the memory that the function saw, for each float a
    list of one. floats: place among the buffers -> the float. outside: what names meant before it
    ran. sets: one that meant something else afterwards, if any. returned: what it gave, with arrays
    of the recording. result: the same in memory of the caller's own. gradients: (leaf, what of its
    gradient from before was read, what it has afterwards).
    """

    def __init__(
        self, function: Callable[..., Any], args: Any, kwargs: Any,
        calls: Sequence[Callable[..., Any]] = (),
    ):  # fmt: skip
        self.buffers: list[Any] = []
        self.floats: dict[int, Any] = {}
        self.recording = Recording()
        # By sorted key, as `_form` lists arrays and floats, whatever order they came in.
        seen = [self._seen(a) for a in args], {k: self._seen(kwargs[k]) for k in sorted(kwargs)}
        self.name = name_of(function, *calls)
        objects = [x for tree in (args, kwargs) for x in leaves_of(tree)]
        self.outside = Outside((function, *calls), objects)
        before = state.switch(jit=self.recording)
        try:
            self.returned = function(*seen[0], **seen[1])
            del seen
        finally:
            state.switch(**before)
        self.outputs: list[Any] = []
        self._collect(self.returned)
        self.gradients = [
            (leaf, entry, self._left(leaf)) for leaf, entry in self.recording.gradients.values()
        ]
        self.modules = list(self.recording.modules.values())
        self.sets = self.outside.changed()
        self.outside.follow(module for module, _ in self.modules)
        self._refuse_changed()
        results = [x for x in self.outputs if isinstance(x, np.ndarray)]
        results += [g._array for _, _, g in self.gradients if g is not None]
        self.results = results
        needs: list[Step] = needed(self.recording, results)
        self.steps = self.recording, needs
        self.result = rebuilt(self.returned, [fresh(x) for x in self.outputs])
        self._refuse_kept()

    def _seen(self, value: Any) -> Any:
        """What the function sees of an argument."""
        if isinstance(value, (Tensor, np.ndarray)):
            array = value._array if isinstance(value, Tensor) else value
            buffer = arena.empty(array.shape, array.dtype.newbyteorder("="))
            np.copyto(buffer, array)
            self.buffers.append(buffer)
            self.recording.argument(buffer, len(self.buffers) - 1)
            return wrap(buffer, None, False) if isinstance(value, Tensor) else buffer.view(Argument)
        if type(value) is float or isinstance(value, np.floating):
            cell: list[Any] = [value]
            self.floats[len(self.buffers)] = value
            self.buffers.append(cell)
            return Number(lambda: cell[0])
        if type(value) is dict:
            return {key: self._seen(value[key]) for key in sorted(value)}
        if isinstance(value, (tuple, list)):
            inside = [self._seen(v) for v in value]
            return type(value)(*inside) if hasattr(value, "_fields") else type(value)(inside)
        return value

    def _collect(self, value: Any) -> None:
        """The arrays and numbers of what was returned, into `outputs`."""
        if isinstance(value, Tensor):
            node = value._node
            if value.requires_grad and node is not None and node._saved is not None:
                raise JitError(
                    f"mg.jit: {self.name} returns {describe(value)}, which still requires a "
                    f"gradient, and a replay has no graph: call backward() inside, or return "
                    f"t.detach() or compute under mg.no_grad()."
                )
            self.recording.know(value._array, value)
            self.outputs.append(value._array)
        elif isinstance(value, np.ndarray):
            self.recording.know(value)
            self.outputs.append(memory_of(value))
        elif isinstance(value, Number):
            self.outputs.append(value)
        elif type(value) is dict:
            for v in value.values():
                self._collect(v)
        elif isinstance(value, (tuple, list)):
            for v in value:
                self._collect(v)

    def _left(self, leaf: Tensor) -> Pending | None:
        """The gradient that a leaf is left with, in memory that replays write to."""
        g = leaf._grad
        if isinstance(g, Tensor):
            self.recording.know(g._array, g)
            leaf._grad = Pending(g._array)
        return leaf._grad

    def met_as(self, other: Run) -> bool:
        """Whether names, modules and gradients from outside were met in the same state."""
        mine, theirs = (
            [(id(leaf), entry is None or entry is False) for leaf, entry, _ in run.gradients]
            for run in (self, other)
        )
        if mine != theirs or len(self.modules) != len(other.modules):
            return False
        if self.outside.other_than(other.outside):
            return False
        return all(
            m is n and not changed(before, after)
            for (m, before), (n, after) in zip(self.modules, other.modules, strict=True)
        )

    def _refuse_changed(self) -> None:
        """Raises JitError where the step changes what it reads: no replay would do so."""
        for module, before in self.modules:
            name = changed(before, settings(module))
            if name:
                raise JitError(
                    f"mg.jit: {self.name} sets .{name} of a {type(module).__name__}, which a "
                    f"replay would not do: keep what counts outside of the step."
                )

    def _refuse_kept(self) -> None:
        """Raises JitError for a Tensor of the run that somebody keeps: no replay would renew it."""
        mine = {id(x) for x in (*leaves_of(self.returned), *self.recording.bound)}
        for reference, where in self.recording.tensors:
            t = reference()
            if t is not None and id(t) not in mine:
                raise JitError(
                    f"mg.jit: {where}: {describe(t)}, made in {self.name}, is kept outside of it, "
                    f"where a replay would not renew it; return it instead."
                )


def name_of(function: Any, *calls: Any) -> str:
    """What to call a function: by what it was given to call, if that is known."""
    function = calls[0] if calls else function
    return getattr(function, "__name__", type(function).__name__)


def same_number(x: float, y: float) -> bool:
    """To the sign of zero, and NaN too."""
    return float(x).hex() == float(y).hex()


def fresh(value: Any) -> Any:
    """A result in memory of the caller's own."""
    return value.copy() if isinstance(value, np.ndarray) else value.now()


def rebuilt(tree: Any, values: list[Any]) -> Any:
    """What was returned, with `values` for its arrays and numbers, in order."""
    return _rebuilt(tree, iter(values))


def _rebuilt(tree: Any, values: Any) -> Any:
    if isinstance(tree, Tensor):
        return wrap(next(values), None, False)
    if isinstance(tree, (np.ndarray, Number)):
        return next(values)
    if type(tree) is dict:
        return {key: _rebuilt(v, values) for key, v in tree.items()}
    if isinstance(tree, (tuple, list)):
        inside = [_rebuilt(v, values) for v in tree]
        return type(tree)(*inside) if hasattr(tree, "_fields") else type(tree)(inside)
    return tree


def leaves_of(tree: Any) -> list[Any]:
    """All leaves of what was returned."""
    if type(tree) is dict:
        return [x for v in tree.values() for x in leaves_of(v)]
    if isinstance(tree, (tuple, list)):
        return [x for v in tree for x in leaves_of(v)]
    return [tree]
