"""A run of Weights & Biases: online, or files on this disk with mode="offline"."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from .base import EDGES, Array, Writer, package


class WandbWriter(Writer):
    """Writes a Monitor's records to a run of Weights & Biases.

    run: one that `wandb.init` gave, which stays open; None begins one, and ends it. options: those
    of `wandb.init`, such as project="lstm", mode="offline", dir="runs". W&B counts steps upwards
    only: what a Monitor measures again, after an earlier checkpoint, it leaves out.
    Needs the package wandb; FlowError says how to install it.
    """

    def __init__(self, run: Any = None, **options: Any):
        self._wandb = package("WandbWriter", "wandb", "wandb")
        self._own = run is None
        self.run = self._wandb.init(**options) if run is None else run

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def histogram(self, step: int, name: str, counts: Array) -> None:
        shown = self._wandb.Histogram(np_histogram=(counts.tolist(), EDGES.tolist()))
        self.run.log({name: shown}, step=step)

    def words(self, step: int, name: str, text: str) -> None:
        self.run.log({name: text}, step=step)

    def image(self, step: int, name: str, png: bytes) -> None:
        from PIL import Image  # wandb's pictures need it, too

        with Image.open(io.BytesIO(png)) as picture:
            self.run.log({name: self._wandb.Image(picture)}, step=step)

    def close(self) -> None:
        if self._own:
            self.run.finish()
        self._own = False
