"""`minigrad experiment`: published claims, measured again: "the paper says / measured here"."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from ..flow import results
from ..flow.terminal import spark_blocks
from .arguments import integer
from .output import say


def add(commands: Any) -> None:
    """Declares the command and its arguments."""
    parser = commands.add_parser(
        "experiment",
        help="measure a published claim again: the paper says, measured here",
        description="Measures a published claim about recurrent networks again, prints what the "
        "paper says, and what minigrad expects on grounds of its own, beside what was measured; it "
        "writes numbers (JSON, CSV) and a figure (SVG, "
        "PNG; needs matplotlib). Whether it reproduces is decided by criteria in the code.",
        epilog="example: minigrad experiment forget-bias --quick",
    )
    parser.set_defaults(run=run)
    option = parser.add_argument
    # fmt: off
    option("name", nargs="?", metavar="NAME", help="of the claim; --list shows all")
    option("--list", action="store_true", help="list the claims")
    option("--quick", action="store_true", help="a smaller form, under a minute")
    option("--seed", type=integer(0), default=0,
           help="the first of the seeds (default: %(default)s)")
    option("--out", type=Path, metavar="DIR",
           help="new folder for the results (default: minigrad-NAME, or minigrad-NAME-2, ...)")
    option("--stored", action="store_true",
           help="show the full result that comes with minigrad; runs nothing, writes only to --out")
    # fmt: on


def run(args: argparse.Namespace) -> int:
    """Measures one claim, prints the comparison and writes the folder."""
    from ..lab import claims

    if args.list:
        say(listing())
        return 0
    if args.name is None:
        raise claims.ClaimError("expected NAME; `minigrad experiment --list` shows them.")
    claim = claims.find(args.name)
    if args.stored:
        if args.quick or args.seed:
            raise claims.ClaimError("--stored shows a run that is done: no --quick and no --seed.")
        result = claims.stored(claim)
        if args.out is None:
            say(claims.text(claim, result, spark_blocks()))
            return 0
        with results.new_folder(args.out) as folder:
            say(claims.text(claim, result, spark_blocks()))
            written, missing = claims.save(folder, claim, result)
        return _done(written, args.out, missing)
    out = args.out or results.free_name(Path(f"minigrad-{claim.name}"))
    with results.new_folder(out) as folder:
        result = claims.run(claim, args.quick, args.seed, _Told())
        say(claims.text(claim, result, spark_blocks()), flush=True)
        written, missing = claims.save(folder, claim, result)
    return _done(written, out, missing)


def listing() -> str:
    """Names and titles, and what the stored run said."""
    from ..flow.tables import table
    from ..lab import claims

    rows = []
    for name, claim in claims.CLAIMS.items():
        try:
            verdict = claims.stored(claim)["verdict"]
        except claims.ClaimError:
            verdict = "-"
        rows.append((name, claim.title, verdict))
    return table(("name", "claim", "stored result"), rows)


def _done(written: list[str], out: Path, missing: str) -> int:
    say(f"\nWrote {', '.join(written)} to {out}.")
    if missing:
        sys.stdout.flush()
        say(missing, file=sys.stderr)
    return 0


class _Told:
    """Lines of progress on standard error: all on a terminal, one now and then in a log."""

    EVERY_S = 10.0

    def __init__(self) -> None:
        self.live, self.shown = sys.stderr.isatty(), time.perf_counter()

    def __call__(self, line: str) -> None:
        now = time.perf_counter()
        if self.live or now - self.shown > self.EVERY_S:
            self.shown = now
            say(line, file=sys.stderr, flush=True)
