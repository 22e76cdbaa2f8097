"""The names in torch's state_dicts: wrappers taken off, weights kept in parts put together.

    module.rnn.bias                                 rnn.bias            DataParallel, DDP
    _orig_mod.rnn.bias, rnn._orig_mod.bias          rnn.bias            torch.compile
    rnn.weight_hh_l0_g, rnn.weight_hh_l0_v          rnn.weight_hh_l0    utils.weight_norm
    rnn.parametrizations.weight_hh_l0.original0, 1  rnn.weight_hh_l0    parametrizations.weight_norm
    rnn.weight_hh_l0_orig, rnn.weight_hh_l0_u, _v   rnn.weight_hh_l0    spectral_norm of both kinds
    rnn.weight_hh_l0_orig, rnn.weight_hh_l0_mask    rnn.weight_hh_l0    utils.prune

Where the file does not say what is computed (the map of orthogonal; the axis of spectral_norm, if
the weight is square), the weight is refused, with what to call in torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from .base import Array, ConversionError

WRAPPER, COMPILED = "module.", "_orig_mod"


def unwrapped(state: Mapping[str, Any], own: Collection[str] = ()) -> dict[str, Any]:
    """The state under the names that the model has inside DataParallel and torch.compile.

    own: names that the caller has: with one below "module" that stays as it is.

    >>> list(unwrapped({"module._orig_mod.rnn.bias": 0}))
    ['rnn.bias']
    """
    found = {}
    for name, value in state.items():
        parts = [part for part in str(name).split(".") if part != COMPILED]
        found[".".join(parts)] = value
    if len(found) != len(state):
        return dict(state)  # two models in one, of which one is compiled: both names count
    wrapped = bool(found) and all(name.startswith(WRAPPER) for name in found)
    if wrapped and not any(f"{name}.".startswith(WRAPPER) for name in own):
        return {name[len(WRAPPER) :]: value for name, value in found.items()}
    return found


def folded(arrays: Mapping[str, Array], own: Collection[str] = ()) -> dict[str, Array]:
    """The weights that weight_norm, spectral_norm and pruning compute, in the place of their parts.

    own: names that stay as they are. Parts that do not fit each other stay too.

    >>> folded({"w_g": np.array([[10.0]]), "w_v": np.array([[3.0, 4.0]])})
    {'w': array([[6., 8.]])}
    """
    found = dict(arrays)
    for first in arrays:
        for suffixes, compute in FOLDS:
            if not first.endswith(suffixes[0]):
                continue
            base = first.removesuffix(suffixes[0])
            parts = [base + suffix for suffix in suffixes]
            name = base if suffixes[0][0] == "_" else _parametrized(base, parts, arrays)
            if not name or name in arrays or not all(part in arrays for part in parts):
                continue
            if any(part in own for part in parts):
                continue
            weight = compute(*(arrays[part] for part in parts))
            if weight is not None:
                found = {n: w for n, w in found.items() if n not in parts} | {name: weight}
    return found


def _parametrized(base: str, parts: list[str], arrays: Mapping[str, Array]) -> str:
    """rnn.weight for rnn.parametrizations.weight, if it has these parts only; else ""."""
    before, _, leaf = base.rpartition("parametrizations.")
    others = [name for name in arrays if name.startswith(f"{base}.")]
    return (
        before + leaf
        if f"{before}parametrizations.{leaf}" == base
        and (sorted(others) == sorted(parts) and "." not in leaf)
        else ""
    )


def _normed(g: Array, v: Array) -> Array | None:
    """g v / |v|: the norm over the axes where g has one number, in float64. Salimans & Kingma 2016,
    https://arxiv.org/abs/1602.07868, equation 2.
    """
    if g.ndim not in (0, v.ndim) or not g.dtype.kind == v.dtype.kind == "f":
        return None
    long = [axis for axis, size in enumerate(g.shape) if size != 1]
    if len(long) > 1 or any(g.shape[axis] != v.shape[axis] for axis in long):
        return None
    axes = tuple(axis for axis in range(v.ndim) if axis not in long)
    exact = v.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):  # a row of zeros is NaN in torch
        scaled: Array = exact * (g / np.sqrt((exact**2).sum(axes, keepdims=True)))
    return scaled.astype(v.dtype)


def _masked(weight: Array, mask: Array) -> Array | None:
    fits = weight.shape == mask.shape and weight.dtype.kind == "f"
    return weight * mask.astype(weight.dtype) if fits else None


def _spectral(weight: Array, u: Array, v: Array) -> Array | None:
    """W / (u W v), as in eval(). Which axis u belongs to, its length says, if W is not square."""
    if weight.ndim != 2 or weight.shape[0] == weight.shape[1] or weight.dtype.kind != "f":
        return None
    if (*u.shape, *v.shape) not in (weight.shape, weight.shape[::-1]):
        return None
    exact = weight.astype(np.float64)
    largest = u @ (exact if len(u) == len(weight) else exact.T) @ v
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled: Array = exact / largest
    return scaled.astype(weight.dtype)


FOLDS: tuple[tuple[tuple[str, ...], Callable[..., Array | None]], ...] = (
    (("_g", "_v"), _normed),
    ((".original0", ".original1"), _normed),
    (("_orig", "_mask"), _masked),
    (("_orig", "_u", "_v"), _spectral),
    ((".original", ".0._u", ".0._v"), _spectral),
)


def refuse_parts(arrays: Mapping[str, Array], own: Collection[str]) -> None:
    """Raises ConversionError for a weight of the module that is there only in parts."""
    for name in own:
        before, dot, leaf = name.rpartition(".")
        place = f"{before}{dot}parametrizations.{leaf}."
        parts = [other for other in arrays if other.startswith(place) or other == f"{name}_orig"]
        if name not in arrays and parts:
            call = (
                f"torch.nn.utils.parametrize.remove_parametrizations(layer, {leaf!r})"
                if parts[0].startswith(place)
                else f"torch.nn.utils.remove_spectral_norm(layer, {leaf!r})"
            )
            raise ConversionError(
                f"load_torch: {name!r} is kept as {parts[0]!r}, and how it is computed from that "
                f"is not in the file. In torch, before saving: {call}."
            )


def renaming(own: Mapping[str, tuple[int, ...]], arrays: Mapping[str, Array]) -> dict[str, str]:
    """rename=..., if each module without weights has one counterpart of the same parameters.

    >>> renaming({"lstm.bias": (4,)}, {"net.rnn.bias": np.ones(4), "fc.bias": np.ones(2)})
    {'net.rnn': 'lstm'}
    """
    theirs = _modules({name: w.shape for name, w in arrays.items() if name not in own})
    found: dict[str, str] = {}
    for path, parameters in _modules(
        {name: shape for name, shape in own.items() if name not in arrays}
    ).items():
        fits = [other for other, has in theirs.items() if has == parameters]
        if len(fits) != 1 or fits[0] in found or not (path and fits[0]):
            return {}
        found[fits[0]] = path
    return found


def _modules(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, tuple[int, ...]]]:
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        path, _, leaf = name.rpartition(".")
        found.setdefault(path, {})[leaf] = shape
    return found
