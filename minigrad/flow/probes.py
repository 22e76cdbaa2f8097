"""What a backward pass did at every time step: record() listens to the taps of a forward pass.

    with mg.flow.record() as rec:
        ys, _ = lstm(xs)
        loss(ys[-1]).backward()
    print(rec)                                  # a table with a verdict
    rec["lstm/l0/fwd"].norms["h"]               # |dL/dh_t| for every t, (T,) float64

A layer marks its states and gates with `mg.tap("h", h)`, inside scopes that end in `t=3`. On each
tapped state a hook waits for the complete gradient dL/dh_t and keeps its norm, nothing else; of the
gates the mean and the saturation are kept. Any cell that taps its states can be recorded.

Norms are accumulated in float64 and scaled by the largest element of each row, so that neither
1e-30 (float32) nor 1e-300 (float64) squared is lost. Gradients below the smallest normal number of
their dtype (1.2e-38 in float32) are denormal: they have lost digits, and the verdict's fit leaves
them out.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..autodiff import grad
from ..errors import MinigradError
from ..tape import listen
from ..tensor import Tensor
from ..tree import named_leaves
from .layerflow import Activation, LayerFlow
from .verdict import Thresholds, Verdict, worst

Array = np.ndarray
_STEP = re.compile(r"^(?:(.*)/)?t=(\d+)$")
_active = threading.local()

# Share of the range of a sigmoid or tanh beyond which its slope is below a tenth of its maximum.
SATURATED = 0.95


class FlowError(MinigradError, RuntimeError):
    """A recording that has nothing to show, and why."""


class _Step:
    """What is known about one tapped value at one step."""

    __slots__ = ("batch", "mean", "per_sample", "saturation", "slope", "tiny", "wants")

    def __init__(self, values: Array, made_by: str, wants: bool):
        self.per_sample: Array | None = None
        self.wants = wants
        self.batch = int(np.prod(values.shape[:-1], dtype=np.int64))
        self.tiny = float(np.finfo(values.dtype).tiny) if values.dtype.kind == "f" else 0.0
        self.mean, self.saturation, self.slope = _activation(values, made_by)


class _Listener:
    """What a Recording hands to `listen`: it hears taps one by one, or a compiled layer's at once.

    For a compiled layer nothing is computed until the recording is read.
    """

    def __init__(self, recording: Recording):
        self.recording = recording
        self.states = recording.states  # whose gradients are wanted

    def __call__(self, name: str, tensor: Tensor, scope: str) -> None:
        self.recording._hear(name, tensor, scope)

    def sequence(
        self, path: str, order: range, record: Any, made_by: dict[str, str], wants: bool
    ) -> Callable[[], None]:
        """A scan in scope `path` has run its steps in this order; record holds values and, once the
        returned function is called, norms of gradients.
        """
        self.recording._taps[path] = _Sequence(order, record, made_by, wants)
        self.recording._layers = None

        def arrived() -> None:
            self.recording._layers = None

        return arrived


class _Sequence(NamedTuple):
    """A compiled layer's taps, as the scan recorded them."""

    order: range
    record: Any
    made_by: dict[str, str]
    wants: bool

    def steps(self) -> dict[str, dict[int, _Step]]:
        found: dict[str, dict[int, _Step]] = {}
        for name, values in self.record.values.items():
            gradients = self.record.gradients.get(name)
            series = found[name] = {}
            for t in self.order:
                series[t] = _Step(values[t], self.made_by[name], self.wants)
                if gradients is not None:
                    series[t].per_sample = gradients[t].astype(np.float64)
        return found


class Recording(Mapping[str, LayerFlow]):
    """What record() yields: a mapping from a layer's path to its LayerFlow, and a verdict.

    Only the last forward pass of each layer is kept: a step that comes again starts it over.
    Reading it before backward, or when nothing was tapped, raises FlowError with the reason.
    """

    def __init__(self, states: tuple[str, ...], thresholds: Thresholds):
        self.states = states
        self.thresholds = thresholds
        # path -> name -> t -> what is known
        self._taps: dict[str, dict[str, dict[int, _Step]] | _Sequence] = {}
        self._layers: dict[str, LayerFlow] | None = None

    # -- listening

    def _hear(self, name: str, tensor: Tensor, scope: str) -> None:
        match = _STEP.match(scope)
        path = (match[1] or "") if match else scope
        taps = self._taps.setdefault(path, {})
        if isinstance(taps, _Sequence):  # it ran compiled before
            taps = self._taps[path] = {}
        series = taps.setdefault(name, {})
        t = int(match[2]) if match else len(series)
        if t in series:  # the layer runs again
            series.clear()
        made_by = tensor._node.op.name if tensor._node is not None else ""
        step = series[t] = _Step(tensor.numpy(), made_by, tensor.requires_grad)
        self._layers = None
        if name in self.states and tensor.requires_grad:

            def arrived(g: Tensor) -> None:
                step.per_sample = row_norms(g.numpy())
                self._layers = None

            tensor.register_hook(arrived)

    # -- reading

    @property
    def layers(self) -> dict[str, LayerFlow]:
        """path -> LayerFlow, in order of computation."""
        if self._layers is None:
            heard = {
                path: taps.steps() if isinstance(taps, _Sequence) else taps
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

    def __getitem__(self, path: str) -> LayerFlow:
        if path not in self.layers:
            raise KeyError(f"{path!r}; recorded are {', '.join(map(repr, self.layers))}")
        return self.layers[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __str__(self) -> str:
        from .tables import report

        return report(self)

    def __repr__(self) -> str:
        return f"<Recording of {', '.join(self._taps) or 'nothing yet'}>"

    def to_dict(self) -> dict[str, Any]:
        return {path: layer.to_dict() for path, layer in self.layers.items()}

    def _check(self, heard: dict[str, dict[str, dict[int, _Step]]]) -> None:
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
        if all(step.per_sample is None for step in steps):
            raise FlowError(
                f"record: {len(steps)} states were seen, but no gradient arrived at any of them; "
                f"call backward() on a loss that depends on them."
            )

    def _layer(self, path: str, taps: dict[str, dict[int, _Step]]) -> LayerFlow:
        states = {name: taps[name] for name in self.states if name in taps}
        steps = list(dict.fromkeys(t for series in states.values() for t in series))
        per_sample = {name: _stacked(series, steps) for name, series in states.items()}
        return LayerFlow(
            path=path,
            steps=np.array(steps, dtype=np.int64),
            norms={name: row_norms(x) for name, x in per_sample.items()},
            per_sample=per_sample,
            activations={
                name: Activation(
                    *(
                        np.array([getattr(step, what) for step in series.values()])
                        for what in ("mean", "saturation", "slope")
                    )
                )
                for name, series in taps.items()
            },
            tiny=max(step.tiny for series in states.values() for step in series.values()),
            thresholds=self.thresholds,
        )


class record:
    """Records how gradients flow through everything tapped inside the block. Yields a Recording.

    states: names of the taps whose gradients are wanted; all taps get activation statistics.
    thresholds: what counts as vanishing and exploding.
    Raises FlowError when entered inside another record(); the Recording says what else is missing.

    >>> import minigrad as mg
    >>> w, h = mg.tensor(0.5, requires_grad=True), mg.tensor([1.0])
    >>> with mg.flow.record() as rec:
    ...     for t in range(4):
    ...         with mg.scope(f"t={t}"):
    ...             h = mg.tap("h", w * h)
    ...     h.sum().backward()
    >>> rec[""].norms["h"].tolist()
    [0.125, 0.25, 0.5, 1.0]
    """

    def __init__(self, states: tuple[str, ...] = ("h", "c"), thresholds: Thresholds | None = None):
        if isinstance(states, str) or not states:
            raise FlowError(f"record: states is a tuple of names such as ('h',), got {states!r}.")
        self._recording = Recording(tuple(states), thresholds or Thresholds())

    def __enter__(self) -> Recording:
        if getattr(_active, "recording", False):
            raise FlowError(
                "record: already recording in this thread; leave the outer block first."
            )
        self._listening = listen(_Listener(self._recording))
        self._listening.__enter__()
        _active.recording = True
        return self._recording

    def __exit__(self, *exc: Any) -> None:
        _active.recording = False
        self._listening.__exit__(*exc)


def probe(
    layer: Any,
    xs: Any,
    lengths: Any = None,
    thresholds: Thresholds | None = None,
    seed: int = 0,
) -> Recording:
    """Records a recurrent layer under a loss at its last step: <w, h_n> with random w ~ N(0, 1).

    layer: as in mg.nn, layer(xs, lengths=lengths) -> (output, final). The loss reads `h` of the
    final state, of the last layer and every direction (all of the state if nothing in it is called
    h). The parameters' `.grad` stay as they are.

    >>> import minigrad as mg
    >>> lstm = mg.nn.LSTM(3, 5, dtype=np.float64, generator=np.random.default_rng(0))
    >>> probe(lstm, np.ones((60, 1, 3))).verdict.kind
    'vanishing'
    """
    rng = np.random.default_rng(seed)
    with record(thresholds=thresholds) as recording:
        _, final = layer(xs, lengths=lengths)
        named = list(named_leaves(final))
        read = [t for name, t in named if name in ("", "h")] or [t for _, t in named]
        loss: Any = 0.0
        for h_n in read:  # (layers * directions, B, H)
            last = h_n[-layer.num_directions :]
            loss = loss + (last * rng.normal(size=last.shape).astype(last.dtype)).sum()
        grad(loss, list(layer.parameters()), allow_unused=True)
    return recording


def row_norms(x: Array) -> Array:
    """Euclidean norm over the last axis, float64, one for each row of what comes before it.

    Each row is scaled by its largest element: squares neither underflow nor overflow. NaN and Inf
    stay.
    """
    rows = np.abs(np.asarray(x, dtype=np.float64))
    rows = rows.reshape(-1, rows.shape[-1]) if rows.ndim else rows.reshape(1, 1)
    peak = rows.max(axis=1, initial=0.0, keepdims=True)
    scale = np.where((peak > 0) & np.isfinite(peak), peak, 1.0)
    with np.errstate(over="ignore"):
        return (scale * np.sqrt(np.sum((rows / scale) ** 2, axis=1, keepdims=True)))[:, 0]


def _stacked(series: dict[int, _Step], steps: list[int]) -> Array:
    """(T, B): zero where no gradient arrived, and for rows that a step does not have."""
    norms = np.zeros((len(steps), max(step.batch for step in series.values())))
    for i, t in enumerate(steps):
        if t in series and (found := series[t].per_sample) is not None:
            norms[i, : found.size] = found
    return norms


def _activation(values: Array, made_by: str) -> tuple[float, float, float]:
    """(mean, share saturated, mean slope); the last two nan unless a sigmoid or tanh made them."""
    y = np.asarray(values, dtype=np.float64)
    mean = float(y.mean()) if y.size else np.nan
    if made_by == "tanh":
        flat, slope = np.abs(y) > SATURATED, 1 - y * y
    elif made_by == "sigmoid":
        flat, slope = np.abs(2 * y - 1) > SATURATED, y * (1 - y)
    else:
        return mean, np.nan, np.nan
    return mean, float(flat.mean()), float(slope.mean())
