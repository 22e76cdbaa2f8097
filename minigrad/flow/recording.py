"""What record() yields: a mapping from a layer's path to its LayerFlow."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..compile.result import Call
from ..compile.taps import bare
from ..errors import FlowError
from ..norms import row_norms
from ..tensors import Tensor
from .advising import advice
from .axes import Wires
from .calls import Calls
from .copies import Copies
from .cuts import Cut, Depth
from .diagnosing import Cause, causes, causes_of
from .heard import Place, Run, listen_to
from .layerflow import Activation, LayerFlow, Lazy, Nonfinite
from .measured import Net
from .nonfinite import First, Heard, first
from .places import Places, at_step, both_directions, join
from .replaying import Replay
from .taps import (
    SequenceTaps,
    Series,
    Step,
    activations,
    bad_numbers,
    stacked,
)
from .verdict import Thresholds, Verdict, worst

Array = np.ndarray
CHAINS = 8  # runs of a loop written by hand that may take turns


class Recording(Mapping[str, LayerFlow]):
    """What record() yields: a mapping from a layer's path to its LayerFlow, and a verdict.

    Every run of a layer is there under a path of its own (see places.py): `encoder/l0/fwd`, and its
    second call as `encoder#2/l0/fwd`. A call that no gradient reached, a validation pass say, is
    `forward_only`, and counts for no verdict. `missing` says what ran and could not be recorded.
    Reading it before backward, or when nothing was tapped, raises FlowError with the reason.
    """

    elsewhere = False  # whether the net is of another framework

    def __init__(
        self,
        states: tuple[str, ...],
        thresholds: Thresholds,
        replay: bool = True,
        memory: int | None = None,
        carried: bool = False,
    ):
        """carried: whether states of other names count, too, where a cell carries them over."""
        self.states, self._carried = states, carried
        self.thresholds = thresholds
        self.places, self.calls = Places(), Calls()
        self._replay, self._memory = replay, memory
        self._runs: list[Run] = []
        self._open: dict[tuple[str, int], Run] = {}  # (scope, owner) -> the run there
        self._pending: dict[tuple[str, int], list[tuple[str, Tensor, Step]]] = {}
        self._names: set[tuple[str, int]] = set()
        self._of_scope: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._untapped: Counter[str] = Counter()  # scope -> scans that tapped nothing
        self._bytes = 0
        self._copies = Copies()  # shared by runs
        self._wires = Wires(self._copies)
        self._net: Net | None = None
        self.gaps: list[str] = []  # what else is missing, said by who made it
        self._layers: dict[str, LayerFlow] | None = None

    # -- listening

    def hear(self, name: str, tensor: Tensor, scope: str) -> None:
        """A tap, one step of one layer."""
        around, t, below = at_step(scope)
        made_by = tensor._node.op.name if tensor._node is not None else ""
        step = Step(tensor.numpy(), made_by, tensor.requires_grad)
        self._layers = None
        if t is None:
            self._hear_counted(name, tensor, step, around)
        else:
            self._hear_at(t, (below, name), tensor, step, around)

    def _hear_at(self, t: int, place: Place, tensor: Tensor, step: Step, scope: str) -> None:
        owner, numbered = self.places.nameless(scope), self.places.numbered(scope)
        run = self._open.get((scope, id(owner)))
        if run is not None and not run.closed and t == run.t and run.heard_already(place, tensor):
            return
        if run is None or not run.takes(place, t, tensor, numbered):
            run = self._begin(scope, owner, numbered)
        self._add(run, place, t, tensor, step)

    def _hear_counted(self, name: str, tensor: Tensor, step: Step, scope: str) -> None:
        """A tap outside of any `t=...`: one step more of the run that its state descends from.

        What is tapped before the state waits for it.
        """
        owner = self.places.nameless(scope)
        key = scope, id(owner)
        waiting = self._pending.setdefault(key, [])
        waiting.append((name, tensor, step))
        if name not in self.states:
            return
        there = [r for r in reversed(self._runs) if r.counted and (r.scope, id(r.owner)) == key]
        run = self._chosen(name, tensor, there[:CHAINS])
        if run is None:
            run = self._begin(scope, owner, scope)
            run.counted = True
        self._pending[key] = []
        for name, tensor, step in waiting:
            if not run.heard_already(("", name), tensor):
                self._add(run, ("", name), None, tensor, step)

    @staticmethod
    def _chosen(name: str, tensor: Tensor, runs: list[Run]) -> Run | None:
        for run in runs:
            follows = run.follows(name, tensor)
            if follows or (follows is None and run is runs[0]):
                return run
        return None

    def _add(self, run: Run, place: Place, t: int | None, tensor: Tensor, step: Step) -> None:
        tap = run.add(place, t, tensor, step)
        self._bytes += step.values.nbytes
        if place[1] in self.states and tensor.requires_grad:
            listen_to(run, tap, step, tensor, self.arrived)

    def hear_sequence(self, path: str, taps: SequenceTaps) -> Callable[[], None]:
        """All steps of a compiled layer at once. Returns what is to be called after BPTT."""
        if not taps.record.values:
            return self.arrived  # hear_call says so
        run = self._begin(path, self.places.nameless(path), self.places.numbered(path))
        run.whole = taps
        run.nbytes = taps.record.nbytes
        self._bytes += run.nbytes

        def told() -> None:
            run.told += 1
            self.arrived()

        return told

    def hear_call(self, path: str, call: Call) -> None:
        """The scan whose taps came just before: enough to run it again."""
        owner = self.places.nameless(path)
        run = self._open.get((path, id(owner)))
        self._layers = None
        if run is None or run.closed or run.began < call.began:
            self._untapped[path] += 1
            self.calls.scanned(path, call)
            return
        self.calls.scanned(path, call, run)
        run.closed = True
        if self._replay:
            run.replay = Replay(call, self._copies, self._arrived_weakly(), self.states)
            self._wires.connect(run, call)

    def arrived(self) -> None:
        """More gradients are there than before."""
        self._layers = None

    def _arrived_weakly(self) -> Callable[[], None]:
        """The same, for what a recording holds: in a cycle its arrays would outlive it, until the
        garbage collector comes by.
        """
        own = weakref.ref(self)

        def arrived() -> None:
            if (recording := own()) is not None:
                recording.arrived()

        return arrived

    def _begin(self, scope: str, owner: Any, place: str) -> Run:
        """A run of a layer, by a name that no other has."""
        name, n = place, 1
        while (name, id(owner)) in self._names:
            n += 1
            name = f"{place}#{n}"
        self._names.add((name, id(owner)))
        run = Run(name, scope, owner, place)
        self._runs.append(run)
        self._of_scope[scope] += 1
        self._open[scope, id(owner)] = run
        self._layers = None
        self._make_room()
        return run

    def _make_room(self) -> None:
        """Lets go of the oldest calls of layers that have later ones, if memory is at its limit."""
        while self._memory is not None and self._bytes > self._memory:
            old = next((r for r in self._runs if self._of_scope[r.scope] > 1), None)
            if old is None:
                return
            self._runs.remove(old)
            self._wires.forget(old)
            self._of_scope[old.scope] -= 1
            self._dropped[old.scope] += 1
            self._bytes -= old.nbytes

    # -- reading

    @property
    def layers(self) -> dict[str, LayerFlow]:
        """path -> LayerFlow, in order of computation."""
        if self._layers is None:
            runs = self._named()
            heard = {path: (run, run.taps()) for path, run in runs.items()}
            self._check(list(heard.values()))
            self._layers = {
                path: self._layer(path, run, taps)
                for path, (run, taps) in heard.items()
                if self._states_of(run, taps)
            }
            self._net = Net(runs, self._layers, self._wires, self.thresholds)
        return self._layers

    @property
    def net(self) -> Net:
        """Its runs taken together: the axes of time, and what one walk back along each finds."""
        _ = self.layers
        assert self._net is not None
        return self._net

    @property
    def missing(self) -> list[str]:
        """What ran and is not here, or not whole, and why; one sentence each."""
        found = []
        wanted = " or ".join(self.states)
        for path, run in self._named().items():
            taps = run.taps()
            if not self._states_of(run, taps):
                found.append(
                    f"{path or 'network'} taps {', '.join(taps)}, but no state {wanted}; name "
                    f"yours with record(states=...)"
                )
            found += [f"{path or 'network'}: {gap}" for gap in run.gaps()]
        for scope, count in self._untapped.items():
            scans = "a scan" if count == 1 else f"{count} scans"
            found.append(
                f"{scans} in {scope or 'the network'} tapped nothing; mark the states in the cell, "
                f"h = mg.tap('h', h)"
            )
        for scope, count in self._dropped.items():
            found.append(
                f"{scope or 'network'}: the first {count} calls were let go of, as record(memory=) "
                f"keeps {self._memory:,} bytes"
            )
        return found + self.gaps

    @property
    def cuts(self) -> list[Cut]:
        """|dL/dS_t| through time, S_t all that is carried over at t, one for each time axis."""
        return self.net.cuts

    @property
    def depth(self) -> list[Depth]:
        """What arrives at each layer against the one above it, the topmost first."""
        return self.net.depth

    @property
    def verdict(self) -> Verdict:
        """The most severe verdict among the cuts through time and between layers.

        Calls that are forward only do not count where another call of the layer got a gradient, or
        where they ran under no_grad.
        """
        layers = self.layers.values()
        reached = {layer.scope for layer in layers if layer.arrived}
        unread = [
            x.verdict for x in layers if x.forward_only and x.wants and x.scope not in reached
        ]
        lost = [self._advised(d.verdict) for d in self.depth if d.verdict.kind != "healthy"]
        found = worst([*(cut.verdict for cut in self.cuts), *lost, *unread])
        if (began := self.nonfinite) is None:
            return found
        advised = began.explains(found, self.thresholds)
        if advised.kind == found.kind:
            return advised
        return replace(advised, advice=advice(self.layers[began.path], advised.kind))

    @property
    def nonfinite(self) -> First | None:
        """Where NaN or Inf began among the states that a gradient reached, or in their gradients.

        `LayerFlow.nonfinite` counts them.
        """
        return first(
            Heard(
                path,
                taps,
                self._states_of(run, taps),
                run.replay.real if run.replay else None,
                run.whole.record if run.whole else None,
            )
            for path, run in self.net.runs.items()
            if self.layers[path].arrived
            for taps in (run.taps(),)
        )

    def _advised(self, between: Verdict) -> Verdict:
        """A verdict on two layers with what to try."""
        lost = "lost-in-depth" if between.kind == "vanishing" else between.kind
        layers = [layer for layer in self.layers.values() if layer.arrived]
        return between.because("", advice(layers, lost))

    @property
    def causes(self) -> list[Cause]:
        """What is wrong, by name and with numbers; [] if nothing is. See `mg.flow.causes`."""
        return causes(self)

    def own_causes(self) -> list[Cause]:
        """Those that the recording itself tells of, in no order."""
        return causes_of(self)

    def save(self, path: str | Path, weights: bool = False) -> Path:
        """Writes all that it can say to one file, for `mg.flow.load`; returns its path.

        weights: with `LayerFlow.weights`, whose parts by lag take about T backward passes. The file
        is a zip of JSON and .npy arrays, which `np.load` opens, without pickle. What was there
        before is replaced if it is a recording. The net is not in it, nor what needs it: Jacobians,
        `weight_terms`. Raises FlowError where there is nothing to save, or no place to write.

        >>> import tempfile, numpy as np, minigrad as mg
        >>> rnn = mg.nn.RNN(2, 3, dtype=np.float64, generator=np.random.default_rng(0))
        >>> rec = mg.flow.probe(rnn, np.ones((9, 1, 2)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = mg.flow.load(rec.save(f"{folder}/before.npz"))
        >>> again.verdict == rec.verdict, str(again) == str(rec)
        (True, True)
        """
        return type(self).saved(self, path, weights)

    @property
    def inputs(self) -> Array | None:
        """|dL/dx_t| of what the first layer reads, by way of all its directions: (T, B), t = 0 ...

        In the first call that a gradient reached. None if it reads no floats. Computed by running
        the layer again (see replaying.py).
        """
        first = both_directions(next(p for p, layer in self.layers.items() if layer.arrived))
        sides = [layer for path, layer in self.layers.items() if both_directions(path) == first]
        totals: dict[str, Array] = {}
        for layer in sides:
            for name, g in layer.input_gradients.items():
                in_time = np.asarray(g[np.argsort(layer.steps)], np.float64)
                totals[name] = totals[name] + in_time if name in totals else in_time
        if not totals:
            return None
        joined = np.concatenate([g.reshape(*g.shape[:2], -1) for g in totals.values()], axis=2)
        return row_norms(joined).reshape(joined.shape[:2])

    def __getitem__(self, path: str) -> LayerFlow:
        if path not in self.layers:
            raise KeyError(f"{path!r}; recorded are {', '.join(map(repr, self.layers))}")
        return self.layers[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    printed: Callable[[Any], Any]  # its report; reporting.py, which reads recordings, says how
    saved: Callable[[Any, str | Path, bool], Path]  # and saving/

    def __str__(self) -> str:
        return str(type(self).printed(self))

    def __repr__(self) -> str:
        missing = f"; missing: {'; '.join(m)}" if (m := self.missing) else ""
        named = [path or "network" for path in self._named()]
        return f"<Recording of {', '.join(named) or 'nothing yet'}{missing}>"

    _repr_html_: ClassVar[Callable[[Any], str]]  # notebook.py, which reads it, says how

    def to_dict(self) -> dict[str, Any]:
        """path -> LayerFlow.to_dict(); "cuts" and "depth"; and "missing", a list of sentences."""
        found: dict[str, Any] = {path: layer.to_dict() for path, layer in self.layers.items()}
        found |= {
            "cuts": [c.to_dict() for c in self.cuts],
            "depth": [d.to_dict() for d in self.depth],
        }
        return found | ({"missing": missing} if (missing := self.missing) else {})

    def _named(self) -> dict[str, Run]:
        """path -> run. Modules without a name are told apart by their class, where they must be."""
        self._settle()
        owners: dict[str, set[int]] = {}
        for run in self._runs:
            owners.setdefault(run.scope, set()).add(id(run.owner))
        found: dict[str, Run] = {}
        for run in self._runs:
            path = run.name
            if len(owners[run.scope]) > 1 and run.owner is not None:
                again = run.name[len(run.place) :]  # "#2"
                path = join(run.place, self.places.name_of(run.owner)) + again
            while path in found:
                path += "'"
            found[path] = run
        return found

    def _settle(self) -> None:
        """What waited for a state that never came is of the run before it, or of one of its own."""
        for key, waiting in self._pending.items():
            if waiting:
                run = self._open.get(key)
                if run is None or run.closed:
                    run = self._begin(key[0], None, key[0])
                    run.counted = True
                for name, tensor, step in waiting:
                    self._add(run, ("", name), None, tensor, step)
        self._pending.clear()

    def _states_of(self, run: Run, taps: Mapping[str, Any]) -> list[str]:
        """The labels of the states: in the order of `states`, then of the taps.

        Where none is called like that, those that the cell carries over, if they count.
        """
        named = [label for name in self.states for label in taps if bare(label) == name]
        if named or run.replay is None or not self._carried:
            return named
        return [label for label in run.replay.tapped_states if label in taps]

    def _check(self, heard: list[tuple[Run, dict[str, Series]]]) -> None:
        wanted = " or ".join(repr(s) for s in self.states)
        names = sorted({name for _, taps in heard for name in taps})
        if not names:
            raise FlowError(
                "record: nothing was tapped. Run a recurrent layer inside `with mg.flow.record()`, "
                'or mark the states of your own cell: h = mg.tap("h", h), inside '
                '`with mg.scope(f"t={t}")`.'
            )
        steps = [
            step
            for run, taps in heard
            for name in self._states_of(run, taps)
            for step in taps[name].values()
        ]
        if not steps:
            raise FlowError(
                f"record: {', '.join(map(repr, names))} were tapped, but no state {wanted}; name "
                f"your states with mg.flow.record(states=(...,))."
            )
        if not any(step.wants for step in steps):
            raise FlowError(
                "record: none of the states needs a gradient; run the forward pass outside "
                "mg.no_grad(), with weights that require gradients."
            )
        if not any(step.arrived for step in steps) and not any(
            run.replay is not None and run.replay.arrived for run in self._runs
        ):
            raise FlowError(
                f"record: {len(steps)} states were seen, but no gradient arrived at any of them; "
                f"call backward() on a loss that depends on them."
            )

    def _layer(self, path: str, run: Run, taps: dict[str, Series]) -> LayerFlow:
        states = {name: taps[name] for name in self._states_of(run, taps)}
        steps = list(dict.fromkeys(t for series in states.values() for t in series))
        unheard = not any(bare(name) in self.states for name in states)
        again = (unheard or not run.norms_known) and run.replay is not None and run.replay.arrived
        if again:
            per_sample = run.replay.per_sample(list(states))  # type: ignore[union-attr]
        else:
            per_sample = {
                name: run.per_sample(name, series, steps) for name, series in states.items()
            }
        heard = {n: s for n, s in states.items() if any(x.gradient is not None for x in s.values())}
        every = [step for series in states.values() for step in series.values()]
        return LayerFlow(
            path=path,
            steps=np.array(steps, dtype=np.int64),
            norms={name: row_norms(x) for name, x in per_sample.items()},
            per_sample=per_sample,
            activations=Lazy(
                {n: partial(_activations, series, run.replay) for n, series in taps.items()}
            ),
            tiny=max(step.tiny for step in every),
            thresholds=self.thresholds,
            values=Lazy({n: partial(stacked, series, steps) for n, series in taps.items()}),
            nonfinite=Lazy({n: partial(_nonfinite, series) for n, series in taps.items()}),
            heard=Lazy({n: partial(stacked, s, steps, "gradient") for n, s in heard.items()}),
            replay=run.replay,
            scope=run.scope,
            wants=any(step.wants for step in every),
            arrived=again or any(step.arrived for step in every),
            last_alone=lambda: self.net.last_alone(path),
            untold=lambda: self.net.untold(path),
            cut=lambda: self.net.cut_of(path),
            elsewhere=self.elsewhere,
        )


def _activations(series: Series, replay: Replay | None) -> Activation:
    real = replay.real if replay is not None and replay.padded else None
    return Activation(*activations(series, real))


def _nonfinite(series: Series) -> Nonfinite:
    return Nonfinite(*bad_numbers(series))
