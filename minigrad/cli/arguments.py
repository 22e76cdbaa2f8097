"""Types of command line arguments: they check, and say what is wrong in one line."""

from __future__ import annotations

import argparse
from collections.abc import Callable

LARGEST = 10**6  # of a size: an array of three of them is one that NumPy can ask memory for


def integer(at_least: int, at_most: float = float("inf")) -> Callable[[str], int]:
    """An integer from `at_least` to `at_most`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if value < at_least:
            raise argparse.ArgumentTypeError(f"must be at least {at_least}, got {value}")
        if value > at_most:
            raise argparse.ArgumentTypeError(f"must be at most {at_most:,}, got {value}")
        return value

    return parse


def size(at_least: int = 1) -> Callable[[str], int]:
    """How many units, steps, rows or layers."""
    return integer(at_least, LARGEST)


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
