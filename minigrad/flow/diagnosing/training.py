"""A rate that is too large, told from the losses of a run, or from what a Monitor measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .cause import Cause

if TYPE_CHECKING:
    from ..history import History
    from ..monitor import Monitor

Array = np.ndarray
LEAST = 5  # losses from which on something can be told
ROSE, OFTEN = 2.0, 0.2  # times what the loss began with, in this share of the updates
ENDS = 1.5  # times what it began with, at the end


def rate_too_large(
    monitor: Monitor | History | None, losses: Sequence[float] | Array | None
) -> Iterator[Cause]:
    """Losses that are, end, or break far above where they began."""
    history: History | None = getattr(monitor, "history", monitor)  # type: ignore[arg-type]
    if losses is None and history is not None and "loss" in history.logged:
        losses = history.logged["loss"][1]
    if losses is None:
        return
    found = np.asarray(losses, np.float64).ravel()
    moved = "" if history is None else _moved(history)
    finite = np.isfinite(found)
    end = len(found) if finite.all() else int(np.argmin(finite))
    before = found[:end]
    if end < 2 or (end == len(found) and end < LEAST):
        return
    began = float(before[0])  # before the first update, which may already be too large
    if not began > 0:
        return
    if end < len(found):
        if (rose := before[-3:].max() / before.min()) > ROSE:
            yield Cause(
                "rate-too-large",
                "training",
                f"the loss rises {rose:.3g} times above its least, and is "
                f"{'NaN' if np.isnan(found[end]) else 'Inf'} at update {end + 1}{moved}",
                float(rose),
            )
        return
    last = float(np.median(before[-max(len(before) // 5, 3) :])) / began
    high = float(np.quantile(before, 1 - OFTEN)) / began
    if last > ENDS or high > ROSE:
        yield Cause(
            "rate-too-large",
            "training",
            f"the loss begins at {began:.3g}, is above {high:.3g} times that in a fifth of all "
            f"updates, and ends at {last:.3g} times that{moved}",
            max(last, high),
        )


def _moved(history: History) -> str:
    updates = [p.update for m in history.measurements for p in m.parameters.values() if p.gradient]
    return f"; an update is {np.median(updates):.2g} of the weight it changes" if updates else ""
