"""The Jacobians of a cell's steps, and what their products do to a gradient.

    J_k = dS_k/dS_{k-1}          dS_t/dS_s = J_t J_{t-1} ... J_{s+1}

S is the whole state as one vector. A gradient that is sent back from S_t arrives at S_s multiplied
by the transpose of that product: its singular values say by how much each direction shrinks or
grows, exactly, where a norm shows one direction only.

    J = mg.flow.jacobians(cell, cell.init_state(1), xs)
    J.singular_values()                    # of every step, (T, B, n)
    J.between(100, 0, of="c", wrt="c")     # how c_100 moves with c_0
    J.log_singular_values(100, 0)          # of the product, which may be 1e-400

(Bengio, Simard, Frasconi 1994; Pascanu, Mikolov, Bengio 2013.)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FlowError, ShapeError, describe
from ..nn.module import Module
from ..tensors import Tensor
from .products import PrecisionWarning, Scaled, log_singular_values, product
from .steps import Trajectory

Array = np.ndarray
MOST_BYTES = 8 << 30  # of all Jacobians; beyond it a mistake is more likely than a wish


def jacobians(
    cell: Any,
    init: Any = None,
    xs: Any = None,
    lengths: Any = None,
    reverse: bool = False,
    steps: int | None = None,
) -> Jacobians:
    """dS_k/dS_{k-1} at every step of the trajectory that starts at `init` and is driven by `xs`.

        S = init
        for k in range(T):                       # xs from the last to the first if reverse
            J[k] = d cell(S, xs[k])[0] / dS
            S, _ = cell(S, xs[k])

    cell: (state, x) -> (state, y) as for `mg.scan`, or a layer of mg.nn in one direction (its
        layers' states are one state). init: a tree of float Tensors (B, ...); if left out, the
        cell's init_state. xs: a tree of Tensors (T, B, ...), with what the cell draws as in
        `mg.scan`; None for a cell that reads no input (it gets None), and then steps=T.
    lengths, reverse: as in `mg.scan`. Past a row's length the state stays, and J is the identity.
    It runs in the dtype of the cell; `cell.to(np.float64)` gives Jacobians to 16 digits. A cell
    that `mg.scan` cannot compile works too, more slowly: it runs a step at a time, and is
    differentiated a row at a time.
    Raises FlowError for a state that is not all floats or Jacobians of more than 8 GiB, and what
    the cell raises.

    >>> import minigrad as mg
    >>> J = mg.flow.jacobians(lambda h, x: (0.5 * h + x, h), mg.tensor([[0.0]]), np.ones((3, 1, 1)))
    >>> J.steps.ravel().tolist(), J.between(3, 0).value.item()
    ([0.5, 0.5, 0.5], 0.125)
    """
    path = Trajectory("jacobians", cell, init, xs, steps, lengths, reverse)
    shape = (path.steps, path.rows, path.n, path.n)
    if (size := 8 * math.prod(shape)) > MOST_BYTES:
        raise FlowError(
            f"jacobians: {list(shape)}, (T, B, n, n), would take {size / 2**30:.3g} GiB; take "
            f"fewer rows or steps. lyapunov() needs them a few at a time only."
        )
    found = np.empty(shape)
    for k, chunk in path.chunks():
        found[k : k + len(chunk)] = chunk
    return Jacobians(found, path.parts)


@dataclass
class Jacobians:
    """The Jacobians of T steps, in order of computation: steps[k] = dS_{k+1}/dS_k, S_0 = init.

    steps: (T, B, n, n) float64, rows are outputs. parts: name of a part of the state -> its slice
    of 0 .. n: {"h": slice(0, 3), "c": slice(3, 6)} for an LSTM.

    of, wrt: everywhere, the part that moves and the part it moves with; all of the state if left
    out. t, s: numbers of steps done, 0 <= s <= t <= T.
    """

    steps: Array
    parts: Mapping[str, slice]

    def block(self, of: str | None = None, wrt: str | None = None) -> Array:
        """steps of one part with respect to another, (T, B, size of `of`, size of `wrt`)."""
        return self.steps[:, :, self._slice(of), self._slice(wrt)]

    def between(
        self, t: int | None = None, s: int = 0, of: str | None = None, wrt: str | None = None
    ) -> Scaled:
        """dS_t/dS_s, (B, n, n): how the state after t steps moves with that after s.

        The product is kept as matrix * 2^exponent, so that it neither underflows nor overflows.
        t: all steps if left out.

        >>> J = Jacobians(np.full((1000, 1, 1, 1), 0.1), {"h": slice(0, 1)})
        >>> P = J.between()
        >>> P.value.item(), round(float(P.log_norm.item() / np.log(10)), 9)
        (0.0, -1000.0)
        """
        t, s = self._span(t, s)
        rows, columns = self._slice(of), self._slice(wrt)
        start = np.eye(self.steps.shape[-1])[:, columns]
        found = product(self.steps[s:t], start)
        return Scaled(found.matrix[:, rows], found.exponent)

    def singular_values(self, of: str | None = None, wrt: str | None = None) -> Array:
        """Of every step, (T, B, n), largest first; nan where the Jacobian is not finite."""
        return _each_finite(self.block(of, wrt), lambda a: np.linalg.svd(a, compute_uv=False))

    def log_singular_values(
        self, t: int | None = None, s: int = 0, of: str | None = None, wrt: str | None = None
    ) -> Array:
        """Natural logarithms of the singular values of dS_t/dS_s, (B, n), largest first.

        By QR of one factor after the other, and Jacobi rotations of what that leaves: right for
        values of 1e-400 and 1 side by side, where the product itself would hold rounding errors
        only, and to 1e-12 where they lie close together, as an orthogonal net's do. They are known
        no better than the steps: one whose condition number is 1e8 leaves 8 digits of its smallest
        value, and a power of a Jordan block fewer. -inf where the product is singular, or a step
        leaves less than rounding of a direction. A PrecisionWarning says what did not settle.

        >>> J = Jacobians(np.full((400, 1), 1.0)[..., None, None] * np.diag([1.0, 0.1]), {})
        >>> (J.log_singular_values()[0] / np.log(10)).round(9).tolist()
        [0.0, -400.0]
        """
        t, s = self._span(t, s)
        eye = np.eye(self.steps.shape[-1])
        found, loose = log_singular_values(
            self.steps[s:t], eye[:, self._slice(wrt)], eye[self._slice(of)], self.steps.shape[1]
        )
        if loose.size:
            warnings.warn(
                f"log_singular_values: the values of row {', '.join(map(str, loose))} did not "
                f"settle, and the smaller ones may be wrong; ask for fewer steps (t=, s=) or for "
                f"one part of the state (of=, wrt=).",
                PrecisionWarning,
                stacklevel=2,
            )
        return found

    def norms(self, of: str | None = None, wrt: str | None = None) -> Array:
        """The largest singular value of every step, (T, B): the most it can multiply a vector."""
        return self.singular_values(of, wrt)[..., 0]

    def condition_numbers(self, of: str | None = None, wrt: str | None = None) -> Array:
        """Largest over smallest singular value of every step, (T, B); inf where it is singular.

        Singular is what rounding cannot tell from singular: a ratio beyond 1 / (n eps).
        """
        values = self.singular_values(of, wrt)
        first, last = values[..., 0], values[..., -1]
        singular = last <= values.shape[-1] * np.finfo(np.float64).eps * first
        with np.errstate(all="ignore"):
            return np.where(singular, np.inf, first / last)

    def spectral_radii(self, of: str | None = None) -> Array:
        """The largest |eigenvalue| of every step, of one part of the state or all of it, (T, B)."""
        return _each_finite(
            self.block(of, of), lambda a: np.abs(np.linalg.eigvals(a)).max(axis=-1, keepdims=True)
        )[..., 0]

    def _slice(self, name: str | None) -> slice:
        if name is None:
            return slice(None)
        if name not in self.parts:
            known = ", ".join(map(repr, self.parts))
            raise FlowError(f"Jacobians: the state has no part {name!r}; it has {known}.")
        return self.parts[name]

    def _span(self, t: int | None, s: int) -> tuple[int, int]:
        steps = len(self.steps)
        t = steps if t is None else t
        if not 0 <= s <= t <= steps:
            raise FlowError(
                f"Jacobians: expected 0 <= s <= t <= {steps}, numbers of steps done; got t={t}, "
                f"s={s}."
            )
        return t, s

    def __repr__(self) -> str:
        time, rows, n, _ = self.steps.shape
        return f"<Jacobians of {time} steps, {rows} rows, state {', '.join(self.parts)} ({n})>"


def spectral_radius(weights: Any) -> Any:
    """The largest |eigenvalue| of a square matrix, (..., n, n) -> (...).

    A module gives a dict: name of each recurrent weight, and of the gate if there are several,
    -> its radius.

    >>> round(float(spectral_radius(np.array([[0.0, 2.0], [-2.0, 0.0]]))), 12)
    2.0
    """
    if isinstance(weights, Module):
        return {name: spectral_radius(w) for name, w in recurrent_weights(weights).items()}
    matrix = _matrix("spectral_radius", weights)
    if matrix.shape[-1] != matrix.shape[-2]:
        raise ShapeError(
            f"spectral_radius: expected a square matrix, got {describe(matrix)}; "
            f"singular_values takes any."
        )
    return _each_finite(matrix, lambda a: np.abs(np.linalg.eigvals(a)).max(axis=-1, keepdims=True))[
        ..., 0
    ]


def singular_values(weights: Any) -> Any:
    """The singular values of a matrix, largest first, (..., m, n) -> (..., min(m, n)).

    A module gives a dict: name of each recurrent weight, and of the gate if there are several,
    -> its singular values.

    >>> import minigrad as mg
    >>> list(singular_values(mg.nn.GRU(3, 4)))
    ['weight_hh_l0.r', 'weight_hh_l0.z', 'weight_hh_l0.n']
    """
    if isinstance(weights, Module):
        return {name: singular_values(w) for name, w in recurrent_weights(weights).items()}
    matrix = _matrix("singular_values", weights)
    return _each_finite(matrix, lambda a: np.linalg.svd(a, compute_uv=False))


def recurrent_weights(module: Module) -> dict[str, Array]:
    """name -> matrix of everything called weight_hh in a module, each gate by itself."""
    gates = {
        id(w): tuple(getattr(m, "gates", ()))
        for m in module.modules()
        if isinstance(w := getattr(m, "weight_hh", None), Tensor)
    }
    found: dict[str, Array] = {}
    for name, p in module.named_parameters():
        if id(p) not in gates:
            continue
        names = gates[id(p)]
        if len(names) < 2 or p.shape[0] % len(names):
            found[name] = p.numpy()
        else:
            parts = np.split(p.numpy(), len(names))
            found |= {f"{name}.{g}": w for g, w in zip(names, parts, strict=True)}
    if not found:
        raise FlowError(
            f"{type(module).__name__} has no weight_hh; pass the matrix itself: "
            f"{', '.join(name for name, _ in module.named_parameters()) or 'no parameters'}."
        )
    return found


def _matrix(who: str, weights: Any) -> Array:
    matrix = np.asarray(getattr(weights, "_array", weights), dtype=np.float64)
    if matrix.ndim < 2 or 0 in matrix.shape:
        raise ShapeError(f"{who}: expected a matrix or a module, got {describe(matrix)}.")
    return matrix


def _each_finite(matrices: Array, f: Any) -> Array:
    """f, (k, m, n) -> (k, r), of the matrices that are finite; nan for the others."""
    flat = matrices.reshape(-1, *matrices.shape[-2:])
    good = np.isfinite(flat).all(axis=(1, 2))
    values = f(flat[good] if good.any() else np.zeros((1, *flat.shape[1:])))
    found = np.full((len(flat), values.shape[1]), np.nan)
    found[good] = values[: int(good.sum())]
    return found.reshape(*matrices.shape[:-2], -1)
