"""A jitted step: what a replay calls, in order, and the memory that leads from call to call."""

from __future__ import annotations

from ...jitting import Jitted
from ...jitting.calls import Listed
from .dot import Drawing, DrawingError, check_budget, html_caption, label, new_graph

MAX_NODES = 300

# kind of call -> (fill colour, what the legend says)
LOOKS = {
    "product": ("#e4d9f1", "product"),
    "loop": ("#cfe3d4", "loop of a scan, forward or BPTT"),
    "kernel": ("#d5e3f3", "element by element, one kernel"),
    "update": ("#f3e3ea", "moves parameters or their gradients"),
    "other": ("#e6e8ec", "other kernels, copies, checks"),
}


def draw_jitted(step: Jitted, title: str = "", max_nodes: int = MAX_NODES) -> Drawing:
    """The program of a jitted function, for the arguments that came first.

    Raises DrawingError if it has none yet, or more than max_nodes calls.
    """
    programs = step.all_programs()
    if not programs:
        raise DrawingError(
            f"draw: {step.name} has no program yet; two calls with arguments of one kind make one."
        )
    parts = programs[0].parts
    check_budget("draw a jitted step", len(parts), max_nodes, "raise max_nodes.")
    graph = new_graph("jitted", labelloc="t", ranksep=0.3, nodesep=0.16)
    written: dict[int, int] = {}  # memory -> the call that wrote there last
    edges: list[tuple[int, int]] = []
    kinds = [_kind(part) for part in parts]
    for k, (part, kind) in enumerate(zip(parts, kinds, strict=True)):
        what, _, shapes = part.says.partition(": ")
        shapes = shapes.replace(" | ", "\n")  # of loops that run at once
        graph.node(f"n{k}", label(f"{what}\n{shapes}\n{part.where}"), fillcolor=LOOKS[kind][0])
        edges += [(written[m], k) for m in (*part.reads, *part.writes) if m in written]
        written |= dict.fromkeys(part.writes, k)
    for a, b in dict.fromkeys(edges):
        if a != b:
            graph.edge(f"n{a}", f"n{b}")
    legend = [look for kind, look in LOOKS.items() if kind in kinds]
    graph.attr(label=html_caption(title or f"mg.jit of {step.name}", legend))
    return Drawing(graph.source)


def _kind(part: Listed) -> str:
    return part.kind if part.kind in LOOKS else "other"
