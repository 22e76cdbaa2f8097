"""What record() yields: a mapping from a layer's path to its LayerFlow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from ..compile.result import Call
from ..tensor import Tensor
from .layerflow import Activation, LayerFlow, Lazy, Nonfinite
from .replay import FlowError, Replay
from .taps import (
    SequenceTaps,
    Series,
    Step,
    activation,
    bad_numbers,
    row_norms,
    stacked,
    stacked_norms,
)
from .verdict import Thresholds, Verdict, worst

Array = np.ndarray
_STEP = re.compile(r"^(?:(.*)/)?t=(\d+)$")


class Recording(Mapping[str, LayerFlow]):
    """What record() yields: a mapping from a layer's path to its LayerFlow, and a verdict.

    Only the last forward pass of each layer is kept: a step that comes again starts it over.
    Reading it before backward, or when nothing was tapped, raises FlowError with the reason.
    """

    def __init__(self, states: tuple[str, ...], thresholds: Thresholds):
        self.states = states
        self.thresholds = thresholds
        self._taps: dict[str, dict[str, Series] | SequenceTaps] = {}  # path -> name -> t -> Step
        self._replays: dict[str, Replay] = {}
        self._layers: dict[str, LayerFlow] | None = None

    # -- listening

    def hear(self, name: str, tensor: Tensor, scope: str) -> None:
        """A tap, one step of one layer."""
        match = _STEP.match(scope)
        path = (match[1] or "") if match else scope
        taps = self._taps.setdefault(path, {})
        if isinstance(taps, SequenceTaps):  # it ran compiled before
            taps = self._taps[path] = {}
        series = taps.setdefault(name, {})
        t = int(match[2]) if match else len(series)
        if t in series:  # the layer runs again
            series.clear()
            self._replays.pop(path, None)
        made_by = tensor._node.op.name if tensor._node is not None else ""
        step = series[t] = Step(tensor.numpy(), made_by, tensor.requires_grad)
        self._layers = None
        if name in self.states and tensor.requires_grad:

            def arrived(g: Tensor) -> None:
                step.gradient = g.numpy()
                self._layers = None

            tensor.register_hook(arrived)

    def hear_sequence(self, path: str, taps: SequenceTaps) -> None:
        """All steps of a compiled layer at once."""
        self._taps[path] = taps
        self._replays.pop(path, None)
        self._layers = None

    def hear_call(self, path: str, call: Call) -> None:
        """The scan whose taps came just before: enough to run it again."""
        self._replays[path] = Replay(call)
        self._layers = None

    def arrived(self) -> None:
        """More gradients are there than before."""
        self._layers = None

    # -- reading

    @property
    def layers(self) -> dict[str, LayerFlow]:
        """path -> LayerFlow, in order of computation."""
        if self._layers is None:
            heard = {
                path: taps.steps() if isinstance(taps, SequenceTaps) else taps
                for path, taps in self._taps.items()
            }
            self._check(heard)
            self._layers = {
                path: self._layer(path, taps)
                for path, taps in heard.items()
                if any(name in taps for name in self.states)
            }
        return self._layers

    @property
    def verdict(self) -> Verdict:
        """The most severe verdict among the layers."""
        return worst([layer.verdict for layer in self.layers.values()])

    @property
    def inputs(self) -> Array | None:
        """|dL/dx_t| of what the first layer reads, by way of all its directions: (T, B), t = 0 ...

        None if it reads no floats. Computed by running the layer again (see replay.py).
        """
        first = next(iter(self.layers)).rpartition("/")[0]
        sides = [layer for path, layer in self.layers.items() if path.rpartition("/")[0] == first]
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

    def __str__(self) -> str:
        from .reporting import report

        return str(report(self))

    def __repr__(self) -> str:
        return f"<Recording of {', '.join(self._taps) or 'nothing yet'}>"

    def to_dict(self) -> dict[str, Any]:
        return {path: layer.to_dict() for path, layer in self.layers.items()}

    def _check(self, heard: dict[str, dict[str, Series]]) -> None:
        wanted = " or ".join(repr(s) for s in self.states)
        names = sorted({name for taps in heard.values() for name in taps})
        if not names:
            raise FlowError(
                "record: nothing was tapped. Run a recurrent layer inside `with mg.flow.record()`, "
                'or mark the states of your own cell: h = mg.tap("h", h), inside '
                '`with mg.scope(f"t={t}")`.'
            )
        steps = [
            step
            for taps in heard.values()
            for name in self.states
            for step in taps.get(name, {}).values()
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
        if not any(step.arrived for step in steps):
            raise FlowError(
                f"record: {len(steps)} states were seen, but no gradient arrived at any of them; "
                f"call backward() on a loss that depends on them."
            )

    def _layer(self, path: str, taps: dict[str, Series]) -> LayerFlow:
        states = {name: taps[name] for name in self.states if name in taps}
        steps = list(dict.fromkeys(t for series in states.values() for t in series))
        per_sample = {name: stacked_norms(series, steps) for name, series in states.items()}
        heard = {n: s for n, s in states.items() if any(x.gradient is not None for x in s.values())}
        return LayerFlow(
            path=path,
            steps=np.array(steps, dtype=np.int64),
            norms={name: row_norms(x) for name, x in per_sample.items()},
            per_sample=per_sample,
            activations=Lazy({n: partial(_activations, series) for n, series in taps.items()}),
            tiny=max(step.tiny for series in states.values() for step in series.values()),
            thresholds=self.thresholds,
            values=Lazy({n: partial(stacked, series, steps) for n, series in taps.items()}),
            nonfinite=Lazy({n: partial(_nonfinite, series) for n, series in taps.items()}),
            heard=Lazy({n: partial(stacked, s, steps, "gradient") for n, s in heard.items()}),
            replay=self._replays.get(path),
        )


def _activations(series: Series) -> Activation:
    found = np.array([activation(step) for step in series.values()]).reshape(-1, 3)
    return Activation(*found.T)


def _nonfinite(series: Series) -> Nonfinite:
    return Nonfinite(*bad_numbers(series))
