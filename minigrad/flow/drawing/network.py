"""The unrolled network: one column a time step, one row a state, arrows as wide as the gradient.

Long sequences are folded (folding.py): the steps in the middle become one strip that keeps
their colours. Several panels, a cell before and after training or several cells, share one
scale, so they can be compared. Every node has its place computed here, so all engines draw
the same picture.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..layerflow import LayerFlow
from .canvas import Canvas
from .colors import Scale
from .dot import Drawing, DrawingError, check_budget
from .travel import Travel, of_norms
from .unrolled import Unrolled

MAX_NODES = 600
ADVICE = (
    "fold more (steps= chooses which are drawn one by one), draw less of each layer (depth=1), "
    "fewer layers or panels, or raise max_nodes."
)


@dataclass
class Panel:
    """One unrolled network: its layers, and what is written above it.

    inputs: t -> what stands for x_t (a character); a missing one is drawn as x_t. None: no inputs.
    travel: what goes along the arrows; left out, it is made of the layers' norms.
    """

    title: str
    layers: Sequence[LayerFlow]
    note: str = ""
    inputs: Mapping[int, str] | None = None
    travel: Travel | None = None


def draw_network(
    panels: Sequence[Panel],
    title: str = "",
    scale: Scale | None = None,
    max_nodes: int = MAX_NODES,
    steps: Collection[int] | None = None,
    depth: int = 2,
    way: str = "gradient",
) -> Drawing:
    """The unrolled networks of the panels, one above the other, on one scale.

    steps: which t, from 0, are drawn one by one; the others fold into strips. Left out: the ends,
    and where the loss is. depth: 1 draws one row for each layer and direction, 2 each of its
    states, 3 the means of its gates too. way: whether arrows point the way the "gradient" goes, or
    "forward".
    Raises DrawingError if there is nothing to draw, or if that would take more than max_nodes
    nodes.
    """
    if not panels or not all(panel.layers for panel in panels):
        raise DrawingError("draw: expected at least one recorded layer in each panel.")
    travels = [panel.travel or of_norms(panel.layers) for panel in panels]
    norms = np.concatenate([travel.norms for travel in travels])
    canvas = Canvas(scale or Scale.around(norms), forward=way == "forward")
    if title:
        canvas.text("title", title, size=17, height=0.45)
    for i, (panel, travel) in enumerate(zip(panels, travels, strict=True)):
        key = f"p{i}"
        canvas.heading(key, panel.title, panel.note)
        unrolled = Unrolled(canvas, key, travel, panel.inputs, steps, depth)
        check_budget("draw network", canvas.count + unrolled.where.count, max_nodes, ADVICE)
        unrolled.draw()
    whole = any(travel.whole for travel in travels)
    canvas.legend(broken=not np.isfinite(norms).all(), gates=depth == 3, whole=whole)
    return Drawing(canvas.graph.source)
