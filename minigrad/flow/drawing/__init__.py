"""Drawings through Graphviz: a tape, a cell as its equations' graph, a network unrolled or rolled,
and the programs that a scan compiled.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
from .network import Panel, describe, draw_network
from .program import draw_program, draw_scan
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
]


def draw(
    what: Any,
    title: str = "",
    max_nodes: int | None = None,
    *,
    view: str = "unrolled",
    steps: Collection[int] | None = None,
    depth: int | None = None,
    recording: Recording | None = None,
) -> Drawing:
    """A Tape, a Recording or several by name, a cell, a model, a scan or one of its Programs, a
    jitted step.

        mg.flow.draw(tape).save("tape.svg")             every operation, with value and gradient
        mg.flow.draw(rec).save("network.svg")           the unrolled network, coloured by |dL/dh_t|
        mg.flow.draw({"RNN": rec1, "LSTM": rec2})       the same, one above the other on one scale
        mg.flow.draw(rec, view="rolled")                a box a layer, with a loop for its steps
        mg.flow.draw(model, recording=rec)              a model, with what was recorded
        mg.flow.draw(mg.nn.LSTMCell(3, 5))              one step as the graph of its equations
        mg.flow.draw(mg.scan(...))                      the compiled step and, once it ran, BPTT
        mg.flow.draw(result.program)                    one Program, forward or backward
        mg.flow.draw(mg.jit(step))                      what a replay of a jitted step calls

    view: "unrolled" or "rolled", of a Recording. steps: which steps, from 0, an unrolled network
    shows one by one; the others fold into strips that say how many they are and what becomes of
    the gradient across them. depth: of an unrolled network 1 a row a layer, 2 its states, 3 its
    gates; of a tape the levels of scopes that are not folded into one box.
    max_nodes: more nodes than this raise DrawingError; each kind of drawing has its own default.
    In a notebook a Drawing shows itself; `save` writes .svg, .png or .gv.
    """
    if view not in ("unrolled", "rolled"):
        raise DrawingError(f"draw: view is 'unrolled' or 'rolled', got {view!r}.")
    options: dict[str, Any] = {} if max_nodes is None else {"max_nodes": max_nodes}
    several = (
        isinstance(what, dict) and what and all(isinstance(r, Recording) for r in what.values())
    )
    if isinstance(what, Tape):
        _only("a Tape", depth=depth, view=view, steps=steps)
        return draw_tape(what, **options, depth=depth)
    if isinstance(what, Recording) and view == "rolled":
        _only("a rolled view", view=view, steps=steps, depth=depth)
        return draw_rolled(None, what, title, **options)
    if isinstance(what, Recording) or several:
        if view == "rolled":
            raise DrawingError("draw: a rolled view is of one Recording; draw each by itself.")
        panels = _panels({"": what} if isinstance(what, Recording) else what)
        return draw_network(
            panels, title, steps=steps, depth=2 if depth is None else depth, **options
        )
    _only("a cell, a model or a program", steps=steps, depth=depth)
    if isinstance(what, Module) and hasattr(what, "init_state"):
        return draw_cell(what, title=title, **options)
    if isinstance(what, Module):
        return draw_rolled(what, recording, title, **options)
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


def _only(what: str, depth: Any = None, view: str = "unrolled", steps: Any = None) -> None:
    """Raises DrawingError for options that mean nothing here."""
    if steps is not None:
        raise DrawingError(f"draw: steps= chooses steps of an unrolled network, not of {what}.")
    if view == "rolled" and what == "a Tape":
        raise DrawingError("draw: a Tape has no rolled view; record() the layer instead.")
    if what != "a Tape" and depth is not None:
        raise DrawingError("draw: depth= is for unrolled networks and tapes.")


def _panels(recordings: dict[str, Recording]) -> Sequence[Panel]:
    return [
        Panel(
            name,
            list(rec.values()),
            "\n".join([describe(rec.verdict), *(f"missing: {text}" for text in rec.missing)]),
        )
        for name, rec in recordings.items()
    ]
