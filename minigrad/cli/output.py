"""What every command prints with: nothing that came from a file or a name commands the terminal."""

from __future__ import annotations

from typing import TextIO

from ..escapes import printable


def say(
    text: object = "", *, end: str = "\n", file: TextIO | None = None, flush: bool = False
) -> None:
    """`print` of one text, whose lines stay and whose control characters are shown, not sent."""
    print(printable(text, lines=True), end=end, file=file, flush=flush)
