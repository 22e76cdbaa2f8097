"""The names in torch's state_dicts: wrappers taken off, weights kept in parts put together.

    module.rnn.bias                                 rnn.bias            DataParallel, DDP
    _orig_mod.rnn.bias, rnn._orig_mod.bias          rnn.bias            torch.compile
    rnn.weight_hh_l0_g, rnn.weight_hh_l0_v          rnn.weight_hh_l0    utils.weight_norm
    rnn.parametrizations.weight_hh_l0.original0, 1  rnn.weight_hh_l0    parametrizations.weight_norm
    rnn.weight_hh_l0_orig, rnn.weight_hh_l0_mask    rnn.weight_hh_l0    utils.prune

What spectral_norm and orthogonal compute is not in the file (which axis, which map): these weights
are refused, with what to call in torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
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
    """weight = g v / |v| for weight_norm, and weight * mask for pruning, in the weight's dtype.

    own: names that stay as they are. A part without its other parts stays too.
    The norm is taken over the axes where g has one number, in float64. Salimans & Kingma 2016,
    https://arxiv.org/abs/1602.07868, equation 2.

    >>> folded({"w_g": np.array([[10.0]]), "w_v": np.array([[3.0, 4.0]])})
    {'w': array([[6., 8.]])}
    """
    found = dict(arrays)
    for name, (g_name, v_name) in _pairs(arrays):
        if name in arrays or g_name in own or v_name in own:
            continue
        g, v = arrays[g_name], arrays[v_name]
        if not _fits(g_name, g, v):
            continue
        if g_name.endswith("_mask"):
            weight = v * g.astype(v.dtype)
        else:
            axes = tuple(axis for axis in range(v.ndim) if not g.ndim or g.shape[axis] == 1)
            exact = v.astype(np.float64)
            with np.errstate(invalid="ignore", divide="ignore"):  # a row of zeros is NaN in torch
                weight = exact * (g / np.sqrt((exact**2).sum(axes, keepdims=True)))
        del found[g_name], found[v_name]
        found[name] = weight.astype(v.dtype)
    return found


def _pairs(arrays: Mapping[str, Array]) -> Iterator[tuple[str, tuple[str, str]]]:
    """(the weight's name, those of its two parts) of all that may be such parts."""
    for name in arrays:
        if name.endswith(".original0"):
            place = name.removesuffix(".original0")
            before, _, leaf = place.rpartition("parametrizations.")
            others = [other for other in arrays if other.startswith(f"{place}.")]
            pair = name, f"{place}.original1"
            if len(others) == 2 and pair[1] in arrays and "." not in leaf:
                yield before + leaf, pair
        elif name.endswith("_g") and f"{name[:-2]}_v" in arrays:
            yield name[:-2], (name, f"{name[:-2]}_v")
        elif name.endswith("_mask") and f"{name[:-5]}_orig" in arrays:
            yield name[:-5], (name, f"{name[:-5]}_orig")


def _fits(name: str, g: Array, v: Array) -> bool:
    """Whether the shapes and dtypes are those of such parts: g is 1 but along one axis, or ()."""
    if v.dtype.kind != "f":
        return False
    if name.endswith("_mask"):
        return g.shape == v.shape
    if not g.ndim:
        return g.dtype.kind == "f"
    if g.ndim != v.ndim or g.dtype.kind != "f":
        return False
    long = [axis for axis in range(v.ndim) if g.shape[axis] != 1]
    return len(long) <= 1 and all(g.shape[axis] == v.shape[axis] for axis in long)


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
