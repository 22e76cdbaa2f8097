"""Progress: one line that rewrites itself on a terminal, a line now and then in a pipe or a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO

BAR = 24
PIPE_EVERY_S = 10.0


class Progress:
    """`lstm    [#####-----] 120/200  2.91 bits/char  4.1 s` on standard error."""

    def __init__(self, name: str, total: int, stream: TextIO | None = None):
        self.name, self.total = name, total
        self.stream = sys.stderr if stream is None else stream
        self.live = self.stream.isatty()
        self.started = self.shown = time.perf_counter()

    def __call__(self, done: int, bits: float) -> None:
        now = time.perf_counter()
        last = done == self.total
        if not last and now - self.shown < (0.1 if self.live else PIPE_EVERY_S):
            return
        self.shown = now
        filled = BAR * done // self.total
        bar = "#" * filled + "-" * (BAR - filled)
        seconds = now - self.started
        line = f"{self.name:<7} [{bar}] {done}/{self.total}  {bits:.2f} bits/char  {seconds:.1f} s"
        end = "\n" if last or not self.live else ""
        self.stream.write(("\r" if self.live else "") + line + end)
        self.stream.flush()
