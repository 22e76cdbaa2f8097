"""A recorded scan, run again step by step: gradients as whole arrays, by step, by lag.

While a net trains, a recording keeps norms, and references to what the scan read. What needs more
is computed when it is asked for: the cell runs again, eagerly, from the same weights (a copy, taken
when they were read), the same states, and the gradients that came in from outside,

    dL/dS_{t-1} = (dS_t/dS_{t-1})^T dL/dS_t + ...       dL/dW = sum_t (dS_t/dW)^T dL/dS_t

with S the state. One step at a time this gives every tapped value's gradient, dL/dx_t, and the term
of each t in the sum. A term can be split once more, by the lag between the use of the weight and
the output whose loss it serves: the gradient from each output travels back on its own, and as
everything is linear, all outputs travel at once, as rows of one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..backward import walk
from ..compile.outer import closed_over
from ..compile.result import Call
from ..compile.scan import scan, unpadded
from ..errors import MinigradError, ShapeError, TraceError
from ..tape import Node, no_grad, tick
from ..tape import state as switches
from ..tensor import Tensor, wrap
from ..tree import leaves, map_leaves, named_leaves, rebuild
from .taps import row_norms

Array = np.ndarray


class FlowError(MinigradError, RuntimeError):
    """A recording that has nothing to show, and why."""


@dataclass
class WeightFlow:
    """The gradient of one weight, taken apart; arrays of norms (Euclidean, over the whole weight).

    by_step: (T,), entry k is |the term of step k|, in order of computation. by_lag: (T,), entry k
    is |the part that travelled k steps|: from the use of the weight to an output that the loss
    reads. total: the whole gradient, the sum of the terms of either kind.
    """

    by_step: Array
    by_lag: Array
    total: Array


@dataclass
class Detail:
    """What one pass back found, in order of computation.

    gradients: name -> dL/d(tapped value), (T, B, n). inputs: leaf of xs -> dL/dx, (T, B, ...).
    weights: name -> the term of each step, (T, *shape), or its norms, (T,).
    """

    gradients: dict[str, Array] = field(default_factory=dict)
    inputs: dict[str, Array] = field(default_factory=dict)
    norms: dict[str, Array] = field(default_factory=dict)
    totals: dict[str, Array] = field(default_factory=dict)


class Replay:
    """A scan that ran inside record(), and what came back to its results."""

    def __init__(self, call: Call):
        self.cell, self.reverse = call.cell, call.reverse
        self.init = map_leaves(_apart, call.init)
        self.xs = map_leaves(_apart, call.xs)
        self.weights = [(w, w._data.copy()) for w in call.weights]
        self.steps, self.rows = leaves(call.xs)[0].shape[:2]
        # the step of the computation after which a row's state is its final one
        self.ends = np.full(self.rows, self.steps) - 1
        if self.padded and not call.reverse:
            self.ends = call.xs[1]._data.sum(axis=0) - 1
        self.final_gradients: dict[int, Array] = {}
        self.y_gradients: dict[int, Array] = {}
        for outputs, found in (
            (call.final, self.final_gradients),
            (call.ys, self.y_gradients),
        ):
            for k, t in enumerate(leaves(outputs)):
                if t.requires_grad:
                    t.register_hook(_keeper(found, k))

    @property
    def padded(self) -> bool:
        return unpadded(self.cell) is not None

    @property
    def own_cell(self) -> Any:
        """The cell itself, without what passes over the padding."""
        return unpadded(self.cell) or self.cell

    def own_input(self, x: Any) -> Any:
        """The part of a step's input that came from outside: no mask of padding, no drawn masks."""
        x = x[0] if self.padded else x
        drawn = getattr(self.own_cell, "draw", None) is not None and isinstance(x, tuple)
        return x[0] if drawn else x

    @property
    def arrived(self) -> bool:
        return bool(self.final_gradients or self.y_gradients)

    # -- forward

    @contextmanager
    def restored(self) -> Iterator[None]:
        """The weights are what they were when the scan ran; nobody listens to taps."""
        now = [w._data for w, _ in self.weights]
        listeners, switches.listeners = switches.listeners, ()
        tape = switches.switch(tape=None, anomaly=False)
        for w, then in self.weights:
            w._data = then
        try:
            yield
        finally:
            for (w, _), array in zip(self.weights, now, strict=True):
                w._data = array
            switches.listeners = listeners
            switches.switch(**tape)

    @cached_property
    def order(self) -> list[int]:
        steps = range(self.steps)
        return list(reversed(steps) if self.reverse else steps)

    @cached_property
    def states(self) -> list[Any]:
        """The state before each step, in order of computation, and the last one."""
        found = [self.init]
        with self.restored(), no_grad():
            for t in self.order:
                found.append(self.cell(found[-1], map_leaves(lambda x, t=t: x[t], self.xs))[0])
        return found

    def state_leaves(self, k: int) -> list[Array]:
        """The parts of the state before step k, (B, ...)."""
        return [t._data for t in leaves(self.states[k])]

    def jacobian(self, k: int, row: int = 0) -> Array:
        """dS_k/dS_{k-1} of one row, (n, n), rows are outputs: the state's parts one after another.

        One vjp of the step, with a row of the identity as the cotangent of each of n equal rows.
        """
        parts = [s[row] for s in self.state_leaves(k)]
        n = sum(s.size for s in parts)
        t = self.order[k]
        state = rebuild(self.init, [_leaf(np.repeat(s[None], n, axis=0)) for s in parts])
        x = map_leaves(lambda x: _leaf(np.repeat(x._data[t, row][None], n, axis=0)), self.xs)
        eye = np.split(np.eye(n), np.cumsum([s.size for s in parts])[:-1], axis=1)
        with self.restored():
            step = _Step(self.cell, state, x)
            found = step.back([e.reshape(n, *s.shape) for e, s in zip(eye, parts, strict=True)])
        return np.hstack([
            np.zeros((n, s.size)) if g is None else np.asarray(g, np.float64).reshape(n, s.size)
            for g, s in zip(found, parts, strict=True)
        ])  # fmt: skip

    # -- back, step by step

    @cached_property
    def detail(self) -> Detail:
        """Gradients of all taps and inputs, and the norms of the weights' terms."""
        return self.back()

    def terms(self) -> dict[str, Array]:
        """name -> dL/dW of each step by itself, (T, *shape), in order of computation."""
        terms: dict[str, list[Array]] = {}

        def keep(name: str, k: int, g: Array) -> None:
            terms.setdefault(name, [np.zeros_like(g)] * self.steps)[k] = g

        self.back(keep)
        return {name: np.stack(series) for name, series in terms.items()}

    def back(self, keep: Callable[[str, int, Array], None] | None = None) -> Detail:
        """One pass back; keep(name, k, g) is told the term of a weight at each step."""
        self._check()
        found, names = Detail(), _Names(self.weights)
        carried: list[Any] = [self.final_gradients.get(k) for k in range(len(leaves(self.init)))]
        with self.restored():
            for k in reversed(range(self.steps)):
                t = self.order[k]
                seeds = [*carried, *self._ys_at(t)]
                step = _Step(self.cell, self.states[k], map_leaves(lambda x, t=t: x[t], self.xs))
                carried = step.back(seeds)
                for name, g in step.taps.items():
                    _put(found.gradients, name, self.steps, k, g)
                for name, g in step.inputs(self.own_input(step.x)).items():
                    _put(found.inputs, name, self.steps, k, g)
                for target, g in step.outer():
                    name = names.of(target)
                    found.totals[name] = found.totals[name] + g if name in found.totals else g
                    _put(found.norms, name, self.steps, k, np.asarray(norm(g)))
                    if keep:
                        keep(name, k, g)
        return found

    # -- back, from where the loss is nearest

    @cached_property
    def entries(self) -> Array:
        """Where a gradient came in from outside: (T, B) of bool, in order of computation."""
        found = np.zeros((self.steps, self.rows), dtype=bool)
        for g in self.y_gradients.values():
            found |= (g[self.order] != 0).reshape(self.steps, self.rows, -1).any(axis=2)
        for g in self.final_gradients.values():
            found[self.ends, np.arange(self.rows)] |= (g != 0).reshape(self.rows, -1).any(axis=1)
        return found & self.xs[1]._data[self.order] if self.padded else found

    def alone(self, names: Sequence[str]) -> dict[str, Array]:
        """name -> |dL/d(state_t)| (T, B), if the loss read nothing but the last output it reads.

        Where a loss reads many steps, what arrives at h_t is the sum of all that comes from t and
        later, and hides whether any of it has come far. One scan more tells: with nothing but the
        gradient that came in last.
        """
        k = self.steps - 1 - np.argmax(self.entries[::-1], axis=0)
        t, row = np.array(self.order)[k], np.arange(self.rows)
        last = k == self.ends
        with self.restored():
            before = switches.switch(recording=True)
            try:
                result = self._scanned(names)
            finally:
                switches.switch(**before)
            outputs, seeds = [], []
            for j, part in enumerate(leaves(result.final)):
                if j in self.final_gradients and part.requires_grad:
                    g = self.final_gradients[j]
                    outputs.append(part)
                    seeds.append(np.where(last.reshape(-1, *(1,) * (g.ndim - 1)), g, 0))
            for j, part in enumerate(leaves(result.ys)):
                if j in self.y_gradients and part.requires_grad:
                    seed = np.zeros(part.shape, part.dtype)
                    seed[t, row] = self.y_gradients[j][t, row]
                    outputs.append(part)
                    seeds.append(seed)
            wanted = [w for w, _ in self.weights]
            walk(outputs, seeds, wanted, retain_graph=False, create_graph=False)
        gradients = result.record.gradients if result.record else {}
        return {
            name: np.asarray(gradients[name], np.float64)[self.order]
            for name in names
            if name in gradients
        }

    def _scanned(self, names: Sequence[str]) -> Any:
        try:
            return scan(self.cell, self.init, self.xs, None, self.reverse, record=names)
        except TraceError:  # it ran on the tape
            return scan(self.cell, self.init, self.xs, None, self.reverse, "tape", record=names)

    # -- back, all outputs at once

    def by_lag(self, keep: Callable[[str, int, Array], None]) -> None:
        """keep(name, lag, g): the part of dL/dW that travelled `lag` steps, for every lag.

        At lag 0 the gradient comes straight from the outputs of the step (and from the final state,
        at a row's last step); each further lag is one step back, for all steps side by side.
        """
        try:
            self._by_lag(keep)
        except ShapeError as error:
            raise FlowError(
                f"weights by lag: all steps run as the rows of one batch, which this cell cannot: "
                f"{error} Its terms by step (`terms()`) do not need that."
            ) from None

    def _by_lag(self, keep: Callable[[str, int, Array], None]) -> None:
        self._check()
        rows = self.rows
        names = _Names(self.weights)
        states = [leaves(s) for s in self.states[:-1]]
        n = len(states[0])
        before = [np.concatenate([s[j]._data for s in states]) for j in range(n)]
        inputs = [x._data[self.order].reshape(-1, *x.shape[2:]) for x in leaves(self.xs)]
        last = [self.final_gradients.get(j) for j in range(n)]
        carried: list[Any] = [self._at_ends(g) for g in last]
        ys = leaves(self._outputs_at(0))
        arrived: list[Any] = [
            g[self.order].reshape(-1, *g.shape[2:])
            if (g := self.y_gradients.get(j)) is not None else None
            for j in range(len(ys))
        ]  # fmt: skip
        with self.restored():
            for lag in range(self.steps):
                if all(g is None or not np.any(g) for g in (*carried, *arrived)):
                    return
                alive = (self.steps - lag) * rows
                state = rebuild(self.init, [_leaf(s[:alive]) for s in before])
                step = _Step(self.cell, state, rebuild(self.xs, [_leaf(x[:alive]) for x in inputs]))
                back = step.back([*carried, *arrived])
                for target, g in step.outer():
                    keep(names.of(target), lag, g)
                # what reached the state before step k now leaves step k - 1
                carried = [None if g is None else g[rows:] for g in back]
                arrived = [None] * len(ys)

    def parts(self) -> dict[str, Array]:
        """name -> the part of dL/dW of each lag, (T, *shape)."""
        parts: dict[str, list[Array]] = {}

        def keep(name: str, lag: int, g: Array) -> None:
            parts.setdefault(name, [np.zeros_like(g)] * self.steps)[lag] = g

        self.by_lag(keep)
        return {name: np.stack(series) for name, series in parts.items()}

    def weight_flows(self) -> dict[str, WeightFlow]:
        """name -> the norms of the terms of both kinds."""
        lags: dict[str, Array] = {}

        def keep(name: str, lag: int, g: Array) -> None:
            lags.setdefault(name, np.zeros(self.steps))[lag] = norm(g)

        self.by_lag(keep)
        found = self.detail
        none = np.zeros(self.steps)
        return {
            name: WeightFlow(found.norms[name], lags.get(name, none), total)
            for name, total in sorted(found.totals.items())
        }

    def _check(self) -> None:
        if not self.arrived:
            raise FlowError(
                "record: no gradient arrived at the layer's outputs yet; call backward() first."
            )

    def _at_ends(self, g: Array | None) -> Array | None:
        """The gradient of the final state at the rows' last steps, (T * B, ...), zero elsewhere."""
        if g is None:
            return None
        wide = np.zeros((self.steps, *g.shape), g.dtype)
        wide[self.ends, np.arange(self.rows)] = g
        return wide.reshape(-1, *g.shape[1:])

    def _outputs_at(self, k: int) -> Any:
        with self.restored(), no_grad():
            x = map_leaves(lambda x: x[self.order[k]], self.xs)
            return self.cell(self.states[k], x)[1]

    def _ys_at(self, t: int) -> list[Any]:
        n = max(self.y_gradients, default=-1) + 1
        return [self.y_gradients[j][t] if j in self.y_gradients else None for j in range(n)]


class _Step:
    """One step of a cell on leaves of its own, with a gradient for everything it reads."""

    def __init__(self, cell: Any, state: Any, x: Any):
        began = tick()
        self.state = map_leaves(_leaf_of, state)
        self.x = map_leaves(_leaf_of, x)
        self._tapped: dict[str, Tensor] = {}
        self.taps: dict[str, Array] = {}
        before = switches.switch(recording=True)
        switches.listeners = (self._hear,)
        try:
            new, y = cell(self.state, self.x)
        finally:
            switches.listeners = ()
            switches.switch(**before)
        self.outputs = [*leaves(new), *leaves(y)]
        self.own = [t for t in (*leaves(self.state), *leaves(self.x)) if t.requires_grad]
        self.targets = closed_over(self.outputs, {id(t) for t in self.own}, began)
        self._found: dict[int, Any] = {}

    def _hear(self, name: str, tensor: Tensor, scope: str) -> None:
        self._tapped[name] = tensor
        self.taps[name] = np.zeros_like(tensor._data)
        if tensor.requires_grad and tensor._node is not None:
            tensor.register_hook(lambda g: self.taps.__setitem__(name, g.numpy()))

    def back(self, seeds: list[Any]) -> list[Any]:
        """Gradients of the state before the step; seeds are those of the state after, and of y."""
        pairs = [
            (t, np.asarray(g, t.dtype))
            for t, g in zip(self.outputs, seeds, strict=False)
            if g is not None and t.requires_grad
        ]
        if pairs:
            outer = [t if isinstance(t, Tensor) else wrap(_EMPTY, t, True) for t in self.targets]
            outputs, given = zip(*pairs, strict=True)
            found = walk(
                list(outputs), list(given), [*self.own, *outer],
                retain_graph=False, create_graph=False, stop=True,
            )  # fmt: skip
            wanted = [*self.own, *self.targets]
            self._found = {id(t): g for t, g in zip(wanted, found, strict=True)}
        for name, t in self._tapped.items():
            if id(t) in self._found and self._found[id(t)] is not None:
                self.taps[name] = self._found[id(t)]
        return [self._found.get(id(t)) for t in leaves(self.state)]

    def inputs(self, own: Any) -> dict[str, Array]:
        """Leaf of `own`, a part of x -> its gradient."""
        return {
            name: np.zeros_like(t._data) if (g := self._found.get(id(t))) is None else g
            for name, t in named_leaves(own)
            if t.requires_grad
        }

    def outer(self) -> Iterator[tuple[Node | Tensor, Array]]:
        for t in self.targets:
            g = self._found.get(id(t))
            if g is not None:
                yield t, g


class _Names:
    """What weights are called: their own name, or weight0, weight1, ... in order of appearance."""

    def __init__(self, weights: list[tuple[Tensor, Array]]):
        self.names: dict[int, str] = {}
        for w, _ in weights:
            self.of(w)

    def of(self, target: Node | Tensor) -> str:
        if id(target) not in self.names:
            named = getattr(target, "name", "") or f"weight{len(self.names)}"
            taken = self.names.values()
            self.names[id(target)] = named if named not in taken else f"{named}.{len(self.names)}"
        return self.names[id(target)]


_EMPTY = np.zeros(())


def norm(g: Array) -> float:
    """Euclidean norm of a whole array; neither underflows nor overflows on the way."""
    return float(row_norms(np.ravel(g)[None])[0])


def _apart(t: Tensor) -> Tensor:
    return wrap(t._data, None, False)


def _leaf(array: Array) -> Tensor:
    return wrap(np.ascontiguousarray(array), None, array.dtype.kind == "f")


def _leaf_of(t: Any) -> Tensor:
    return _leaf(t._data)


def _keeper(found: dict[int, Array], k: int) -> Callable[[Tensor], None]:
    def arrived(g: Tensor) -> None:
        found[k] = g.numpy()

    return arrived


def _put(found: dict[str, Array], name: str, steps: int, k: int, g: Array) -> None:
    if name not in found:
        found[name] = np.zeros((steps, *g.shape), g.dtype if g.ndim else np.float64)
    if found[name].shape[1:] == g.shape:
        found[name][k] = g
