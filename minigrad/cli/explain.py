"""`minigrad explain`: the step of a cell as a Program, its backward step, and what ran."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from .. import nn
from ..compile import Explanation, scan
from ..ops import sum as sum_of
from ..tensors import tensor
from ..tree import leaves
from .arguments import integer, size
from .output import say

# What scan takes as it is; AttentionLSTMCell has to be given a memory first.
_CELLS = (
    nn.RNNCell, nn.LSTMCell, nn.GRUCell, nn.ElmanCell, nn.JordanCell, nn.IRNNCell,
    nn.PeepholeLSTMCell, nn.CoupledLSTMCell, nn.LayerNormLSTMCell, nn.ZoneoutLSTMCell,
    nn.MinimalGatedCell, nn.MinGRUCell, nn.UnitaryCell, nn.LRUCell, nn.IndRNNCell, nn.CoRNNCell,
    nn.LEMCell, nn.AntisymmetricRNNCell, nn.CfCCell, nn.SLSTMCell,
)  # fmt: skip
CELLS: dict[str, type[Any]] = {c.__name__.removesuffix("Cell").lower(): c for c in _CELLS}


def add(commands: Any) -> None:
    """Declares the command and its arguments."""
    parser = commands.add_parser(
        "explain",
        help="what the compiler makes of the step of a cell",
        description="Scans a cell over random input, forward and backward, and prints its step as "
        "a Program, the backward step that follows from it, and what ran: what was hoisted, fused, "
        "stored and summed behind the loop.",
        epilog="example: minigrad explain gru --hidden 32 --passes",
    )
    parser.set_defaults(run=run)
    option = parser.add_argument
    # fmt: off
    option("cell", type=str.lower, choices=list(CELLS), metavar="CELL",
           help=f"one of {', '.join(CELLS)}")
    option("--input", "--input-size", type=size(), default=8, metavar="N",
           help="features of x (default: %(default)s)")
    option("--hidden", "--hidden-size", type=size(), default=16, metavar="N",
           help="units (default: %(default)s)")
    option("--steps", type=size(), default=20, help="T (default: %(default)s)")
    option("--batch", type=size(), default=4, help="B (default: %(default)s)")
    option("--seed", type=integer(0), default=0, help="of weights and input (default: %(default)s)")
    option("--passes", action="store_true", help="print what each pass did, too")
    option("--source", action="store_true", help="print the generated kernels, too")
    # fmt: on


def run(args: argparse.Namespace) -> int:
    """Prints the sections."""
    rng = np.random.default_rng(args.seed)
    cell = CELLS[args.cell](args.input, args.hidden, generator=rng).eval()
    ran = run_scan(cell, args.input, args.steps, args.batch, args.seed)
    _section("The step", ran.program)
    _section("Its backward step", ran.backward_program)
    if args.passes:
        _section("The passes", "\n".join(passes(ran)))
        for done in ran.passes:
            same = done.before is done.after or str(done.before) == str(done.after)
            title = f"{done.on}, after {done.made_by.name}"
            _section(title, "  changes nothing" if same else done.after)
    _section("What ran", ran)
    if args.source:
        _section("The kernels", ran.source)
    return 0


def _section(title: str, body: Any) -> None:
    say(f"-- {title} {'-' * max(4, 76 - len(title))}\n\n{body}\n")


def run_scan(cell: Any, inputs: int, steps: int, batch: int, seed: int) -> Explanation:
    """What a scan of the cell over random input ran, forward and backward."""
    _name(cell)
    dtype = next(cell.parameters()).dtype
    xs = np.random.default_rng(seed).normal(size=(steps, batch, inputs)).astype(dtype)
    result = scan(cell, cell.init_state(batch), tensor(xs, name="x"))
    sum_of(leaves(result.ys)[0]).backward()
    explanation: Explanation = result.explain()
    return explanation


def _name(cell: Any) -> None:
    for name, parameter in cell.named_parameters():
        parameter.name = name


def passes(ran: Explanation) -> list[str]:
    """A line for each pass, in order: on which program, what it does, and what it did."""
    return [f"{done}\n{'':<21}{done.made_by.says}" for done in ran.passes]
