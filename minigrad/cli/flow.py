"""`minigrad flow`: train cells on text, and see how the gradient flows back through time."""

from __future__ import annotations

import argparse
import hashlib
import platform
import sys
import time
from pathlib import Path
from typing import Any

from .. import __version__, data
from ..flow import comparison, results, summary
from ..flow.comparison import CELLS, Outcome, Settings
from ..flow.engines import INSTALL, find_engine
from ..flow.terminal import spark_blocks
from ..kernels import cache
from .arguments import integer, number, size
from .output import say
from .progress import Progress

DEFAULT = Settings()
DEFAULT_OUT = "minigrad-flow"


def add(commands: Any) -> None:
    """Declares the command and its arguments."""
    parser = commands.add_parser(
        "flow",
        help="train cells on text and measure their gradient flow",
        description="Trains each cell as a character model, measures before and after how the "
        "gradient of a loss at the last step flows back through time, prints a table, and writes "
        "drawings, JSON, CSV, and a page to explore in a browser.",
        epilog="example: minigrad flow --cells rnn lstm --steps 50 --out flow",
    )
    parser.set_defaults(run=run)
    option = parser.add_argument
    # fmt: off
    option("--cells", nargs="+", type=str.lower, choices=list(CELLS), metavar="CELL",
           default=list(DEFAULT.cells), help=f"any of {', '.join(CELLS)} (default: all)")
    option("--text", type=Path, metavar="FILE",
           help="a UTF-8 text file (default: Hamlet, which comes with the package)")
    option("--steps", type=size(2), default=DEFAULT.steps,
           help="time steps from the first input to the loss (default: %(default)s)")
    option("--hidden", type=size(), default=DEFAULT.hidden,
           help="units of each cell (default: %(default)s)")
    option("--batch", type=size(), default=DEFAULT.batch,
           help="sequences in an update (default: %(default)s)")
    option("--train", type=integer(0), default=DEFAULT.updates, metavar="UPDATES",
           help="updates with Adam; 0 leaves the cells untrained (default: %(default)s)")
    option("--rate", type=number(0.0), default=DEFAULT.learning_rate,
           help="learning rate (default: %(default)s)")
    option("--seed", type=integer(0), default=DEFAULT.seed,
           help="of weights and batches (default: %(default)s)")
    option("--sum", action="store_true",
           help="measure the loss of training, read at every step, and show the sum of what comes "
                "back from all of them (verdicts stay those of the last output alone)")
    option("--out", type=Path, metavar="DIR",
           help=f"new folder for the results (default: {DEFAULT_OUT}, or {DEFAULT_OUT}-2, ...)")
    option("--html", action=argparse.BooleanOptionalAction, default=True,
           help=f"write {summary.EXPLORER} too: one file that walks through BPTT step by step, for "
                "any browser, without network (default: yes)")
    option("--replace", action="store_true", help="replace an earlier result in DIR")
    # fmt: on


def run(args: argparse.Namespace) -> int:
    """Trains, measures, prints the table and writes the folder."""
    settings = Settings(
        cells=tuple(dict.fromkeys(args.cells)),
        steps=args.steps,
        hidden=args.hidden,
        batch=args.batch,
        updates=args.train,
        seed=args.seed,
        learning_rate=args.rate,
        every=args.sum,
    )
    text = data.shakespeare() if args.text is None else data.read_text(args.text)
    name = "hamlet.txt" if args.text is None else args.text.name
    comparison.check_text(text, settings)
    if find_engine() is None:  # said before minutes of training, as is a wrong $MINIGRAD_DOT
        what = "no Graphviz engine found, drawings will be text (.gv)"
        say(f"minigrad flow: {what}: {INSTALL}.", file=sys.stderr)
    out = args.out or results.free_name(Path(DEFAULT_OUT))
    started = time.perf_counter()
    with results.new_folder(out, replace=args.replace) as folder:
        say(
            f"{name}: {len(text):,} characters, {len(set(text))} kinds. Loss at "
            f"{'every step up to' if settings.every else 'step'} {settings.steps}; "
            f"{settings.hidden} units, batch {settings.batch}, {settings.updates} updates, "
            f"seed {settings.seed}.",
            flush=True,
        )
        _compile(settings)
        outcomes = [_train(cell, text, settings) for cell in settings.cells]
        say("\n" + summary.table(outcomes, spark_blocks(), args.sum) + "\n")
        say("\n".join(summary.notes(outcomes, args.sum)))
        written = summary.save(folder, outcomes, settings, _about(name, text), html=args.html)
    say(f"\nWrote {', '.join(written)} to {out} in {time.perf_counter() - started:.1f} s.")
    if args.html:
        say(f"Open {out / summary.EXPLORER} in a browser.")
    return 0


def _compile(settings: Settings) -> None:
    """Compiles before training, so that no cell is timed with it."""
    before, started = len(cache.kernels()), time.perf_counter()
    comparison.warm_up(settings.cells, settings)
    if new := len(cache.kernels()) - before:
        seconds = time.perf_counter() - started
        say(f"Compiled {new} kernels in {seconds:.1f} s; the next run finds them.", flush=True)


def _about(name: str, text: str) -> dict[str, Any]:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {
        "minigrad": __version__,
        "python": platform.python_version(),
        "text": {"name": name, "characters": len(text), "sha256": digest},
    }


def _train(cell: str, text: str, settings: Settings) -> Outcome:
    return comparison.run(cell, text, settings, Progress(cell, settings.updates))
