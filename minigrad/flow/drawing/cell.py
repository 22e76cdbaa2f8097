"""A cell as the graph of its equations, in the manner of the diagrams people draw of an LSTM."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from ...tree import named_leaves
from .colors import INK, PAPER, UNREACHED
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
PALE = dict(fillcolor=PAPER, color="#e3e5ea", fontcolor=UNREACHED, penwidth="1")


def draw_cell(
    cell: Any,
    state: Any = None,
    x: Any = None,
    title: str = "",
    max_nodes: int = MAX_NODES,
    upto: Collection[str] | None = None,
) -> Drawing:
    """The graph of `cell(state, x) -> (state, y)`: inputs at the left, outputs at the right.

    state, x: an example to trace with; made from cell.init_state(1) and cell.input_size if left
        out. upto: names of tapped values; what they do not depend on is pale, in the same places.
    Raises DrawingError if an example is missing, for a name that the cell does not tap, or if the
    graph has more than max_nodes nodes.
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

    lit = _lit(parts, upto)

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
                    look = LOOKS[part.kind][0] if part in lit else LOOKS[part.kind][0] | PALE
                    group.node(ids[id(part)], label(_text(part, ends)), **look)
    for part in parts:
        for source in part.sources:
            pale = {} if part in lit else {"color": PALE["color"]}
            graph.edge(ids[id(source)], ids[id(part)], **pale)
    return Drawing(graph.source)


def _lit(parts: list[Part], upto: Collection[str] | None) -> set[Part]:
    """The parts that are drawn in colour: those that values named in `upto` depend on."""
    if upto is None:
        return set(parts)
    named = {part.tap: part for part in parts if part.tap}
    if unknown := set(upto) - set(named):
        raise DrawingError(
            f"draw: upto names {sorted(unknown)}, and this cell taps {', '.join(named)}."
        )
    found: set[Part] = set()
    waiting = [named[name] for name in upto]
    while waiting:
        part = waiting.pop()
        if part not in found:
            found.add(part)
            waiting += part.sources
    # a new state whose value is there, and what is there from the start
    found |= {p for p in parts if p.kind == "output" and set(p.sources) <= found}
    return found | {p for p in parts if p.kind in ("state", "input")}


def _text(part: Part, ends: set[Part]) -> str:
    """A tapped value shows its name below its sign, unless it ends in an output, which says it."""
    return f"{part.text}\n{part.tap}ₜ" if part.tap and part not in ends else part.text
