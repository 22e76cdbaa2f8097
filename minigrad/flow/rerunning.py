"""Calls of another library's layers, run again in minigrad inside a recording.

Each call runs by itself: its inputs are those that the other library had, and the gradients of what
it gave are those that arrived there, from the loss and from whoever read it. What led from one call
to another is on the tape, but no gradient goes that way here; the walks of a recording do, when
they ask what a part of the gradient brings (walking.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from ..backward import walk
from ..compile.scanning import scan
from ..interop.calls_torch import OWN, Call
from ..interop.foreign import elsewhere
from ..interop.graph_torch import End, Way
from ..interop.twins_torch import Arrays, Drawn, twin
from ..nn.module import Module
from ..tape import no_grad, scope
from ..tape import state as switches
from ..tensors import Tensor, wrap
from ..tree import leaves, rebuild
from .comparing import difference
from .heard import Run
from .loops import outside
from .probes import _Listener
from .recording import Recording
from .taps import Step

Array = np.ndarray


class Rerun:
    """Runs calls again, in order, into a recording. gaps: what could not be told."""

    def __init__(self, recording: Recording, calls: list[Call]):
        self.recording = recording
        self.gaps: list[str] = []
        self._arrays = {id(call): Arrays(call) for call in calls}
        self._gave: dict[int, dict[int, Tensor]] = {}  # id of a call -> leaf -> what came out
        self._by_hand: dict[int, Run] = {}  # id of a layer -> its loop
        self._inner = _read_inside(calls)
        self._differs: dict[int, str] = {}  # id of a loop -> what is to be said of its steps
        self._listener = _Listener(recording)
        with _alone(self._listener):
            for call in calls:
                self._again(call)

    def _again(self, call: Call) -> None:
        arrays = self._arrays[id(call)]
        if not call.layer.joined:
            self._step_by_hand(call, arrays)
            return
        module = twin(call.layer, arrays.dtype)
        module.load_state_dict(arrays.weights)
        first = len(self.recording._runs)
        with nullcontext() if call.wants else no_grad():
            given = self._inputs(call, arrays)
            again = self._loop if call.layer.cell else self._layer
            gave, final, seeds = again(call, arrays, module, *given)
        self._gave[id(call)] = gave
        pairs = [(t, g) for t, g in seeds if t.requires_grad]
        if pairs:
            x, init = given  # what is behind them has had its gradient from PyTorch already
            ends = (x, *(init or ()), *module.parameters())
            wanted = [t for t in ends if t.requires_grad]
            outputs, arrived = map(list, zip(*pairs, strict=True))
            walk(outputs, arrived, wanted, retain_graph=True, create_graph=False, stop=True)
        steps = self._differs.get(id(call))
        if said := steps or difference(call, arrays, final):
            self._gap(said)
        for i, run in enumerate(self.recording._runs[first:]):
            states = arrays.after_steps[-1] or []
            own = states if call.layer.cell else [s[i] for s in states]
            self.recording._wires.ended(run, own)

    # -- layers and loops

    def _layer(
        self, call: Call, arrays: Arrays, module: Any, x: Tensor, init: list[Tensor] | None
    ) -> Any:
        masks = arrays.masks()
        module.train(bool(masks))
        module.generator = Drawn(masks) if masks else None
        state: Any = init
        if init is not None:
            state = init[0] if len(init) == 1 else tuple(init)
        out, final = module(x, state, arrays.lengths)
        gave = dict(enumerate([out, *leaves(final)]))
        seeds = [(gave[leaf], g) for leaf, g in arrays.gradients.items()]
        return gave, leaves(final), seeds

    def _loop(
        self, call: Call, arrays: Arrays, cell: Any, x: Tensor, init: list[Tensor] | None
    ) -> Any:
        """All steps of a cell in one scan, whose output is h_t, or, where c_t was read, both."""
        first = cell.init_state(x.shape[1])
        state = first if init is None else rebuild(first, init)
        came: list[Array] = []
        if call.gradients or call.layer.kind == OWN:
            came, self._differs[id(call)] = outside(call, arrays, cell, x, leaves(state))
        if any(g[:-1].any() for g in came[1:]):
            self._inner.add(id(call))
        both = id(call) in self._inner
        with self._listener.entered(cell, call.layer.name) as name, scope(name):
            final, ys = scan(_Both(cell) if both else cell, state, x)
        gave = {leaf + 1: t for leaf, t in enumerate(leaves(ys))}
        gave |= {-leaf - 1: t for leaf, t in enumerate(leaves(final))}
        places = {self._place(call, leaf): g for leaf, g in enumerate(came, 1)}
        seeds = [(gave[i], g if i > 0 else g[-1]) for i, g in places.items() if g.any()]
        return gave, leaves(final), seeds

    def _place(self, call: Call, leaf: int) -> int:
        """Which result of a loop a leaf of the state is: of its outputs, or (< 0) the last one."""
        return leaf if leaf == 1 or id(call) in self._inner else -leaf

    # -- what led from one call to another

    def _inputs(self, call: Call, arrays: Arrays) -> tuple[Tensor, list[Tensor] | None]:
        """xs and the first state, on the tape behind what they were computed from."""
        outside = arrays.state_back if call.layer.cell else arrays.outer_back
        ways = {place: way for place, way in call.ways.items() if self._known(call, way)}
        x = self._linked(arrays.xs, [(t, w) for (leaf, t), w in ways.items() if not leaf], outside)
        if arrays.init is None:
            return x, None
        states = []
        for leaf, s in enumerate(arrays.init):
            of_leaf = [(None, w) for (i, _), w in ways.items() if i == leaf + 1]
            states.append(self._linked(s, of_leaf, arrays.state_back, state=True))
        return x, states

    def _known(self, call: Call, way: Way) -> bool:
        """Whether a way can be walked; if not, it is said what it would have joined."""
        before = [source for end in way.ends if (source := end.call()) is not None]
        why = way.opaque
        if call in before:
            self._gap(
                f"{call.layer.name}: what it gave is fed back to it as an input, a way that counts "
                f"as one of those by which the loss reads it, not as part of its cut"
            )
            return False
        if len(before) < len(way.ends) or any(id(c) not in self._gave for c in before):
            why = why or "a call that was let go of"
        if not why:
            try:
                self._pulled(way, np.zeros(way.shape, self._arrays[id(call)].dtype))
            except Exception as error:
                why = str(error)
        if why:
            names = " and ".join(dict.fromkeys(c.layer.name for c in before))
            self._gap(
                f"between {names} and {call.layer.name} lies {why}, which is not walked back, so "
                f"they are judged apart"
                if names
                else f"{call.layer.name}: whether it reads another layer cannot be told, {why}"
            )
        return not why

    def _linked(
        self,
        value: Array,
        ways: Sequence[tuple[int | None, Way]],
        outside: Callable[[Array], Array],
        state: bool = False,
    ) -> Tensor:
        """A value with its ways, of the whole or of its steps, to what calls gave.

        state: it is a first state, that goes on with the last one of a loop, not with its output.
        """
        sources: dict[tuple[int, int], Tensor] = {}
        for _, way in ways:
            for end in way.ends:
                key = self._key(end, state)
                sources[key] = self._gave[key[0]][key[1]]
        if not any(t.requires_grad for t in sources.values()):
            return wrap(value, None, False)

        def pull(g: Array) -> list[Array]:
            found = {key: np.zeros(t.shape, t.dtype) for key, t in sources.items()}
            for t, way in ways:
                for end, part in self._pulled(way, outside(g if t is None else g[t])):
                    key = self._key(end, state)
                    into = found[key] if end.t is None or key[1] < 0 else found[key][end.t]
                    into += part
            return list(found.values())

        return elsewhere(value, list(sources.values()), pull)

    def _pulled(self, way: Way, g: Array) -> Iterator[tuple[End, Array]]:
        """(end, the gradient there as the twin has it) of one at what was read."""
        for end, part in zip(way.ends, way.pull_array(g), strict=True):
            if part is not None:
                arrays = self._arrays[id(end.call())]
                yield end, arrays.outer(part) if end.leaf == 0 else arrays.state(part)

    def _key(self, end: End, state: bool) -> tuple[int, int]:
        call = end.call()
        if not call.layer.cell:
            return id(call), end.leaf
        last = state and end.t == len(call.xs) - 1
        return id(call), -end.leaf if last else self._place(call, end.leaf)

    # -- a loop that does something to the state between two steps

    def _step_by_hand(self, call: Call, arrays: Arrays) -> None:
        """More steps of a loop of which only the states and their gradients are known."""
        name, layer = call.layer.name, id(call.layer)
        if layer not in self._by_hand or not any(leaf for leaf, _ in call.ways):
            run = self.recording._begin(name, None, name)
            run.apart.many = run.apart.untapped = True
            self._by_hand[layer] = run
        run = self._by_hand[layer]
        t = max((len(series) for series in run.series.values()), default=0)
        for i, states in enumerate(call.states):
            for leaf, (s, *_) in enumerate(states):
                step = Step(arrays.state(arrays.of(s)), "", call.wants)
                if (g := call.gradients.get((leaf + 1, i))) is not None:
                    step.add_gradient(arrays.state(arrays.of(g)))
                run.series.setdefault(("", "hc"[leaf]), {})[t + i] = step
        self._gap(
            f"{name}: something is done to its state between two steps, or in place, so what each "
            f"step carries cannot be told; mark your states with mg.flow.tap_torch"
        )

    def _gap(self, text: str) -> None:
        if text not in self.gaps:
            self.gaps.append(text)


class _Both(Module):
    """A cell whose output is all of its state."""

    def __init__(self, cell: Any):
        self.cell = cell
        self.keeps = getattr(cell, "keeps", {})

    def forward(self, state: Any, x: Any) -> tuple[Any, Any]:
        new, _ = self.cell(state, x)
        return new, new

    def init_state(self, batch: int) -> Any:
        return self.cell.init_state(batch)


def _read_inside(calls: list[Call]) -> set[int]:
    """The loops of which other leaves of the state than h were read before the last step."""
    ends = [end for call in calls for way in call.ways.values() for end in way.ends]
    read = [(end.call(), end.leaf, end.t) for end in ends]
    return {
        id(call)
        for call, leaf, t in read
        if call is not None and t is not None and leaf > 1 and t < len(call.xs) - 1
    }


@contextmanager
def _alone(listener: Any) -> Iterator[None]:
    """Nobody else listens, and nothing else is recorded."""
    before = switches.switch(
        tape=None, anomaly=False, recording=True, scope="", listeners=(listener,)
    )
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        switches.switch(**before)
