"""The command `minigrad`, as tests call it."""

from __future__ import annotations

from minigrad import cli


def status(*argv: str) -> int:
    """Its exit status."""
    try:
        return cli.main(argv)
    except SystemExit as leave:  # argparse's own
        return int(str(leave.code))
