"""Connectivity: what each prediction has to do with each input before it, |dy_t / dx_s|.

A hidden state holds on to more than one can see in it. What it *used* of the past is seen by the
gradient of one prediction by each input, drawn on the text itself (A. Madsen, "Visualizing
memorization in RNNs", Distill 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...autodiff import grad
from ...errors import FlowError
from ...tensors import Tensor, wrap
from ..page import Page, assemble

Array = np.ndarray
HERE = Path(__file__).parent


class Connectivity(Page):
    """The page. norms: (T, T), |dy_t / dx_s| in row t and column s.

    >>> connectivity(lambda x: 3.0 * x[..., 0], np.ones((2, 1))).norms.tolist()
    [[3.0, 0.0], [0.0, 3.0]]
    """

    what = "connectivity"
    height = 460

    def __init__(self, html: str, norms: Array):
        super().__init__(html)
        self.norms = norms


def connectivity(
    read: Callable[[Tensor], Tensor],
    x: Any,
    text: Sequence[str] = "",
    said: Sequence[str] = (),
    *,
    title: str = "",
    note: str = "",
    start: int | None = None,
) -> Connectivity:
    """|dy_t / dx_s| for all t and s, and a page that shows it on a text, letter by letter.

    read: (T, B, F) -> (T, B), a number for each step of each row, such as the score of the
        likeliest next letter; rows must not mix.
    x: (T, F), one sequence: the embedded letters. text: what stands for x_0 ... x_{T-1}, T symbols;
        left out, they are numbered. said: T lines, of what `read` says after each.
    start: the step the page opens with; left out, the last.
    One pass: the sequence runs in T rows side by side, and row t reads y_t alone.
    Raises FlowError for shapes that do not fit.

    >>> from minigrad import ops
    >>> found = connectivity(lambda x: ops.cumsum(x, axis=0)[..., 0], np.ones((3, 1)), "abc")
    >>> found.norms.tolist()
    [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    """
    x = np.asarray(x.numpy() if isinstance(x, Tensor) else x)
    if x.ndim != 2 or not len(x):
        raise FlowError(f"connectivity: x is one sequence, (T, F) with T > 0, got {x.shape}.")
    T = len(x)
    for name, given in (("text", text), ("said", said)):
        if len(given) not in (0, T):
            raise FlowError(f"connectivity: {name} has {len(given)} entries for {T} steps.")
    if start is not None and not 0 <= start < T:
        raise FlowError(f"connectivity: start is a step from 0 to {T - 1}, got {start}.")
    rows = wrap(np.repeat(x[:, None], T, axis=1), None, True)
    y = read(rows)
    if y.shape != (T, T):
        raise FlowError(
            f"connectivity: read() took {rows.shape} and gave {y.shape}; expected a number for "
            f"each step of each row, {(T, T)}."
        )
    found = grad(y, rows, grad_output=wrap(np.eye(T, dtype=y.dtype), None, False)).numpy()
    norms = np.linalg.norm(found.astype(np.float64), axis=2).T  # of row t, by s
    most = np.where(norms > 0, norms, 0).max(axis=1, keepdims=True)
    shares = np.divide(norms, most, out=np.zeros_like(norms), where=most > 0)
    contents = {
        "title": title,
        "note": note,
        "knob": "after letter" if text else "after step",
        "text": list(text) or [f"{t + 1} " for t in range(T)],
        "said": list(said),
        "rows": np.nan_to_num(100 * shares).round().astype(int).tolist(),
        "start": T - 1 if start is None else start,
    }
    scripts = [HERE / "common.js", HERE / "connectivity.js"]
    made = assemble(Connectivity.what, HERE / "page.html", [HERE / "style.css"], scripts, contents)
    return Connectivity(made, norms)
