"""What a backward pass did at every time step: record() listens to the taps of a forward pass.

    with mg.flow.record() as rec:
        ys, _ = lstm(xs)
        loss(ys[-1]).backward()
    print(rec)                                  # a table with a verdict
    rec["lstm/l0/fwd"].norms["h"]               # |dL/dh_t| for every t, (T,) float64
    rec["lstm/l0/fwd"].weights["weight_hh_l0"]  # its gradient by step and by lag

A layer marks its states and gates with `mg.tap("h", h)`, inside scopes that end in `t=3`. Of each
tapped state the complete gradient dL/dh_t is waited for; a compiled layer keeps its norm, nothing
else. Any cell that taps its states can be recorded, compiled or on the tape.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..autodiff import grad
from ..compile.result import Call
from ..errors import FlowError
from ..listener import Listener
from ..tape import listen
from ..tensors import Tensor
from ..tree import named_leaves
from .recording import Recording
from .taps import SequenceTaps
from .verdict import Thresholds

MEMORY = 4 << 30
STATES = "h", "c", "re", "im"

_active = threading.local()


class _Listener(Listener):
    """What record() hands to `listen`: it hears taps one by one, or a compiled layer's at once,
    which modules are called, and what each scan read, so that it can be run again.
    """

    whole_scans = True

    def __init__(self, recording: Recording):
        self.recording = recording
        self.states = recording.states  # whose gradients are wanted

    def tap(self, name: str, tensor: Tensor, scope: str) -> None:
        self.recording.hear(name, tensor, scope)

    @contextmanager
    def entered(self, module: Any, name: str) -> Iterator[str]:
        recording = self.recording
        with recording.calls.entered(module), recording.places.entered(module, name) as called:
            yield called

    def returned(self, module: Any, args: Any, kwargs: Any, result: Any) -> None:
        self.recording.calls.returned(module, args, kwargs, result)

    def sequence(
        self, path: str, order: range, record: Any, made_by: dict[str, str], wants: bool
    ) -> Callable[[], None]:
        return self.recording.hear_sequence(path, SequenceTaps(order, record, made_by, wants))

    def ran(self, path: str, call: Call) -> None:
        self.recording.hear_call(path, call)


class record:
    """Records how gradients flow through everything tapped inside the block. Yields a Recording.

    states: names of the taps whose gradients are wanted; all taps get activation statistics. If
        left out, h, c, re and im, and in a cell that taps none of them, what it carries over.
    thresholds: what counts as vanishing and exploding.
    replay: keep what it takes to run a layer again (its weights are copied), for what LayerFlow
        computes only when it is read: whole gradients, weights by step and by lag, Jacobians.
    memory: bytes of tapped values to keep. Beyond that the oldest calls of layers that were called
        again are let go of, which `missing` says; None keeps all.

    Every call of every layer has its own path (places.py says how they are made), in this thread: a
    second call of `lstm` is `lstm#2/l0/fwd`, a second layer of that name `lstm-2/l0/fwd`. In a loop
    written by hand without scopes `t=...`, a state that was not computed from the one before begins
    a new call; under no_grad that cannot be told. Several backward passes add up, as in `.grad`.

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

    def __init__(
        self,
        states: tuple[str, ...] | None = None,
        thresholds: Thresholds | None = None,
        replay: bool = True,
        memory: int | None = MEMORY,
    ):
        if states is not None and (isinstance(states, str) or not states):
            raise FlowError(f"record: states is a tuple of names such as ('h',), got {states!r}.")
        self._recording = Recording(
            tuple(states or STATES), thresholds or Thresholds(), replay, memory, states is None
        )

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
    states: tuple[str, ...] | None = None,
) -> Recording:
    """Records a recurrent layer under a loss at its last step: <w, h_n> with random w ~ N(0, 1).

    layer: as in mg.nn, layer(xs, lengths=lengths) -> (output, final). The loss reads `h` of the
    final state, of the last layer and every direction (all of the state if nothing in it is called
    h). The parameters' `.grad` stay as they are. states: as in `record`.

    >>> import minigrad as mg
    >>> lstm = mg.nn.LSTM(3, 5, dtype=np.float64, generator=np.random.default_rng(0))
    >>> probe(lstm, np.ones((60, 1, 3))).verdict.kind
    'vanishing'
    """
    rng = np.random.default_rng(seed)
    with record(states, thresholds) as recording:
        _, final = layer(xs, lengths=lengths)
        named = list(named_leaves(final))
        read = [t for name, t in named if name in ("", "h")] or [t for _, t in named]
        loss: Any = 0.0
        for h_n in read:  # (layers * directions, B, H)
            last = h_n[-layer.num_directions :]
            loss = loss + (last * rng.normal(size=last.shape).astype(last.dtype)).sum()
        grad(loss, list(layer.parameters()), allow_unused=True)
    return recording
