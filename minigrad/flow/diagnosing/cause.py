"""What is wrong with a net, by name, where, and the numbers that say so."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

NAMES = {  # what comes before may be behind what follows
    "nonfinite": "a value that is NaN or Inf",
    "wrong-mask": "padding is read as data, or data is masked out",
    "rate-too-large": "the updates are larger than the loss allows",
    "input-scale": "inputs are far larger or smaller than 1",
    "dead-units": "units do not move",
    "saturated-gates": "gates are in the flat ends of their functions",
    "detached": "the state goes on, and its gradient does not",
    "lost-in-depth": "the gradient is lost between two layers",
    "exploding": "the gradient grows on its way back through time",
    "vanishing": "the gradient is lost on its way back through time",
    "read-too-rarely": "most steps are farther from what the loss reads than a gradient reaches",
}


@dataclass(frozen=True)
class Cause:
    """One cause.

    name: a key of NAMES. where: the layer, or what else it was found in. evidence: what was
    computed, in words. value: the number that decided.
    """

    name: str
    where: str
    evidence: str
    value: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.name}, {self.where or 'network'}: {self.evidence}"
