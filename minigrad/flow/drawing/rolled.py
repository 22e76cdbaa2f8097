"""The rolled network: its modules as they are written down, each recurrent layer a box with a loop.

The loop stands for all steps. Of a recording it says what a step back does to the gradient, and a
bar shows how far the gradient comes: its colour at the step nearest to the loss, and at the
farthest. Data is drawn in the order in which a module holds its members, which is how most modules
use them; what a `forward` really does is not looked into.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import numpy as np

from ...nn.module import Module, Parameter
from ...nn.recurrent import Recurrent
from ..layerflow import LayerFlow
from ..places import both_directions
from .colors import LINE, MUTED, Scale, power_of_ten
from .dot import Drawing, DrawingError, check_budget, html_caption, label, new_graph, scale_strip
from .rows import identifier

MAX_NODES = 300
KINDS = {"recurrent": "#d5e3f3", "other": "#e6e8ec", "merge": "#eef1f6"}


def draw_rolled(
    model: Module | None = None,
    layers: Mapping[str, LayerFlow] | None = None,
    title: str = "",
    max_nodes: int = MAX_NODES,
) -> Drawing:
    """A module, a recording's layers, or both: then the module's layers show what was recorded.

    Raises DrawingError if there is neither, or for more boxes than max_nodes.
    """
    layers = dict(layers or {})
    if model is None and not layers:
        raise DrawingError("draw: a rolled view needs a Module or a Recording.")
    boxes = len(layers) if model is None else sum(_boxes(part) for _, part in _parts(model))
    advice = "draw a part of the model, such as one of its layers, or raise max_nodes."
    check_budget("draw rolled", boxes, max_nodes, advice)
    rolled = _Rolled(layers, title)
    rolled.recorded() if model is None else rolled.model(model)
    return Drawing(rolled.graph.source)


class _Rolled:
    def __init__(self, layers: dict[str, LayerFlow], title: str):
        self.layers = layers
        norms = [n for layer in layers.values() for n in layer.norms.values()]
        self.scale = Scale.around(np.concatenate(norms)) if norms else None
        self.graph = new_graph("rolled", label=_caption(title, self.scale), labelloc="b",
                               ranksep=0.45, nodesep=0.3)  # fmt: skip

    # -- a recording without its model

    def recorded(self) -> None:
        """Layers one above the other, by their paths `.../l0/fwd`."""
        stems: dict[str, list[LayerFlow]] = {}
        for path, layer in self.layers.items():
            stems.setdefault(both_directions(path), []).append(layer)
        before = self._ends("x", "x")
        for stem, group in stems.items():
            keys = [self._layer(layer, layer.path or "network") for layer in group]
            self._connect(before, keys)
            before = self._merge(stem, "concat", keys) if len(keys) > 1 else keys
        self._connect(before, self._ends("y", "y"))

    # -- a model

    def model(self, model: Module) -> None:
        before = self._ends("x", "x")
        for name, module in _parts(model):
            if isinstance(module, Recurrent):
                before = self._recurrent(name, module, before)
            else:
                text = f"{name}\n{type(module).__name__}({module.describe()})"
                key = f"m_{_id(name)}"
                self._box(key, text, KINDS["other"], tooltip=f"{name}: {_sizes(module)}")
                self._connect(before, [key])
                before = [key]
        self._connect(before, self._ends("y", "y"))

    def _recurrent(self, name: str, layer: Recurrent, before: list[str]) -> list[str]:
        where = _slashes(name)  # a module runs in the scope of its name
        for i in range(layer.num_layers):
            keys = []
            for direction in range(layer.num_directions):
                cell = layer.cells[i * layer.num_directions + direction]
                way = "rev" if direction else "fwd"
                calls = self._calls(f"{where}/l{i}/{way}")
                text = f"{name} l{i} {'←' if direction else '→'}\n{_describe(cell)}"
                tip = f"{name}, layer {i}, {way}: {_sizes(cell)}"
                if calls:
                    shown = next((flow for flow in calls if flow.arrived), calls[0])
                    many = f"\n{len(calls)} calls; this is {shown.path}" if len(calls) > 1 else ""
                    keys.append(self._layer(shown, text + many, tip))
                else:
                    key = f"r_{_id(name)}_l{i}_{way}"
                    self._box(key, text, KINDS["recurrent"], tooltip=tip)
                    self._loop(key, "one step")
                    keys.append(key)
            self._connect(before, keys)
            last = i + 1 == layer.num_layers
            merge = layer.merge if last else "concat"
            before = self._merge(f"{name}_l{i}", merge, keys) if len(keys) > 1 else keys
        return before

    def _calls(self, path: str) -> list[LayerFlow]:
        """Those of one layer and direction; by the end of the path if none has all of it."""
        scopes = {p: _slashes(flow.scope or flow.path) for p, flow in self.layers.items()}
        exact = [flow for p, flow in self.layers.items() if scopes[p] == path]
        below = [flow for p, flow in self.layers.items() if scopes[p].endswith(f"/{path}")]
        return exact or below

    # -- boxes and arrows

    def _layer(self, layer: LayerFlow, text: str, tooltip: str = "") -> str:
        key = f"r_{_id(layer.path)}"
        verdict, profile = layer.verdict, layer.profile(_main(layer))
        ends = (profile[0], profile[-1]) if profile.size else (0.0, 0.0)
        assert self.scale is not None
        cells = "".join(
            f'<TD BGCOLOR="{self.scale.color(float(v))}"><FONT POINT-SIZE="9">{words} '
            f"{power_of_ten(float(v))}</FONT></TD>"
            for words, v in (("farthest", ends[1]), ("nearest", ends[0]))
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
        if verdict.fit and np.isfinite(verdict.fit.half_life):
            words.append(f"half-life {verdict.fit.half_life:.3g}")
        self._loop(key, "\n".join([f"{len(layer.steps)} steps", *words]))
        return key

    def _loop(self, key: str, text: str) -> None:
        self.graph.edge(f"{key}:n", f"{key}:n", label(text), fontcolor=MUTED, tailtooltip=text,
                        edgetooltip=text, labeltooltip=text)  # fmt: skip

    def _merge(self, stem: str, merge: str, keys: list[str]) -> list[str]:
        key = f"g_{_id(stem)}"
        self._box(key, merge, KINDS["merge"], tooltip=f"both directions: {merge}")
        self._connect(keys, [key])
        return [key]

    def _box(self, key: str, text: str, color: str, **more: Any) -> None:
        self.graph.node(key, label(text), fillcolor=color, **more)

    def _ends(self, key: str, text: str) -> list[str]:
        self.graph.node(f"end_{key}", text, shape="plaintext", style="", tooltip=text)
        return [f"end_{key}"]

    def _connect(self, sources: list[str], targets: list[str]) -> None:
        for a in sources:
            for b in targets:
                self.graph.edge(a, b)


def _slashes(name: str) -> str:
    """`blocks/0/rnn`, whether the scope was `blocks.0/rnn` or `blocks/0/rnn`."""
    return name.replace(".", "/")


def _parts(model: Module) -> Iterator[tuple[str, Module]]:
    """Recurrent layers and modules that hold parameters themselves, in order, with their names."""
    if isinstance(model, Recurrent):
        yield model.scope_name, model
        return
    yield from _inside(model, "")


def _inside(model: Module, prefix: str) -> Iterator[tuple[str, Module]]:
    found = False
    for name, member in model.members():
        if isinstance(member, Parameter):
            continue
        found = True
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(member, Recurrent):
            yield path, member
        else:
            yield from _inside(member, path)
    if not found:
        yield prefix or type(model).__name__.lower(), model


def _boxes(module: Module) -> int:
    if not isinstance(module, Recurrent):
        return 1
    return module.num_layers * (1 if module.num_directions == 1 else 3)  # two cells and a merge


def _main(layer: LayerFlow) -> str:
    return "h" if "h" in layer.norms else next(iter(layer.norms))


def _describe(module: Module) -> str:
    return f"{type(module).__name__}({module.describe()})"


def _sizes(module: Module) -> str:
    count = sum(p.size for p in module.parameters())
    return f"{count:,} parameters"


def _id(name: str) -> str:
    return identifier(name) or "network"


def _caption(title: str, scale: Scale | None) -> str:
    legend = [(KINDS["recurrent"], "the same weights at every step")]
    return html_caption(title, legend, scale_strip(scale) if scale else "")
