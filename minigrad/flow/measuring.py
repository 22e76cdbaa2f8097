"""What a Monitor measures in one step: the records of a parameter and of a recurrent layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..norms import row_norms
from ..tensors import Tensor
from .cuts import Cut, Depth
from .histogram import Histogram
from .layerflow import LayerFlow

Array = np.ndarray


def weight(p: Tensor, before: Array) -> dict[str, Any]:
    """|w| after the update, |w - before| / |w|, and how many NaN and Inf w holds."""
    after = p.numpy()
    norm, moved = _norm(after), _norm(after - before)
    bad = 0 if math.isfinite(norm) else int(np.count_nonzero(~np.isfinite(after)))
    with np.errstate(divide="ignore", invalid="ignore"):
        update = 0.0 if moved == 0 else float(np.float64(moved) / norm)
    return {"weight": norm, "update": update, "bad_weights": bad}


def gradient(p: Tensor) -> dict[str, Any]:
    """|g|, the largest |g|, the share of zeros, a histogram; {} if there is no gradient."""
    if p.grad is None:
        return {}
    g = p.grad.numpy()
    histogram = Histogram.of(g)
    return {
        "gradient": _norm(g),
        "largest": float(np.max(np.abs(g), initial=0.0)),
        "zeros": histogram.zero / max(g.size, 1),
        "histogram": histogram.to_dict(),
    }


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
    return {"reverse": flow.reverse, "norms": norms, "verdicts": verdicts}


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


def _norm(x: Array) -> float:
    return float(row_norms(x.reshape(1, -1))[0])
