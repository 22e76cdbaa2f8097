"""What a fixed point does to the states around it: eigenvalues, and whether their side is certain.

    dS -> J dS:      |lambda| < 1 comes back, |lambda| > 1 leaves, by that factor a step

Eigenvalues of a matrix that is not normal may move by far more than its entries do. So a kind is
told only if no matrix as near to J as J is known has an eigenvalue on the unit circle:

    min over |z| = 1 of sigma_min(z I - J)  >  |error of J|

(L. N. Trefethen, M. Embree, "Spectra and pseudospectra", 2005, chapter 2.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray
SHOWN = 12  # fixed points that print() lists
NEAREST = 8  # eigenvalues at whose angles the distance to the unit circle is measured


class Kind(NamedTuple):
    """eigenvalues: largest first. growing: how many are outside of the unit circle."""

    kind: str
    eigenvalues: Array
    growing: int


def kind_of(jacobian: Array, moved: Array, eps: float) -> Kind:
    """What kind of fixed point J belongs to: stable, saddle, repeller, or "cannot be told".

    moved: by how much J changes over the next step of Newton's, which is how well it is known,
    beside rounding.
    """
    values = np.linalg.eigvals(jacobian).astype(complex)
    values = values[np.argsort(-np.abs(values), kind="stable")]
    growing = int((np.abs(values) > 1).sum())
    n = len(values)
    error = 2 * np.linalg.norm(moved) + 8 * n * eps * max(1.0, float(np.linalg.norm(jacobian)))
    nearest = values[np.argsort(np.abs(np.abs(values) - 1))[:NEAREST]]
    on_circle = np.exp(1j * np.angle(nearest))
    apart = np.linalg.svd(on_circle[:, None, None] * np.eye(n) - jacobian, compute_uv=False)
    if not apart[:, -1].min() > error:
        return Kind("cannot be told", values, growing)
    return Kind(("stable", "repeller")[growing == n] if growing in (0, n) else "saddle",
                values, growing)  # fmt: skip


@dataclass
class FixedPoints:
    """P fixed points of a cell of n states, the most stable first, from R starts.

    points: a tree like the state, leaves (P, ...). residuals: (P,), |cell(S) - S|. jacobians: (P,
    n, n), rows are outputs. eigenvalues: (P, n) complex, largest first. kinds: of each, "stable"
    (every eigenvalue within the unit circle), "repeller" (every one outside), "saddle", or "cannot
    be told", where one is nearer to the circle than J is known.
    labels: (R,), the fixed point to which each start led; -1 for none. unresolved: the tree of
    states (U, ...) at which the others ended, and speeds, (U,), how far a step moves them: slow
    points, or starts that ran out of iterations.
    parts: name of a part of the state -> its slice of 0 .. n.
    """

    points: Any
    residuals: Array
    jacobians: Array
    eigenvalues: Array
    kinds: list[str]
    labels: Array
    unresolved: Any
    speeds: Array
    parts: Mapping[str, slice]

    def __len__(self) -> int:
        return len(self.residuals)

    @property
    def counts(self) -> Array:
        """(P,), how many starts led to each."""
        return np.array([int((self.labels == i).sum()) for i in range(len(self))], dtype=int)

    @property
    def growing(self) -> Array:
        """(P,), dimensions in which states leave: eigenvalues outside of the unit circle."""
        return np.asarray((np.abs(self.eigenvalues) > 1).sum(axis=1))

    def __str__(self) -> str:
        kinds = ", ".join(f"{many} {kind}" for kind, many in Counter(self.kinds).items())
        many = f"{len(self)} fixed point{'s' * (len(self) != 1)}"
        lines = [f"{many} from {len(self.labels)} starts"]
        lines[0] += f": {kinds}" if kinds else ""
        for i, (kind, count) in enumerate(zip(self.kinds[:SHOWN], self.counts, strict=False)):
            first = self.eigenvalues[i, 0]
            turn = f", turning by {abs(np.angle(first)):.3g} rad a step" if first.imag else ""
            lines.append(
                f"  {i}  {kind}: largest |eigenvalue| {abs(first):.6g}{turn}; {self.growing[i]} of "
                f"{self.eigenvalues.shape[1]} grow; reached by {count}, |F| {self.residuals[i]:.2g}"
            )
        if len(self) > SHOWN:
            lines.append(f"  ... {len(self) - SHOWN} more")
        if len(self.speeds):
            slowest = f"{np.nanmin(self.speeds):.2g}" if np.isfinite(self.speeds).any() else "nan"
            lines.append(
                f"  {len(self.speeds)} starts did not come to a fixed point; of what is near where "
                f"they ended nothing can be told (least speed there {slowest})"
            )
        return "\n".join(lines)
