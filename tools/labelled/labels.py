"""What is true of a net, for each cause: True, False, or None where it is neither clearly so.

Planted by construction: detached, wrong-mask, input-scale, and a rate by a second run. All else is
computed by oracle.py from the weights and the batch as they are, whatever was planted, so a net
that was meant to have saturated gates, say, and whose gradient vanishes for it, is labelled with
both. Where the number that decides lies near its threshold (within a factor of 2, for what is left
of a gradient) the label is None, and the net counts neither for nor against.
"""

from __future__ import annotations

import numpy as np

from minigrad.flow.diagnosing import NAMES

from .nets import Net
from .oracle import Stack, dead, first_nonfinite, flow, saturated

Array = np.ndarray
Labels = dict[str, bool | None]
LOST, BAND = 1e-3, 2.0
SHORT = 20  # steps; a gradient that is lost in fewer is lost for any sequence


def labels(net: Net, rng: np.random.Generator) -> Labels:
    """rng draws further batches of the same kind."""
    found: Labels = dict.fromkeys(NAMES)
    found |= dict.fromkeys(("detached", "wrong-mask", "input-scale", "rate-too-large"), False)
    directions = range(net.layer.num_directions)
    stacks = [net.stack(d) for d in directions]
    batches = [_turned(net.xs, net.real, d) for d in directions]
    with np.errstate(all="ignore"):
        bad = [first_nonfinite(s, x, net.real) for s, x in zip(stacks, batches)]
        found["nonfinite"] = any(b is not None for b in bad)
        if found["nonfinite"]:
            return found | net.planted
        more = [np.concatenate([net.like(rng) for _ in range(8)], axis=1) for _ in directions]
        still = max(dead(s, x) for s, x in zip(stacks, more))
        found["dead-units"] = _clear(still, 0.05, 0.15)
        flat = max(saturated(s, x, net.real) for s, x in zip(stacks, batches))
        found["saturated-gates"] = _clear(flat, 0.5, 0.65)
        flows = [_flows(net, s, x, d, rng) for d, (s, x) in enumerate(zip(stacks, batches))]
    for name in ("vanishing", "exploding", "lost-in-depth", "read-too-rarely"):
        each = [f[name] for f in flows]
        found[name] = True if True in each else None if None in each else False
    return found | net.planted


def _clear(x: float, low: float, high: float) -> bool | None:
    return False if x <= low else True if x >= high else None


def _turned(xs: Array, real: Array, direction: int) -> Array:
    """The batch in the order in which a direction reads it: a row's padding stays behind."""
    if not direction:
        return np.asarray(xs, np.float64)
    found = np.array(xs, np.float64)
    for b, n in enumerate(real.sum(axis=0)):
        found[:n, b] = found[:n, b][::-1]
    return found


def _flows(net: Net, stack: Stack, x: Array, direction: int, rng: np.random.Generator) -> Labels:
    spec = net.spec
    ends = net.real.sum(axis=0)
    if net.read == "own":
        ends = net.ends
    rows = np.flatnonzero(ends == spec.steps if net.read == "end" else ends)
    x, ends = x[:, rows], ends[rows]
    dy = _cotangent(net, stack, x, ends, direction)[rows]
    near = flow(stack, x, ends, dy)
    steps = int(ends.max()) if net.read != "loop" else net.window
    if net.window:
        steps = net.window if net.read != "windows" else (spec.steps - 1) % net.window + 1
    wide = near
    if len(near.share) <= SHORT:  # the same net on a longer sequence of the same kind
        ahead = [_turned(net.like(rng), net.real, direction)[:, rows]]
        while sum(map(len, ahead)) < SHORT:
            ahead.append(ahead[0])
        longer = np.concatenate([*ahead, x])
        wide = flow(stack, longer, ends + sum(map(len, ahead)), dy)
    share = wide.share[: max(steps, SHORT) + 1]
    if not np.isfinite(share).all() or not share.size or not share[0]:
        return dict.fromkeys(("vanishing", "exploding", "lost-in-depth", "read-too-rarely"))
    found = _through_time(share)
    if wide is not near:  # only what the short sequence shows as well
        gone_on = _through_time(
            near.share[-1] ** (np.arange(SHORT + 1) / max(len(near.share) - 1, 1))
        )
        found = {n: there if there == gone_on[n] else None for n, there in found.items()}
    if net.window and not (found["vanishing"] is False and found["exploding"] is False):
        found |= {"vanishing": None, "exploding": None}  # not seen in a window
    down = near.depth[:-1] / near.depth[1:]
    found["lost-in-depth"] = _clear(-down.min(initial=1.0), -LOST * BAND, -LOST / BAND)
    gone = wide.share < LOST
    reach = float(np.argmax(gone)) if gone.any() else np.inf
    beyond = np.mean(_distances(net, ends) > reach)
    known = not net.window and near.share.min() > 0
    found["read-too-rarely"] = _clear(float(beyond), 0.4, 0.6) if known else None
    return found


def _through_time(share: Array) -> Labels:
    least, rise = share.min(), np.max(share / np.minimum.accumulate(np.maximum(share, 1e-300)))
    return {
        "vanishing": None if least == 0 else _clear(-least, -LOST * BAND, -LOST / BAND),
        "exploding": _clear(rise, 1 / LOST / BAND, BAND / LOST),
    }


def _cotangent(net: Net, stack: Stack, x: Array, ends: Array, direction: int) -> Array:
    """dL/dh at the last step that is read, (B, hidden), but for a factor."""
    spec, n = net.spec, net.spec.hidden
    half = slice(direction * n, (direction + 1) * n)
    if net.head is None or net.task is None or not net.task.last:
        return np.tile(net.readout[half], (spec.rows, 1))
    every = []
    for d in range(net.layer.num_directions):
        states, _ = net.stack(d).forward(_turned(net.xs, net.real, d))
        every.append(states[-1][net.ends, np.arange(spec.rows), :n])
    y = np.concatenate(every, axis=1)
    w, b = (np.asarray(p.numpy(), np.float64) for p in net.head.parameters())
    out = y @ w.T + b
    if spec.task == "adding":
        d_out = out - net.targets
    else:
        e = np.exp(out - out.max(axis=1, keepdims=True))
        d_out = e / e.sum(axis=1, keepdims=True)
        d_out[np.arange(spec.rows), net.targets] -= 1.0
    return (d_out @ w)[:, half]


def _distances(net: Net, ends: Array) -> Array:
    """Steps from each step to the next that the loss reads, of all rows."""
    found = []
    for n in ends:
        read = np.zeros(n, bool)
        read[-1] = True
        if net.read in ("all", "padded"):
            read[:] = True
        elif net.read.startswith("every:"):
            read[::-1][:: int(net.read[6:])] = True
        at = np.flatnonzero(read)
        found.append(at[np.searchsorted(at, np.arange(n))] - np.arange(n))
    return np.concatenate(found)


def first(net: Net) -> tuple[int, int] | None:
    """(t, row) of the first NaN or Inf of a net that reads forward."""
    return first_nonfinite(net.stack(), np.asarray(net.xs, np.float64), net.real)
