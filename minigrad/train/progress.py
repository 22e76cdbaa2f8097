"""How far a run is: a bar in a terminal or a notebook (tqdm), elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, TextIO

from ..escapes import printable

if TYPE_CHECKING:
    from .loop import Run

EVERY_S = 10.0


class Silent:
    """Shows nothing."""

    def __call__(self, run: Run) -> None: ...

    def done(self, run: Run) -> None: ...


class Lines(Silent):
    """`step 120  epoch 2  loss 1.234  norm 0.56  12.3 s`, every ten seconds and at the end."""

    def __init__(self, stream: TextIO | None = None):
        self.stream = sys.stderr if stream is None else stream
        self.started = self.last = time.perf_counter()

    def __call__(self, run: Run) -> None:
        if time.perf_counter() - self.last >= EVERY_S:
            self._say(run)

    def done(self, run: Run) -> None:
        self._say(run, f"  {run.fitted.stopped}")

    def _say(self, run: Run, more: str = "") -> None:
        self.last = time.perf_counter()
        best = run.fitted.best.get(run.metric)
        text = f"step {run.step}  epoch {run.epoch}  loss {run.loss:.4g}  norm {run.norm:.3g}"
        text += f"  best {run.metric} {best:.4g}" if best is not None else ""
        self.stream.write(f"{printable(text)}  {self.last - self.started:.1f} s{more}\n")
        self.stream.flush()


class Bar(Silent):
    """tqdm's bar."""

    def __init__(self, epochs: int | None, steps: int | None):
        from tqdm.auto import tqdm

        self.bar: Any = tqdm(total=steps, unit="step", dynamic_ncols=True)
        self.epochs = epochs

    def __call__(self, run: Run) -> None:
        self.bar.set_postfix(epoch=run.epoch, loss=f"{run.loss:.4g}", refresh=False)
        self.bar.update(run.step - self.bar.n)

    def done(self, run: Run) -> None:
        self.bar.close()


def shown(epochs: int | None, steps: int | None) -> Silent:
    """A bar where there is someone to see it and tqdm is installed, else plain lines."""
    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        try:
            return Bar(epochs, steps)
        except ImportError:
            pass
    return Lines()
