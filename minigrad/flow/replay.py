"""A recorded scan, run again step by step: gradients as whole arrays.

While a net trains, a recording keeps norms, and references to what the scan read. What needs more
is computed when it is asked for: the cell runs again, eagerly, from the same weights (a copy, taken
when they were read), the same states, and the gradients that came in from outside,

    dL/dS_{t-1} = (dS_t/dS_{t-1})^T dL/dS_t + ...

with S the state. One step at a time this gives every tapped value's gradient, dL/dx_t, and what the
step adds to dL/dW (weights.py sums and splits that).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..backward import walk
from ..compile.outer import Target, closed_over
from ..compile.padding import unpadded, unwrapped
from ..compile.result import Call
from ..compile.scanning import scan
from ..errors import MinigradError, TraceError
from ..listener import Listener
from ..norms import row_norms
from ..tape import no_grad, tick
from ..tape import state as switches
from ..tensors import Tensor, wrap
from ..tree import leaves, map_leaves, named_leaves, rebuild
from .copies import Copies
from .onestep import OneStep

Array = np.ndarray
_EMPTY = np.zeros(())


class FlowError(MinigradError, RuntimeError):
    """A recording that has nothing to show, and why."""


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


@dataclass
class Seeds:
    """Gradients that come to a scan's outputs: leaf number -> that of the final state, of ys.

    states: the part of those of ys that comes to a y as to a state, if it is one as it stands: from
    the loss at a row's last output and from later steps, not from a layer above at the same step.
    """

    final: dict[int, Array] = field(default_factory=dict)
    ys: dict[int, Array] = field(default_factory=dict)
    states: dict[int, Array] = field(default_factory=dict)

    def add(self, more: Seeds) -> None:
        """More gradients that come to the same outputs."""
        tables = self.final, self.ys, self.states
        for table, parts in zip(tables, (more.final, more.ys, more.states), strict=True):
            for j, g in parts.items():
                table[j] = table[j] + g if j in table else g


@dataclass
class Carried:
    """What a pass back brought to the states, by leaf number, in order of computation.

    norms: |gradient at the state that a step leaves, from later steps and what reads the final
    state| for each row, (T, B). init: the gradient at the first state. xs: (T, B, ...), in order of
    time. taps: name -> |dL/d(tapped value)|, (T, B). within: |gradient that comes to a tapped state
    inside of its step|, (T, B), to c_t by way of h_t; known by steps alone.
    """

    norms: dict[int, Array]
    init: dict[int, Array]
    xs: dict[int, Array]
    taps: dict[str, Array]
    within: dict[int, Array] = field(default_factory=dict)


class Heard(Listener):
    """What a scan tells, that runs again as it did inside record()."""

    whole_scans = True

    def __init__(self, states: tuple[str, ...]):
        self.states = states
        self.record: Any = None

    def sequence(
        self, path: str, order: range, record: Any, made_by: dict[str, str], wants: bool
    ) -> Callable[[], None]:
        self.record = record
        return lambda: None


class Replay:
    """A scan that ran inside record(), and what came back to its results."""

    def __init__(
        self,
        call: Call,
        copies: Copies | None = None,
        changed: Callable[[], None] | None = None,
        states: tuple[str, ...] = ("h", "c"),
    ):
        """copies: of weights, as they were when another scan ran; used again if still the same.
        changed: called when a gradient has arrived. states: the taps that the recording asks for.
        """
        self._states = states
        self._xs_wanted = [t.requires_grad for t in leaves(call.xs)]
        self.cell, self.reverse, self.truncate = call.cell, call.reverse, call.truncate
        self.init = map_leaves(_apart, call.init)
        self.xs = map_leaves(_apart, call.xs)
        self.init_wants = any(t.requires_grad for t in leaves(call.init))
        copies = copies or Copies()
        self.weights = [(w, copies.of(w)) for w in call.weights]
        self.steps, self.rows = leaves(call.xs)[0].shape[:2]
        # the step of the computation after which a row's state is its final one
        self.ends = np.full(self.rows, self.steps) - 1
        if self.padded:
            self.ends = self.steps - 1 - np.argmax(self.real[::-1], axis=0)
        self.final_gradients: dict[int, Array] = {}
        self.y_gradients: dict[int, Array] = {}
        self._changed = changed
        self._arrivals: Counter[tuple[str, int]] = Counter()
        for what, outputs, found in (
            ("final", call.final, self.final_gradients),
            ("ys", call.ys, self.y_gradients),
        ):
            for k, t in enumerate(leaves(outputs)):
                if t.requires_grad:
                    t.register_hook(self._keeper(what, found, k))

    def _keeper(self, what: str, found: dict[int, Array], k: int) -> Callable[[Tensor], None]:
        def arrived(g: Tensor) -> None:  # backward passes add up, as they do in .grad
            found[k] = found[k] + g.numpy() if k in found else g.numpy()
            self._arrivals[what, k] += 1
            self.__dict__.pop("detail", None)  # what was computed from fewer
            if self._changed is not None:
                self._changed()

        return arrived

    @property
    def passes(self) -> int:
        """How many backward passes came to one of its outputs."""
        return max(self._arrivals.values(), default=0)

    @property
    def padded(self) -> bool:
        return unpadded(self.cell) is not None

    @property
    def own_cell(self) -> Any:
        """The cell itself, without what passes over the padding and begins episodes."""
        return unwrapped(self.cell).own

    def own_input(self, x: Any) -> Any:
        """The part of a step's input that came from outside: no mask of padding, no drawn masks."""
        for _ in unwrapped(self.cell).kinds:
            x = x[0]
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

    def real_places(self, steps: int, rows: int) -> list[tuple[int, int]]:
        """(k, row): at most so many steps of at most so many rows, evenly spaced, no padding."""

        def spread(count: int, most: int) -> Array:
            return np.unique(np.linspace(0, max(count - 1, 0), most).astype(int))[:count]

        found = []
        for row in spread(self.rows, rows):
            taken = np.flatnonzero(self.real[:, row])
            found += [(int(k), int(row)) for k in taken[spread(len(taken), steps)]]
        return found

    def side_by_side(self, places: Sequence[tuple[int, int]]) -> tuple[Any, Any]:
        """The state before some steps of some rows, (k, row), and their inputs: as one batch.

        Returns trees (len(places), ...) and (1, len(places), ...): what a scan of one step takes.
        """
        steps, rows = [k for k, _ in places], [row for _, row in places]
        t = [self.order[k] for k in steps]
        states = [leaves(self.states[k]) for k in steps]
        parts = [
            np.stack([s[j]._data[row] for s, row in zip(states, rows, strict=True)])
            for j in range(len(states[0]))
        ]
        init = rebuild(self.init, [wrap(part, None, False) for part in parts])
        return init, map_leaves(lambda x: wrap(x._data[t, rows][None], None, False), self.xs)

    # -- back, step by step

    @cached_property
    def detail(self) -> Detail:
        """Gradients of all taps and inputs, and the norms of the weights' terms."""
        return self.back()

    def back(self, keep: Callable[[str, int, Array], None] | None = None) -> Detail:
        """One pass back; keep(name, k, g) is told the term of a weight at each step."""
        self.check()
        found, names = Detail(), Names(self.weights)
        carried: list[Any] = [self.final_gradients.get(k) for k in range(len(leaves(self.init)))]
        with self.restored():
            for k in reversed(range(self.steps)):
                t = self.order[k]
                seeds = [*carried, *self._ys_at(t)]
                step = OneStep(self.cell, self.states[k], map_leaves(lambda x, t=t: x[t], self.xs))
                carried = step.back(seeds)
                if self.cut_before(k):
                    carried = [None] * len(carried)
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

    def cut_before(self, k: int) -> bool:
        """Whether no gradient passes from step k (in order of computation) to the one before."""
        return self.truncate is not None and k % self.truncate == 0

    @property
    def ends_seen(self) -> Array:
        """(B,) of bool: the rows whose last step the gradient of the final state reaches."""
        if self.truncate is None:
            return np.ones(self.rows, dtype=bool)
        found: Array = self.ends // self.truncate == (self.steps - 1) // self.truncate
        return found

    def per_sample(self, names: Sequence[str]) -> dict[str, Array]:
        """name -> |dL/d(tapped value)| (T, B), in order of computation."""
        gradients = self.detail.gradients
        nothing = np.zeros((self.steps, self.rows))
        return {
            name: row_norms(g.reshape(self.steps, self.rows, -1)).reshape(self.steps, self.rows)
            if (g := gradients.get(name)) is not None else nothing
            for name in names
        }  # fmt: skip

    @property
    def arrivals(self) -> Seeds:
        """All that came from outside."""
        return Seeds(self.final_gradients, self.y_gradients)

    def carried(self, seeds: Seeds) -> Carried:
        """What these gradients bring to the state that each step leaves, from later steps."""
        found = self._carried_by_loops(seeds)
        return self.carried_by_steps(seeds) if found is None else found

    def _carried_by_loops(self, seeds: Seeds) -> Carried | None:
        """By one more scan; None for what runs on the tape, or is read in the middle of a run."""
        heard = Heard(self._states)
        with self.restored():
            before = switches.switch(recording=True)
            switches.listeners = (heard,)
            try:
                init = map_leaves(lambda s: wrap(s._data, None, s.dtype.kind == "f"), self.init)
                read = zip(leaves(self.xs), self._xs_wanted, strict=True)
                xs = rebuild(self.xs, [wrap(x._data, None, wants) for x, wants in read])
                given = self.cell, init, xs, None, self.reverse
                began = tick()
                final, ys = scan(*given, truncate=self.truncate)
            except TraceError:
                return None
            finally:
                switches.listeners = ()
                switches.switch(**before)
            pairs = [
                (t, np.asarray(table[j], t.dtype))
                for outputs, table in ((final, seeds.final), (ys, seeds.ys))
                for j, t in enumerate(leaves(outputs))
                if j in table and t.requires_grad
            ]
            if not pairs:
                return Carried({}, {}, {}, {})
            outputs, arriving = map(list, zip(*pairs, strict=True))
            wanted = [t for t in (*leaves(init), *leaves(xs)) if t.requires_grad]
            wanted += [w for w, _ in self.weights]  # the way to windows that are cut off
            outer = closed_over(outputs, set(map(id, wanted)), began)  # and none into what it reads
            wanted += [t if isinstance(t, Tensor) else wrap(_EMPTY, t, True) for t in outer]
            known = walk(
                outputs, arriving, wanted, retain_graph=False, create_graph=False, stop=True
            )
        if heard.record is None or not heard.record.carried:
            return None
        arrived = {id(t): g for t, g in zip(wanted, known, strict=True) if g is not None}
        found = self.in_order(heard.record)
        found.init, found.xs = (
            {j: arrived[id(t)] for j, t in enumerate(leaves(tree)) if id(t) in arrived}
            for tree in (init, xs)
        )
        return found if self._count(seeds, found) else None

    def in_order(self, record: Any) -> Carried:
        """What a scan noted, in order of computation."""
        norms, taps = (
            {n: np.asarray(g, np.float64)[self.order] for n, g in table.items()}
            for table in (record.carried, record.gradients)
        )
        return Carried(norms, {}, {}, taps)

    def with_outputs(self, seeds: Seeds, found: Carried) -> Carried:
        """The same with what comes by a y that is a state, as the seeds say."""
        return found if self._count(seeds, found) else self.carried_by_steps(seeds)

    def _count(self, seeds: Seeds, found: Carried) -> bool:
        """Adds what comes by a y that is a state; False where the parts of a sum are not known."""
        for i, j in self.own_step.states_given_out() if seeds.states else ():
            if j not in seeds.states:
                continue
            table = found.norms.setdefault(i, np.zeros((self.steps, self.rows)))
            read = seeds.states[j][self.order].reshape(self.steps, self.rows, -1)
            for k, row in np.argwhere((read != 0).any(axis=2)):
                g = read[k, row]
                if table[k, row]:
                    if k != self.ends[row] or i not in seeds.final:
                        return False
                    g = g + seeds.final[i][row].ravel()
                table[k, row] = norm(g)
        return True

    def carried_by_steps(self, seeds: Seeds) -> Carried:
        """The same by one step after the other, which finds more and takes longer."""
        n = len(leaves(self.init))
        tapped = [self.own_step.tapped_as(i) for i in range(n)]
        found = Carried({}, {}, {}, {})
        now: list[Any] = [seeds.final.get(k) for k in range(n)]
        ys = max(seeds.ys, default=-1) + 1
        with self.restored():
            for k in reversed(range(self.steps)):
                t = self.order[k]
                at_ys = [seeds.ys[j][t] if j in seeds.ys else None for j in range(ys)]
                step = OneStep(self.cell, self.states[k], map_leaves(lambda x, t=t: x[t], self.xs))
                arrived = list(now)
                for i, j in self.own_step.states_given_out() if seeds.states else ():
                    if j in seeds.states:
                        g = seeds.states[j][t]
                        arrived[i] = g if arrived[i] is None else arrived[i] + g
                for i, g in enumerate(arrived):
                    self._note(found.norms, i, k, g)
                now = step.back([*now, *at_ys])
                for name, g in step.taps.items():
                    self._note(found.taps, name, k, g)
                for i, name in enumerate(tapped):
                    if name in step.taps:
                        inside = (
                            step.taps[name] if (g := arrived[i]) is None else step.taps[name] - g
                        )
                        self._note(found.within, i, k, inside)
                        found.within[i][k] *= self.real[k]
                for j, g in step.of_inputs():
                    if j not in found.xs:
                        found.xs[j] = np.zeros((self.steps, *g.shape), g.dtype)
                    found.xs[j][t] = g
                if self.cut_before(k):
                    now = [None] * n
        found.init = {i: g for i, g in enumerate(now) if g is not None}
        return found

    def _note(self, tables: dict[Any, Array], name: Any, k: int, g: Array | None) -> None:
        if g is not None:
            table = tables.setdefault(name, np.zeros((self.steps, self.rows)))
            table[k] = row_norms(g.reshape(self.rows, -1))

    @cached_property
    def own_step(self) -> OneStep:
        """The first step of the cell itself, for what is the same in all of them."""
        x = map_leaves(lambda x: x[self.order[0]], self.xs)
        for _ in unwrapped(self.cell).kinds:
            x = x[0]
        with self.restored():
            return OneStep(self.own_cell, self.init, x)

    @cached_property
    def state_names(self) -> list[str]:
        """What the leaves of the state are called: as the tree names them, or as tapped."""
        named = [name for name, _ in named_leaves(self.init)]
        one = len(named) == 1
        return [
            name
            if name.isidentifier()
            else self.own_step.tapped_as(k) or name or ("h" if one else f"state{k}")
            for k, name in enumerate(named)
        ]

    @cached_property
    def tapped_states(self) -> list[str]:
        """The taps of what the cell carries over, whatever they are called."""
        found = [self.own_step.tapped_as(k) for k in range(len(leaves(self.init)))]
        return list(dict.fromkeys(filter(None, found)))

    @cached_property
    def real(self) -> Array:
        """(T, B) of bool, in order of computation: the steps that are not padding."""
        if self.padded:
            return np.asarray(self.xs[1]._data[self.order])
        return np.ones((self.steps, self.rows), dtype=bool)

    @cached_property
    def begins(self) -> Array:
        """(T, B) of bool, in order of computation: an episode begins, and no state goes on."""
        x = self.xs
        for kind in unwrapped(self.cell).kinds:
            if kind == "Episodic":
                return np.asarray(x[1]._data[self.order])
            x = x[0]
        return np.zeros((self.steps, self.rows), dtype=bool)

    def check(self) -> None:
        if not self.arrived:
            raise FlowError(
                "record: no gradient arrived at the layer's outputs yet; call backward() first."
            )

    def outputs_at(self, k: int) -> Any:
        with self.restored(), no_grad():
            x = map_leaves(lambda x: x[self.order[k]], self.xs)
            return self.cell(self.states[k], x)[1]

    def _ys_at(self, t: int) -> list[Any]:
        n = max(self.y_gradients, default=-1) + 1
        return [self.y_gradients[j][t] if j in self.y_gradients else None for j in range(n)]


class Names:
    """What weights are called: their own name, or weight0, weight1, ... in order of appearance."""

    def __init__(self, weights: list[tuple[Tensor, Array]]):
        self.names: dict[int, str] = {}
        for w, _ in weights:
            self.of(w)

    def of(self, target: Target) -> str:
        if id(target) not in self.names:
            named = getattr(target, "name", "") or f"weight{len(self.names)}"
            taken = self.names.values()
            self.names[id(target)] = named if named not in taken else f"{named}.{len(self.names)}"
        return self.names[id(target)]


def norm(g: Array) -> float:
    """Euclidean norm of a whole array; neither underflows nor overflows on the way."""
    return float(row_norms(np.ravel(g)[None])[0])


def _apart(t: Tensor) -> Tensor:
    return wrap(t._data, None, False)


def _put(found: dict[str, Array], name: str, steps: int, k: int, g: Array) -> None:
    if name not in found:
        found[name] = np.zeros((steps, *g.shape), g.dtype if g.ndim else np.float64)
    if found[name].shape[1:] == g.shape:
        found[name][k] = g
