"""The Program of a step: what it carries, reads, computes and sums, and how it is compiled.

Three clusters are the stages: before the loop, every step, after the loop. A dashed arrow leads
from what a step leaves back to where the next one takes it up. Of a scan that ran, the forward step
and BPTT are drawn one above the other; ops that are computed in one loop share a cluster there, and
what is stored for BPTT has a bold outline in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from ...compile.explain import Explanation
from ...compile.program import AFTER, BEFORE, Program, Value
from .boxes import Box, Boxes, look_of, stored_reads
from .colors import MUTED, PAPER
from .dot import Drawing, check_budget, html_caption, label, new_graph
from .facts import Facts, of_program, of_scan, without_norms

MAX_NODES = 300
STORED = "#c2554d"  # outline of what is stored for BPTT
LOOP = "#4e8a68"  # the way from one step to the next

# kind of node -> (fill colour, what the legend says)
LOOKS = {
    "state": ("#cfe3d4", "carried from step to step"),
    "input": ("#eef1f6", "comes in"),
    "weight": ("#f3e3ea", "weight"),
    "hoisted": ("#d9ecf0", "hoisted: for all t at once"),
    "product": ("#e4d9f1", "product"),
    "squash": ("#fbe3b1", "squashing function"),
    "pointwise": ("#d5e3f3", "element by element"),
    "reduce": ("#d3ecec", "sum, max, ..."),
    "other": ("#e6e8ec", "other"),
    "output": (PAPER, ""),
}
_CLUSTER = dict(labeljust="l", labelloc="t", fontsize="11", style="rounded", margin="10")


def draw_program(program: Program, title: str = "", max_nodes: int = MAX_NODES) -> Drawing:
    """One step, forward or backward: inputs at the left, results at the right.

    Raises DrawingError if it has more than max_nodes nodes.
    """
    return _drawing([(program, of_program(program))], title or program.name, max_nodes)


def draw_scan(explanation: Explanation, title: str = "", max_nodes: int = MAX_NODES) -> Drawing:
    """The step that a scan ran and, once backward has passed it, that of BPTT below.

    Raises DrawingError if both together have more than max_nodes nodes.
    """
    panels = of_scan(explanation)
    return _drawing(panels, title or f"scan of {explanation._compiled.name}", max_nodes)


def _drawing(panels: list[tuple[Program, Facts]], title: str, max_nodes: int) -> Drawing:
    graph = new_graph("program", labelloc="t", ranksep=0.42, nodesep=0.16)
    # Graphviz puts what comes first at the bottom.
    named = reversed(list(zip("fb", panels, strict=False)))
    drawn = [_Step(graph, prefix, *panel) for prefix, panel in named]
    count = sum(step.count for step in drawn)
    check_budget("draw program", count, max_nodes, "draw a smaller cell or raise max_nodes.")
    kinds = {kind for step in drawn for kind in step.kinds}
    legend = [look for kind, look in LOOKS.items() if kind in kinds and look[1]]
    if any(facts.stored for _, facts in panels):
        legend.append((STORED, "outline: stored for BPTT"))
    legend.append((LOOP, "dashed: to the next step"))
    graph.attr(label=html_caption(title, legend))
    return Drawing(graph.source)


class _Step:
    """One program in the graph; ids of its nodes start with `prefix`."""

    def __init__(self, graph: Any, prefix: str, program: Program, facts: Facts):
        program, self.norms = without_norms(program)
        self.program, self.facts, self.prefix = program, facts, prefix
        self.backward = program.name == "backward step"
        self.kinds: set[str] = set()
        self.count = 0
        self.ids: dict[Value, str] = {}
        self.edges: list[tuple[Value, str, dict[str, str]]] = []
        pinned = {*facts.stored, *(v for of in self.norms.values() for v in of)}
        self.boxes = Boxes(program, pinned, facts.loops, self.name)
        with graph.subgraph(name=f"cluster_{prefix}") as outer:
            look = (
                dict(color="#c3c9d4", label=label("\n".join([facts.title, *facts.passes])))
                if facts.title
                else dict(color=PAPER)
            )
            outer.attr(**_CLUSTER, **look)
            self._before(outer)
            self._steps(outer)
            self._after(outer)
        for a, b, look in self.edges:
            graph.edge(self.ids[a], b, **look)

    # -- names

    def name(self, v: Value) -> str:
        """What a value is called: `hₜ₋₁`, `iₜ`, `tanh(cₜ)`, else its number."""
        last, now = ("ₜ₊₁" if self.facts.reverse else "ₜ₋₁"), "ₜ"
        if v.role == "carry":
            return self.facts.states.get(v, v.name or "state") + last
        if v.role == "x" and v.op is None:
            return (v.name or "x") + now
        if v.name and v.role == "op":
            return v.name + now
        inside = v.inputs[0] if v.op is not None and len(v.inputs) == 1 else None
        if v.op is not None and type(inside) is Value:
            if v.op.name == "getitem":
                return f"{self.name(inside)}[{look_of(v)}]"
            if v.op.kind == "elementwise" and (inside.name or inside.role == "carry"):
                return f"{v.op.name}({self.name(inside)})"
        return v.name if v.name and len(v.name) <= 12 else repr(v)

    def _carried(self, k: int, v: Value, leaves: bool) -> str:
        """A carry where it enters a step, or leaves it; in BPTT the gradient of one."""
        back = leaves if self.backward else not leaves
        shift = ("ₜ₊₁" if self.facts.reverse else "ₜ₋₁") if back else "ₜ"
        return ("∂L/∂" if self.backward else "") + self.facts.states[v] + shift

    # -- the three stages

    def _before(self, outer: Any) -> None:
        hoisted = [v for v in self.program.xs if v.op is not None and v.role == "x"]
        hoisted = [v for v in hoisted if not self.backward]
        boxes = [b for b in self.boxes if b.value.stage == BEFORE]
        if not (self.program.weights or hoisted or boxes):
            return
        with outer.subgraph(name=f"cluster_{self.prefix}_before") as stage:
            stage.attr(
                **_CLUSTER, color="#c3c9d4", bgcolor="#fafbfc", label="before the loop, once"
            )
            for k, v in enumerate(self.program.weights):
                note = "a row for each of the batch" if v.role == "rows" else ""
                self._node(stage, f"w{k}", v, "weight", v.name or repr(v), note or _type(v))
            for k, v in enumerate(hoisted):
                self._node(stage, f"hoisted{k}", v, "hoisted", v.name, _type(v))
            self._boxes(stage, boxes)

    def _steps(self, outer: Any) -> None:
        program = self.program
        with outer.subgraph(name=f"cluster_{self.prefix}_step") as stage:
            stage.attr(**_CLUSTER, color=LOOP, bgcolor=PAPER, label="every step")
            with stage.subgraph() as ends:
                ends.attr(rank="same")
                for k, v in enumerate(program.carry):
                    self._node(ends, f"carry{k}", v, "state", self._carried(k, v, False), _type(v))
                self._inputs(ends)
            boxes = [b for b in self.boxes if b.value.stage not in (BEFORE, AFTER)]
            loops = sorted(
                {self.facts.loops[b.value] for b in boxes if b.value in self.facts.loops}
            )
            self._boxes(stage, [b for b in boxes if b.value not in self.facts.loops])
            for n in loops:
                with stage.subgraph(name=f"cluster_{self.prefix}_loop{n}") as cluster:
                    size = self.facts.sizes[n]
                    cluster.attr(
                        **_CLUSTER, color="#e0c98f", bgcolor="#fffdf6",
                        label=f"one loop over {size} value{'s' * (size != 1)} of a row",
                    )  # fmt: skip
                    self._boxes(cluster, [b for b in boxes if self.facts.loops.get(b.value) == n])
            with stage.subgraph() as ends:
                ends.attr(rank="same")
                self._outputs(ends)

    def _inputs(self, stage: Any) -> None:
        stored = set(stored_reads(self.program))
        given = [v for v in self.program.xs if v not in stored and v not in self.ids]
        dys = [v for v in given if self.backward and not v.from_x]
        for k, v in enumerate(given):
            text = self.name(v)
            if v in dys:
                text = "∂L/∂yₜ" if len(dys) == 1 else f"∂L/∂y{dys.index(v)}ₜ"
            self._node(stage, f"x{k}", v, "input", text, _type(v))
        for k, v in enumerate(v for v in self.program.xs if v in stored):
            self._node(stage, f"stored{k}", v, "input", self.name(v), _type(v))

    def _outputs(self, stage: Any) -> None:
        program = self.program
        for k, (before, v) in enumerate(zip(program.carry, program.carry_out, strict=True)):
            key = self._output(stage, f"carry_out{k}", v, self._carried(k, before, True), "state")
            # From left to right, drawn the other way round: so the layout stays free of cycles.
            look = dict(dir="back", style="dashed", color=LOOP, penwidth="1.4")
            self.edges.append((before, key, look))
        for k, v in enumerate(program.ys):
            text = "yₜ" if len(program.ys) == 1 else f"y{k}ₜ"
            if self.backward:
                x = self.facts.read[k] if k < len(self.facts.read) else None
                text = f"∂L/∂({x.name})" if x is not None and x.op else f"∂L/∂{self._x(x)}ₜ"
            self._output(stage, f"y{k}", v, text, "output")
        for k, (name, v) in enumerate(program.taps.items()):
            self._output(stage, f"tap{k}", v, f"{name}ₜ", "output", "recorded")
        for k, (name, sources) in enumerate(self.norms.items()):
            key = f"{self.prefix}_norm{k}"
            self._draw(stage, key, "output", f"|∂L/∂{name}ₜ|", "norm of each row, recorded", False)
            for v in sources:
                self._edge(self.boxes.root(v)[0], key, "")

    @staticmethod
    def _x(x: Value | None) -> str:
        return (x.name if x is not None else "") or "x"

    def _after(self, outer: Any) -> None:
        boxes = [b for b in self.boxes if b.value.stage == AFTER]
        if not (boxes or self.program.sums):
            return
        with outer.subgraph(name=f"cluster_{self.prefix}_after") as stage:
            stage.attr(**_CLUSTER, color="#c3c9d4", bgcolor="#fafbfc", label="after the loop, once")
            self._boxes(stage, boxes)
            for k, (w, v) in enumerate(self.program.sums.items()):
                name = w.name or repr(w)
                name = f"({name})" if " " in name else name
                self._output(stage, f"d{k}", v, f"∂L/∂{name}", "output")

    # -- nodes

    def _boxes(self, graph: Any, boxes: Sequence[Box]) -> None:
        order = {box.value: k for k, box in enumerate(self.boxes)}
        for box in boxes:
            v = box.value
            part = ", stored in part" if v in self.facts.partly else ""
            self._node(graph, f"n{order[v]}", v, box.kind, box.text, (box.note or repr(v)) + part)
            for source, word in box.sources:
                self._edge(source, self.ids[v], word)

    def _output(self, stage: Any, key: str, v: Value, text: str, kind: str, note: str = "") -> str:
        root, word = self.boxes.root(v)
        key = f"{self.prefix}_{key}"
        self._draw(stage, key, kind, text, note or _type(v), False)
        self._edge(root, key, word)
        return key

    def _node(self, graph: Any, key: str, v: Value, kind: str, text: str, note: str) -> None:
        self.ids[v] = key = f"{self.prefix}_{key}"
        self._draw(graph, key, kind, text, note, v in self.facts.stored)

    def _draw(self, graph: Any, key: str, kind: str, text: str, note: str, stored: bool) -> None:
        self.kinds.add(kind)
        self.count += 1
        small = f'<BR/><FONT POINT-SIZE="8" COLOR="{MUTED}">{escape(note)}</FONT>'
        look = dict(fillcolor=LOOKS[kind][0], label=f"<{escape(text)}{small}>", margin="0.08,0.04")
        if kind in ("pointwise", "squash", "product", "state"):
            look["fontsize"] = "13"
        if stored:
            look |= dict(color=STORED, penwidth="1.8")
        graph.node(key, **look)

    def _edge(self, source: Value, key: str, word: str) -> None:
        self.edges.append((source, key, dict(label=label(word), fontcolor=MUTED) if word else {}))


def _type(v: Value) -> str:
    return v.type().replace(str(v.dtype), "", 1) if v.dtype.kind == "f" else v.type()
