"""Curvature of a loss: a vector times its Hessian, Gauss-Newton matrix and Fisher matrices.

    hvp                H v,              H = d2L/dw2
    ggn                J^T H_z J v,      J = dz/dw, H_z = d2L/dz2, of outputs z and a loss L(z)
    fisher             J^T F_z J v,      F_z the Fisher matrix of the distribution that z stands for
    empirical_fisher   1/N sum_n g_n g_n^T v,     g_n the gradient of the loss of sample n

No matrix is ever formed: J^T u is a backward pass; J v is the gradient of J^T u by u, contracted
with v; H v is that of the gradient. A backward pass through `mg.scan` is a scan itself, so for
recurrent layers each of these is a handful of compiled loops, whatever the number of steps.

Sources: Pearlmutter 1994 (H v); Schraudolph 2002 (J^T H_z J v); Martens 2010 and Martens and
Sutskever 2011 (for recurrent nets); Martens 2020, "New insights and perspectives on the natural
gradient method" (which Fisher matrix is which, sections 5, 9 and 11).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .backward import walk
from .border import values
from .errors import GradientError, ShapeError, describe
from .tensors import Tensor, wrap
from .tree import leaves, rebuild
from .vectors import Parameters

Array = np.ndarray
Product = Callable[[Any], Any]  # vectors -> vectors of the same form


def hvp(loss: Any, parameters: Any, vectors: Any = None) -> Any:
    """H v, with H = d2L/dw2 the Hessian of a loss.

    loss: a function that returns one number. It is called without arguments if it takes none (a
        closure over a model), else with the parameters: f(*parameters) of several, f(w) of one.
    parameters: a Module (all of it that requires a gradient), a Tensor or an array, or several in a
        list, a tuple or a dict. Arrays, and Tensors that require no gradient, are differentiated by
        where the function takes arguments.
    vectors: one for each parameter, in its shape: a list, or a dict by name; or one array (n,) for
        all n elements, in order. Left out: the function v -> H v, which calls the loss once.
    Returns Tensors in the form of the vectors; zeros for a parameter that the loss does not read.
    Raises GradientError if it reads none of them, or is no single number, ShapeError and DTypeError
    for vectors that do not fit. Where the loss draws (dropout), H is that of what was drawn.

    >>> hvp(lambda x: (x**3).sum(), [1.0, 2.0], [1.0, 0.5])  # H = diag(6 x)
    tensor([6., 6.])
    """
    wanted = Parameters("hvp", loss, parameters)
    value = _one_number("hvp", "the loss", wanted.call(loss))
    slope = _recorded([value], [_ones(value)], wanted.tensors)
    wanted.check(slope, "the loss")
    return wanted.product(lambda v: _pulled(slope, v, wanted.tensors), vectors)


def ggn(outputs: Any, loss: Any, parameters: Any, vectors: Any = None) -> Any:
    """J^T H_z J v: the generalised Gauss-Newton matrix of a loss L(z) of outputs z(w).

        H = J^T H_z J + sum_i dL/dz_i d2z_i/dw2,     J = dz/dw,  H_z = d2L/dz2

    The first term alone: it has no negative eigenvalue if L is convex in z, as cross_entropy of
    logits and mse_loss are, and equals H where the outputs are linear in w.

    outputs: a function that returns z, a Tensor or a tree of them, called as the loss of `hvp` is.
    loss: a function of z that returns one number. parameters, vectors, what is returned and raised:
    as in `hvp`. (Schraudolph 2002; Martens 2020, section 8.)

    >>> x = np.array([[1.0], [2.0]])
    >>> ggn(lambda w: x * w**2, lambda z: (z * z).sum() / 2, [3.0], [1.0])  # (2 w)^2 sum x^2
    tensor([180.])
    """
    wanted = Parameters("ggn", outputs, parameters)
    made = wanted.call(outputs)
    zs = leaves(made)
    if not zs or not all(isinstance(z, Tensor) for z in zs):
        raise GradientError(
            f"ggn: outputs returned {describe(made)}; expected a Tensor, or a tree of Tensors."
        )
    jacobian = _Jacobian(wanted, zs)
    at = [wrap(z._array, None, z.dtype.kind == "f") for z in zs]
    value = _one_number("ggn", "the loss", loss(rebuild(made, at)))
    inner = [z for z in at if z.requires_grad]
    slope = _recorded([value], [_ones(value)], inner)
    if all(g is None for g in slope):
        raise GradientError(
            "ggn: the loss does not depend on the outputs it was given; it is called as loss(z), "
            "and must be computed from that z."
        )

    def curved(us: list[Array]) -> list[Array]:
        found = iter(_pulled(slope, [u for u, z in zip(us, at) if z.requires_grad], inner))
        return [next(found) if z.requires_grad else u for u, z in zip(us, at, strict=True)]

    return wanted.product(jacobian.around(curved), vectors)


def fisher(
    outputs: Any,
    parameters: Any,
    vectors: Any = None,
    likelihood: str = "categorical",
    reduction: str = "mean",
) -> Any:
    """F v, with F the Fisher matrix of the net's own distribution p(y | z(w)).

        F = 1/N sum_n E_{y ~ p(y | z_n)} [g g^T],   g = d ln p(y | z_n)/dw
          = 1/N sum_n J_n^T F_z(z_n) J_n

    The expectation is over y as the net draws them, not over targets, which play no part; it is
    exact, nothing is sampled. n goes over predictions: every logit vector of z, (..., C), if
    categorical, else every element.

    likelihood: p and its F_z: "categorical", z logits over the last axis, diag(p) - p p^T with
        p = softmax(z); "bernoulli", z logits, p (1 - p) with p = sigmoid(z); "gaussian", z means,
        variance 1, F_z = 1. So F is `ggn` with cross_entropy, with bce_with_logits, and half of
        that with mse_loss (Martens 2020, section 9).
    reduction: "mean", or "sum" for N = 1. Leave predictions of padding out: return z[real].
    outputs, parameters, vectors, what is returned and raised: as in `hvp`; ValueError for another
    likelihood or reduction.

    >>> logits = np.zeros((1, 2))
    >>> fisher(lambda w: logits + w, [0.0, 0.0], np.array([1.0, 0.0]))  # p = (1/2, 1/2)
    tensor([ 0.25, -0.25])
    """
    if likelihood not in _FISHER:
        raise ValueError(f"fisher: likelihood must be one of {list(_FISHER)}, got {likelihood!r}.")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"fisher: reduction must be 'mean' or 'sum', got {reduction!r}.")
    wanted = Parameters("fisher", outputs, parameters)
    z = _one_tensor("fisher", "outputs", wanted.call(outputs))
    if likelihood == "categorical" and not z.ndim:
        raise ShapeError("fisher: categorical outputs are logits (..., C), got one number.")
    jacobian = _Jacobian(wanted, [z])
    each = z.shape[-1] if likelihood == "categorical" else 1
    count = max(z.size // max(each, 1), 1) if reduction == "mean" else 1
    of = _FISHER[likelihood](z.numpy())
    return wanted.product(jacobian.around(lambda us: [of(us[0]) / count]), vectors)


def empirical_fisher(losses: Any, parameters: Any, vectors: Any = None) -> Any:
    """1/N sum_n g_n g_n^T v, with g_n the gradient of the loss of sample n at its own target.

    The second moment of the gradients that training sees. It is not the Fisher matrix, whose y are
    drawn by the net, and no curvature: near a good fit the g_n vanish, while F does not (Martens
    2020, section 11; Kunstner, Balles and Hennig 2019).

    losses: a function that returns the loss of every sample, each an element of a Tensor (N,):
        `cross_entropy(..., reduction="none")`, summed over the steps of a sequence, say. No loop
        over samples runs: all <g_n, v> are one pass, and so is what is made of them.
    parameters, vectors, what is returned and raised: as in `hvp`; ShapeError for a single number
    without an axis, which is no longer apart by sample.

    >>> x = np.array([[1.0, 0.0], [1.0, 2.0]])
    >>> empirical_fisher(lambda w: (x * w).sum(axis=1), [0.0, 0.0], np.array([1.0, 1.0]))
    tensor([2., 3.])
    """
    wanted = Parameters("empirical_fisher", losses, parameters)
    each = _one_tensor("empirical_fisher", "losses", wanted.call(losses))
    if not each.ndim:
        raise ShapeError(
            "empirical_fisher: losses returned one number; expected the loss of every sample, "
            "(N,), as reduction='none' gives it."
        )
    jacobian = _Jacobian(wanted, [each])
    count = max(each.size, 1)
    return wanted.product(jacobian.around(lambda us: [us[0] / count]), vectors)


# -- Fisher matrices of distributions, by their natural parameters ---------------------------------


def _categorical(z: Array) -> Callable[[Array], Array]:
    p = np.exp(z - z.max(axis=-1, keepdims=True, initial=-np.inf))
    p /= p.sum(axis=-1, keepdims=True)
    return lambda u: p * (u - (p * u).sum(axis=-1, keepdims=True))


def _bernoulli(z: Array) -> Callable[[Array], Array]:
    small = np.exp(-np.abs(z))  # p (1 - p) is the same for z and -z
    slope = small / (1 + small) ** 2
    return lambda u: slope * u


def _gaussian(z: Array) -> Callable[[Array], Array]:
    return lambda u: u


_FISHER = {"categorical": _categorical, "bernoulli": _bernoulli, "gaussian": _gaussian}


# -- passes ----------------------------------------------------------------------------------------


def _recorded(outputs: list[Tensor], seeds: list[Any], inputs: list[Tensor]) -> list[Any]:
    """d(outputs)/d(inputs) by the seeds, as Tensors on the tape; None where there is none."""
    return walk(outputs, seeds, inputs, retain_graph=True, create_graph=True)


def _pulled(outputs: Sequence[Any], seeds: Sequence[Array], inputs: list[Tensor]) -> list[Array]:
    """The same as arrays, zeros where there is none; of outputs that are None, too."""
    pairs = [(y, g) for y, g in zip(outputs, seeds, strict=True) if y is not None]
    pairs = [(y, g) for y, g in pairs if y.requires_grad]
    found: list[Any] = [None] * len(inputs)
    if pairs:
        ys, gs = map(list, zip(*pairs, strict=True))
        found = walk(ys, gs, inputs, retain_graph=True, create_graph=False)
    return [
        np.zeros(x.shape, x.dtype) if g is None else values(g)
        for g, x in zip(found, inputs, strict=True)
    ]


class _Jacobian:
    """J = d(outputs)/d(parameters), recorded once: J v and J^T u of any vectors."""

    def __init__(self, wanted: Parameters, outputs: list[Tensor]):
        self.outputs, self.inputs = outputs, wanted.tensors
        self.reached = [z for z in outputs if z.requires_grad]
        self.cotangents = [wrap(np.zeros(z.shape, z.dtype), None, True) for z in self.reached]
        self.transposed = _recorded(self.reached, self.cotangents, self.inputs)
        wanted.check(self.transposed, "the outputs")

    def around(self, inner: Callable[[list[Array]], list[Array]]) -> Callable[..., list[Array]]:
        """v -> J^T inner(J v)."""

        def product(vectors: list[Array]) -> list[Array]:
            moved = iter(_pulled(self.transposed, vectors, self.cotangents))
            us = [
                next(moved) if z.requires_grad else np.zeros(z.shape, z.dtype) for z in self.outputs
            ]
            bent = zip(self.outputs, inner(us), strict=True)
            seeds = [np.asarray(u, z.dtype) for z, u in bent if z.requires_grad]
            return _pulled(self.reached, seeds, self.inputs)

        return product


def _ones(t: Tensor) -> Array:
    return np.ones(t.shape, t.dtype)


def _one_tensor(who: str, what: str, made: Any) -> Tensor:
    if not isinstance(made, Tensor) or made.dtype.kind != "f":
        raise GradientError(
            f"{who}: {what} returned {describe(made)}; expected a Tensor of floats."
        )
    return made


def _one_number(who: str, what: str, made: Any) -> Tensor:
    if not isinstance(made, Tensor) or made.size != 1:
        raise GradientError(
            f"{who}: {what} returned {describe(made)}; expected one number, a Tensor."
        )
    return made
