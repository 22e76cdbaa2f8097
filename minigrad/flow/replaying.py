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
from functools import cached_property
from typing import Any

import numpy as np

from ..backward import Look
from ..compile.padding import unpadded, unwrapped, with_held
from ..compile.result import Call
from ..errors import FlowError
from ..norms import row_norms
from ..tape import no_grad
from ..tape import state as switches
from ..tensors import Tensor, wrap
from ..tree import leaves, map_leaves, named_leaves, rebuild
from .carried import Carried, Seeds, by_loops, by_steps, count
from .copies import Copies
from .detail import Detail, back
from .onestep import OneStep

Array = np.ndarray


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
        self.asked = states
        self.xs_wanted = [t.requires_grad for t in leaves(call.xs)]
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
        self._carried: tuple[Seeds, Carried] | None = None  # the pass back that ran last
        self._changed = changed
        self._arrivals: Counter[tuple[str, int]] = Counter()
        for what, outputs, found in (
            ("final", call.final, self.final_gradients),
            ("ys", call.ys, self.y_gradients),
        ):
            for k, t in enumerate(leaves(outputs)):
                if t.requires_grad:
                    t.register_hook(Look(self._keeper(what, found, k)))

    def _keeper(self, what: str, found: dict[int, Array], k: int) -> Callable[[Array], None]:
        def arrived(g: Array) -> None:  # backward passes add up, as they do in .grad
            found[k] = found[k] + g if k in found else g.copy()
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

    def cell_of(self, rows: Sequence[int]) -> Any:
        """The cell for a batch of these rows; its episodes begin with their first states."""
        held = unwrapped(self.cell).held
        if "Episodic" not in held:
            return self.cell
        first = map_leaves(lambda s: wrap(s._array[list(rows)], None, False), self.init)
        return with_held(self.cell, held | {"Episodic": first})

    def own_input(self, x: Any) -> Any:
        """The part of a step's input that came from outside: no mask of padding, no drawn masks."""
        for _ in unwrapped(self.cell).flagged:
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
        now = [w._array for w, _ in self.weights]
        listeners, switches.listeners = switches.listeners, ()
        tape = switches.switch(tape=None, anomaly=False, intervening=None)
        for w, then in self.weights:
            w._array = then
        try:
            yield
        finally:
            for (w, _), array in zip(self.weights, now, strict=True):
                w._array = array
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

    def step(self, k: int) -> OneStep:
        """The k-th step, in order of computation, once more; for who has the weights restored."""
        return OneStep(self.cell, self.states[k], map_leaves(lambda x: x[self.order[k]], self.xs))

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
            np.stack([s[j]._array[row] for s, row in zip(states, rows, strict=True)])
            for j in range(len(states[0]))
        ]
        init = rebuild(self.init, [wrap(part, None, False) for part in parts])
        return init, map_leaves(lambda x: wrap(x._array[t, rows][None], None, False), self.xs)

    # -- back, step by step

    @cached_property
    def detail(self) -> Detail:
        """Gradients of all taps and inputs, and the norms of the weights' terms."""
        return back(self)

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
        if self._carried is None or not self._carried[0].same_as(seeds):  # a cut asks like a layer
            found = by_loops(self, seeds)
            self._carried = seeds.copy(), by_steps(self, seeds) if found is None else found
        return self._carried[1].copy()

    def with_outputs(self, seeds: Seeds, found: Carried) -> Carried:
        """The same with what comes by a y that is a state, as the seeds say."""
        return found if count(self, seeds, found) else by_steps(self, seeds)

    @cached_property
    def own_step(self) -> OneStep:
        """The first step of the cell itself, for what is the same in all of them."""
        x = map_leaves(lambda x: x[self.order[0]], self.xs)
        for _ in unwrapped(self.cell).flagged:
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
            return np.asarray(self.xs[1]._array[self.order])
        return np.ones((self.steps, self.rows), dtype=bool)

    @cached_property
    def begins(self) -> Array:
        """(T, B) of bool, in order of computation: an episode begins, and no state goes on."""
        x = self.xs
        for kind in unwrapped(self.cell).flagged:
            if kind == "Episodic":
                return np.asarray(x[1]._array[self.order])
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

    def ys_at(self, t: int) -> list[Any]:
        """The gradients that came to the leaves of y at a step."""
        n = max(self.y_gradients, default=-1) + 1
        return [self.y_gradients[j][t] if j in self.y_gradients else None for j in range(n)]


def _apart(t: Tensor) -> Tensor:
    return wrap(t._array, None, False)
