"""Any tape as a graph: a node for each operation with its value and gradient, a cluster for each
scope.

The first picture to look at when learning: `with mg.Tape() as tape: ...; loss.backward()`, then
`mg.flow.draw(tape)`. Parameters and constants are nodes too; Python numbers stand in the node that
uses them.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np

from ...tape import Node, Tape
from ...tensors import Tensor
from .colors import INK, LINE, MUTED, PAPER, Scale
from .dot import Drawing, DrawingError, check_budget, html_caption, label, new_graph, scale_strip
from .parts import SYMBOLS

MAX_NODES = 300
SMALL = 6  # arrays with this many elements are shown; of larger ones shape and norm

# kind of node -> colour of its head
HEADS = {
    "parameter": "#cfe3d4",
    "constant": "#e6e8ec",
    "elementwise": "#d5e3f3",
    "matmul": "#e4d9f1",
    "reduce": "#d3ecec",
    "view": "#eef1f6",
}


def draw_tape(tape: Tape, max_nodes: int = MAX_NODES, depth: int | None = None) -> Drawing:
    """The tape, left to right. After backward every node shows its gradient, coloured by its norm.

    depth: how many levels of scopes are drawn; what runs in deeper ones becomes one box for each
    scope of the last level (0: for everything).
    Raises DrawingError if the tape is empty or has more than max_nodes operations and leaves.
    """
    if not len(tape):
        raise DrawingError(
            "draw: the tape is empty; run something inside `with mg.Tape() as tape`."
        )
    if depth is not None and depth < 0:
        raise DrawingError(f"draw: depth is a number of levels from 0 on, got {depth!r}.")
    alone = sum(_folds_into(node, depth) is None for node in tape.nodes)
    folds = {_folds_into(node, depth) for node in tape.nodes} - {None}
    advice = "record a shorter stretch, fold scopes with depth=1, or raise max_nodes."
    check_budget("draw tape", alone + len(folds) + len(tape.leaves), max_nodes, advice)
    return Drawing(_TapeGraph(tape, depth).graph.source)


def _folds_into(node: Node, depth: int | None) -> str | None:
    """The scope in which a node is drawn as a part of one box; None if it has a box of its own."""
    if depth is None:
        return None
    parts = node.scope.split("/") if node.scope else []
    if depth == 0:
        return ""
    return "/".join(parts[:depth]) if len(parts) >= depth else None


class _TapeGraph:
    def __init__(self, tape: Tape, depth: int | None):
        self.tape = tape
        self.names = tape.names()
        self.ids = {id(leaf): f"x{i}" for i, leaf in enumerate(tape.leaves)}
        self.ids |= {id(node): f"n{i}" for i, node in enumerate(tape.nodes)}
        gradients = [tape.gradient(node) for node in tape.nodes] + list(map(_grad, tape.leaves))
        norms = [_norm(g) for g in gradients if g is not None]
        self.scale = Scale.around(norms)
        caption = _caption(tape, self.scale if norms else None)
        self.graph = new_graph("tape", label=caption, labelloc="b", ranksep=0.35, nodesep=0.18)
        self.graph.attr("node", shape="plain", fillcolor="none", style="")
        for leaf in tape.leaves:
            self.leaf(leaf)
        folds: dict[str, list[Node]] = {}
        for node in tape.nodes:
            if (fold := _folds_into(node, depth)) is not None:
                folds.setdefault(fold, []).append(node)
        for i, (scope, nodes) in enumerate(folds.items()):
            self.ids |= {id(node): f"s{i}" for node in nodes}
            self.fold(f"s{i}", scope, nodes)
        alone = [node for node in tape.nodes if _folds_into(node, depth) is None]
        self.scope(self.graph, _by_scope(alone), "cluster")
        edges: dict[tuple[str, str], Any] = {}
        for node in tape.nodes:
            for source in node.inputs:
                if id(source) in self.ids and self.ids[id(source)] != self.ids[id(node)]:
                    edges.setdefault((self.ids[id(source)], self.ids[id(node)]), source)
        for (a, b), source in edges.items():
            tip = self.tip(source)
            self.graph.edge(a, b, **({"edgetooltip": tip} if tip else {}))

    def tip(self, source: Any) -> str:
        """What comes back along an arrow."""
        g = self.tape.gradient(source) if isinstance(source, Node) else _grad(source)
        name = self.names.get(id(source), "")
        return "" if g is None else f"gradient of {name}: norm {_norm(g):.6g}"

    def fold(self, key: str, scope: str, nodes: list[Node]) -> None:
        """All operations of a scope as one box."""
        found = [g for node in nodes if (g := self.tape.gradient(node)) is not None]
        title = f"<B>{escape(scope or 'everything')}</B>"
        rows = [_line(title, HEADS["view"]), _line(f"{len(nodes)} operations", PAPER)]
        if found:
            last = found[-1]
            rows.append(
                _line(f"grad of the last: norm {_norm(last):.3g}", self.scale.color(_norm(last)))
            )
        self.graph.node(key, _table(rows), tooltip=f"{scope}: {len(nodes)} operations")

    def leaf(self, leaf: Tensor) -> None:
        kind = "parameter" if leaf.requires_grad else "constant"
        name = self.names[id(leaf)]
        box = _box(kind, name, "", leaf.numpy(), _grad(leaf), self.scale)
        tip = f"{name}: {leaf.dtype}{list(leaf.shape)}"
        self.graph.node(self.ids[id(leaf)], box, tooltip=tip)

    def node(self, graph: Any, node: Node) -> None:
        numbers = [repr(x) for x in node.inputs if isinstance(x, (int, float))]
        title = " ".join([SYMBOLS.get(node.op.name, node.op.name), *numbers])
        value, gradient = self.tape.value(node), self.tape.gradient(node)
        box = _box(node.op.kind, title, self.names[id(node)], value, gradient, self.scale)
        tip = f"{node.op.name} -> {node.dtype}{list(node.shape)}, keeps {node.nbytes} B"
        graph.node(self.ids[id(node)], box, tooltip=tip)

    def scope(self, graph: Any, place: dict[str, Any], path: str) -> None:
        """The nodes of a scope, and a cluster for each scope inside it."""
        for node in place.get("", ()):
            self.node(graph, node)
        for part, inside in place.items():
            if part:
                with graph.subgraph(name=f"{path}/{part}") as cluster:
                    cluster.attr(
                        label=label(part), labeljust="l", labelloc="t", fontsize="10",
                        fontcolor=MUTED, style="rounded", color="#c3c9d4", bgcolor="#f8f9fb",
                        margin="8",
                    )  # fmt: skip
                    self.scope(cluster, inside, f"{path}/{part}")


def _by_scope(nodes: Iterable[Node]) -> dict[str, Any]:
    """Nested scopes as nested dicts; the nodes directly in a scope are under ""."""
    root: dict[str, Any] = {}
    for node in nodes:
        place = root
        for part in node.scope.split("/") if node.scope else ():
            place = place.setdefault(part or "/", {})
        place.setdefault("", []).append(node)
    return root


def _box(
    kind: str, title: str, name: str, value: np.ndarray, gradient: np.ndarray | None, scale: Scale
) -> str:
    """An HTML label: head, value, gradient."""
    head = f"<B>{escape(title)}</B>" + (
        f'  <FONT COLOR="{MUTED}">{escape(name)}</FONT>' if name else ""
    )
    rows = [_line(head, HEADS[kind]), _line("data " + _html(_shown(value)), PAPER)]
    if gradient is not None:
        rows.append(_line("grad " + _html(_shown(gradient)), scale.color(_norm(gradient))))
    return _table(rows)


def _table(rows: list[str]) -> str:
    return (
        f'<<TABLE BORDER="0" CELLBORDER="1" CELLSPACING="0" CELLPADDING="4" COLOR="{LINE}">'
        f"{''.join(rows)}</TABLE>>"
    )


def _line(text: str, color: str) -> str:
    font = f'<FONT COLOR="{INK}" POINT-SIZE="10">{text}</FONT>'
    return f'<TR><TD BGCOLOR="{color}">{font}</TD></TR>'


def _shown(array: np.ndarray) -> str:
    """A small array by its numbers, a larger one by shape and norm."""
    array = np.asarray(array)
    if not array.ndim:
        return f"{array.item():.4g}"
    if array.size <= SMALL and array.ndim <= 2:
        return np.array2string(array, precision=3, separator=" ", floatmode="maxprec")
    shape = " x ".join(map(str, array.shape))
    norm = f" norm {_norm(array):.3g}" if array.dtype.kind == "f" else ""
    return f"{array.dtype} [{shape}]{norm}"


def _html(text: str) -> str:
    return escape(text).replace("\n", "<BR/>")


def _norm(array: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(array, dtype=np.float64)))


def _grad(leaf: Tensor) -> np.ndarray | None:
    return leaf.grad.numpy() if leaf.grad is not None else None


def _caption(tape: Tape, scale: Scale | None) -> str:
    """The kinds of node that occur, and the colours of the gradients."""
    kinds = {node.op.kind for node in tape.nodes}
    kinds |= {"parameter" if leaf.requires_grad else "constant" for leaf in tape.leaves}
    bar = scale_strip(scale) if scale else ""
    return html_caption("", [(HEADS[kind], kind) for kind in HEADS if kind in kinds], bar)
