"""What ran as boxes and arrows: a box for each part of a model, or for each run of a recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...nn.module import Module
from ..behind import LAST
from ..calls import Calls, Data, Part, Ran
from ..layerflow import LayerFlow
from ..places import both_directions
from .rows import identifier

Words = tuple[str, ...]


@dataclass(eq=False)
class Box:
    """A part of a model with all its calls, or one run of a recording.

    flow: what was recorded of it, if it is a layer. loop: what its loop says, "" if it has none.
    merge: how it and the other direction of its layer, of the same stem, become one output.
    """

    key: str
    title: str
    about: str
    tip: str
    stem: str
    flow: LayerFlow | None = None
    loop: str = ""
    merge: str = ""


class Graph:
    """boxes, merges (key -> how), ends (key -> text), and arrows ((from, to) -> words)."""

    def __init__(self, calls: Calls, model: Module | None, layers: Mapping[str, LayerFlow]):
        """model: whose parts, with all their calls. None: every run of the recording by itself."""
        self.calls, self.layers = calls, layers
        self.boxes: list[Box] = []
        self.merges: dict[str, str] = {}
        self.ends: dict[str, str] = {}
        self.arrows: dict[tuple[str, str], Words] = {}
        groups: dict[str | Part, list[Ran]] = {}
        paths = calls.paths(layers) if model is None else {}
        for ran in calls.within(model):
            groups.setdefault(paths.get(ran, ran.part), []).append(ran)
        of: dict[Ran, Box] = {}
        for key, group in groups.items():
            box = self._run(key, group) if isinstance(key, str) else self._part(key, group)
            of |= dict.fromkeys(group, box)
        reads = _reads(of)
        for box in list(self.boxes):
            self._arrows(box.key, {s: w for (reader, s), w in reads.items() if reader is box})
        read = {source for reader, source in reads if source is not reader}
        self._arrows("end_y", {box: () for box in self.boxes if box not in read})
        if self.boxes:
            self.ends["end_y"] = "y"
        if model is None:  # what a loop written by hand has read is not known
            shown = {id(box.flow) for box in self.boxes}
            for path, flow in layers.items():
                if id(flow) not in shown:
                    self._add(f"r_{identifier(path)}", path or "network", "", path, path, flow=flow)

    # -- boxes

    def _run(self, path: str, group: Sequence[Ran]) -> Box:
        return self._add(
            f"r_{identifier(path) or 'network'}", path or "network", "", _tip(path, group[0].part),
            path, flow=self.layers[path], merge=group[0].part.merge,
        )  # fmt: skip

    def _part(self, part: Part, group: Sequence[Ran]) -> Box:
        flows = [x for x in self.layers.values() if _dots(x.scope) == _dots(part.path)]
        flow = next((x for x in flows if x.arrived), flows[0] if flows else None)
        about, loop = part.about, ""
        if len(flows) > 1 and flow is not None:
            about += f"\n{len(flows)} calls; this is {flow.path}"
        elif flow is None and part.scan:
            counts = sorted({ran.steps for ran in group})
            many = f"{len(group)} calls, " if len(group) > 1 else ""
            loop = many + " to ".join(map(str, counts[:: len(counts) - 1 or 1])) + " steps"
        elif flow is None and len(group) > 1:
            again = any(source in group for ran in group for source, _ in ran.reads)
            loop, about = (f"{len(group)} calls", about) if again else (
                "", f"{about}\n{len(group)} calls")  # fmt: skip
        layer = flow is not None or part.scan
        return self._add(
            f"{'r' if layer else 'm'}_{identifier(part.path) or 'network'}", _title(part), about,
            _tip(part.path, part), part.path, flow=flow, loop=loop, merge=part.merge,
        )  # fmt: skip

    def _add(self, key: str, title: str, about: str, tip: str, path: str, **more: object) -> Box:
        while any(box.key == key for box in self.boxes):
            key += "_"
        box = Box(key, title, about, tip, both_directions(path), **more)  # type: ignore[arg-type]
        self.boxes.append(box)
        return box

    # -- arrows

    def _arrows(self, to: str, sources: Mapping[Box | Data, Words]) -> None:
        """To one box, or the end, from all that it reads."""
        for source, words in sources.items():
            if isinstance(source, Data):
                self.arrows[self._data(source), to] = words
            elif source.key == to:
                continue  # its loop
            elif (other := _other(source, sources)) and LAST not in words:
                merge = f"g_{identifier(source.stem)}"
                self.merges[merge] = source.merge
                self.arrows[source.key, merge] = self.arrows[other.key, merge] = ()
                self.arrows[merge, to] = words
            else:
                self.arrows[source.key, to] = words

    def _data(self, data: Data) -> str:
        found = self.calls.named(data)
        text = f"{found.name}\n{found.text}"
        for key, known in self.ends.items():
            if known == text:
                return key
        key = f"end_{identifier(found.name)}"
        while key in self.ends or key == "end_y":
            key += "_"
        self.ends[key] = text
        return key


def _reads(of: Mapping[Ran, Box]) -> dict[tuple[Box, Box | Data], Words]:
    """(reader, what it reads) -> words for what happens in between."""
    found: dict[tuple[Box, Box | Data], Words] = {}
    for ran, box in of.items():
        for source, words in ran.reads:
            if isinstance(source, Ran):
                outside = Data(source.part.path, "")  # of the model that is drawn
                found.setdefault((box, of.get(source, outside)), words)
            else:
                found.setdefault((box, source), words)
    return found


def _other(box: Box, among: Mapping[Box | Data, Words]) -> Box | None:
    """The other direction of a layer, where both are read in one way."""
    if not box.merge:
        return None
    for other, words in among.items():
        if isinstance(other, Box) and other is not box and other.stem == box.stem:
            return other if words == among[box] else None
    return None


def _title(part: Part) -> str:
    """`rnn l0 →` of the scope rnn/l0/fwd; of any other its path with dots."""
    head, _, way = part.path.rpartition("/")
    if part.scan and way in ("fwd", "rev"):
        layer, _, number = head.rpartition("/")
        return f"{_dots(layer)} {number} {'←' if part.reverse else '→'}".strip()
    return _dots(part.path) + (" ←" if part.reverse else "")


def _tip(path: str, part: Part) -> str:
    return f"{path}: {part.size:,} parameters"


def _dots(path: str) -> str:
    """`blocks.0.rnn`, whether the scope was `blocks.0/rnn` or `blocks/0/rnn`."""
    return path.replace("/", ".")
