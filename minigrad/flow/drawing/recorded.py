"""What travels along the arrows of a recorded network: from its cuts, so that a drawing shows the
profiles that were judged.

    |dL/ds_t| = |dL/dS_t| sqrt(share of s)      at lag k, which is the column `last - k`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..cuts import Cut
from ..layerflow import LayerFlow
from ..places import both_directions
from ..recording import Recording
from ..verdict import Verdict
from ..ways import Ways
from .describing import describe
from .network import Panel
from .travel import Series, Strand, Travel, gates_of, series, strand

Array = np.ndarray
MOST_CUTS = 4  # that are said one by one


def panel(
    title: str,
    recording: Recording,
    note: str = "",
    inputs: Mapping[int, str] | None = None,
    summed: bool = False,
) -> Panel:
    """An unrolled recording, with its verdict, a note and what cannot be seen written above it."""
    first, *lines = notes_of(recording, summed)
    text = "\n".join(["  ·  ".join(filter(None, (first, note))), *lines])
    return Panel(title, list(recording.values()), text, inputs, of_recording(recording, summed))


def of_recording(recording: Recording, summed: bool = False) -> Travel:
    """The gradients of a recording's cuts; layers that none reached are drawn without.

    summed: all that the loss sends, where it reads many steps, and not its last reading alone. Then
    what is at a state is all that arrived there, by whatever way.
    """
    summed = summed and any(cut.ways is not None and cut.ways.many for cut in recording.cuts)
    made = _Travel(dict(recording), summed)
    for cut in _in_order(recording):
        made.add(cut)
    return made.done()


def _in_order(recording: Recording) -> list[Cut]:
    """Its cuts, as their lowest layers ran."""
    order = {path: k for k, path in enumerate(recording)}
    return sorted(recording.cuts, key=lambda cut: order[cut.paths[0]])


def notes_of(recording: Recording, summed: bool = False) -> list[str]:
    """What is written above an unrolled recording, the verdict first."""
    lines = [describe(recording.verdict)]
    if len(recording.cuts) > 1:
        cuts = _in_order(recording)[:MOST_CUTS]
        lines += [f"{cut.name}: {describe(cut.verdict)}" for cut in cuts]
    if any(cut.ways is not None and cut.ways.many for cut in recording.cuts):
        lines.append(
            "the loss reads many steps: this is all that it sends back, summed"
            if summed
            else "the loss reads many steps: this is what the last one that it reads sends back"
        )
    if not summed and any(_crossing(recording, cut) for cut in recording.cuts):
        lines.append(
            "states: what came along their own direction; arrows up and down: all that passes there"
        )
    real = [layer.real for layer in recording.values() if layer.real is not None]
    if not summed and any((steps != steps[:, :1]).any() for steps in real):
        lines.append("rows of different lengths are aligned at their own last steps")
    for reader, source in recording.calls.always():
        lines.append(f"{reader} reads {source} at every step: by that way, not drawn, more arrives")
    return [*lines, *(f"missing: {text}" for text in recording.missing)]


def _crossing(recording: Recording, cut: Cut) -> bool:
    """Whether a layer reads both directions of another, so that gradients change direction."""
    pairs = cut.ways.outputs if cut.ways is not None else ()
    return any(recording[a].reverse != recording[b].reverse for a, b in pairs)


@dataclass
class Ends:
    """Of one run: |gradient| at its states by lag, the verdict it counts for, and all norms."""

    profile: list[float]
    verdict: Verdict
    norms: list[float]

    @property
    def near(self) -> float:
        """The first that is not zero, from the loss on."""
        return next((norm for norm in self.profile if norm != 0), 0.0)

    @property
    def far(self) -> float:
        return self.profile[-1] if self.profile else 0.0


def ends_of(recording: Recording) -> dict[str, Ends]:
    """Path of a run -> its own part of the profile that was judged."""
    found: dict[str, Ends] = {}
    layers = dict(recording)
    for cut in recording.cuts:
        made = _Travel(layers)
        made.add(cut, arrows=False)
        for run, label in made.label.items():
            steps = [made.begins[run] + int(t) for t in layers[run].steps][::-1]
            states = made.strands[label].carried.values()
            norms = [float(np.linalg.norm([at.get(c, 0.0) for at in states])) for c in steps]
            reached = next((k for k, norm in enumerate(norms) if norm != 0), len(norms))
            found.setdefault(run, Ends(norms[reached:], cut.verdict, norms))
    for path, layer in layers.items():
        if path not in found:
            found[path] = Ends([], layer.verdict, [])
    return found


class _Travel:
    """A Travel that is put together cut by cut."""

    def __init__(self, layers: Mapping[str, LayerFlow], summed: bool = False):
        self.layers, self.summed = layers, summed
        self.travel = Travel([])
        self.strands: dict[str, Strand] = {}
        self.begins: dict[str, int] = {}  # path of a run -> the column of its first step
        self.label: dict[str, str] = {}  # path of a run -> that of the strand that it is part of

    def done(self) -> Travel:
        for path, layer in self.layers.items():
            if path not in self.label:
                self.strands[path] = strand(layer)
        order = {path: k for k, path in enumerate(self.layers)}
        self.travel.strands = sorted(self.strands.values(), key=lambda s: order[s.path])
        return self.travel

    def add(self, cut: Cut, arrows: bool = True) -> None:
        columns, reached = self._columns(cut.groups)
        label = {run: path for group in cut.groups for run, path in group.items()}
        self.label |= label
        lags = dict(enumerate(reversed(columns[: reached + 1])))
        own = {path: self._own(path, label) for path in cut.paths}
        if self.summed:
            for path in cut.paths:
                if path not in self.strands:
                    self.strands[path] = self._all(path, label)
        for k, (path, state) in enumerate(cut.labels if not self.summed else ()):
            with np.errstate(invalid="ignore"):
                norms = cut.profile * np.sqrt(cut.shares[:, k])
            values = dict.fromkeys(sorted(own[path]), 0.0)
            at = enumerate(norms.tolist())
            values |= {c: v for lag, v in at if (c := lags.get(lag)) in values}
            known = self.strands.get(path)
            if known is None:
                known = self.strands[path] = self._strand(path, label)
            if state not in known.carried:
                known.carried[state] = values
                near = lags.get(0)
                if near is not None and values.get(near):
                    self.travel.entering[path, state] = {near: values[near]}
        if len(cut.labels) > 1:
            profile = cut.summed if self.summed else cut.profile
            whole = {lags[lag]: v for lag, v in enumerate(profile.tolist())}
            reverse = self.layers[cut.paths[-1]].reverse
            empty = dict.fromkeys(sorted(columns), 0.0)
            self.travel.whole.append(Strand(cut.name, reverse, {"S": empty | whole}, {}))
        if arrows and cut.ways is not None:
            self._between(cut.ways, label)

    def _columns(self, groups: Sequence[Iterable[str]]) -> tuple[list[int], int]:
        """The columns of an axis, in order of computation, and which was the last to be reached."""
        columns: list[int] = []
        reached: list[Array] = []
        for group in groups:
            first = next(iter(group))
            begin = self.begins.get(first, len(columns))
            self.begins |= {path: self.begins.get(path, begin) for path in group}
            columns += [begin + int(t) for t in self.layers[first].steps]
            norms = [n != 0 for path in group for n in self.layers[path].norms.values()]
            reached.append(np.any(norms, axis=0))
        there = np.flatnonzero(np.concatenate(reached))
        return columns, int(there[-1]) if there.size else -1

    def _own(self, path: str, label: Mapping[str, str]) -> set[int]:
        """The columns of a layer, in all its runs."""
        runs = [run for run, of in label.items() if of == path]
        return {self.begins[run] + int(t) for run in runs for t in self.layers[run].steps}

    def _strand(self, path: str, label: Mapping[str, str]) -> Strand:
        gates: dict[str, Series] = {}
        for run, of in label.items():
            for name, means in gates_of(self.layers[run]).items() if of == path else ():
                begin = self.begins[run]
                gates.setdefault(name, {}).update({begin + t: m for t, m in means.items()})
        return Strand(path, self.layers[path].reverse, {}, gates, self.begins[path])

    def _all(self, path: str, label: Mapping[str, str]) -> Strand:
        """A layer with all that arrived at its states."""
        found = self._strand(path, label)
        for run, of in label.items():
            for name, at in strand(self.layers[run]).carried.items() if of == path else ():
                begin = self.begins[run]
                found.carried.setdefault(name, {}).update({begin + t: v for t, v in at.items()})
        return found

    # -- arrows

    def _between(self, ways: Ways, label: Mapping[str, str]) -> None:
        travel = self.travel
        for (reader, source), norms in ways.outputs.items():
            above, beneath = (both_directions(label.get(p, p)) for p in (reader, source))
            if self.begins.get(reader) == self.begins.get(source, self.begins.get(reader)):
                if (above, beneath) not in travel.beneath:
                    travel.beneath.append((above, beneath))
                exact = None
                if self.summed or not ways.many:
                    exact = self.layers[source].at_outputs
                self._add(travel.received, source, label, norms if exact is None else exact,
                          instead=exact is not None)  # fmt: skip
        for (later, earlier), norm in ways.states.items():
            pair = label.get(later, later), label.get(earlier, earlier)
            if pair[0] != pair[1]:  # measured for the last reading alone
                travel.behind[pair] = None if self.summed else norm
        if self.summed:
            self._read(ways, label)
            return
        for path, norms in ways.sent.items():
            self._add(travel.sent, path, label, norms)
        for (path, state), norms in ways.within.items():
            key = label[path], state
            at = self._at(path, norms)
            travel.within[key] = travel.within.get(key, {}) | at

    def _read(self, ways: Ways, label: Mapping[str, str]) -> None:
        """Where the loss enters, at all steps that it reads."""
        for path, norms in ways.read.items():
            state = next(iter(self.strands[label[path]].carried))
            at = {column: norm for column, norm in self._at(path, norms).items() if norm != 0}
            self.travel.entering.setdefault((label[path], state), {}).update(at)
        for path, states in ways.ended.items():
            last = self.begins[path] + int(self.layers[path].steps[-1])
            for state, norm in states.items():
                at = self.travel.entering.setdefault((label[path], state), {})
                at[last] = float(np.hypot(at.get(last, 0.0), norm))

    def _at(self, path: str, norms: Iterable[float]) -> Series:
        steps = sorted(int(t) for t in self.layers[path].steps)
        return series((self.begins.get(path, 0) + t for t in steps), norms)

    def _add(
        self,
        table: dict[str, Series],
        path: str,
        label: Mapping[str, str],
        norms: Array,
        instead: bool = False,
    ) -> None:
        """More of a series; of the same column the squares add up, or it stands instead."""
        at = table.setdefault(label.get(path, path), {})
        for column, norm in self._at(path, norms).items():
            at[column] = norm if instead else float(np.hypot(at.get(column, 0.0), norm))
