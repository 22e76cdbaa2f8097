"""A compiled scan on the memory of one call: lists of calls that run its loops, there and back.

    run = Prepared.of(compiled, arrays, steps, rows, reverse, needs)
    run.forward()                                  fills run.outputs
    run.output_gradients[0][...] = ...
    run.backward()                                 fills run.input_gradients

A call of a layer makes one, on memory of its own, and runs it once. Whoever replays a step keeps
it: then everything is a few calls of C functions and ufuncs on memory that stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..kernels import jit, multiplying, threads
from ..kernels.arena import address, addresses, empty
from ..kernels.flat import Beside
from .ahead import Call, computing
from .arrangement import KEPT, OWN, PACKING, PASSING, Arrangement, BackArrangement, Frame
from .compiled import Compiled
from .division import takes_others
from .forward import by_row, by_time, is_by_row
from .frame import Span, views
from .program import Value

Array = np.ndarray
_MOST = 256  # arrangements of one compiled step


def arranged(
    compiled: Compiled, arrays: Sequence[Array], steps: int, rows: int, reverse: bool,
    needs: tuple[int, ...], shown: tuple[str, ...] = (), many: int = 1, packed: bool = False,
) -> Arrangement:  # fmt: skip
    """What the sizes of a call decide, worked out now or before. many: calls side by side."""
    layout = tuple([a.strides for a in arrays])
    key = steps, rows, reverse, needs, shown, threads.get_num_threads(), layout, many, packed
    found = compiled.arrangements.get(key)
    if found is None:
        if len(compiled.arrangements) >= _MOST:
            compiled.arrangements.clear()
        found = Arrangement(compiled, arrays, steps, rows, reverse, needs, shown, many, packed)
        compiled.arrangements[key] = found
    return found


class Prepared:
    """The loops of a compiled scan on memory that stays: run again and again, by a few calls of C.

    at: the arrangement for the sizes. inputs: an array for each of compiled.program.inputs, the
    carries, xs and weights, as `Compiled.tensors` gives them (a view of a parameter is taken as
    that view); they are read in every run, where they lie now, so other values are written there.

    outputs: the last carries, then the ys: new arrays, which `forward` fills.
    weight_calls: (callable, arguments) of what depends on the weights alone: copies and panels.
    step_calls: of all else; forward_calls: both, in order.

    back: the way back, where `of` was told of gradients: output_gradients, to be filled before
    `backward`, input_gradients, which it fills, and backward_calls are its. A Prepared belongs to
    one thread at a time; two share nothing but their inputs.
    """

    back: Back

    def __init__(self, at: Arrangement, inputs: Sequence[Array]):
        self.at, self.inputs = at, inputs
        kept = empty((at.kept,), np.uint8) if at.kept else None
        passing = empty((at.passing,), np.uint8) if at.passing else None
        pieces: list[Any] = [None, kept, passing]
        for shape, dtype in at.own:
            pieces.append(empty(shape, dtype))
        pieces += inputs
        beginnings = [0] * len(pieces)
        found = addresses(map(pieces.__getitem__, at.addressed))
        for piece, begins in zip(at.addressed, found, strict=True):
            beginnings[piece] = begins
        self.pieces, self.beginnings = pieces, beginnings
        calls = at.ahead.calls(pieces)
        run, self.words = _framed(at.frame, beginnings, calls)
        self.runs = at.frame, run
        self.weight_calls = calls
        self.step_calls: list[Call] = []
        self.outputs: list[Array] = []
        self._around(run)

    def _around(self, run: Call) -> None:
        """What comes in, to where the loop reads it; the loop; what comes out."""
        at, inputs, calls, pieces = self.at, self.inputs, self.step_calls, self.pieces
        for i, v, timed, span in at.brought:
            rows = by_row(inputs[i] if timed else inputs[i][None], v, at.rows)
            here = span.of(pieces)
            here = (here if timed else here[None]).reshape(rows.shape)
            calls.append((here.__setitem__, (..., rows)))
        for start, array in zip(views(at.starts, pieces), inputs, strict=False):
            calls.append((start.__setitem__, (..., array)))
        calls.append(run)
        for end in views(at.ends, pieces):
            final = np.empty(end.shape, end.dtype)
            calls.append((final.__setitem__, (..., end)))
            self.outputs.append(final)
        taken: set[int] = set()
        for v, span in at.ys:
            y = given_out(v, span.of(pieces), at.rows, calls)
            if span.piece in taken:  # each y may be edited by itself
                other = np.empty(y.shape, y.dtype)
                calls.append((other.__setitem__, (..., y)))
                y = other
            taken.add(span.piece)
            self.outputs.append(y)

    @property
    def reads(self) -> list[Array]:
        """The arrays that come from outside."""
        return [*self.inputs]

    @classmethod
    def of(
        cls, compiled: Compiled, arrays: Sequence[Array], steps: int, rows: int, reverse: bool,
        needs: tuple[int, ...], arrive: Sequence[int] | None = None,
    ) -> Prepared:  # fmt: skip
        """To be kept. needs: the inputs whose gradient is wanted; arrive: the outputs to which a
        gradient comes, all of floats if left out.
        """
        made = cls(arranged(compiled, arrays, steps, rows, reverse, needs), arrays)
        if needs:
            floats = [k for k, y in enumerate(made.outputs) if y.dtype.kind == "f"]
            made.back = Back(made, dict.fromkeys(floats if arrive is None else arrive))
        return made

    @property
    def forward_calls(self) -> list[Call]:
        return [*self.weight_calls, *self.step_calls]

    def forward(self) -> None:
        for call, arguments in self.weight_calls:
            call(*arguments)
        for call, arguments in self.step_calls:
            call(*arguments)

    @property
    def backward_calls(self) -> list[Call]:
        return self.back.calls

    @property
    def output_gradients(self) -> dict[int, Array]:
        return self.back.output_gradients

    @property
    def input_gradients(self) -> dict[int, Array]:
        return self.back.input_gradients

    def backward(self) -> None:
        self.back.run()

    @property
    def takes_others(self) -> bool:
        """Whether other loops may run beside this one, which one thread runs."""
        return takes_others(
            self.at.loop.kernel.work, self.at.steps, self.at.rows, self.runs[0].parts
        )

    def tap(self, name: str) -> Array:
        """(T, B, ...) of a value that was kept of every step."""
        v, span = self.at.taps[name]
        return by_time(span.of(self.pieces), v, self.at.rows)

    def owners(self) -> list[Array]:
        """The pieces of memory that BPTT reads."""
        own = self.pieces[OWN : self.at.first_input]
        return own if self.pieces[KEPT] is None else [self.pieces[KEPT], *own]

    def forget(self) -> list[Array]:
        """Lets go of what only the run forward needed, as it is the last; returns the outputs."""
        outputs = self.outputs
        self.pieces[PASSING] = None
        self.outputs, self.weight_calls, self.step_calls = [], [], []
        return outputs


class Back:
    """BPTT behind one run forward, of which it reads the memory and leaves it as it is.

    arriving: output -> its gradient, None for new memory that is filled before each run.
    output_gradients: these. input_gradients: input -> its gradient, filled by the run. norms: tap
    -> norms (T, B, 1) of its gradients. sums: whether there are gradients of weights.
    """

    def __init__(
        self, forward: Prepared, arriving: Mapping[int, Array | None], sums: bool = True
    ):  # fmt: skip
        self.at, self.inputs = at, inputs = forward.at, forward.inputs
        c = at.carries
        back = at.back(max(arriving) >= c, inputs)
        self.loop = back.loop
        self.pieces = pieces = [*forward.pieces]
        beginnings = [*forward.beginnings]
        block = empty((back.size,), np.uint8)
        pieces.append(block)
        for shape, dtype in back.own:
            pieces.append(empty(shape, dtype))
        self.output_gradients: dict[int, Array] = {}
        self.brought: list[Call] = []  # gradients that lie otherwise than the loop reads them
        for k, v, span in back.dys:
            pieces.append(self._arrived(k, v, span.shape, arriving))
        found = addresses([*map(pieces.__getitem__, back.addressed), *pieces[len(beginnings) :]])
        beginnings += found[len(back.addressed) :]
        for piece, begins in zip(back.addressed, found, strict=False):
            beginnings[piece] = begins
        self.beginnings = beginnings
        self.calls = calls = [*self.brought, *back.ahead.calls(pieces)]
        run, self.words = _framed(back.frame, beginnings, calls)
        self.runs = back.frame, run
        self._begin(back, arriving)
        if back.sums:
            calls.append((back.zeroed.of(pieces).fill, (0,)))
        calls.append(run)
        self._give(back, self._sums(back) if sums else {})
        self.norms = {name: span.of(pieces) for name, span in back.taps.items()}

    def _begin(self, back: BackArrangement, arriving: Mapping[int, Array | None]) -> None:
        """The gradients of the states that are left, to where the loop reads them."""
        for k, here in enumerate(views(back.starts, self.pieces)):
            if k in arriving:
                g = arriving[k]
                g = np.zeros(here.shape, here.dtype) if g is None else g
                self.output_gradients[k] = g
                self.calls.append((here.__setitem__, (..., g)))
            else:
                self.calls.append((here.fill, (0,)))

    def run(self) -> None:
        for call, arguments in self.calls:
            call(*arguments)

    @property
    def takes_others(self) -> bool:
        return takes_others(self.loop.kernel.work, self.at.steps, self.at.rows, self.runs[0].parts)

    def _rows(self, v: Value, g: Array) -> Array:
        """The gradient of a y as rows (T, B, size)."""
        seen = by_row(g, v, self.at.rows)
        if seen.flags.c_contiguous:
            return seen
        rows = np.empty(seen.shape, seen.dtype)
        self.brought.append((rows.__setitem__, (..., seen)))
        return rows

    def _arrived(
        self, k: int, v: Value, shape: tuple[int, ...], arriving: Mapping[int, Array | None]
    ) -> Array:
        """The gradient of a y where the loop reads it."""
        if k not in arriving:
            return np.zeros(shape, v.dtype)
        g = arriving[k]
        if g is None:
            g = by_time(np.zeros(shape, v.dtype), v, self.at.rows)
        self.output_gradients[k] = g
        return self._rows(v, g)

    def _sums(self, back: BackArrangement) -> dict[Value, Array]:
        """The sums over time, and what is made of them: weight -> its gradient."""
        at, loop, calls, pieces = self.at, back.loop, self.calls, self.pieces
        known = self._products(back)
        for v, span in back.sums:
            known[v] = self._summed(v, span)
        for v, in_order in back.after:
            total = known.get(v.inputs[0])
            if in_order and total is not None and total.flags.c_contiguous:
                known[v] = total.reshape(v.shape)
                continue
            values = [
                i if type(i) is not Value else known[i] if i in known
                else back.ahead.sources[i].of(pieces) for i in v.inputs
            ]  # fmt: skip
            known[v] = y = np.empty(v.shape, v.dtype)
            calls.append(computing(v, values, y, at.rows))
        return {w: known[v] for w, v in loop.program.sums.items()}

    def _products(self, back: BackArrangement, call: Any = None) -> dict[Value, Array]:
        """y = a.T @ b, over all steps. call: what else computes it, of a, b and y."""
        calls, pieces = self.calls, self.pieces
        known: dict[Value, Array] = {}
        for v, left, right in back.products:
            a, b = views((left.span, right.span), pieces)
            for f, flat in ((left, a), (right, b)):
                if f.copied is not None:
                    seen = f.copied.of(pieces)
                    calls.append((flat.reshape(seen.shape).__setitem__, (..., seen)))
            known[v] = y = empty(v.shape, v.dtype)
            product = (multiplying.product(v.dtype), (a.T, b, y)) if call is None else call(a, b, y)
            calls.append(product)
        return known

    def _whole(self, span: Span) -> Array:
        """What the loop has left of all steps, (T, B, size)."""
        return span.of(self.pieces)

    def _first(self, back: BackArrangement, k: int) -> Array:
        """The gradient of the k-th first state."""
        return back.ends[k].of(self.pieces)

    def _give(self, back: BackArrangement, found: dict[Value, Array]) -> None:
        """The gradients that come out: those of the xs, and these of weights."""
        at, calls = self.at, self.calls
        for x, v, span in back.outputs:
            found[x] = given_out(v, self._whole(span), at.rows, calls)
        self.input_gradients = {}
        for i, w in back.inputs:
            if i < at.carries:
                self.input_gradients[i] = self._first(back, i)
            elif w in found:
                self.input_gradients[i] = found[w].reshape(self.inputs[i].shape)

    def _summed(self, v: Value, span: Span, total: Array | None = None) -> Array:
        """A sum over time, of which the loop has added up the rows (B, size)."""
        x, rows = v.inputs[0], self.at.rows
        total = span.of(self.pieces) if total is None else total
        if v.params["axis"] == ():
            return given_out(x, total[None], rows, self.calls)[0]
        y = np.empty(v.shape, v.dtype)
        if is_by_row(x):
            call: Call = np.add.reduce, (total, 0, None, y.reshape(1, -1), True)
        else:
            wide = given_out(x, total[None], rows, self.calls)[0]
            call = np.add.reduce, (wide, x.batch, None, y, True)
        self.calls.append(call)
        return y


class AtOnce:
    """Several runs, forward or back: the calls of all, each in order, but their loops at once."""

    def __init__(self, ready: Sequence[Prepared | Back]):
        self.ready = ready
        before: list[Call] = []
        behind: list[Call] = []
        loops: list[Call] = []
        for each in ready:
            run = each.runs[1]
            calls = each.forward_calls if isinstance(each, Prepared) else each.calls
            at = next(k for k, call in enumerate(calls) if call is run)
            before += calls[:at]
            behind += calls[at + 1 :]
            loops.append(run)
        if jit.mode() == "native":
            jobs = [e.runs[0].kernel.job(address(e.words), e.runs[0].parts) for e in ready]
            call, self._words = threads.side_by_side(jobs)
            loops = [call]
        self.calls = [*before, *loops, *behind]

    @property
    def replayed(self) -> list[Call]:
        """What a replay does: where each loop is one thread's, all that belongs to it is."""
        if any(each.runs[0].parts > 1 for each in self.ready):
            return self.calls
        lists = [e.forward_calls if isinstance(e, Prepared) else e.calls for e in self.ready]
        return [(Beside(lists, self.calls), ())]

    @property
    def pieces(self) -> list[Any]:
        return [piece for each in self.ready for piece in each.pieces]

    def run(self) -> None:
        for f, arguments in self.calls:
            f(*arguments)


def _framed(frame: Frame, beginnings: list[int], calls: list[Call]) -> tuple[Call, Array]:
    """The call of a kernel, and its words; what packs its factors is added to calls."""
    words = frame.words.at(beginnings)
    numbers = words[frame.called :].tolist()
    for k in range(0, len(numbers), PACKING):
        calls.append((frame.pack, numbers[k : k + PACKING]))
    return frame.kernel.call(addresses((words,))[0], frame.parts), words


def given_out(v: Value, array: Array, rows: int, calls: list[Call]) -> Array:
    """Rows (T, B, size) as the cell would have stacked v: a view, or memory that a call fills."""
    if is_by_row(v):
        return array.reshape(len(array), rows, *v.row[1:])
    y = by_time(array, v, rows)
    if np.may_share_memory(y, array):
        return y
    apart = by_row(y, v, rows)
    calls.append((apart.__setitem__, (..., array.reshape(apart.shape))))
    return y
