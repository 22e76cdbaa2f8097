"""Drawings through Graphviz: a tape, a cell as its equations' graph, a network unrolled or rolled,
and the programs that a scan compiled.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ...compile import Explanation, Program, ScanResult
from ...jitting import Jitted
from ...nn.module import Module
from ...tape import Tape
from ..recording import Recording
from .cell import draw_cell
from .colors import Scale
from .dot import Drawing, DrawingError
from .jitted import draw_jitted
from .network import Panel, draw_network
from .program import draw_program, draw_scan
from .recorded import panel
from .rolled import draw_rolled
from .tape import draw_tape

__all__ = [
    "Drawing",
    "DrawingError",
    "Panel",
    "Scale",
    "draw",
    "draw_cell",
    "draw_network",
    "draw_program",
    "draw_rolled",
    "draw_scan",
    "draw_tape",
    "panel",
]


def draw(
    what: Any,
    *given: Any,
    title: str = "",
    max_nodes: int | None = None,
    view: str = "unrolled",
    way: str = "gradient",
    summed: bool = False,
    steps: Collection[int] | None = None,
    depth: int | None = None,
    upto: Collection[str] | None = None,
    recording: Recording | None = None,
) -> Drawing:
    """A Tape, a Recording or several by name, a cell, a model, a scan or one of its Programs, a
    jitted step.

        mg.flow.draw(tape).save("tape.svg")             every operation, with value and gradient
        mg.flow.draw(rec).save("network.svg")           the unrolled network and its gradient
        mg.flow.draw({"RNN": rec1, "LSTM": rec2})       the same, one above the other on one scale
        mg.flow.draw(rec, view="rolled")                a box a layer, with a loop for its steps
        mg.flow.draw(model, x)                          a model: what ran, and what read what
        mg.flow.draw(model, recording=rec)              the same, with what was recorded
        mg.flow.draw(model)                             as it ran in the last record()
        mg.flow.draw(mg.nn.LSTMCell(3, 5))              one step as the graph of its equations
        mg.flow.draw(mg.scan(...))                      the compiled step and, once it ran, BPTT
        mg.flow.draw(result.program)                    one Program, forward or backward
        mg.flow.draw(mg.jit(step))                      what a replay of a jitted step calls

    given: what a model is called with, once, in eval mode and without gradients. (A title may stand
    here too.) A model that was never recorded, and is given nothing, is drawn as it is declared,
    without the arrows that only a run can tell.
    view: "unrolled" or "rolled", of a Recording. way: of an unrolled network, whether arrows point
    the way the "gradient" goes, or "forward"; either way they are as wide as the gradient. summed:
    where the loss reads many steps, draw all that it sends back, not what its last reading alone
    does, which is what is judged.
    steps: which steps, from 0, an unrolled network shows one by one; the others fold into strips
    that say how many they are and what becomes of the gradient across them. depth: of an unrolled
    network 1 a row a layer, 2 its states, 3 its gates; of a tape the levels of scopes that are not
    folded into one box. upto: of a cell, names of values that it taps; what they depend on is in
    colour and the rest is pale, so that a cell can be built up before one's eyes.
    max_nodes: more nodes than this raise DrawingError; each kind of drawing has its own default.
    In a notebook a Drawing shows itself; `save` writes .svg, .png (with dpi=) or .gv.
    """
    if given and isinstance(given[0], str):
        title, given = given[0], given[1:]
    _check(view=(view, ("unrolled", "rolled")), way=(way, ("gradient", "forward")))
    if upto is not None and not (isinstance(what, Module) and hasattr(what, "init_state")):
        raise DrawingError(f"draw: upto= is for a cell, not for {type(what).__name__}.")
    options: dict[str, Any] = {} if max_nodes is None else {"max_nodes": max_nodes}
    several = (
        isinstance(what, dict) and what and all(isinstance(r, Recording) for r in what.values())
    )
    if isinstance(what, Recording) and view == "rolled":
        _only("a rolled view", given, way, summed, steps, depth)
        return draw_rolled(None, what, title, **options)
    if isinstance(what, Recording) or several:
        if view == "rolled":
            raise DrawingError("draw: a rolled view is of one Recording; draw each by itself.")
        _only("a Recording", given)
        recordings = {"": what} if isinstance(what, Recording) else what
        panels = [panel(name, rec, summed=summed) for name, rec in recordings.items()]
        options |= {"steps": steps, "depth": 2 if depth is None else depth, "way": way}
        return draw_network(panels, title, **options)
    if isinstance(what, Tape):
        if view == "rolled":
            raise DrawingError("draw: a Tape has no rolled view; record() the layer instead.")
        _only("a Tape", given, way, summed, steps)
        return draw_tape(what, **options, depth=depth)
    if isinstance(what, Module):
        _only("a cell or a model", (), way, summed, steps, depth)
        if hasattr(what, "init_state"):
            state, x = (*given, None, None)[:2]
            return draw_cell(what, state, x, title, **options, upto=upto)
        return draw_rolled(what, recording, title, **options, given=given)
    _only("a program", given, way, summed, steps, depth)
    if isinstance(what, Program):
        return draw_program(what, title, **options)
    if isinstance(what, ScanResult):
        what = what.explain()
        if not isinstance(what, Explanation):
            raise DrawingError(
                "draw: this scan ran as eager operations and has no program; scan with "
                "mode='fused', or draw the Tape it ran under."
            )
    if isinstance(what, Jitted):
        return draw_jitted(what, title, **options)
    if isinstance(what, Explanation):
        return draw_scan(what, title, **options)
    raise DrawingError(
        f"draw: expected a Tape, a Recording, a dict of Recordings, a Module (a cell or a model), "
        f"a Program, a jitted step or what mg.scan gives, got {type(what).__name__}; to draw a "
        f"network with its gradients record it first: `with mg.flow.record() as rec`."
    )


def _check(**options: tuple[str, tuple[str, str]]) -> None:
    for name, (value, (one, other)) in options.items():
        if value not in (one, other):
            raise DrawingError(f"draw: {name} is {one!r} or {other!r}, got {value!r}.")


def _only(
    what: str,
    given: tuple[Any, ...] = (),
    way: str = "gradient",
    summed: bool = False,
    steps: Any = None,
    depth: Any = None,
) -> None:
    """Raises DrawingError for options that mean nothing here."""
    if given:
        types = ", ".join(type(value).__name__ for value in given)
        raise DrawingError(f"draw: only a model is called with inputs, not {what}; got {types}.")
    if way != "gradient":
        raise DrawingError(f"draw: way= turns the arrows of an unrolled network, not of {what}.")
    if summed:
        raise DrawingError(f"draw: summed= is for an unrolled network, not for {what}.")
    if steps is not None:
        raise DrawingError(f"draw: steps= chooses steps of an unrolled network, not of {what}.")
    if depth is not None:
        raise DrawingError("draw: depth= is for unrolled networks and tapes.")
