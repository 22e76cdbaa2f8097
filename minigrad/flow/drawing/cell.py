"""A cell as the graph of its equations, in the manner of the diagrams people draw of an LSTM."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...tree import named_leaves
from .colors import INK
from .dot import Drawing, DrawingError, check_budget, html_caption, label, new_graph
from .parts import Part, equations

MAX_NODES = 120

# kind of part -> (look, what the legend says)
LOOKS: dict[str, tuple[dict[str, str], str]] = {
    "input": (dict(fillcolor="#eef1f6", fontsize="14"), "input"),
    "state": (dict(fillcolor="#cfe3d4", fontsize="14"), "state"),
    "product": (dict(fillcolor="#e4d9f1"), "weights"),
    "squash": (dict(fillcolor="#fbe3b1", fontsize="13"), "squashing function"),
    "pointwise": (
        dict(
            fillcolor="#d5e3f3",
            shape="circle",
            style="filled",
            fontsize="13",
            margin="0.02",
            width="0.42",
            height="0.42",
        ),
        "element by element",
    ),
    "other": (dict(fillcolor="#e6e8ec"), "other"),
    "output": (dict(fillcolor="#cfe3d4", fontsize="14", color=INK, penwidth="1.6"), "new state"),
}


def draw_cell(
    cell: Any, state: Any = None, x: Any = None, title: str = "", max_nodes: int = MAX_NODES
) -> Drawing:
    """The graph of `cell(state, x) -> (state, y)`: inputs at the left, outputs at the right.

    state, x: an example to trace with; made from cell.init_state(1) and cell.input_size if left
        out. Raises DrawingError if they are missing, or if the graph has more than max_nodes nodes.
    """
    if state is None:
        if not hasattr(cell, "init_state"):
            raise DrawingError(
                "draw: this cell has no init_state(batch); pass an example, state=..."
            )
        state = cell.init_state(1)
    if x is None:
        if not hasattr(cell, "input_size"):
            raise DrawingError("draw: this cell has no input_size; pass an example, x=...")
        dtype = next((t.dtype for _, t in named_leaves(state)), np.dtype(np.float32))
        x = np.ones((1, cell.input_size), dtype)
    parts = equations(cell, state, x)
    check_budget("draw cell", len(parts), max_nodes, "draw a smaller cell or raise max_nodes.")

    words = [
        (LOOKS[k][0]["fillcolor"], LOOKS[k][1]) for k in LOOKS if any(p.kind == k for p in parts)
    ]
    caption = html_caption(title or type(cell).__name__, words)
    graph = new_graph("cell", label=caption, labelloc="t", ranksep=0.38, nodesep=0.25)
    ends = {source for part in parts if part.kind == "output" for source in part.sources}
    ids = {id(part): f"n{i}" for i, part in enumerate(parts)}
    for rank, kinds in (("source", ("state", "input")), ("sink", ("output",)), ("", ())):
        with graph.subgraph() as group:
            if rank:
                group.attr(rank=rank)
            for part in parts:
                if part.kind in kinds or not (rank or part.kind in ("state", "input", "output")):
                    group.node(ids[id(part)], label(_text(part, ends)), **LOOKS[part.kind][0])
    for part in parts:
        for source in part.sources:
            graph.edge(ids[id(source)], ids[id(part)])
    return Drawing(graph.source)


def _text(part: Part, ends: set[Part]) -> str:
    """A tapped value shows its name below its sign, unless it ends in an output, which says it."""
    return f"{part.text}\n{part.tap}ₜ" if part.tap and part not in ends else part.text
