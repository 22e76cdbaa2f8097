"""A forward pass noted as nodes of ONNX while it runs: what export_onnx makes its file of.

While a `Trace` is on (in the place where mg.jit has its Recording), the model runs eagerly on an
example. Every op of it passes through `Trace.op` and is written as nodes; an array is known by the
memory it lies in. A recurrent layer, or a scan, runs by itself and is written whole
(`onnx_recurrent.py`). Integers and masks that depend on an input are `Noted` arrays, on which
NumPy's functions are noted by the op of the same name; whatever would read a value is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from .. import ops, versions
from ..border import is_tensor, values
from ..errors import describe
from ..jitting.steps import arrays_in, line, mapped
from ..op import Op
from ..tape import state
from ..tensors import Tensor, apply, wrap
from .base import Array, ConversionError
from .onnx_noted import as_noted, memory_of, noted, with_tensors


@dataclass
class Graph:
    """Nodes in order. inputs, outputs: of the step of a loop, (name, dtype, rank)."""

    nodes: list[Node] = field(default_factory=list)
    inputs: list[tuple[str, Any, int]] = field(default_factory=list)
    outputs: list[tuple[str, Any, int]] = field(default_factory=list)


@dataclass
class Node:
    """One node; body: of a Scan its step. where: the line of the model."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    where: str
    body: Graph | None = None


class Trace:
    """What `state.jit` is while a model is exported.

    write: (trace, op, names of its inputs, params, arrays, y) -> the name of y; call: (trace,
    module, args, kwargs) -> the result of a module that is written whole, or None; loop: the same
    for a call of scan. parameters: (name in the file, array). layouts: weights as ONNX lays them
    out, by their cells; all traces of a model share them.
    """

    replays = False

    def __init__(
        self,
        parameters: Sequence[tuple[str, Array]],
        write: Callable[..., str],
        call: Callable[..., Any],
        loop: Callable[..., Any],
        layouts: dict[Any, list[Array]],
    ):
        self.write, self.call, self.loop, self.layouts = write, call, loop, layouts
        self.graphs = [Graph()]  # the file's, and those of the loops that are open
        self.constants: dict[str, Array] = {}
        self.where: dict[str, str] = {}  # a constant -> the line that uses it
        self.depth: dict[str, int] = {}  # a value -> the graph that has it
        self.known: dict[Any, str] = {}  # memory -> what depends on an input or on a parameter
        self.fixed: dict[Any, str] = {}  # memory -> a constant
        self.weights = {_key(array): name for name, array in parameters}
        self.of_inputs: dict[int, Array] = {}  # owners of memory that depends on an input
        self.alive: list[Array] = []  # so that no other array gets the memory
        self.names: dict[str, int] = {}

    # -- names

    def given(self, array: Array, name: str) -> Array:
        """An input of the graph that is open."""
        self.depth[name] = len(self.graphs) - 1
        return self.give(array, name, True)

    def give(self, array: Array, name: str, of_input: bool) -> Array:
        """From now on the array is called so."""
        self.known[_key(array)] = name
        self.alive.append(array)
        if of_input:
            self.of_inputs[id(versions.owner(array))] = array
        return array

    def name(self, value: Any) -> str:
        """The name of a Tensor, an array or a number: that of a constant if it is not known."""
        array = memory_of(value)
        key = _key(array)
        if key in self.known:
            if self.depth.get(self.known[key], 0) >= len(self.graphs):
                self.refuse("a value of a scan's step is read after it: return it from the cell")
            return self.known[key]
        if id(versions.owner(array)) in self.of_inputs:
            self.refuse(
                f"{describe(array)} is a part of what depends on an input, which NumPy cut out "
                f"unseen: use mg's functions"
            )
        if key in self.weights:
            name = self.weights[key]
            while name in self.depth:  # an input is called so
                name = self.weights[key] = f"{name}_"
            self.constants[name] = array
        elif key in self.fixed and self.holds(self.fixed[key], array):
            return self.fixed[key]
        else:
            name = self.constant(array.copy())
            if array.ndim:  # numbers are shared in memory where they are equal by chance
                self.fixed[key] = name
        self.alive.append(array)
        return name

    def constant(self, value: Any, name: str = "") -> str:
        """A constant of its own; the runs at other sizes may have another in its place."""
        value = np.asarray(value)
        name = name or f"constant_{len(self.constants)}"
        while name in self.depth or (name in self.constants and not self.holds(name, value)):
            name += "_"
        self.constants[name], self.where[name] = value, line()
        return name

    def holds(self, name: str, value: Array) -> bool:
        """Whether the constant of this name has the bits of the value."""
        held = self.constants[name]
        alike = held.shape == value.shape and held.dtype == value.dtype
        return held is value or (alike and held.tobytes() == value.tobytes())

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def depends(self, value: Any) -> bool:
        """Whether it depends on an input."""
        return id(versions.owner(memory_of(value))) in self.of_inputs

    # -- nodes

    def node(self, op: str, inputs: Sequence[str], here: bool = False, **attributes: Any) -> str:
        """Adds a node with one output; returns its name.

        It goes to the outermost graph that has its inputs, so a loop computes nothing twice that
        does not change in it; here=True: to the innermost.
        """
        return self.add(op, inputs, ("",), here=here, **attributes)[0]

    def add(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        body: Graph | None = None,
        here: bool = False,
        **attributes: Any,
    ) -> list[str]:
        """Adds a node with outputs called <name>.<output>; returns their names."""
        read = [*inputs, *(_outside(body) if body else ())]
        needed = max((self.depth.get(v, 0) for v in read), default=0)
        depth = len(self.graphs) - 1 if here else needed
        at = ".".join([*(p for p in state.scope.split("/") if p), op])
        count = self.names.get(at, 0)
        name = f"{at}.{count}" if count else at
        while name in self.depth:  # an input is called so
            name += "_"
        self.names[at] = count + 1
        made = [f"{name}.{output}" if output else name for output in outputs]
        self.depth |= dict.fromkeys(made, depth)
        made_node = Node(op, name, list(inputs), made, attributes, line(), body)
        self.graphs[depth].nodes.append(made_node)
        return made

    @contextmanager
    def inside(self) -> Iterator[Graph]:
        """The step of a loop, whose nodes go to a graph of their own."""
        self.graphs.append(Graph())
        try:
            yield self.graphs[-1]
        finally:
            self.graphs.pop()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Inside nothing is noted."""
        before = state.switch(jit=None)
        try:
            yield
        finally:
            state.switch(**before)

    # -- what the library tells whoever is in the place of mg.jit

    def op(
        self, op: Op, args: Sequence[Any], params: dict[str, Any], arrays: Sequence[Array], y: Array
    ) -> None:
        """An op ran on `arrays`: on constants, too, as their sizes may change."""
        inside = list(arrays_in(params))
        self.alive += [y, *arrays]
        if _key(y) in self.known:
            return  # the very same view
        if any(a.dtype.kind == "b" and self.depends(a) for a in inside):
            self.refuse("a mask as an index: the shape depends on data. Choose by mg.where")
        name = self.write(self, op, [self.name(a) for a in arrays], params, arrays, y)
        self.give(y, name, any(map(self.depends, (*arrays, *inside))))

    def entered(self, module: Any, args: Any, kwargs: Any) -> Any:
        """A module is called: its result, if it is written whole."""
        return self.call(self, module, args, kwargs)

    def scan(
        self, cell: Any, init: Any, xs: Any, lengths: Any, reverse: bool, mask: Any, resets: Any
    ) -> Any:
        """A scan is called."""
        return self.loop(self, cell, init, xs, lengths, reverse, mask, resets)

    def made(self, t: Tensor) -> None:
        """A Tensor came out of an op."""

    def copied(self, data: Any, array: Array) -> Array:
        """Tensor(data) was made with a copy."""
        source = data._array if isinstance(data, Tensor) else data
        if isinstance(source, np.ndarray) and self.depends(source):
            name = self.name(source)
            if source.dtype != array.dtype:
                name = self.write(self, ops.astype, [name], {"dtype": array.dtype}, [source], array)
            self.give(array, name, True)
        return array

    def as_tensor(self, value: Array) -> Tensor:
        """An array as a Tensor."""
        return wrap(memory_of(value), None, False) if self.depends(value) else Tensor(value)

    def kept(self, t: Tensor) -> Array:
        """The memory of t."""
        return t._array

    def plain(self, value: Any) -> Array:
        """What is no part of the tape: Noted where it depends on an input."""
        array = value._array if is_tensor(value) else value
        if isinstance(array, np.ndarray) and self.depends(array):
            return noted(array)
        return np.asarray(values(value))

    def read_by_ops(self, params: dict[str, Any]) -> dict[str, Any]:
        """The parameters of an op, with plain arrays in them."""
        return {key: mapped(memory_of, v) for key, v in params.items()}

    def on_arrays(self, op: Op, inputs: Sequence[Any], params: dict[str, Any]) -> Any:
        """op(*arrays)."""
        if any(map(self.depends, (*arrays_in(list(inputs)), *arrays_in(params)))):
            given = [noted(a) if isinstance(a, np.ndarray) else a for a in inputs]
            return as_noted(apply(op, with_tensors(given), params))
        arrays, _ = op.arrays(inputs)
        return op.forward(arrays, op.prepared(arrays, params))

    def as_arrays(self, op: Op, args: Sequence[Any]) -> Sequence[Any]:
        """What an op is called with: numbers are constants here."""
        return args

    def number_as_array(self, value: float, dtype: Any = None) -> float:
        return value

    def varies(self, array: Array) -> bool:
        """Whether its values belong to one call: what depends on an input is refused instead."""
        return False

    def computed(
        self, what: str, given: Sequence[Any], make: Callable[..., Array], copies: bool
    ) -> Array:
        """make(*given), by NumPy."""
        return make(*map(self.plain, given))

    def runs_again(self, name: str, *what: Any) -> None:
        """Something ran unseen."""
        self.refuse(f"{name}: leave it out")

    def checks(
        self, who: str, array: Array, check: Callable[[Array], None], below: int | None = None
    ) -> None:
        """check(array) raises where values are wrong: of the example they are right."""
        check(memory_of(array))

    def reads(self, t: Tensor, what: str) -> None:
        """The values of t are asked for: those of a constant are there."""
        if self.depends(t._array):
            self.refuse(
                f"{what} of {describe(t)}: its value belongs to the example; choose by mg.where, "
                f"and compute by mg's functions"
            )

    def drawn(self, make: Callable[[], Array]) -> Array:
        self.refuse("random numbers are drawn, and the file would have those of the example")

    def edits(self, t: Tensor, index: Any, value: Any) -> None:
        self.refuse("t[...] = value: build a new tensor by mg.where or mg.concatenate")

    def no_forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """What belongs to training."""
        self.refuse("a gradient, or a step of an optimiser, is no part of a forward pass")

    sets_gradient = reads_gradient = calls = assigned = added_at = pulled = no_forward
    as_rules_see = no_forward

    def refuse(self, what: str) -> NoReturn:
        raise ConversionError(f"export_onnx: {line()}: the model cannot be exported: {what}.")


def _key(array: Array) -> Any:
    """Which elements of which memory an array is."""
    at = array.__array_interface__["data"][0]
    return at, array.shape, array.strides, array.dtype.str


def _outside(body: Graph) -> set[str]:
    """What the step of a loop reads of the graphs around it."""
    own = {name for name, _, _ in body.inputs} | {v for n in body.nodes for v in n.outputs}
    read = {v for n in body.nodes for v in (*n.inputs, *(_outside(n.body) if n.body else ()))}
    return read - own - {""}
