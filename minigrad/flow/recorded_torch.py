"""Recurrent layers of a PyTorch model, recorded where they are.

    with mg.flow.record_torch(model) as rec:
        loss_fn(model(x), y).backward()
    print(rec)                                 # a Recording, like that of `record`

While the model runs, what its layers read and what came back to them is kept, nothing else
(interop/recording_torch.py). When the Recording is read, the same layers run again in minigrad
(rerunning.py), from the same weights, inputs and states, with the gradients that PyTorch sent back.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from ..errors import FlowError
from ..interop.recording_torch import Capture
from . import probes
from .layerflow import LayerFlow
from .recording import Recording
from .rerunning import Rerun
from .tapped_torch import Taps
from .verdict import Thresholds


class TorchRecording(Recording):
    """A Recording of what ran in PyTorch: made when it is read, and again when more has come."""

    elsewhere = True

    def __init__(self, states: tuple[str, ...] | None, thresholds: Thresholds | None):
        self._begin_anew = lambda: super(TorchRecording, self).__init__(
            tuple(states or probes.STATES), thresholds or Thresholds(), carried=states is None
        )
        self._begin_anew()
        self._capture: Capture | None = None
        self._stale = False
        self._said: list[str] = []

    def hear_torch(
        self, models: list[tuple[str, Any]], twins: dict[int, Any], memory: int | None
    ) -> Capture:
        """What listens to the models; it tells this recording when there is more to read."""
        more = _Told(self)
        self._capture, self.taps = Capture(models, twins, more, memory), Taps(self.states, more)
        return self._capture

    @property
    def layers(self) -> dict[str, LayerFlow]:
        """path -> LayerFlow, in order of computation."""
        self._notice()
        return super().layers

    def _notice(self) -> None:
        if self._capture is not None and self._capture.news():
            self._stale, self._layers = True, None

    def _settle(self) -> None:
        self._notice()
        if self._stale and self._capture is not None:
            self._stale = False
            self._begin_anew()
            self._said = [*Rerun(self, self._capture.calls).gaps, *self.taps.gaps]
            for loop in self.taps.loops:
                run = self._begin(loop.where, None, loop.where)
                run.series, run.apart, run.counted = dict(loop.series), loop.apart, True
        super()._settle()

    @property
    def missing(self) -> list[str]:
        """What ran and is not here, or not whole, and why; one sentence each."""
        found = super().missing
        if self._capture is None:
            return found
        for name, count in self._capture.dropped.items():
            found.append(
                f"{name}: the first {count} calls were let go of, as record_torch(memory=) keeps "
                f"{self._capture.memory:,} bytes"
            )
        return [*found, *self._said, *self._capture.gaps]

    def _check(self, heard: Any) -> None:
        if not heard:
            why = "; ".join(self._capture.gaps) if self._capture is not None else ""
            raise FlowError(
                f"record_torch: no nn.RNN, nn.LSTM, nn.GRU or cell of these ran in the block"
                f"{f' ({why})' if why else ''}. Run the model inside `with "
                f"mg.flow.record_torch(model)`, and mark the states of a cell of your own: "
                f'h = mg.flow.tap_torch("h", h).'
            )
        super()._check(heard)


class _Told:
    """Tells a recording, which it does not hold, that there is more to read."""

    def __init__(self, recording: TorchRecording):
        self.recording = weakref.ref(recording)

    def __call__(self) -> None:
        if (recording := self.recording()) is not None:
            recording._stale, recording._layers = True, None


class record_torch:
    """Records how gradients flow through a PyTorch model's recurrent layers. Yields a Recording.

    models: modules of torch.nn; of several the names begin with their classes. Every nn.RNN,
        nn.LSTM and nn.GRU in them is heard (stacked, bidirectional, projected, packed), and every
        nn.RNNCell, LSTMCell and GRUCell that runs in a loop. Nothing of a model is changed; the
        hooks are removed at the end. The states of such loops keep their .grad, as after
        retain_grad(). A model under torch.compile runs without it in the block.
    twins: module -> a cell of minigrad that is the same, for cells of your own: one is called as
        torch's cells are, cell(x, state) -> state, the other as here, cell(state, x) -> (state, y).
        Parameters have the same names. At every step the twin is checked against what ran.
    states, thresholds, memory: as in `record`.

    Everything that works on a Recording works on this one: norms, cuts, weights by lag, Jacobians,
    verdicts, drawings. What is read is computed by minigrad's own layers, from copies of the
    weights as they were; their last states, and each step of a loop, are compared with PyTorch's,
    and `missing` says where they differ, and what else could not be recorded or told. In a loop,
    what the loss reads of a step is what neither came within the step nor by the next one; less
    than 4e-6 (float32) of what does is rounding, and counts as nothing.

    Raises FlowError for what is no module of torch, and inside another record_torch().
    MissingPackageError where torch is not installed.
    """

    def __init__(
        self,
        *models: Any,
        twins: Mapping[Any, Any] | None = None,
        states: tuple[str, ...] | None = None,
        thresholds: Thresholds | None = None,
        memory: int | None = probes.MEMORY,
    ):
        if states is not None and (isinstance(states, str) or not states):
            raise FlowError(
                f"record_torch: states is a tuple of names such as ('h',), got {states!r}."
            )
        self._recording = TorchRecording(states, thresholds)
        named = [(type(m).__name__.lower() if len(models) > 1 else "", m) for m in models]
        taken: dict[str, int] = {}
        for i, (name, model) in enumerate(named):
            taken[name] = taken.get(name, 0) + 1
            named[i] = (f"{name}-{taken[name]}" if taken[name] > 1 else name, model)
        own = {id(module): cell for module, cell in (twins or {}).items()}
        self._capture = self._recording.hear_torch(named, own, memory)
        module = self._capture.torch.nn.Module
        wrong = [type(model).__name__ for model in models if not isinstance(model, module)]
        if wrong or not models:
            raise FlowError(
                f"record_torch: expected a torch.nn.Module, got {', '.join(wrong) or 'nothing'}; "
                f"pass the model."
            )

    def __enter__(self) -> Recording:
        if getattr(probes._active, "torch", False):
            raise FlowError(
                "record_torch: already recording in this thread; leave the outer block first."
            )
        self._capture.begin()
        probes._active.torch, probes._active.taps = True, self._recording.taps
        return self._recording

    def __exit__(self, *exc: Any) -> None:
        probes._active.torch, probes._active.taps = False, None
        self._capture.end()
