"""checkpoint=: keep the state at some steps, and compute what lies between again for BPTT.

Which steps, schedule.py says. Every part of the sequence is a scan of its own and stands on the
tape as one node that keeps its inputs alone (recompute.py): the state before it is a snapshot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np

from .. import ops
from ..kernels import arena
from ..listener import Listener
from ..op import Op
from ..tape import Node, tick
from ..tape import state as switches
from ..tensors import Tensor, wrap
from ..tree import emptied, leaves, rebuild
from ..versions import owner
from .node import SCAN, Pulled, Saved, scan_node
from .recompute import Ran, digest_of, recomputed
from .records import JoinedRecord, Record, TapeRecord
from .replayed import run_anew
from .result import Call, ScanResult
from .schedule import Part, Schedule, every, readable, within

_PROBE = 64  # rows of the shorter run: more than a product over several steps takes at once
_BESIDE = 1 << 13  # bytes of states by which the longer is longer: arrays are rounded up to 64
_NODE = 1 << 10  # bytes of Python objects for an operation on the tape, and its gradient
_SPARE = 8  # one part in so many for arrays that are larger than asked for, see kernels/arena.py


class _JoinedOp(Op):
    """The ys of all segments in one array, to which they were copied as they came."""

    kind = "scan"

    def pull(self, node: Node, g: Any, recorded: bool) -> Pulled:
        return [(i, g[slice(*node.params["spans"][i])]) for i in node.plan.needs]


def _join(inputs: Any) -> Any:
    """(y of a segment, ...) -> y of all."""
    raise TypeError("scan_ys is recorded by mg.scan, not called as an op")


JOINED = _JoinedOp(_join, {"name": "scan_ys", "variadic": True, "method": False})


def checkpointed(
    scan: Callable[..., ScanResult], cell: Any, init: Any, xs: Any, reverse: bool, mode: str,
    record: Any, asked: int | str,
) -> ScanResult:  # fmt: skip
    """scan(cell, init, xs, None, reverse, mode, record=record), in parts.

    asked: a number of steps, "auto" or a size.
    """
    if switches.jit is not None:
        return _in_a_step(scan, cell, init, xs, reverse, mode, record, asked)
    run = _Parts(scan, cell, init, xs, reverse, mode, record)
    if isinstance(asked, int):
        cut = asked < run.steps
        schedule: Schedule | None = every(asked, run.steps, run.state_bytes) if cut else None
    else:
        schedule = within(asked, run.steps, run.state_bytes, run.step_bytes())
    if schedule is None:
        result = scan(cell, init, xs, None, reverse, mode, record=record)
        made = f"checkpoint={asked!r}: all {run.steps} steps fit; none is computed again"
    else:
        result = run.run(schedule)
        made = told(schedule)
    result.explanation = Segmented(result.explanation, made, schedule)
    return result


def _in_a_step(
    scan: Callable[..., ScanResult], cell: Any, init: Any, xs: Any, reverse: bool, mode: str,
    record: Any, asked: int | str,
) -> ScanResult:  # fmt: skip
    """The same in a step of mg.jit: every replay runs it, so that its memory comes and goes."""
    given = [*leaves(init), *leaves(xs)]
    n, init, xs = len(leaves(init)), emptied(init), emptied(xs)  # run is kept, these are not
    kept: tuple[Any, ...] = ()

    def run(given: list[Tensor]) -> list[Tensor]:
        nonlocal kept
        state, inputs = rebuild(init, given[:n]), rebuild(xs, given[n:])
        result = checkpointed(scan, cell, state, inputs, reverse, mode, record, asked)
        kept = emptied(result.ys), result.record, result.explanation
        return leaves(tuple(result))

    outputs = run_anew(run, given, "a scan with checkpoint=")
    ys, *rest = kept
    return ScanResult(rebuild(init, outputs[:n]), rebuild(ys, outputs[n:]), *rest)


class _Inside(Listener):
    """Hears the segments: what they tapped, instead of those who listen to the scan."""

    whole_scans = True

    def __init__(self, outer: Sequence[Listener], scope: str):
        self.outer, self.scope = outer, scope
        self.states = tuple(dict.fromkeys(s for listener in outer for s in listener.states))
        self.record: Record | None = None
        self.made_by: dict[str, str] = {}
        self.wants = False
        self.weights: dict[int, Tensor] = {}

    @contextmanager
    def entered(self, module: Any, name: str) -> Iterator[str]:
        with ExitStack() as stack:
            for listener in self.outer:
                name = stack.enter_context(listener.entered(module, name))
            yield name

    def sequence(
        self, path: str, order: range, record: Record, made_by: dict[str, str], wants: bool
    ) -> Callable[[], None]:
        if path != self.scope:
            raise ValueError(
                "scan: a recording with checkpoint= and mode='tape' cannot follow a scan inside "
                f"the cell (in {path}); leave one of them out."
            )
        self.record, self.made_by, self.wants = record, made_by, self.wants or wants
        return lambda: None

    def ran(self, path: str, call: Call) -> None:
        self.weights |= {id(w): w for w in call.weights}


class _Parts:
    """A scan in parts: how each runs, and what is kept of their taps."""

    def __init__(
        self, scan: Callable[..., ScanResult], cell: Any, init: Any, xs: Any, reverse: bool,
        mode: str, record: Any,
    ):  # fmt: skip
        self.scan, self.cell, self.init, self.xs = scan, cell, init, xs
        self.reverse, self.mode, self.record = reverse, mode, record
        self.states, self.steps = len(leaves(init)), int(leaves(xs)[0].shape[0])
        self.rows = int(leaves(xs)[0].shape[1])
        self.listeners, self.scope = switches.listeners, switches.scope
        self.inside = _Inside(self.listeners, self.scope)
        self.again = _Inside((), self.scope)  # in a run that nobody is to hear of
        self.again.states = self.inside.states
        self.ys: Any = None  # their structure
        self.all_ys: list[np.ndarray] = []
        self.explanation: Any = None
        self.records: dict[int, list[Record]] = {}  # first t of a segment -> those of its first run
        self._passes: Counter[int] = Counter()
        self._tellers: list[Callable[[], None]] = []

    @property
    def watched(self) -> bool:
        return bool(self.record or self.listeners)

    # -- running

    def run(self, schedule: Schedule) -> ScanResult:
        began = tick()
        self.root = Part(0, self.steps, schedule.parts)
        given = [*leaves(self.init), *leaves(self.xs)]
        outputs = self._part(self.root, True, given, False).outputs
        final = rebuild(self.init, outputs[: self.states])
        ys = rebuild(self.ys, self._whole_ys(outputs[self.states :]))
        if self.listeners:
            self._tell(Call(
                self.cell, self.init, self.xs, self.reverse, final, ys,
                list(self.inside.weights.values()), began,
            ))  # fmt: skip
        return ScanResult(final, ys, self._joined(-1) if self.record else None, self.explanation)

    def _part(self, part: Part, first: bool, given: list[Tensor], again: bool) -> Ran:
        """One part, on the state before it and its xs. first: whether what is around it runs for
        the first time; again: whether this part does not.
        """
        first = first and not again
        if not part.parts:
            return self._segment(part, first, given)
        state, xs = given[: self.states], given[self.states :]
        ys: list[Tensor] = []
        digest = 0
        for inner in part.parts:
            begin = part.end - inner.end if self.reverse else inner.begin - part.begin
            length = inner.end - inner.begin
            inputs = [*state, *(x[begin : begin + length] for x in xs)]
            run = partial(self._part, inner, first)
            if inner is part.parts[-1] and not (first and self.watched):
                ran = run(inputs, False)  # what it keeps is read before any other part runs again
            else:
                at = self._begin(inner)
                what = f"steps {at} to {at + length - 1}"
                params = {"steps": length, "reverse": self.reverse, "first": at}
                ran = recomputed(run, inputs, what, params)
            state = ran.outputs[: self.states]
            own = ran.outputs[self.states :]
            if part is self.root:
                self._collect(inner, own)
            ys += own if first and part is not self.root else map(_without_values, own)
            digest = digest_of(state, digest ^ ran.digest)
        return Ran([*state, *ys], digest, ran.passed)

    def _collect(self, part: Part, ys: list[Tensor]) -> None:
        """Copies the ys of a part to where those of all steps are."""
        count = len(leaves(self.ys))
        if not self.all_ys:
            self.all_ys = [arena.empty((self.steps, *y.shape[1:]), y.dtype) for y in ys[:count]]
        for k, segment in enumerate(part.segments):
            begin = self._begin(segment)
            for whole, y in zip(self.all_ys, ys[k * count :], strict=False):
                whole[begin : begin + len(y._array)] = y._array

    def _whole_ys(self, pieces: list[Tensor]) -> list[Tensor]:
        """The ys of all steps; pieces: those of each segment, without their values."""
        count, found = len(self.all_ys), []
        begins = [self._begin(s) for s in self.root.segments]
        for k, whole in enumerate(self.all_ys):
            own = pieces[k::count]
            needs = tuple(i for i, y in enumerate(own) if y.requires_grad)
            if not needs and switches.tape is None:
                found.append(wrap(whole, None, False))
                continue
            spans = [(b, b + y.shape[0]) for b, y in zip(begins, own, strict=True)]
            made = scan_node(JOINED, own, {"spans": spans}, needs, Saved([], None), whole)
            found.append(wrap(whole, made, bool(needs)))
        return found

    def _segment(self, part: Part, first: bool, given: list[Tensor]) -> Ran:
        begin = self._begin(part)
        heard = (self.inside if first else self.again) if self.listeners else None
        with switches.switched(scope=self.scope, listeners=(heard,) if heard else ()):
            result, records = self._heard(given, heard)
        self.ys, self.explanation = emptied(result.ys), result.explanation
        outputs = leaves(result)
        passed: Callable[[], None] = lambda: None  # noqa: E731
        if first:
            self.records[begin] = records
        elif records:
            passed = partial(self._passed, begin, records)
        return Ran(outputs, digest_of(outputs), passed)

    def _heard(self, given: list[Tensor], heard: _Inside | None) -> tuple[ScanResult, list[Record]]:
        """A segment, and the records of its taps: for those who listen, and as record= asks."""
        time = given[self.states].shape[0]
        run = partial(self.scan, self.cell)
        rest = (None, self.reverse, self.mode)
        if self.mode == "tape" and self.watched:  # a state that comes in and is tapped has hooks
            given = [ops.reshape(t, t.shape) if t.requires_grad else t for t in given]
        init, xs = rebuild(self.init, given[: self.states]), rebuild(self.xs, given[self.states :])
        if heard is not None and self.mode == "tape":
            taps = TapeRecord(True, self.reverse, time, self.rows)
            with taps.listening():
                result = run(init, xs, *rest, record=self.record)
            order = range(time)
            heard.sequence(self.scope, order, taps.record, taps.made_by, bool(taps.wants))
        else:
            result = run(init, xs, *rest, record=self.record)
        found = [heard.record] if heard is not None and heard.record is not None else []
        return result, found + ([result.record] if result.record is not None else [])

    def _begin(self, part: Part) -> int:
        """The first t of a part."""
        return self.steps - part.end if self.reverse else part.begin

    # -- what is heard

    def _passed(self, begin: int, records: list[Record]) -> None:
        """BPTT has passed a segment: the gradients at its taps are those of its first run."""
        for first, now in zip(self.records[begin], records, strict=True):
            for name, of_now in zip(first.values, now.values, strict=True):
                if of_now in now.gradients:
                    first.gradients[name] = now.gradients[of_now]
            first.carried |= now.carried
        most = max(self._passes.values(), default=0)
        self._passes[begin] += 1
        if self._passes[begin] > most:  # once for each backward pass
            for tell in self._tellers:
                tell()

    def _joined(self, k: int) -> Record:
        """All steps of the k-th record of every segment."""
        return JoinedRecord([self.records[begin][k] for begin in sorted(self.records)])

    def _tell(self, call: Call) -> None:
        """Those who listen hear of one scan of all steps."""
        inside = self.inside
        record = self._joined(0)
        order = range(self.steps - 1, -1, -1) if self.reverse else range(self.steps)
        for listener in self.listeners:
            if listener.whole_scans:
                self._tellers.append(
                    listener.sequence(self.scope, order, record, inside.made_by, inside.wants)
                )
                listener.ran(self.scope, call)
                continue
            values = record.values
            for t in order:
                scope = f"{self.scope}/t={t}" if self.scope else f"t={t}"
                for name, of_all in values.items():
                    listener.tap(name, wrap(of_all[t], None, False), scope)

    # -- how much memory

    @property
    def state_bytes(self) -> int:
        return sum(s._array.nbytes for s in leaves(self.init))

    def step_bytes(self) -> int:
        """Bytes of what BPTT reads and writes for a step: measured, by two short runs."""
        short = -(-_PROBE // self.rows)
        more = min(max(_BESIDE // max(self.state_bytes, 1), 2), 16)
        if short + more > self.steps:
            short, more = self.steps // 2, -(-self.steps // 2)
        (less, _), (most, own) = self._probed(short), self._probed(short + more)
        step = -(-(most - less) // more) + own
        return step + step // _SPARE

    def _probed(self, steps: int) -> tuple[int, int]:
        """(bytes kept by a scan of some steps, bytes that its BPTT makes for each)."""
        if steps == 0:
            return 0, 0
        given = [
            *(wrap(s._array, None, s.dtype.kind == "f") for s in leaves(self.init)),
            *(wrap(x._array[:steps], None, x.requires_grad) for x in leaves(self.xs)),
        ]
        heard = self.again if self.listeners else None
        began = tick()
        with switches.switched(tape=None, jit=None, listeners=(heard,) if heard else ()):
            result, _ = self._heard(given, heard)
        return _kept(leaves(result), given, began)


def _kept(outputs: list[Tensor], given: list[Tensor], since: int) -> tuple[int, int]:
    """Bytes that the nodes made since then keep, and those of a step of BPTT's own arrays."""
    known = {id(owner(t._array)) for t in given}
    found: dict[int, int] = {id(owner(t._array)): owner(t._array).nbytes for t in outputs}
    seen: set[int] = set()
    stack: list[Any] = [t._node for t in outputs if t._node is not None]
    own = 0
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if not isinstance(node, Node) or node.position <= since:
            known |= {id(owner(node._array))} if isinstance(node, Tensor) else set()
            continue
        found |= {id(owner(a)): owner(a).nbytes for a in node._saved or ()}
        stack.extend(i for i in node.inputs if isinstance(i, (Node, Tensor)))
        if node.op is SCAN:
            own += _of_bptt(node)
    kept = sum(nbytes for array, nbytes in found.items() if array not in known)
    return kept + _NODE * len(seen), own


def _of_bptt(node: Node) -> int:
    """Bytes of a step in the arrays that a compiled scan's BPTT makes."""
    compiled, rows = node.params["compiled"], node.params["rows"]
    assert isinstance(node._saved, Saved)
    carries = len(compiled.program.carry)
    wanted = tuple(i for i in node._saved.of.needs if i >= carries)
    back = compiled.backward(wanted, True, node.params["shown"])
    forward = {b.name for b in back.forward.of.values()}
    own = [b for b in back.arrays if b.at == "t" and b.name not in forward]
    factors = [sum(i.size * i.dtype.itemsize for i in v.inputs) for v in back.products]
    copied = max(factors, default=0)  # those of one product over all steps, if they lie otherwise
    return int(rows * (sum(b.size * b.dtype.itemsize for b in own) + copied))


def _without_values(t: Tensor) -> Tensor:
    """The same place in the graph, for what nobody reads the values of."""
    return wrap(np.broadcast_to(np.zeros((), t.dtype), t.shape), t._node, t.requires_grad)


# -- explain() -------------------------------------------------------------------------------------


def told(schedule: Schedule) -> str:
    """What explain() says of a schedule."""
    segments = len(schedule.segments)
    states = f"{schedule.snapshots} x {readable(schedule.state)}"
    kept = f"the state before {schedule.snapshots} of them at a time"
    lines = [
        f"checkpoint={schedule.asked!r}: {schedule.steps} steps in {segments} segments of "
        f"{schedule.longest} or less",
        f"  kept       {kept}, and what BPTT reads of one segment",
    ]
    if schedule.step:
        lines.append(
            f"  memory     {states} + {schedule.longest} x {readable(schedule.step)} = "
            f"{readable(schedule.nbytes)}, of {readable(schedule.budget)}; beside inputs, results "
            f"and their gradients"
        )
    else:
        lines.append(f"  memory     {states}, and what is stored of a segment, see below")
    how = "one level" if all(not p.parts for p in schedule.parts) else "binomial (Revolve)"
    lines.append(
        f"  computed   every step {schedule.computed / schedule.steps:.3g} times forward, {how}"
    )
    return "\n".join(lines)


class Segmented:
    """The explanation of a segment, behind what is said of all of them; schedule: None if all
    steps fit.
    """

    def __init__(self, segment: Any, text: str, schedule: Schedule | None):
        self.segment, self.text, self.schedule = segment, text, schedule

    def __getattr__(self, name: str) -> Any:
        return getattr(self.segment, name)

    def __str__(self) -> str:
        return f"{self.text}\n{self.segment}"

    __repr__ = __str__
