"""A state that goes on, to the next step or the next call, and whose gradient does not go back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...norms import row_norms
from ...tape import no_grad
from ...tensors import wrap
from ...tree import leaves, map_leaves, rebuild
from .cause import Cause
from .reading import real_steps

if TYPE_CHECKING:
    from ..layerflow import LayerFlow
    from ..replaying import Replay

Array = np.ndarray
NUDGE = 1e-4  # of a state's size, to see whether the next one moves
MOVES = 1e-3  # of the nudge, from which on the next state depends on the one before
FAR = 1e6  # times the smallest normal number: what is smaller may have underflowed


def detached(layers: Sequence[LayerFlow]) -> Iterator[Cause]:
    """Windows of scan(truncate=), calls that go on from a detached state, a detach() in a loop."""
    earlier: dict[str, LayerFlow] = {}
    for layer in layers:
        replay = layer.replay
        if replay is None:
            yield from _in_a_loop(layer)
            continue
        before = earlier.get(layer.scope)
        earlier[layer.scope] = layer
        if replay.truncate is not None and replay.truncate < replay.steps:
            yield Cause(
                "detached",
                layer.path,
                f"scan(truncate={replay.truncate}): no gradient passes from one window to the one "
                f"before, {-(-replay.steps // replay.truncate) - 1} times in {replay.steps} steps",
                float(replay.truncate),
            )
        elif layer.arrived:
            yield from _in_the_cell(layer, replay)
        if before is not None and before.replay is not None and layer.arrived:
            yield from _between_calls(before, before.replay, layer, replay)


def _in_the_cell(layer: LayerFlow, replay: Replay) -> Iterator[Cause]:
    """The next state moves when this one does, but no gradient says so."""
    norms = _of_all_states(layer)
    there = norms > 0
    lost = there[1:] & ~there[:-1]
    if (real := real_steps(layer)) is not None:  # a step that is masked out passes the state by
        lost &= real[1:] & real[:-1]
    for k in np.flatnonzero(lost.any(axis=1))[::-1] + 1:
        row = int(np.argmax(lost[k - 1]))
        moved = _moves(replay, int(k), row)
        if moved > MOVES and moved * norms[k, row] > FAR * layer.tiny:
            yield Cause(
                "detached",
                layer.path,
                f"no gradient passes from t = {layer.steps[k]} to the step before, where "
                f"{norms[k, row]:.1e} arrived, although the state there depends on the one before: "
                f"it moves by {moved:.2g} of what that does",
                float(layer.steps[k]),
            )
            return


def _of_all_states(layer: LayerFlow) -> Array:
    """|dL/d(states)|, (T, B), of all that the layer carries together."""
    every = np.stack(list(layer.per_sample.values()), axis=-1)
    return row_norms(every).reshape(every.shape[:2])


def _moves(replay: Replay, k: int, row: int) -> float:
    """|change of the state after step k| / |change of the one before it|, along a random change."""
    rng = np.random.default_rng(0)
    state, x = replay.states[k], map_leaves(lambda x: x[replay.order[k]], replay.xs)
    nudged, size = [], 0.0
    for part in leaves(state):
        array = part.numpy().astype(part.dtype)
        d = np.zeros_like(array)
        scale = NUDGE * max(float(np.abs(array[row]).max(initial=0.0)), 1e-3)
        d[row] = scale * rng.standard_normal(array[row].shape)
        nudged.append(wrap(array + d, None, False))
        size += float(np.sum(np.square(d[row], dtype=np.float64)))
    with replay.restored(), no_grad():
        now = leaves(replay.cell(state, x)[0])
        then = leaves(replay.cell(rebuild(state, nudged), x)[0])
    moved = sum(
        float(np.sum(np.square((b.numpy() - a.numpy())[row], dtype=np.float64)))
        for a, b in zip(now, then, strict=True)
    )
    return float(np.sqrt(moved / size)) if size and np.isfinite(moved) else 0.0


def _between_calls(
    before: LayerFlow, first: Replay, layer: LayerFlow, then: Replay
) -> Iterator[Cause]:
    """The state that a call begins with is, to the bit, the one that the call before ended with."""
    if then.init_wants or first.rows != then.rows:
        return
    begins, ended = leaves(then.init), leaves(first.states[-1])
    same = len(begins) == len(ended) and all(
        a.shape == b.shape and np.array_equal(a.numpy(), b.numpy()) and b.numpy().any()
        for a, b in zip(begins, ended, strict=True)
    )
    if same:
        yield Cause(
            "detached",
            layer.path,
            f"it begins with the state that {before.path} ended with, to the bit, and no gradient "
            f"goes back there",
            float(len(layer.steps)),
        )


def _in_a_loop(layer: LayerFlow) -> Iterator[Cause]:
    """A loop written by hand: the gradient is there at one step, and exactly zero before it."""
    if not layer.arrived:
        return
    norms = _of_all_states(layer).max(axis=1)
    there = np.flatnonzero(norms > 0)
    if not there.size or there[0] == 0:
        return
    k = int(there[0])
    if norms[k] < FAR * layer.tiny or not _passes(layer, k):
        return
    yield Cause(
        "detached",
        layer.path,
        f"the gradient is exactly zero before t = {layer.steps[k]}, where {norms[k]:.1e} arrived: "
        f"a detach(), or a state that begins anew (which a loop written by hand cannot tell)",
        float(layer.steps[k]),
    )


def _passes(layer: LayerFlow, k: int) -> bool:
    """Whether a gradient comes to a unit that is at no end, as a relu at 0 or a tanh at 1 is."""
    for name, g in layer.heard.items():
        y = np.abs(layer.values[name][k])
        if ((g[k] != 0) & (y != 0) & (y != 1)).any():
            return True
    return False
