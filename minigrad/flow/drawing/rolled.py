"""The rolled network: a box for each part of it, a recurrent layer's with a loop.

The loop stands for all steps. Of a recording it says what a step back does to the gradient, and a
bar shows how far the gradient comes: its colour at the step nearest to the loss, and at the
farthest. Arrows are what ran (calls.py); a model that has not run is drawn as it is declared, with
arrows only where its class says what they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from ...nn.module import Module
from ..calls import Calls, last_calls
from ..layerflow import LayerFlow
from ..places import both_directions
from ..recording import Recording
from ..tracing import trace
from .colors import LINE, MUTED, Scale, power_of_ten
from .declared import NOT_RUN, Declared, arrows_known, boxes_of
from .dot import Drawing, DrawingError, check_budget, html_caption, label, new_graph, scale_strip
from .ran import Graph
from .recorded import Ends, ends_of
from .rows import identifier

MAX_NODES = 300
KINDS = {"recurrent": "#d5e3f3", "other": "#e6e8ec", "merge": "#eef1f6"}
ADVICE = "draw a part of the model, such as one of its layers, or raise max_nodes."


def draw_rolled(
    model: Module | None = None,
    layers: Mapping[str, LayerFlow] | None = None,
    title: str = "",
    max_nodes: int = MAX_NODES,
    given: tuple[Any, ...] = (),
) -> Drawing:
    """A module, a recording, or both: then the module's layers show what was recorded.

    given: what the module is called with, once. By itself it is drawn as it ran in the last
    recording that heard it, or as it is declared.
    Raises DrawingError if there is neither, for more boxes than max_nodes, and for a module that
    did not run in the recording.
    """
    if model is None and not layers:
        raise DrawingError("draw: a rolled view needs a Module or a Recording.")
    if given and layers is not None:
        raise DrawingError(
            "draw: a model is called with inputs, or drawn from recording=, not both."
        )
    layers = {} if layers is None else layers
    if model is None and not isinstance(layers, Recording):
        check_budget("draw rolled", len(layers), max_nodes, ADVICE)
        return Rolled(layers, title).stacked()
    graph = Graph(_calls(model, layers, given), model, layers)
    if graph.boxes:
        check_budget("draw rolled", len(graph.boxes), max_nodes, ADVICE)
        return Rolled(layers, title).ran(graph)
    if isinstance(layers, Recording):
        raise DrawingError(
            f"draw: this {type(model).__name__} did not run in the recording, or only where no "
            f"gradients are recorded; call it inside `with mg.flow.record() as rec`."
        )
    assert model is not None
    check_budget("draw rolled", boxes_of(model), max_nodes, ADVICE)
    return Rolled(layers, title, "" if arrows_known(model) else NOT_RUN).declared(model)


def _calls(model: Module | None, layers: Mapping[str, LayerFlow], given: tuple[Any, ...]) -> Calls:
    """What ran."""
    if isinstance(layers, Recording):
        return layers.calls
    if model is not None and given:
        return trace(model, *given)
    return (last_calls(model) if model is not None else None) or Calls()


class Rolled:
    """Boxes, loops and arrows on a graph that Graphviz lays out."""

    def __init__(self, layers: Mapping[str, LayerFlow], title: str, note: str = ""):
        self.layers = layers
        if isinstance(layers, Recording):
            self.ends = ends_of(layers)
        else:
            self.ends = {path: _ends(layer) for path, layer in layers.items()}
        norms = [norm for ends in self.ends.values() for norm in ends.norms]
        self.scale = Scale.around(norms) if norms else None
        self.graph = new_graph("rolled", label=_caption(title, self.scale, note), labelloc="b",
                               ranksep=0.45, nodesep=0.3)  # fmt: skip

    def ran(self, graph: Graph) -> Drawing:
        """What ran and what it read."""
        for box in graph.boxes:
            text = f"{box.title}\n{box.about}" if box.about else box.title
            if box.flow is not None:
                self.layer(box.flow, text, box.tip, box.key)
            else:
                kind = "recurrent" if box.loop else "other"
                self.box(box.key, text, KINDS[kind], tooltip=box.tip)
                if box.loop:
                    self.loop(box.key, box.loop)
        for key, text in graph.merges.items():
            self.box(key, text, KINDS["merge"], tooltip=f"both directions: {text}")
        for key, text in graph.ends.items():
            self.end(key, text)
        for (a, b), words in graph.arrows.items():
            more = {"fontcolor": MUTED} if words else {}
            self.graph.edge(a, b, label("\n".join(words)) if words else None, **more)
        return Drawing(self.graph.source)

    def declared(self, model: Module) -> Drawing:
        """The modules as they are written down."""
        Declared(self).draw(model)
        return Drawing(self.graph.source)

    def stacked(self) -> Drawing:
        """Layers of which only the paths `.../l0/fwd` are known, one above the other."""
        stems: dict[str, list[LayerFlow]] = {}
        for path, layer in self.layers.items():
            stems.setdefault(both_directions(path), []).append(layer)
        before = self.end("end_x", "x")
        for stem, group in stems.items():
            keys = [self.layer(layer, layer.path or "network") for layer in group]
            self.connect(before, keys)
            before = self.merge(stem, "concat", keys) if len(keys) > 1 else keys
        self.connect(before, self.end("end_y", "y"))
        return Drawing(self.graph.source)

    # -- boxes and arrows

    def layer(self, layer: LayerFlow, text: str, tooltip: str = "", key: str = "") -> str:
        key = key or f"r_{_id(layer.path)}"
        ends, verdict = self.ends[layer.path], self.ends[layer.path].verdict
        assert self.scale is not None
        cells = "".join(
            f'<TD BGCOLOR="{self.scale.color(v)}"><FONT POINT-SIZE="9">{words} '
            f"{power_of_ten(v)}</FONT></TD>"
            for words, v in (("farthest", ends.far), ("nearest", ends.near))
        )
        lines = "<BR/>".join(escape(line) for line in text.split("\n"))
        html = (
            f'<<TABLE BORDER="0" CELLBORDER="1" CELLSPACING="0" CELLPADDING="5" COLOR="{LINE}">'
            f'<TR><TD COLSPAN="2" BGCOLOR="{KINDS["recurrent"]}">{lines}</TD></TR>'
            f"<TR>{cells}</TR></TABLE>>"
        )
        tip = f"{tooltip or layer.path}: {verdict}"
        self.graph.node(key, html, shape="plain", style="", tooltip=tip)
        words = [f"×{verdict.rate:.3g} a step back"] if verdict.fit else [verdict.kind]
        if verdict.fit and math.isfinite(verdict.fit.half_life):
            words.append(f"half-life {verdict.fit.half_life:.3g}")
        if not math.isnan(verdict.reach_low):
            words.append(verdict.reach_words)
        self.loop(key, "\n".join([f"{len(layer.steps)} steps", *words]))
        return key

    def loop(self, key: str, text: str) -> None:
        self.graph.edge(f"{key}:n", f"{key}:n", label(text), fontcolor=MUTED, tailtooltip=text,
                        edgetooltip=text, labeltooltip=text)  # fmt: skip

    def merge(self, stem: str, merge: str, keys: list[str]) -> list[str]:
        key = f"g_{_id(stem)}"
        self.box(key, merge, KINDS["merge"], tooltip=f"both directions: {merge}")
        self.connect(keys, [key])
        return [key]

    def box(self, key: str, text: str, color: str, **more: Any) -> None:
        self.graph.node(key, label(text), fillcolor=color, **more)

    def end(self, key: str, text: str) -> list[str]:
        self.graph.node(key, label(text), shape="plaintext", style="", tooltip=text)
        return [key]

    def connect(self, sources: list[str], targets: list[str]) -> None:
        for a in sources:
            for b in targets:
                self.graph.edge(a, b)


def _id(name: str) -> str:
    return identifier(name) or "network"


def _ends(layer: LayerFlow) -> Ends:
    profile = layer.profile("h" if "h" in layer.norms else next(iter(layer.norms)))
    every = [norm for norms in layer.norms.values() for norm in norms.tolist()]
    return Ends(profile.tolist(), layer.verdict, every)


def _caption(title: str, scale: Scale | None, note: str) -> str:
    legend = [(KINDS["recurrent"], "the same weights at every step")]
    extra = f'<TD><FONT POINT-SIZE="9" COLOR="{MUTED}">{escape(note)}</FONT></TD>' if note else ""
    return html_caption(title, legend, (scale_strip(scale) if scale else "") + extra)
