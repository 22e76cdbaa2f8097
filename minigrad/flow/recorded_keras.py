"""Recurrent layers of a Keras 3 model, recorded where they are.

What they read, and dL/d(what they gave), Keras's own backend finds (interop/recording_keras.py).
From that each layer runs again in minigrad, one reading the other's outputs where it did in Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..compile.scanning import scan
from ..compile.unrolling import Cell
from ..errors import FlowError
from ..interop.recording_keras import Ran, Source, record
from ..nn.recurrent import MERGES
from ..tape import scope
from ..tensors import Tensor, as_tensor
from ..tree import leaves, rebuild
from .given import leaf, recorded, seeds_of, send_back
from .recording import Recording
from .verdict import Thresholds

CLOSE = (
    1e-3  # of the largest output; Keras multiplies in float32 on most backends, whatever the dtype
)


def record_keras(
    model: Any,
    x: Any,
    y: Any,
    loss: Any = None,
    *,
    training: bool = False,
    cells: Mapping[str, Cell] | None = None,
    states: tuple[str, ...] | None = None,
    thresholds: Thresholds | None = None,
) -> Recording:
    """(Keras model, x, y, loss) -> Recording of one forward and one backward pass.

        rec = mg.flow.record_keras(model, x, y, keras.losses.MeanSquaredError())
        print(rec)                      # a table with a verdict
        rec["lstm"].norms["h"]          # |dL/dh_t| for every t, (T,) float64
        rec["bidirectional/rev"]        # of a Bidirectional, fwd and rev

    model: a model or layer of Keras 3, on JAX, PyTorch or TensorFlow. Nothing of it changes, the
        states of stateful layers included (but one that has never run is built).
    x, y: one batch, as for `model.fit`. loss: a loss of Keras, its name, or a function (y, output)
        whose mean counts; None: the one that the model was compiled with.
    training: whether layers run as in training. Layers that drop out inside of their cells do so by
        masks that nobody else can know, and are `missing` then.
    cells: name of a layer -> minigrad's cell, for RNN(cell) with a cell of your own.
    states, thresholds: as in `record`.

    Every SimpleRNN, LSTM, GRU and RNN of these cells is heard: stacked, Bidirectional, stateful,
    with go_backwards, masks and states that come from other layers. Steps are those of x, whatever
    the direction. What is read runs again in minigrad, from the same weights; `missing` says where
    its outputs differ from those of Keras, and which layers have no cell here. A layer that reads
    another's outputs as they are lies on one time axis with it. What else stands between two layers
    is not followed, as `missing` says: each is an axis of its own then, judged by what arrives at
    its own outputs.

    Raises FlowError if no recurrent layer ran, or none has a cell here; ConversionError for what is
    no model of Keras and for a backend without gradients; MissingPackageError without Keras.
    """
    parts = record(model, x, y, loss, training, cells or {})
    known = [ran for ran in parts if ran.cell is not None]
    gaps = [ran.gap for ran in parts if ran.cell is None]
    if not known:
        raise FlowError(
            f"record_keras: {'; '.join(gaps) or 'no SimpleRNN, LSTM, GRU or RNN ran in the model'}."
        )
    with recorded("", states, thresholds) as recording:
        runs: list[_Again | None] = []
        for ran in parts:
            runs.append(None if ran.cell is None else _Again(ran, runs))
        for run in reversed(runs):
            if run is not None:
                run.back()
    gaps += [
        f"{ran.name}: what it reads was not followed back; if that was made from what another "
        f"recurrent layer gave, the two are judged apart"
        for ran in known
        if not ran.followed
    ]
    recording.gaps += gaps + [text for run in runs if run is not None for text in run.differs()]
    return recording


class _Again:
    """One call of a layer, run again."""

    def __init__(self, ran: Ran, before: list[_Again | None]):
        self.ran = ran
        xs = _linked(ran.reads, before)
        self.xs = leaf(ran.xs, True) if xs is None else xs
        state = ran.cell.init_state(ran.xs.shape[1]) if hasattr(ran.cell, "init_state") else None
        parts = []
        for array, source in zip(ran.init, ran.begins, strict=True):
            linked = _linked(source, before)
            parts.append(leaf(array, False) if linked is None else linked)
        if state is None:
            state = parts[0] if len(parts) == 1 else tuple(parts)
        self.init = rebuild(state, parts)
        with scope(ran.name):
            self.final, self.ys = scan(
                ran.cell, self.init, self.xs, reverse=ran.reverse, mask=ran.mask
            )

    def back(self) -> None:
        grads = self.ran.grad_final
        given = rebuild(self.final, grads) if grads else None
        pairs = [*seeds_of("dL/dy", self.ys, self.ran.grad_ys)]
        pairs += seeds_of("dL/dstate", self.final, given)
        if pairs:
            send_back(pairs, [self.xs, *leaves(self.init)])

    def differs(self) -> list[str]:
        """A sentence if the outputs are not those of Keras."""
        ran, ys = self.ran, np.asarray(leaves(self.ys)[0]._array)
        real = np.ones(ys.shape[:2], bool) if ran.mask is None else ran.mask
        if ran.every:
            ours, theirs = ys[real], ran.ys[real]
        else:
            order = range(len(ys))[:: -1 if ran.reverse else 1]
            last = np.argmax(real[order][::-1], axis=0)
            rows = np.flatnonzero(real.any(axis=0))
            ours = ys[np.array(order)[::-1][last[rows]], rows]
            theirs = ran.ys[rows]
        apart = float(np.max(np.abs(ours - theirs), initial=0.0))
        most = float(np.max(np.abs(theirs), initial=0.0))
        if apart <= CLOSE * most or not np.isfinite(theirs).all():
            return []
        return [
            f"{ran.name}: the outputs of its cell here differ from those of Keras by up to "
            f"{apart:.2g}, the largest being {most:.2g}"
        ]


def _linked(source: Source | None, before: list[_Again | None]) -> Tensor | None:
    """The same value as it was computed here; None for what came from elsewhere."""
    runs = [before[i] for i in source.runs] if source is not None else []
    found = [run for run in runs if run is not None]
    if source is None or len(found) < len(runs):
        return None
    if source.leaf is not None:
        return as_tensor(leaves(found[0].final)[source.leaf])
    outputs = [leaves(run.ys)[0] for run in found]
    return outputs[0] if len(outputs) == 1 else MERGES[source.merge](*outputs)
