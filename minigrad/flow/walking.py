"""One pass back along a time axis, run by run, as if the loss read nothing but its last output.

Where a loss reads many steps, what arrives at S_t is the sum of all that comes from t and later,
and hides whether any of it has come far. So each row is followed from the last output that the loss
reads of it: through the run that gave it, through what lies between that run's inputs and the
outputs of the runs below, and through those; and from first states on to the runs before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..norms import row_norms
from .axes import Slot, Wires
from .carried import Carried, Seeds, in_order
from .heard import Run
from .replaying import Replay

Array = np.ndarray
ROUNDING = 1e3  # epsilons by which a sum may differ from itself, added up in another order


class Walk:
    """Along the groups of one axis, from its end.

    alone: id of a run -> what comes to its states from the last output alone; all: from everything
    that the loss reads. many: whether it reads more than one step of a row. untold: why `alone` may
    lack something, "" if it does not. Where the axis had to be walked, seeds: id of a run -> what
    came to its outputs from the last one, and passed: (reader, source, "ys" or "final") -> the
    gradients that went from the one's inputs to the other's outputs.
    """

    def __init__(self, groups: Sequence[Sequence[Run]], reached: Sequence[Run], wires: Wires):
        self.wires = wires
        self.untold, self.many = "", False
        self.alone: dict[int, Carried] = {}
        self.all: dict[int, Carried] = {}
        self._aside = False  # whether runs of other axes read those of this one
        self.seeds: dict[int, Seeds] = {}
        self.passed: dict[tuple[int, int, str], list[Array]] = {}
        self._walked: dict[int, Carried] = {}  # those of `all` with the gradients of their inputs
        self._axis = {id(r): r for group in groups for r in group}
        self._direct = {i: self._read_by_loss(r, reached) for i, r in self._axis.items()}
        if not any(_any(came) for came in self._direct.values()):
            # the loss reads it by way of other axes alone: then what they read is what is read
            own = list(self._axis.values())
            self._direct = {i: self._read_by_loss(r, own) for i, r in self._axis.items()}
        seeds = self._last_outputs(groups)
        last = {i: Seeds(dict(s.final), s.ys, dict(s.states)) for i, s in seeds.items()}
        recorded = {i: found for i, r in self._axis.items() if (found := _recorded(r))}
        if self.many or self._aside or len(recorded) < len(self._axis):
            self._walk(groups, seeds)
        else:
            for i, found in recorded.items():
                self.alone[i] = _replay(self._axis[i]).with_outputs(seeds[i], found)
        for i, run in self._axis.items():
            known = recorded.get(i) or self._walked.get(i)
            if not self.many:
                self.all[i] = self.alone[i]
            else:
                known = known or _replay(run).carried(_replay(run).arrivals)
                self.all[i] = _replay(run).with_outputs(last[i], known)

    def _last_outputs(self, groups: Sequence[Sequence[Run]]) -> dict[int, Seeds]:
        """What the loss reads last of each row, and nothing else."""
        seeds: dict[int, Seeds] = {}
        entered = np.zeros(_replay(groups[-1][0]).rows, dtype=bool)
        for group in reversed(groups):
            last, often = _last_read(group, self._direct)
            self.many |= bool(often.any() or (entered & (last >= 0)).any())
            fresh = ~entered & (last >= 0)
            for run in group:
                seeds[id(run)] = _at(run, self._direct[id(run)], last, fresh)
            entered |= fresh
        return seeds

    def _walk(self, groups: Sequence[Sequence[Run]], seeds: dict[int, Seeds]) -> None:
        for group in reversed(groups):
            for run in reversed(group):
                found = self.alone[id(run)] = _replay(run).carried(seeds[id(run)])
                self.seeds[id(run)] = seeds[id(run)]
                for source, slot, g in self._onwards(run, found):
                    self.passed.setdefault((id(run), id(source), slot[0]), []).append(g)
                    if id(source) in self._axis:
                        later = source in self.wires.before(run)
                        seeds[id(source)].add(_one(slot, g, later))

    def direct(self, run: Run) -> Seeds:
        """What came to the outputs of a run from the loss itself."""
        return self._direct[id(run)]

    # -- what the loss reads itself

    def _read_by_loss(self, run: Run, reached: Sequence[Run]) -> Seeds:
        """What came to its outputs, less what came from runs that read them."""
        replay = _replay(run)
        final, ys = dict(replay.final_gradients), dict(replay.y_gradients)
        taken: dict[Slot, Array] = {}  # by all readers: rounding is a share of the whole
        for reader in reached:
            ends = {**self.wires.sources(reader.by_init), **self.wires.sources(reader.by_xs)}
            if not any(source is run for source, _ in ends.values()):
                continue
            self._aside |= id(reader) not in self._axis or self._fed_back(run, reader)
            if id(reader) not in self._walked:
                self._walked[id(reader)] = _replay(reader).carried(_replay(reader).arrivals)
            for source, slot, g in self._onwards(reader, self._walked[id(reader)]):
                if source is run:
                    taken[slot] = taken[slot] + g if slot in taken else g
        for (what, j), g in taken.items():
            table, lead = (final, 1) if what == "final" else (ys, 2)
            if j in table:
                table[j] = _less(table[j], g, lead)
        return Seeds(final, ys)

    def _fed_back(self, run: Run, reader: Run) -> bool:
        """Whether a run that goes on with the state reads an output as its input, too."""
        slots = [what for r, (what, _) in self.wires.sources(reader.by_xs).values() if r is run]
        return bool(slots) and run in self.wires.before(reader)

    def _onwards(self, run: Run, found: Carried) -> list[tuple[Run, Slot, Array]]:
        """(run, which of its outputs, gradient) for each that its inputs were computed from."""
        arrived = []
        for way, parts in ((run.by_init, found.init), (run.by_xs, found.xs)):
            if way is None:
                continue
            if way.opaque:
                self.untold = "between its layers runs a scan that taps nothing; tap its states"
            what = "init" if way is run.by_init else "xs"
            seeds: dict[int, Array] = {}
            for p in way.starts:
                for kind, j in run.inputs.get(p, ()):
                    if kind == what and j in parts:
                        seeds[p] = seeds[p] + parts[j] if p in seeds else parts[j]
            sources = self.wires.sources(way)
            arrived += [(*sources[p], g) for p, g in way.pull(seeds).items() if p in sources]
        return arrived


def own_last(run: Run) -> tuple[Carried, bool]:
    """What the last gradient that came to a run's outputs brings to its states by itself; and
    whether others came to earlier steps of a row.
    """
    replay = _replay(run)
    last, often = _last_read([run], {id(run): replay.arrivals})
    seeds, many = _at(run, replay.arrivals, last, last >= 0), bool(often.any())
    recorded = None if many else _recorded(run)
    if recorded is None:
        return replay.carried(seeds), many
    return replay.with_outputs(seeds, recorded), many


def _last_read(group: Sequence[Run], seeds: Mapping[int, Seeds]) -> tuple[Array, Array]:
    """The last step, in order of computation, at which one came to each row, -1 for none; and
    whether others did.
    """
    found = np.zeros_like(_replay(group[0]).real)
    for run in group:
        replay, came = _replay(run), seeds[id(run)]
        for g in came.ys.values():
            steps = (g[replay.order] != 0).reshape(replay.steps, replay.rows, -1).any(axis=2)
            found |= steps & replay.real
        for g in came.final.values():
            rows = (g != 0).reshape(replay.rows, -1).any(axis=1) & replay.ends_seen
            found[replay.ends[rows], np.flatnonzero(rows)] = True
    last = np.where(found.any(axis=0), len(found) - 1 - np.argmax(found[::-1], axis=0), -1)
    return last, found.sum(axis=0) > 1


def _at(run: Run, seeds: Seeds, last: Array, chosen: Array) -> Seeds:
    """What came at the last step of these rows."""
    replay = _replay(run)
    at_last = np.zeros((replay.steps, replay.rows), dtype=bool)
    rows = np.flatnonzero(chosen)
    at_last[np.array(replay.order)[last[rows]], rows] = True
    at_end = chosen & (last == replay.ends)
    ys = {j: np.where(_wide(at_last, g), g, 0) for j, g in seeds.ys.items()}
    final = {j: np.where(_wide(at_end, g), g, 0) for j, g in seeds.final.items()}
    return Seeds(final, ys, dict(ys))


def _recorded(run: Run) -> Carried | None:
    """What the loop of BPTT noted of everything that the loss reads; None if it did not."""
    if run.whole is None or not run.norms_known or not run.whole.record.carried:
        return None
    return in_order(_replay(run), run.whole.record)


def _any(came: Seeds) -> bool:
    return any(g.any() for g in (*came.final.values(), *came.ys.values()))


def _one(slot: Slot, g: Array, later: bool) -> Seeds:
    """What came to one output; later: from a run that comes behind it in time."""
    what, j = slot
    if what == "final":
        return Seeds(final={j: g})
    return Seeds(ys={j: g}, states={j: g} if later else {})


def _less(whole: Array, part: Array, lead: int) -> Array:
    """whole - part, and zero where that is rounding: for each row, or each step and row."""
    rest = whole - part
    shape = whole.shape[:lead]

    def size(x: Array) -> Array:
        return row_norms(x.reshape(*shape, -1)).reshape(shape)

    nothing = size(rest) <= ROUNDING * np.finfo(whole.dtype).eps * (size(whole) + size(part))
    return np.where(_wide(nothing, rest), 0, rest)


def _wide(mask: Array, like: Array) -> Array:
    return mask.reshape(*mask.shape, *(1,) * (like.ndim - mask.ndim))


def _replay(run: Run) -> Replay:
    assert run.replay is not None
    return run.replay
