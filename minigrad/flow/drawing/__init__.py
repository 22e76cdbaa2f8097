"""Drawings through Graphviz: a tape, a cell as its equations' graph, an unrolled network, and the
programs that a scan compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...compile import Explanation, Program, ScanResult
from ...nn.module import Module
from ...tape import Tape
from ..probes import Recording
from .cell import draw_cell
from .colors import Scale
from .dot import Drawing, DrawingError
from .network import Panel, describe, draw_network
from .program import draw_program, draw_scan
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
    "draw_scan",
    "draw_tape",
]


def draw(what: Any, title: str = "", max_nodes: int | None = None) -> Drawing:
    """A Tape, a Recording or several by name, a cell, a scan or one of its Programs, as a Drawing.

        mg.flow.draw(tape).save("tape.svg")             every operation, with value and gradient
        mg.flow.draw(rec).save("network.svg")           the unrolled network, coloured by |dL/dh_t|
        mg.flow.draw({"RNN": rec1, "LSTM": rec2})       the same, one above the other on one scale
        mg.flow.draw(mg.nn.LSTMCell(3, 5))              one step as the graph of its equations
        mg.flow.draw(mg.scan(...))                      the compiled step and, once it ran, BPTT
        mg.flow.draw(result.program)                    one Program, forward or backward

    max_nodes: more nodes than this raise DrawingError; each kind of drawing has its own default.
    In a notebook a Drawing shows itself; `save` writes .svg, .png or .gv.
    """
    options: dict[str, Any] = {} if max_nodes is None else {"max_nodes": max_nodes}
    if isinstance(what, Tape):
        return draw_tape(what, **options)
    if isinstance(what, Recording):
        return draw_network(_panels({"": what}), title, **options)
    if isinstance(what, dict) and what and all(isinstance(r, Recording) for r in what.values()):
        return draw_network(_panels(what), title, **options)
    if isinstance(what, Module) and hasattr(what, "init_state"):
        return draw_cell(what, title=title, **options)
    if isinstance(what, Program):
        return draw_program(what, title, **options)
    if isinstance(what, ScanResult):
        what = what.explain()
        if not isinstance(what, Explanation):
            raise DrawingError(
                "draw: this scan ran as eager operations and has no program; scan with "
                "mode='fused', or draw the Tape it ran under."
            )
    if isinstance(what, Explanation):
        return draw_scan(what, title, **options)
    raise DrawingError(
        f"draw: expected a Tape, a Recording, a dict of Recordings, a cell (a Module with "
        f"init_state), a Program or what mg.scan gives, got {type(what).__name__}; to draw "
        f"a network record it first: `with mg.flow.record() as rec`."
    )


def _panels(recordings: dict[str, Recording]) -> Sequence[Panel]:
    return [
        Panel(name, list(rec.values()), describe(rec.verdict)) for name, rec in recordings.items()
    ]
