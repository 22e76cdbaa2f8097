"""scan: a cell over a sequence, its step compiled into one loop forward and one for BPTT."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..errors import ShapeError, TraceError, describe
from ..tape import state as switches
from ..tape import tick
from ..tensors import Tensor, as_tensor, wrap
from ..tree import leaves, map_leaves, rebuild
from . import node, passes, remember
from .checks import check_repeats, warn_of_numbers
from .compiled import Compiled
from .outer import closed_over
from .program import STEP, Program, Value, used
from .result import Call, Record, ScanResult
from .taps import StepTaps, bare
from .trace import Trace, Tracer
from .unroll import Cell, check_carry, check_lengths, choose, sizes, unroll
from .windows import Whole

Array = np.ndarray

_COMPILED: dict[Any, Compiled] = {}
_UNROLLED = 64  # steps of a scan in the step of another
_MOST = 512  # programs; each holds its kernels


def scan(
    cell: Cell,
    init: Any,
    xs: Any,
    lengths: Any = None,
    reverse: bool = False,
    mode: str = "fused",
    *,
    truncate: int | None = None,
    checkpoint: int | None = None,
    record: Iterable[str] | bool | None = None,
) -> ScanResult:
    """(cell, init, xs) -> (final, ys): what `unroll` computes, as one compiled loop.

        state = init
        for t in range(T):                    # T-1 down to 0 if reverse
            state, ys[t] = cell(state, xs[t])
        return state, stack(ys)

    The cell is called on abstract values, at every call of scan (unless `mg.pure` promises that it
    need not be), and what it does is compiled: a loop forward and one for BPTT, found again by the
    content of the program, and kept in a cache on disk; T and B are free. Tensors that the cell
    closes over, or holds as a Module, receive gradients like any other input. What cannot be
    compiled raises TraceError, and so does a new program that is another one when the cell is
    called a second time: a step that counts, or draws random numbers.

    cell: (state, x) -> (state, y), trees of Tensors. A Python branch on a value needs `mg.where`,
        and random numbers come in as xs. Python numbers in it become part of the kernel, so one
        that changes at every call is compiled every time, which is warned of.
    init: the first state, a tree of Tensors (B, ...). xs: a tree of Tensors (T, B, ...); integers
        may only be used as an index (an embedding).
    lengths, reverse: as in `unroll`; what xs holds in the padding is not read.
    mode: "fused", or "tape" for `unroll` itself, the specification of what this computes.
    truncate: gradients pass no further back than the beginning of each window of so many steps
        (truncated BPTT).
    checkpoint: keep only the state at every so many steps, and compute what is between again
        during BPTT: memory grows with T / checkpoint + checkpoint.
    record: names marked by `mg.tap` in the cell (True: all that have a row for each of the batch)
        whose values (T, B, ...) and, after backward, norms of gradients (T, B) are kept, in
        `.record` of the result. A name stands for one value of a step.
    In the cell of another scan its steps are written out (64 at most), as part of that step.
    Returns a ScanResult: `final, ys = scan(...)`, with `.explain()`, `.source`, `.record`. final is
    the last state; ys is a tree of Tensors (T, B, ...), ys[t] being that of xs[t] both ways.
    Raises TraceError for what cannot be compiled, ShapeError or DTypeError if the state changes its
    type, naming the component, ValueError for a mode, a number of steps or a name that makes no
    sense, and for record with checkpoint.

    >>> from minigrad import tap
    >>> w = Tensor([[0.5]], requires_grad=True)
    >>> xs = Tensor([[[1.0]], [[0.0]], [[0.0]]])
    >>> def cell(h, x):
    ...     h = tap("h", h @ w + x)
    ...     return h, h
    >>> final, ys = result = scan(cell, Tensor([[0.0]]), xs, record=["h"])
    >>> final.sum().backward()
    >>> ys.tolist(), result.record.norms["h"].tolist()  # dh_T/dh_t = w^(T - t)
    ([[[1.0]], [[0.5]], [[0.25]]], [0.25, 0.5, 1.0])
    """
    if mode not in ("fused", "tape"):
        raise ValueError(f"scan: mode must be 'fused' or 'tape', got {mode!r}.")
    init, xs = _tensors(init), _tensors(xs)
    time, batch = sizes("scan", xs)
    if any(t._trace is not None for t in (*leaves(init), *leaves(xs))):
        return _inside(cell, init, xs, lengths, reverse, truncate, record, time)
    window = _windows("truncate", truncate), _windows("checkpoint", checkpoint)
    if lengths is not None:
        lengths = check_lengths("scan", lengths, time, batch)
        real = np.arange(time)[:, None] < lengths
        xs = map_leaves(lambda x: _where(real, x), xs)
    specified = (cell, init, xs, lengths, reverse)
    if lengths is not None:
        cell, xs = Padded(cell), (xs, as_tensor(real))
    if mode == "tape" and window == (None, None) and not record:
        return ScanResult(*_heard(cell, init, xs, reverse, lambda: unroll(*specified)))
    if window[0] is not None:
        return _in_windows(cell, init, xs, reverse, mode, window[0], time, checkpoint, record)
    if window[1] is not None and window[1] < time:
        return _checkpointed(cell, init, xs, reverse, mode, window[1], time, record)
    if mode == "tape":
        return _on_tape(cell, init, xs, reverse, record)
    return _fused(cell, init, xs, batch, reverse, record)


def _inside(
    cell: Cell, init: Any, xs: Any, lengths: Any, reverse: bool, truncate: int | None, record: Any,
    time: int,
) -> ScanResult:  # fmt: skip
    """A scan in the step of another one: its steps become part of that step."""
    if time > _UNROLLED:
        raise TraceError(
            f"scan: a scan of {time} steps inside a cell; its steps are written out in the step of "
            f"the cell, and {_UNROLLED} at most. Run the outer scan with mode='tape'."
        )
    if record or truncate is not None or lengths is not None:
        raise TraceError(
            "scan: a scan inside a cell takes no record=, truncate= or lengths=; mark values by "
            "mg.tap and detach states in the cell, or run the outer scan with mode='tape'."
        )
    return ScanResult(*unroll(cell, init, xs, None, reverse))


def _tensors(tree: Any) -> Any:
    if all(isinstance(t, Tensor) for t in leaves(tree)):
        return tree
    return map_leaves(as_tensor, tree)


def _windows(name: str, steps: Any) -> int | None:
    if steps is None:
        return None
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)) or steps < 1:
        raise ValueError(f"scan: {name} is a number of steps, an integer >= 1; got {steps!r}.")
    return int(steps)


def _where(real: Array, x: Tensor) -> Tensor:
    """x with what is in the padding replaced: by zeros, integers by those of the first step."""
    real = real.reshape(*real.shape, *(1,) * (x.ndim - 2))
    if x.dtype.kind == "f":
        return ops.where(real, x, 0.0)
    return as_tensor(np.where(real, x._data, x._data[:1]))  # an index that is in bounds


class Padded:
    """The cell on (x, whether the row takes part): in the padding the state passes through."""

    def __init__(self, cell: Cell):
        self.cell = cell
        self.__name__ = f"padded_{cell_name(cell)}"

    def __call__(self, state: Any, x: Any) -> tuple[Any, Any]:
        x, real = x
        new, y = self.cell(state, x)
        check_carry("scan", state, new)
        kept = map_leaves(lambda a, b: choose(real, a, b), new, state)
        return kept, map_leaves(lambda a: choose(real, a), y)


def unpadded(cell: Cell) -> Cell | None:
    """The cell of one that runs on (x, whether the row takes part), as `scan` makes for lengths."""
    return cell.cell if type(cell) is Padded else None


def cell_name(cell: Any) -> str:
    """What a cell is called in names of kernels."""
    name = getattr(cell, "__name__", type(cell).__name__)
    return re.sub(r"\W+", "", name).lower() or "cell"


# -- on the tape ---------------------------------------------------------------------------------


def _on_tape(cell: Cell, init: Any, xs: Any, reverse: bool, record: Any) -> ScanResult:
    def run() -> tuple[Any, Any]:
        return unroll(cell, init, xs, None, reverse)

    if not record:
        return ScanResult(*_heard(cell, init, xs, reverse, run))
    kept = node.TapeRecord(record, reverse, *sizes("scan", xs))
    with kept.listening():
        final, ys = _heard(cell, init, xs, reverse, run)
    return ScanResult(final, ys, kept.record)


def _heard(
    cell: Cell, init: Any, xs: Any, reverse: bool, run: Callable[[], tuple[Any, Any]]
) -> tuple[Any, Any]:
    """run(), of which those who listen to whole scans are told."""
    hears = [ran for who in switches.listeners if (ran := getattr(who, "ran", None))]
    began = tick() if hears else 0
    final, ys = run()
    if hears:
        # ys read the last state too; apart from it, `final` gets only the gradient that is its own
        final = map_leaves(lambda t: ops.reshape(t, t.shape), final)
        given = [*leaves(init), *leaves(xs)]
        weights = _leaves_behind([*leaves(final), *leaves(ys)], given, began)
        for ran in hears:
            ran(switches.scope, Call(cell, init, xs, reverse, final, ys, weights, began))
    return final, ys


def _leaves_behind(outputs: list[Tensor], given: list[Tensor], began: int) -> list[Tensor]:
    """The leaves, other than `given`, from which they were computed since `began`."""
    reads = closed_over(outputs, set(map(id, given)), began)
    return [t for t in reads if isinstance(t, Tensor)]


def _in_windows(
    cell: Cell, init: Any, xs: Any, reverse: bool, mode: str, window: int, time: int,
    checkpoint: int | None, record: Any,
) -> ScanResult:  # fmt: skip
    """Truncated BPTT: one scan a window, the state cut off from the graph in between."""
    starts = list(range(0, time, window))
    parts: list[Any] = []
    records: list[Record] = []
    state, result = init, None
    outer, began = switches.listeners, tick()
    hearing = [Whole(listener) for listener in outer]
    switches.listeners = tuple(hearing)
    try:
        for k, start in enumerate(starts):
            end = min(start + window, time)
            begin, end = (time - end, time - start) if reverse else (start, end)
            if k:
                state = map_leaves(lambda s: s.detach(), state)
            for who in hearing:
                who.begin = begin
            piece = map_leaves(lambda x, b=begin, e=end: x[b:e], xs)
            result = scan(
                cell, state, piece, None, reverse, mode, checkpoint=checkpoint, record=record
            )
            state, ys = result
            parts.append(ys)
            if result.record is not None:
                records.append(result.record)
    finally:
        switches.listeners = outer
    if reverse:
        parts.reverse()
        records.reverse()
    ys = map_leaves(lambda *p: ops.concatenate(p) if len(p) > 1 else p[0], *parts)
    joined = node.JoinedRecord(records) if records else None
    assert result is not None
    for who in hearing:
        weights = list(who.weights.values())
        who.end(Call(cell, init, xs, reverse, state, ys, weights, began, window))
    return ScanResult(state, ys, joined, result.explanation)


def _checkpointed(
    cell: Cell, init: Any, xs: Any, reverse: bool, mode: str, every: int, time: int, record: Any
) -> ScanResult:
    if record or any(hasattr(listener, "sequence") for listener in switches.listeners):
        raise ValueError(
            "scan: record= or mg.flow.record() with checkpoint= would keep every step after all; "
            "leave one out."
        )
    from .checkpoint import checkpointed

    return checkpointed(scan, cell, init, xs, reverse, mode, every, time)


# -- fused -----------------------------------------------------------------------------------------


class Traced:
    """A cell traced for one call: its program, and what stands for each of its inputs."""

    def __init__(self, cell: Cell, init: Any, xs: Any, rows: int, tapped: bool = False):
        self.trace = trace = Trace(rows)
        self.eager: list[Any] = []  # ops on weights and whole sequences, if they were noted
        self.init, self.xs = leaves(init), leaves(xs)
        if tapped:  # what is done with xs in this scan gets nodes of its own
            self.xs = [ops.reshape(t, t.shape) if t.requires_grad else t for t in self.xs]
        for name, tensor in zip(_names(init, "carry"), self.init, strict=True):
            if tensor.ndim == 0 or tensor.shape[0] != rows:
                raise ShapeError(
                    f"scan: {name} is {tensor.dtype}{list(tensor.shape)}, but xs have {rows} rows; "
                    f"every part of the state is (B, ...)."
                )
        carry = [
            trace.input("carry", t.shape, t.dtype, name)
            for t, name in zip(self.init, _names(init, ""), strict=True)
        ]
        inputs = []
        for t, name in zip(self.xs, _names(xs, "x"), strict=True):
            tracer = trace.input("x", t.shape[1:], t.dtype, name)
            tracer._value.tensor = t
            inputs.append(tracer)
        outer = switches.listeners
        self.refused: dict[str, str] = {}  # taps that cannot be recorded, and why
        self._heard = StepTaps(switches.scope)
        switches.listeners = (self._hear,)
        try:
            final, ys = _called(cell, rebuild(init, carry), rebuild(xs, inputs))
        finally:
            switches.listeners = outer
        check_carry("scan", init, final)
        self.final, self.ys = final, ys
        self.taps: dict[str, Value] = self._heard.named()
        for v in self.taps.values():
            if v.spread and v.role == "op":  # eager ops read it: then all of its readers do
                v.role, v.inputs, v.params, v.cut = "x", (), {}, ()
        carry_out = [self._output(t, "the carry") for t in leaves(final)]
        y_values = [self._output(t, "y") for t in leaves(ys)]
        for into, out in zip(carry, carry_out, strict=True):
            if (into._value.batch, into._value.many) != (out.batch, out.many):
                raise TraceError("scan: the carry's batch axis has moved; it must stay axis 0.")
        ahead = {into._value for into, out in zip(carry, carry_out, strict=True) if out.spread}
        for name, v in self.taps.items():
            if v in ahead:
                self.refused[name] = (
                    "is a state that enters the step, and that products ahead of the loop read "
                    "where it is computed; tap it there"
                )
        results = [*carry_out, *y_values, *self.taps.values()]
        body = used(results)
        read = {id(i) for v in body for i in v.inputs} | set(map(id, results))
        given = [v for v in trace.values if id(v) in read]
        self.program = Program(
            carry=[t._value for t in carry],
            xs=[v for v in given if v.role == "x"],
            weights=[v for v in given if v.role in ("weight", "rows")],
            body=body,
            carry_out=carry_out,
            ys=y_values,
            name="step",
        )

    def _hear(self, name: str, tensor: Any, scope: str) -> None:
        if type(tensor) is not Tracer or tensor._value.stage != STEP or tensor._value.batch != 0:
            what = tensor._value.type() if type(tensor) is Tracer else describe(tensor)
            self.refused[name] = f"is {what}, without a row (axis 0) for each of the batch"
            return
        value = tensor._value
        if tensor._cut and tensor.dtype.kind == "f":  # a value that passes no gradient on
            value = (tensor * 1.0)._value
        value.name = value.name or name
        self._heard.hear(name, value, scope)

    def chosen(self, wanted: Any, recorded: Any) -> dict[str, Value]:
        """The taps that are wanted: all of them for True. recorded: what record= says."""
        asked = self.taps if recorded is True else _listed(recorded)
        for name in asked:
            if name in self.refused:
                raise ValueError(f"scan: record={name!r}, but it {self.refused[name]}.")
            if name not in self.taps:
                known = ", ".join(map(repr, self.taps)) or "nothing"
                raise ValueError(
                    f"scan: record={name!r}, but the cell taps {known}; mark it by "
                    f"mg.tap({name!r}, ...) in the cell."
                )
        return self.taps if wanted is True else {name: self.taps[name] for name in asked}

    def _output(self, t: Any, what: str) -> Value:
        """What a cell returns, as a value of the step."""
        t = as_tensor(t)
        if isinstance(t, Tracer):
            if t._value.stage != STEP:
                raise TraceError(f"scan: {what} {t._value.type()} has no batch axis.")
            return (t * 1.0)._value if t._cut and t.dtype.kind == "f" else t._value
        rows = self.trace.rows
        if t.ndim == 0 or t.shape[0] != rows:
            raise TraceError(
                f"scan: {what} is a constant {list(t.shape)}; expected (B, ...) with B = {rows}."
            )
        return self.trace.with_rows(self.trace.weight(t), 0, 1)

    def tensors(self) -> list[Tensor]:
        """What stands for the inputs of the program, in its order."""
        xs = [v.tensor for v in self.program.xs]
        return [*self.init, *xs, *(v.tensor for v in self.program.weights)]

    def key(self, taps: dict[str, Value]) -> tuple[Any, ...]:
        """What the compiler reads: calls with equal keys share their kernels."""
        p = self.program
        outputs = tuple([v.index for v in (*p.carry_out, *p.ys)])
        reads = tuple([v.index for v in p.inputs])  # a tap that is not kept may read more
        named = tuple([(n, v.index, v.spread) for n, v in taps.items()])
        return (tuple([v.key() for v in self.trace.values]), len(p.carry), reads, outputs, named)


def _called(cell: Cell, state: Any, x: Any) -> tuple[Any, Any]:
    result = cell(state, x)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TraceError(
            f"scan: the cell returned {type(result).__name__}; expected a pair (state, y)."
        )
    return result


def _names(tree: Any, fallback: str) -> list[str]:
    from ..tree import named_leaves

    return [name or fallback for name, _ in named_leaves(tree)]


def trace_step(cell: Cell, init: Any, x: Any) -> Traced:
    """The step of a cell, traced: `.program` prints it. init and x: trees of Tensors (B, ...)."""
    xs = map_leaves(lambda t: ops.expand_dims(as_tensor(t), 0), x)
    return Traced(cell, map_leaves(as_tensor, init), xs, leaves(xs)[0].shape[1])


def compile_traced(traced: Traced, name: str, taps: dict[str, Value]) -> Compiled:
    """What the compiler made, or makes now, of a trace."""
    key = traced.key(taps)
    found = _COMPILED.get(key)
    if found is None:
        program = traced.program
        program.taps = dict(taps)
        program = passes.prune(program).check()
        merged, _ = passes.merge_products(traced.trace, program)
        merged.xs, merged.weights = traced.program.xs, traced.program.weights
        if len(_COMPILED) >= _MOST:
            _COMPILED.clear()
        found = _COMPILED[key] = Compiled(traced.trace, merged, name)
    return found


def _fused(cell: Cell, init: Any, xs: Any, rows: int, reverse: bool, record: Any) -> ScanResult:
    given = [*leaves(init), *leaves(xs)]
    began = tick()
    listeners = switches.listeners
    wanted: Any = True if record is True or listeners else _listed(record)
    step = _step(cell, init, xs, given, rows, wanted, record)
    states = set(step.taps) if record is True else set(_listed(record))
    for listener in listeners:  # those of whole sequences say what they want the gradient of
        wished = getattr(listener, "states", ())
        states |= {name for name in step.taps if bare(name) in wished}
    run = node.Run(
        step.compiled, step.tensors, given[-1].shape[0], rows, reverse, step.taps, states
    )
    finals, ys = run.forward()
    if switches.anomaly and not all(_finite(t) for t in (*finals, *ys)):
        unroll(cell, init, xs, None, reverse)  # which names the op and the step
    final, y = rebuild(step.final, finals), rebuild(step.ys, ys)
    if listeners:
        run.tell(listeners)
        weights = _leaves_behind(run.tensors, given, began)
        for listener in listeners:
            if ran := getattr(listener, "ran", None):
                ran(switches.scope, Call(cell, init, xs, reverse, final, y, weights, began))
    return ScanResult(
        final,
        y,
        run.record if record else None,
        run.explanation(step.came),
    )


class _Step(NamedTuple):
    """A step as one call runs it."""

    compiled: Compiled
    tensors: list[Tensor]  # the inputs of its program
    final: Any  # trees that stand for what it returns
    ys: Any
    taps: dict[str, Value]
    came: str  # from where: traced or remembered, and why


def _step(
    cell: Cell, init: Any, xs: Any, given: list[Tensor], rows: int, wanted: Any, record: Any
) -> _Step:
    """The step of a cell, compiled: traced now, or remembered where that is promised to be safe."""
    own = unpadded(cell) or cell
    asked = wanted, record is True
    memory = remember.Memory(own, own is not cell, init, xs, given, asked)
    if memory.found is not None:
        known = memory.found
        return _Step(
            known.compiled, known.again(given), *known.outputs, known.taps,
            "reused: the cell is pure, and nothing that it holds has changed",
        )  # fmt: skip
    first = _traced(cell, init, xs, rows, bool(wanted), memory.wanted)
    taps = first.chosen(wanted, record)
    tensors = first.tensors()
    code = remember.code_of(own)
    compiled = _COMPILED.get(first.key(taps))
    if memory.wanted or compiled is None or code not in compiled.checked:
        apart = [wrap(t._data, None, t.requires_grad) for t in given]  # each a Tensor of its own
        n = len(leaves(init))
        again = rebuild(init, apart[:n]), rebuild(xs, apart[n:])
        second = _traced(cell, *again, rows, bool(wanted), True)
        check_repeats(first, second, taps)
        if compiled is None:
            warn_of_numbers(cell_name(cell), own, code, first.trace.values)
            compiled = compile_traced(first, cell_name(cell), taps)
        compiled.checked.add(code)
        if memory.wanted:
            outputs = _places(first.final), _places(first.ys)
            runs = (first, tensors, given), (second, second.tensors(), apart)
            memory.learn(compiled, runs, outputs, taps)
    return _Step(compiled, tensors, first.final, first.ys, taps, f"traced: {memory.why}")


def _places(tree: Any) -> Any:
    """The tree without what is in it."""
    return map_leaves(lambda _: 0, tree)


def _traced(cell: Cell, init: Any, xs: Any, rows: int, tapped: bool, noted: bool) -> Traced:
    """A trace; tapped: of which taps are kept; noted: with the eager ops that the cell ran."""
    if not noted:
        return Traced(cell, init, xs, rows, tapped)
    recorder = remember.Recorder()
    with recorder.listening():
        traced = Traced(cell, init, xs, rows, tapped)
    traced.eager = recorder.nodes
    return traced


def _finite(t: Tensor) -> bool:
    return t.dtype.kind != "f" or bool(np.isfinite(t._data).all())


def _listed(record: Any) -> tuple[str, ...]:
    return () if not record else (record,) if isinstance(record, str) else tuple(record)
