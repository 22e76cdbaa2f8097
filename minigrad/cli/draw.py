"""`minigrad draw`: a cell's equations or compiled step, a network or a small tape, as a picture."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from .. import nn
from ..flow.drawing import Drawing, draw
from ..flow.engines import NoEngineWarning
from ..flow.probes import probe
from ..ops import sum as sum_of
from ..ops import tanh
from ..tape import Tape, scope, tap
from ..tensors import tensor
from .arguments import integer, number, size
from .explain import run_scan
from .output import say

CELLS: dict[str, tuple[type[Any], type[Any], bool]] = {
    "rnn": (nn.RNNCell, nn.RNN, False),
    "lstm": (nn.LSTMCell, nn.LSTM, False),
    "gru": (nn.GRUCell, nn.GRU, False),
    "bilstm": (nn.LSTMCell, nn.LSTM, True),
}


def add(commands: Any) -> None:
    """Declares the command and its arguments."""
    parser = commands.add_parser(
        "draw",
        help="draw a cell, its compiled step, a network or a tape",
        description="Draws what minigrad knows: `cell` is one step as the graph of its equations, "
        "`program` is what the compiler makes of that step, forward and backward, "
        "`network` is an untrained network unrolled over random input and coloured by the gradient "
        "of a loss at its last step, `tape` is every operation of a two-step RNN with values and "
        "gradients.",
        epilog="example: minigrad draw network --cell lstm --steps 30 --out lstm.svg",
    )
    parser.set_defaults(run=run)
    option = parser.add_argument
    # fmt: off
    option("what", choices=("cell", "program", "network", "tape"))
    option("--cell", type=str.lower, choices=list(CELLS), default="lstm", help="default: lstm")
    option("--steps", type=size(), default=20, help="of the network (default: %(default)s)")
    option("--layers", type=size(), default=1, help="of the network (default: %(default)s)")
    option("--hidden", type=size(), default=16, help="units (default: %(default)s)")
    option("--view", choices=("unrolled", "rolled"), default="unrolled",
           help="of the network: every step, or a box a layer (default: %(default)s)")
    option("--show", type=integer(1), nargs="+", metavar="STEP",
           help="steps of the unrolled network that are drawn one by one (default: the ends)")
    option("--way", choices=("gradient", "forward"), default="gradient",
           help="which way the arrows of the unrolled network point (default: %(default)s)")
    option("--depth", type=integer(0),
           help="network: 1 a row a layer, 2 its states (default), 3 its gates; tape: levels")
    option("--seed", type=integer(0), default=0, help="of weights and input (default: %(default)s)")
    option("--out", "-o", type=Path, metavar="FILE",
           help="its suffix chooses the format: .svg, .png, .gv (default: WHAT-CELL.svg)")
    option("--dpi", type=number(0.0), help="dots an inch of a .png (default: 96)")
    option("--width", type=number(0.0), metavar="INCHES",
           help="of the picture (default: as wide as it needs to be)")
    # fmt: on


def run(args: argparse.Namespace) -> int:
    """Draws one picture into a file."""
    name = "tape" if args.what == "tape" else f"{args.what}-{args.cell}"
    path = args.out or Path(f"{name}.svg")
    kinds = {"cell": _cell, "program": _program, "network": _network, "tape": _tape}
    drawing = kinds[args.what](args)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NoEngineWarning)
        written = drawing.save(path, dpi=args.dpi, width=args.width)
    for warning in caught:
        say(f"minigrad draw: {warning.message}")
    say(f"wrote {written}")
    return 0


def _cell(args: argparse.Namespace) -> Drawing:
    return draw(CELLS[args.cell][0](args.hidden, args.hidden), **_choices(args))


def _program(args: argparse.Namespace) -> Drawing:
    cell = CELLS[args.cell][0](args.hidden, args.hidden)
    name = "LSTM" if args.cell == "bilstm" else args.cell.upper()
    return draw(
        run_scan(cell, args.hidden, args.steps, 2, args.seed),
        f"{name}: a step and its BPTT",
        **_choices(args),
    )


def _network(args: argparse.Namespace) -> Drawing:
    rng = np.random.default_rng(args.seed)
    _, layer_type, bidirectional = CELLS[args.cell]
    layer = layer_type(
        args.hidden, args.hidden, num_layers=args.layers, bidirectional=bidirectional,
        dtype=np.float64, generator=rng,
    )  # fmt: skip
    xs = rng.normal(size=(args.steps, 1, args.hidden))
    name = "BiLSTM" if bidirectional else args.cell.upper()
    title = f"{name}, untrained, {args.steps} steps of random input"
    if args.view == "rolled":
        return draw(layer, title, recording=probe(layer, xs), **_choices(args))
    return draw(probe(layer, xs), title, **_choices(args))


def _choices(args: argparse.Namespace) -> dict[str, Any]:
    """What to show, for `draw`, which refuses what means nothing for a kind of drawing."""
    steps = None if args.show is None else [step - 1 for step in args.show]
    return {"steps": steps, "depth": args.depth, "way": args.way}


def _tape(args: argparse.Namespace) -> Drawing:
    W = tensor([[0.6, -0.4], [0.3, 0.8]], requires_grad=True, name="W")
    xs = [tensor([1.0, -0.5], name="x1"), tensor([0.25, 0.75], name="x2")]
    with Tape() as tape:
        h = tensor([0.0, 0.0], name="h0")
        for t, x in enumerate(xs):
            with scope(f"rnn/t={t}"):
                h = tap("h", tanh(x + h @ W))
        with scope("loss"):
            loss = sum_of(h * h)
        loss.backward()
    return draw(tape, **_choices(args))
