"""What the explorer's page shows, as plain data: networks, moments, layers, steps.

Of every layer the page gets the norms of the whole batch and of one sequence, and of that one
sequence every value and every gradient, unit by unit. What would make the file too large is
thinned, evenly: first steps (a picture of 6,000 nodes is as much as a browser draws well), then
units. Means, norms and verdicts are computed before that, and the page says what was left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import FlowError
from ...norms import row_norms
from ..drawing.colors import BROKEN, STOPS, Scale
from ..tables import entry_of_loss, reach, times
from . import pack
from .network import ExplorerError, Network

Array = np.ndarray

MAX_NODES = 6_000  # states times steps, over all networks; SVG gets slow beyond
MAX_NUMBERS = 850_000  # of units, 2.67 bytes each in the file: 2.3 MB
DARK_STOPS = ("#262b35", "#57394a", "#9c4f4f", "#df8a52", "#ffd88f")
DARK_BROKEN = "#8b74d6"


def to_dict(
    shown: Sequence[Network], title: str = "", sample: int = 0, summed: bool = False
) -> dict[str, Any]:
    """All that the page needs, ready for JSON (finite numbers, strings, lists).

    sample: the row of the batch whose values and gradients are shown. Raises ExplorerError if there
    is no such row. summed: whether the page opens with the sum over all steps that a loss reads.
    """
    thinning = _Thinning(shown)
    moments = list(dict.fromkeys(moment for network in shown for moment in network.moments))
    norms = [norm for n in shown for layer in n.layers() for norm in layer.norms.values()]
    for recording in (recording for network in shown for recording in network.moments.values()):
        if (inputs := _if_known(recording, "inputs")) is not None:
            norms.append(row_norms(inputs))
    scale = Scale.around(np.concatenate(norms) if norms else [])
    return {
        "title": title,
        "scale": {"low": scale.low, "high": scale.high},
        "ramps": {
            "light": {"stops": list(STOPS), "broken": BROKEN},
            "dark": {"stops": list(DARK_STOPS), "broken": DARK_BROKEN},
        },
        "moments": moments,
        "networks": [_network(network, thinning, sample) for network in shown],
        "sample": sample,
        "summed": summed,
        "thinned": {"steps": thinning.stride, "units": thinning.units},
    }


class _Thinning:
    """Which steps and units are shown: every `stride`-th step, at most `units` (0: all)."""

    def __init__(self, shown: Sequence[Network]):
        layers = [layer for network in shown for layer in network.layers()]
        nodes = max(  # a moment at a time is drawn
            sum(
                len(layer.steps) * len(layer.norms)
                for network in shown
                for layer in list(network.moments.values())[i % len(network.moments)].values()
            )
            for i in range(max(len(network.moments) for network in shown))
        )
        self.stride = max(1, -(-nodes // MAX_NODES))
        sizes = [
            (-(-len(layer.steps) // self.stride), _units(array))
            for layer in layers
            for array in (*_arrays(layer, "values").values(), *_arrays(layer, "gradients").values())
        ]
        widest = max((n for _, n in sizes), default=0)
        self.units = 0
        if sum(steps * n for steps, n in sizes) > MAX_NUMBERS:
            fits = [
                units
                for units in range(1, widest)
                if sum(steps * min(n, units) for steps, n in sizes) <= MAX_NUMBERS
            ]
            self.units = max(fits, default=1)

    def steps(self, layer: Any) -> Array:
        """The entries that are kept, always with the first and last, and where the loss enters."""
        count = len(layer.steps)
        kept = set(range(count - 1, -1, -self.stride)) | {0} if count else set()
        if self.stride > 1:
            sources = map(entry_of_loss, layer.norms.values())
            kept |= {source for source in sources if source >= 0}
        return np.array(sorted(kept), dtype=np.int64)

    def lags(self, count: int) -> Array:
        """The lags that are kept, which are those of the steps that are; with the farthest."""
        return np.unique(np.append(np.arange(0, count, self.stride), max(count - 1, 0)))[:count]

    def choose(self, n: int) -> Array:
        """The units that are kept of n."""
        if not self.units or n <= self.units:
            return np.arange(n)
        return np.linspace(0, n - 1, self.units).astype(np.int64)


def _network(network: Network, thinning: _Thinning, sample: int) -> dict[str, Any]:
    around = {when: _around(recording) for when, recording in network.moments.items()}
    return {
        "name": network.name,
        "text": {str(int(t)): text for t, text in network.text.items()},
        "moments": {
            moment: {
                "note": network.notes.get(moment, ""),
                "cuts": [_cut(cut, recording, thinning, sample) for cut in recording.cuts],
                "depth": [
                    {"kind": depth.verdict.kind, "reason": depth.verdict.reason}
                    for depth in recording.depth
                ],
                "layers": [
                    _layer(layer, thinning, sample, *around[moment].get(layer.path, (0, 0)))
                    for layer in recording.values()
                ],
                "inputs": _inputs(recording, sample),
            }
            for moment, recording in network.moments.items()
        },
    }


def _around(recording: Any) -> dict[str, tuple[int, int]]:
    """path -> how many steps are before and behind it, of calls that go on with one another's
    state: windows of a long sequence, or a decoder that is called once for each step.
    """
    found = {}
    for cut in recording.cuts:
        for scope in {recording[path].scope for path, _ in cut.labels} - {""}:
            calls = [x for x in recording.values() if x.scope == scope and x.arrived]
            ends = np.cumsum([len(call.steps) for call in calls])
            if len(calls) > 1 and ends[-1] == cut.profile.size:
                for call, end in zip(calls, ends.tolist(), strict=True):
                    found[call.path] = end - len(call.steps), cut.profile.size - end
    return found


def _layer(layer: Any, thinning: _Thinning, sample: int, before: int, after: int) -> dict[str, Any]:
    kept = thinning.steps(layer)
    lasting = layer.time_constants
    batch = max((x.shape[1] for x in layer.per_sample.values()), default=1)
    if not 0 <= sample < batch:
        raise ExplorerError(
            f"explorer: expected a sample from 0 to {batch - 1} (the batch has {batch}), got "
            f"{sample}."
        )
    return {
        "path": layer.path,
        "reverse": layer.reverse,
        "count": len(layer.steps),
        "index": kept.tolist(),
        "steps": (np.asarray(layer.steps)[kept] + before).tolist(),
        "before": before,
        "after": after,
        "batch": batch,
        "source": {name: entry_of_loss(layer.norms[name]) for name in layer.norms},
        "norms": {name: pack.numbers(x[kept]) for name, x in layer.norms.items()},
        "one": {name: pack.numbers(x[kept, sample]) for name, x in layer.per_sample.items()},
        "means": {
            name: {
                "mean": pack.numbers(a.mean[kept]),
                "saturation": pack.numbers(a.saturation[kept])
                if np.isfinite(a.saturation).any()
                else None,
                "steps": pack.numbers(lasting[name][kept]) if name in lasting else None,
            }
            for name, a in layer.activations.items()
            if len(a.mean) == len(layer.steps)
        },
        "values": _packed(_arrays(layer, "values"), pack.linear, kept, thinning, sample),
        "gradients": _packed(_arrays(layer, "gradients"), pack.log, kept, thinning, sample),
        "alone": _alone(layer, kept),
        "dead": {name: n for name, units in layer.dead.items() if (n := int(units.sum()))},
        "nonfinite": {name: list(n) for name, n in layer.nonfinite.items() if any(n)},
        "verdicts": {name: _verdict(v) for name, v in layer.verdicts.items()},
    }


def _cut(cut: Any, recording: Any, thinning: _Thinning, sample: int) -> dict[str, Any]:
    """What was judged: a profile by lag, and which state of which layer carried it."""
    layer = recording[cut.labels[-1][0]]
    lags = thinning.lags(cut.profile.size)
    rows = cut.per_sample.shape[1]
    one = cut.per_sample[:, min(sample, rows - 1)]
    none = np.isnan(one) & np.isfinite(cut.profile)  # lags that this row has not
    return {
        "name": cut.name,
        "labels": [list(label) for label in cut.labels],
        "reverse": layer.reverse,
        "joined": cut.profile.size > len(layer.steps),  # calls that go on with one another's state
        "many": not np.array_equal(cut.profile, cut.summed, equal_nan=True),
        "steps": times(cut, recording)[lags].tolist(),
        "count": cut.profile.size,
        "batch": rows,
        "lags": lags.tolist(),
        "profile": pack.numbers(cut.profile[lags]),
        "summed": pack.numbers(cut.summed[lags]),
        "one": pack.numbers(np.where(none, 0.0, one)[lags]),
        "shares": [pack.numbers(np.round(x, 3)) for x in cut.shares[lags].T],
        "verdict": _verdict(cut.verdict),
    }


def _alone(layer: Any, kept: Array) -> dict[str, Any]:
    """Of a loss read at many steps: the profile of the last output, as far back from the last."""
    if not layer.read_at_many_steps:
        return {}
    found = {}
    for name in layer.norms:
        by_entry, profile = np.zeros(len(layer.steps)), layer.profile(name)
        source = entry_of_loss(layer.norms[name])
        by_entry[source + 1 - profile.size : source + 1] = profile[::-1]
        found[name] = pack.numbers(by_entry[kept])
    return found


def _packed(
    arrays: Mapping[str, Array], code: Any, kept: Array, thinning: _Thinning, sample: int
) -> dict[str, Any]:
    found = {}
    for name, x in arrays.items():
        units = thinning.choose(_units(x))
        one = x[kept, min(sample, x.shape[1] - 1)].reshape(len(kept), -1)[:, units]
        packed = code(one) | {"n": len(units), "of": _units(x)}
        if len(units) < _units(x):
            packed["units"] = units.tolist()
        found[name] = packed
    return found


def _inputs(recording: Any, sample: int) -> dict[str, Any] | None:
    """|dL/dx_t| by t, of the batch and of the one sequence; None where x needs no gradient."""
    norms = _if_known(recording, "inputs")
    if norms is None:
        return None
    steps = sorted({int(t) for layer in recording.values() for t in layer.steps})
    return {
        "steps": steps[: len(norms)],
        "norms": pack.numbers(row_norms(norms)[: len(steps)]),
        "one": pack.numbers(norms[: len(steps), min(sample, norms.shape[1] - 1)]),
    }


def _if_known(owner: Any, what: str) -> Any:
    """An attribute, or None where a loop written by hand cannot be run again to compute it."""
    try:
        return getattr(owner, what, None)
    except FlowError:
        return None


def _arrays(layer: Any, what: str) -> dict[str, Array]:
    """values, or the gradients of states, (T, B, n) each; what was not tapped at every step is
    left out.
    """
    found = {}
    arrays = _if_known(layer, what) or {}
    for name in arrays if what == "values" else [name for name in layer.norms if name in arrays]:
        x = np.asarray(arrays[name])
        if x.ndim >= 2 and x.shape[0] == len(layer.steps) and x.size:
            found[name] = x if x.ndim >= 3 else x[..., None]
    return found


def _units(x: Array) -> int:
    return int(np.prod(x.shape[2:], dtype=np.int64))


def _verdict(verdict: Any) -> dict[str, Any]:
    fit = verdict.fit
    return {
        "kind": verdict.kind,
        "reason": verdict.reason,
        "advice": str(getattr(verdict, "advice", "") or ""),
        "ratio": pack.number(verdict.ratio),
        "reach": pack.number(verdict.reach),
        "reached": verdict.reach_words,
        "steps": reach(verdict),
        "carried": getattr(verdict, "path_words", ""),
        "fit": fit
        and {
            "rate": pack.number(fit.rate),
            "low": pack.number(fit.low),
            "high": pack.number(fit.high),
            "intercept": pack.number(fit.intercept),
            "r2": pack.number(fit.r2),
            "points": fit.points,
        },
    }
