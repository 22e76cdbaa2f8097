"""The backward pass: one walk over the record, from the last operation to the first.

The nodes that lead to what is wanted are collected with a stack (no recursion, so a chain of 100,000 operations
is fine), sorted by position, and visited in reverse. When a node is visited every operation that used its
output has been, so its gradient is complete. What a node kept is dropped as soon as it has been read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from . import ops, versions
from .errors import DTypeError, GradientError, ShapeError, describe
from .op import Elementwise
from .tape import Node, check_finite, state
from .tensor import Tensor, as_tensor, wrap

Array = np.ndarray
Target = Node | Tensor  # where a gradient arrives: the node that made a value, or a leaf


class _Slice:
    """The gradient of x[index]: zero outside the index. Added in place, so that reading T steps out
    of a sequence one by one costs T slices and not T whole sequences."""

    __slots__ = ("g", "index", "shape")

    def __init__(self, g: Array, index: Any, shape: tuple[int, ...]):
        self.g, self.index, self.shape = g, index, shape

    def add_to(self, total: Array | None) -> Array:
        if total is None:
            total = np.zeros(self.shape, self.g.dtype)
        ops.index.add_at(total, self.index, self.g)
        return total


class _Gradients:
    """Gradients on their way, by target. Sums are made in place in arrays that nobody else holds."""

    def __init__(self) -> None:
        self._of: dict[int, Any] = {}
        self._owned: set[int] = set()

    def add(self, target: Target, g: Any, fresh: bool) -> None:
        key = id(target)
        have = self._of.get(key)
        if type(g) is _Slice:
            if have is not None and key not in self._owned:
                have = have.copy()
            self._of[key] = g.add_to(have)
            self._owned.add(key)
        elif have is None:
            self._of[key] = g
            if fresh:
                self._owned.add(key)
        elif key in self._owned and type(have) is np.ndarray:
            np.add(have, g, out=have)
        else:
            self._of[key] = have + g
            self._owned.add(key)

    def pop(self, target: Target) -> tuple[Any, bool]:
        """The gradient that arrived (or None), and whether it is in an array of its own."""
        key = id(target)
        owned = key in self._owned
        self._owned.discard(key)
        return self._of.pop(key, None), owned


def run(
    output: Tensor, grad: Any, *, retain_graph: bool = False, create_graph: bool = False
) -> None:
    """Accumulates gradients into the leaves' `.grad`. See Tensor.backward."""
    seed = cotangent("backward", output, grad, create_graph)
    if output._node is None:
        _accumulate(output, seed, create_graph)
        return
    walk([output], [seed], None, retain_graph=retain_graph, create_graph=create_graph)


def cotangent(where: str, output: Tensor, grad: Any, create_graph: bool) -> Any:
    """The gradient to start from: an array, or a Tensor if the backward pass is recorded."""
    if not isinstance(output, Tensor) or not output.requires_grad:
        raise GradientError(
            f"{where}: the output does not depend on anything that requires a gradient; make an input with "
            f"requires_grad=True, and compute outside no_grad()."
        )
    if grad is None:
        if output.size != 1:
            raise GradientError(
                f"{where}: the output is {describe(output)}, and a gradient starts from one number; "
                f"reduce it first (for example .sum()), or pass a gradient of that shape."
            )
        grad = np.ones(output.shape, output.dtype)
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
    return value if create_graph else value._data


def walk(
    outputs: Sequence[Tensor],
    seeds: Sequence[Any],
    wanted: Sequence[Tensor] | None,
    *,
    retain_graph: bool,
    create_graph: bool,
) -> list[Any]:
    """Visits the record backwards from `outputs`.

    With wanted=None gradients go into `.grad` of the leaves; else those of `wanted` are returned
    (None where nothing arrived) and no `.grad` is touched.
    """
    targets = None if wanted is None else {id(_target(t)) for t in wanted}
    nodes = _collect([t._node for t in outputs if t._node is not None], targets)
    gradients = _Gradients()
    for output, seed in zip(outputs, seeds, strict=True):
        gradients.add(_target(output), seed, fresh=False)
    leaves: dict[int, Tensor] = {}
    found: dict[int, Any] = {}
    outer = state.recording
    state.recording = create_graph
    try:
        while nodes:
            node = nodes.pop()
            g, _ = gradients.pop(node)
            if g is None:
                continue
            if node.hooks or node.tape is not None:
                g = _show(node, g)
            if targets is not None and id(node) in targets:
                found[id(node)] = g
            if node.saved is None:
                _refuse_freed(node)
            versions.check(node)
            pulled = _pull_recorded(node, g) if create_graph else _pull(node, g)
            for i, gx, fresh in pulled:
                target = node.inputs[i]
                gradients.add(target, gx, fresh)
                if isinstance(target, Tensor):
                    leaves[id(target)] = target
            if not retain_graph:
                node.free()
        for leaf in leaves.values():
            g, owned = gradients.pop(leaf)
            if leaf._hooks:
                g = _run_hooks(leaf._hooks, g)
            if targets is None:
                _accumulate(leaf, g if owned else _own(g), create_graph)
            elif id(leaf) in targets:
                found[id(leaf)] = g if owned else _own(g)
    finally:
        state.recording = outer
    if wanted is None:
        return []
    for t in outputs:  # a wanted output that is itself a leaf
        if t._node is None and id(t) in (targets or ()) and id(t) not in found:
            found[id(t)] = gradients.pop(t)[0]
    return [found.get(id(_target(t))) for t in wanted]


def _target(t: Tensor) -> Target:
    return t if t._node is None else t._node


def _collect(starts: Iterable[Node], targets: set[int] | None) -> list[Node]:
    """The nodes that the gradient has to pass, by position, first to last."""
    seen: dict[int, Node] = {}
    stack = list(starts)
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen[id(node)] = node
        mask = node.mask
        for i, source in enumerate(node.inputs):
            if mask >> i & 1 and isinstance(source, Node):
                stack.append(source)
    nodes = sorted(seen.values(), key=_position)
    if targets is None:
        return nodes
    useful: set[int] = set(targets)
    for node in nodes:
        if any(node.mask >> i & 1 and id(s) in useful for i, s in enumerate(node.inputs)):
            useful.add(id(node))
    return [n for n in nodes if id(n) in useful]


def _position(node: Node) -> int:
    return node.position


def _pull(node: Node, g: Array) -> list[tuple[int, Any, bool]]:
    """(input, gradient, is it in an array of its own) for each input that needs one, on arrays."""
    op, saved = node.op, node.saved
    plan = op.plans[node.mask]
    out: list[tuple[int, Any, bool]] = []
    if isinstance(op, Elementwise):
        for p, rule in zip(plan.pullbacks, plan.fused, strict=True):
            gx = rule(g, saved)
            fresh = rule.source is not None
            if node.in_shapes is not None and gx.shape != node.in_shapes[p.index]:
                gx, fresh = ops.sum_to(gx, node.in_shapes[p.index]), True
            out.append((p.index, gx, fresh))
    elif op is ops.getitem:
        out.append((0, _Slice(g, node.params["index"], node.input_shape(0)), True))
    else:
        known = dict(zip(plan.names, saved or (), strict=True))
        out.extend((i, gx, False) for i, gx in _call_rules(node, plan.pullbacks, g, known))
        if op.kind == "matmul":
            out = [(i, gx, gx.base is None) for i, gx, _ in out]
    if state.anomaly:
        for i, gx, _ in out:
            values = gx.g if type(gx) is _Slice else gx
            check_finite(values, f"{node.where()} (gradient of input {i})", "the backward pass")
    return out


def _pull_recorded(node: Node, g: Tensor) -> list[tuple[int, Any, bool]]:
    """The same on Tensors: the rules are expressions of ops, so calling them records them."""
    plan = node.op.plans[node.mask]
    known = {}
    for name, position, array in zip(plan.names, plan.saves, node.saved or (), strict=True):
        if position < 0:
            known[name] = wrap(array, node, True)
        else:
            source = node.inputs[position]
            if isinstance(source, Tensor):
                known[name] = source
            elif isinstance(source, Node):
                known[name] = wrap(array, source, bool(node.mask >> position & 1))
            else:
                known[name] = wrap(array, None, False)
    out = []
    for i, gx in _call_rules(node, plan.pullbacks, g, known):
        if gx.shape != node.input_shape(i):
            gx = ops.sum_to(gx, node.input_shape(i))
        out.append((i, gx, False))
    return out


def _call_rules(
    node: Node, pullbacks: Iterable[Any], g: Any, known: dict[str, Any]
) -> list[tuple[int, Any]]:
    out = []
    for p in pullbacks:
        gx = p.fn(g, *[_fact(node, name, known) for name in p.names])
        if node.op.variadic:
            out.extend((i, each) for i, each in enumerate(gx) if node.mask >> i & 1)
        else:
            out.append((p.index, gx))
    return out


def _fact(node: Node, name: str, known: dict[str, Any]) -> Any:
    """What a rule asked for by name: saved data, a parameter, or an input's shape or dtype."""
    if name in known or name == "y" or name in node.op.inputs:
        return known.get(name)  # an elementwise rule may name what its formula does not use
    if name in node.params:
        return node.params[name]
    stem, _, what = name.rpartition("_")
    if node.op.variadic:
        return [node.input_shape(i) for i in range(len(node.inputs))]
    i = node.op.inputs.index(stem)
    return node.input_shape(i) if what == "shape" else node.inputs[i].dtype


def _show(node: Node, g: Any) -> Any:
    """Lets hooks and the Tape see a complete gradient; hooks may replace it."""
    if node.hooks:
        g = _run_hooks(node.hooks, g)
    if node.tape is not None:
        node.tape.saw_gradient(node, g._data if isinstance(g, Tensor) else g)
    return g


def _run_hooks(hooks: list[Any], g: Any) -> Any:
    recorded = isinstance(g, Tensor)
    value = g if recorded else wrap(g, None, False)
    for hook in list(hooks):
        replaced = hook(value)
        if replaced is not None:
            replaced = as_tensor(replaced)
            if replaced.shape != value.shape:
                raise ShapeError(
                    f"hook: returned {describe(replaced)} for a gradient of {describe(value)}."
                )
            value = replaced
    return value if recorded else value._data


def _own(g: Any) -> Any:
    return g if isinstance(g, Tensor) else np.array(g)


def _accumulate(leaf: Tensor, g: Any, create_graph: bool) -> None:
    value = g if isinstance(g, Tensor) else wrap(g, None, False)
    if leaf.grad is None:
        leaf.grad = value
    elif create_graph or leaf.grad.requires_grad:
        leaf.grad = leaf.grad + value
    else:
        leaf.grad = wrap(leaf.grad._data + value._data, None, False)


def _refuse_freed(node: Node) -> None:
    raise GradientError(
        f"backward: a second time through {node.where()}, but what it kept was freed by the first. Call "
        f"backward(retain_graph=True) the first time, add the losses and call it once, or (truncated "
        f"BPTT) detach() the state that is carried from one window to the next."
    )
