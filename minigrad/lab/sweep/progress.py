"""How a sweep is going: a line that rewrites itself on a terminal, plain lines in a pipe."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TextIO

from ...escapes import printable

BAR = 20
CLEAR = "\r\x1b[2K"  # to the start of the line, and nothing on it
PIPE_EVERY_S = 10.0


class Progress:
    """`[####----------------] 5/24  1 failed  2 running  0:41 left  cell=gru seed=0: loss 0.16`.

    quiet: says only which runs failed.
    """

    def __init__(
        self, total: int, done: int = 0, quiet: bool = False, stream: TextIO | None = None
    ):
        self.total, self.before, self.done, self.failed = total, done, done, 0
        self.stream = sys.stderr if stream is None else stream
        self.live, self.quiet = self.stream.isatty(), quiet
        self.started = time.monotonic()
        self.shown = -PIPE_EVERY_S
        self.last = ""

    def finished(self, what: str, error: str | None, result: str, running: int) -> None:
        """One more run is done."""
        self.done += 1
        self.last = f"{what}: {result}" if result else what
        if error is not None:
            self.failed += 1
            self.last = what
            self.say(f"failed: {what}: {error}")
        self.show(running, last=self.done == self.total)

    def show(self, running: int, last: bool = False) -> None:
        """Draws the line, unless that was a moment ago."""
        now = time.monotonic()
        wait = 0.1 if self.live else PIPE_EVERY_S
        if self.quiet or (not last and now - self.shown < wait):
            return
        self.shown = now
        line = printable(self.line(running, now))
        if self.live:
            self._put(CLEAR + _cut(line, self._columns() - 1))
        else:
            self._put(line + "\n")

    def line(self, running: int, now: float) -> str:
        filled = BAR * self.done // max(self.total, 1)
        parts = [f"[{'#' * filled}{'-' * (BAR - filled)}] {self.done}/{self.total}"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        left = self.total - self.done
        if left:
            parts.append(f"{running} running")
            if new := self.done - self.before:
                parts.append(f"{clock((now - self.started) / new * left)} left")
        else:
            parts.append(f"in {clock(now - self.started)}")
        return "  ".join([*parts, self.last] if self.last else parts)

    def say(self, text: str) -> None:
        """A line that stays, above the one that rewrites itself."""
        clear = CLEAR if self.live and not self.quiet else ""
        self._put(f"{clear}{printable(text)}\n")

    def close(self) -> None:
        """Leaves the line, so that what follows starts on the next one."""
        if self.live and not self.quiet and self.shown > 0:
            self._put("\n")

    def _put(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the reader has gone; the sweep goes on
            self.stream.write(text)
            self.stream.flush()

    def _columns(self) -> int:
        try:  # the stream's own: standard output may be a pipe
            return os.get_terminal_size(self.stream.fileno()).columns or 80
        except (OSError, ValueError):
            return 80


def clock(seconds: float) -> str:
    """
    >>> clock(41.2), clock(3 * 3600 + 62)
    ('0:41', '3:01:02')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: max(width - 3, 0)] + "..."
