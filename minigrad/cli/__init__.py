"""The command `minigrad`: flow, train, eval, prescribe, experiment, sweep, draw, ...

Each command is a module with `add(commands)`, which declares its arguments, and `run(args)`, which
returns the exit status. Bad input ends in one line on standard error and exit status 2, never in a
traceback.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..errors import MinigradError
from ..escapes import printable
from .output import say


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {printable(message)} (see {self.prog} --help)\n")


def build_parser() -> Parser:
    """The parser with all commands."""
    from . import (
        bench,
        cache,
        doctor,
        draw,
        experiment,
        explain,
        flow,
        info,
        prescribe,
        sweep,
        train,
        warmup,
    )

    parser = Parser(
        prog="minigrad",
        description="See every step of backpropagation through time in recurrent networks.",
        epilog="example: minigrad draw cell --cell gru (each command has one in its --help)",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for module in (
        flow, train, prescribe, experiment, sweep, draw, explain, bench, warmup, cache, info,
        doctor,
    ):  # fmt: skip
        module.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    args = build_parser().parse_args(argv)
    try:
        return args.run(args)
    except MemoryError:
        say(f"minigrad {args.command}: this needs more memory than there is", file=sys.stderr)
        return 2
    except (MinigradError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # `minigrad info | head -1`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        message = " ".join(str(error).split())
        say(f"minigrad {args.command}: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say(f"\nminigrad {args.command}: stopped; nothing was written", file=sys.stderr)
        return 130
