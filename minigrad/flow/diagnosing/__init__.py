"""What is wrong with a recorded net: causes by name, each with what was computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .cause import NAMES, Cause
from .detaching import detached
from .gradients import lost_in_depth, read_too_rarely, through_time
from .inputs import input_scale, wrong_mask
from .training import rate_too_large
from .units import dead_units, nonfinite, saturated_gates

if TYPE_CHECKING:
    from ..history import History
    from ..monitor import Monitor
    from ..recording import Recording

__all__ = ["NAMES", "Cause", "causes", "causes_of"]


def causes(
    recording: Recording,
    monitor: Monitor | History | None = None,
    losses: Sequence[float] | np.ndarray | None = None,
) -> list[Cause]:
    """What is wrong, [] if nothing is; what may be behind the rest comes first.

    recording: after backward. monitor, or losses, one of each update: of the training run that it
    belongs to, without which a rate that is too large is not seen.
    How often these are right is measured: see `tools/verdicts.py`.

    >>> import minigrad as mg
    >>> rnn = mg.nn.RNN(1, 8, dtype=np.float64, generator=np.random.default_rng(0))
    >>> x = 100.0 * np.random.default_rng(1).standard_normal((30, 4, 1))
    >>> rec = mg.flow.probe(rnn, x)
    >>> [cause.name for cause in mg.flow.causes(rec)][0]
    'input-scale'
    """
    found = [*recording.own_causes(), *rate_too_large(monitor, losses)]
    order = list(NAMES)
    return sorted(found, key=lambda cause: order.index(cause.name))


def causes_of(recording: Recording) -> list[Cause]:
    """Those that a recording tells of without the training run that it belongs to."""
    layers = list(recording.values())
    reached = [layer for layer in layers if layer.arrived]
    return [
        *nonfinite(recording, reached),
        *wrong_mask(reached),
        *input_scale(reached),
        *dead_units(reached),
        *saturated_gates(reached),
        *detached(layers),
        *lost_in_depth(recording),
        *through_time(recording),
        *read_too_rarely(recording),
    ]
