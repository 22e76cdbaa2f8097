"""Magnitudes counted by powers of two: a histogram of fixed size that any float fits into.

    h = Histogram.of(gradient)
    h.counts                     # (64,): how many |x| in [2^-48, 2^-47), ..., [2^15, 2^16)
    h.zero, h.under, h.over      # exactly 0, below 2^-48, from 2^16 on
    h.nan, h.inf
    h + other                    # of both together

The exponent is read from the bits of the float, so that no logarithm is computed or rounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import DTypeError, ShapeError, describe

Array = np.ndarray
LOW, BINS = -48, 64  # the first bin begins at 2^LOW: 3.6e-15, below what float32 adds to a weight
HIGH = LOW + BINS  # the last bin ends at 2^HIGH: 65536

# dtype -> (an integer of its width, bits of the mantissa, bias of the exponent)
_LAYOUTS = {"f4": (np.uint32, 23, 127), "f8": (np.uint64, 52, 1023)}
_TAILS = ("zero", "under", "over", "nan", "inf")


@dataclass(frozen=True)
class Histogram:
    """How many numbers have |x| in [2^(LOW+i), 2^(LOW+i+1)): counts[i], (64,) int64.

    zero, under, over, nan, inf: the numbers that no bin counts. Denormals are `under`.
    """

    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))
    zero: int = 0
    under: int = 0
    over: int = 0
    nan: int = 0
    inf: int = 0

    def __post_init__(self) -> None:
        if np.shape(self.counts) != (BINS,):
            raise ShapeError(
                f"Histogram: counts must be ({BINS},), one for each power of two from 2^{LOW} on; "
                f"got {list(np.shape(self.counts))}."
            )

    @classmethod
    def of(cls, x: Any) -> Histogram:
        """The histogram of an array of float32 or float64, of any shape.

        >>> h = Histogram.of(np.array([0.0, 1.0, -1.5, 0.25, np.nan]))
        >>> {int(e): int(n) for e, n in zip(h.exponents, h.counts) if n}, h.zero, h.nan
        ({-2: 1, 0: 2}, 1, 1)
        """
        x = np.ascontiguousarray(x).ravel()
        if x.dtype.str[1:] not in _LAYOUTS or not x.dtype.isnative:
            raise DTypeError(f"Histogram.of: expected float32 or float64, got {describe(x)}.")
        word, mantissa, bias = _LAYOUTS[x.dtype.str[1:]]
        bits = (x.view(word) << word(1)) >> word(mantissa + 1)  # the sign goes, the exponent stays
        by_exponent = np.bincount(bits.astype(np.intp), minlength=2 * bias + 2)
        first = bias + LOW  # the stored exponent of 2^LOW; 0 stands for zero and denormals
        zero = int(x.size - np.count_nonzero(x)) if by_exponent[0] else 0
        bad = int(by_exponent[-1])
        nan = int(np.count_nonzero(np.isnan(x))) if bad else 0
        return cls(
            by_exponent[first : first + BINS].astype(np.int64),
            zero=zero,
            under=int(by_exponent[:first].sum()) - zero,
            over=int(by_exponent[first + BINS : -1].sum()),
            nan=nan,
            inf=bad - nan,
        )

    @property
    def exponents(self) -> Array:
        """The power of two at which each bin begins, (64,)."""
        return np.arange(LOW, HIGH)

    @property
    def total(self) -> int:
        """How many numbers were counted, those outside the bins too."""
        return int(self.counts.sum()) + sum(getattr(self, name) for name in _TAILS)

    @property
    def nonfinite(self) -> int:
        return self.nan + self.inf

    def __add__(self, other: Histogram) -> Histogram:
        tails = {name: getattr(self, name) + getattr(other, name) for name in _TAILS}
        return Histogram(self.counts + other.counts, **tails)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: {"low": -48, "counts": [...], "zero": 0, ...}."""
        tails = {name: getattr(self, name) for name in _TAILS}
        return {"low": LOW, "counts": self.counts.tolist(), **tails}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Histogram:
        """What to_dict gave. Raises ShapeError if it has other bins."""
        if stored.get("low") != LOW:
            raise ShapeError(
                f"Histogram: these bins begin at 2^{stored.get('low')}, expected 2^{LOW}."
            )
        tails = {name: int(stored[name]) for name in _TAILS}
        return cls(np.array(stored["counts"], np.int64), **tails)
