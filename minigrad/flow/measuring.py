"""What a Monitor measures in one step: the records of a parameter and of a recurrent layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..nn.cells import GatedCell
from ..nn.module import Module
from ..norms import row_norms
from ..tensors import Tensor
from .cuts import Cut, Depth
from .histogram import Histogram
from .layerflow import LayerFlow

Array = np.ndarray


Gates = tuple[str, ...]  # whose weights are stacked in a parameter, in the order of its rows
STACKED = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def gates_of(module: Module) -> dict[str, Gates]:
    """name of a parameter -> the gates whose weights are stacked in it, where there are several.

    >>> import minigrad as mg
    >>> gates_of(mg.nn.GRU(1, 2))["weight_hh_l0"]
    ('r', 'z', 'n')
    """
    found = {
        id(getattr(cell, name, None)): tuple(cell.gates)
        for cell in module.modules()
        if isinstance(cell, GatedCell) and len(cell.gates) > 1
        for name in STACKED
    }
    named = module.named_parameters()
    return {name: found[id(p)] for name, p in named if id(p) in found and p.size}


def weight(p: Tensor, before: Array, gates: Gates = ()) -> dict[str, Any]:
    """|w| after the update, |w - before| / |w|, and how many NaN and Inf w holds.

    gates: that are stacked in w, of each of which it is told by itself, too.
    """
    after = p.numpy()
    sizes, moves = _norms(after, gates), _norms(after - before, gates)
    norm, moved = _norm(sizes), _norm(moves)
    bad = 0 if math.isfinite(norm) else int(np.count_nonzero(~np.isfinite(after)))
    found: dict[str, Any] = {"weight": norm, "update": _share(moved, norm), "bad_weights": bad}
    if gates:
        each = zip(gates, sizes.tolist(), moves.tolist(), strict=True)
        found["gates"] = {g: {"weight": w, "update": _share(m, w)} for g, w, m in each}
    return found


def gradient(p: Tensor, gates: Gates = ()) -> dict[str, Any]:
    """|g|, the largest |g|, the share of zeros, a histogram; {} if there is no gradient."""
    if p.grad is None:
        return {}
    g = p.grad.numpy()
    histogram, sizes = Histogram.of(g), _norms(g, gates)
    found: dict[str, Any] = {
        "gradient": _norm(sizes),
        "largest": float(np.max(np.abs(g), initial=0.0)),
        "zeros": histogram.zero / max(g.size, 1),
        "histogram": histogram.to_dict(),
    }
    if gates:
        found["gate_gradients"] = dict(zip(gates, sizes.tolist(), strict=True))
    return found


def layer(flow: LayerFlow) -> dict[str, Any]:
    """Norms by time step, and verdicts.

    Without the reasons and the advice, which need Jacobians and would cost as much as a step.
    """
    verdicts = {}
    for name in flow.norms:
        v = flow.judged(name)
        numbers = {"ratio": v.ratio, "rate": v.rate, "half_life": v.half_life}
        verdicts[name] = {"kind": v.kind, "reason": v.reason} | numbers
    norms = {name: [float(f"{x:.6g}") for x in norms] for name, norms in flow.norms.items()}
    found = {"reverse": flow.reverse, "norms": norms, "verdicts": verdicts}
    if flow.forward_only:
        return found
    taps = {
        name: {
            "mean": float(np.mean(flow.own_steps(a.mean))),
            "saturation": float(np.mean(flow.own_steps(a.saturation))),
        }
        for name, a in flow.activations.items()
        if flow.taking_part.any()
    }
    dead = {name: float(flow.dead_units(name).mean()) for name in flow.norms}
    return found | {"taps": taps, "dead": dead}


def cut(cut: Cut) -> dict[str, Any]:
    """The profile that was judged, and the verdict on it, without reasons that need Jacobians."""
    v = cut.judged
    return {
        "name": cut.name,
        "kind": v.kind,
        "reason": v.reason,
        "ratio": v.ratio,
        "rate": v.rate,
        "half_life": v.half_life,
        "reach": v.reach,
        "path": v.path,
        "profile": [float(f"{x:.6g}") for x in cut.profile],
    }


def depth(depth: Depth) -> dict[str, Any]:
    """What arrives at a layer against the one above it."""
    v = depth.verdict
    return {
        "upper": depth.upper, "lower": depth.lower, "ratio": depth.ratio, "kind": v.kind,
        "reason": v.reason,
    }  # fmt: skip


def _norms(x: Array, gates: Gates) -> Array:
    """The norm of each gate's rows; of all together where there are no gates."""
    return row_norms(x.reshape(len(gates) or 1, -1))


def _norm(x: Array) -> float:
    return float(row_norms(x.reshape(1, -1))[0])


def _share(part: float, whole: float) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return 0.0 if part == 0 else float(np.float64(part) / whole)
