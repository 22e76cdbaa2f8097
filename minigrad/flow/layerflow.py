"""What one recorded layer received from the loss, and what its gates did, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .verdict import Thresholds, Verdict, judge

Array = np.ndarray


@dataclass
class Activation:
    """One tapped value over time, arrays of shape (T,) in order of computation.

    mean: over batch and units. saturation: share of units in the flat ends of the sigmoid or tanh
        that
    made the value, and slope: mean derivative of that function there; both nan for other values.
    """

    mean: Array
    saturation: Array
    slope: Array


@dataclass
class LayerFlow:
    """One layer and direction: what its states received from the loss, in order of computation.

    path: its scope. steps: the t of each entry (T,). norms: name -> |dL/d(name_t)| over batch and
    units (T,), zero where no gradient arrived. per_sample: the same for each row of the batch (T,
    B).
    activations: name -> Activation for every tapped value. tiny: smallest normal number of the
        dtype.
    """

    path: str
    steps: Array
    norms: dict[str, Array]
    per_sample: dict[str, Array]
    activations: dict[str, Activation]
    tiny: float = 0.0
    thresholds: Thresholds = field(default_factory=Thresholds)

    @property
    def reverse(self) -> bool:
        """Whether the layer reads the sequence from its end."""
        return self.steps.size > 1 and bool(self.steps[0] > self.steps[-1])

    def profile(self, name: str = "h") -> Array:
        """Norms by lag: from the last step in order of computation that a gradient reached,
        backwards.
        """
        norms = self.norms[name]
        reached = np.flatnonzero(norms != 0)
        return norms[: reached[-1] + 1][::-1] if reached.size else norms[:0]

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """One for each state: how the gradient travels back along it."""
        found = {n: judge(self.profile(n), self.thresholds, self.tiny) for n in self.norms}
        why = self._why()
        return {name: verdict.because(why) for name, verdict in found.items()}

    @property
    def verdict(self) -> Verdict:
        """That of the hidden state (or of the first state, if none is called h)."""
        verdicts = self.verdicts
        return verdicts.get("h") or next(iter(verdicts.values()))

    def _why(self) -> str:
        """What the gates say about the factor per step."""
        parts = []
        for name, words in (("f", "forget gate"), ("z", "update gate")):
            if name in self.activations:
                parts.append(f"{words} {np.mean(self.activations[name].mean):.2f} on average")
        if "h" in self.activations and np.isfinite(self.activations["h"].slope).all():
            parts.append(f"slope of the activation {np.mean(self.activations['h'].slope):.2f}")
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """All but per_sample, for JSON."""
        return {
            "path": self.path,
            "steps": self.steps.tolist(),
            "norms": {name: x.tolist() for name, x in self.norms.items()},
            "activations": {
                name: {"mean": a.mean.tolist(), "saturation": a.saturation.tolist()}
                for name, a in self.activations.items()
            },
            "verdicts": {name: v.to_dict() for name, v in self.verdicts.items()},
        }
