"""Where a batch is padded, told from its numbers alone, and whether the mask says the same.

Padding behind is told by one value of x, the same in all rows, that ends rows of different lengths
and that is nowhere else. Where it also occurs inside of rows (a blank, a pixel that is off) or
where every row ends alike, nothing can be told, and nothing is said; nor of padding in front.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..layerflow import LayerFlow
from .cause import Cause
from .reading import counted, read_at, real_steps

Array = np.ndarray
INSIDE = 0.01  # share of what is no padding that may look like it
LEAST = 0.05  # share of a batch that is worth naming


class Padding(NamedTuple):
    """ends: how many steps of each row come before its padding, (B,). value: what pads, (I,)."""

    ends: Array
    value: Array


def padding_of(x: Array) -> Padding | None:
    """x (T, B, I) in time -> where its rows end; None where that cannot be told.

    >>> x = np.arange(24.0).reshape(4, 3, 2)
    >>> x[2:, 0] = x[3:, 1] = 0.0
    >>> padding_of(x).ends.tolist()
    [2, 3, 4]
    """
    time, rows = x.shape[:2]
    if rows < 2 or time < 2:
        return None
    last, counts = np.unique(x[-1], axis=0, return_counts=True, equal_nan=True)
    if counts.max() < 2:
        return None
    value = last[np.argmax(counts)]
    same = ((x == value) | (np.isnan(x) & np.isnan(value))).all(axis=2)
    run = np.where(same.all(axis=0), time, np.argmin(same[::-1], axis=0))
    ends = time - run
    inside = same & (np.arange(time)[:, None] < ends)
    content = int(ends.sum())
    if len(set(ends.tolist())) < 2 or run.sum() < LEAST * time * rows:
        return None
    if inside.sum() > INSIDE * content or not content:
        return None
    return Padding(ends, value)


def wrong_mask_of(layer: LayerFlow, padding: Padding | None) -> Cause | None:
    """Whether the layer takes steps for real that are padding, or leaves out steps that are not."""
    if padding is None:
        return None
    steps, rows = len(layer.steps), len(padding.ends)
    backwards = layer.reverse
    t = np.arange(steps)[:, None]
    if backwards:
        t = t[::-1]
    pads = t >= padding.ends
    real, read = real_steps(layer), read_at(layer)
    value = "0" if not padding.value.any() else "one value"
    if real is None:
        # What the loss reads past a row's end has gone through its padding.
        if read is None or not (backwards or (read & pads).any()):
            return None
        return Cause(
            "wrong-mask",
            layer.path,
            f"no mask, and {counted(int(pads.sum()), pads.size, 'steps')} are padding ({value} to "
            f"the end of {int((padding.ends < steps).sum())} of {rows} rows, and nowhere else), "
            f"which is read as data: pass lengths=",
            float(pads.mean()),
        )
    ends = np.where(real.any(axis=0), (np.where(real, t, -1)).max(axis=0) + 1, 0)
    left_out = int(((t >= ends) & ~pads).sum())
    taken = int((real & pads).sum())
    wrong = (padding.ends != ends).mean()
    if left_out + taken < LEAST * int(padding.ends.sum()) and wrong < 0.25:
        return None
    if not left_out + taken:
        return None
    return Cause(
        "wrong-mask",
        layer.path,
        f"the mask ends {counted(int((padding.ends != ends).sum()), rows, 'rows')} elsewhere than "
        f"x does, whose padding is {value}: {left_out:,} steps of data are left out, {taken:,} of "
        f"padding are taken for data",
        (left_out + taken) / real.size,
    )
