"""What a drawing holds, read back by a Graphviz engine: structure, never layout."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass, field

from minigrad.flow import Drawing
from minigrad.flow.engines import render


@dataclass
class Picture:
    """Nodes and clusters by name with their attributes, and edges as pairs of node names."""

    nodes: dict[str, dict[str, str]] = field(default_factory=dict)
    clusters: dict[str, set[str]] = field(default_factory=dict)
    edges: set[tuple[str, str]] = field(default_factory=set)
    graph: dict[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """A node's label without markup, lines joined by blanks."""
        label = re.sub(r"<[^>]*>", " ", self.nodes[name]["label"])
        return " ".join(html.unescape(label).replace("\\n", " ").replace("\\l", " ").split())

    def named(self, text: str) -> str:
        """The only node whose label is `text`."""
        (found,) = (name for name in self.nodes if self.text(name) == text)
        return found

    def texts(self) -> list[str]:
        return [self.text(name) for name in self.nodes]


def read(drawing: Drawing) -> Picture:
    parsed = json.loads(render(drawing.dot, "dot_json"))
    picture = Picture(graph={k: v for k, v in parsed.items() if isinstance(v, str)})
    names = {item["_gvid"]: item["name"] for item in parsed["objects"]}
    for item in parsed["objects"]:
        if "nodes" in item or "subgraphs" in item:
            if item["name"].startswith("cluster"):
                picture.clusters[item["name"]] = {names[i] for i in item.get("nodes", ())}
        else:
            picture.nodes[item["name"]] = item
    for edge in parsed.get("edges", ()):
        picture.edges.add((names[edge["tail"]], names[edge["head"]]))
    return picture


def words(svg: str) -> list[str]:
    """The texts of an SVG as a reader sees them."""
    return [
        html.unescape(text).replace("\xa0", " ")
        for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    ]
