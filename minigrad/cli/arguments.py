"""Types of command line arguments: they check, and say what is wrong in one line."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def integer(at_least: int) -> Callable[[str], int]:
    """An integer that is not smaller than `at_least`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < at_least:
            raise argparse.ArgumentTypeError(f"must be at least {at_least}, got {value}")
        return value

    return parse


def number(above: float) -> Callable[[str], float]:
    """A finite number greater than `above`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not above < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be a finite number above {above:g}, got {text}")
        return value

    return parse
