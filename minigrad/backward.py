"""The backward pass: one walk over the record, from the last operation to the first.

The nodes that lead to what is wanted are collected with a stack (no recursion, so a chain of
100,000 operations is fine), sorted by position, and visited in reverse. When a node is visited
every operation that used its output has been, so its gradient is complete. What a node kept is
dropped as soon as it has been read.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from . import ops, versions
from .errors import DTypeError, GradientError, ShapeError, describe
from .memory import kept
from .tape import Node, check_finite, state
from .tensors import Tensor, as_tensor, in_place_of, wrap

Array = np.ndarray
Target = Node | Tensor  # where a gradient arrives: the node that made a value, or a leaf


class Partial:
    """A gradient of a part of something, which is added to the gradient of the whole."""

    __slots__ = ()
    g: Any

    def add_to(self, total: Any) -> Any:
        """The whole with the part added, in place; None stands for nothing so far."""
        raise NotImplementedError


class _Slice(Partial):
    """The gradient of x[index]: zero outside the index. Added in place, so that reading T steps out
    of a sequence one by one costs T slices and not T whole sequences.
    """

    __slots__ = ("g", "index", "shape")

    def __init__(self, g: Any, index: Any, shape: tuple[int, ...]):
        self.g, self.index, self.shape = g, index, shape

    def add_to(self, total: Any) -> Any:
        if state.jit is not None:
            return state.jit.added_at(total, self.index, self.g, self.shape)
        if total is None:
            total = np.zeros(self.shape, self.g.dtype)
        ops.index.add_at(total, self.index, self.g)
        return total


def run(
    output: Tensor, grad: Any, *, retain_graph: bool = False, create_graph: bool = False
) -> None:
    """Accumulates gradients into the leaves' `.grad`. See Tensor.backward."""
    seed = cotangent("backward", output, grad, create_graph)
    walk([output], [seed], None, retain_graph=retain_graph, create_graph=create_graph)


def cotangent(where: str, output: Tensor, grad: Any, create_graph: bool) -> Any:
    """The gradient to start from: an array, or a Tensor if the backward pass is recorded."""
    if not isinstance(output, Tensor) or not output.requires_grad:
        raise GradientError(
            f"{where}: the output does not depend on anything that requires a gradient; make an "
            f"input with requires_grad=True, and compute outside no_grad()."
        )
    if grad is None:
        if output._array.size != 1:
            raise GradientError(
                f"{where}: the output is {describe(output)}, and a gradient starts from one "
                f"number; reduce it first (for example .sum()), or pass a gradient of that shape."
            )
        ones = np.empty_like(output._array)
        ones.fill(1)
        value = as_tensor(ones)
    else:
        value = of_output(where, output, grad)
    return value if create_graph or state.jit is not None else kept(value)


def of_output(where: str, output: Tensor, grad: Any) -> Tensor:
    """`grad` as a gradient of the output, in its dtype. Raises ShapeError and DTypeError."""
    value = as_tensor(grad)
    if value.shape != output.shape:
        raise ShapeError(
            f"{where}: the gradient passed in is {describe(value)}, the output {describe(output)}; "
            f"expected one shape."
        )
    if value.dtype.kind != "f":
        raise DTypeError(f"{where}: the gradient passed in is {describe(value)}; expected floats.")
    if value.dtype != output.dtype:
        value = ops.astype(value, output.dtype)
    return value


def walk(
    outputs: Sequence[Tensor],
    seeds: Sequence[Any],
    wanted: Sequence[Tensor] | None,
    *,
    retain_graph: bool,
    create_graph: bool,
    stop: bool = False,
) -> list[Any]:
    """Visits the record backwards from `outputs`.

    With wanted=None gradients go into `.grad` of the leaves; else those of `wanted` are returned
    (None where nothing arrived) and no `.grad` is touched. stop: nothing behind `wanted` is
    visited, and their hooks do not run: a part of a walk that goes on elsewhere.
    """
    # While mg.jit records a step, the pass runs on Tensors, too: so it sees every operation of it.
    on_tensors = create_graph or state.jit is not None
    before = state.switch(recording=create_graph)
    try:
        with np.errstate(all="ignore"):  # Inf and NaN are data here; detect_anomaly reports them
            return _walk(outputs, seeds, wanted, retain_graph, on_tensors, stop)
    finally:
        state.switch(**before)


def _walk(
    outputs: Sequence[Tensor],
    seeds: Sequence[Any],
    wanted: Sequence[Tensor] | None,
    retain_graph: bool,
    on_tensors: bool,
    stop: bool,
) -> list[Any]:
    targets = None if wanted is None else {id(_target(t)) for t in wanted}
    nodes, leaves = _collect(outputs, targets, stop)
    sums, add = Sums(), np.add
    owned = sums.owned
    for output, seed in zip(outputs, seeds, strict=True):
        sums.add(id(_target(output)), seed)
    found: dict[int, Any] = {}
    delivered = _Delivered(seeds)
    anomaly = state.anomaly
    while nodes:
        node = nodes.pop()
        g = sums.pop(id(node), None)
        if g is None:
            continue
        if stop and targets is not None and id(node) in targets:
            found[id(node)] = g.copy()
            continue
        if node.hooks is not None or node.retained or node.tape is not None:
            g = _show(node, g, targets is None)
        if targets is not None and id(node) in targets:
            found[id(node)] = delivered.own(g) if on_tensors else g.copy()
        if node._saved is None:
            _refuse_freed(node)
        if versions.latest > node.position:
            versions.check(node)
        inputs, plan = node.inputs, node.plan
        if plan.calls and not on_tensors:
            shape, shapes, dtype = node.shape, node.in_shapes, node.dtype
            for i, call in plan.calls:
                if call is not None:
                    gx = call(g, node._saved, node)
                    if type(gx) is not np.ndarray:
                        gx = np.asarray(gx)
                    if gx.dtype is not dtype or gx.shape != (shapes[i] if shapes else shape):
                        gx = _checked(node, i, gx)
                elif shapes and shapes[i] != shape:
                    gx = ops.sum_to(g, shapes[i])
                else:
                    gx = g
                if anomaly:
                    _check_pulled(node, g, i, gx)
                key = id(inputs[i])
                have = sums.get(key)
                if have is None:
                    sums[key] = gx
                elif key in owned and type(have) is np.ndarray:
                    add(have, gx, have)
                else:
                    sums.add(key, gx)
        else:
            if node.op.joins is not None and nodes and not state.recording:
                node.op.joins(node, g, nodes[-1], sums.get(id(nodes[-1])))
            for i, gx in _pull_recorded(node, g) if on_tensors else _pull(node, g):
                if anomaly:
                    _check_pulled(node, g, i, gx)
                sums.add(id(inputs[i]), gx)
        if not retain_graph:
            node._saved = None
            if node.tape is None:
                node.inputs = ()
    for leaf in leaves:
        if id(leaf) not in sums:
            continue
        g = sums.take(id(leaf))
        if leaf._hooks and not stop:
            g = _run_hooks(leaf._hooks, g)
        if isinstance(g, Tensor):
            g = delivered.own(g)
        if targets is None:
            _accumulate(leaf, g, on_tensors)
        elif id(leaf) in targets:
            found[id(leaf)] = g
    if wanted is None:
        return []
    results: list[Any] = []
    keys = [id(_target(t)) for t in wanted]
    for i, key in enumerate(keys):  # what is asked for twice is given twice
        g = found.get(key)
        results.append(_copied(g) if g is not None and key in keys[:i] else g)
    return results


def _target(t: Tensor) -> Target:
    return t if t._node is None else t._node


def _collect(
    outputs: Iterable[Tensor], targets: set[int] | None, stop: bool
) -> tuple[list[Node], list[Tensor]]:
    """The nodes that the gradient has to pass, by position, first to last; and the leaves."""
    seen: set[int] = set()
    nodes: list[Node] = []
    leaves: list[Tensor] = []
    stack: list[Any] = [_target(t) for t in outputs]
    while stack:
        target = stack.pop()
        key = id(target)
        if key in seen:
            continue
        seen.add(key)
        if type(target) is not Node:
            leaves.append(target)
            continue
        nodes.append(target)
        inputs = () if stop and targets is not None and key in targets else target.inputs
        if inputs:  # none: freed, which is reported when the walk comes to it
            for i in target.plan.needs:
                stack.append(inputs[i])
    nodes.sort(key=attrgetter("position"))
    if targets is not None:
        useful = set(targets)
        for node in nodes:
            freed = node._saved is None  # reported when the walk comes to it
            if freed or any(id(node.inputs[i]) in useful for i in node.plan.needs):
                useful.add(id(node))
        nodes = [n for n in nodes if id(n) in useful]
    return nodes, leaves


class Sums(dict):
    """Gradients on their way: id of a target -> what has arrived so far.

    The first array to arrive may belong to somebody else (y = a + b hands one array to both), so
    the second makes a new one, and from the third on they are added into that in place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.owned: set[int] = set()

    def add(self, key: int, g: Any) -> None:
        have = self.get(key)
        if isinstance(g, Partial):
            if have is not None and key not in self.owned:
                have = have.copy()
            self[key] = g.add_to(have)
            self.owned.add(key)
        elif have is None:
            self[key] = g
        elif key in self.owned and type(have) is np.ndarray:
            np.add(have, g, have)
        else:
            self[key] = have + g if isinstance(have, Tensor) else np.asarray(have + g)
            self.owned.add(key)

    def take(self, key: int) -> Any:
        """What arrived, as an array that nobody else holds."""
        g = self.pop(key)
        return g if key in self.owned or isinstance(g, Tensor) else np.array(g)


def _pull(node: Node, g: Array, only: Collection[int] | None = None) -> list[tuple[int, Any]]:
    """(input, its gradient) for each input that needs one, on arrays. only: of these inputs, where
    each is computed by itself.
    """
    if node.op.kind == "scan":
        return node.op.pull(node, g, recorded=False)
    if node.op is ops.getitem:
        return [(0, _Slice(g, node.params["index"], node.input_shape(0)))]
    return _call_rules(node, g, node._saved or (), only)


def _check_pulled(node: Node, g: Any, i: int, gx: Any) -> None:
    """Raises NumericalError if the gradient of input i is not finite (detect_anomaly)."""
    came = list(g.values()) if isinstance(g, dict) else [g]
    read = [("the gradient that arrived", getattr(a, "_array", a)) for a in came]
    read += [
        ("the output y" if name == "y" else f"the input {name!r}", a)
        for name, a in zip(node.plan.names, node.saved or (), strict=False)
    ]
    values = gx.g if isinstance(gx, Partial) else gx
    where = f"{node.where()} (gradient of input {i})"
    check_finite(getattr(values, "_array", values), where, "the backward pass", read)


def _pull_recorded(node: Node, g: Tensor) -> list[tuple[int, Any]]:
    """The same on Tensors: the rules are expressions of ops, so calling them records them."""
    if node.op.kind == "scan":
        if state.jit is not None and not state.recording:
            return state.jit.pulled(node, g)
        return node.op.pull(node, g, recorded=True)
    if node.op is ops.getitem and state.jit is not None and not state.recording:
        return [(0, _Slice(g, node.params["index"], node.input_shape(0)))]
    plan = node.plan
    saved: list[Tensor] = []
    for position, array in zip(plan.saves, node._saved or (), strict=True):
        source = node if position < 0 else node.inputs[position]
        if isinstance(source, Tensor):  # a leaf, which may have other values by now
            saved.append(source if source._array is array else in_place_of(source, array))
        elif isinstance(source, Node):
            saved.append(wrap(array, source, bool(source.plan.needs)))
        else:
            saved.append(wrap(array, None, False))
    return _call_rules(node, g, saved)


def _call_rules(
    node: Node, g: Any, saved: Sequence[Any], only: Collection[int] | None = None
) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    if state.jit is not None:
        node = state.jit.as_rules_see(node)
    for p in node.plan.pullbacks:
        assert p.call is not None
        if only is not None and p.input not in only and not node.op.variadic:
            continue
        gx = p.call(g, saved, node)
        if not node.op.variadic:
            found.append((p.input, _checked(node, p.input, gx)))
            continue
        if len(gx) != len(node.inputs):
            raise ShapeError(
                f"{node.where()}: its rule returned {len(gx)} gradients for "
                f"{len(node.inputs)} inputs."
            )
        found.extend((i, _checked(node, i, gx[i])) for i in node.plan.needs)
    return found


def _checked(node: Node, i: int, gx: Any) -> Any:
    """What a rule returned for input i; of an elementwise one, summed where it was broadcast."""
    if not isinstance(gx, Tensor) and type(gx) is not np.ndarray:
        gx = np.asarray(gx)
    dtype, shape = node.inputs[i].dtype, node.input_shape(i)
    if node.op.kind == "elementwise" and gx.shape != shape:
        gx = ops.sum_to(gx, shape)
    if gx.dtype is dtype and gx.shape == shape:
        return gx
    name = node.op.inputs[0 if node.op.variadic else i]
    return fitted(f"{node.where()}: its rule vjp({name!r})", gx, shape, dtype)


def fitted(who: str, g: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """g, an array or a Tensor, as the gradient of a tensor of that shape and dtype.

    The rule for whatever comes from outside: a gradient has the shape of its tensor, and comes in
    the tensor's own dtype; other floats are cast. Raises ShapeError and DTypeError.
    """
    if g.shape != shape:
        raise ShapeError(
            f"{who}: returned {describe(g)} for a gradient of {dtype}{list(shape)}; "
            f"a gradient has the shape of its tensor."
        )
    if g.dtype.kind != "f":
        raise DTypeError(
            f"{who}: returned {describe(g)} for a gradient of {dtype}{list(shape)}; "
            f"expected floats."
        )
    return g if g.dtype == dtype else ops.astype(g, dtype)


def _copied(g: Any) -> Any:
    """The same gradient in memory of its own; a recorded one stays recorded."""
    return g * 1.0 if isinstance(g, Tensor) else g.copy()


class _Delivered:
    """Who already has memory of a recorded gradient: y = a + b hands one Tensor to both."""

    def __init__(self, seeds: Sequence[Any]):
        self._owners = {id(versions.owner(g._array)) for g in seeds if isinstance(g, Tensor)}

    def own(self, g: Tensor) -> Tensor:
        """g, or a copy if it is somebody else's already, or not to be written to."""
        owner = versions.owner(g._array)
        if id(owner) in self._owners or not g._array.flags.writeable:
            return g * 1.0
        self._owners.add(id(owner))
        return g


def _show(node: Node, g: Any, backward: bool) -> Any:
    """Lets hooks, retain_grad and the Tape see a complete gradient; hooks may replace it."""
    if node.hooks:
        g = _run_hooks(node.hooks, g)
    if node.retained and backward:  # after the hooks: what flows on; mg.grad touches no .grad
        for kept in node.retained:
            tensor = kept()
            if tensor is not None:
                _accumulate(tensor, _copied(g), isinstance(g, Tensor))
    if node.tape is not None and not isinstance(g, dict):
        node.tape.saw_gradient(node, g._array if isinstance(g, Tensor) else g)
    return g


class Look:
    """A hook of our own that reads a gradient, copies what it wants of it, and replaces nothing:
    t.register_hook(Look(f)) calls f(array), read-only, with the very array that backward goes on
    with. Hooks of others are given a copy.
    """

    __slots__ = ("see",)

    def __init__(self, see: Callable[[Array], None]):
        self.see = see

    def __call__(self, g: Tensor) -> None:
        seen = g._array.view()
        seen.flags.writeable = False
        self.see(seen)


def _run_hooks(hooks: list[Any], g: Any) -> Any:
    """What the hooks make of g. They get a copy of their own, and may keep it and write into it;
    those that only look share what is there.
    """
    if state.jit is not None:
        state.jit.refuse("a hook on a gradient: leave mg.jit off while you look inside")
    recorded = isinstance(g, Tensor)
    value: Tensor | None = None
    for hook in list(hooks):
        if type(hook) is Look:
            now = g if value is None else value
            hook(now if isinstance(now, Tensor) else wrap(now, None, False))
            continue
        if value is None:
            value = _copied(g) if recorded else wrap(g.copy(), None, False)
        before = value._array.copy() if recorded else None
        replaced = hook(value)
        if before is not None and not np.array_equal(value._array, before, equal_nan=True):
            raise GradientError(
                "hook: wrote into a gradient that is being recorded (create_graph=True), where "
                "the write would be lost; return the new gradient instead."
            )
        if replaced is not None:
            value = fitted("hook", as_tensor(replaced), value.shape, value.dtype)
    if value is None:
        return g
    return value if recorded else value._array.copy()


_accumulating = threading.RLock()  # threads may share a parameter; each adds to its .grad


def _after_fork() -> None:
    global _accumulating
    _accumulating = threading.RLock()  # a thread that the child does not have may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _accumulate(leaf: Tensor, g: Any, on_tensors: bool) -> None:
    with _accumulating:
        have = leaf.grad
        if have is None:
            leaf._grad = g if isinstance(g, Tensor) else wrap(g, None, False)
        elif on_tensors or have.requires_grad:
            leaf._grad = have + g
        else:
            leaf._grad = wrap(np.asarray(have._array + g), None, False)


def _refuse_freed(node: Node) -> None:
    raise GradientError(
        f"backward: a second time through {node.where()}, but what it kept was freed by the "
        f"first. Call backward(retain_graph=True) the first time, add the losses and call it once, "
        f"or (truncated BPTT) detach() the state that is carried from one window to the next."
    )
