"""A cell along one trajectory: the states it went through, and the Jacobian of each step.

    S_0 = init,   S_k, y = cell(S_{k-1}, x)          k = 1 .. T, in order of computation
    J_k = dS_k / dS_{k-1}                            (n, n), rows are outputs

S is the whole state as one vector: the leaves of the tree, flattened, one after the other. Once the
trajectory is known, its steps no longer depend on each other, so many of them run side by side, as
the rows of one batch. Row j of every Jacobian then comes from one walk back with the j-th unit
vector as the cotangent of all rows: n walks, however many steps there are.

That takes a cell whose rows know nothing of each other, which a trace of it tells. One that cannot
be traced is run a step at a time, and differentiated a row at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..autodiff import jvp
from ..backward import walk
from ..compile.padding import of_values
from ..compile.traced import Traced
from ..compile.unrolling import check_carry, check_lengths, sizes
from ..errors import FlowError, ShapeError, describe
from ..ops import concatenate, reshape
from ..tape import no_grad
from ..tape import state as switches
from ..tensors import Tensor, as_tensor, wrap
from ..tree import leaves, map_leaves, named_leaves, rebuild
from .stacked import as_cell

Array = np.ndarray
CHUNK_BYTES = 256 << 20  # of Jacobians and of what a chunk's tape keeps
CHUNK_ROWS = 512  # more gain nothing: LSTMs of 16 to 128 units, float64, two cores


class Trajectory:
    """A cell run forward once, and how each of its steps moves when the state before it moves.

    states: for each leaf of the state its values before every step and after the last, (T+1, B,
    ...), in order of computation. n: size of the whole state of a row. parts: name of a leaf ->
    its slice of 0 .. n; the one leaf of a state that is a single Tensor is called "h".
    """

    def __init__(
        self,
        who: str,
        cell: Any,
        init: Any,
        xs: Any,
        steps: int | None = None,
        lengths: Any = None,
        reverse: bool = False,
    ):
        self.who, self.reverse = who, reverse
        xs = map_leaves(as_tensor, xs)
        self.steps, self.rows = self._sizes(init, xs, steps)
        if switches.intervening is not None:
            raise FlowError(
                f"{who}: interventions are of the steps of a scan, which these are not; record one "
                f"inside of mg.flow.intervene, and read rec[path].jacobians()."
            )
        cell, xs = as_cell(who, cell, xs, self.steps, self.rows)
        self.cell = of_values(cell)  # what is done to gradients is no part of dS_t/dS_{t-1}
        if lengths is not None:
            lengths = check_lengths(who, lengths, self.steps, self.rows)
        self.lengths = lengths
        if init is None:
            init = first_state(who, cell, self.rows)
        self.init = map_leaves(as_tensor, init)
        self._check_state()
        self.order = np.arange(self.steps)[:: -1 if reverse else 1]
        self.inputs = map_leaves(lambda x: x._array[self.order], xs)  # (T, B, ...)
        self.parts, self.n = _parts(self.init)
        with unheard():
            self.states = self._run()
            # no row touches another, and nothing is decided by values
            self.separable = self._can_be_traced(xs, 1)
            # nor does the cell hold anything that has a row for each of the batch, as a memory
            self.repeatable = self.separable and self._can_be_traced(xs, 3)

    # -- what came in

    def _sizes(self, init: Any, xs: Any, steps: int | None) -> tuple[int, int]:
        if leaves(xs):
            time, rows = sizes(self.who, xs)
            if steps is not None and steps != time:
                raise FlowError(
                    f"{self.who}: steps={steps!r}, and xs have {time} steps; leave steps out."
                )
            return time, rows
        if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
            raise FlowError(
                f"{self.who}: without xs it takes steps, a number of steps >= 1; got {steps!r}."
            )
        first = leaves(init)
        return int(steps), (np.shape(first[0]) or (1,))[0] if first else 1

    def _check_state(self) -> None:
        named = list(named_leaves(self.init))
        if not named:
            raise FlowError(f"{self.who}: the state holds no Tensor, so it has no Jacobian.")
        for name, s in named:
            what = f"{self.who}: the state{f' {name!r}' if name else ''} is {describe(s)}"
            if s.dtype.kind != "f":
                raise FlowError(
                    f"{what}; only states of floats have a Jacobian. Pass what counts or selects "
                    f"in xs, or convert it with .astype(np.float64)."
                )
            if s.ndim < 1 or s.shape[0] != self.rows:
                raise ShapeError(
                    f"{what}; expected {self.rows} rows, as xs have: every part is (B, ...)."
                )

    # -- forward

    def _run(self) -> list[Array]:
        now = self.init
        states = [np.empty((self.steps + 1, *s.shape), s.dtype) for s in leaves(now)]
        with no_grad():
            for k in range(self.steps + 1):
                for all_steps, s in zip(states, leaves(now), strict=True):
                    all_steps[k] = s._array
                if k == self.steps:
                    break
                new, _ = self.cell(now, map_leaves(lambda x, k=k: _constant(x[k]), self.inputs))
                if k == 0:
                    check_carry(self.who, self.init, new)
                now = new if self.real(k).all() else self._kept(new, now, self.real(k))
        return states

    def real(self, k: int) -> Array:
        """(B,): whether a row takes part in step k, or is past its length."""
        if self.lengths is None:
            return np.ones(self.rows, dtype=bool)
        return np.asarray(self.order[k] < self.lengths)

    @staticmethod
    def _kept(new: Any, old: Any, real: Array) -> Any:
        def chosen(a: Tensor, b: Tensor) -> Tensor:
            return as_tensor(np.where(real.reshape(-1, *(1,) * (a.ndim - 1)), a._array, b._array))

        return map_leaves(chosen, new, old)

    def first_nonfinite(self) -> tuple[int, int] | None:
        """(steps done, row) of the first state that holds NaN or Inf."""
        good = np.ones((self.steps + 1, self.rows), dtype=bool)
        for s in self.states:
            good &= np.isfinite(s).reshape(*s.shape[:2], -1).all(axis=2)
        if good.all():
            return None
        k, row = np.argwhere(~good)[0]
        return int(k), int(row)

    # -- how each step moves

    def _can_be_traced(self, xs: Any, times: int) -> bool:
        """Whether `mg.scan` could compile the cell for a batch that is so many times as large."""

        def more(t: Tensor, axis: int) -> Tensor:
            return _constant(np.concatenate([t._array] * times, axis=axis))

        init = map_leaves(lambda s: more(s, 0), self.init)
        try:
            Traced(self.cell, init, map_leaves(lambda x: more(x[:1], 1), xs), times * self.rows)
        except Exception:  # whatever a cell does with a Tracer: it cannot be told, so no
            return False
        return True

    def chunks(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Array]]:
        """(k, J) over the steps: J (steps in the chunk, B, n, n), beginning with step k."""
        per_row = 8 * self.n * (self.n + 32)
        rows = max(1, min(CHUNK_ROWS, CHUNK_BYTES // per_row))
        many = max(1, rows // self.rows) if self.repeatable else 1
        stop = self.steps if stop is None else stop
        for k in range(start, stop, many):
            yield k, self.jacobians(k, min(k + many, stop))

    def jacobians(self, start: int, stop: int) -> Array:
        """dS_{k+1}/dS_k for k in start .. stop-1, (stop - start, B, n, n) float64."""
        many = (stop - start) * self.rows
        state = [s[start:stop].reshape(many, *s.shape[2:]) for s in self.states]
        x = map_leaves(lambda x: x[start:stop].reshape(many, *x.shape[2:]), self.inputs)
        by_step = self.linearised(state, x)[1].reshape(stop - start, self.rows, self.n, self.n)
        if self.lengths is not None:
            for k in range(start, stop):
                by_step[k - start, ~self.real(k)] = np.eye(self.n)
        return by_step

    def linearised(self, state: list[Array], x: Any) -> tuple[list[Array], Array]:
        """The states a step after any others (leaves (R, ...)), and its Jacobian, (R, n, n)."""
        before = [_leaf(s) for s in state]
        rows = len(state[0])
        found = np.zeros((rows, self.n, self.n))
        with unheard(recording=True):
            new, _ = self.cell(rebuild(self.init, before), map_leaves(_constant, x))
            for output, part in zip(leaves(new), self.parts.values(), strict=True):
                if output.requires_grad:
                    self._fill(found, output, part, before)
        return [s._array for s in leaves(new)], found

    def pushed(self, k: int, directions: Array) -> Array:
        """dS_{k+1}/dS_k times directions (B, n, m), without the Jacobian: m rows for each row."""
        rows, n, m = directions.shape
        tangents = np.swapaxes(directions, 1, 2).reshape(rows * m, n)
        x = map_leaves(lambda x: _constant(np.repeat(x[k], m, axis=0)), self.inputs)
        given, moves = [], []
        for s, at in zip(self.states, self.parts.values(), strict=True):
            state = np.repeat(s[k], m, axis=0)
            given.append(state)
            moves.append(tangents[:, at].reshape(state.shape).astype(state.dtype))

        def step(*parts: Tensor) -> Tensor:
            new, _ = self.cell(rebuild(self.init, parts), x)
            wide = [reshape(t, (rows * m, -1)) for t in leaves(new)]
            return concatenate(wide, axis=1) if len(wide) > 1 else wide[0]

        with unheard(recording=True):
            _, moved = jvp(step, tuple(given), tuple(moves))
        return np.swapaxes(np.asarray(moved._array, np.float64).reshape(rows, m, n), 1, 2)

    def _fill(self, found: Array, output: Tensor, part: slice, state: list[Tensor]) -> None:
        """Rows `part` of all Jacobians: those of one leaf of the state."""
        rows = [slice(None)] if self.separable else [slice(b, b + 1) for b in range(len(found))]
        seed = np.zeros((len(found), part.stop - part.start), output.dtype)
        for b in rows:
            for j in range(part.start, part.stop):
                seed[b, j - part.start] = 1
                pulled = walk(
                    [output], [seed.reshape(output.shape)], state,
                    retain_graph=True, create_graph=False, stop=True,
                )  # fmt: skip
                seed[b, j - part.start] = 0
                for g, at in zip(pulled, self.parts.values(), strict=True):
                    if g is not None:
                        found[b, j, at] = g.reshape(len(found), -1)[b]


def _constant(array: Array) -> Tensor:
    return wrap(np.ascontiguousarray(array), None, False)


def _leaf(array: Array) -> Tensor:
    return wrap(np.ascontiguousarray(array), None, True)


def first_state(who: str, cell: Any, rows: int) -> Any:
    """What a cell begins with. Raises FlowError where it does not tell."""
    make = getattr(cell, "init_state", None)
    if make is None:
        raise FlowError(
            f"{who}: {type(cell).__name__} has no init_state(batch); pass init, the first state, a "
            f"tree of arrays (B, ...)."
        )
    return make(rows)


@contextmanager
def unheard(recording: bool = False) -> Iterator[None]:
    """No tape, no record() and no search for anomalies sees what runs inside.

    recording: what runs there can be differentiated, there.
    """
    listeners, switches.listeners = switches.listeners, ()
    before = switches.switch(tape=None, anomaly=False, recording=recording)
    try:
        with np.errstate(all="ignore"):  # Inf and NaN are data here
            yield
    finally:
        switches.switch(**before)
        switches.listeners = listeners


def _parts(state: Any) -> tuple[dict[str, slice], int]:
    parts, n = {}, 0
    for name, s in named_leaves(state):
        size = int(np.prod(s.shape[1:]))
        parts[name or "h"] = slice(n, n + size)
        n += size
    return parts, n
