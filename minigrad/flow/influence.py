"""How a state moves with the weights: |dS_t/dtheta| at every step.

    dS_t/dtheta = J_t dS_{t-1}/dtheta + I_t,      J_t = dS_t/dS_{t-1},  I_t = d cell(S_{t-1})/dtheta

The same weights act at every step, so what they do adds up along the memory of the net: with
eigenvalues of J near 1 it grows large although no gradient explodes ("curse of memory"; of h_t =
lambda h_{t-1} + x_t with white x, E|dh/dlambda|^2 = (1 + lambda^2) / (1 - lambda^2)^3).

    found = mg.flow.sensitivities(rnn, xs=xs)
    found.norms["weight_hh_l0"]                     # |dS_t/dW|, (T, B)
    found = mg.flow.sensitivities(lstm, xs=xs, projections=64)      # estimated, of large nets

Exact: forward along the steps, as in real-time recurrent learning; row j of J_t and I_t is one walk
back from the j-th number of S_t. Estimated: along random directions u of the weights, whose
elements are +1 or -1,

    E |dS_t/dtheta u|^2 = |dS_t/dtheta|^2,        s_t = J_t s_{t-1} + I_t u

since E[u u^T] = I; of m directions the mean. It is exact where no two weights move the same number,
as in a recurrence element by element.

(N. Zucchet, A. Orvieto, "Recurrent neural networks: vanishing and exploding gradients are not the
end of the story", 2024. R. J. Williams, D. Zipser, "A learning algorithm for continually running
fully recurrent neural networks", 1989. M. F. Hutchinson, "A stochastic estimator of the trace of
the influence matrix", 1990.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..autodiff import grad
from ..backward import walk
from ..errors import FlowError, describe
from ..nn.module import Module
from ..norms import row_norms
from ..ops import concatenate, reshape
from ..tensors import Tensor, wrap
from ..tree import leaves, map_leaves, rebuild
from .steps import Trajectory, unheard

Array = np.ndarray
MOST_BYTES = 2 << 30  # of dS/dtheta; beyond it a mistake is more likely than a wish


@dataclass
class Sensitivities:
    """|dS_t/dtheta| after each step, in order of computation; Frobenius norms.

    norms: name of a parameter -> (T, B). standard_errors: of these, if they were estimated from
    more than one direction, else None.
    """

    norms: dict[str, Array]
    standard_errors: dict[str, Array] | None = None

    @property
    def total(self) -> Array:
        """(T, B), of all parameters together."""
        return np.sqrt(sum(norms**2 for norms in self.norms.values()))

    def __str__(self) -> str:
        T, B = self.total.shape
        at = sorted({0, (T - 1) // 2, T - 1})
        wide = max(len(name) for name in (*self.norms, "all"))
        rows = [(name, norms.mean(axis=1)) for name, norms in self.norms.items()]
        rows.append(("all", self.total.mean(axis=1)))
        at_steps = ", ".join(str(t + 1) for t in at)
        lines = [f"|dS_t/dtheta|, mean of {B} rows, after step {at_steps}"]
        lines += [f"  {name:<{wide}}  " + "  ".join(f"{m[t]:.4g}" for t in at) for name, m in rows]
        return "\n".join(lines)


def sensitivities(
    cell: Any,
    init: Any = None,
    xs: Any = None,
    parameters: Mapping[str, Tensor] | None = None,
    of: str | None = None,
    steps: int | None = None,
    lengths: Any = None,
    reverse: bool = False,
    projections: int | None = None,
    seed: int = 0,
) -> Sensitivities:
    """|dS_t/dtheta| at every step of the trajectory that starts at `init`, driven by `xs`.

    cell, init, xs, steps, lengths, reverse: as for `jacobians`; past a row's length its state stays
        and so does its norm. init does not move with the weights.
    parameters: name -> Tensor that requires a gradient; those of a module if left out.
    of: a part of the state, as "h" or "c" of an LSTM; all of it if left out.
    projections: estimate from so many random directions (drawn with `seed`) instead: the square of
        a norm is then wrong by sqrt(2 / m) of itself or less (one standard deviation).
    Exact, a step costs B n walks back and n^2 products with all weights, and memory for B n
    numbers for each weight; estimated, the Jacobians, and `projections` walks for each parameter,
    of all steps side by side.
    Raises FlowError for a cell without parameters, for what would take more than 2 GiB, and for
    projections of a cell that `mg.scan` cannot compile.

    >>> import minigrad as mg
    >>> a = mg.tensor([0.5], requires_grad=True)
    >>> xs = np.ones((3, 1, 1))
    >>> found = sensitivities(lambda h, x: (a * h + x, h), mg.tensor([[0.0]]), xs, {"a": a})
    >>> found.norms["a"].ravel().tolist()                # h = 1, 1 + a, 1 + a + a^2
    [0.0, 1.0, 2.0]
    """
    named = _parameters(cell, parameters)
    path = Trajectory("sensitivities", cell, init, xs, steps, lengths, reverse)
    if of is not None and of not in path.parts:
        known = ", ".join(map(repr, path.parts))
        raise FlowError(f"sensitivities: the state has no part {of!r}; it has {known}.")
    part = slice(None) if of is None else path.parts[of]
    norms = {name: np.empty((path.steps, path.rows)) for name in named}
    if projections is None:
        bounds = np.cumsum([0, *(p.size for p in named.values())])
        with np.errstate(all="ignore"):  # what explodes is inf
            for k, moved in enumerate(_exact(path, list(named.values()))):
                for name, start, stop in zip(named, bounds, bounds[1:], strict=False):
                    flat = moved[:, part, start:stop].reshape(path.rows, -1)
                    norms[name][k] = row_norms(flat)
        return Sensitivities(norms)
    if isinstance(projections, bool) or not isinstance(projections, (int, np.integer)):
        raise FlowError(f"sensitivities: projections is an integer; got {projections!r}.")
    if projections < 1:
        raise FlowError(f"sensitivities: projections is 1 or more; got {projections}.")
    if not path.repeatable:
        raise FlowError(
            "sensitivities: projections run many steps as the rows of one batch, which this cell "
            "cannot; leave projections out."
        )
    errors = {name: np.full((path.steps, path.rows), np.nan) for name in named}
    m = int(projections)
    with np.errstate(all="ignore"):
        for k, along in enumerate(_projected(path, list(named.values()), m, seed)):
            for name, s in zip(named, along, strict=True):
                squares = (s[:, part] ** 2).sum(axis=1)  # (B, m)
                norms[name][k] = np.sqrt(squares.mean(axis=1))
                if m > 1:
                    deviation = squares.std(axis=1, ddof=1) / np.sqrt(m)
                    errors[name][k] = deviation / np.maximum(2 * norms[name][k], 1e-300)
    return Sensitivities(norms, errors if m > 1 else None)


def _parameters(cell: Any, given: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    if given is None:
        if not isinstance(cell, Module):
            raise FlowError(
                "sensitivities: the cell is no mg.nn.Module, so its weights are not known; pass "
                "parameters={'name': tensor}."
            )
        given = {name: p for name, p in cell.named_parameters() if p.requires_grad}
    for name, p in given.items():
        if not isinstance(p, Tensor) or not p.requires_grad:
            raise FlowError(
                f"sensitivities: parameter {name!r} is {describe(p)}; expected a Tensor that "
                f"requires a gradient."
            )
    if not given:
        raise FlowError("sensitivities: the cell has no parameter that requires a gradient.")
    return dict(given)


def _exact(path: Trajectory, parameters: list[Tensor]) -> Iterator[Array]:
    """dS_t/dtheta after each step, (B, n, all parameters)."""
    B, n, many = path.rows, path.n, sum(p.size for p in parameters)
    if (size := 8 * B * n * many) > MOST_BYTES:
        raise FlowError(
            f"sensitivities: [{B}, {n}, {many}], (B, n, weights), would take {size / 2**30:.3g} "
            f"GiB; take fewer rows, or projections=64 for an estimate."
        )
    moved = np.zeros((B, n, many))
    for k in range(path.steps):
        jacobian, direct = _step(path, parameters, k)
        if path.separable:
            new = np.einsum("bibj->bij", jacobian) @ moved + direct
        else:  # the rows may touch each other
            flat = jacobian.reshape(B * n, B * n) @ moved.reshape(B * n, many)
            new = flat.reshape(B, n, many) + direct
        real = path.real(k)
        moved = new if real.all() else np.where(real[:, None, None], new, moved)
        yield moved


def _step(path: Trajectory, parameters: list[Tensor], k: int) -> tuple[Array, Array]:
    """dS_{k+1}/dS_k, (B, n, B, n), and its derivative by the weights as they act in it alone."""
    B, n = path.rows, path.n
    state = [wrap(np.ascontiguousarray(s[k]), None, True) for s in path.states]
    x = map_leaves(lambda x: wrap(np.ascontiguousarray(x[k]), None, False), path.inputs)
    jacobian = np.zeros((B, n, B, n))
    direct = np.zeros((B, n, sum(p.size for p in parameters)))
    bounds = np.cumsum([0, *(p.size for p in parameters)])
    with unheard(recording=True):
        new, _ = path.cell(rebuild(path.init, state), x)
        for output, part in zip(leaves(new), path.parts.values(), strict=True):
            if not output.requires_grad:
                continue
            seed = np.zeros((B, part.stop - part.start), output.dtype)
            for b in range(B):
                for j in range(part.start, part.stop):
                    seed[b, j - part.start] = 1
                    found = walk(
                        [output], [seed.reshape(output.shape)], [*state, *parameters],
                        retain_graph=True, create_graph=False, stop=True,
                    )  # fmt: skip
                    seed[b, j - part.start] = 0
                    of_state, of_weights = found[: len(state)], found[len(state) :]
                    for g, at in zip(of_state, path.parts.values(), strict=True):
                        if g is not None:
                            jacobian[b, j, :, at] = g.reshape(B, -1)
                    for g, start, stop in zip(of_weights, bounds, bounds[1:], strict=False):
                        if g is not None:
                            direct[b, j, start:stop] = g.ravel()
    return jacobian, direct


def _projected(
    path: Trajectory, parameters: list[Tensor], m: int, seed: int
) -> Iterator[list[Array]]:
    """dS_t/dtheta u after each step, (B, n, m), for each parameter and m directions u of it."""
    rng = np.random.default_rng(seed)
    signs = [rng.choice([-1.0, 1.0], size=(m, *p.shape)).astype(p.dtype) for p in parameters]
    moved = [np.zeros((path.rows, path.n, m)) for _ in parameters]
    for first, jacobians in path.chunks():
        push = _pushing(path, parameters, first, first + len(jacobians))
        direct = [
            np.stack([push(i, u) for u in directions], axis=-1)
            for i, directions in enumerate(signs)
        ]
        for k, jacobian in enumerate(jacobians):
            real = path.real(first + k)[:, None, None]
            moved = [
                np.where(real, jacobian @ s + d[k], s) for s, d in zip(moved, direct, strict=True)
            ]
            yield moved


def _pushing(
    path: Trajectory, parameters: list[Tensor], start: int, stop: int
) -> Callable[[int, Array], Array]:
    """(i, u) -> how steps start .. stop move when parameter i does along u, (steps, B, n).

    v -> v^T I is linear in v, and the derivative of it along v, for any v, is u -> I u.
    """
    rows = (stop - start) * path.rows
    merged = [s[start:stop].reshape(rows, *s.shape[2:]) for s in path.states]
    state = [wrap(np.ascontiguousarray(s), None, False) for s in merged]
    x = map_leaves(
        lambda x: wrap(
            np.ascontiguousarray(x[start:stop]).reshape(rows, *x.shape[2:]), None, False
        ),
        path.inputs,
    )
    pulled: list[Tensor | None] = [None] * len(parameters)
    with unheard(recording=True):
        new, _ = path.cell(rebuild(path.init, state), x)
        wide = [reshape(t, (rows, -1)) for t in leaves(new)]
        y = concatenate(wide, axis=1) if len(wide) > 1 else wide[0]
        v = wrap(np.zeros(y.shape, y.dtype), None, True)
        if y.requires_grad:
            pulled = grad(y, parameters, grad_output=v, create_graph=True, allow_unused=True)

    def push(i: int, u: Array) -> Array:
        g, found = pulled[i], None
        if g is not None and g.requires_grad:
            with unheard():
                found = walk([g], [u], [v], retain_graph=True, create_graph=False)[0]
        flat = np.zeros(v.shape) if found is None else found
        return flat.reshape(stop - start, path.rows, path.n)

    return push
