"""One run of a step, noted operation by operation: what mg.jit makes its program of.

While a `Recording` is on, the step runs as it always does, the backward pass on Tensors, so that
every operation of it passes through `tensors.apply`. Noted are the arrays themselves: the memory
that an operation read and wrote now is the memory it reads and writes in every replay. An array is
known by the memory it lies in:

    argument    filled anew at every call
    made        written by a step of the recording
    held        of a Tensor that the step did not make (a parameter): read where it is
    constant    anything else; it has to be the same in every recording
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np

from .. import ops, versions
from ..border import values
from ..compile.node import arrays_of
from ..errors import JitError, describe
from ..kernels.flat import Update, all_below
from ..op import Op
from ..tape import Node, state
from ..tensors import Tensor, apply, wrap
from .arguments import Argument, Number, memory_of, value_of
from .modules import settings
from .steps import Root, Step, arrays_in, line, mapped

Array = np.ndarray


class Recording:
    """What `state.jit` is while a step is recorded.

    roots: id of the owner of memory -> what is known of it. gradients: of leaves: what of theirs
    from before the step is read: False (nothing), None (that there was none), or a copy of it.
    modules: that were called. tensors: that were made, and where.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.numbers: list[tuple[Number, Array]] = []
        self.roots: dict[int, Root] = {}
        self.modules: dict[int, tuple[Any, dict[str, Any]]] = {}
        self.bound: list[Tensor] = []  # gradients that something of Python gets in every replay
        self.tensors: list[tuple[weakref.ref[Tensor], str]] = []
        self.held: dict[int, tuple[Tensor, Array]] = {}  # id of the memory's owner -> whose
        self.constants: list[Array] = []
        self.gradients: dict[int, tuple[Tensor, Any]] = {}

    replays = True  # what runs is run again

    def argument(self, buffer: Array, which: int) -> None:
        """The memory of an argument."""
        self._root(buffer, "argument", which)

    def entered(self, module: Any, args: Any, kwargs: Any) -> None:
        """A module is called: its mode, and that of what it holds, decides what runs.

        Another who stands here may return the result, and then forward is not called.
        """
        if id(module) not in self.modules:
            self.modules |= {id(m): (m, settings(m)) for m in module.modules()}

    def scan(self, *args: Any) -> None:
        """scan is called: it runs as it does; see `entered`."""

    def made(self, t: Tensor) -> None:
        """A Tensor came out of an op."""
        self.tensors.append((weakref.ref(t), line()))

    # -- what ran

    def op(
        self, op: Op, args: Sequence[Any], params: dict[str, Any], arrays: Sequence[Array], y: Array
    ) -> None:
        """An op ran on `arrays`."""
        for a, x in zip(args, arrays, strict=False):
            self.know(x, a)
        for x in arrays_in(params):
            if x.dtype.kind == "b" and self._is_data(x):
                self.refuse("a mask as an index: the shape depends on data. Choose by mg.where")
            self.know(x)
        whole = versions.owner(y)
        if any(versions.owner(x) is whole for x in arrays):
            return  # a view: what is written there is read here
        inputs = [memory_of(x) for x in arrays]
        self._add(Step("op", op.name, inputs, [y], params, op))

    def python(
        self, what: str, name: str, inputs: Sequence[Array], outputs: Sequence[Array],
        again: Callable[[], Any] | None, owner: Any = None,
    ) -> Step:  # fmt: skip
        """Something ran that is no op: `again()` does it once more, in the same memory.

        owner: keeps memory that only addresses lead to.
        """
        for x in inputs:
            self.know(x)
        return self._add(Step(what, name, list(inputs), list(outputs), again=again, owner=owner))

    def _add(self, step: Step) -> Step:
        for y in step.outputs:
            self._root(y, "made", len(self.steps))
        step.where = line()
        self.steps.append(step)
        return step

    def _root(self, array: Array, kind: str, which: int) -> None:
        whole = versions.owner(array)
        self.roots.setdefault(id(whole), Root(whole, kind, which, array.ctypes.data))

    def know(self, array: Array, of: Any = None) -> None:
        """Takes note of an array that is read; `of`: the argument of an op that it was."""
        whole = versions.owner(array)
        if id(whole) in self.roots:
            held = self.held.get(id(whole))
            if held and isinstance(of, Tensor) and of.by_hand and not held[0].by_hand:
                self.held[id(whole)] = of, of._array  # what came first was a view of it for a while
            return
        if isinstance(of, Tensor) and versions.owner(of._array) is whole:
            self.held[id(whole)] = of, of._array
            self._root(array, "held", len(self.held) - 1)
        else:
            self.constants.append(memory_of(array))
            self._root(array, "constant", len(self.constants) - 1)

    # -- tensors, gradients

    def copied(self, data: Any, array: Array) -> Array:
        """Tensor(data) was made with a copy: of what is known the copy is made again."""
        source = data._array if isinstance(data, Tensor) else data
        if not isinstance(source, np.ndarray) or id(versions.owner(source)) not in self.roots:
            return array
        self._copies(memory_of(source), array)
        return array

    def _copies(self, source: Array, array: Array) -> None:
        """array is a copy of source: from now on in every replay."""
        self.python("copy", "copy", [source], [array], None).calls = [
            (array.__setitem__, (..., source))
        ]

    def as_tensor(self, value: Array) -> Tensor:
        """An array as a Tensor: of an argument the memory itself, which is ours."""
        if isinstance(value, Argument):
            return wrap(memory_of(value), None, False)
        return Tensor(value)

    def kept(self, t: Tensor) -> Array:
        """The memory of t itself: a replay reads what it holds then."""
        self.know(t._array, t)
        return t._array

    def plain(self, value: Any) -> Array:
        """What is no part of the tape: an Argument, if the step may not read its values."""
        array = value._array if isinstance(value, Tensor) else value
        if isinstance(array, np.ndarray) and self._is_data(array):
            return array.view(Argument)
        if isinstance(value, Tensor):
            self.know(array, value)
            return array
        return np.asarray(values(value))

    def read_by_ops(self, params: dict[str, Any]) -> dict[str, Any]:
        """The parameters of an op, which may read what is in arrays: it does so in every replay."""
        return {key: mapped(memory_of, v) for key, v in params.items()}

    def as_rules_see(self, node: Node) -> Node:
        """A node for the rule of a gradient, which only passes its parameters on to ops."""

        def seen(array: Array) -> Array:
            return array.view(Argument) if self._is_data(array) else array

        if not any(map(self._is_data, arrays_in(node.params))):
            return node
        other = copy.copy(node)
        other.params = {key: mapped(seen, v) for key, v in node.params.items()}
        return other

    def _is_data(self, array: Array) -> bool:
        """Whether it differs from call to call."""
        root = self.roots.get(id(versions.owner(array)))
        return root is not None and root.kind in ("argument", "made", "gradient")

    def on_arrays(self, op: Op, inputs: Sequence[Any], params: dict[str, Any]) -> Any:
        """op(*arrays): on those that the step may not read, as an op of Tensors."""
        if not any(isinstance(a, (Argument, Number)) for a in inputs):
            arrays, _ = op.arrays(inputs)
            return op.forward(arrays, op.prepared(arrays, params))
        inputs = [self.as_tensor(a) if isinstance(a, Argument) else a for a in inputs]
        return apply(op, inputs, params)._array.view(Argument)

    def as_arrays(self, op: Op, args: Sequence[Any]) -> list[Any]:
        """What an op is called with: float arguments as arrays where they are no weak numbers."""
        weak = op.kind == "elementwise" or op.assembles
        return [
            self.number_as_array(a) if isinstance(a, Number) and (a.own or not weak)
            else memory_of(a)
            for a in args
        ]  # fmt: skip

    def number_as_array(self, value: float, dtype: Any = None) -> Any:
        """A float argument as an array that is filled anew at every call; others as they are."""
        if not isinstance(value, Number):
            return value
        return value.array(np.dtype(dtype or value.own or np.float64))

    def assigned(self, owner: Any, name: str, value: Any) -> Any:
        """owner.name = value, a number: in every replay. Returns it as a float."""

        def again() -> None:
            setattr(owner, name, value_of(value))

        step = self.python("assignment", f"{type(owner).__name__}.{name} = ...", [], [], again)
        if not isinstance(value, Number):
            step.params = {name: value}
        return value_of(value)

    def drawn(self, make: Callable[[], Array]) -> Array:
        """Random numbers that the library draws: again in every replay."""
        array = make()
        self.python("draw", "random numbers", [], [array], lambda: np.copyto(array, make()))
        return array

    def varies(self, array: Array) -> bool:
        """Whether its values belong to one call."""
        return self._is_data(array)

    def computed(
        self, what: str, given: Sequence[Any], make: Callable[..., Array], copies: bool
    ) -> Array:
        """make(*given), by NumPy: of what differs from call to call, made again in every replay.

        copies: whether that is no more than a copy.
        """
        seen = [self.plain(value) for value in given]
        memory = [memory_of(array) for array in seen]
        with state.switched(jit=None):
            array = make(*memory)
        if copies and isinstance(seen[0], Argument):
            self._copies(memory[0], array)
        elif any(isinstance(a, Argument) for a in seen):

            def again() -> None:
                array[...] = make(*memory)

            self.python("computed", what, memory, [array], again)
        return array

    def checks(
        self, who: str, array: Array, check: Callable[[Array], None], below: int | None = None
    ) -> None:
        """check(array) raises where the values of an argument are wrong: at every call.

        below: n, if right are those in 0 .. n - 1.
        """
        memory = memory_of(array)
        check(memory)
        if isinstance(array, Argument):
            again = partial(check, memory)
            step = self.python("check", f"check of {who}", [memory], [], again)
            if below is not None:
                step.faster = partial(all_below, memory, below, again)

    def edits(self, t: Tensor, index: Any, value: Any) -> None:
        """t[index] = value inside no_grad."""
        self.know(t._array, t)
        place, target = ops.plain_index(index), t._array
        source = value._array if isinstance(value, Tensor) else value
        source = memory_of(source)
        if isinstance(source, Number):
            source = source.array(target.dtype)
        inputs = [x for x in (source, *arrays_in({"index": place})) if isinstance(x, np.ndarray)]
        if isinstance(value, Tensor):
            self.know(source, value)

        def again() -> None:
            versions.edited(target)
            target[place] = source

        again()
        self.python("edit", "t[...] = value", inputs, [target], again).params = {"index": place}

    def number(self, number: Number, array: Array) -> None:
        """A 0-d array that holds a float argument, to be filled at every call."""
        if number.late:
            again = lambda: array.__setitem__(..., number.now())  # noqa: E731
            self.python("number", "a number of the step", [], [array], again)
            return
        self.numbers.append((number, array))
        self._root(array, "argument", -len(self.numbers))

    def sets_gradient(self, leaf: Tensor) -> None:
        """leaf.grad is assigned: what was there before does not matter from here on."""
        self.gradients.setdefault(id(leaf), (leaf, False))

    def reads_gradient(self, leaf: Tensor) -> None:
        """leaf.grad is read or added to: the first time, that from before the step."""
        if id(leaf) in self.gradients:
            return
        own = None
        if leaf._grad is not None:
            own = (
                leaf._grad._array.copy()
            )  # filled anew at every call, so that nobody else's changes
            self._root(own, "gradient", len(self.gradients))
            leaf._grad = wrap(own, None, False)
        self.gradients[id(leaf)] = leaf, own

    def pulled(self, node: Node, g: Any) -> list[tuple[int, Any]]:
        """The gradients of a scan's inputs, as Tensors."""
        found = node.op.pull(node, g if not isinstance(g, dict) else arrays_of(g), recorded=False)
        if not isinstance(g, dict):
            return found  # of one of its results: on its way to the scan
        return [(i, wrap(a, None, False)) for i, a in found]

    def added_at(self, total: Tensor | None, index: Any, g: Tensor, shape: Any) -> Tensor:
        """total[index] += g in place, total being ours; None stands for zeros."""
        if total is None:
            zeros = np.zeros(shape, g.dtype)
            self.python("zeros", "zeros", [], [zeros], None).calls = [(zeros.fill, (0,))]
            total = wrap(zeros, None, False)
        into, part = total._array, g._array
        add = partial(ops.index.add_at, into, index, part)
        add()
        arrays = [part, *arrays_in({"index": index})]
        self.python("add at", "add at an index", arrays, [into], add).params = {"index": index}
        return total

    # -- what is more than an op

    def calls(
        self, what: str, call: Callable[..., Any], params: Sequence[Tensor],
        prepared: Callable[..., Sequence[Update]] | None = None, numbers: Sequence[float] = (),
    ) -> Any:  # fmt: skip
        """Something of Python that reads and writes parameters and their gradients in place.

        what: "optimizer.step", ... call: does it, and does it again in every replay, with the
        gradients that the parameters have here. Returns what it returns, a float as a Number.
        prepared: with these gradients in place, the kernels of it; none if that cannot be. numbers:
        floats that may be arguments of the step: call gets what they are, prepared functions that
        tell it.
        """
        bound = [(p, self._writable(p)) for p in params]
        for p, _ in bound:
            self.know(p._array, p)
        self.bound += [g for _, g in bound if g is not None]
        arrays = [g._array for _, g in bound if g is not None]
        result: list[Any] = [None]

        def again() -> None:
            for p, g in bound:
                p._grad = g
            result[0] = call(*map(value_of, numbers))

        with state.switched(jit=None):
            again()
        step = self.python("update", what, arrays, [*arrays, *(p._array for p in params)], again)
        late = any(isinstance(n, Number) and n.late for n in numbers)  # kernels begin too early
        if prepared is not None and not late:
            told = [partial(value_of, n) for n in numbers]
            step.faster = partial(_updates, bound, partial(prepared, *told), result)
        return Number(lambda: result[0], True) if isinstance(result[0], float) else result[0]

    def _writable(self, p: Tensor) -> Tensor | None:
        """The gradient of p, in memory that may be written to: one that broadcasts is copied."""
        g = p.grad
        if g is None or g._array.flags.writeable:
            return g
        source, own = g._array, g._array.copy()
        self._copies(source, own)
        p._grad = wrap(own, None, False)
        return p._grad

    def ran(
        self, name: str, owner: Any, inputs: Sequence[Array], outputs: Sequence[Array],
        calls: Sequence[Any],
    ) -> None:  # fmt: skip
        """A loop ran by a list of calls that run it again, in the memory that `owner` keeps."""
        self.python("loop", name, inputs, outputs, None, owner).calls = list(calls)

    def runs_again(
        self, name: str, inputs: Sequence[Array], outputs: Sequence[Array],
        run: Callable[[], Sequence[Array | None]],
    ) -> None:  # fmt: skip
        """What run() gave is in the outputs; replays call it and copy what it gives then."""

        def again() -> None:
            found = (a for a in run() if a is not None)
            for to, array in zip(outputs, found, strict=True):
                to[...] = array

        self.python("loop", name, inputs, outputs, again)

    # -- what cannot be

    def reads(self, t: Tensor, what: str) -> None:
        """The values of t are asked for. A constant may be read: that it is one is compared."""
        if not t.requires_grad and not self._is_data(t._array):
            self.know(t._array, t)
            return
        self.refuse(
            f"{what} of {describe(t)}: its value belongs to one call. Return it from the step and "
            f"read it there, or choose by mg.where"
        )

    def refuse(self, what: str) -> NoReturn:
        raise JitError(f"mg.jit: {line()}: the step cannot be replayed: {what}.")


def _updates(
    bound: Sequence[tuple[Tensor, Tensor | None]],
    prepared: Callable[[], Sequence[Update]],
    result: list[Any],
) -> list[Any]:
    """The kernels of `Recording.calls`, each with what Python does before and behind it."""

    def bind() -> None:
        for p, g in bound:
            p._grad = g

    def update(ready: Update) -> Update:
        def before() -> tuple[int, ...]:
            bind()
            return ready.before()

        def after() -> None:
            result[0] = ready.after()

        return Update(ready.function, ready.arguments, before, after, ready.of)

    kept = [(p, p._grad) for p, _ in bound]
    try:
        bind()
        found = prepared()
    finally:
        for p, g in kept:
            p._grad = g
    return [(update(ready), ()) for ready in found]
