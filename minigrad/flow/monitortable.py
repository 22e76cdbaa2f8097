"""The report of a training run: what a History says, as tables with sparklines over training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .layerflow import FORWARD_ONLY
from .tables import log_range, number, sparkline, steps, table

if TYPE_CHECKING:
    from .history import History

SHOWN = 12  # lines about NaN and Inf
_PARAMETERS = ("parameter", "|w|", "|g|", "update/w", "zeros", "|g| over training")
_CUTS = ("time", "carried by", "reach", "far/near", "verdict", "far/near over training")
_GATES = ("layer", "gate, state", "mean", "saturated", "dead units", "saturated over training")
SHARES = (-2.0, 0.0)  # powers of ten: from 1 % to all
_LAYERS = ("layer", "state", "far/near", "half-life", "verdict", "far/near over training")


def report(history: History, blocks: str) -> str:
    """Sparklines of parameters are on one scale, those of layers on another."""
    measured = history.measurements
    if not measured and not history.logged:
        return "Monitor: nothing has been measured yet; run a step inside `with monitor.step()`."
    parts = []
    if measured:
        first, last = measured[0].step, measured[-1].step
        parts.append(f"steps {first} to {last}, {len(measured)} measured")
        parts += [_parameters(history, blocks), _cuts(history, blocks), _layers(history, blocks)]
        parts.append(_gates(history, blocks))
    parts += [_logged(history, blocks), _clipping(history), _nonfinite(history)]
    if history.torn:
        parts.append("The file's last line is torn and was left out.")
    return "\n\n".join(filter(None, parts))


def _parameters(history: History, blocks: str) -> str:
    series = {name: history.series(name)[1] for name in history.parameters}
    low, high = log_range(list(series.values()))
    rows, last = [], history.measurements[-1]
    for name, norms in series.items():
        if name not in last.parameters:
            continue
        p = last.parameters[name]
        gradient = "-" if p.gradient is None else number(p.gradient)
        zeros = "-" if p.zeros is None else f"{p.zeros:.0%}"
        there = norms[~np.isnan(norms)] if p.gradient is not None else norms[:0]
        line = sparkline(norms if there.size else there, low, high, blocks=blocks)
        rows.append([name, number(p.weight), gradient, number(p.update), zeros, line])
    return table(_PARAMETERS, rows, right=range(1, 5))


def _cuts(history: History, blocks: str) -> str:
    """What the gradient does in the net as a whole; the last measurement of each cut."""
    rows: list[list[str]] = []
    ratios = {
        name: np.array([m.cuts[name].ratio for m in history.measurements if name in m.cuts])
        for name in history.cuts
    }
    low, high = log_range(list(ratios.values()))
    for name, series in ratios.items():
        cut = next(m.cuts[name] for m in reversed(history.measurements) if name in m.cuts)
        carried = ", ".join(f"{state} {share:.0%}" for state, share in cut.path.items())
        line = sparkline(series, low, high, blocks=blocks)
        rows.append([name or "network", carried, steps(cut.reach), number(cut.ratio), cut.kind])
        rows[-1].append(line)
    lost = [d for d in history.measurements[-1].depth if d.kind not in ("healthy", "undecided")]
    found = [table(_CUTS, rows, right=(2, 3))] if rows else []
    return "\n".join([*found, *(d.reason for d in lost)])


def _layers(history: History, blocks: str) -> str:
    rows: list[list[str]] = []
    paths = history.layers
    if not paths:
        return ""
    series = {path: history.ratios(path)[1] for path in paths}
    low, high = log_range(list(series.values()))
    for path in paths:
        layer = next(m.layers[path] for m in reversed(history.measurements) if path in m.layers)
        for state, verdict in layer.verdicts.items():
            ratios = history.ratios(path, state)[1]
            if verdict.reason.startswith(FORWARD_ONLY):
                ratios = ratios[~np.isnan(ratios)]
                line = sparkline(ratios, low, high, blocks=blocks) if ratios.size else ""
                rows.append([path or "network", state, "-", "-", FORWARD_ONLY, line])
                continue
            line = sparkline(ratios, low, high, blocks=blocks)
            cells = [number(verdict.ratio), steps(verdict.half_life), verdict.kind, line]
            rows.append([path or "network", state, *cells])
    return table(_LAYERS, rows, right=(2, 3))


def _gates(history: History, blocks: str) -> str:
    """What gates and states did at the last measurement of each layer."""
    saturated = history.curves("saturation")
    rows = []
    for path in history.layers:
        traces = [m.layers[path] for m in history.measurements if path in m.layers]
        last = next((x for x in reversed(traces) if x.taps), traces[-1])
        for name, tap in last.taps.items():
            dead = f"{last.dead[name]:.0%}" if name in last.dead else "-"
            flat, line = "-", ""
            if not math.isnan(tap.saturation):
                flat = f"{tap.saturation:.0%}"
                shares = saturated[f"{path} {name}".strip()][1]
                line = sparkline(shares, *SHARES, blocks=blocks)
            rows.append([path or "network", name, f"{tap.mean:.2f}", flat, dead, line])
    return table(_GATES, rows, right=(2, 3, 4)) if rows else ""


def _logged(history: History, blocks: str) -> str:
    rows = []
    for name, (_, values) in history.logged.items():
        line = sparkline(values, *log_range([values]), blocks=blocks)
        rows.append([name, *(f"{x:.4g}" for x in (values[0], np.nanmin(values))), "", line]
                    if np.isfinite(values).any() else [name, "-", "-", "", line])  # fmt: skip
        rows[-1][3] = f"{values[-1]:.4g}"
    head = ("logged", "first", "lowest", "last", "over training")
    return table(head, rows, right=(1, 2, 3)) if rows else ""


def _clipping(history: History) -> str:
    c = history.clipping
    if not c.steps:
        return ""
    text = f"clipping: the norm was beyond {c.max_norm:g} in {c.clipped} of {c.steps} steps"
    text += f" ({c.share:.0%})"
    if not math.isnan(c.mean_factor):
        text += f", scaled by {c.mean_factor:.2g} on average then"
    if c.nonfinite:
        text += f"; it was NaN or Inf in {c.nonfinite}"
    return text


def _nonfinite(history: History) -> str:
    if not history.nonfinite:
        return ""
    lines = [f"NaN or Inf, first seen at {history.nonfinite[0]}"]
    lines += [f"  {broken}" for broken in history.nonfinite[1:SHOWN]]
    if (more := len(history.nonfinite) - SHOWN) > 0:
        lines.append(f"  and {more} more")
    return "\n".join(lines)
